"""Kernels that experts wrote by hand, as NumPy functions, with what theirs take.

An anchor's figures were counted by running the hand-written kernel: instructions, HBM
MiB, and how long each engine is busy on trn2 in us. All are bf16.

Example:
    >>> from nkigen import anchors
    >>> anchors.ANCHORS["anchor_rmsnorm"].floor_us
    1092
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nkigen import workloads
from nkigen.workloads import Shape, Workload

__all__ = ["ANCHORS", "WAITING", "Anchor"]


@dataclass(frozen=True)
class Anchor(Workload):
    """A workload that has been written by hand.

    Example:
        >>> ANCHORS["anchor_matmul_2048"].expert_instructions
        1376
    """

    expert_instructions: int = 0
    expert_mib: float = 0.0
    #: us that each engine of the hand-written kernel is busy
    engine_us: dict[str, float] = field(default_factory=dict)

    @property
    def floor_us(self) -> float:
        """us of its busiest engine."""
        return max(self.engine_us.values())


def quantized_rmsnorm(x, weight):
    """RMS norm whose rows are scaled to fp8; the values and one scale per row."""
    import ml_dtypes

    y = workloads.rmsnorm(x, weight).astype(np.float32)
    scale = np.maximum(np.max(np.abs(y), axis=-1, keepdims=True), 1e-5) / 240.0
    return (y / scale).astype(ml_dtypes.float8_e4m3), scale


def rope_first(x, cos, sin):
    """Rotary embedding, half split: x [d, heads, seq], cos and sin [d/2, seq]."""
    half = x.shape[0] // 2
    c, s = cos[:, None, :], sin[:, None, :]
    x1, x2 = x[:half], x[half:]
    return np.concatenate([x1 * c - x2 * s, x2 * c + x1 * s], axis=0)


def average_pool(x):
    """Means of 2 by 2 windows: x [channels, height, width]."""
    c, h, w = x.shape
    windows = np.reshape(x, (c, h // 2, 2, w // 2, 2))
    return np.mean(windows, axis=(2, 4)).astype(x.dtype)


def _anchor(
    name: str,
    fn: Callable,
    shapes: tuple[Shape, ...],
    small: tuple[Shape, ...],
    expert: tuple[int, float],
    engine_us: tuple[float, float, float, float],
    **more,
) -> Anchor:
    names = ("tensor", "vector", "scalar", "dma")
    return Anchor(
        f"anchor_{name}",
        fn,
        shapes,
        small=(small,),
        scales=(workloads.unit_scale, *(workloads.weight_scale,) * (len(shapes) - 1)),
        hbm_bar=1.0,
        expert_instructions=expert[0],
        expert_mib=expert[1],
        engine_us={k: v for k, v in zip(names, engine_us, strict=True) if v},
        **more,
    )


def _product(
    name: str, m: int, k: int, n: int, expert: tuple[int, float], us
) -> Anchor:
    return _anchor(
        name,
        workloads.matmul,
        ((m, k), (k, n)),
        ((130, 140), (140, 150)),
        expert,
        us,
        has_matmul=True,
    )


def _mlp(name: str, rows: int, expert: tuple[int, float], us) -> Anchor:
    return _anchor(
        name,
        workloads.swiglu,
        ((rows, 4096), (4096, 1536), (4096, 1536), (1536, 4096)),
        ((min(rows, 130), 64), (64, 96), (64, 96), (96, 64)),
        expert,
        us,
        has_matmul=True,
    )


_HEAD = ((4096, 128),) * 3
_ALL = (
    _product("matmul_4096x1024x2048", 4096, 1024, 2048, (1520, 36), (218, 205, 0, 103)),
    _product(
        "matmul_4096x8192x8192", 4096, 8192, 8192, (39680, 704), (6990, 2731, 0, 2006)
    ),
    _product("matmul_2048", 2048, 2048, 2048, (1376, 32), (218, 205, 0, 91)),
    Anchor(
        "anchor_attention_4096",
        workloads.attention_head,
        _HEAD,
        small=(((130, 32),) * 3,),
        hbm_bar=1.0,
        has_matmul=True,
        expert_instructions=2415,
        expert_mib=4,
        engine_us={"tensor": 109, "vector": 141, "scalar": 113, "dma": 102},
    ),
    _anchor(
        "rmsnorm",
        workloads.rmsnorm,
        ((2048, 8192), (8192,)),
        ((130, 70), (70,)),
        (193, 64),
        (0, 1092, 0, 182),
    ),
    _anchor(
        "rmsnorm_fp8",
        quantized_rmsnorm,
        ((2048, 8192), (8192,)),
        ((130, 70), (70,)),
        (691, 48.3),
        (55, 410, 109, 138),
    ),
    _anchor(
        "layernorm",
        workloads.layernorm,
        ((512, 4096), (4096,), (4096,)),
        ((130, 70), (70,), (70,)),
        (19, 8),
        (2, 103, 15, 23),
    ),
    _anchor(
        "rope",
        rope_first,
        ((128, 8, 2048), (64, 2048), (64, 2048)),
        ((16, 3, 70), (8, 70), (8, 70)),
        (11, 8.5),
        (0, 120, 0, 24),
    ),
    _mlp("swiglu_2048", 2048, (6194, 320), (1021, 188, 20, 912)),
    _mlp("swiglu_decode", 1, (364, 36), (62, 13, 6, 103)),
    _anchor(
        "average_pool",
        average_pool,
        ((128, 56, 56),),
        ((7, 6, 10),),
        (4, 1.9),
        (0, 4, 0, 6),
    ),
)

ANCHORS: dict[str, Anchor] = {w.name: w for w in _ALL}

#: anchors that need what nkigen does not have yet
WAITING = {
    "attention 2048 and 4096, causal": "masks that are predicates",
    "cumsum 2048x8192": "scans",
    "top-k 128x4096, k 64": "selection",
}
