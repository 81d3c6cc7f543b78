"""Arrays and NumPy scalars without axes: what NumPy takes as an axis of them, and what stays a scalar."""

import numpy as np
import pytest

import nkigen
from nkigen.errors import ShapeError

f = np.float32
X = np.arange(6, dtype=f)

REDUCED = ["np.sum(s, axis={})", "s.max(axis={})", "np.min(s, {}, keepdims=True)", "np.any(s, axis={})", "s.all(axis={})"]


def kernel(text):
    """A function of x and its scalar sum s."""
    scope = {"np": np}
    exec(f"def kernel(x):\n    s = x.sum()\n    {text}", scope)  # noqa: S102
    return scope["kernel"]


def run(text):
    fn = kernel(text)
    return np.asarray(fn(X)), nkigen.compile(fn, X)(X)


def both_raise(text, match):
    with pytest.raises((ValueError, IndexError)):
        kernel(text)(X)
    with pytest.raises(ShapeError, match=match):
        nkigen.compile(kernel(text), X)


@pytest.mark.parametrize("axis", ["0", "-1", "()", "None"])
@pytest.mark.parametrize("text", [*REDUCED, "np.repeat(s, 3, axis={})"])
def test_an_integer_axis_of_what_has_none(text, axis):
    if "repeat" in text and axis == "()":
        axis = "0"
    want, got = run("return " + text.format(axis))
    assert got.shape == want.shape and got.dtype == want.dtype and np.array_equal(got, want)


@pytest.mark.parametrize("axis", ["1", "-2", "(0,)", "(0, -1)"])
@pytest.mark.parametrize("text", REDUCED)
def test_other_axes_raise_where_numpy_raises(text, axis):
    both_raise("return " + text.format(axis), "axis")


@pytest.mark.parametrize("axis", ["0", "-1"])
@pytest.mark.parametrize("name", ["mean", "std", "var"])
def test_means_of_scalars_take_no_axis(name, axis):
    both_raise(f"return np.{name}(s, axis={axis})", "axis")


@pytest.mark.parametrize("view", ["s", "s.T", "s.real", "s.transpose()", "s.reshape(())", "np.transpose(s)", "s.squeeze()", "s.copy()", "s.T.T"])
def test_a_scalar_stays_one(view):
    """In-place operators rebind a scalar, so it may take a shape; nothing else sees it."""
    want, got = run(f"t = {view}\n    t += x\n    return t * s")
    assert np.array_equal(got, want)


@pytest.mark.parametrize("view", ["s[...]", "np.array(s)", "np.copy(s)", "np.asarray(s)", "s[None]", "s.reshape(1)"])
def test_an_array_of_a_scalar_keeps_its_shape(view):
    both_raise(f"t = {view}\n    t += x\n    return t", "cannot be written")
