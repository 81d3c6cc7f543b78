"""Both sides of every DMA in emitted source have one shape, also when one lane holds all."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest

import nkigen

sys.path.insert(0, str(Path(__file__).parents[1]))
import nki_model  # noqa: E402

f = np.float32

ONE_LANE = [
    ((5, 2), "np.concatenate([x[1:5:3, 0:1], x[1:5:3, 1:2]], 0)[1:2]"),
    ((2, 33), "(x[:, 6:16] * x[:, 6:16])[0:2:3, 4:9] * 2"),
    ((140, 150), "(x[3:-5, 7:-9:2].T + 1)[::3, 1:]"),
    ((7, 3, 5), "(x[1:, :2, ::2].transpose(2, 0, 1) + 1)[1:, ::2]"),
]


def agrees(shape, text, target="trn2"):
    x = np.random.default_rng(0).standard_normal(shape).astype(f)
    kernel = nkigen.compile(eval(f"lambda x: {text}", {"np": np}), x, target=target, cache=False)
    expected = kernel.reference(x)
    if expected.size:
        (got,) = nki_model.run(kernel.nki(), x)
        np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=1e-5)


@pytest.mark.parametrize(("shape", "text"), ONE_LANE)
def test_moves_of_one_lane(shape, text):
    agrees(shape, text)


def part(rng, n):
    start = rng.randrange(0, max(1, n // 2))
    return f"{start}:{rng.randrange(start + 1, n + 1)}:{rng.choice((1, 1, 2, 3))}"


def moved(rng, shape):
    """A random expression of slices, transposes and arithmetic of x."""
    text, dims = "x", list(shape)
    for _ in range(rng.randrange(2, 5)):
        if rng.random() < 0.5:
            parts = [part(rng, n) for n in dims]
            text += f"[{', '.join(parts)}]"
            dims = list(np.empty(dims)[eval(f"np.s_[{', '.join(parts)}]")].shape)
        else:
            order = rng.sample(range(len(dims)), len(dims))
            text = f"({text} + 1).transpose({order})"
            dims = [dims[i] for i in order]
    return f"{text} * 2"


@pytest.mark.parametrize("seed", range(40))
def test_random_moves(seed):
    rng = random.Random(seed)
    shape = [rng.choice((1, 2, 3, 5, 16, 33)) for _ in range(rng.choice((2, 2, 3)))]
    agrees(shape, moved(rng, shape), rng.choice(("trn1", "trn2", "trn3")))
