"""Rows that are too long for a partition: computed in pieces, and no slower for it."""

import ml_dtypes
import numpy as np
import pytest

import nkigen

TARGETS = ["trn1", "trn2"]


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def layernorm(x, g, b):
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5) * g + b


def added(x, b):
    return x + b


def logits(x, w, b):
    return softmax(x @ w + b)


def scaled_product(x, w, s):
    return x @ (w * s)


def several(x, b):
    """Results of all kinds: long, short, by columns, of everything."""
    d = np.exp(x) - b
    return d, d.max(1), d.sum(0), (d * x).sum(), d.T


def masked(x, c):
    return np.where(x > c, x, 0).sum(-1), (x == x.min(-1, keepdims=True)).astype(
        np.float32
    ).sum(-1)


CASES = [
    ("one more than fits", added, [(64, 16385), (16385,)], "f4"),
    ("a prime", added, [(131, 16411), (16411,)], "f4"),
    ("softmax", softmax, [(65, 20011)], "f4"),
    ("softmax, bf16", softmax, [(65, 33001)], "bf16"),
    ("softmax read twice", softmax, [(64, 50021)], "f4"),
    ("softmax of few rows", softmax, [(5, 16421)], "f4"),
    ("layernorm of few rows", layernorm, [(7, 16384), (16384,), (16384,)], "f4"),
    ("softmax, 3-d", softmax, [(3, 43, 16411)], "f4"),
    ("layernorm", layernorm, [(66, 16500), (16500,), (16500,)], "f4"),
    ("wide product with bias", logits, [(70, 40), (40, 20011), (20011,)], "f4"),
    (
        "wide product of a computed factor",
        scaled_product,
        [(70, 66), (66, 16411), (16411,)],
        "f4",
    ),
    ("several results", several, [(64, 16387), (16387,)], "f4"),
    ("masked", masked, [(64, 16411), (64, 1)], "f4"),
    (
        "words",
        lambda x, b: ((x + b).sum(1), (x - b).min(0)),
        [(64, 16411), (16411,)],
        "i4",
    ),
]


def arrays(rng, shapes, dtype):
    if dtype == "i4":
        return [rng.integers(-1000, 1000, s).astype(np.int32) for s in shapes]
    dt = ml_dtypes.bfloat16 if dtype == "bf16" else np.float32
    return [rng.standard_normal(s).astype(dt) for s in shapes]


@pytest.mark.parametrize(("name", "fn", "shapes", "dtype"), CASES)
@pytest.mark.parametrize("target", TARGETS)
def test_pieces_compute_what_numpy_does(rng, name, fn, shapes, dtype, target):
    args = arrays(rng, shapes, dtype)
    k = nkigen.compile(fn, *args, target=target, cache=False)
    assert k.verify() == []
    wide = [
        a.astype(np.float32) if dtype == "bf16" else a for a in args
    ]  # NumPy rounds each term
    got, want = k(*args), fn(*wide)
    for a, b in zip(
        *(([r] if isinstance(r, np.ndarray) else r) for r in (got, want)), strict=True
    ):
        if dtype == "i4":
            np.testing.assert_array_equal(a, b)
        else:
            tol = 2e-2 if dtype == "bf16" else 2e-4
            scale = np.abs(np.asarray(b, np.float64)).max()
            np.testing.assert_allclose(
                np.asarray(a, np.float64),
                np.asarray(b, np.float64),
                rtol=tol,
                atol=tol * scale * 1e-1,
            )


@pytest.mark.parametrize("name", ["a prime", "softmax"])
def test_every_stage_agrees(rng, name):
    _, fn, shapes, dtype = next(c for c in CASES if c[0] == name)
    args = arrays(rng, shapes, dtype)
    k = nkigen.compile(fn, *args, target="trn2", check="every-pass", cache=False)
    np.testing.assert_allclose(k(*args), fn(*args), rtol=2e-4, atol=1e-5)


#: a row that fits, one that does not, by how much the second may take longer per element
PAIRS = [
    (softmax, [(128, 16384)], [(128, 32000)], 1.5),
    (softmax, [(128, 16384)], [(128, 65536)], 1.8),
    (softmax, [(8, 8192)], [(8, 16384)], 1.0),
    (layernorm, [(16, 8192), (8192,), (8192,)], [(8, 16384), (16384,), (16384,)], 1.5),
    (added, [(128, 16384), (16384,)], [(128, 16512), (16512,)], 1.5),
    (added, [(1024, 16384), (16384,)], [(1024, 32000), (32000,)], 1.5),
    (layernorm, [(128, 8192), (8192,), (8192,)], [(128, 16384)] + [(16384,)] * 2, 1.5),
    (layernorm, [(128, 8192), (8192,), (8192,)], [(128, 32000)] + [(32000,)] * 2, 1.8),
]


@pytest.mark.parametrize("target", ["trn1", "trn2"])
@pytest.mark.parametrize(("fn", "near", "far", "bar"), PAIRS)
def test_a_row_that_outgrows_the_chip_is_no_cliff(fn, near, far, bar, target):
    us = [
        nkigen.compile(
            fn, *[(s, "f32") for s in shapes], target=target, cache=False
        ).cost.time_us
        / np.prod(shapes[0], dtype=float)
        for shapes in (near, far)
    ]
    assert us[1] <= bar * us[0]


def test_a_row_that_fits_is_read_once():
    for shape, target in (
        ((128, 32000), "trn2"),
        ((64, 50021), "trn2"),
        ((128, 32000), "trn1"),
    ):
        k = nkigen.compile(softmax, (shape, "f32"), target=target, cache=False)
        assert k.cost.hbm_ratio == 1.0, (shape, target)
    k = nkigen.compile(softmax, ((128, 65536), "f32"), target="trn2", cache=False)
    # read for the maximum, for the sum, and for the result; parts of exponentials go out and in again
    assert k.cost.hbm_ratio <= 2.5


def test_the_text_does_not_grow_with_the_row():
    counts = [
        len(
            str(
                nkigen.compile(
                    softmax, ((128, n), "f32"), optimize="fast", cache=False
                ).stages["tilable"]
            ).splitlines()
        )
        for n in (1 << 18, 1 << 19)
    ]
    assert counts[1] <= counts[0] + 2


def test_words_keep_their_dtype_in_steps(rng):
    x = rng.integers(-9, 9, (3, 40009)).astype(np.int32)
    k = nkigen.compile(lambda x: x.sum(1), x, cache=False)
    np.testing.assert_array_equal(k(x), x.sum(1))
