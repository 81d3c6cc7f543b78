"""dtype= and casting= of every function that takes them, and the dtypes that results have: NumPy is asked for each."""

import itertools

import ml_dtypes
import numpy as np
import pytest

import nkigen

pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
DTYPES = [np.dtype(n) for n in NAMES] + [np.dtype(ml_dtypes.bfloat16), np.dtype(ml_dtypes.float8_e5m2)]
UFUNCS = {n: u for n, u in vars(np).items() if isinstance(u, np.ufunc) and n == u.__name__ and u.nout == 1}
UFUNCS = {n: u for n, u in UFUNCS.items() if not u.signature}
FEW = [np.dtype(n) for n in ("?", "i1", "i4", "u4", "f2", "f4")] + [np.dtype(ml_dtypes.bfloat16)]
short = nkigen._core.dtype_name


def data(dtype):
    x = np.array([[3, -1, 2], [7, 2, -3]])
    x = abs(x) if dtype.kind in "u?" else x
    return (x * 1.25 if dtype.kind not in "biu" else x).astype(dtype)


def agree(fn, *arrays):
    """The dtype of the traced result is NumPy's, and it is an error where NumPy has one; the program, or None."""
    try:
        want = short(fn(*arrays).dtype)
    except (TypeError, ValueError):
        want = "error"
    try:
        program = nkigen.trace(fn).graph(*[(a.shape, a.dtype) for a in arrays])
    except nkigen.UnsupportedError:
        return None
    except (nkigen.DTypeError, nkigen.ShapeError):
        assert want == "error"
        return None
    assert program.outputs[0][1] == want
    return program


@pytest.mark.parametrize("name", sorted(UFUNCS))
def test_ufunc(name):
    u = UFUNCS[name]
    for a in DTYPES:
        agree(lambda x: u(*[x] * u.nin), np.ones(2, a))
    for a in FEW:
        x = np.ones(2, a)
        for d in FEW:
            agree(lambda x: u(*[x] * u.nin, dtype=d), x)


@pytest.mark.parametrize("name", ["add", "power", "equal", "divide", "logical_and", "fmax", "hypot"])
def test_two_dtypes(name):
    u = UFUNCS[name]
    for i, (a, b) in enumerate(itertools.product(FEW, FEW)):
        x, y = np.ones(2, a), np.ones(2, b)
        agree(lambda x, y: u(x, y, dtype=DTYPES[i % len(DTYPES)]), x, y)
        agree(lambda x, y: u(x, y, casting="safe"), x, y)
        for scalar in (1, 1.5, True):
            agree(lambda x: u(x, scalar, dtype=b), x)


@pytest.mark.parametrize("casting", ["no", "equiv", "safe", "same_kind", "unsafe"])
def test_casting(casting):
    for a, d in itertools.product(FEW, FEW):
        x = np.ones(2, a)
        agree(lambda x: x.astype(d, casting=casting), x)
        agree(lambda x: np.sqrt(x, dtype=d, casting=casting), x)
        agree(lambda x: np.concatenate([x, x], dtype=d, casting=casting), x)
        agree(lambda x: np.stack([x, x], dtype=d, casting=casting), x)
        agree(lambda x: np.hstack([x, np.ones(1, np.float32)], casting=casting), x)


#: NumPy adds and rounds these in fp8, one after the other; nkigen rounds once
ROUNDED_ONCE = (np.dtype(ml_dtypes.float8_e5m2), np.dtype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std"])
def test_reductions(name):
    for a, d, axis in itertools.product(FEW, [None, *FEW, np.dtype("i8")], (None, 0)):

        def fn(x):
            return getattr(np, name)(x, axis=axis, dtype=d)

        x = data(a)
        program = agree(fn, x)
        if program is not None and not (d in ROUNDED_ONCE or (d is None and a in ROUNDED_ONCE)):
            assert np.allclose(program.run(x).astype(np.float64), fn(x).astype(np.float64), rtol=4e-3), (a, d)


@pytest.mark.parametrize("name", ["max", "min", "any", "all", "round", "absolute", "sign"])
def test_results(name):
    for a in DTYPES:
        agree(lambda x: getattr(np, name)(x), data(a))
        if name in ("max", "min", "any", "all"):
            agree(lambda x: getattr(x, name)(axis=0, keepdims=True), data(a))


BOUNDS = [None, 0, 2, -1, 300, 2**40, 2**70, -(2**70), 0.5, True, np.float32(1), np.int8(1), np.ones(3, np.float64), [1, 2, 3]]


def test_clip():
    for a, (lo, hi) in itertools.product(FEW, itertools.product(BOUNDS, BOUNDS)):

        def fn(x):
            return np.clip(x, lo, hi)

        if short(a) == "bf16" and any(type(b) is int and abs(b) >= 2**63 for b in (lo, hi)):
            continue  # NumPy goes through a C long
        x = data(a)
        try:
            want = fn(x)
        except OverflowError:  # of a Python integer on the wrong side
            continue
        except TypeError:
            want = None
        program = agree(fn, x)
        if program is not None and want is not None:
            assert np.array_equal(program.run(x), want), (a, lo, hi)


def test_clip_method():
    x = data(np.dtype("f4"))
    for fn in (lambda x: x.clip(0, 2), lambda x: x.clip(max=1), lambda x: x.clip(min=np.float64(0)), lambda x: x.clip()):
        program = agree(fn, x)
        assert np.array_equal(program.run(x), fn(x))


@pytest.mark.parametrize("name", ["mean", "var"])
def test_integer_statistics_on_the_device(name):
    """NumPy divides in f64 and truncates toward zero."""
    x = np.array([[-7, 2, 3, 1], [7, 2, -3, 1], [2**30, 2**30 - 1, 5, 8], [-(2**30), -5, 0, 1]], np.int32)
    x = x if name == "mean" else x % 100

    def fn(x):
        return getattr(np, name)(x, axis=1, dtype=np.int32)

    k = nkigen.compile(fn, x)
    assert k(x).dtype == np.int32 and np.array_equal(k(x), fn(x)) and np.array_equal(k.reference(x), fn(x))


HUGE = [2**63, 2**64 - 1, 2**64, 2**70, -(2**63), -(2**63) - 1, -(2**70)]


@pytest.mark.parametrize("value", HUGE)
def test_python_integers_beyond_64_bits(value):
    fns = [
        lambda x: x + value, lambda x: value - x, lambda x: x < value, lambda x: x == value, lambda x: np.maximum(x, value),
        lambda x: np.full_like(x, value), lambda x: np.where(x > 1, x, value),
    ]  # fmt: skip
    for a, fn in itertools.product(("i4", "u8", "i8", "f4", "f8"), fns):
        x = data(np.dtype(a))
        try:
            want = fn(x)
        except OverflowError:
            with pytest.raises((nkigen.DTypeError, nkigen.ShapeError), match="Python integer .* out of bounds"):
                nkigen.trace(fn).graph((x.shape, x.dtype))
            continue
        program = agree(fn, x)
        assert program is not None and np.array_equal(program.run(x), want), a


def test_errors_name_the_function():
    cases = [
        (lambda x: np.exp(x, dtype=np.int32), "exp: No loop matching"),
        (lambda x: np.logical_and(x, x, dtype=np.float32), "logical_and: No loop matching"),
        (lambda x: np.std(x, axis=0, dtype=np.int32), "std: .*give a float dtype"),
        (lambda x: np.sum(x.astype("f4").astype(ml_dtypes.bfloat16), dtype=ml_dtypes.float8_e5m2), "sum: bf16 does not"),
        (lambda x: x.astype(np.int32, casting="safe"), "astype: f32 does not cast to i32 by the rule safe"),
        (lambda x: np.concatenate([x, x], dtype=np.int32), "concatenate: f32 does not cast to i32"),
        (lambda x: np.std(x, ddof="1"), "std: expected a number, got str"),
    ]
    for fn, message in cases:
        with pytest.raises(nkigen.DTypeError, match=message) as e:
            nkigen.trace(fn).graph(((2, 2), "f32"))
        assert e.value.lineno is not None
