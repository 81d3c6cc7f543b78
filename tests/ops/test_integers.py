"""Integers are exact: NumPy, the reference interpreter and the simulator agree in every bit, wrapping included."""

import numpy as np
import pytest

import nkigen

pytestmark = pytest.mark.filterwarnings("ignore")
I32 = np.array(
    [0, 1, -1, 2, 3, -2, 7, -7, 10, 100, 46341, -46341, 65536, 65537, -99999, 2**24, 2**24 + 1, 2**30, 2**31 - 1, -(2**31), -(2**31) + 1],
    np.int32,
)  # fmt: skip
U32 = np.array(
    [0, 1, 2, 3, 7, 10, 255, 65535, 65536, 65537, 98304, 2**24, 2**24 + 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 65537, 2**32 - 2, 2**32 - 1],
    np.uint32,
)  # fmt: skip
BINARY = [
    np.add, np.subtract, np.multiply, np.floor_divide, np.remainder, np.maximum, np.minimum,
    np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal,
]  # fmt: skip


def exact(fn, *arrays):
    k = nkigen.compile(fn, *arrays, cache=False)
    assert k.verify() == []
    want, got, reference = fn(*arrays), k(*arrays), k.reference(*arrays)
    assert reference.dtype == want.dtype and np.array_equal(reference, want)
    wrong = np.flatnonzero(np.atleast_1d(got != want.astype(got.dtype)))
    assert wrong.size == 0, [[np.ravel(a)[i] for a in (*arrays, want, got) if np.ndim(a)] for i in wrong[:3]]


def pairs(values, others=None):
    return [v.ravel() for v in np.meshgrid(values, values if others is None else others)]


@pytest.mark.parametrize("values", [I32, U32], ids=["i32", "u32"])
@pytest.mark.parametrize("ufunc", BINARY, ids=lambda u: u.__name__)
def test_binary(ufunc, values):
    exact(ufunc, *pairs(values))


@pytest.mark.parametrize("c", [0, 1, -1, 3, -3, 10, 2**24 + 1, 2**31 - 1, -(2**31)])
def test_a_constant_operand(c):
    def fn(x):
        c32 = np.int32(c)
        parts = [x // c32, x % c32, c32 // x, c32 % x, np.maximum(x, c32), (x < c32) + np.int32(0), x + c32 * x]
        return np.stack(parts)

    exact(fn, I32)


@pytest.mark.parametrize("values", [I32, U32], ids=["i32", "u32"])
def test_unary_and_reductions(values):
    square = values[:18].reshape(3, 6)
    for fn in (np.abs, np.sign, np.square, np.positive, lambda x: x.max(), lambda x: np.max(x, axis=0), np.min):
        exact(fn, values)
    exact(lambda x: np.max(x, axis=1, keepdims=True), square)
    exact(lambda x: np.min(x, axis=0), square)
    exact(lambda x: np.sum(x, axis=1, dtype=x.dtype), square)
    exact(lambda x: x.astype(np.float32), values)
    if values is I32:
        exact(np.negative, values)
        exact(lambda x: np.min(np.abs(x)), values)


def test_int_min_is_its_own_magnitude():
    x = np.array([-(2**31)], np.int32)
    exact(lambda x: np.stack([np.abs(x), -x, x // np.int32(-1), x % np.int32(-1)]), x)


def test_large_random_quotients(rng):
    for dtype, low, high in ((np.int32, -(2**31), 2**31), (np.uint32, 0, 2**32)):
        a = rng.integers(low, high, 4000).astype(dtype)
        b = (rng.integers(low, high, 4000) >> rng.integers(0, 31, 4000)).astype(dtype)
        exact(np.floor_divide, a, b)
        exact(np.remainder, a, b)
        exact(lambda a, b: (a < b) + np.maximum(a, b), a, b)


# ---- powers ----

BASES = np.array([0, 1, -1, 2, -2, 3, 31, 100, -100, 46341, 2**31 - 1, -(2**31)], np.int32)
EXPONENTS = np.array([0, 1, 2, 3, 5, 7, 31, 32, 33, 2**16 + 1, 2**24 + 1, 2**31 - 1], np.int32)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 7, 31, 32, 100])
def test_constant_exponents(n):
    exact(lambda x: x**n, BASES)
    exact(lambda x: x ** np.uint32(n), U32)


def test_traced_exponents():
    exact(np.power, *pairs(BASES, EXPONENTS))
    exact(np.power, *pairs(U32[:12], EXPONENTS.astype(np.uint32)))


@pytest.mark.parametrize("c", [0, 1, -1, 2, 31, 100])
def test_constant_bases(c):
    exact(lambda n: np.int32(c) ** n, EXPONENTS)


def test_exponents_that_broadcast():
    exact(lambda x, n: x**n, BASES[:, None], EXPONENTS[None])
    exact(lambda x: x ** EXPONENTS[:, None], BASES)
    exact(lambda x, n: x**n, BASES, np.array(3, np.int32))


def test_exponents_of_few_bits():
    few = np.array([True, False, True, True], bool)
    exact(lambda x, n: x**n, BASES[:4], few)
    exact(lambda x, n: x**n, BASES[:4], np.array([0, 3, 127, 31], np.int8))
    k = nkigen.compile(lambda x, n: x**n, BASES[:4], few)
    assert k.cost.instruction_count < nkigen.compile(lambda x, n: x**n, BASES[:4], EXPONENTS[:4]).cost.instruction_count / 4


def test_known_negative_exponents_are_refused():
    for n in (-1, np.int32(-2), np.array([1, -1, 2, 3], np.int32), np.array(-1)):
        with pytest.raises(nkigen.ShapeError, match="integers to negative integer powers are not allowed"):
            nkigen.trace(lambda x: x**n).graph(((4,), "i32"))
        nkigen.trace(lambda x: x**n).graph(((4,), "f32"))


def test_negative_exponents_are_reported_at_the_call():
    """As NumPy does when it runs; an exponent that is computed in the kernel counts as 0 on the device."""
    n = np.array([[1, 2, -1, 0]], np.int32)
    fns = [lambda n: np.int32(2) ** n, lambda n: BASES[:4] ** n.T, lambda n: 3 ** n.astype(np.int64), lambda n: n**n + n]
    for fn in fns:
        with pytest.raises(ValueError, match="negative integer powers"):
            fn(n)
        k = nkigen.compile(fn, n)
        for call in (k, k.reference):
            with pytest.raises(nkigen.ShapeError, match="parameter 'n' has negative exponents; integers to negative"):
                call(n)
        assert np.array_equal(k(abs(n)), fn(abs(n)))
    for fn in (lambda n: np.float32(2) ** n, lambda n: n ** (n * n), lambda n: n + 1):
        assert nkigen.trace(fn).graph((n.shape, n.dtype)).exponents == []
    k = nkigen.compile(lambda n: np.int32(2) ** (n * 1 - 1), n)
    assert k(n).tolist() == [[1, 2, 1, 1]]
    with pytest.raises(ValueError, match="negative integer powers"):
        k.reference(n)


def test_bools_among_integers():
    b = np.array([True, False, True, True])
    for fn in (
        lambda b: b + np.int32(2**30 + 1), lambda b: b * np.int32(-7), lambda b: b % np.int32(3), lambda b: b // np.int32(-1),
        lambda b: np.maximum(b, np.int32(-5)), lambda b: b ^ (b + np.int32(1) > 1), lambda b: np.int32(3) - b,
        lambda b: np.int32(5) ** b, lambda b: np.sum(b, dtype=np.int32), lambda b: np.mean(b, dtype=np.float32), np.abs,
        lambda b: b < np.int32(1), lambda b: -b.astype(np.int32),
    ):  # fmt: skip
        exact(fn, b)


# ---- 8 and 16 bits, and conversions ----

SMALL = [np.int8, np.uint8, np.int16, np.uint16]
ALL = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32]


def corners(dtype):
    info = np.iinfo(dtype)
    values = [info.min, info.min + 1, info.max, info.max - 1, info.max // 2, info.max // 2 + 1, 0, 1, 2, 3, 7, 100, 128 % info.max]
    return np.array(values, dtype)


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("ufunc", BINARY, ids=lambda u: u.__name__)
def test_small_binary(ufunc, dtype):
    exact(ufunc, *pairs(corners(dtype)))


@pytest.mark.parametrize("dtype", SMALL)
def test_small_unary(dtype):
    x = corners(dtype)
    for fn in (np.negative, np.abs, np.sign, np.square, np.max, np.min, lambda x: np.sum(x, dtype=x.dtype), lambda x: x**3):
        exact(fn, x)
    exact(np.power, *pairs(x, np.array([0, 1, 2, 5, 31, 100], dtype)))
    exact(lambda x: x * dtype(3) + 5, x)


@pytest.mark.parametrize("to", ALL)
@pytest.mark.parametrize("dtype", ALL)
def test_conversions_wrap(dtype, to):
    values = {np.int32: I32, np.uint32: U32}.get(dtype, corners(dtype))
    exact(lambda x: x.astype(to), values)


def test_random_conversions(rng):
    x = rng.integers(-(2**31), 2**31, 5000).astype(np.int32)
    for to in ALL:
        exact(lambda x: x.astype(to), x)
        exact(lambda x: x.astype(to), x.view(np.uint32))


def test_bools_give_small_integers():
    a, b = pairs(np.array([True, False]))
    for fn in (lambda a, b: a**b, lambda a, b: a // b, lambda a, b: a % b, lambda a, b: np.square(a) + np.abs(b)):
        exact(fn, a, b)
