"""Row maxima and minima that are found by the instruction that writes the row."""

import numpy as np
import pytest

import nkigen

TARGETS = ("trn1", "trn2", "trn3")


def scaled_scores(q, k):
    s = q @ k.T * np.float32(0.25)
    return np.exp(s - np.max(s, axis=-1, keepdims=True))


def both_extremes(q, k):
    s = q @ k.T + np.float32(1)
    return s - np.min(s, axis=-1, keepdims=True), np.max(s, axis=-1)


def per_row(q, k):
    s = q @ k.T * np.sum(q, axis=-1, keepdims=True)
    return s, np.max(s, axis=-1)


def by_heads(q, k):
    s = np.reshape(q @ k.T * np.float32(2), (q.shape[0], 2, -1))
    return s - np.max(s, axis=-1, keepdims=True)


def elementwise(q, k):
    y = q * np.float32(3)
    return y - np.max(y, axis=-1, keepdims=True), np.exp(q)


@pytest.mark.parametrize("fn", (scaled_scores, both_extremes, per_row, by_heads, elementwise))
@pytest.mark.parametrize("shape", ((300, 200, 40), (130, 2500, 64), (7, 4098, 16), (513, 129, 30)), ids=str)
@pytest.mark.parametrize("target", TARGETS)
def test_extremes_of_products_and_rows(fn, shape, target):
    rows, keys, depth = shape
    rng = np.random.default_rng(3)
    q = rng.standard_normal((rows, depth)).astype(np.float32)
    k = rng.standard_normal((keys + keys % 2, depth)).astype(np.float32)
    kernel = nkigen.compile(fn, q, k, target=target, check="every-pass", cache=False)
    assert kernel.verify() == []
    got, want = kernel(q, k), fn(q.astype(np.float64), k.astype(np.float64))
    for a, b in zip(*((x if isinstance(x, tuple) else (x,)) for x in (got, want)), strict=True):
        assert np.abs(a - b).max() <= 1e-4 * max(1.0, np.abs(b).max())


def test_scores_are_read_from_psum_once():
    """One instruction scales a window and finds its maxima; no pass over the row is left but the exponential."""
    kernel = nkigen.compile(scaled_scores, ((512, 128), "f32"), ((2048, 128), "f32"), optimize="fast")
    counts = kernel.cost.instructions
    assert counts["tensor_scalar_reduce"] >= 4
    text = str(kernel.stages["lower"])
    assert all("[0+128, 0: 2048" not in line for line in text.splitlines() if "tensor_reduce" in line)


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf, -0.0, 1e-40))
def test_special_values_pass_through(value):
    q = np.ones((130, 8), np.float32)
    k = np.ones((256, 8), np.float32)
    q[3, 2], k[5, 1], k[6, 1] = value, value, -value

    def fn(q, k):
        s = q @ k.T * np.float32(1)
        return np.max(s, axis=-1), np.min(s, axis=-1)

    with np.errstate(all="ignore"):
        want = fn(q, k)
        got = nkigen.compile(fn, q, k, cache=False)(q, k)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
