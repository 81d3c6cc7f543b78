"""Tensor texts with one fault each, and texts with names and strings of every character."""

import numpy as np
import pytest

import nkigen
from nkigen.errors import NkigenError

X = "%x = input {index=0} : f32[2, 3]"
I = "%i = input {index=0} : i32[2, 3]"
B = "%b = input {index=0} : bool[2, 3]"


def text(*lines, result="%r"):
    return "\n".join(["tensor @f {", *lines, f"return {result}", "}"])


FAULTS = {
    "one dtype": (X, "%i = input {index=1} : i32[2, 3]", "%r = add %x, %i : f32[2, 3]"),
    "condition must be bool": (X, "%r = where %x, %x, %x : f32[2, 3]"),
    "axes must be ascending": (X, "%r = reduce_sum %x {axes=[1, 0], keepdims=false} : f32[]"),
    "ascending and distinct": (X, "%r = reduce_sum %x {axes=[0, 0], keepdims=true} : f32[1, 3]"),
    "leading dimensions do not broadcast": (
        "%x = input {index=0} : f32[2, 3, 4]",
        "%y = input {index=1} : f32[5, 4, 3]",
        "%r = matmul %x, %y : f32[2, 3, 3]",
    ),
    "2 dimension|1 axes given": (X, "%r = transpose %x {perm=[0]} : f32[2]"),
    "axis 2 is out of bounds": (X, "%r = transpose %x {perm=[0, 2]} : f32[2, 3]"),
    "need 2 entries": (X, "%r = slice %x {start=[0], step=[1], size=[2]} : f32[2]"),
    "need at least one array": (X, "%r = concat {axis=0} : f32[2]"),
    "axis 2 is out of bounds for array": (X, "%r = concat %x, %x {axis=2} : f32[2, 3]"),
    "attribute perm is missing": (X, "%r = transpose %x : f32[3, 2]"),
    "takes the attribute value": (X, "%r = full {ivalue=1, shape=[2], dtype=f32} : f32[2]"),
    "takes the attribute ivalue": (X, "%r = full {value=1.0, shape=[2], dtype=i32} : i32[2]"),
    "expected index=0": ("%x = input {index=1} : f32[2, 3]", "%r = exp %x : f32[2, 3]"),
    "operands must be bool": (X, "%r = logical_and %x, %x : f32[2, 3]"),
    "step of axis 0 must be positive": (
        X,
        "%r = update %x, %x {start=[1, 0], step=[-1, 1], size=[2, 3]} : f32[2, 3]",
    ),
    "does not fit a part of shape": (
        X,
        "%r = update %x, %x {start=[0, 0], step=[1, 1], size=[1, 3]} : f32[2, 3]",
    ),
    "leave axis 0 of size 2": (
        X,
        "%r = slice %x {start=[0, 0], step=[1, 1], size=[3, 3]} : f32[3, 3]",
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_fault(message):
    with pytest.raises(NkigenError, match=message):
        program = nkigen.parse(text(*FAULTS[message]))
        if program.verify():
            raise NkigenError(str(program.verify()[0]))


@pytest.mark.parametrize(
    "name", ["plain", '"two words"', r'"a \"b\" \\ \n\t\r\x01\x7f"', '"0"', r'"\xc3\xA9"']
)
def test_names(name):
    """A name is a word or a string; printing and parsing keep it."""
    given = text(X, "%r = exp %x : f32[2, 3]").replace("@f", "@" + name)
    program = nkigen.parse(given)
    again = nkigen.parse(str(program))
    assert again == program and str(again) == str(program) and again.name == program.name


@pytest.mark.parametrize(
    "name, message",
    [
        ('"open', "not closed"),
        (r'"\q"', "escape|string"),
        (r'"\x0"', "escape|string"),
        (r'"\x00"', "escape|string|NUL"),
        ('"a\0b"', "NUL|string"),
    ],
)
def test_bad_names(name, message):
    with pytest.raises(NkigenError, match=message):
        nkigen.parse(text(X, "%r = exp %x : f32[2, 3]").replace("@f", "@" + name))


def test_equal_names_of_values():
    """Values with one name are numbered when they are printed."""

    def f(x):
        y = x * 2
        y = y + 1
        y = y * x
        return y

    x = np.ones((2, 3), np.float32)
    graph = nkigen.trace(f).graph(x)
    assert nkigen.parse(str(graph)) == graph
    assert nkigen.parse(str(graph)).run(x)[0].tolist() == graph.run(x)[0].tolist()
