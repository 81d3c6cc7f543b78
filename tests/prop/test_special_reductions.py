"""Reductions, products and data movement on special values."""

import itertools

import numpy as np
import pytest

import nkigen
from nkigen.accuracy import FLOATS, special_values

FEW = [0.0, -0.0, 1.0, -2.5, 1e-40, 1e38, -1e38, np.inf, -np.inf, np.nan]
TARGETS = ("trn1", "trn2", "trn3")


def rows(dtype):
    """All triples of a few special values, one per row."""
    with np.errstate(all="ignore"):
        return np.array(list(itertools.product(FEW, repeat=3))).astype(dtype)


def same(got, want):
    assert got.dtype == want.dtype and got.shape == want.shape
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got[~nan], want[~nan])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [0, 1])
def test_extremes(dtype, target, axis):
    x = rows(FLOATS[dtype])
    x = x if axis == 1 else x.T.copy()

    def fn(x):
        return x.max(axis=axis), x.min(axis=axis), x.any(axis=axis), x.all(axis=axis)

    got = nkigen.compile(fn, x, target=target, cache=False)(x)
    for g, w in zip(got, fn(x), strict=True):
        if w.dtype == bool:
            np.testing.assert_array_equal(g, w)
        else:
            same(g, w)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis", [0, 1])
def test_sums(target, axis):
    """Of three f32 in any order: infinities and nan as in NumPy, the rest to the rounding."""
    x = rows(np.float32)
    x = x if axis == 1 else x.T.copy()
    for fn in (lambda x: x.sum(axis=axis), lambda x: x.mean(axis=axis)):
        got, want = nkigen.compile(fn, x, target=target, cache=False)(x), fn(x)
        plain = np.isfinite(want) & np.isfinite(got)  # 1e38 * 3 may overflow on the way
        wide = np.abs(x.astype(np.float64)).sum(axis=axis)
        sure = ~np.isfinite(wide) | (wide < 3e38)
        same(got[sure & ~plain], want[sure & ~plain])
        off = np.abs(got.astype(np.float64) - want.astype(np.float64))
        assert (off[plain] <= 1e-6 * wide[plain]).all()


def moves(x):
    wide = x.reshape(-1, 4)
    return (
        x[::-1],
        wide.T,
        np.concatenate([wide, wide[::-1]], axis=1),
        np.broadcast_to(x[:5], (3, 5)),
        np.tile(wide, (1, 2)),
        wide[::2, 1::2],
        np.where(np.ones(x.shape, bool), x, x[::-1]),
        np.roll(x, 3),
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_moves(dtype, target):
    """Every bit, the payload of nan included."""
    x = special_values(FLOATS[dtype])
    x = x[: x.size // 4 * 4]
    for got, want in zip(
        nkigen.compile(moves, x, target=target)(x), moves(x), strict=True
    ):
        np.testing.assert_array_equal(
            got.view(f"u{x.itemsize}"), want.view(f"u{x.itemsize}")
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pair", list(itertools.permutations(FLOATS, 2)), ids="-".join)
def test_casts(pair):
    source, to = (FLOATS[p] for p in pair)
    x = special_values(source)
    with np.errstate(all="ignore"):
        want = x.astype(to)
    got = nkigen.compile(lambda x: x.astype(to), x, cache=False)(x)
    same(got, want)
    zero = want == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", FLOATS)
def test_to_integers(dtype):
    """Truncated where i32 holds the number; beyond the device saturates, and nan is 0."""
    x = special_values(FLOATS[dtype])
    got = nkigen.compile(lambda x: x.astype(np.int32), x, cache=False)(x)
    wide = np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0)
    want = np.clip(wide, -(2.0**31), 2.0**31 - 1).astype(np.int32)
    np.testing.assert_array_equal(got, want)
    flags = nkigen.compile(lambda x: x.astype(bool), x, cache=False)(x)
    np.testing.assert_array_equal(flags, x.astype(bool))
