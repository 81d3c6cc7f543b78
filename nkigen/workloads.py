"""The kernels that the benchmark, the tests and the docs share.

Each is a plain NumPy function: called with float64 arrays it is its own reference,
traced it is what the compiler is measured on. Results have the dtype of the first
parameter; without the conversion NumPy's product of bf16 matrices is f32.

Example:
    >>> from nkigen import workloads
    >>> w = workloads.get("softmax")
    >>> y = w.fn(*w.inputs("f32", shapes=w.small[0]))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Workload", "WORKLOADS", "get", "error_limit", "long_chain", "np_dtype"]

Shape = tuple[int, ...]

SQRT_2_OVER_PI = 0.7978845608028654
EPS = 1e-6


def chain(a, b):
    """Six element-wise ops on two inputs."""
    u = np.exp(a)
    v = np.tanh(b)
    return (u * v + a - b) / u


def softmax(x):
    """Softmax of the last axis."""
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def rmsnorm(x, weight):
    """Root-mean-square norm of the last axis."""
    scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPS)
    return (x / scale * weight).astype(x.dtype)


def layernorm(x, weight, bias):
    """Layer norm of the last axis."""
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return (centred / np.sqrt(variance + EPS) * weight + bias).astype(x.dtype)


def colsum(x):
    """Sum of the first axis."""
    return np.sum(x, axis=0)


def transpose(x):
    """The matrix transpose."""
    return np.transpose(x)


def matmul(a, b):
    """A matrix product."""
    return (a @ b).astype(a.dtype)


def gelu(h):
    """The tanh form of gelu."""
    return 0.5 * h * (1.0 + np.tanh(SQRT_2_OVER_PI * (h + 0.044715 * h * h * h)))


def matmul_bias_gelu(x, w, bias):
    """A linear layer with gelu."""
    return gelu(x @ w + bias).astype(x.dtype)


def swiglu(x, w_gate, w_up, w_down):
    """A gated MLP."""
    g = x @ w_gate
    h = (g / (1.0 + np.exp(-g)) * (x @ w_up)).astype(x.dtype)
    return (h @ w_down).astype(x.dtype)


def rope(x, cos, sin):
    """Rotary embedding, half split: x [batch, seq, heads, d], cos and sin [seq, d/2]."""
    half = x.shape[-1] // 2
    c, s = cos[None, :, None, :], sin[None, :, None, :]
    x1, x2 = x[..., :half], x[..., half:]
    return np.concatenate([x1 * c - x2 * s, x2 * c + x1 * s], axis=-1)


def attention_head(q, k, v):
    """One attention head, full softmax."""
    p = softmax(q @ k.T * (1.0 / math.sqrt(q.shape[-1])))
    return (p.astype(q.dtype) @ v).astype(q.dtype)


def transformer_layer(x, norm1, wq, wk, wv, wo, norm2, w1, w2):
    """A pre-norm transformer layer with 8 heads and a gelu MLP."""
    batch, seq, hidden = x.shape
    heads, d = 8, hidden // 8

    def linear(t, w):
        return (t @ w).astype(x.dtype)

    def split_heads(t):
        return np.transpose(np.reshape(t, (batch, seq, heads, d)), (0, 2, 1, 3))

    h = rmsnorm(x, norm1)
    q, k, v = (split_heads(linear(h, w)) for w in (wq, wk, wv))
    p = softmax(q @ np.swapaxes(k, -1, -2) * (1.0 / math.sqrt(d)))
    context = np.transpose(linear(p.astype(x.dtype), v), (0, 2, 1, 3))
    x = x + linear(np.reshape(context, (batch, seq, hidden)), wo)
    return x + linear(gelu(linear(rmsnorm(x, norm2), w1)), w2)


def long_chain(n: int) -> Callable:
    """A function of `n` element-wise ops in a row.

    Example:
        >>> long_chain(10_000)(np.ones((128, 512), np.float32)).shape
        (128, 512)
    """

    def chain_n(x):
        y = x
        for i in range(n):
            y = y + x if i % 2 == 0 else y * 0.5
        return y

    chain_n.__name__ = f"chain_{n}"
    return chain_n


def np_dtype(name: str) -> np.dtype:
    """The NumPy (or ml_dtypes) dtype of one of the short names.

    Example:
        >>> np_dtype("f16")
        dtype('float16')
    """
    if name == "bf16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype({"f32": "float32", "f16": "float16", "f64": "float64"}[name])


def weight_scale(shape: Shape) -> float:
    return 1.0 / math.sqrt(shape[0])


def unit_scale(shape: Shape) -> float:
    return 1.0


@dataclass(frozen=True)
class Workload:
    """A kernel with its shapes, inputs and bars.

    Example:
        >>> get("colsum").shapes
        ((4096, 4096),)
    """

    name: str
    fn: Callable
    shapes: tuple[Shape, ...]
    #: other shape lists that tests use: small first, then ragged ones
    small: tuple[tuple[Shape, ...], ...]
    #: standard deviation of each parameter, from its shape
    scales: tuple[Callable[[Shape], float], ...] = ()
    instr_bar: int | None = None
    hbm_bar: float | None = None
    compile_bar_ms: float | None = None
    has_matmul: bool = False
    simulator_bar: float | None = None
    #: parameters that are angles of a rotation: (cosine index, sine index)
    rotation: tuple[int, int] | None = field(default=None)

    def specs(self, dtype: str, shapes: Sequence[Shape] | None = None) -> list:
        """What `nkigen.compile` takes: one (shape, dtype) per parameter."""
        return [(s, dtype) for s in (shapes or self.shapes)]

    def inputs(
        self, dtype: str, shapes: Sequence[Shape] | None = None, seed: int = 0
    ) -> list[np.ndarray]:
        """Seeded inputs of the given dtype."""
        rng = np.random.default_rng(seed)
        out = []
        for i, shape in enumerate(shapes or self.shapes):
            a = rng.standard_normal(shape, dtype=np.float32)
            a *= np.float32(self.scales[i](shape) if self.scales else 1.0)
            out.append(a)
        if self.rotation:
            c, s = self.rotation
            angle = out[c] * np.float32(np.pi)
            out[c], out[s] = np.cos(angle), np.sin(angle)
        return [a.astype(np_dtype(dtype), copy=False) for a in out]

    def expected(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """The same function on float64 copies of the inputs."""
        return self.fn(*[a.astype(np.float64) for a in inputs])


def error_limit(w: Workload, dtype: str) -> float:
    """Largest allowed max-abs-error over max-abs-value against float64 NumPy.

    Example:
        >>> error_limit(get("softmax"), "f32")
        2e-06
    """
    if dtype == "f32":
        return 2e-5 if w.has_matmul else 2e-6
    return 2e-2


SQUARE = (4096, 4096)
HIDDEN = 1024


def layer_shapes(seq: int, hidden: int, inter: int) -> tuple[Shape, ...]:
    square = (hidden, hidden)
    return (
        (1, seq, hidden),
        (hidden,),
        square,
        square,
        square,
        square,
        (hidden,),
        (hidden, inter),
        (inter, hidden),
    )


_ALL = (
    Workload(
        "chain",
        chain,
        (SQUARE, SQUARE),
        small=(((256, 512), (256, 512)), ((7, 131), (7, 131)), ((130, 1), (130, 1))),
        instr_bar=240,
        hbm_bar=1.0,
        compile_bar_ms=5,
    ),
    Workload(
        "softmax",
        softmax,
        (SQUARE,),
        small=(((256, 512),), ((7, 131),), ((1, 4099),), ((300, 1),)),
        instr_bar=200,
        hbm_bar=1.0,
        compile_bar_ms=5,
        simulator_bar=3.0,
    ),
    Workload(
        "rmsnorm",
        rmsnorm,
        (SQUARE, SQUARE[1:]),
        small=(((256, 512), (512,)), ((7, 2880), (2880,)), ((129, 8), (8,))),
        instr_bar=170,
        hbm_bar=1.0,
        compile_bar_ms=5,
    ),
    Workload(
        "layernorm",
        layernorm,
        (SQUARE, SQUARE[1:], SQUARE[1:]),
        small=(((256, 512), (512,), (512,)), ((7, 2880), (2880,), (2880,))),
        instr_bar=260,
        hbm_bar=1.0,
    ),
    Workload(
        "colsum",
        colsum,
        (SQUARE,),
        small=(((256, 512),), ((131, 7),), ((1, 300),), ((300, 1),)),
        instr_bar=70,
        hbm_bar=1.0,
    ),
    Workload(
        "transpose",
        transpose,
        (SQUARE,),
        small=(((256, 512),), ((131, 7),), ((1, 300),)),
        hbm_bar=1.0,
    ),
    Workload(
        "matmul_1024",
        matmul,
        ((1024, 1024), (1024, 1024)),
        small=(((256, 384), (384, 512)), ((7, 131), (131, 129)), ((1, 64), (64, 1))),
        scales=(unit_scale, weight_scale),
        instr_bar=240,
        hbm_bar=1.0,
        has_matmul=True,
    ),
    Workload(
        "matmul_4096",
        matmul,
        (SQUARE, SQUARE),
        small=(((384, 640), (640, 1030)), ((130, 700), (700, 513))),
        scales=(unit_scale, weight_scale),
        instr_bar=9300,
        hbm_bar=2.0,
        compile_bar_ms=10,
        has_matmul=True,
        simulator_bar=3.0,
    ),
    Workload(
        "matmul_bias_gelu",
        matmul_bias_gelu,
        ((2048, 1024), (1024, 4096), (4096,)),
        small=(((128, 256), (256, 512), (512,)), ((7, 131), (131, 520), (520,))),
        scales=(unit_scale, weight_scale, unit_scale),
        instr_bar=1300,
        hbm_bar=1.0,
        has_matmul=True,
    ),
    Workload(
        "swiglu",
        swiglu,
        ((128, HIDDEN), (HIDDEN, 3072), (HIDDEN, 3072), (3072, HIDDEN)),
        small=(
            ((128, 256), (256, 384), (256, 384), (384, 256)),
            ((7, 130), (130, 200), (130, 200), (200, 130)),
        ),
        scales=(unit_scale, weight_scale, weight_scale, weight_scale),
        instr_bar=300,
        hbm_bar=1.0,
        has_matmul=True,
    ),
    Workload(
        "rope",
        rope,
        ((1, 2048, 8, 128), (2048, 64), (2048, 64)),
        small=(
            ((1, 128, 2, 64), (128, 32), (128, 32)),
            ((2, 7, 3, 16), (7, 8), (7, 8)),
        ),
        instr_bar=200,
        hbm_bar=1.0,
        rotation=(1, 2),
    ),
    Workload(
        "attention_head",
        attention_head,
        ((2048, 128), (2048, 128), (2048, 128)),
        small=(((256, 64), (256, 64), (256, 64)), ((130, 32), (130, 32), (130, 32))),
        hbm_bar=1.0,
        has_matmul=True,
    ),
    Workload(
        "layer_s128",
        transformer_layer,
        layer_shapes(128, HIDDEN, 4096),
        small=(layer_shapes(32, 64, 128), layer_shapes(7, 136, 200)),
        scales=(
            unit_scale,
            unit_scale,
            weight_scale,
            weight_scale,
            weight_scale,
            weight_scale,
            unit_scale,
        )
        + (weight_scale, weight_scale),
        hbm_bar=1.05,
        compile_bar_ms=30,
        has_matmul=True,
    ),
)

WORKLOADS: dict[str, Workload] = {w.name: w for w in _ALL}


def get(name: str) -> Workload:
    """The workload of that name.

    Example:
        >>> get("chain").instr_bar
        240
    """
    if name not in WORKLOADS:
        known = " ".join(WORKLOADS)
        raise KeyError(f"no workload named {name!r}; there are: {known}")
    return WORKLOADS[name]
