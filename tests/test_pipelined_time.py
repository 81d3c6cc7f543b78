"""Engines overlap in long programs, too: modelled time over the busiest engine."""

import math

import numpy as np
import pytest

import nkigen
from nkigen import workloads as W


def heads(q, k, v):
    """Attention over all leading dims."""
    s = q @ np.swapaxes(k, -1, -2) * (1.0 / math.sqrt(q.shape[-1]))
    return (W.softmax(s).astype(q.dtype) @ v).astype(q.dtype)


def grouped(q, k, v):
    """Several query heads to one of the keys and values."""
    h, s, d = q.shape
    q = q.reshape(k.shape[0], -1, s, d)
    return heads(q, k[:, None], v[:, None]).reshape(h, s, d)


def causal(q, k, v):
    """Every row sees what is before it."""
    n = q.shape[-2]
    s = q @ np.swapaxes(k, -1, -2) * (1.0 / math.sqrt(q.shape[-1]))
    mask = np.triu(np.full((n, n), -10000.0, np.float32), 1)
    return (W.softmax(s + mask).astype(q.dtype) @ v).astype(q.dtype)


def layer(seq, d=1024):
    """Shapes of a transformer layer."""
    return [(1, seq, d), (d,), *[(d, d)] * 4, (d,), (d, 4 * d), (4 * d, d)]


def layers28(x, *weights):
    """A stack of one and the same layer."""
    for _ in range(28):
        x = W.transformer_layer(x, *weights)
    return x


#: about 2,000 instructions or more each, as loops
ROWS = {
    "chain 65536x4096": (W.chain, [(65536, 4096)] * 2),
    "linear 2048,4096,4096": (
        W.matmul_bias_gelu,
        [(2048, 4096), (4096, 4096), (4096,)],
    ),
    "matmul 8192,1024,8192": (W.matmul, [(8192, 1024), (1024, 8192)]),
    "swiglu 2048,4096,1536": (
        W.swiglu,
        [(2048, 4096), *[(4096, 1536)] * 2, (1536, 4096)],
    ),
    "swiglu 512,2048,5632": (
        W.swiglu,
        [(512, 2048), *[(2048, 5632)] * 2, (5632, 2048)],
    ),
    "attention 4096x128": (W.attention_head, [(4096, 128)] * 3),
    "attention 8x2048x128": (heads, [(8, 2048, 128)] * 3),
    "attention 2x16x512x64": (heads, [(2, 16, 512, 64)] * 3),
    "causal 8x2048x128": (causal, [(8, 2048, 128)] * 3),
    "grouped 16/4x1024x128": (grouped, [(16, 1024, 128), *[(4, 1024, 128)] * 2]),
    "layer of 1024": (W.transformer_layer, layer(1024)),
    "layer of 2048": (W.transformer_layer, layer(2048)),
    "28 layers of 128": (layers28, layer(128)),
}


def ratio(name, dtype):
    """Modelled time over the busiest engine's."""
    fn, shapes = ROWS[name]
    kernel = nkigen.compile(
        fn, *[(s, dtype) for s in shapes], target="trn2", cache=False
    )
    loops = kernel.stages["allocate"].cost()
    assert loops.instruction_count > 1500
    assert kernel.cost.time_us <= loops.time_us and kernel.verify() == []
    return kernel.cost.time_us / max(kernel.cost.engine_us.values())


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_long_programs_keep_their_engines_busy(dtype):
    ratios = {name: ratio(name, dtype) for name in ROWS}
    mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
    assert mean < 1.22 and max(ratios.values()) < 1.65, ratios
