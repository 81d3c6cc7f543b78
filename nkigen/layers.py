"""Transformer layers as their owners write them, and stacks of them, for the benchmark.

Example:
    >>> from nkigen import layers
    >>> layers.LAYERS["layer_s512"].shapes[0]
    (1, 512, 1024)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nkigen import workloads
from nkigen.workloads import EPS, SQRT_2_OVER_PI, Shape, Workload

__all__ = ["LAYERS", "stack"]

#: parameters of one layer after the activations: norm, Q, K, V, O, norm, two of the MLP
PER_LAYER = 8


def cast_layer(x, norm1, wq, wk, wv, wo, norm2, w1, w2):
    """`workloads.transformer_layer` with every intermediate kept in the dtype of x."""
    batch, seq, hidden = x.shape
    heads, d = 8, hidden // 8
    dt = x.dtype

    def linear(t, w):
        return (t @ w).astype(dt)

    def norm(t, weight):
        scale = np.sqrt(np.mean(np.square(t), axis=-1, keepdims=True) + EPS)
        return (t / scale.astype(dt) * weight).astype(dt)

    def split_heads(t):
        return np.transpose(np.reshape(t, (batch, seq, heads, d)), (0, 2, 1, 3))

    def gelu(h):
        inner = h * h * h * dt.type(0.044715) + h
        return (
            h * dt.type(0.5) * (np.tanh(inner * dt.type(SQRT_2_OVER_PI)) + dt.type(1))
        )

    h = norm(x, norm1)
    q, k, v = (split_heads(linear(h, w)) for w in (wq, wk, wv))
    scores = linear(q, np.swapaxes(k, -1, -2)) * dt.type(1.0 / math.sqrt(d))
    context = np.transpose(linear(workloads.softmax(scores), v), (0, 2, 1, 3))
    x = x + linear(np.reshape(context, (batch, seq, hidden)), wo)
    return x + linear(gelu(linear(norm(x, norm2), w1)), w2)


def qwen3_layer(
    x, norm1, wq, wk, wv, wo, q_norm, k_norm, cos, sin, norm2, w_gate, w_up, w_down
):
    """A Qwen3 layer: grouped queries, norms of q and k, rotary embedding, gated MLP."""
    batch, seq, _ = x.shape
    d = q_norm.shape[0]
    heads, kv_heads = wq.shape[1] // d, wk.shape[1] // d
    dt = x.dtype

    def linear(t, w):
        return (t @ w).astype(dt)

    h = workloads.rmsnorm(x, norm1)
    q = np.reshape(linear(h, wq), (batch, seq, heads, d))
    k = np.reshape(linear(h, wk), (batch, seq, kv_heads, d))
    v = np.reshape(linear(h, wv), (batch, seq, kv_heads, d))
    q = workloads.rope(workloads.rmsnorm(q, q_norm), cos, sin)
    k = workloads.rope(workloads.rmsnorm(k, k_norm), cos, sin)
    k, v = (np.repeat(t, heads // kv_heads, axis=2) for t in (k, v))
    q, k, v = (np.transpose(t, (0, 2, 1, 3)) for t in (q, k, v))
    scores = q @ np.swapaxes(k, -1, -2) * (1.0 / math.sqrt(d))
    context = linear(workloads.softmax(scores).astype(dt), v)
    context = np.reshape(np.transpose(context, (0, 2, 1, 3)), (batch, seq, heads * d))
    x = x + linear(context, wo)
    return x + workloads.swiglu(workloads.rmsnorm(x, norm2), w_gate, w_up, w_down)


def stack(layer: Callable, n: int) -> Callable:
    """`n` layers in a row, each with weights of its own.

    Example:
        >>> stack(cast_layer, 28).__name__
        'cast_layer_x28'
    """

    def stacked(x, *weights):
        for i in range(n):
            x = layer(x, *weights[i * PER_LAYER : (i + 1) * PER_LAYER])
        return x

    stacked.__name__ = f"{layer.__name__}_x{n}"
    return stacked


def _scale(shape: Shape) -> float:
    """Of a weight, so that products keep the size of their operand; 1 for the rest."""
    return 1.0 / math.sqrt(shape[0]) if len(shape) == 2 else 1.0


def _layer(name: str, fn: Callable, seq: int, n: int = 1, **bars) -> Workload:
    one = workloads.layer_shapes
    real = one(seq, workloads.HIDDEN, 4096)
    small = one(8, 64, 128) if n > 1 else one(32, 64, 128)
    return Workload(
        name,
        stack(fn, n) if n > 1 else fn,
        real[:1] + real[1:] * n,
        small=(small[:1] + small[1:] * n,),
        scales=(_scale,) * (1 + PER_LAYER * n),
        has_matmul=True,
        **bars,
    )


def _qwen3_shapes(
    seq: int, hidden: int, heads: int, kv: int, d: int, inter: int
) -> tuple[Shape, ...]:
    attention = ((hidden, heads * d), (hidden, kv * d), (hidden, kv * d))
    return (
        ((1, seq, hidden), (hidden,))
        + attention
        + ((heads * d, hidden), (d,), (d,), (seq, d // 2), (seq, d // 2), (hidden,))
        + ((hidden, inter), (hidden, inter), (inter, hidden))
    )


_FULL = workloads.transformer_layer
_ALL = (
    *(_layer(f"layer_s{s}", _FULL, s, hbm_bar=1.05) for s in (256, 512, 1024)),
    _layer("layer_s2048", _FULL, 2048, hbm_bar=1.5),
    _layer("cast_layer_s128", cast_layer, 128, hbm_bar=1.05),
    _layer("cast_layer_s2048", cast_layer, 2048, hbm_bar=1.1),
    _layer("layer_s128_x28", _FULL, 128, 28, compile_bar_ms=1000),
    _layer("cast_layer_s128_x28", cast_layer, 128, 28, compile_bar_ms=1000),
    Workload(
        "qwen3_layer_s128",
        qwen3_layer,
        _qwen3_shapes(128, 1024, 16, 8, 128, 3072),
        small=(_qwen3_shapes(16, 64, 4, 2, 16, 96), _qwen3_shapes(7, 40, 4, 2, 8, 30)),
        scales=(_scale,) * 14,
        instr_bar=900,
        hbm_bar=1.05,
        has_matmul=True,
        rotation=(8, 9),
    ),
)

LAYERS: dict[str, Workload] = {w.name: w for w in _ALL}
