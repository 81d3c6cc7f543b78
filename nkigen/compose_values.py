"""Compositions of NumPy functions that work element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nkigen import ops
from nkigen.compose import as_array, composes, here, in_f32, scalar_of
from nkigen.errors import DTypeError, ShapeError

__all__: list[str] = []

PI = float(np.pi)


def _is_float(x: Any) -> bool:
    return x.dtype.kind not in "biu"


@composes(np.signbit)
def _signbit(x: Any) -> Any:
    """The sign of a zero is that of its reciprocal; that of a nan is not known."""
    (x,) = ops._loop(np.signbit, x)
    if not _is_float(x):
        return x < 0
    wide = np.astype(x, np.float32) if x.dtype.itemsize < 4 else x
    return np.where(wide == 0, 1 / wide < 0, wide < 0)


def _with_sign(size: Any, sign: Any) -> Any:
    return np.where(_signbit(sign), -size, size)


@composes(np.copysign)
def _copysign(x: Any, y: Any) -> Any:
    return in_f32(np.copysign, lambda a, b: _with_sign(np.abs(a), b), x, y)


@composes(np.fmod)
def _fmod(x: Any, y: Any) -> Any:
    """The remainder of the sizes, with the sign of x; integers: one divisor less where
    the signs differ."""
    a, b = ops._loop(np.fmod, x, y)
    if _is_float(a):
        return in_f32(np.fmod, lambda a, b: _with_sign(np.abs(a) % np.abs(b), a), x, y)
    r = np.remainder(a, b)
    if a.dtype.kind == "u":
        return r
    return np.where((r != 0) & ((a < 0) != (b < 0)), r - b, r)


@composes(np.float_power)
def _float_power(x: Any, y: Any) -> Any:
    return np.power(*ops._loop(np.float_power, x, y))


def _arcsin_f32(x: Any) -> Any:
    return np.where(x == 0, x, np.arctan(x / np.sqrt((1 - x) * (1 + x))))


@composes(np.arcsin)
def _arcsin(x: Any) -> Any:
    return in_f32(np.arcsin, _arcsin_f32, x)


@composes(np.arccos)
def _arccos(x: Any) -> Any:
    def compute(x: Any) -> Any:
        return 2 * np.arctan(np.sqrt((1 - x) / (1 + x)))

    return in_f32(np.arccos, compute, x)


def _arctan2_f32(y: Any, x: Any) -> Any:
    """The angle of (|x|, |y|) in the first quadrant, then turned to the right one."""
    a, b = np.abs(y), np.abs(x)
    low, high = np.minimum(a, b), np.maximum(a, b)
    same = (a == b) & (a != 0)
    ratio = np.where(
        same, 1, np.where(high == 0, 0, low / np.where(high == 0, 1, high))
    )
    angle = np.arctan(ratio)
    angle = np.where(a > b, PI / 2 - angle, angle)
    angle = np.where(_signbit(x), PI - angle, angle)
    angle = np.where(np.isnan(a) | np.isnan(b), np.nan, angle)
    return _with_sign(angle, y)


@composes(np.arctan2)
def _arctan2(y: Any, x: Any) -> Any:
    return in_f32(np.arctan2, _arctan2_f32, y, x)


@composes(np.heaviside)
def _heaviside(x: Any, at_zero: Any) -> Any:
    def compute(x: Any, h: Any) -> Any:
        step = np.where(x == 0, h, np.where(x < 0, 0, 1))
        return np.where(np.isnan(x), x, step)

    return in_f32(np.heaviside, compute, x, at_zero)


@composes(np.isposinf)
def _isposinf(x: Any) -> Any:
    return as_array(x) == np.inf


@composes(np.isneginf)
def _isneginf(x: Any) -> Any:
    return as_array(x) == -np.inf


@composes(np.fix)
def _fix(x: Any) -> Any:
    return np.trunc(x)


@composes(np.nan_to_num)
def _nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    a = as_array(x)
    if not _is_float(a):
        return np.copy(a) if copy else a
    largest = _largest(a.dtype)
    high = np.asarray(largest if posinf is None else posinf).astype(a.dtype)
    low = np.asarray(-largest if neginf is None else neginf).astype(a.dtype)
    r = np.where(np.isnan(a), np.asarray(nan).astype(a.dtype), a)
    r = np.where(a == np.inf, high, np.where(a == -np.inf, low, r))
    if copy:
        return scalar_of(r)
    np.copyto(a, r)
    return a


def _largest(dtype: np.dtype) -> Any:
    import ml_dtypes

    return (np.finfo if dtype.kind == "f" else ml_dtypes.finfo)(dtype).max


@composes(np.select)
def _select(
    condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0
) -> Any:
    """The last choice first, so that the first condition that holds wins."""
    if len(condlist) != len(choicelist):
        raise here(
            ShapeError(
                f"NKI-1556 select: {len(condlist)} conditions for {len(choicelist)} choices"
            )
        )
    if not len(condlist):
        raise here(ShapeError("NKI-1557 select: expected at least one condition"))
    plain = (int, float)
    choices = [c if type(c) in plain else as_array(c) for c in choicelist]
    other = default if type(default) in plain else as_array(default)
    dtype = np.result_type(*choices, other)
    result: Any = np.asarray(other, dtype) if type(other) in plain else other
    for condition, choice in zip(condlist[::-1], choices[::-1], strict=True):
        condition = as_array(condition)
        if condition.dtype != np.bool_:
            raise here(
                DTypeError(
                    f"NKI-1558 select: conditions are bool, got {condition.dtype}"
                )
            )
        choice = np.asarray(choice, dtype) if type(choice) in plain else choice
        result = np.where(condition, choice, result)
    return np.astype(result, dtype)
