"""Integers as NumPy has them: bits, products of matrices, arithmetic that wraps, conversions between all dtypes."""

import ml_dtypes
import numpy as np
import pytest

import nkigen

pytestmark = pytest.mark.filterwarnings("ignore")
INTS = [np.int8, np.int16, np.int32, np.uint8, np.uint16, np.uint32]
FLOATS = [np.float32, np.float16, ml_dtypes.bfloat16]
TARGETS = ("trn1", "trn2", "trn3")
NAMES = [np.dtype(d).name for d in INTS]


def anything(dtype, shape, seed=0):
    """Every bit pattern, the ends among them."""
    info = np.iinfo(dtype)
    x = np.random.default_rng(seed).integers(info.min, info.max, shape, dtype, endpoint=True)
    x.flat[:4] = [info.min, info.max, 0, 1]
    return x


def agree(fn, *arrays, targets=("trn2",)):
    expected = fn(*arrays)
    for target in targets:
        kernel = nkigen.compile(fn, *arrays, target=target, check="every-pass", cache=False)
        assert kernel.verify() == []
        for got in (kernel(*arrays), kernel.reference(*arrays)):
            for g, e in zip(*((v if isinstance(v, tuple) else (v,)) for v in (got, expected)), strict=True):
                assert g.dtype == e.dtype and np.array_equal(g, e), target


@pytest.mark.parametrize("dtype", INTS, ids=NAMES)
def test_bits(dtype):
    """All operators on all kinds of distances; NumPy defines those that are no bit of the dtype."""
    x, y = anything(dtype, (4, 9)), anything(dtype, (4, 9), 1)
    n = (np.arange(36).reshape(4, 9) % 40 - (2 if np.dtype(dtype).kind == "i" else 0)).astype(dtype)
    agree(lambda x, y, n: (x & y, x | y, x ^ y, ~x, x << n, x >> n), x, y, n, targets=TARGETS)
    agree(lambda x: (x & 1, 6 | x, x ^ 3, x << 2, x >> 3, 1 << (x & 3)), x)


def test_bits_in_place_and_reduced():
    x = anything(np.int32, (5, 7))

    def fn(x):
        y = x + 0
        y &= 0xFF
        y <<= 3
        y |= 1
        return y, np.bitwise_xor.reduce(x, axis=1), np.bitwise_or.reduce(x), np.bitwise_and.accumulate(x, axis=1)

    agree(fn, x)
    agree(lambda x: (np.bitwise_and(x > 0, x < 5), np.left_shift(x > 0, np.int8(2)), np.invert(x > 0)), x)


@pytest.mark.parametrize("fn", [lambda x: x & 1, lambda x: ~x, lambda x: x << 1, lambda x: np.right_shift(x, x)])
def test_floats_have_no_bits(fn):
    with pytest.raises(nkigen.DTypeError, match="not defined for f32|f32 is not supported") as e:
        nkigen.trace(fn).graph(((4,), "f32"))
    assert e.value.filename == __file__ and e.value.lineno


@pytest.mark.parametrize("dtype", INTS, ids=NAMES)
def test_products_wrap(dtype):
    a, b = anything(dtype, (5, 70)), anything(dtype, (70, 9), 1)
    agree(np.matmul, a, b, targets=TARGETS if dtype in (np.int32, np.uint8) else ("trn2",))
    agree(lambda a, b: (np.dot(a[0], b[:, 0]), a[0] @ b, np.vdot(a[:, :9], b[:5]), np.einsum("ij,jk->k", a, b)), a, b)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8], ids=["int8", "int32", "uint8"])
def test_long_products_are_exact(dtype):
    """More than one piece of the sum, of the largest numbers: any rounding would show."""
    info = np.iinfo(dtype)
    a = np.full((2, 1100), info.min if info.min else info.max, dtype)
    b = np.full((1100, 2), info.max, dtype)
    b[::3] = info.min
    agree(np.matmul, a, b)


def test_products_of_small_numbers_and_batches():
    a, b = anything(np.int8, (3, 4, 40)), anything(np.int8, (40, 6), 1)
    agree(lambda a, b: a.astype(np.int32) @ b.astype(np.int32), a, b)
    kernel = nkigen.compile(lambda a, b: a.astype(np.int32) @ b.astype(np.int32), a, b)
    assert str(kernel.stages["decompose"]).count("matmul") == 1
    agree(np.matmul, anything(np.int16, (2, 3, 17)), anything(np.int16, (2, 17, 5), 1))
    agree(lambda a, b: (a > 0) @ (b > 0), a, b)
    agree(lambda x: x.T @ x, np.zeros((0, 3), np.int32))


@pytest.mark.parametrize("dtype", INTS, ids=NAMES)
def test_arithmetic_wraps(dtype):
    x, y = anything(dtype, (4, 9)), anything(dtype, (4, 9), 1)
    agree(lambda x, y: (x + y, x - y, x * y, -x, abs(x), x**3, np.square(x), np.sign(x)), x, y)
    y = np.where(y == 0, y + 1, y).astype(dtype)
    agree(lambda x, y: (x // y, x % y, np.fmod(x, y), np.minimum(x, y), np.maximum(x, y), x < y, x == y), x, y)
    agree(lambda x: (np.sum(x, axis=1, dtype=dtype), np.cumsum(x, 1, dtype=dtype), np.prod(x, 1, dtype=dtype)), x)


@pytest.mark.parametrize("dtype", [bool, *INTS, *FLOATS], ids=["bool", *NAMES, "float32", "float16", "bfloat16"])
def test_conversions(dtype):
    """Between all dtypes; floats to integers that hold them, where NumPy defines it."""
    to = [bool, *INTS, *FLOATS]
    if dtype in FLOATS:
        x = np.array([0, 1, -0.0, 0.5, 1.75, 99.5, 100, 126.9] * 2, np.float32).astype(dtype)
    else:
        x = np.array([True, False]) if dtype is bool else anything(dtype, 33)
    agree(lambda x: tuple(x.astype(t) for t in to), x)
    if dtype in FLOATS:
        signed = [np.int8, np.int16, np.int32]
        agree(lambda x: tuple((-x).astype(t) for t in signed), x)
