"""The child of a fork: kernels run there whatever the parent's threads were doing."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import nkigen
from nkigen import compile as compile_function
from nkigen.trace import trace

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
A = np.random.default_rng(0).standard_normal((512, 512), dtype=np.float32)


def child(call, seconds=30):
    """Run `call` in a fork; its exit code, or -1 when it hangs."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(seconds)
            code = 0 if call() else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return -1 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # 3.12: forks of processes with threads
def test_fork_while_another_thread_runs_the_kernel():
    k = nkigen.compile(lambda a, b: (a @ b) @ b, A, A)
    expected = k(A, A)
    stop, running = threading.Event(), threading.Event()

    def work():
        while not stop.is_set():
            running.set()
            k(A, A)

    def run():
        same = np.array_equal(k(A, A), expected)
        fresh = nkigen.compile(lambda a: a + 1, A, cache=False)
        return same and np.array_equal(fresh(A), A + 1) and k.verify() == [] and str(k.tile_ir) and k.nki()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for t in threads:
        t.start()
    running.wait()
    try:
        assert [child(run) for _ in range(2)] == [0] * 2
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert np.array_equal(k(A, A), expected)


def test_fork_while_the_cache_is_locked():
    module = sys.modules[compile_function.__module__]
    with module._cache_lock:
        assert child(lambda: nkigen.compile(trace(lambda a: a * 3), A)(A) is not None) == 0


def test_fork_in_a_signal_handler_while_the_kernel_runs():
    """Parent and child both go on with the run that was interrupted."""
    source = """
        import os, signal, numpy as np, nkigen
        A = np.random.default_rng(0).standard_normal((1024, 1024), dtype=np.float32)
        k = nkigen.compile(lambda a, b: (a @ b) @ b @ b, A, A)
        expected = k(A, A)
        pids = []
        def fork(*_):
            signal.setitimer(signal.ITIMER_REAL, 0)
            pids.append(os.fork())
        signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        same = np.array_equal(k(A, A), expected)
        if pids and pids[0] == 0:
            os._exit(0 if same and np.array_equal(k(A, A), expected) else 3)
        assert same
        if pids:
            assert os.waitpid(pids[0], 0)[1] == 0
        print("done", len(pids))
    """
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parent,  # not where the sources hide the built package
    )
    assert run.returncode == 0 and run.stdout.startswith("done"), run.stderr
