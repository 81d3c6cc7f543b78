"""Arrays are objects: writes are seen where NumPy's are, and raise where NumPy's do."""

import ml_dtypes
import numpy as np
import pytest

import nkigen
from nkigen.errors import DTypeError, NkigenError, ShapeError, TraceError

f = np.float32
X = np.arange(12, dtype=f).reshape(3, 4)
I = np.arange(4, dtype=np.int32)


def as_tuple(r):
    return r if isinstance(r, tuple) else (r,)


def agree(fn, *arrays):
    """NumPy, reference, every stage and simulator: results and changed arguments."""
    args = [a.copy() for a in arrays]
    expected = as_tuple(fn(*args))
    kernel = nkigen.compile(fn, *arrays, check="every-pass", cache=False)
    for run in (kernel, kernel.reference):
        given = [a.copy() for a in arrays]
        for a, e in zip(as_tuple(run(*given)), expected, strict=True):
            if e is None:
                assert a is None
            else:
                assert a.shape == np.shape(e) and a.dtype == e.dtype
                np.testing.assert_allclose(a, e, rtol=1e-6)
        for a, e in zip(given, args, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-6)
    return kernel


def alias(x):
    y = x * 1
    z = y
    z += 10
    return y


def row(x):
    c = x * 1
    v = c[0]
    v += x[1]
    return c


def flat(x):
    x = x * 1
    y = x.reshape(-1)
    y *= 2
    return x


def helper(x):
    def bump(v):
        v += 1

    y = x * 1
    bump(y)
    bump(y[1:])
    return y


def transposed(x):
    x = x * 1
    y = x.T
    x *= 2
    y[0] = 7
    return y, x


def overlap(x):
    y = x * 1
    y[1:] += y[:-1]
    y[:] = y[::-1]
    y[:, 1:] = y[:, :-1]
    return y


def strided(x):
    y = x * 1
    y[::2, 1::2] = x[::2, ::2]
    y[::-2, ::-1] *= 2
    return y


def copied_reshape(x):
    y = x.T * 1  # in Fortran order, as NumPy has it
    z = y.reshape(-1)  # a copy
    z += 1
    w = y.T.reshape(-1)  # a view
    w *= 3
    return y, z


def scalars(x):
    s = x.sum()
    t = s
    s += 1
    u = x[0, 1]
    u -= 5
    v = x[0, 2, ...] * 1
    return s, t, u, x


def zero_d(x):
    y = x * 1
    s = y[1, 2, ...]
    s += 100
    y[0, 0] += 3
    y[2, 3] = y[0, 0] * 2
    return y


def parts(x):
    y = x * 1
    a, b = np.split(y, 2, axis=1)
    a += 1
    b *= 2
    np.flip(y)[0] = -1
    y.ravel()[3] = 99
    y.squeeze()[1] += 1
    y[None].swapaxes(0, 2)[1] = 5
    np.moveaxis(np.expand_dims(y, 1), 2, 0)[3] -= 1
    for r in y:
        r -= 1
    np.atleast_2d(y)[2, 2] = 8
    y.real[0, 3] = 44
    return y


def copies(x):
    y = x * 1
    for c in (
        y.copy(), np.copy(y), y.astype(f), +y, y.flatten(), np.where(y > 0, y, y), y * 1,
        np.concatenate([y]), np.tile(y, 1), np.roll(y, 0), np.clip(y, None, None), y.sum(axis=()),
    ):  # fmt: skip
        c += 1
    same = y.astype(f, copy=False)
    same *= 2
    return y


def narrow(x):
    y = x.astype(ml_dtypes.bfloat16)
    y += x
    y *= 0.5
    z = x.astype(np.int32)
    z += np.int8(3)
    z //= 2
    return y, z


def assigned(x):
    y = x * 1
    y[0] = 1
    y[1] = [1, 2, 3, 4.5]
    y[:2, 1] = np.ones((1, 1, 2))
    y[2] = [x[0, 0], x[1, 1], 5, x[2, 2]]
    y[..., -1] = x[:, 0]
    y[1:1] = 3
    return y


def truth(x):
    p = x > 3
    q = p
    q &= x < 9
    q |= x == 0
    q ^= x == 1
    return p


def product(x):
    y = x * 1
    y @= np.eye(4, dtype=f)[::-1].copy()
    z = x * 1
    np.add(z, 1, out=z)
    np.negative(z[1], out=z[0])
    np.exp(x[0] * 0, out=z[1:])
    np.sum(x, axis=0, out=z[0])
    x[:, :2].max(axis=1, out=z[:, 3])
    np.clip(z, 0, 9, out=z)
    np.add.reduce(x[:, 1:], out=z[2, 1:])
    np.concatenate([x[0, :2], x[1, :2]], out=z[1])
    return y, z


def filled(x):
    y = x * 1
    y[1].fill(7)
    np.copyto(y[:, 2:], x[0, :2])
    np.copyto(y[0], 3)
    z = np.zeros(4, f)
    np.copyto(z, x[1])
    y[2].fill(x[0, 1])
    return y, z


FUNCTIONS = [filled, alias, row, flat, helper, transposed, overlap, strided, copied_reshape, scalars, zero_d, parts, copies,
             assigned, truth, product]  # fmt: skip


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_writes_are_seen(fn):
    agree(fn, X)


def test_left_dtypes_stay():
    kernel = nkigen.compile(narrow, X, check="every-pass")
    for a, r, e in zip(kernel(X), kernel.reference(X), narrow(X), strict=True):
        assert a.dtype == r.dtype == e.dtype
        np.testing.assert_allclose(r.astype(f), e.astype(f), rtol=1e-2)
        np.testing.assert_allclose(a.astype(f), e.astype(f), rtol=1e-2)


def test_strides_are_numpys():
    def layouts(x):
        y = x.T * 1
        s = [x, x.T, y, y + x.T, y[::2, None], y.sum(0), y.reshape(2, 6), np.copy(y), y.copy(), y[::-1].astype("f8")]
        s += [np.broadcast_to(x[0], (2, 4)), np.expand_dims(x, 0), np.where(y > 0, y, 1), x[None, :, 1], np.sqrt(y)]
        seen.append([a.strides for a in s])
        return x * 1

    seen = []
    layouts(X)
    nkigen.trace(layouts).graph(X)
    assert seen[0] == seen[1]


def test_base():
    def bases(x):
        y = x * 1
        assert y.base is None
        assert y[0].base is y and y[0][1:].base is y
        assert y.T.reshape(-1).base is None
        return y

    nkigen.trace(bases).graph(X)


# ---- parameters ----


def accumulate(c, x):
    c += x


def replaced(c, x):
    c[1] = x[0]
    return c


def beside(c, x):
    c[1] = x[0]
    return x * 2, c.T


def twice(c, x):
    c *= 2
    return c, c, x + c


def both(c, x):
    c[0], x[1] = x[0] + 1, c[1] - 1
    return None


@pytest.mark.parametrize(
    "fn, aliases",
    [(accumulate, {0: 0}), (replaced, {0: 0}), (beside, {2: 0}), (twice, {0: 0}), (both, {0: 0, 1: 1})],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_changed_parameters(fn, aliases):
    kernel = agree(fn, X, X + 1)
    assert kernel.aliases == aliases
    for program in kernel.stages.values():
        assert program.aliases == aliases
        assert nkigen.parse(str(program)).aliases == aliases


def test_a_returned_parameter_is_the_callers_array():
    c = X.copy()
    kernel = nkigen.compile(replaced, c, X)
    assert kernel(c, X) is c


def test_written_in_any_memory_order():
    c = np.asfortranarray(X)
    kernel = nkigen.compile(accumulate, X, X)
    assert kernel(c, X) is None
    assert np.array_equal(c, X * 2)


def test_wide_parameters_are_written_back():
    c = X.astype(np.float64)
    with pytest.warns(nkigen.errors.NarrowingWarning):
        kernel = nkigen.compile(accumulate, c, X)
    kernel(c, X)
    assert c.dtype == np.float64
    assert np.array_equal(c, X * 2)


def test_numpy_scalars_are_immutable():
    def scaled(x, s):
        s *= 2
        return x * s

    kernel = nkigen.compile(scaled, X, f(3))
    assert kernel.aliases == {}
    assert np.array_equal(kernel(X, f(3)), X * 6)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    "argument, error, text",
    [
        (read_only(X), ShapeError, "accumulate changes its parameter 'c': give a writable array; this one is read-only"),
        (X.tolist(), DTypeError, "give a writable array of float32, got a list, which would not see the change"),
        (X.astype(np.float64), DTypeError, "give an array of float32, got float64; a converted copy"),
    ],
)
def test_arguments_that_cannot_change(argument, error, text):
    kernel = nkigen.compile(accumulate, X, X)
    for run in (kernel, kernel.reference):
        with pytest.raises(error, match=text.split("(")[0]):
            run(argument, X)


def test_an_argument_whose_elements_share_memory():
    kernel = nkigen.compile(accumulate, X, X)
    for strides in ((4, 4), (0, 4), (8, 4)):
        windows = np.lib.stride_tricks.as_strided(np.zeros(64, f), X.shape, strides)
        with pytest.raises(ShapeError, match="'c': elements of the given array share memory with each"):
            kernel(windows, X)
    apart = np.zeros((4, 2, 3), f)[::-1, 1].T
    kernel(apart, X)
    np.testing.assert_array_equal(apart, X)


def test_arguments_that_share_memory():
    kernel = nkigen.compile(accumulate, X, X)
    c = np.zeros((6, 4), f)
    with pytest.raises(ShapeError, match="changes its parameter 'c', which shares memory with 'x'"):
        kernel(c[:3], c[1:4])
    kernel(c[::2], c[1::2])


# ---- errors ----


def do(source):
    def fn(y):
        y = y * 1
        exec(source, {"np": np}, {"y": y})  # noqa: S102
        return y

    return fn


@pytest.mark.parametrize(
    "source, array, error, text",
    [
        ("y /= 2", I, DTypeError, "divide: the result is f64 and cannot be written to an array of i32"),
        ("y += 1.5", I, DTypeError, "add: the result is f64 and cannot be written to an array of i32"),
        ("y += np.ones(4, np.float32)", I, DTypeError, "cannot be written to an array of i32"),
        ("y += np.ones((2, 4), np.int32)", I, ShapeError, r"shape \(2, 4\) and cannot be written to an array of shape"),
        ("y[0] += np.ones((2, 4), np.float32)", X, ShapeError, r"the result has shape \(2, 4\)"),
        ("y[:] = np.ones((2, 3))", I, ShapeError, r"could not broadcast an array of shape \(2, 3\) into the shape \(4,\)"),
        ("y[0] = 2**40", I, DTypeError, "the number 1099511627776 is out of bounds for int32"),
        ("y[0] = float('nan')", I, DTypeError, "the number nan is out of bounds for int32"),
        ("np.broadcast_to(y, (2, 4))[0] = 1", I, ShapeError, "assignment destination is read-only"),
        ("y = np.broadcast_to(y, (2, 4)); y += 1", I, ShapeError, "assignment destination is read-only"),
        ("y[0][0] = 1", I, DTypeError, "a NumPy scalar does not support assignment to elements"),
        ("y[4] = 1", I, ShapeError, "index 4 is out of bounds for axis 0 with size 4"),
        ("y.reshape(2, 2, copy=True).T.reshape(4, copy=False)", I, ShapeError, "with copy=False"),
        ("del y[0]", I, TraceError, "elements of an array cannot be deleted"),
        ("y[y > 2] = 1", I, NkigenError, "an index that is a traced array is not supported"),
        ("np.add(y, 1.5, out=y)", I, DTypeError, "add: the result is f64 and cannot be written to an array of i32"),
        ("np.add(y, y, out=y[:2])", I, ShapeError, r"shape \(4,\) and cannot be written to an array of shape \(2,\)"),
        ("np.sum(y, out=y)", I, ShapeError, r"sum: the result has shape \(\), out has shape \(4,\)"),
        ("np.copyto(y, np.ones(4))", I, DTypeError, "copyto: cannot copy f64 to an array of i32"),
        ("np.broadcast_to(y, (2, 4)).fill(1)", I, ShapeError, "assignment destination is read-only"),
        ("y[0] = 'a'", I, DTypeError, "an operand of type str"),
    ],
)
def test_errors(source, array, error, text):
    with pytest.raises(Exception) as plain:  # noqa: PT011
        do(source)(array) if "> 2" not in source else 1 / 0
    with pytest.raises(error, match=text):
        nkigen.trace(do(source)).graph(array)
    assert plain.value is not None


@pytest.mark.parametrize("order", ["C", "K", "A"])
@pytest.mark.parametrize(
    "part",
    [
        lambda x: x,
        lambda x: x[:, :1],
        lambda x: x[:, ::-1],
        lambda x: x[::2],
        lambda x: x[1],
        lambda x: x[:, 1],
        lambda x: x.T,
        lambda x: x[:1],
        lambda x: x[:, -1::-2],
    ],
    ids=range(9),
)
def test_ravel_is_in_one_piece(part, order):
    """A view only where the elements lie in one piece; reshape would be a view of more."""

    def f(x):
        x = x * 1
        r = part(x).ravel(order)
        r += 1
        return x, r

    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    k = nkigen.compile(f, x)
    for got, want in zip(k(x), f(x), strict=True):
        np.testing.assert_array_equal(got, want)
