"""Each of Python's own allocations fails once inside of the C module: MemoryError, nothing lost.

CPython's _testcapi lets one allocation fail, whoever asks for it. Functions of NumPy that
forget to set an exception then (numpy.where does) are left out.
"""

import functools

import numpy as np
import pytest

import nkigen
from nkigen import _core, buffers
from nkigen.errors import NkigenError

_testcapi = pytest.importorskip("_testcapi")

f = np.float32
X = np.linspace(0.5, 1, 8, dtype=f).reshape(2, 4)


def chain(x, y):
    return np.exp(x) * y + 1, (x > y) & (x > 2)


def moves(x, y):
    z = np.concatenate([x, y[::-1, ::2].repeat(2, 1)]).T
    return z.reshape(2, 8)[:, 1:7], np.tile(z, (1, 2)), z.sum(0), x @ y.T


def writes(x, y):
    x[0, 1:3] += y[1, :2]
    z = (y * 2).T
    z[1:] = x[0, 0]
    z -= 1
    return z.reshape(-1), y.copy()


def wrong(x, y):
    try:
        return x @ y
    except NkigenError as e:
        return x * len(str(e))


@functools.cache
def programs():
    k = nkigen.compile(chain, X, X, cache=False)
    return k.tensor_ir, k.tile_ir


def look():
    for p in programs():
        _ = str(p), repr(p), p.inputs, p.outputs, p.aliases, p.verify()
    return p.cost(), p.nki(), programs()[0].intervals()


def session(fn, target=None):
    """A kernel by hand: the Python package is not part of it."""

    def job():
        s = _core.Session(fn.__name__)
        try:
            out = fn(s.input("x", "f32", (2, 4)), s.input("y", "f32", (2, 4)))
            s.finish(out if isinstance(out, tuple) else (out,))
        finally:
            s.close()
        if target:
            s.compile(target, "warn", None)
            _ = s.stages, s.cost, s.warnings
        return s.program, s.changed, s.nbytes

    return job


JOBS = {
    "parse": lambda: [nkigen.parse(str(p)) for p in programs()],
    "look": look,
    "run": lambda: [p.run(X, X) for p in programs()],
    "chain": session(chain, "trn2"),
    "moves": session(moves),
    "writes": session(writes, "trn1"),
    "wrong": session(wrong),
    "tables": lambda: (_core.op_table("tile"), _core.targets(), _core.np_dtype("bf16")),
    "pass": lambda: _core.run_pass("canonicalize", str(programs()[0]), "trn2"),
}
ENOUGH = 40  # runs in a row that need no more allocations


@pytest.mark.parametrize("name", JOBS)
def test_each_allocation(name):
    job = JOBS[name]
    job()
    n = good = failed = 0
    while good < ENOUGH:
        _testcapi.set_nomemory(n, n + 1)
        try:
            job()
            good += 1
        except MemoryError:
            good, failed = 0, failed + 1
        finally:
            _testcapi.remove_mem_hooks()
        n += 1
    assert failed > 5
    job()


def test_numpy_stays_when_a_trace_cannot_begin(monkeypatch):
    """All of numpy's functions are replaced while a trace runs, or none is."""
    originals = {k: getattr(np, k) for k in ("zeros", "array", "full", "asarray")}

    def fails(name, original):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(buffers, "_converter", fails)
        with pytest.raises(KeyboardInterrupt):
            nkigen.trace(chain).graph(X, X)
    assert all(getattr(np, k) is v for k, v in originals.items())

    def fills(x):
        buf = np.zeros((2, 4), f)
        buf[0] = x[1]
        return buf

    assert nkigen.trace(fills).graph(X).run(X)[0].tolist() == X[1].tolist()
    assert all(getattr(np, k) is v for k, v in originals.items())
