"""Every rule of fold.c, idiom.c and lowering's fusions, on special values and their pairs.

Each entry is a spelling that some rule matches; the result must be NumPy's bit for bit, or
within the stated number of units in the last place.
"""

import numpy as np
import pytest

import nkigen
from nkigen.accuracy import FLOATS, Bound, pairs, special_values, ulps

ZERO, ONE = np.float32(0), np.float32(1)
HALF = np.float32(0.5)

#: exact whatever the operands are
UNARY = {
    "x + 0": lambda x: x + ZERO,
    "x + -0": lambda x: x + -ZERO,
    "0 + x": lambda x: ZERO + x,
    "x - 0": lambda x: x - ZERO,
    "x - -0": lambda x: x - -ZERO,
    "0 - x": lambda x: ZERO - x,
    "-0 - x": lambda x: -ZERO - x,
    "x * 1": lambda x: x * ONE,
    "x * 0": lambda x: x * ZERO,
    "x * -0": lambda x: x * -ZERO,
    "x * -1": lambda x: x * -ONE,
    "0 / x": lambda x: ZERO / x,
    "1 / x": lambda x: ONE / x,
    "x / 1": lambda x: x / ONE,
    "x / -1": lambda x: x / -ONE,
    "x / 2": lambda x: x / np.float32(2),
    "x / 2**100": lambda x: x / np.float32(2.0**100),
    "x / 2**-100": lambda x: x / np.float32(2.0**-100),
    "x / 2**127": lambda x: x / np.float32(2.0**127),
    "x / 2**-149": lambda x: x / np.float32(2.0**-149),
    "x / 0": lambda x: x / ZERO,
    "x / inf": lambda x: x / np.float32(np.inf),
    "x - x": lambda x: x - x,
    "x + x": lambda x: x + x,
    "x * x": lambda x: x * x,
    "x / x": lambda x: np.isnan(x / x),
    "x % x": lambda x: x % x,
    "x // x": lambda x: x // x,
    "x == x": lambda x: (x == x, x != x, x < x, x <= x, x > x, x >= x),
    "max(x, x)": lambda x: (np.maximum(x, x), np.minimum(x, x)),
    "where(x, x)": lambda x: np.where(x > 0, x, x),
    "x**0": lambda x: x**ZERO,
    "x**1": lambda x: x**ONE,
    "x**2": lambda x: x**2,
    "x**-1": lambda x: x**-1,
    "-(-x)": lambda x: -(-x),
    "abs(-x)": lambda x: (np.abs(-x), np.abs(np.abs(x)), np.square(-x)),
    "floor(rint(x))": lambda x: (
        np.floor(np.rint(x)),
        np.rint(np.ceil(x)),
        np.trunc(np.floor(x)),
    ),
    "+x": lambda x: +x,
    "f32(f16(x))": lambda x: x.astype(np.float16).astype(np.float32),
    "f32(bool(x))": lambda x: x.astype(bool).astype(np.float32),
    "not not x": lambda x: np.logical_not(np.logical_not(x)),
    "x * 2 + 1": lambda x: x * np.float32(2) + ONE,
    "1 - x": lambda x: ONE - x,
    "-x * 2": lambda x: -x * np.float32(2),
    "-(x + 1)": lambda x: -(x + ONE),
    "-(x - x)": lambda x: -(x - x),
    "max - 1": lambda x: np.maximum(x, ONE) - ONE,
    "clip": lambda x: np.clip(x, -ONE, ONE),
    "sign * abs": lambda x: np.sign(x) * np.abs(x),
    "sum of one": lambda x: x.reshape(-1, 1).sum(axis=1),
    "max of one": lambda x: x.reshape(-1, 1).max(axis=1),
    "max of two": lambda x: np.stack([x, x]).max(axis=0),
    "max + min": lambda x: np.maximum(x, ONE) + np.minimum(x, ONE),
}
#: the same with two operands
BINARY = {
    "x + y": lambda x, y: x + y,
    "x - y": lambda x, y: x - y,
    "x + -y": lambda x, y: x + -y,
    "-x - y": lambda x, y: -x - y,
    "-(x * y)": lambda x, y: -(x * y),
    "-(x - y)": lambda x, y: -(x - y),
    "0 - (x - y)": lambda x, y: ZERO - (x - y),
    "x * 2 - y": lambda x, y: x * np.float32(2) - y,
    "y - x * 2": lambda x, y: y - x * np.float32(2),
    "(x + 1) * y": lambda x, y: (x + ONE) * y,
    "abs(x) * y": lambda x, y: np.abs(x) * y,
    "(x > 0) * y": lambda x, y: (x > 0) * y,
    "where": lambda x, y: np.where(x > y, x, y),
    "where not": lambda x, y: np.where(~(x > y), x, y),
    "where 0": lambda x, y: np.where(x > y, x, ZERO),
    "where -0": lambda x, y: np.where(x > y, -ZERO, y),
    "max - min": lambda x, y: np.maximum(x, y) - np.minimum(x, y),
    "x * y * 0": lambda x, y: x * y * ZERO,
    "max == max": lambda x, y: np.maximum(x, y) != np.maximum(y, x),
}
#: within units in the last place, or off by a little where NumPy's own intermediate overflows
NEAR = {
    "exp(-x)": (3, 0.0, lambda x: np.exp(-x)),
    "exp(x * 2 + 1)": (3, 0.0, lambda x: np.exp(x * np.float32(2) + ONE)),
    "tanh(x / 2)": (2, 0.0, lambda x: np.tanh(x / 2)),
    "1 / (1 + exp(x))": (4, 2.0**-127, lambda x: 1 / (1 + np.exp(x))),
    "reciprocal(1 + exp(-x))": (4, 2.0**-127, lambda x: np.reciprocal(1 + np.exp(-x))),
    "x * (1 / (1 + exp(-x)))": (4, 2.0**-120, lambda x: x * (1 / (1 + np.exp(-x)))),
    "1 / sqrt(x)": (2, 0.0, lambda x: 1 / np.sqrt(x)),
    "x / sqrt(x)": (3, 0.0, lambda x: x / np.sqrt(x)),
    "1 / x**2": (3, 0.0, lambda x: 1 / x**2),
    "x**3": (2, 0.0, lambda x: x**3),
    "x**4": (3, 0.0, lambda x: x**4),
    "x**-2": (3, 0.0, lambda x: x**-2),
    "x**-3": (3, 0.0, lambda x: x**-3),
    "x**0.5": (2, 0.0, lambda x: x**HALF),
    "x**-0.5": (2, 0.0, lambda x: x**-HALF),
    "(x * x)**-0.5": (3, 0.0, lambda x: (x * x) ** -HALF),
    "1 / exp(x)": (4, 0.0, lambda x: 1 / np.exp(x)),
    "1 / tanh(x)": (3, 0.0, lambda x: 1 / np.tanh(x)),
    "x / (1 + abs(x))": (3, 0.0, lambda x: x / (1 + np.abs(x))),
    "log(exp(x))": (6, 1e-6, lambda x: np.log(np.exp(x))),
}


def compare(fn, args, limit=0, absolute=0.0):
    with np.errstate(all="ignore"):
        want = fn(*args)
    got = nkigen.compile(fn, *args, cache=False)(*args)
    many = isinstance(want, tuple)
    for g, w in zip(got if many else [got], want if many else [want], strict=True):
        off = ulps(np.asarray(g), np.asarray(w), Bound(limit, absolute=absolute))
        i = off.argmax()
        assert off[i] <= limit, (off[i], [a[i] for a in args], g[i], w[i])


F32 = FLOATS["f32"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", UNARY)
def test_one_operand(name):
    compare(UNARY[name], [special_values(F32)])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BINARY)
def test_two_operands(name):
    compare(BINARY[name], pairs(special_values(F32)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BINARY)
def test_a_row_and_a_column(name):
    """The second operand one number per row: a scalar of the instruction."""
    values = special_values(F32)
    x = np.broadcast_to(values, (values.size,) * 2).copy()
    y = values[:, None]
    fn = BINARY[name]
    with np.errstate(all="ignore"):
        want = fn(x, y)
    got = nkigen.compile(fn, x, y, cache=False)(x, y)
    off = ulps(got.ravel(), want.ravel(), Bound(0))
    i = np.unravel_index(off.argmax(), got.shape)
    assert off.max() == 0, (x[i], y[i[0]], got[i], want[i])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NEAR)
def test_near(name):
    limit, absolute, fn = NEAR[name]
    compare(fn, [special_values(F32)], limit, absolute)


@pytest.mark.filterwarnings("ignore")
def test_a_quotient_by_a_logistic_term_is_no_product():
    """Where exp overflows NumPy has 0, whatever the numerator."""
    x = np.float32([1e38, 1.0, 1e38, np.inf])
    y = np.float32([90, 90, 100, 95])

    def fn(x, y):
        return x / (1 + np.exp(y))

    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(nkigen.compile(fn, x, y)(x, y), fn(x, y))


@pytest.mark.filterwarnings("ignore")
def test_a_quotient_by_an_exponential():
    x = np.float32([1, 0.1, 1e-5, 1, 0, -1, 1e38, np.inf, np.inf, 1])
    y = np.float32([-90, -90, -95, -110, -110, -110, 89, 89, -89, np.inf])

    def fn(x, y):
        return x / np.exp(y)

    with np.errstate(all="ignore"):
        want = fn(x, y)
    np.testing.assert_allclose(nkigen.compile(fn, x, y)(x, y), want, rtol=2e-3)
