"""Kernels whose module imported numpy's functions by name: the arrays they make are buffers, and the names are put back."""

import contextlib
import functools
import sys
import threading
import types
from numpy import add, array, asarray, copyto, empty, full, ones, zeros
from numpy import zeros as noughts

import numpy as np
import pytest

import nkigen
from nkigen.errors import TraceError

f = np.float32
X = np.arange(12, dtype=f).reshape(3, 4)
NAMES = {n: globals()[n] for n in ("array", "asarray", "empty", "full", "ones", "zeros", "noughts")}


def element_by_element(x):
    b = zeros(3, f)
    for i in range(3):
        b[i] = x[i].sum()
    return b


def accumulated(x):
    b = noughts((3, 4), f)
    b += x
    return add(b, x, out=b) * 2


def copied(x):
    b = empty((3, 4), f)
    copyto(b, x)
    b[0].fill(x[1, 1])
    return b


def made_of_parts(x):
    return array([x[0], x[1] + 1]), full(3, x[1, 2]), asarray([x[2], x[2]]), ones((2, 2), f)


class Layer:
    def __call__(self, x):
        b = ones((4, 3), f)
        b[:] = x.T
        return b

    def method(self, x):
        return self(x) + 1


KERNELS = {
    "elements": element_by_element, "accumulated": accumulated, "copied": copied, "parts": made_of_parts,
    "lambda": lambda x: accumulated(x), "partial": functools.partial(lambda b, x: copied(x) + b, f(1)),
    "object": Layer(), "method": Layer().method, "wrapped": functools.wraps(copied)(lambda x: copied(x)),
}  # fmt: skip


def unchanged():
    return all(globals()[n] is v for n, v in NAMES.items())


@pytest.mark.parametrize("name", KERNELS)
def test_buffers(name):
    fn = KERNELS[name]
    got, want = nkigen.trace(fn).graph(X).run(X), fn(X)
    assert unchanged()
    for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (got, want)), strict=True):
        assert np.array_equal(a, b)


def test_names_are_put_back_after_an_error():
    with pytest.raises(nkigen.NkigenError):
        nkigen.compile(lambda x: zeros(3, f) + x, X, cache=False)
    assert unchanged()
    with pytest.raises(ZeroDivisionError):
        nkigen.compile(lambda x: x / (1 // 0), X, cache=False)
    assert unchanged()


def test_other_threads_make_arrays():
    seen = []

    def kernel(x):
        t = threading.Thread(target=lambda: seen.append(type(zeros(2))))
        t.start()
        t.join()
        seen.append(type(zeros(2)))
        return x + 1

    nkigen.trace(kernel).graph(X)
    assert seen[0] is np.ndarray and issubclass(seen[1], np.ndarray) and seen[1] is not np.ndarray


def test_a_trace_inside_of_a_trace():
    def outer(x):
        inner = nkigen.trace(element_by_element).graph(X)
        b = zeros((3, 4), f)
        b[1] = x[0]
        return b + f(len(inner.ops) > 1)

    assert np.array_equal(nkigen.trace(outer).graph(X).run(X)[1], X[0] + 1)
    assert unchanged()


def test_helpers_of_other_modules_say_what_to_do():
    helper = types.ModuleType("helper")
    exec("from numpy import zeros\ndef fill(x):\n    b = zeros((3, 4), 'f4')\n    b[0] = x[0]\n    return b", vars(helper))
    with pytest.raises(TraceError, match=r"with numpy\.zeros.*called"):
        nkigen.trace(lambda x: helper.fill(x)).graph(X)
    assert helper.zeros is np.zeros


def test_functions_of_numpy_are_kernels_as_they_are():
    names = vars(sys.modules[np.linalg.norm.__module__])
    before = dict(names)
    for fn in (np.exp, np.vstack, np.linalg.matrix_norm):
        with contextlib.suppress(nkigen.NkigenError):
            nkigen.trace(fn).graph(X)
    assert dict(names) == before and unchanged()
