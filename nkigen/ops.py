"""Functions beyond NumPy that kernels use, written in NumPy.

Each takes NumPy arrays or traced arrays. In a kernel they are traced as the NumPy calls
that they make, and the compiler recognises what the hardware has an instruction for.
The reference interpreter calls some of them for ops that NumPy has no function for.

`COMPOSITIONS` maps NumPy functions that have no tensor op to functions here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = [
    "rsqrt",
    "sigmoid",
    "silu",
    "gelu",
    "gelu_tanh",
    "relu",
    "softplus",
    "softmax",
    "rms_norm",
    "layer_norm",
    "round_cast",
    "shift_down",
]

SQRT_HALF = 0.7071067811865476
SQRT_2_OVER_PI = 0.7978845608028654


def rsqrt(x: Any) -> Any:
    """1 / sqrt(x), in the dtype of x.

    Example:
        >>> float(rsqrt(np.float32(4)))
        0.5
    """
    return 1 / np.sqrt(x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)).

    Example:
        >>> float(sigmoid(np.float32(0)))
        0.5
    """
    return 1 / (1 + np.exp(-x))


#: below, silu and gelu are -0; the spelled products are nan at -inf
LOWEST = -1e4


def silu(x: Any) -> Any:
    """x * sigmoid(x), written as x / (1 + exp(-x)); -0 at minus infinity.

    Example:
        >>> float(silu(np.float32(0))), float(silu(np.float32(-np.inf)))
        (0.0, -0.0)
    """
    return _silu(np.maximum(x, LOWEST))


def _silu(x: Any) -> Any:
    """As users spell it, and what the op of that name means."""
    return x / (1 + np.exp(-x))


def relu(x: Any) -> Any:
    """The larger of x and 0.

    Example:
        >>> float(relu(np.float32(-1)))
        0.0
    """
    return np.maximum(x, 0)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), without overflow.

    Example:
        >>> float(softplus(np.float32(100)))
        100.0
    """
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def gelu_tanh(x: Any) -> Any:
    """The tanh form of GELU: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x**3))).

    At minus infinity it is -0.

    Example:
        >>> float(gelu_tanh(np.float32(0)))
        0.0
    """
    return _gelu_tanh(np.maximum(x, LOWEST))


def _gelu_tanh(x: Any) -> Any:
    """As users spell it, and what the op of that name means."""
    inner = SQRT_2_OVER_PI * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1 + np.tanh(inner))


def _erf(x: Any) -> Any:
    """The error function to 1.5e-7 (Abramowitz and Stegun 7.1.26)."""
    a = np.abs(x)
    t = 1 / (1 + 0.3275911 * a)
    poly = 1.421413741 + t * (-1.453152027 + t * 1.061405429)
    poly = t * (0.254829592 + t * (-0.284496736 + t * poly))
    return np.sign(x) * (1 - poly * np.exp(-a * a))


def gelu(x: Any) -> Any:
    """GELU: x / 2 * (1 + erf(x / sqrt(2))), with erf to 1.5e-7.

    Example:
        >>> round(float(gelu(np.float32(1))), 4)
        0.8413
    """
    x = np.maximum(x, LOWEST)
    return 0.5 * x * (1 + _erf(x * SQRT_HALF))


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x - max(x)) over its sum along an axis.

    Example:
        >>> softmax(np.zeros((1, 4), np.float32)).tolist()
        [[0.25, 0.25, 0.25, 0.25]]
    """
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def rms_norm(x: Any, weight: Any = None, eps: float = 1e-6, axis: int = -1) -> Any:
    """x over its root mean square along an axis, times weight.

    Example:
        >>> rms_norm(np.float32([[3, 3]]), eps=0.0).tolist()
        [[1.0, 1.0]]
    """
    y = x / np.sqrt(np.mean(x * x, axis=axis, keepdims=True) + eps)
    return y if weight is None else y * weight


def layer_norm(
    x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, axis: int = -1
) -> Any:
    """x with mean 0 and variance 1 along an axis, times weight plus bias.

    Example:
        >>> layer_norm(np.float32([[1, 3]]), eps=0.0).tolist()
        [[-1.0, 1.0]]
    """
    centred = x - np.mean(x, axis=axis, keepdims=True)
    variance = np.mean(centred * centred, axis=axis, keepdims=True)
    y = centred / np.sqrt(variance + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def round_cast(x: Any, dtype: Any) -> Any:
    """Conversion as the hardware does it: nearest even, saturating; NaN is 0.

    Example:
        >>> round_cast(np.float32([2.5, 300, np.nan]), np.int8).tolist()
        [2, 127, 0]
    """
    dtype = np.dtype(dtype)
    x = np.asarray(x)
    if dtype.kind not in "iu" or x.dtype.kind in "b":
        return x.astype(dtype)
    info = np.iinfo(dtype)
    if x.dtype.kind in "iu":
        own = np.iinfo(x.dtype)
        return np.clip(x, max(info.min, own.min), min(info.max, own.max)).astype(dtype)
    wide = np.rint(x.astype(np.float64))
    out = np.where(np.isnan(wide), 0, np.clip(wide, float(info.min), float(info.max)))
    with np.errstate(invalid="ignore"):
        result = out.astype(dtype)
    # the largest integer of 64 bits is no float64: what reaches it saturates
    return np.where(out >= float(info.max), info.max, result).astype(dtype)


def shift_down(x: Any, n: Any) -> Any:
    """Bits moved down as the hardware does it: zeros come in.

    Example:
        >>> shift_down(np.int32(-1), np.int32(28)).tolist()
        15
    """
    x, n = np.broadcast_arrays(x, n)
    bits = x.dtype.itemsize * 8
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    within = (n >= 0) & (n < bits)
    places = np.where(within, n, 0).astype(unsigned)
    return np.where(within, x.astype(unsigned) >> places, 0).astype(x.dtype)


def resolve_loop(
    ufunc: np.ufunc, args: Any, dtype: Any = None, casting: str = "same_kind"
) -> tuple[np.dtype, ...]:
    """Dtypes of operands and results in the loop NumPy takes; Python scalars are weak.

    Raises TypeError where NumPy does: it is NumPy's own answer.

    Example:
        >>> resolve_loop(np.true_divide, (np.float32(1), 2))
        (dtype('float32'), dtype('float32'), dtype('float32'))
    """
    weak = [type(a) if type(a) in (int, float) else np.result_type(a) for a in args]
    outputs = [None] * ufunc.nout
    chosen = {}
    if dtype is not None:
        wanted = [np.dtype(dtype)] * ufunc.nout
        chosen["signature"] = (*[None] * ufunc.nin, *wanted)
    return ufunc.resolve_dtypes((*weak, *outputs), casting=casting, **chosen)


def _loop(ufunc: np.ufunc, *args: Any) -> list[Any]:
    """The operands in the dtype that NumPy's loop takes."""
    dtypes = resolve_loop(ufunc, args)
    return [
        np.asarray(a, d) if type(a) in (bool, int, float) else np.astype(a, d)
        for a, d in zip(args, dtypes[: len(args)], strict=True)
    ]


def _conjugate(x: Any) -> Any:
    return np.astype(x, *resolve_loop(np.conjugate, (x,))[1:])


def _isinf(x: Any) -> Any:
    return np.abs(x) == np.inf


def _isfinite(x: Any) -> Any:
    return np.abs(x) < np.inf


def _fabs(x: Any) -> Any:
    return np.abs(*_loop(np.fabs, x))


def _fmax(x: Any, y: Any) -> Any:
    x, y = _loop(np.fmax, x, y)
    return np.where(np.isnan(x), y, np.where(np.isnan(y), x, np.maximum(x, y)))


def _fmin(x: Any, y: Any) -> Any:
    x, y = _loop(np.fmin, x, y)
    return np.where(np.isnan(x), y, np.where(np.isnan(y), x, np.minimum(x, y)))


def _scaled(ufunc: np.ufunc, x: Any, factor: float) -> Any:
    """x times a factor that the narrow floats do not hold, rounded once."""
    (x,) = _loop(ufunc, x)
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    return np.astype(np.astype(x, wide) * np.asarray(factor, wide), x.dtype)


#: NumPy function or ufunc -> its composition; called with what the user gave
COMPOSITIONS: dict[Any, Callable[..., Any]] = {
    np.conjugate: _conjugate,
    np.deg2rad: lambda x: _scaled(np.deg2rad, x, np.pi / 180),
    np.degrees: lambda x: _scaled(np.degrees, x, 180 / np.pi),
    np.fabs: _fabs,
    np.fliplr: lambda m: m[:, ::-1],
    np.flipud: lambda m: m[::-1],
    np.fmax: _fmax,
    np.fmin: _fmin,
    np.isfinite: _isfinite,
    np.isinf: _isinf,
    np.rad2deg: lambda x: _scaled(np.rad2deg, x, 180 / np.pi),
    np.radians: lambda x: _scaled(np.radians, x, np.pi / 180),
}
