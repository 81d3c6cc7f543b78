"""What a kernel is called with: values that its dtypes cannot hold and arrays that mean something else are errors."""

import ml_dtypes
import numpy as np
import pytest

import nkigen
from nkigen.calls import scalar_of

pytestmark = pytest.mark.filterwarnings("ignore")
DTYPES = [
    "bool",
    "i8",
    "i16",
    "i32",
    "i64",
    "u8",
    "u16",
    "u32",
    "u64",
    "f16",
    "bf16",
    "f32",
    "f64",
    "fp8_e4m3fn",
]
VALUES = [
    True,
    0,
    1,
    -1,
    127,
    128,
    255,
    256,
    2**31 - 1,
    2**31,
    -(2**31) - 1,
    2**63,
    2**70,
    2**2000,
    1.0,
    1.7,
    1e5,
]
VALUES += [1e39, 1e308, float("inf"), float("nan")]


def kernel(dtype, shape=()):
    return nkigen.compile(lambda x: np.where(x > x, x, x), (shape, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_python_scalars(dtype):
    """NumPy's rule for weak scalars is the oracle for kinds and integer ranges; floats must stay finite."""
    dt = nkigen._core.np_dtype(dtype)
    for value in VALUES:
        try:
            whole = isinstance(value, int) and not isinstance(value, bool) and dt.kind in "iu"
            want = (
                np.array(value, dt) if whole else np.array(float(value) if dt.kind not in "b" else value, dt)
            )
            fits = isinstance(value, bool) or dt.kind not in "biu" or (whole and dt.kind != "b")
            fits &= bool(np.isfinite(float(value)) == np.isfinite(want))
        except (OverflowError, ValueError):
            fits = False
        if fits:
            got = scalar_of(value, dt, "x")
            assert got.dtype == dt and np.array_equal(got, want, equal_nan=dt.kind not in "biu")
        else:
            with pytest.raises(nkigen.DTypeError, match=r"x is of dtype .* cannot hold"):
                scalar_of(value, dt, "x")


def test_a_call_with_a_scalar():
    k = nkigen.compile(lambda x: x + 1, ((), "i32"))
    assert k(3) == 4 and k(True) == 2
    for value in (1.7, 2.0, 2**31, -(2**31) - 1):
        for call in (k, k.reference):
            with pytest.raises(nkigen.DTypeError, match="parameter 'x' is of dtype int32, which cannot hold"):
                call(value)
    f = nkigen.compile(lambda x: x + 1, ((), "f32"))
    assert f(3) == 4 and f(2.5) == 3.5 and f(float("inf")) == np.inf
    with pytest.raises(nkigen.DTypeError, match="cannot hold 1e[+]39"):
        f(1e39)


@pytest.mark.parametrize(
    "dtype, good, bad",
    [
        ("i64", [2**31 - 1, -(2**31)], 2**31),
        ("i64", [0, 1], -(2**31) - 1),
        ("u64", [0, 2**32 - 1], 2**32),
        ("f64", [3.4e38, -3.4e38, np.inf, -np.inf, np.nan, 1e-300], 1e39),
        ("f64", [3.4028235e38], -3.5e38),
    ],
)
def test_values_beyond_32_bits_are_reported(dtype, good, bad):
    dt = nkigen._core.np_dtype(dtype)
    good = np.array(good, dt)
    k = nkigen.compile(lambda x: x.reshape(-1), (good.shape, dtype))
    assert np.allclose(k(good), good, equal_nan=True)
    worse = good.copy()
    worse[-1] = bad
    for call in (k, k.tile_ir.run):
        with pytest.raises(nkigen.DTypeError, match=r"cannot hold its values from .* to "):
            call(worse)
    assert np.array_equal(k.reference(worse), worse, equal_nan=True)


def test_empty_arrays_have_no_range():
    k = nkigen.compile(lambda x: x + 1, ((0, 3), "f64"))
    assert k(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("code", [">f4", ">i4", ">f2", ">f8", ">i2", ">u4"])
def test_big_endian_arrays(code):
    x = np.array([[1, 2, 3], [4, 5, 6]], code)

    def fn(a):
        return np.concatenate([a[::-1], x, np.where(np.array([True, False, True]), x[0], a)])

    k = nkigen.compile(fn, x)
    for got in (k(x), k.reference(x), k(x.astype(x.dtype.newbyteorder("=")))):
        assert got.dtype.isnative and np.array_equal(got, fn(x))
    assert nkigen.compile(lambda a: a.astype(code), ((3,), "f32")).outputs[0].dtype.isnative


class Celsius(np.ndarray):
    """A subclass with rules of its own."""

    def __add__(self, other):
        return np.asarray(self) + other + 273


@pytest.mark.parametrize("make", [np.ma.array, np.asmatrix, lambda a: a.view(Celsius)])
def test_arrays_that_mean_something_else_are_refused(make):
    x = np.ones((2, 2), np.float32)
    other = make(x)
    k = nkigen.compile(lambda x: x + 1, x)
    for call in (k, k.reference, k.tile_ir.run):
        with pytest.raises(nkigen.DTypeError, match="no plain array|masked|matrix"):
            call(other)
    for fn in (lambda x: x + other, lambda x: np.add(other, x), lambda x: np.concatenate([x, other])):
        with pytest.raises((nkigen.DTypeError, nkigen.TraceError)):
            nkigen.trace(fn).graph(((2, 2), "f32"))


def test_plain_subclasses_are_arrays(tmp_path):
    class Named(np.ndarray):
        name = "x"

    x = np.arange(4, dtype=np.float32)
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=4)
    mapped[:] = x
    k = nkigen.compile(lambda a: a + mapped, x)
    for a in (x.view(Named), mapped):
        assert np.array_equal(k(a), x + x)


def test_extension_dtypes_of_arguments():
    x = np.arange(4).astype(ml_dtypes.bfloat16)
    with pytest.raises(nkigen.DTypeError, match="bfloat16"):
        nkigen.compile(lambda a: a + 1, x)(x.astype(np.float32))
