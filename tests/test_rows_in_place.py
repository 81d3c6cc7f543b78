"""Rows of a partition lie among the dims of a tile as they lie in memory."""

import numpy as np
import pytest

import nkigen


def rope(x, cos, sin):
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


CASES = [
    ("heads in front", rope, [(5, 1024, 16), (1024, 8), (1024, 8)]),
    ("ragged rows", rope, [(3, 1031, 24), (1031, 12), (1031, 12)]),
    ("sums over heads", lambda x: x.sum(0) * 2, [(6, 2048, 12)]),
    ("largest of a head", lambda x, y: x.max(-1) + y, [(6, 1100, 12), (1100,)]),
    ("two dims in front", lambda x, y: np.exp(x) * y, [(2, 3, 1280, 7), (1280, 7)]),
    (
        "rows between strided dims",
        lambda x, y: x[::2, :, 1:5] - y,
        [(6, 1300, 9), (1300, 4)],
    ),
    (
        "all of the head behind a row",
        lambda x, y: x[1:] * y,
        [(4, 1280, 10), (1280, 1)],
    ),
    ("permuted", lambda x, y: x.transpose(1, 0, 2) + y, [(4, 1280, 10), (1280, 1, 10)]),
    ("repeated over heads", lambda x, y: np.maximum(x, y), [(4, 1280, 10), (1280, 10)]),
    (
        "norm of heads",
        lambda x, y: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1) * y,
        [(4, 1290, 32), (1290, 32)],
    ),
]


@pytest.mark.parametrize(("name", "fn", "shapes"), CASES)
@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_every_form_computes_what_numpy_does(rng, name, fn, shapes, target):
    args = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    k = nkigen.compile(fn, *args, target=target, cache=False)
    assert k.verify() == []
    np.testing.assert_allclose(k(*args), fn(*args), rtol=1e-4, atol=1e-5)


def test_runs_of_rows_are_as_long_as_memory_has_them():
    """In each head the rows of a partition are neighbours: 1 KiB, and not 256 bytes, at a time."""
    specs = [(s, "f32") for s in ((16, 1024, 64), (1024, 32), (1024, 32))]
    k = nkigen.compile(rope, *specs, target="trn1", cache=False)
    assert k.cost.engine_us["dma"] < 2 * k.cost.roofline_us
