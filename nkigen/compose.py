"""What the compositions of NumPy functions share: their table, arguments, errors.

A NumPy function without a row of its own in csrc/py/functions.def is traced as the calls
that a composition makes. It is found in `nkigen.ops.COMPOSITIONS` under the function
itself, a method of ufuncs under its name; `composes` puts it there. A composition takes
what the user gave, computes what NumPy computes in NumPy's dtypes, and knows only shapes
and values that are known while tracing.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nkigen import _core, ops
from nkigen.errors import (
    DTypeError,
    IndexingError,
    NkigenError,
    ShapeError,
    UnsupportedError,
    locate,
)

__all__ = [
    "as_array",
    "as_axis",
    "as_static",
    "composes",
    "here",
    "in_f32",
    "is_traced",
    "moved_last",
    "scalar_of",
    "spread",
    "store",
]

#: files whose frames are never the user's: NumPy's, and compositions
_OWN = os.path.dirname(os.path.abspath(ops.__file__))
_SKIPPED = (
    os.path.dirname(os.path.abspath(np.__file__)),
    os.path.join(_OWN, "compose"),
    os.path.join(_OWN, "ops.py"),
    os.path.join(_OWN, "buffers.py"),
)


def composes(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function the composition of NumPy functions.

    Its parameters have NumPy's names. out= is not for the composition: its result is
    written there. Any other parameter of NumPy's that it lacks is refused.

    Example:
        >>> from nkigen import compose_values
        >>> np.fmod in ops.COMPOSITIONS
        True
    """

    def register(compose: Callable[..., Any]) -> Callable[..., Any]:
        for f in functions:
            ops.COMPOSITIONS[f] = functools.partial(_call, f, compose)
        return compose

    return register


def _call(function: Any, compose: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    name = getattr(function, "__name__", function)
    if isinstance(function, np.ufunc):
        _refuse_others(name, compose, kwargs)
    elif not isinstance(function, str):
        args, kwargs = _by_name(name, function, compose, args, kwargs)
    out = kwargs.pop("out", None)
    result = compose(*args, **kwargs)
    if out is not None:
        return store(name, out, result)
    is_array = isinstance(result, (np.ndarray, _core.TracedArray))
    return scalar_of(result) if isinstance(function, np.ufunc) and is_array else result


def _refuse_others(name: str, compose: Any, kwargs: dict[str, Any]) -> None:
    """Arguments that a composition lacks."""
    ours = _signature(compose).parameters
    if any(p.kind is p.VAR_KEYWORD for p in ours.values()):
        return
    for key in kwargs.keys() - {"out", *ours}:
        raise here(
            UnsupportedError(
                f"NKI-1616 {name}: the argument '{key}' is not supported (docs/numpy.md)"
            )
        )


@functools.lru_cache(None)
def _signature(function: Any) -> inspect.Signature:
    return inspect.signature(function)


def _by_name(
    name: str, function: Any, compose: Any, args: Any, kwargs: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by NumPy's names, without those that say nothing new."""
    theirs, ours = _signature(function).parameters, _signature(compose).parameters
    if any(p.kind is p.VAR_POSITIONAL for p in theirs.values()):
        return args, kwargs
    named = dict(_signature(function).bind(*args, **kwargs).arguments)
    for p in theirs.values():
        if p.kind is p.VAR_KEYWORD:
            named |= named.pop(p.name, {})
    for key in [k for k in named if k not in ours and k in theirs and k != "out"]:
        if named[key] is np._NoValue or named[key] is theirs[key].default:
            del named[key]
    _refuse_others(name, compose, named)
    return (), named


def here(error: NkigenError) -> NkigenError:
    """An error with the user's current line.

    Example:
        >>> here(ShapeError("no")).lineno is None
        False
    """
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED):
        frame = frame.f_back
    if frame is not None:
        locate(error, frame.f_code, frame.f_lasti)
    return error


def is_traced(value: Any) -> bool:
    """Whether the elements of a value are not known while tracing.

    Example:
        >>> is_traced([1, 2])
        False
    """
    if isinstance(value, (list, tuple)):
        return any(is_traced(v) for v in value)
    return isinstance(value, _core.TracedArray)


def as_array(value: Any) -> Any:
    """A value as an array: traced ones as they are, lists joined.

    Example:
        >>> as_array([1, 2]).shape
        (2,)
    """
    if isinstance(value, _core.TracedArray):
        return value
    if is_traced(value):
        return np.stack([as_array(v) for v in value])
    return np.asarray(value)


def as_static(name: str, what: str, value: Any) -> np.ndarray:
    """A value that has to be known while tracing, as an array.

    Example:
        >>> as_static("take", "indices", [1]).tolist()
        [1]
    """
    if is_traced(value):
        raise here(
            UnsupportedError(
                f"NKI-1550 {name}: {what} that are traced are not supported; give numbers "
                "that are known while tracing"
            )
        )
    return np.asarray(value)


def as_axis(name: str, axis: Any, ndim: int) -> int:
    """An axis counted from the front.

    Example:
        >>> as_axis("diff", -1, 3)
        2
    """
    if isinstance(axis, (bool, np.bool_)) or not hasattr(axis, "__index__"):
        raise here(
            DTypeError(
                f"NKI-1551 {name}: expected an integer as axis, got {type(axis).__name__}"
            )
        )
    index = axis.__index__()
    if not -ndim <= index < ndim:
        raise here(
            IndexingError(
                f"NKI-1552 {name}: axis {index} is out of bounds for array of dimension {ndim}"
            )
        )
    return index % ndim


def moved_last(name: str, x: Any, axis: Any) -> tuple[Any, int]:
    """x with an axis as its last, flat for None; and where the axis was.

    Example:
        >>> moved_last("sort", np.zeros((2, 3)), 0)[0].shape
        (3, 2)
    """
    x = as_array(x)
    if axis is None:
        return x.reshape(-1), 0
    if x.ndim == 0 and axis in (0, -1):
        return x.reshape(1), 0
    axis = as_axis(name, axis, x.ndim)
    return np.moveaxis(x, axis, -1), axis


def scalar_of(x: Any) -> Any:
    """What has no axes as the scalar that NumPy's reductions give.

    Example:
        >>> type(scalar_of(np.array(1.0))).__name__
        'float64'
    """
    return x[()] if x.ndim == 0 else x


def spread(x: Any, ndim: int, axis: int) -> Any:
    """A vector along one axis of `ndim`.

    Example:
        >>> spread(np.arange(3), 3, 1).shape
        (1, 3, 1)
    """
    return x.reshape([-1 if i == axis else 1 for i in range(ndim)])


def store(name: str, out: Any, result: Any) -> Any:
    """Write a result to out=, which is returned; its casting rule is NumPy's.

    Example:
        >>> store("cumsum", np.zeros(2), np.ones(2)).tolist()
        [1.0, 1.0]
    """
    if isinstance(out, tuple) and len(out) == 1:
        out = out[0]
    if not isinstance(out, (np.ndarray, _core.TracedArray)):
        raise here(
            DTypeError(f"NKI-1553 {name}: out is an array, got {type(out).__name__}")
        )
    if out.shape != np.shape(result):
        raise here(
            ShapeError(
                f"NKI-1554 {name}: the result has shape {np.shape(result)}, out has shape "
                f"{out.shape}"
            )
        )
    if not np.can_cast(result.dtype, out.dtype, "same_kind"):
        raise here(
            DTypeError(
                f"NKI-1555 {name}: the result is {result.dtype} and cannot be written to an "
                f"array of {out.dtype} (casting rule 'same_kind'); use astype"
            )
        )
    np.copyto(out, result)
    return out


def in_f32(ufunc: np.ufunc, compute: Callable[..., Any], *args: Any) -> Any:
    """What `compute` gives for the operands in the dtype of NumPy's loop; narrow floats
    are computed in float32 and rounded once.

    Example:
        >>> float(in_f32(np.arcsin, lambda x: x * 2, np.float16(1)))
        2.0
    """
    operands = ops._loop(ufunc, *args)
    dtype = ops.resolve_loop(ufunc, args)[ufunc.nin]
    if operands[0].dtype.itemsize < 4:
        operands = [np.astype(x, np.float32) for x in operands]
    return np.astype(compute(*operands), dtype)


def each(values: Sequence[Any]) -> list[Any]:
    """Values as arrays."""
    return [as_array(v) for v in values]
