"""Arguments that say where: axes, shifts, sections, shapes, orders. NumPy says which are errors, and what comes out."""

import itertools

import numpy as np
import pytest

import nkigen

pytestmark = pytest.mark.filterwarnings("ignore")
VALUES = [
    None, 0, 1, -1, 2, 5, -4, (0,), (0, 1), (1, 0), (0, 0), (0, -3), (), [0], [0, 1], 1.0, True, "0", np.int32(1), np.array(1),
    np.array([0]), np.array([0, 1]), slice(None), (0, "a"), (0, 1.0), [[0]], 2**70,
]  # fmt: skip
FUNCTIONS = {
    "sum": lambda x, v: np.sum(x, axis=v),
    "max": lambda x, v: x.max(v),
    "all": lambda x, v: np.all(x, axis=v, keepdims=True),
    "mean": lambda x, v: np.mean(x, axis=v),
    "std": lambda x, v: x.std(v, keepdims=True),
    "add.reduce": lambda x, v: np.add.reduce(x, axis=v),
    "transpose": lambda x, v: np.transpose(x, v),
    "x.transpose": lambda x, v: x.transpose(v),
    "permute_dims": lambda x, v: np.permute_dims(x, v),
    "swapaxes": lambda x, v: np.swapaxes(x, v, 0),
    "moveaxis": lambda x, v: np.moveaxis(x, v, 0),
    "moveaxis to": lambda x, v: np.moveaxis(x, (0, 1), v),
    "expand_dims": lambda x, v: np.expand_dims(x, v),
    "squeeze": lambda x, v: np.squeeze(x, axis=v),
    "concatenate": lambda x, v: np.concatenate([x, x], axis=v),
    "stack": lambda x, v: np.stack([x, x], axis=v),
    "split": lambda x, v: np.split(x, 1, axis=v)[0],
    "flip": lambda x, v: np.flip(x, v),
    "roll": lambda x, v: np.roll(x, 1, axis=v),
    "roll by two": lambda x, v: np.roll(x, (1, 2), axis=v),
    "roll shift": lambda x, v: np.roll(x, v),
    "roll shift along": lambda x, v: np.roll(x, v, axis=1),
    "roll shift repeated": lambda x, v: np.roll(x, v, axis=(0, 0)),
    "repeat": lambda x, v: np.repeat(x, 2, axis=v),
    "repeats": lambda x, v: np.repeat(x, v),
    "tile": lambda x, v: np.tile(x, v),
    "tril": lambda x, v: np.tril(x, v),
    "triu": lambda x, v: np.triu(x, v),
    "round": lambda x, v: np.round(x, v),
    "reshape": lambda x, v: np.reshape(x, v),
    "x.reshape": lambda x, v: x.reshape(v, -1),
    "broadcast_to": lambda x, v: np.broadcast_to(x[0, 0], v),
    "sections": lambda x, v: np.array_split(x, v)[0],
    "split at": lambda x, v: np.split(x, v)[-1],
    "hsplit": lambda x, v: np.hsplit(x, v)[0],
    "vsplit": lambda x, v: np.vsplit(x, v)[0],
    "zeros_like": lambda x, v: np.zeros_like(x, shape=v),
    "size": lambda x, v: x + np.size(x, v),
    "ddof": lambda x, v: np.var(x, ddof=v),
    "keepdims": lambda x, v: np.sum(x, axis=0, keepdims=v),
}
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
#: what NumPy takes only because its Python code does not look: it is an error here
NO_INTEGERS = ("tile", "roll shift", "roll shift along", "roll shift repeated", "sections", "split at", "hsplit", "vsplit", "tril", "triu")
STRICTER = {(n, v) for n in NO_INTEGERS for v in (1.0, "0", 2**70)} | {("reshape", None), ("reshape", -4)}


def is_stricter(name, value):
    if name in ("ddof", "keepdims"):
        return isinstance(value, (tuple, list, np.ndarray)) or value == 2**70
    if isinstance(value, tuple) and name.startswith("roll shift"):
        return any(isinstance(v, float) for v in value)
    if name == "expand_dims" and isinstance(value, np.ndarray):
        return value.ndim > 0  # NumPy takes lists, but no arrays of axes
    return type(value) in (int, float, str, type(None)) and (name, value) in STRICTER



def same(fn, x, what=""):
    try:
        want = fn(x)
        assert want.dtype != object
    except Exception as e:
        assert isinstance(e, (TypeError, ValueError, IndexError, OverflowError, AssertionError, ArithmeticError)), e
        want = e
    try:
        got = nkigen.trace(fn).graph((x.shape, x.dtype)).run(x)
    except nkigen.UnsupportedError:
        return
    except (nkigen.ShapeError, nkigen.DTypeError) as e:
        assert isinstance(want, Exception), (what, e)
        assert e.lineno is not None
        return
    assert not isinstance(want, Exception), (what, want)
    assert got.shape == want.shape and np.allclose(got, want, equal_nan=True), what


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name):
    for value, x in itertools.product(VALUES, (X, X[0], X[0, 0], X[:, :1], X[:1, 0])):
        if not is_stricter(name, value):
            same(lambda x: FUNCTIONS[name](x, value), x, (name, value, x.ndim))


def test_rolls_add_up():
    x = np.arange(35, dtype=np.float32).reshape(5, 7)
    cases = [((1, 2), 1), ((1, -2), (0, 1)), (3, (0, 0, 1)), ((1, 2, 3), (1, 0, 1)), ((2, 3), None), (-40, None), (1, ()), ((), 0)]
    for shift, axis in cases:

        def fn(x):
            return np.roll(x, shift, axis=axis)

        assert np.array_equal(nkigen.compile(fn, x)(x), fn(x)), (shift, axis)
    same(lambda x: np.roll(x, (1, 2), axis=(0, 1, 1)), x)
    same(lambda x: np.roll(x[:0], 3, axis=0), x)


def test_messages():
    cases = [
        (lambda x: np.sum(x, axis=[0]), nkigen.DTypeError, "sum: expected an integer, got list"),
        (lambda x: np.vsplit(x[0, 0], 2), nkigen.ShapeError, "vsplit: works on arrays of 2 or more dimensions, got 1"),
        (lambda x: np.hsplit(x[0, 0, 0], 2), nkigen.ShapeError, "hsplit: works on arrays of 1 or more dimensions, got 0"),
        (lambda x: np.roll(x, (1, 2), axis=(0, 1, 2)), nkigen.ShapeError, "roll: 2 shifts for 3 axes"),
        (lambda x: np.split(x, ["a"]), nkigen.DTypeError, "split: indices are integers, got str"),
        (lambda x: np.max(x, keepdims="yes"), nkigen.DTypeError, "max: expected True or False, got str"),
        (lambda x: x.reshape(True, -1), nkigen.DTypeError, "reshape: expected integers, got bool"),
        (lambda x: np.flip(x, 2**70), nkigen.ShapeError, "flip: a number out of range"),
    ]  # fmt: skip
    for fn, error, message in cases:
        with pytest.raises(error, match=message) as e:
            nkigen.trace(fn).graph((X.shape, X.dtype))
        assert e.value.lineno is not None


AXES = [None, 0, 1, (0, 1), ()]


@pytest.mark.parametrize("name", ["sum", "any", "all", "mean", "var", "std", "max", "min"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0,), (2, 0, 3)])
def test_reductions_of_empty_axes(name, shape):
    """An identity where NumPy has one, nan where it divides by no elements, an error for extremes of nothing."""
    for dtype, axis, keep in itertools.product((np.float32, np.int32, bool, np.float16), AXES, (False, True)):
        x = np.ones(shape, dtype)

        def fn(x):
            return getattr(np, name)(x, axis=axis, keepdims=keep)

        same(fn, x, (name, dtype, axis, keep))


@pytest.mark.parametrize("name", ["sum", "any", "all", "mean", "std"])
def test_empty_axes_on_the_device(name):
    for shape, axis in (((3, 0), 1), ((0, 3), 0), ((0,), None), ((2, 0, 3), (1, 2))):
        x = np.ones(shape, np.float32)

        def fn(x):
            return getattr(np, name)(x, axis=axis)

        k = nkigen.compile(fn, x, check="every-pass")
        assert k(x).dtype == fn(x).dtype and np.array_equal(k(x), fn(x), equal_nan=True)


@pytest.mark.parametrize("ufunc", [np.add, np.logical_or, np.logical_and, np.maximum, np.minimum])
def test_ufunc_reduce_of_empty_axes(ufunc):
    same(lambda x: ufunc.reduce(x), np.ones((0, 3), np.float32))
    same(lambda x: ufunc.reduce(x, axis=1), np.ones((0, 3), np.float32))
