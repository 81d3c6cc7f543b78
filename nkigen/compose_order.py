"""Sorting as a composition: the place of each element is how many come before it.

All pairs of an axis are compared, so axes are short; equal elements keep their order, nan
comes last.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nkigen.compose import as_array, composes, here, moved_last
from nkigen.compose_layout import pick
from nkigen.errors import HardwareLimitError, ShapeError

__all__: list[str] = []

#: elements of an axis that is sorted, and pairs that are compared
MOST_SORTED = 1024
MOST_PAIRS = 1 << 26


def _places(name: str, x: Any) -> Any:
    """Where each element of the last axis goes."""
    n = x.shape[-1]
    if n > MOST_SORTED or x.size * n > MOST_PAIRS:
        raise here(
            HardwareLimitError(
                f"NKI-1614 {name}: an axis of {n} elements, {x.size} in all, is more than is "
                f"sorted: {MOST_SORTED} elements, {MOST_PAIRS} pairs; sort before the kernel"
            )
        )
    one, other = x[..., :, None], x[..., None, :]
    before, same = other < one, other == one
    if x.dtype.kind not in "biu":
        nan, other_nan = np.isnan(one), np.isnan(other)
        before = before | (nan & ~other_nan)
        same = same | (nan & other_nan)
    first = np.tri(n, n, -1, dtype=bool)
    return np.sum(before | (same & first), axis=-1, dtype=np.int32)


def _at_places(x: Any, places: Any) -> Any:
    n = x.shape[-1]
    place = np.arange(n, dtype=np.int32)[:, None]
    return pick(x[..., None, :], places[..., None, :] == place)


def _check_order(name: str, order: Any) -> None:
    if order is not None:
        raise here(ShapeError(f"NKI-1615 {name}: order= is for arrays with fields"))


@composes(np.sort)
def _sort(
    a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    _check_order("sort", order)
    x, at = moved_last("sort", as_array(a), axis)
    if x.dtype == np.bool_:
        x = np.astype(x, np.int8)
    r = _at_places(x, _places("sort", x)) if x.shape[-1] > 1 else np.copy(x)
    return np.astype(np.moveaxis(r, -1, at), a.dtype)


@composes(np.argsort)
def _argsort(
    a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    """Equal elements in their order, as kind='stable' has it."""
    _check_order("argsort", order)
    x, at = moved_last("argsort", as_array(a), axis)
    if x.dtype == np.bool_:
        x = np.astype(x, np.int8)
    index = np.broadcast_to(np.arange(x.shape[-1], dtype=np.int32), x.shape)
    r = _at_places(index, _places("argsort", x)) if x.shape[-1] > 1 else index
    return np.astype(np.moveaxis(r, -1, at), np.int64)


def _middle(x: Any) -> Any:
    n = x.shape[-1]
    x = np.sort(x, axis=-1)
    low, high = x[..., (n - 1) // 2], x[..., n // 2]
    middle = np.mean(np.stack([low, high]), axis=0)
    last = x[..., -1]
    return (
        np.where(np.isnan(last), last, middle) if x.dtype.kind not in "biu" else middle
    )


@composes(np.median)
def _median(
    a: Any, axis: Any = None, overwrite_input: bool = False, keepdims: Any = False
) -> Any:
    a = as_array(a)
    x, at = moved_last("median", a, axis)
    r = _middle(x)
    if not keepdims:
        return r[()] if r.ndim == 0 else r
    shape = (
        [1] * a.ndim
        if axis is None
        else [1 if i == at else d for i, d in enumerate(a.shape)]
    )
    return r.reshape(shape)
