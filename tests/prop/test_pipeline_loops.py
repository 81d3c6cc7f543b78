"""Long loops run over blocks that overlap: the same bits, faster, and text that does not grow."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import nki_model  # noqa: E402
from test_pipeline import TARGETS, agree  # noqa: E402

import nkigen  # noqa: E402
from nkigen import workloads  # noqa: E402

F32 = np.float32


def values(*shapes):
    rng = np.random.default_rng(sum(map(len, shapes)))
    return [rng.standard_normal(s).astype(F32) for s in shapes]


def attention(q, k, v):
    """Every head of a batch."""
    s = q @ np.swapaxes(k, -1, -2) * 0.125
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


def gated(x, a, b):
    """Products and a row reduction: PSUM, SBUF and HBM between groups."""
    h = np.tanh(x @ a) * (x @ b)
    return (h / np.sqrt((h * h).mean(axis=-1, keepdims=True) + 1)) @ a.T


def column_sums(x):
    """Sums over the rows: iterations add to one accumulator."""
    return (x * x).sum(axis=0), x.max(axis=-1)


def halves(x):
    """An array changed in two steps: HBM written and read again."""
    y = np.zeros(x.shape, F32)
    y[::2] = x[::2] + 1
    y[1::2] += x[1::2].mean(axis=0)
    return y


CASES = {
    "softmax": (workloads.softmax, [(128 * 401 + 5, 16)]),
    "softmax, no rest": (workloads.softmax, [(128 * 400, 8)]),
    "layernorm": (workloads.layernorm, [(128 * 300 + 77, 16), (16,), (16,)]),
    "chain": (workloads.chain, [(128 * 263, 8), (128 * 263, 8)]),
    "attention": (attention, [(100, 256, 16)] * 3),
    "gated": (gated, [(128 * 160 + 9, 20), (20, 200), (20, 200)]),
    "matmul": (workloads.matmul, [(128 * 500 + 3, 16), (16, 40)]),
    "batched": (workloads.matmul, [(367, 150, 20), (367, 20, 130)]),
    "column sums": (column_sums, [(128 * 450 + 1, 24)]),
    "halves": (halves, [(128 * 900, 8)]),
}


def compiled(name, target, **how):
    """With few rows per partition: short instructions, many iterations."""
    fn, shapes = CASES[name]
    specs = [(s, "f32") for s in shapes]
    fast = nkigen.compile(fn, *specs, target=target, optimize="fast")
    if fast.cost.instruction_count > 2000:
        return nkigen.compile(fn, *specs, target=target, **how)
    plan = re.sub(r"per_tile=\d+", "per_tile=1", str(fast.plan))
    return nkigen.compile(fn, *specs, target=target, plan=plan, **how)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_blocks_compute_the_same(name, target):
    kernel = compiled(name, target)
    assert kernel.stages["allocate"].cost().instruction_count > 2000
    agree(kernel, *values(*CASES[name][1]))


@pytest.mark.parametrize("name", ["softmax", "gated", "column sums"])
def test_emitted_source_computes_the_same(name):
    kernel, inputs = compiled(name, "trn2"), values(*CASES[name][1])
    got, want = nki_model.run(kernel.nki(), *inputs), kernel.tile_ir.run(*inputs)
    for a, b in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        np.testing.assert_allclose(a.reshape(b.shape), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["chain", "softmax"])
def test_text_does_not_grow(name):
    """Four times the rows, a few lines more or less, and engines that are never idle."""
    fn, shapes = workloads.get(name).fn, workloads.get(name).shapes
    lines = []
    for factor in (16, 64):
        specs = [((factor * s[0], *s[1:]), "f32") for s in shapes]
        kernel = nkigen.compile(fn, *specs, cache=False)
        lines.append(len(str(kernel.tile_ir).splitlines()))
        assert "pipeline" in kernel.stages
        assert kernel.cost.time_us < 1.15 * max(kernel.cost.engine_us.values())
    assert lines[1] < 1.25 * lines[0] or lines[1] < 1000


def test_copies_of_a_layer_overlap():
    """Several groups, each short: straight code between loops, with room for what lives across."""

    def layers(x, *weights):
        for _ in range(16):
            x = workloads.transformer_layer(x, *weights)
        return x

    shapes = [(1, 128, 256), (256,), *[(256, 256)] * 4, (256,), (256, 512), (512, 256)]
    kernel = nkigen.compile(layers, *[(s, "f32") for s in shapes], cache=False)
    rng = np.random.default_rng(3)
    inputs = [0.1 * rng.standard_normal(s).astype(F32) for s in shapes]
    assert kernel.stages["allocate"].cost().instruction_count > 2000
    assert agree(kernel, *inputs)
    assert kernel.cost.time_us < 0.9 * kernel.stages["allocate"].cost().time_us
