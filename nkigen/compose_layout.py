"""Compositions of NumPy functions that move elements: padding, diagonals, picked elements.

Positions that are known while tracing become slices, a run of equally spaced ones each.
Along an axis with positions that are traced, an element is chosen by comparing: nothing
but the chosen one takes part in the maximum, so it comes out as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nkigen.compose import (
    as_array,
    as_axis,
    as_static,
    composes,
    each,
    here,
    is_traced,
    moved_last,
    spread,
)
from nkigen.errors import DTypeError, IndexingError, ShapeError, UnsupportedError

__all__ = ["gather", "pick"]

#: slices that picked elements may become
MOST_RUNS = 4096
#: comparisons that positions known only to the program may become
MOST_COMPARISONS = 1 << 26


# ---- positions that are known ----


def _runs(index: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(start, step, size) of equally spaced positions, longest first come."""
    i, n = 0, len(index)
    while i < n:
        j = i + 1
        step = int(index[j] - index[i]) if j < n else 1
        while j < n and index[j] - index[j - 1] == step:
            j += 1
        if j - i == 2 and step != 1:  # the second one may begin a longer run
            j, step = i + 1, 1
        yield int(index[i]), step, j - i
        i = j


def gather(name: str, x: Any, index: np.ndarray, axis: int) -> Any:
    """Elements at known positions of an axis, none of them negative.

    Example:
        >>> gather("take", np.arange(5), np.array([0, 2, 4, 4]), 0).tolist()
        [0, 2, 4, 4]
    """
    runs = list(_runs(index))
    if len(runs) > MOST_RUNS:
        raise here(
            UnsupportedError(
                f"NKI-1559 {name}: these positions are {len(runs)} runs of equally spaced "
                f"ones, at most {MOST_RUNS} are supported; reorder the array before the kernel"
            )
        )
    if not runs:
        return x[_at(x.ndim, axis, slice(0, 0))]
    parts = [_run(x, axis, *run) for run in runs]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)


def _at(ndim: int, axis: int, key: Any) -> tuple[Any, ...]:
    return (*[slice(None)] * axis, key, *[slice(None)] * (ndim - axis - 1))


def _run(x: Any, axis: int, start: int, step: int, size: int) -> Any:
    if step == 0:
        return np.repeat(x[_at(x.ndim, axis, slice(start, start + 1))], size, axis)
    stop = start + step * (size - 1) + (1 if step > 0 else -1)
    return x[_at(x.ndim, axis, slice(start, stop if stop >= 0 else None, step))]


def _checked(name: str, index: np.ndarray, n: int, mode: str = "raise") -> np.ndarray:
    """Positions counted from the front; beyond the ends as `mode` says."""
    if index.dtype.kind not in "iub" or (index.dtype.kind == "b" and name != "take"):
        raise here(
            DTypeError(f"NKI-1560 {name}: positions are integers, got {index.dtype}")
        )
    index = index.astype(np.int64)
    if mode == "wrap" and n:
        return index % n
    if mode == "clip":
        return np.clip(index, 0, max(n - 1, 0))
    bad = index[(index < -n) | (index >= n)]
    if bad.size:
        raise here(
            IndexingError(
                f"NKI-1561 {name}: index {bad.flat[0]} is out of bounds for axis with size {n}"
            )
        )
    return np.where(index < 0, index + n, index)


# ---- positions that are traced ----


def pick(x: Any, chosen: Any) -> Any:
    """The one element of the last axis where `chosen` holds, as it is.

    Example:
        >>> float(pick(np.array([1.0, np.inf, 3.0]), np.array([True, False, False])))
        1.0
    """
    if x.dtype.kind == "b":
        return np.any(chosen & x, axis=-1)
    if x.dtype.kind in "iu":
        return np.sum(np.where(chosen, x, np.zeros((), x.dtype)), -1, x.dtype)
    lowest = np.asarray(-np.inf).astype(x.dtype)
    return np.max(np.where(chosen, x, lowest), axis=-1)


def _picked(name: str, x: Any, index: Any, mode: str = "raise") -> Any:
    """x[..., index] for positions (..., k) of the last axis of x (..., n); negative ones
    count from the end, beyond the ends is the last element there."""
    n = x.shape[-1]
    shape = np.broadcast_shapes(x.shape[:-1], index.shape[:-1])
    size = int(np.prod(shape, dtype=np.int64)) * index.shape[-1] * n
    if size > MOST_COMPARISONS or index.dtype.kind not in "iu":
        if index.dtype.kind not in "iu":
            raise here(
                DTypeError(
                    f"NKI-1562 {name}: positions are integers, got {index.dtype}"
                )
            )
        raise here(
            UnsupportedError(
                f"NKI-1563 {name}: traced positions compare {size} pairs, at most "
                f"{MOST_COMPARISONS} are supported; pick the rows before the kernel"
            )
        )
    index = np.astype(index, np.int32)
    if mode == "wrap":
        index = index % n
    elif mode == "raise":
        index = np.where(index < 0, index + n, index)
    index = np.clip(index, 0, n - 1)
    chosen = index[..., None] == np.arange(n, dtype=np.int32)
    return pick(x[..., None, :], chosen)


@composes(np.take)
def _take(a: Any, indices: Any, axis: Any = None, mode: str = "raise") -> Any:
    a = as_array(a)
    if axis is None:
        a, axis = a.reshape(-1), 0
    axis = as_axis("take", axis, a.ndim)
    if is_traced(indices):
        index = as_array(indices)
        x = np.moveaxis(a, axis, -1)
        r = _picked("take", x, index.reshape((1,) * (x.ndim - 1) + (-1,)), mode)
        r = np.moveaxis(r, -1, axis)
    else:
        index = np.asarray(indices)
        if index.size == 0:
            index = index.astype(np.int64)
        flat = _checked("take", index.reshape(-1), a.shape[axis], mode)
        r = gather("take", a, flat, axis)
    r = r.reshape(a.shape[:axis] + index.shape + a.shape[axis + 1 :])
    return r[()] if r.ndim == 0 else r


def _along(name: str, arr: Any, indices: Any, axis: Any) -> tuple[Any, Any, int]:
    """Array and positions with the axis last."""
    x, at = moved_last(name, arr, axis)
    index = as_array(indices)
    if axis is None:
        if index.ndim != 1:
            raise here(
                ShapeError(
                    f"NKI-1564 {name}: without an axis, indices have one dimension"
                )
            )
    elif index.ndim != x.ndim:
        raise here(
            ShapeError(
                f"NKI-1565 {name}: indices have {index.ndim} dimensions, the array {x.ndim}"
            )
        )
    else:
        index = np.moveaxis(index, at, -1)
    if not is_traced(index):
        index = _checked(name, np.asarray(index), x.shape[-1])
    return x, index, at


@composes(np.take_along_axis)
def _take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    x, index, at = _along("take_along_axis", arr, indices, axis)
    if not is_traced(index) and index.size:
        row = index.reshape(-1, index.shape[-1])
        if (row == row[0]).all():
            r = gather("take_along_axis", x, row[0], x.ndim - 1)
            shape = np.broadcast_shapes(x.shape[:-1], index.shape[:-1])
            return np.moveaxis(np.broadcast_to(r, (*shape, r.shape[-1])), -1, at)
    return np.moveaxis(_picked("take_along_axis", x, index), -1, at)


@composes(np.put_along_axis)
def _put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> None:
    """One choice after the other: of equal positions the last one stays."""
    x, index, at = _along("put_along_axis", arr, indices, axis)
    n, k = x.shape[-1], index.shape[-1]
    shape = np.broadcast_shapes(x.shape[:-1], index.shape[:-1])
    size = int(np.prod(shape, dtype=np.int64)) * k * n
    if size > MOST_COMPARISONS or k > MOST_RUNS:
        raise here(
            UnsupportedError(
                f"NKI-1566 put_along_axis: {k} positions along an axis of {n} are too many"
            )
        )
    value = np.astype(as_array(values), x.dtype)
    shape = (*shape, k)
    if axis is not None and value.ndim == x.ndim:
        value = np.moveaxis(value, at, -1)
    value = np.broadcast_to(value, shape)
    index = np.where(index < 0, index + n, index)
    place = np.arange(n, dtype=index.dtype)
    for i in range(k):
        x = np.where(index[..., i : i + 1] == place, value[..., i : i + 1], x)
    r = np.moveaxis(x, -1, at) if axis is not None else x.reshape(arr.shape)
    np.copyto(arr, r)


# ---- diagonals ----


@composes(np.diagonal)
def _diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    a = as_array(a)
    if a.ndim < 2:
        raise here(
            ShapeError(
                "NKI-1567 diagonal: an array of 2 or more dimensions is expected"
            )
        )
    one, two = as_axis("diagonal", axis1, a.ndim), as_axis("diagonal", axis2, a.ndim)
    if one == two:
        raise here(ShapeError("NKI-1568 diagonal: axis1 and axis2 are the same"))
    x = np.moveaxis(a, (one, two), (-2, -1))
    rows, cols = x.shape[-2:]
    offset = offset.__index__()
    size = max(min(rows + min(offset, 0), cols - max(offset, 0)), 0)
    start = offset if offset >= 0 else -offset * cols
    flat = x.reshape(*x.shape[:-2], rows * cols)
    stop = start + (cols + 1) * (size - 1) + 1 if size else start
    return flat[..., start : stop : cols + 1]


@composes(np.linalg.diagonal)
def _matrix_diagonal(x: Any, *, offset: int = 0) -> Any:
    return _diagonal(x, offset, -2, -1)


@composes(np.diag)
def _diag(v: Any, k: int = 0) -> Any:
    v = as_array(v)
    if v.ndim == 2:
        return _diagonal(v, k)
    if v.ndim != 1:
        raise here(
            ShapeError(
                f"NKI-1569 diag: an array of 1 or 2 dimensions is expected, got {v.ndim}"
            )
        )
    k = k.__index__()
    n = v.shape[0]
    wide = np.concatenate(
        [np.zeros(max(k, 0), v.dtype), v, np.zeros(max(-k, 0), v.dtype)]
    )
    return np.where(np.eye(n + abs(k), k=k, dtype=bool), wide, np.zeros((), v.dtype))


@composes(np.diagflat)
def _diagflat(v: Any, k: int = 0) -> Any:
    return _diag(as_array(v).reshape(-1), k)


@composes(np.trace)
def _trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None
) -> Any:
    return np.sum(_diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


@composes(np.linalg.trace)
def _matrix_trace(x: Any, *, offset: int = 0, dtype: Any = None) -> Any:
    return _trace(x, offset, -2, -1, dtype)


@composes(np.fill_diagonal)
def _fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    if a.ndim != 2 or wrap or np.ndim(val):
        raise here(
            UnsupportedError(
                "NKI-1570 fill_diagonal: only one value on the diagonal of a matrix is "
                "supported; use numpy.where with numpy.eye"
            )
        )
    value = np.astype(as_array(val), a.dtype)
    np.copyto(a, np.where(np.eye(*a.shape, dtype=bool), value, a))


# ---- turning and joining ----


@composes(np.rot90)
def _rot90(m: Any, k: int = 1, axes: Sequence[int] = (0, 1)) -> Any:
    m = as_array(m)
    if len(axes) != 2:
        raise here(ShapeError("NKI-1571 rot90: two axes are expected"))
    one, two = (as_axis("rot90", a, m.ndim) for a in axes)
    if one == two:
        raise here(ShapeError("NKI-1572 rot90: the axes are the same"))
    k = k % 4
    if k == 2:
        return np.flip(np.flip(m, one), two)
    if k == 1:
        return np.swapaxes(np.flip(m, two), one, two)
    return np.flip(np.swapaxes(m, one, two), two) if k else m[...]


@composes(np.rollaxis)
def _rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    a = as_array(a)
    axis = as_axis("rollaxis", axis, a.ndim)
    start = as_axis("rollaxis", start, a.ndim + 1)
    return np.moveaxis(a, axis, start - 1 if axis < start else start)


@composes(np.column_stack)
def _column_stack(tup: Any) -> Any:
    columns = [a.reshape(-1, 1) if a.ndim < 2 else a for a in each(tup)]
    return np.concatenate(columns, axis=1)


@composes(np.atleast_3d)
def _atleast_3d(*arys: Any) -> Any:
    shapes = {0: lambda s: (1, 1, 1), 1: lambda s: (1, *s, 1), 2: lambda s: (*s, 1)}
    result = [
        a.reshape(shapes[a.ndim](a.shape)) if a.ndim < 3 else a for a in each(arys)
    ]
    return result[0] if len(result) == 1 else tuple(result)


@composes(np.dstack)
def _dstack(tup: Any) -> Any:
    return np.concatenate([_atleast_3d(a) for a in tup], axis=2)


@composes(np.meshgrid)
def _meshgrid(
    *xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> tuple[Any, ...]:
    if indexing not in ("xy", "ij"):
        raise here(
            ShapeError(f"NKI-1620 meshgrid: indexing is 'xy' or 'ij', got {indexing!r}")
        )
    n = len(xi)
    order = list(range(n))
    if indexing == "xy" and n > 1:
        order[:2] = [1, 0]
    grids = [spread(a.reshape(-1), n, i) for a, i in zip(each(xi), order, strict=True)]
    if sparse:
        return tuple(grids)
    return tuple(np.copy(g) for g in np.broadcast_arrays(*grids))


@composes(np.append)
def _append(arr: Any, values: Any, axis: Any = None) -> Any:
    arr, values = each([arr, values])
    if axis is None:
        arr, values, axis = arr.reshape(-1), values.reshape(-1), 0
    return np.concatenate([arr, values], axis=axis)


# ---- padding ----


def _widths(
    pad_width: Any, ndim: int, what: str = "pad_width"
) -> list[tuple[Any, Any]]:
    """(before, after) for each axis, from the forms that numpy.pad takes."""
    if isinstance(pad_width, dict):
        given: list[Any] = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            given[axis] = width if isinstance(width, tuple) else (width, width)
        pad_width = given
    try:
        pairs = np.broadcast_to(as_static("pad", what, pad_width), (ndim, 2))
    except ValueError:
        raise here(
            ShapeError(
                f"NKI-1573 pad: {what} is one number, (before, after), or a pair for each of "
                f"{ndim} axes"
            )
        ) from None
    return [(before, after) for before, after in pairs.tolist()]


def _statistic(x: Any, axis: int, mode: str, length: Any, front: bool) -> Any:
    """What the modes maximum, minimum and mean pad with."""
    n = x.shape[axis]
    length = n if length is None else min(int(length), n)
    key = slice(0, length) if front else slice(n - length, n)
    part = x[_at(x.ndim, axis, key)]
    if mode != "mean":
        return (np.max if mode == "maximum" else np.min)(part, axis, keepdims=True)
    mean = np.mean(part, axis, keepdims=True)
    return np.astype(np.rint(mean) if x.dtype.kind in "iu" else mean, x.dtype)


def _edges(x: Any, axis: int, mode: str, values: tuple[Any, Any]) -> list[Any]:
    """What stands before and behind, an element along the axis."""
    if mode == "constant":
        one = (1,) * x.ndim
        return [np.astype(as_array(v), x.dtype).reshape(one) for v in values]
    return [_statistic(x, axis, mode, v, i == 0) for i, v in enumerate(values)]


#: what else the modes of numpy.pad take
_KEYWORDS = {
    "constant": {"constant_values"},
    "maximum": {"stat_length"},
    "minimum": {"stat_length"},
    "mean": {"stat_length"},
    "reflect": {"reflect_type"},
    "symmetric": {"reflect_type"},
}
_MAPPED = ("edge", "reflect", "symmetric", "wrap")
_FILLED = ("constant", "maximum", "minimum", "mean", "empty")


def _pad_axis(x: Any, axis: int, width: tuple[int, int], mode: str, how: Any) -> Any:
    n = x.shape[axis]
    if mode in _MAPPED:
        if n == 0:
            raise here(
                ShapeError(
                    f"NKI-1574 pad: mode {mode!r} does not extend an axis of size 0"
                )
            )
        index = np.pad(np.arange(n), width, mode)
        return gather("pad", x, np.asarray(index), axis)
    parts = []
    for value, size in zip(_edges(x, axis, mode, how), width, strict=True):
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        parts.append(np.broadcast_to(value, shape))
    front, back = parts
    return np.concatenate([p for p in (front, x, back) if p.shape[axis]], axis)


@composes(np.pad)
def _pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    x = as_array(array)
    if mode not in (*_MAPPED, *_FILLED):
        raise here(
            UnsupportedError(
                f"NKI-1575 pad: mode {mode!r} is not supported; one of "
                f"{', '.join((*_FILLED, *_MAPPED))} is"
            )
        )
    for keyword in kwargs.keys() - _KEYWORDS.get(mode, set()):
        raise here(DTypeError(f"NKI-1617 pad: mode {mode!r} does not take {keyword!r}"))
    if kwargs.get("reflect_type", "even") != "even":
        raise here(
            UnsupportedError(
                "NKI-1619 pad: only reflect_type='even' is supported; 'odd' is 2 * edge - even"
            )
        )
    widths = [(int(a), int(b)) for a, b in _widths(pad_width, x.ndim)]
    if any(w < 0 for pair in widths for w in pair):
        raise here(ShapeError("NKI-1576 pad: widths may not be negative"))
    hows: list[Any] = [None] * x.ndim
    if mode in ("maximum", "minimum", "mean"):
        length = kwargs.get("stat_length")
        hows = (
            [(None, None)] * x.ndim
            if length is None
            else _widths(length, x.ndim, "stat_length")
        )
    elif mode in ("constant", "empty"):
        values = kwargs.get("constant_values", 0) if mode == "constant" else 0
        mode = "constant"
        traced = is_traced(values) and np.ndim(values) == 0
        hows = (
            [(values, values)] * x.ndim
            if traced
            else _widths(values, x.ndim, "constant_values")
        )
    for axis, (width, how) in enumerate(zip(widths, hows, strict=True)):
        if any(width):
            x = _pad_axis(x, axis, width, mode, how)
    return x if x is not array else np.copy(x)
