"""Copies in an order: what is a view of them, and what a write through it changes, is as in NumPy."""

import numpy as np
import pytest

import nkigen

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)

COPIES = {
    "method": lambda x, order: x.copy(order=order),
    "function": lambda x, order: np.copy(x, order=order),
    "transposed": lambda x, order: x.T.copy(order),
    "converted": lambda x, order: x.astype(np.int32, order=order),
    "dtype kept": lambda x, order: x.T.astype(np.float32, order, copy=True),
    "only if needed": lambda x, order: x.T.astype(np.float32, order, copy=False),
    "row": lambda x, order: x[0, 0].astype(np.float32, order=order, copy=False),
    "array": lambda x, order: np.array(x, order=order),
}
WRITES = {
    "flat": lambda y: y.reshape(-1),
    "flat of transposed": lambda y: y.T.reshape(-1),
    "in memory": lambda y: y.ravel("K"),
    "fortran": lambda y: y.ravel("F"),
    "last axes": lambda y: y.reshape(y.shape[:1] + (-1,)),
}


@pytest.mark.parametrize("order", "CFAK")
@pytest.mark.parametrize("name", COPIES)
def test_views_of_copies(name, order):
    for view in WRITES.values():

        def kernel(x):
            y = COPIES[name](x, order)
            z = view(y)
            z[1:] += 1
            return y, z, (y * 2).ravel("K"), x

        got, want = nkigen.trace(kernel).graph(X).run(X.copy()), kernel(X.copy())
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype and np.array_equal(a, b)


@pytest.mark.parametrize("order", "CFAK")
@pytest.mark.parametrize("name", COPIES)
def test_strides_of_copies(name, order):
    seen = []
    nkigen.trace(lambda x: (seen.append(COPIES[name](x, order).strides), x)[1]).graph(X)
    assert seen == [COPIES[name](X, order).strides]
