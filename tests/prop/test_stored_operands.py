"""A product takes an operand that lies in HBM as it lies there: no tile is turned twice."""

import ml_dtypes
import numpy as np
import pytest

import nkigen

PRODUCTS = [
    ("stationary", lambda a, b: a.T @ b, [(256, 384), (256, 512)]),
    ("ragged", lambda a, b: a.T @ b, [(300, 131), (300, 77)]),
    ("wider than a tile", lambda a, b: a.T @ b + 1, [(130, 700), (130, 70)]),
    ("batch", lambda a, b: a.transpose(0, 2, 1) @ b, [(3, 260, 140), (3, 260, 66)]),
    ("both read it", lambda a, b: (a.T @ b, b.T @ a), [(256, 256), (256, 256)]),
]


def turns(k):
    c = k.cost.instructions
    return c.get("nc_transpose", 0) + c.get("dma_transpose", 0)


@pytest.mark.parametrize("target", ["trn1", "trn2"])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize(("name", "fn", "shapes"), PRODUCTS)
def test_stored_stationary_is_not_turned(rng, name, fn, shapes, dtype, target):
    args = [rng.integers(-4, 5, s).astype(dtype) for s in shapes]  # sums are exact
    k = nkigen.compile(fn, *args, target=target, cache=False)
    assert turns(k) == 0
    results, want = k(*args), fn(*[a.astype(np.float32) for a in args])
    if isinstance(want, np.ndarray):
        results, want = (results,), (want,)
    for got, exact in zip(results, want, strict=True):
        assert got.shape == exact.shape
        np.testing.assert_allclose(got.astype(np.float32), exact, rtol=0 if dtype == np.float32 else 2**-7)



def test_what_is_computed_is_turned_once(rng):
    """A computed operand has its rows on the partitions; the tensor engine turns it there."""
    args = [rng.integers(-4, 5, s).astype(np.float32) for s in [(256, 128), (128, 256)]]
    k = nkigen.compile(lambda a, b: (a + a) @ b, *args, cache=False)
    assert turns(k) == 2
    assert np.array_equal(k(*args), (args[0] + args[0]) @ args[1])
