"""Every spelling of an integer index, at every place of a key: NumPy's element, axis and error."""

import itertools

import numpy as np
import pytest

import nkigen

X = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


class Index:
    def __init__(self, i):
        self.i = i

    def __index__(self):
        return self.i


KINDS = {
    "int": int, "int64": np.int64, "uint8": lambda i: np.uint8(i % 3), "0-d": lambda i: np.array(i), "0-d int8": lambda i: np.array(i, np.int8),
    "object": Index, "0-d uint64": lambda i: np.array(i % 3, np.uint64),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_places(name):
    k = KINDS[name]
    keys = [
        k(1), (k(2),), (k(1), k(-2)), (k(0), k(1), k(-1)), (..., k(3)), (k(-1), ...), (k(1), ..., k(2)), (slice(None), k(1)), (k(1), slice(1, 3)),
        (None, k(1)), (k(1), None, k(2)), (slice(0, 2), None, k(1), ..., k(0)), (k(0), k(1), k(2), ...), (..., k(0), k(1), k(2)),
    ]  # fmt: skip
    for key in keys:
        got, want = nkigen.trace(lambda x: x[key] + 0).graph(X).run(X), X[key]
        assert got.shape == want.shape and np.array_equal(got, want), key

        def written(x):
            y = x * 1
            y[key] = 7
            return y

        assert np.array_equal(nkigen.trace(written).graph(X).run(X), written(X)), key


@pytest.mark.parametrize("kinds", itertools.product(["int", "0-d", "object"], repeat=2))
def test_too_many_and_too_large(kinds):
    a, b = (KINDS[k] for k in kinds)
    for key in [(a(0), b(0), a(0), b(0)), (a(0), b(0), ..., a(0), b(0)), (a(3), b(0)), (a(0), b(4)), (a(0), b(-5)), (slice(None),) * 3 + (b(0),)]:
        with pytest.raises(IndexError):
            X[key]
        with pytest.raises(IndexError):
            nkigen.trace(lambda x: x[key]).graph(X)
