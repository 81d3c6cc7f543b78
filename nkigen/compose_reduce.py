"""Compositions of NumPy functions that go along axes: products, running sums, positions of
extremes, reductions of chosen elements, and the methods of ufuncs.

Products and running results are trees: their roundings come in another order than NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
    scalar_of,
)
from nkigen.errors import DTypeError, ShapeError, UnsupportedError
from nkigen.ops import COMPOSITIONS, resolve_loop

__all__: list[str] = []

# ---- axes ----


def _merged_last(name: str, x: Any, axis: Any) -> tuple[Any, list[int]]:
    """x with the axes to reduce merged into a last one; which they were."""
    axes = (
        range(x.ndim)
        if axis is None
        else (axis if isinstance(axis, tuple) else (axis,))
    )
    if x.ndim == 0 and axis in (0, -1):
        axes = ()
    at = [as_axis(name, a, x.ndim) for a in axes]
    if len(set(at)) != len(at):
        raise here(ShapeError(f"NKI-1593 {name}: an axis is repeated in {tuple(axes)}"))
    kept = [i for i in range(x.ndim) if i not in at]
    x = np.transpose(x, kept + sorted(at))
    n = math.prod(x.shape[len(kept) :])
    return x.reshape(*x.shape[: len(kept)], n), at


def _kept(r: Any, axes: Sequence[int], keepdims: Any) -> Any:
    if not keepdims or keepdims is np._NoValue:
        return scalar_of(r)
    return np.expand_dims(r, tuple(sorted(axes)))


def _sum_dtype(dtype: np.dtype) -> np.dtype:
    """What NumPy adds up and multiplies integers of a dtype in."""
    if dtype.kind in "bi" and dtype.itemsize < 8:
        return np.dtype(np.int64)
    return np.dtype(np.uint64) if dtype.kind == "u" else dtype


def _wide(x: Any) -> Any:
    """The narrow floats as float32; what comes of them is rounded once."""
    narrow = x.dtype.kind not in "biu" and x.dtype.itemsize < 4
    return np.astype(x, np.float32) if narrow else x


# ---- trees ----


def _tree(op: Callable[..., Any], x: Any) -> Any:
    """All elements of the last axis in one, by halves."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        y = op(x[..., :half], x[..., half : 2 * half])
        x = np.concatenate([y, x[..., 2 * half :]], -1) if x.shape[-1] % 2 else y
    return x[..., 0]


def _running(op: Callable[..., Any], x: Any) -> Any:
    """Every prefix of the last axis in one: spans of twice the length with each step."""
    step = 1
    while step < x.shape[-1]:
        later = op(x[..., :-step], x[..., step:])
        x = np.concatenate([x[..., :step], later], -1)
        step *= 2
    return x


@composes(np.prod)
def _prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: Any = False,
    initial: Any = 1,
    where: Any = True,
) -> Any:
    a = as_array(a)
    dtype = _sum_dtype(a.dtype) if dtype is None else np.dtype(dtype)
    x = np.astype(_chosen(a, where, 1), dtype)
    x, axes = _merged_last("prod", _wide(x), axis)
    r = np.ones(x.shape[:-1], x.dtype) if x.shape[-1] == 0 else _tree(np.multiply, x)
    if initial is not None and initial is not np._NoValue:
        r = r * np.astype(as_array(initial), r.dtype)
    return _kept(np.astype(r, dtype), axes, keepdims)


def _accumulated(
    op: Callable[..., Any], name: str, a: Any, axis: Any, dtype: Any
) -> Any:
    x, at = moved_last(name, a, axis)
    r = np.astype(_running(op, _wide(np.astype(x, dtype))), dtype)
    return np.moveaxis(r, -1, at)


@composes(np.cumsum)
def _cumsum(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    a = as_array(a)
    dtype = _sum_dtype(a.dtype) if dtype is None else np.dtype(dtype)
    return _accumulated(np.add, "cumsum", a, axis, dtype)


@composes(np.cumprod)
def _cumprod(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    a = as_array(a)
    dtype = _sum_dtype(a.dtype) if dtype is None else np.dtype(dtype)
    return _accumulated(np.multiply, "cumprod", a, axis, dtype)


def _cumulative(
    name: str, fn: Any, first: int, x: Any, axis: Any, dtype: Any, include: Any
) -> Any:
    x = as_array(x)
    if axis is None:
        if x.ndim > 1:
            raise here(
                ShapeError(f"NKI-1594 {name}: an axis is needed for {x.ndim} dims")
            )
        axis = 0
    r = fn(x, axis, dtype)
    if not include:
        return r
    shape = list(r.shape)
    shape[axis] = 1
    return np.concatenate([np.full(shape, first, r.dtype), r], axis)


@composes(np.cumulative_sum)
def _cumulative_sum(
    x: Any, *, axis: Any = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    return _cumulative("cumulative_sum", _cumsum, 0, x, axis, dtype, include_initial)


@composes(np.cumulative_prod)
def _cumulative_prod(
    x: Any, *, axis: Any = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    return _cumulative("cumulative_prod", _cumprod, 1, x, axis, dtype, include_initial)


@composes(np.diff)
def _diff(
    a: Any,
    n: int = 1,
    axis: int = -1,
    prepend: Any = np._NoValue,
    append: Any = np._NoValue,
) -> Any:
    a = as_array(a)
    if n < 0:
        raise here(ShapeError(f"NKI-1595 diff: the order may not be negative, got {n}"))
    if a.ndim == 0:
        raise here(ShapeError("NKI-1596 diff: a scalar has no differences"))
    axis = as_axis("diff", axis, a.ndim)
    if n == 0:
        return a
    shape = [1 if i == axis else d for i, d in enumerate(a.shape)]
    ends = [None if v is np._NoValue else as_array(v) for v in (prepend, append)]
    front, back = (
        [] if v is None else [np.broadcast_to(v, shape) if v.ndim == 0 else v]
        for v in ends
    )
    if front or back:
        a = np.concatenate([*front, a, *back], axis)
    for _ in range(n):
        x = np.moveaxis(a, axis, -1)
        x = (np.not_equal if a.dtype == np.bool_ else np.subtract)(
            x[..., 1:], x[..., :-1]
        )
        a = np.moveaxis(x, -1, axis)
    return a


@composes(np.ediff1d)
def _ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    d = _diff(as_array(ary).reshape(-1))
    front, back = (
        [] if v is None else [np.astype(as_array(v), d.dtype).reshape(-1)]
        for v in (to_begin, to_end)
    )
    return np.concatenate([*front, d, *back]) if front or back else d


# ---- positions of extremes ----


def _arg(name: str, extreme: Any, a: Any, axis: Any, keepdims: Any) -> Any:
    """The first element that equals the extreme; the first nan if there is one."""
    a = as_array(a)
    x, at = moved_last(name, a, axis)
    n = x.shape[-1]
    if n == 0:
        raise here(ShapeError(f"NKI-1597 {name}: an axis of size 0 has no extreme"))
    if x.dtype == np.bool_:
        x = np.astype(x, np.int8)
    hit = x == extreme(x, axis=-1, keepdims=True)
    if x.dtype.kind not in "iu":
        hit = hit | np.isnan(x)
    place = np.where(hit, np.arange(n, dtype=np.int32), np.int32(n))
    r = np.astype(np.min(place, axis=-1), np.int64)
    axes = range(a.ndim) if axis is None else (at,) if a.ndim else ()
    return _kept(r, tuple(axes), keepdims)


@composes(np.argmax)
def _argmax(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return _arg("argmax", np.max, a, axis, keepdims)


@composes(np.argmin)
def _argmin(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return _arg("argmin", np.min, a, axis, keepdims)


# ---- reductions of chosen elements ----


def _chosen(a: Any, where: Any, identity: Any) -> Any:
    """a where it counts, else what changes nothing."""
    a = as_array(a)
    if where is True or where is None or where is np._NoValue:
        return a
    where = as_array(where)
    if where.dtype != np.bool_:
        raise here(DTypeError(f"NKI-1598 where= is bool, got {where.dtype}"))
    return np.where(where, a, np.astype(as_array(identity), a.dtype))


def _has(value: Any) -> bool:
    return value is not None and value is not np._NoValue


@composes(np.sum)
def _sum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: Any = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    r = np.sum(_chosen(a, where, 0), axis=axis, dtype=dtype, keepdims=_flag(keepdims))
    return r + np.astype(as_array(initial), r.dtype) if _has(initial) else r


def _flag(keepdims: Any) -> Any:
    return keepdims is not np._NoValue and keepdims


def _extreme(
    name: str,
    fn: Any,
    pair: Any,
    a: Any,
    axis: Any,
    keepdims: Any,
    initial: Any,
    where: Any,
) -> Any:
    a = as_array(a)
    if not _has(initial):
        if where is not True:
            raise here(
                ShapeError(
                    f"NKI-1599 {name}: where= needs initial=, for it has no identity"
                )
            )
        return fn(a, axis=axis, keepdims=_flag(keepdims))
    initial = np.astype(as_array(initial), a.dtype)
    if a.size == 0:
        empty = np.sum(a, axis=axis, dtype=a.dtype, keepdims=_flag(keepdims))
        return np.full_like(empty, initial)
    r = fn(_chosen(a, where, initial), axis=axis, keepdims=_flag(keepdims))
    return pair(r, initial)


@composes(np.max, np.amax)
def _max(
    a: Any,
    axis: Any = None,
    keepdims: Any = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    return _extreme("max", np.max, np.maximum, a, axis, keepdims, initial, where)


@composes(np.min, np.amin)
def _min(
    a: Any,
    axis: Any = None,
    keepdims: Any = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    return _extreme("min", np.min, np.minimum, a, axis, keepdims, initial, where)


@composes(np.any)
def _any(a: Any, axis: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    a = as_array(a) != 0
    return np.any(_chosen(a, where, False), axis=axis, keepdims=_flag(keepdims))


@composes(np.all)
def _all(a: Any, axis: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    a = as_array(a) != 0
    return np.all(_chosen(a, where, True), axis=axis, keepdims=_flag(keepdims))


def _mean_dtype(a: Any, dtype: Any) -> np.dtype:
    if dtype is not None:
        return np.dtype(dtype)
    return np.dtype(np.float64) if a.dtype.kind in "biu" else a.dtype


def _count(a: Any, axis: Any, where: Any, dtype: np.dtype) -> Any:
    """How many elements count, with the axes kept."""
    wide = np.dtype(np.float32) if dtype.itemsize < 4 else dtype
    every = np.broadcast_to(as_array(where), a.shape)
    return np.sum(np.astype(every, wide), axis=axis, keepdims=True)


def _mean_of(a: Any, axis: Any, dtype: np.dtype, where: Any) -> Any:
    x = _wide(np.astype(_chosen(a, where, 0), dtype))
    return np.sum(x, axis=axis, keepdims=True) / _count(a, axis, where, dtype)


def _dropped(r: Any, a: Any, axis: Any, dtype: np.dtype, keepdims: Any) -> Any:
    r = np.astype(r, dtype)
    if _flag(keepdims):
        return r
    axes = tuple(range(a.ndim)) if axis is None else axis
    return scalar_of(np.squeeze(r, axis=axes))


@composes(np.mean)
def _mean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: Any = False,
    *,
    where: Any = True,
) -> Any:
    a = as_array(a)
    dtype = _mean_dtype(a, dtype)
    return _dropped(_mean_of(a, axis, dtype, where), a, axis, dtype, keepdims)


def _variance(
    a: Any,
    axis: Any,
    dtype: Any,
    ddof: Any,
    keepdims: Any,
    where: Any,
    mean: Any,
    root: bool,
) -> Any:
    a = as_array(a)
    dtype = _mean_dtype(a, dtype)
    where = True if where is np._NoValue else where
    x = _wide(np.astype(a, dtype))
    centre = _mean_of(a, axis, dtype, where) if mean is None else as_array(mean)
    square = _chosen(np.square(x - centre), where, 0)
    count = _count(a, axis, where, dtype)
    r = np.sum(square, axis=axis, keepdims=True) / np.maximum(count - ddof, 0)
    return _dropped(np.sqrt(r) if root else r, a, axis, dtype, keepdims)


def _spread_of(root: bool) -> Callable[..., Any]:
    def compute(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        ddof: Any = 0,
        keepdims: Any = False,
        *,
        where: Any = True,
        mean: Any = None,
        correction: Any = None,
    ) -> Any:
        mean = None if mean is np._NoValue else mean
        ddof = ddof if correction in (None, np._NoValue) else correction
        return _variance(a, axis, dtype, ddof, keepdims, where, mean, root)

    return compute


composes(np.var)(_spread_of(False))
composes(np.std)(_spread_of(True))


@composes(np.count_nonzero)
def _count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    truth = as_array(a) != 0
    return np.sum(truth, axis=axis, dtype=np.int64, keepdims=keepdims)


@composes(np.ptp)
def _ptp(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    a, how = as_array(a), {"axis": axis, "keepdims": _flag(keepdims)}
    return np.max(a, **how) - np.min(a, **how)


@composes(np.average)
def _average(
    a: Any,
    axis: Any = None,
    weights: Any = None,
    returned: bool = False,
    *,
    keepdims: Any = False,
) -> Any:
    a, how = as_array(a), {"axis": axis, "keepdims": _flag(keepdims)}
    if weights is None:
        mean = np.mean(a, **how)
        count = a.size // max(mean.size, 1)
        return (mean, np.full_like(mean, count)) if returned else mean
    w = as_array(weights)
    if w.shape != a.shape:
        if axis is None or w.ndim != 1 or isinstance(axis, tuple):
            raise here(
                ShapeError(
                    f"NKI-1600 average: weights of shape {w.shape} for an array of {a.shape}"
                )
            )
        axis = as_axis("average", axis, a.ndim)
        w = w.reshape([-1 if i == axis else 1 for i in range(a.ndim)])
        w = np.broadcast_to(w, a.shape)
    dtype = np.result_type(a, w, *([np.float64] if a.dtype.kind in "biu" else []))
    total = np.sum(np.astype(w, dtype), **how)
    r = np.sum(np.astype(a, dtype) * np.astype(w, dtype), **how) / total
    return (r, total) if returned else r


def _without_nan(a: Any, identity: Any) -> Any:
    a = as_array(a)
    if a.dtype.kind in "biu":
        return a
    return np.where(np.isnan(a), np.asarray(identity).astype(a.dtype), a)


@composes(np.nansum)
def _nansum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: Any = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    return _sum(_without_nan(a, 0), axis, dtype, keepdims, initial, _mask(where))


@composes(np.nanprod)
def _nanprod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: Any = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    return _prod(
        _without_nan(a, 1), axis, dtype, _flag(keepdims), initial, _mask(where)
    )


def _mask(where: Any) -> Any:
    return True if where is None or where is np._NoValue else where


def _nan_extreme(
    fn: Any, worst: float, a: Any, axis: Any, keepdims: Any, initial: Any, where: Any
) -> Any:
    """nan where there is nothing else; initial= is something."""
    a = as_array(a)
    x, how = _without_nan(a, worst), {"axis": axis, "keepdims": _flag(keepdims)}
    if _has(initial):
        return fn(x, initial=initial, where=_mask(where), **how)
    if _mask(where) is not True or a.dtype.kind in "biu":
        return fn(x, where=_mask(where), **how)
    none = np.all(np.isnan(a), **how)
    return np.where(none, np.asarray(np.nan).astype(a.dtype), fn(x, **how))


@composes(np.nanmax)
def _nanmax(
    a: Any,
    axis: Any = None,
    keepdims: Any = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    return scalar_of(_nan_extreme(np.max, -np.inf, a, axis, keepdims, initial, where))


@composes(np.nanmin)
def _nanmin(
    a: Any,
    axis: Any = None,
    keepdims: Any = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    return scalar_of(_nan_extreme(np.min, np.inf, a, axis, keepdims, initial, where))


@composes(np.nanmean)
def _nanmean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: Any = False,
    *,
    where: Any = True,
) -> Any:
    a = as_array(a)
    valid = _mask(where) if a.dtype.kind in "biu" else ~np.isnan(a) & _mask(where)
    return _mean(a, axis, dtype, keepdims, where=valid)


# ---- comparisons of whole arrays ----


@composes(np.isclose)
def _isclose(
    a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False
) -> Any:
    x, y = each([a, b])
    if y.dtype.kind in "biu":
        y = np.astype(y, np.result_type(y, 1.0))
    near = (np.abs(x - y) <= atol + rtol * np.abs(y)) & (np.abs(y) < np.inf)
    near = near | (x == y)
    return near | ((x != x) & (y != y)) if equal_nan else near


@composes(np.allclose)
def _allclose(
    a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False
) -> Any:
    return np.all(_isclose(a, b, rtol, atol, equal_nan))


@composes(np.array_equal)
def _array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    x, y = each([a1, a2])
    if x.shape != y.shape:
        return False
    same = x == y
    return np.all(same | ((x != x) & (y != y)) if equal_nan else same)


# ---- methods of ufuncs ----

#: ufuncs that are reduced as trees -> what changes nothing
ASSOCIATIVE = {
    np.add: 0,
    np.multiply: 1,
    np.maximum: None,
    np.minimum: None,
    np.fmax: None,
    np.fmin: None,
    np.logical_and: True,
    np.logical_or: False,
    np.logical_xor: False,
    np.bitwise_and: -1,
    np.bitwise_or: 0,
    np.bitwise_xor: 0,
    np.hypot: 0,
    np.logaddexp: -np.inf,
}


def _check_associative(ufunc: np.ufunc, method: str) -> None:
    if ufunc not in ASSOCIATIVE:
        raise here(
            UnsupportedError(
                f"NKI-1601 {ufunc.__name__}.{method} is not supported; one of "
                f"{', '.join(u.__name__ for u in ASSOCIATIVE)} is"
            )
        )


def _method_dtype(ufunc: np.ufunc, a: Any, dtype: Any) -> np.dtype:
    if dtype is not None:
        return np.dtype(dtype)
    if ufunc in (np.add, np.multiply):
        return _sum_dtype(a.dtype)
    return resolve_loop(ufunc, (a, a))[2]


@composes("reduce")
def _reduce(
    ufunc: np.ufunc,
    array: Any,
    axis: Any = 0,
    dtype: Any = None,
    keepdims: bool = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    _check_associative(ufunc, "reduce")
    a = as_array(array)
    if ufunc is np.multiply:
        start = 1 if initial is np._NoValue else initial
        return _prod(a, axis, dtype, keepdims, start, where)
    identity = ASSOCIATIVE[ufunc]
    a = (
        np.astype(a, _method_dtype(ufunc, a, dtype))
        if a.dtype != np.bool_ or dtype
        else a
    )
    if where is not True:
        start = identity if initial is np._NoValue else initial
        if start is None:
            raise here(
                ShapeError(
                    f"NKI-1602 {ufunc.__name__}.reduce: where= needs initial=, for it has no "
                    "identity"
                )
            )
        a = _chosen(a, where, start)
    x, axes = _merged_last(f"{ufunc.__name__}.reduce", a, axis)
    if x.shape[-1] == 0 and identity is None:
        raise here(
            ShapeError(
                f"NKI-1603 {ufunc.__name__}.reduce: nothing to reduce, and no identity"
            )
        )
    r = (
        np.full(x.shape[:-1], identity, x.dtype)
        if x.shape[-1] == 0
        else _tree(ufunc, x)
    )
    if _has(initial):
        r = ufunc(r, np.astype(as_array(initial), r.dtype))
    return _kept(r, axes, keepdims)


@composes("accumulate")
def _accumulate(ufunc: np.ufunc, array: Any, axis: Any = 0, dtype: Any = None) -> Any:
    _check_associative(ufunc, "accumulate")
    a = as_array(array)
    name = f"{ufunc.__name__}.accumulate"
    if a.ndim == 0:
        raise here(DTypeError(f"NKI-1604 {name}: a scalar has no axis"))
    axis = as_axis(name, axis, a.ndim)
    return _accumulated(ufunc, name, a, axis, _method_dtype(ufunc, a, dtype))


@composes("outer")
def _outer(ufunc: np.ufunc, a: Any, b: Any, /, **kwargs: Any) -> Any:
    x, y = each([a, b])
    return ufunc(x.reshape(x.shape + (1,) * y.ndim), y, **kwargs)


@composes("at")
def _at(ufunc: np.ufunc, a: Any, indices: Any, b: Any = np._NoValue) -> None:
    """Without repeats one write; else one for each position, in their order."""
    name = f"{ufunc.__name__}.at"
    more = () if b is np._NoValue else (as_array(b),)
    basic = indices if isinstance(indices, tuple) else (indices,)
    if all(
        i is None or i is Ellipsis or isinstance(i, (slice, int, np.integer))
        for i in basic
    ):
        a[indices] = _cast_back(name, ufunc(a[indices], *more), a.dtype)
        return
    if isinstance(indices, tuple) and len(indices) != 1:
        raise here(
            UnsupportedError(
                f"NKI-1605 {name}: index arrays for several axes are not supported; one of the "
                "first axis, integers and slices are"
            )
        )
    index = as_static(
        name, "indices", indices[0] if isinstance(indices, tuple) else indices
    )
    if index.dtype.kind not in "iu" or index.size > MOST_WRITES:
        raise here(
            UnsupportedError(
                f"NKI-1606 {name}: at most {MOST_WRITES} integer indices are supported, got "
                f"{index.size} of {index.dtype}"
            )
        )
    values = [np.broadcast_to(v, index.shape + a.shape[1:]) for v in more]
    values = [v.reshape(-1, *a.shape[1:]) for v in values]
    for k, i in enumerate(index.reshape(-1).tolist()):
        r = ufunc(a[i, ...], *[v[k, ...] for v in values])
        a[i, ...] = _cast_back(name, r, a.dtype)


#: positions that a ufunc's method `at` writes one after the other
MOST_WRITES = 1024


def _cast_back(name: str, r: Any, dtype: np.dtype) -> Any:
    if not np.can_cast(r.dtype, dtype, "same_kind"):
        raise here(
            DTypeError(
                f"NKI-1607 {name}: the result is {r.dtype} and cannot be written to an array of "
                f"{dtype} (casting rule 'same_kind')"
            )
        )
    return np.astype(r, dtype)


@composes("reduceat")
def _reduceat(
    ufunc: np.ufunc, array: Any, indices: Any, axis: Any = 0, dtype: Any = None
) -> Any:
    a = as_array(array)
    name = f"{ufunc.__name__}.reduceat"
    axis = as_axis(name, axis, a.ndim)
    x = np.moveaxis(a, axis, -1)
    starts = as_static(name, "indices", indices).tolist()
    n = x.shape[-1]
    if any(not 0 <= i < n for i in starts):
        raise here(
            ShapeError(f"NKI-1608 {name}: indices are in [0, {n}), got {starts}")
        )
    ends = [*starts[1:], n]
    parts = [
        ufunc.reduce(x[..., i : max(j, i + 1)], axis=-1, keepdims=True, dtype=dtype)
        for i, j in zip(starts, ends, strict=True)
    ]
    return np.moveaxis(np.concatenate(parts, -1), -1, axis)


def _call_where(
    ufunc: np.ufunc, *args: Any, where: Any, out: Any = None, **kwargs: Any
) -> Any:
    """Where the condition does not hold, out stays as it is."""
    out = out[0] if isinstance(out, tuple) and len(out) == 1 else out
    if out is None or isinstance(out, tuple):
        raise here(
            UnsupportedError(
                f"NKI-1609 {ufunc.__name__}: where= without out= leaves elements without a "
                "value; give out=, or use numpy.where"
            )
        )
    condition = as_array(where)
    if condition.dtype != np.bool_:
        raise here(
            DTypeError(
                f"NKI-1610 {ufunc.__name__}: where= is bool, got {condition.dtype}"
            )
        )
    r = ufunc(*args, **kwargs)
    shape = np.broadcast_shapes(r.shape, condition.shape)
    if shape != out.shape:
        raise here(
            ShapeError(
                f"NKI-1611 {ufunc.__name__}: the result has shape {shape}, out has shape {out.shape}"
            )
        )
    np.copyto(out, np.where(condition, _cast_back(ufunc.__name__, r, out.dtype), out))
    return out


COMPOSITIONS["where"] = _call_where


@composes(np.copyto)
def _copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    condition = as_array(where)
    if condition.dtype != np.bool_:
        raise here(
            DTypeError(f"NKI-1612 copyto: where= is bool, got {condition.dtype}")
        )
    weak = type(src) in (bool, int, float)
    if not weak and not np.can_cast(as_array(src).dtype, dst.dtype, casting):
        raise here(
            DTypeError(
                f"NKI-1613 copyto: cannot copy {as_array(src).dtype} to an array of {dst.dtype} "
                f"(casting rule {casting!r})"
            )
        )
    value = np.asarray(src, dst.dtype) if weak else np.astype(as_array(src), dst.dtype)
    np.copyto(dst, np.where(condition, value, dst))
