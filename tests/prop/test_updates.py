"""The op update: random chains of writes and reads of parts, through canonicalize and in place."""

import numpy as np
from hypothesis import given, note, settings
from hypothesis import strategies as st

import nkigen
from nkigen import _core

SHAPES = [(12,), (7,), (6, 8), (5, 7), (4, 3, 6), (2, 2, 2, 2, 2, 2, 2, 4)]


@st.composite
def boxes(draw, shape, negative=False):
    start, step, size = [], [], []
    for d in shape:
        kind = draw(st.integers(0, 3))
        by = draw(st.integers(1, 3)) if kind == 3 else 1
        n = d if kind == 0 else draw(st.integers(1, max((d + by - 1) // by, 1)))
        first = 0 if kind == 0 else draw(st.integers(0, d - 1 - by * (n - 1)))
        if negative and draw(st.booleans()):
            first, by = first + by * (n - 1), -by
        start, step, size = [*start, first], [*step, by], [*size, n]
    return start, step, size


def attributes(box):
    return "{{start={}, step={}, size={}}}".format(*box)


@st.composite
def chains(draw):
    """Text of a program: versions of an array, parts of them, sums with whole versions."""
    shape = draw(st.sampled_from(SHAPES))
    whole = f": f32{list(shape)}"
    lines = [f"%x = input {{index=0}} {whole}", f"%y = input {{index=1}} {whole}"]
    now, outputs = "%x", []
    for i in range(draw(st.integers(1, 10))):
        box = draw(boxes(shape))
        kind = draw(st.integers(0, 9))
        if kind < 6:
            lines.append(f"%v{i} = slice %y {attributes(box)} : f32{box[2]}")
            lines.append(f"%u{i} = update {now}, %v{i} {attributes(box)} {whole}")
            now = f"%u{i}"
        elif kind < 9:
            box = draw(boxes(shape, negative=True))
            lines.append(f"%r{i} = slice {now} {attributes(box)} : f32{box[2]}")
            outputs.append(f"%r{i}")
        else:
            lines.append(f"%w{i} = add {now}, %y {whole}")
            outputs.append(f"%w{i}")
    body = "\n  ".join(lines)
    return f"tensor @f {{\n  {body}\n  return {', '.join([*outputs, now])}\n}}\n", shape


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


@settings(max_examples=150)
@given(chains())
def test_updates_resolve(chain):
    text, shape = chain
    note(text)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    y = -1000 - x
    given_x, given_y = x.copy(), y.copy()
    program = nkigen.parse(text)
    assert program.verify() == []
    assert str(program) == str(nkigen.parse(str(program)))
    resolved = _core.run_pass("canonicalize", text, "trn2")
    note(resolved)
    assert "update" not in resolved
    expected = as_tuple(program.run(x, y))
    assert np.array_equal(x, given_x) and np.array_equal(y, given_y)
    for a, e in zip(as_tuple(nkigen.parse(resolved).run(x, y)), expected, strict=True):
        assert np.array_equal(a, e)
    for a, e in zip(interpret(text, x, y), expected, strict=True):
        assert np.array_equal(a, e)


def key(line):
    attrs = eval("dict(" + line.split("{", 1)[1].split("}", 1)[0] + ")")  # noqa: S307
    return tuple(
        slice(s, None if s + b * n < 0 else s + b * n, b)
        for s, b, n in zip(attrs["start"], attrs["step"], attrs["size"], strict=True)
    )


def interpret(text, x, y):
    """The same program in plain NumPy with copies: independent of the interpreter."""
    values = {"%x": x, "%y": y}
    for line in text.splitlines():
        words = line.replace(",", "").split()
        if "return" in words:
            return [values[w] for w in words[1:]]
        if len(words) < 4 or words[2] == "input":
            continue
        name, op, operands = words[0], words[2], [w for w in words[3:5] if w[0] == "%"]
        args = [values[w] for w in operands]
        if op == "slice":
            values[name] = args[0][key(line)]
        elif op == "add":
            values[name] = args[0] + args[1]
        elif op == "update":
            values[name] = args[0].copy()
            values[name][key(line)] = args[1]


def rows(n, lines):
    body = "\n  ".join(["%x = input {index=0} : f32[4]", f"%z = full {{shape=[{n}, 4], dtype=f32, value=0}} : f32[{n}, 4]", *lines])
    return f"tensor @f {{\n  {body}\n}}\n"


def test_many_rows_are_one_concat():
    n, lines, base = 2000, [], "%z"
    for i in range(n):
        lines.append(f"%s{i} = full {{shape=[1, 4], dtype=f32, value={i}}} : f32[1, 4]")
        lines.append(f"%v{i} = mul %s{i}, %x : f32[1, 4]")
        lines.append(f"%u{i} = update {base}, %v{i} {{start=[{(i * 7) % n}, 0], step=[1, 1], size=[1, 4]}} : f32[{n}, 4]")
        base = f"%u{i}"
    out = _core.run_pass("canonicalize", rows(n, [*lines, f"return {base}"]), "trn2")
    assert out.count("concat") == 1
    assert out.count("slice") == 0


def test_interleaved_halves_are_one_concat():
    text = """tensor @f {
  %x = input {index=0} : f32[8]
  %a = input {index=1} : f32[4]
  %b = input {index=2} : f32[4]
  %1 = update %x, %a {start=[0], step=[2], size=[4]} : f32[8]
  %2 = update %1, %b {start=[1], step=[2], size=[4]} : f32[8]
  return %2
}
"""
    out = _core.run_pass("canonicalize", text, "trn2")
    assert out.count("concat") == 1
    assert out.count("slice") == 0
