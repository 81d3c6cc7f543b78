"""Owners, views and buffers: references, failing allocations, abandoned traces."""

import gc
import sys

import numpy as np
import pytest

import nkigen
from nkigen import _core
from nkigen.errors import NkigenError

f = np.float32
X = np.linspace(-1, 1, 12, dtype=f).reshape(3, 4)


def writes(c, x):
    y = x.T * 1
    v = y[1:, ::2].reshape(-1)
    v += 1
    y.T[0] = [1, 2, x[0, 0], 4]
    c[1] = y[0, 0]
    buf = np.zeros((3, 4), f)
    part = buf[1:, ::-1]
    buf[0] = x[0]
    part *= x[1:]
    np.add(buf, 1, out=buf)
    np.copyto(buf[2], x[1])
    a, b = np.split(buf, 2, axis=1)
    a += b
    return buf, y, np.broadcast_to(c[0], (2, 4)), buf.sum(0)


def refused():
    for bad in (
        lambda x: x.__setitem__((0, 7), 1),
        lambda x: x.__iadd__(np.ones((2, 3, 4), f)),
        lambda x: np.broadcast_to(x, (2, 3, 4)).fill(1),
        lambda x: np.add(x, 1, out=np.ones(3)),
        lambda x: np.zeros(3).__setitem__(0, x),
    ):
        with pytest.raises(NkigenError):
            nkigen.trace(lambda x, bad=bad: bad(x) or x).graph(X)


def once():
    k = nkigen.compile(writes, X, X, cache=False)
    c = X.copy()
    k(c, X)
    k.reference(c, X)
    refused()


def test_no_reference_leaks():
    watched = [X, X.dtype, writes, np.zeros, np.ndarray, None.__class__]
    for _ in range(3):
        once()
    gc.collect()
    before, objects = [sys.getrefcount(o) for o in watched], len(gc.get_objects())
    for _ in range(10):
        once()
    gc.collect()
    assert [sys.getrefcount(o) for o in watched] == before
    assert len(gc.get_objects()) - objects < 20


def sessions():
    gc.collect()
    return sum(type(o) is _core.Session for o in gc.get_objects())


def test_an_abandoned_trace_is_collected():
    before = sessions()
    session = _core.Session("f")
    x = session.input("x", "f32", (3,))
    v = x[1:]
    v += 1
    assert sessions() == before + 1
    del session, x, v
    assert sessions() == before


def test_failing_allocations():
    """Whichever allocation fails, an error comes and nothing is left behind."""
    failures = 0
    try:
        for n in range(0, 400, 3):
            _core.set_fail_after(n)
            try:
                nkigen.trace(writes).graph(X, X)
            except MemoryError:
                failures += 1
            assert type(np.zeros(1)) is np.ndarray
    finally:
        _core.set_fail_after(-1)
    assert failures
    assert nkigen.trace(writes).graph(X, X).run(X, X)
