"""Long axes the other way round: one move, every bit as it was."""

import ml_dtypes
import numpy as np
import pytest

import nkigen

CASES = [
    ("columns", lambda x: x[..., ::-1], (16, 8191), np.float32),
    ("one row", lambda x: x[::-1], (100003,), np.float32),
    ("few rows", lambda x: x[..., ::-1], (3, 5001), np.int32),
    ("many rows", lambda x: x[..., ::-1], (131, 4098), np.int16),
    ("rows and columns", lambda x: x[::-1, ::-1], (129, 9001), np.float32),
    ("in the middle", lambda x: x[:, ::-1], (5, 4001, 3), np.int8),
    ("in the middle, long", lambda x: x[:, ::-1], (3, 700, 170), np.float32),
    ("all of three", lambda x: x[::-1, ::-1, ::-1], (11, 7, 2050), np.float32),
    ("bytes", lambda x: x[::-1], (70001,), np.bool_),
    ("of a slice", lambda x: x[3:-5, ::-1], (40, 6000), np.float32),
    ("every second", lambda x: x[::-2], (60001,), np.float32),
    ("read on", lambda x: np.abs(x[::-1]) + x, (40000,), np.float32),
    (
        "halves",
        lambda x: x[..., ::-1].astype(np.float32),
        (9, 9000),
        ml_dtypes.bfloat16,
    ),
    ("of computed ones", lambda x: np.maximum(x, 0)[::-1], (30011,), np.float32),
]


@pytest.mark.parametrize(("name", "fn", "shape", "dtype"), CASES)
@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_flips_move_every_element(rng, name, fn, shape, dtype, target):
    x = (rng.standard_normal(shape) * 100).astype(dtype)
    k = nkigen.compile(fn, x, target=target, cache=False)
    assert k.verify() == []
    np.testing.assert_array_equal(k(x), fn(x))


def test_undefined_bits_survive():
    x = np.arange(1 << 16, dtype=np.uint32).view(np.float32).copy()
    x[::3] = np.float32("inf")
    x.view(np.uint32)[1::3] = 0x7FC00123 + np.arange(len(x[1::3]), dtype=np.uint32)
    k = nkigen.compile(lambda x: x[::-1], x, target="trn2", cache=False)
    np.testing.assert_array_equal(k(x).view(np.uint32), x[::-1].view(np.uint32))


@pytest.mark.parametrize(
    "shape", [(1 << 17,), (100003,), (16, 65536), (128, 32768), (37, 40000)]
)
def test_a_flip_reads_and_writes_once(shape):
    k = nkigen.compile(lambda x: x[..., ::-1], (shape, "f32"), cache=False)
    assert k.cost.hbm_ratio == 1.0
