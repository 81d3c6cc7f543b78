"""Moves in blocks: whatever the order and the stride, long runs, and every bit in place."""

import random
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import nkigen

sys.path.insert(0, str(Path(__file__).parents[1]))
import nki_model  # noqa: E402

DTYPES = {
    "f32": np.float32,
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
    "i32": np.int32,
    "u8": np.uint8,
    "bool": np.bool_,
}
#: a copy of as many bytes takes so much less than these may, by the time of the model
MOST = 1.65

WIDE = [
    ((256, 128, 128), (2, 1, 0)),
    ((64, 300, 200), (2, 1, 0)),
    ((64, 256, 256), (0, 2, 1)),
    ((1024, 64, 64), (0, 2, 1)),
    ((64, 256, 256), (1, 2, 0)),
    ((64, 256, 256), (2, 0, 1)),
    ((32, 64, 32, 64), (3, 2, 1, 0)),
    ((16, 16, 16, 32, 32), (0, 3, 4, 1, 2)),
    ((16, 8, 16, 8, 16, 16), (3, 4, 5, 0, 1, 2)),
    ((8, 16, 16, 32, 16, 8), (0, 1, 4, 5, 2, 3)),
]


def bits(x):
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")


def arbitrary(rng, shape, dtype):
    """Any bit pattern, so infinities, negative zeros and in f32 signalling nans too: small
    tiles of narrower floats are f32, where such a nan becomes quiet."""
    raw = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    if dtype == np.bool_:
        return raw[..., 0] > 127
    x = raw.view(dtype)[..., 0]
    return np.where(np.isnan(x), dtype(1), x) if np.dtype(dtype).itemsize == 2 else x


def random_move(rng):
    rank = rng.randint(1, 6)
    most = (70_000, 300, 64, 24, 12, 9)[rank - 1]
    sizes = [n for n in (1, 2, 7, 16, 33) if n <= most]
    shape = tuple(rng.choice([*sizes, rng.randint(1, most)]) for _ in range(rank))
    order = rng.sample(range(rank), rank)
    part = tuple(slice(rng.randint(0, min(2, d - 1)), None, rng.choice([1, 1, 2, 3])) for d in shape)
    moves = (lambda x: np.transpose(x, order), lambda x: x[part], lambda x: np.transpose(x[part], order))
    return shape, rng.choice(moves)


@pytest.mark.parametrize("seed", range(150))
def test_every_bit_in_place(seed):
    rng = random.Random(seed)
    shape, fn = random_move(rng)
    dtype = rng.choice(list(DTYPES))
    x = arbitrary(np.random.default_rng(seed), shape, DTYPES[dtype])
    kernel = nkigen.compile(fn, (shape, dtype), target=rng.choice(["trn1", "trn2", "trn3"]), cache=False)
    assert kernel.verify() == []
    assert np.array_equal(bits(np.asarray(kernel(x))), bits(fn(x)))


@pytest.mark.parametrize("seed", range(20))
def test_emitted_source(seed):
    rng = random.Random(1000 + seed)
    shape, fn = random_move(rng)
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    kernel = nkigen.compile(fn, x, cache=False)
    (got,) = nki_model.run(kernel.nki(), x)
    assert np.array_equal(got.reshape(fn(x).shape), fn(x))


@pytest.mark.parametrize(("shape", "order"), WIDE)
def test_permutations_move_long_runs(shape, order):
    def time_of(fn):
        return nkigen.compile(fn, (shape, "f32"), cache=False).cost.time_us

    assert time_of(lambda x: np.transpose(x, order)) <= MOST * time_of(np.copy)


@pytest.mark.parametrize(("n", "step"), [(1 << 20, 2), (1_000_003, 3), (1 << 20, 8)])
def test_strided_elements_come_with_those_between(n, step):
    def part(x):
        return x[1::step]

    kernel = nkigen.compile(part, ((n,), "f32"), cache=False)
    copied = nkigen.compile(np.copy, ((n,), "f32"), cache=False)
    x = np.arange(n, dtype=np.float32)
    assert np.array_equal(kernel(x), part(x))
    assert kernel.cost.time_us <= 1.1 * copied.cost.time_us
