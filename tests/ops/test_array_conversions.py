"""numpy.array and its kin of traced arrays copy when NumPy does; views that NumPy makes of
arrays of the kernel, by whatever way, see what is written later."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view

import nkigen
from nkigen.errors import NkigenError, ShapeError, TraceError, UnsupportedError

f = np.float32
X = np.arange(24, dtype=f).reshape(4, 6) + 1
numpys_own = np.asarray  # kept under another name before any trace


def kernel_of(text):
    """A kernel of x; b is a new array of its shape."""
    lines = ["def fn(x):", "b = np.zeros((4, 6), np.float32)", *text.split("; ")]
    names = {"np": np, "as_strided": as_strided, "windows": sliding_window_view}
    names["own"] = numpys_own
    exec("\n    ".join(lines), names)
    return names["fn"]


def results(r):
    return r if isinstance(r, tuple) else (r,)


CONVERSIONS = """
y = np.ascontiguousarray(x.T); y += 1; return x, y
y = np.ascontiguousarray(x); y += 1; return x, y
y = np.ascontiguousarray(x[:, :3]); y += 1; return x, y
y = np.ascontiguousarray(x[1:]); y += 1; return x, y
return np.ascontiguousarray(x[0, 0]), np.asfortranarray(x.sum())
y = np.asfortranarray(x); y += 1; return x, y.ravel("K")
y = np.asfortranarray(x.T); y += 1; return x, y
y = np.asarray(x, order="F"); y += 1; return x, y
y = np.asarray(x.T, order="C"); y += 1; return x, y
y = np.asarray(x.T, None, "C"); y += 1; return x, y
y = np.asarray(x, copy=True); y += 1; return x, y
y = np.asarray(x, copy=False); y += 1; return x, y
y = np.asarray(x, np.float16); y += 1; return x, y
y = np.array(x.T, copy=None, order="C"); y += 1; return x, y
y = np.array(x, copy=None); y += 1; return x, y
y = np.array(x, ndmin=3); y[0] += 1; return x, y
y = np.array(x, ndmin=3, copy=None); y[0] += 1; return x, y
return np.array(x, order="F").ravel("K"), np.array(x.T).ravel("K")
return np.array([x[0], x[1]], np.float16), np.array([x[0, 0], 1, 2])
return np.full((3, 2), x[0, 0]), np.full((2, 6), fill_value=x[1], dtype=np.float16)
""".strip().split("\n")

VIEWS = """
w = np.broadcast_to(b, (2, 4, 6)); b[0] = x[0]; return w + 0
w = np.broadcast_arrays(b, np.ones((2, 4, 6)))[0]; b[0] = x[0]; return w + 0
w = np.broadcast_arrays(b, x)[0]; b[0] = x[0]; return w + 0
w = np.broadcast_arrays(x, b)[1]; b[0] = x[0]; return w + 0
w = np.atleast_2d(x, b[0])[1]; w[0] = x[0]; return b
w = as_strided(b, (4, 2), (24, 4)); b[:] = x; return w + 0
w = as_strided(b, (2, 12), (48, 4)); w[0] = x[:2].reshape(-1); return b
w = np.array(b, copy=False); b[1] = x[1]; return w + 0
w = np.array(b.T, copy=None)[1:]; b[1] = x[1]; return w + 0
w = np.asfortranarray(b.T); b[1] = x[1]; return w + 0
w = np.ascontiguousarray(b.T); b[1] = x[1]; return w + b.T
w = np.ascontiguousarray(b[:, 1:]); w[1] = x[1, 1:]; return w, b + 1
w = np.einsum("ij->ji", b); b[1] = x[1]; return w + 0
w = b.view(np.ndarray); b[1] = x[1]; return w + 0
w = b.view(np.ndarray)[1:]; w[0] = x[1]; return b
w = np.diagonal(b); b[1] = x[1]; return w + 0
b[0] = x[0]; b.shape = (24,); b[7] = x[1, 1]; return b
b.fill(x[0, 0]); return b
np.fill_diagonal(b, 3); b[1] = x[1]; return b
w = np.concatenate([b, b]); w[1] = x[1]; return w, b + 0
w = np.tril(np.ones((4, 6), np.float32)); w[1] = x[1]; return w
w = np.where(b == 0, np.float32(1), b); w[1] = x[1]; return w
w = np.tile(b, (2, 1)); w[1] = x[1]; return w
w = np.asarray([[1.0] * 6] * 4, np.float32); w[1] = x[1]; return w
""".strip().split("\n")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("text", CONVERSIONS + VIEWS)
def test_numpy_agrees(text):
    fn, expected_x = kernel_of(text), X.copy()
    expected = results(fn(expected_x))
    kernel = nkigen.compile(fn, X, check="every-pass", cache=False)
    for run in (kernel.reference, kernel):
        x = X.copy()
        for a, e in zip(results(run(x)), expected, strict=True):
            assert a.shape == np.shape(e)
            np.testing.assert_array_equal(a, np.asarray(e, a.dtype))
    np.testing.assert_array_equal(x, expected_x)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("return np.array(x, np.float16, copy=False)", ShapeError, "only be had in this dtype"),
        ("return np.asarray(x.T, order='C', copy=False)", ShapeError, "and order as a copy"),
        ("w = windows(b, 2, 1); b[1] = x[1]; return w + 0", UnsupportedError, "view of this"),
        ("w = b.flat; b[1] = x[1]; return x", NkigenError, "a flatiter on an array"),
        ("w = b[1:].data; b[1] = x[1]; return x", NkigenError, "a memoryview on an array"),
        ("b.setflags(write=False); b[0] = x[0]; return b", ShapeError, "is read-only"),
        ("b.setflags(write=False); np.add(x, 1, out=b); return b", ShapeError, "is read-only"),
        ("w = np.broadcast_to(b, (2, 4, 6)); b[0] = x[0]; w[0] = 1", ShapeError, "is read-only"),
    ],
)
def test_what_a_view_cannot_say_is_refused(text, error, message):
    with pytest.raises(error, match=message):
        nkigen.trace(kernel_of(text)).graph(X)


def test_asarray_under_another_name_is_the_same_array():
    k = nkigen.compile(kernel_of("w = own(b); b[0] = x[0]; return w + 0"), X, cache=False)
    assert np.array_equal(k(X)[0], X[0]) and not np.isnan(k(X)).any()


def test_the_line_of_an_error_is_the_users_through_numpy_and_buffers():
    with pytest.raises(UnsupportedError) as e:
        nkigen.trace(lambda x: np.putmask(np.zeros(6, f), x[0] > 0, x[0])).graph(X)
    assert "test_array_conversions.py" in e.value.filename


def test_an_array_with_traced_elements_is_no_argument():
    kept = []

    def keeps(x):
        kept.append(np.zeros((4, 6), f))
        kept[0][0] = x[0]
        return x

    k = nkigen.compile(keeps, X, cache=False)
    for call in (lambda: k(kept[0]), lambda: nkigen.compile(keeps, kept[0])):
        with pytest.raises(TraceError, match="has traced elements is no argument"):
            call()


def test_round_is_that_of_scalars():
    k = nkigen.compile(lambda x: round(x[0, 1] * f(0.77), 1), X, cache=False)
    assert k(X) == round(X[0, 1] * f(0.77), 1)
    with pytest.raises(TraceError, match="the integer value of a traced array .* use numpy.round"):
        nkigen.trace(lambda x: round(x[0, 1])).graph(X)
