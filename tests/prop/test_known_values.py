"""Rules that hold only for what is known of a value (never negative, never subnormal): right for every input, whether they
match or not."""

import numpy as np
import pytest

import nkigen

f = np.float32
TINY = np.array([1e-45, 3e-39, 1.1e-38, 1.2e-38], f)
X = np.array([0.0, -0.0, 1, -1, 0.25, -3, np.inf, -np.inf, np.nan, 1e-15, -1e-15, 3e8, 80, -80], f)
X = np.stack([X, X[::-1]])

#: the first ones are never negative, the others may be, or may be -0
BASES = {
    "square": lambda x: x * x, "exp": lambda x: np.exp(x), "abs": lambda x: abs(x), "sum": lambda x: (x * x).sum(0),
    "mean": lambda x: np.square(x).mean(1, keepdims=True) + f(1e-5), "scaled": lambda x: abs(x) * f(3), "max": lambda x: abs(x).max(0),
    "min": lambda x: abs(x).min(0), "reciprocal": lambda x: f(1) / np.exp(x), "reshaped": lambda x: abs(x).T.reshape(4, 7),
    "narrow": lambda x: abs(x).astype(np.float16).astype(f), "constant": lambda x: x * 0 + f(2), "at least 1": lambda x: np.maximum(x, f(1)),
    "at least": lambda x: np.maximum(x, f(0)), "at least minus 0": lambda x: np.maximum(x, f(-0.0)), "shifted": lambda x: x * x - f(1),
    "turned": lambda x: abs(x) * f(-2), "times minus 0": lambda x: abs(x) * f(-0.0), "added minus 0": lambda x: x + f(-0.0), "itself": lambda x: x,
    "times": lambda x: abs(x) * x, "log": lambda x: np.log1p(abs(x)) - 1, "clipped": lambda x: np.clip(x, 0, 5), "above": lambda x: f(0) + abs(x),
}  # fmt: skip


def same(got, want, ulps=4):
    """The same special values and signs, others within some units in the last place."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape and got.dtype == want.dtype
    finite = np.isfinite(want)
    assert np.array_equal(np.isnan(got), np.isnan(want)), (got, want)
    rest = ~np.isnan(want)
    assert np.array_equal(np.signbit(got[rest]), np.signbit(want[rest])), (got, want)
    assert np.array_equal(got[rest & ~finite], want[rest & ~finite]), (got, want)
    assert (abs(got[finite].astype(float) - want[finite]) <= ulps * np.spacing(abs(want[finite]))).all(), (got, want)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BASES)
def test_one_by_the_root(name):
    """x ** -0.5 is a reciprocal root where -0 and -inf cannot come."""

    def fn(x):
        return BASES[name](x) ** f(-0.5)

    same(nkigen.compile(fn, X)(X), fn(X))


#: divisors: a reciprocal and a product where they cannot be subnormal
DIVISORS = {
    "root": lambda x, d: np.sqrt(abs(d)), "root cast": lambda x, d: np.sqrt(abs(d)).astype(np.float16).astype(f), "half": lambda x, d: d.astype(np.float16).astype(f),
    "integers": lambda x, d: np.minimum(d, f(1e6)).astype(np.int32).astype(f), "flags": lambda x, d: (d > 1).astype(f), "constant": lambda x, d: f(3) * np.ones_like(x),
    "row": lambda x, d: ROW, "row with a subnormal": lambda x, d: np.where(ROW == 3, f(1e-39), ROW), "row of zeros": lambda x, d: ROW * 0,
    "reshaped": lambda x, d: np.sqrt(abs(d)).reshape(-1)[::-1].reshape(d.shape), "itself": lambda x, d: d, "tiny": lambda x, d: f(2e-39),
    "exponential": lambda x, d: np.exp(d),
}  # fmt: skip
ROW = np.array([1, 3, -7, 1e-30, np.inf, np.nan, 0.5], f)
N = np.array([[1, -5, 0, 1e-30, np.inf, 3e7, 2e-38], [-0.0, 7, 1e-38, np.nan, 1, 1e10, -1]], f)
D = np.array([[2, -3, 5e4, 300.5, 80, 1e-3, 0.25], [1e-39, 1.5, -2e-38, 7, 1e30, -0.0, 9]], f)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DIVISORS)
def test_divisions(name):
    def fn(x, d):
        return x / DIVISORS[name](x, d)

    with np.errstate(all="ignore"):
        want = fn(N, D)
    got = nkigen.compile(fn, N, D)(N, D)
    tiny = abs(want) < np.finfo(f).tiny  # what is below has fewer bits
    same(np.where(tiny, 0, got), np.where(tiny, 0, want))
    assert (abs(got[tiny].astype(float) - want[tiny]) <= 2 * 1.5e-45).all()
