"""The extension's health: references, allocation failures, module objects, threads."""

import gc
import importlib.util
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import nkigen
from nkigen import _core, workloads

X = np.linspace(-1, 1, 130 * 40, dtype=np.float32).reshape(130, 40)


def softmax_once():
    k = nkigen.compile(workloads.softmax, X, cache=False)
    k(X)
    k.reference(X)
    str(k.tile_ir)
    k.nki()
    k.verify()
    nkigen.parse(str(k.tensor_ir))
    return k


def bad_once():
    for fn in (lambda x: 1 if x else 0, lambda x: x @ np.ones((3, 3), np.float32), lambda x: {x}):
        with pytest.raises(nkigen.errors.NkigenError):
            nkigen.compile(fn, X, cache=False)


def library_once():
    """Python functions of the package between the user's line and the C code."""
    nkigen.compile(lambda x: nkigen.ops.silu(x) + nkigen.ops.gelu(x).mean(0), X, cache=False)
    with pytest.raises(nkigen.errors.NkigenError):
        nkigen.compile(lambda x: nkigen.ops.softmax(x, axis=7), X, cache=False)


@pytest.mark.parametrize("once", [softmax_once, bad_once, library_once])
def test_no_reference_leaks(once):
    watched = [X, X.dtype, workloads.softmax, nkigen.compile, None.__class__]
    for _ in range(3):
        once()
    gc.collect()
    before = [sys.getrefcount(o) for o in watched]
    objects = len(gc.get_objects())
    for _ in range(20):
        once()
    gc.collect()
    assert [sys.getrefcount(o) for o in watched] == before
    assert len(gc.get_objects()) - objects < 20


def test_python_memory_does_not_grow():
    for _ in range(5):
        softmax_once()
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            softmax_once()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()


@pytest.mark.slow  # the sanitizers keep freed memory
def test_native_memory_does_not_grow():
    def resident():
        with open("/proc/self/status") as f:
            return next(int(s.split()[1]) for s in f if s.startswith("VmRSS:"))

    if sys.platform != "linux":
        return
    for _ in range(30):
        softmax_once()
    gc.collect()
    before = resident()
    for _ in range(60):
        softmax_once()
    gc.collect()
    assert resident() - before < 16 * 1024


def test_kernel_is_freed():
    k = softmax_once()
    stage = k.tile_ir
    r = weakref.ref(k)
    del k
    gc.collect()
    assert r() is None
    assert "softmax" in str(stage)  # a stage outlives its kernel


def test_traced_array_does_not_outlive_its_trace():
    kept = []

    def f(x):
        kept.append(x)
        return x + 1

    nkigen.compile(f, X, cache=False)
    with pytest.raises(nkigen.errors.NkigenError):
        kept[0] + 1


def test_results_own_their_memory():
    k = softmax_once()
    y = k(X)
    expected = y.copy()
    del k
    gc.collect()
    assert np.array_equal(y, expected)


def test_failing_allocator():
    """Every allocation of a compile may fail: MemoryError each time, never a crash."""
    failed = 0
    for n in [*range(0, 60), *range(60, 4000, 97)]:
        _core.set_fail_after(n)
        try:
            nkigen.compile(workloads.softmax, X, cache=False)
        except MemoryError:
            failed += 1
        finally:
            _core.set_fail_after(-1)
    assert failed > 10
    softmax_once()


def test_second_module_object():
    spec = importlib.util.spec_from_file_location("nkigen._core", _core.__file__)
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    assert other is not _core
    assert other.TracedArray is not _core.TracedArray
    del other, spec
    gc.collect()
    softmax_once()


def test_threads_compile_and_run():
    expected = softmax_once()(X)
    shared = softmax_once()
    faults = []

    def work():
        try:
            for _ in range(5):
                assert np.array_equal(softmax_once()(X), expected)
                assert np.array_equal(shared(X), expected)
        except Exception as e:
            faults.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert faults == []


def test_the_same_program_every_time():
    texts = {str(softmax_once().tile_ir) for _ in range(3)}
    assert len(texts) == 1


def test_types_cannot_be_made_or_subclassed():
    with pytest.raises(TypeError):
        _core.TracedArray()
    with pytest.raises(TypeError):
        type("Sub", (_core.TracedArray,), {})
