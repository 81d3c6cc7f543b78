"""What is called again and again keeps nothing: neither objects of Python's nor the C core's memory.

Every entry point of the C module, every member of a traced array, operators and functions of NumPy with arguments that
they take and with such that they refuse, kernels that fail, calls that work and calls that are refused. A job that
runs N times may leave caches behind, which do not grow with N; what is lost in each run does.
"""

import contextlib
import ctypes
import gc
import operator
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import nkigen
from nkigen import _core

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("errors", "ext", "ops")]

import test_errors  # noqa: E402
from test_failing_python import JOBS  # noqa: E402
from test_surface import ARGUMENTS, FORMS, MODULES, OPERATORS, OTHERS, functions  # noqa: E402

SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")  # keeps what is freed
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.skipif(SANITIZED, reason="not malloc's own heap")]

f = np.float32
X = np.linspace(0.5, 1, 8, dtype=f).reshape(2, 4)
TIMES, ROUNDS = 24, 30


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """What was there before is not looked through by every gc.collect()."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Mallinfo(ctypes.Structure):
    _fields_ = [(n, ctypes.c_size_t) for n in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks".split()]
    _fields_ += [("fordblks", ctypes.c_size_t), ("keepcost", ctypes.c_size_t)]


try:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo
except AttributeError:  # not glibc: objects alone are counted
    mallinfo2 = Mallinfo


def heap():
    """Bytes that malloc has given away."""
    info = mallinfo2()
    return info.uordblks + info.hblkhd


def lost(job, times=TIMES):
    """(objects, bytes of the C heap) that each run loses. Caches fill up and are full at last, a loss goes on."""
    gc.collect()
    for _ in range(ROUNDS):
        objects, used = sys.getallocatedblocks(), heap()
        for _ in range(times):
            job()
        gc.collect()
        found = (sys.getallocatedblocks() - objects + times // 4) // times, (heap() - used) // times
        if found[0] <= 0 and found[1] < 16:  # malloc gives no less
            return 0, 0
    return found


def quietly(fn, *args):
    with contextlib.suppress(Exception):
        fn(*args)


def traced(job, times=8):
    """What a job with a traced array loses in one trace; the graph itself grows, so bytes do not count."""
    s = _core.Session("f")
    x = s.input("x", "f32", (2, 2))
    try:
        return lost(lambda: quietly(job, x), times)[0]
    finally:
        s.close()


@pytest.mark.skipif(mallinfo2 is Mallinfo, reason="not glibc")
def test_the_measure_sees_a_loss():
    kept = []
    assert lost(lambda: kept.append(object()))[0] == 1
    assert lost(lambda: kept.append(ctypes.create_string_buffer(4000)))[1] >= 4000
    assert lost(lambda: [object()] * 100) == (0, 0)


@pytest.mark.parametrize("name", JOBS)
def test_entry_points(name):
    assert lost(JOBS[name], 12) == (0, 0)


def test_arguments_keep_their_counts():
    """The objects that are handed over have as many references afterwards."""
    k = nkigen.compile(lambda x, w: (x @ w, x.sum(0)), X, X.T, cache=False)
    program, arrays = k.stages["trace"], [X.copy(), X.T.copy(), X[::-1], np.ones((3, 3), f), np.array("a")]
    counts = [sys.getrefcount(a) for a in arrays]
    for a in arrays:
        for b in arrays:
            for job in (k, k.reference, program.run, k.tile_ir.run, program.brief, _core.parse, _core.dtype_name):
                quietly(job, a, b)
                quietly(job, a)
    del a, b
    gc.collect()  # exceptions and their frames
    assert [sys.getrefcount(a) for a in arrays] == counts


@pytest.mark.parametrize("name", sorted(n for n in dir(np.ndarray) if not n.startswith("__")))
def test_members(name):
    for args in ARGUMENTS:
        member = operator.attrgetter(name)
        assert traced(lambda x: member(x)(*args)) == 0, args
    assert traced(lambda x: setattr(x, name, x)) == 0


@pytest.mark.parametrize("symbol", OPERATORS)
def test_operators(symbol):
    op = OPERATORS[symbol]
    for name, other in OTHERS.items():
        assert traced(lambda x: op(x, other)) == 0, name
        assert traced(lambda x: op(other, x)) == 0, name
        assert traced(lambda x: operator.setitem(x, 0, other)) == 0, name


@pytest.mark.parametrize("module", MODULES)
def test_functions(module, capsys):
    for name, fn in functions(module).items():
        for i, form in enumerate(FORMS[:5]):
            assert traced(lambda x: form(fn, x), 3) == 0, (name, i)


@pytest.mark.parametrize("name", sorted(test_errors.CASES))
def test_kernels_that_fail(name, tmp_path):
    source, shapes, *_ = test_errors.CASES[name]
    fn, _ = test_errors.function_of(tmp_path, source)
    specs = [(s, "f32") for s in shapes]
    assert lost(lambda: quietly(lambda: nkigen.compile(fn, *specs, cache=False)), 12) == (0, 0)


KERNEL = nkigen.compile(lambda x, w: np.exp(x) @ w, X, X.T)
CALLS = {
    "right": (X, X.T), "converted": (X.astype(">f4"), X.T.copy()), "count": (X,), "dtype": (X, X.T.astype(complex)),
    "shape": (X, X), "list": (X.tolist(), X.T), "ragged": ([[1], [1, 2]], X.T), "object": (object(), X.T),
    "masked": (np.ma.array(X), X.T), "f64 beyond": (X, X.T.astype(float) * 1e300), "many": (X, X, X), "none": (None, X.T),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    for run in (KERNEL, KERNEL.reference, KERNEL.stages["trace"].run, KERNEL.tile_ir.run):
        assert lost(lambda: quietly(run, *CALLS[name])) == (0, 0)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads cannot be counted")
def test_threads_end_with_the_run():
    a = np.ones((256, 512), f)
    k = nkigen.compile(lambda a, b: a @ b + a @ (b * 2), a, np.ones((512, 1024), f), cache=False)
    k(a, np.ones((512, 1024), f))
    before = len(os.listdir("/proc/self/task"))
    for _ in range(3):
        k(a, np.ones((512, 1024), f))
    assert len(os.listdir("/proc/self/task")) == before
