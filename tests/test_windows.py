"""Shifted views of one array are read once, with what lies around a tile's rows."""

import ml_dtypes
import numpy as np
import pytest

import nkigen
from nkigen import cliffs


def laplace(x):
    return x[1:-1, 1:-1] * -4 + x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]


def smooth(x):
    return (x[:-4] + 4 * x[1:-3] + 6 * x[2:-2] + 4 * x[3:-1] + x[4:]) * 0.0625


def box3(x):
    parts = [
        x[i : i + x.shape[0] - 1, j : j + x.shape[1] - 1]
        for i in (0, 1)
        for j in (0, 1)
    ]
    return np.maximum(np.maximum(parts[0], parts[1]), np.maximum(parts[2], parts[3]))


CASES = [
    ("box", cliffs.stencil, [(1026, 262)], np.float32),
    ("box, ragged", cliffs.stencil, [(787, 131)], np.float32),
    ("five points", laplace, [(1300, 90)], np.float32),
    ("along a line", smooth, [(70001,)], np.float32),
    ("differences", lambda x: x[1:] - x[:-1], [(2049, 33)], np.float32),
    (
        "differences of columns",
        lambda x: x[:, 1:] - x[:, :-1],
        [(1025, 65)],
        np.float32,
    ),
    ("differences of words", lambda x: x[1:] - x[:-1], [(50001,)], np.int32),
    ("pairs of rows", lambda x: x[::2] + x[1::2], [(2000, 50)], np.float32),
    ("four of a square", box3, [(1001, 77)], np.float32),
    ("planes", lambda x: x[1:, :-1] - x[:-1, 1:], [(7, 1100, 20)], np.float32),
    (
        "halves",
        lambda x: (x[2:] + x[1:-1] + x[:-2]).astype(np.float32),
        [(3002, 40)],
        ml_dtypes.bfloat16,
    ),
    (
        "with others",
        lambda x, y: np.exp(x[1:] * 0.1) * y + x[:-1],
        [(1501, 40), (1500, 1)],
        np.float32,
    ),
    (
        "sums of shifted rows",
        lambda x: (x[1:] * x[:-1]).sum(1),
        [(1401, 60)],
        np.float32,
    ),
    (
        "far apart",
        lambda x: x[: x.shape[0] // 2] + x[x.shape[0] // 2 :],
        [(4000, 40)],
        np.float32,
    ),
    (
        "of computed ones",
        lambda x: np.abs(x)[1:] + np.abs(x)[:-1],
        [(1201, 50)],
        np.float32,
    ),
]


@pytest.mark.parametrize(("name", "fn", "shapes", "dtype"), CASES)
@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_shifted_views_compute_what_numpy_does(rng, name, fn, shapes, dtype, target):
    args = [(rng.standard_normal(s) * 10).astype(dtype) for s in shapes]
    k = nkigen.compile(fn, *args, target=target, cache=False)
    assert k.verify() == []
    tol = 2e-2 if dtype == ml_dtypes.bfloat16 else 1e-4
    np.testing.assert_allclose(k(*args), fn(*args), rtol=tol, atol=tol)


@pytest.mark.parametrize(
    ("fn", "shape", "most"),
    [
        (cliffs.stencil, (1026, 1026), 1.3),
        (smooth, (1 << 20,), 1.02),
        (laplace, (2050, 514), 1.6),
    ],
)
def test_neighbours_come_from_the_same_tile(fn, shape, most):
    assert nkigen.compile(fn, (shape, "f32"), cache=False).cost.hbm_ratio <= most


def test_every_stage_agrees(rng):
    x = rng.standard_normal((515, 70)).astype(np.float32)
    k = nkigen.compile(laplace, x, check="every-pass", cache=False)
    np.testing.assert_allclose(k(x), laplace(x), rtol=1e-4, atol=1e-5)
