"""Operands of fewer dims, with ones in them, whose other dims happen to be as long as dims of the result elsewhere."""

import random

import numpy as np
import pytest

import nkigen


def shapes(seed):
    """The shape of a result and those of operands that broadcast to it."""
    r = random.Random(seed)
    full = [r.choice([2, 3, 5]) for _ in range(r.randint(3, 5))]
    small = [[n if r.random() < 0.5 else 1 for n in full[len(full) - k :]] for k in (r.randint(1, len(full) - 1), len(full))]
    return full, *small


@pytest.mark.parametrize("seed", range(40))
def test_sums_and_products(seed):
    full, short, same = shapes(seed)
    x, y, z = (np.arange(np.prod(s), dtype=np.float32).reshape(s) + i for i, s in enumerate((full, short, same)))
    for fn in (lambda x, y, z: x * y - z, lambda x, y, z: (x - y) * (z - y), lambda x, y, z: np.maximum(x - y.sum(-1, keepdims=True), z)):
        k = nkigen.compile(fn, x, y, z)
        assert k.verify() == [] and np.array_equal(k(x, y, z), fn(x, y, z))


def test_a_one_where_the_next_dims_agree():
    x = np.arange(2 * 5 * 7 * 5, dtype=np.float32).reshape(2, 5, 7, 5)
    y = np.arange(35, dtype=np.float32).reshape(1, 7, 5)
    z = np.arange(7, dtype=np.float32).reshape(1, 7, 1)
    for fn in (lambda x, y, z: x * y + z, lambda x, y, z: x - z, lambda x, y, z: np.exp(z - x)):
        k = nkigen.compile(fn, x, y, z)
        assert np.allclose(k(x, y, z), fn(x, y, z), rtol=1e-5)
