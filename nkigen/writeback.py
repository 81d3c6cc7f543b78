"""Parameters that a kernel changes: which arrays can take them, and writing them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nkigen.errors import DTypeError, ShapeError

__all__ = ["check_targets", "write_back"]

#: steps that the exact answer to "do these share memory" may take
MAX_WORK = 10_000


def check_targets(
    kernel: str, inputs: Sequence[Any], aliases: Mapping[int, int], given: Sequence[Any]
) -> None:
    """Refuse arguments that a kernel would change, as NumPy would, but cannot.

    inputs: name, shape and dtype per parameter. Raises DTypeError for what is no array
    of the parameter's dtype, ShapeError for a read-only array and for an array that
    shares memory with another argument, or one of its elements with another.

    Example:
        >>> from nkigen.compile import ArrayInfo
        >>> c = ArrayInfo("c", (3,), np.dtype("f4"))
        >>> check_targets("f", [c], {0: 0}, [np.zeros(3, np.float32)])
    """
    for j in aliases.values():
        what = f"{kernel} changes its parameter '{inputs[j].name}'"
        array, dtype = given[j], inputs[j].dtype
        if not isinstance(array, np.ndarray):
            raise DTypeError(
                f"NKI-1517 {what}: give a writable array of {dtype}, got a "
                f"{type(array).__name__}, which would not see the change"
            )
        if array.dtype.newbyteorder("=") != dtype:
            raise DTypeError(
                f"NKI-1518 {what}: give an array of {dtype}, got {array.dtype}; a converted copy "
                "would not see the change"
            )
        if not array.flags.writeable:
            raise ShapeError(
                f"NKI-1519 {what}: give a writable array; this one is read-only"
            )
        if _meets_itself(array):
            raise ShapeError(
                f"NKI-1520 {what}: elements of the given array share memory with each other, so "
                "that not all can be written; give a copy"
            )
        for i, other in enumerate(given):
            if i != j and isinstance(other, np.ndarray) and _overlap(array, other):
                raise ShapeError(
                    f"NKI-1521 {what}, which shares memory with '{inputs[i].name}'; give a copy "
                    "of one of them"
                )


def _meets_itself(a: np.ndarray) -> bool:
    """Whether elements may share memory: where no stride spans the axes below it."""
    reach = a.itemsize
    for stride, n in sorted((abs(s), n) for s, n in zip(a.strides, a.shape) if n > 1):
        if stride < reach:
            return a.size > 0
        reach = stride * (n - 1) + reach
    return False


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=MAX_WORK)
    except np.exceptions.TooHardError:
        return True


def write_back(
    aliases: Mapping[int, int], given: Sequence[Any], outputs: Sequence[Any]
) -> list[Any]:
    """Write changed parameters into the caller's arrays; these stand for the outputs.

    Example:
        >>> c = np.zeros(2)
        >>> write_back({0: 0}, [c], [np.ones(2)])[0] is c, c[1]
        (True, np.float64(1.0))
    """
    results = list(outputs)
    for k, j in aliases.items():
        given[j][...] = outputs[k]
        results[k] = given[j]
    return results
