"""Comparing compiled kernels with NumPy, and the one table of tolerances.

Example:
    >>> import numpy as np
    >>> from nkigen.testing import verify_against_numpy
    >>> x = np.ones((4, 8), np.float32)
    >>> k = verify_against_numpy(np.exp, x)          # doctest: +SKIP
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nkigen.structure import flatten, match

__all__ = [
    "Tolerance",
    "TOLERANCE",
    "tolerance",
    "assert_close",
    "verify_against_numpy",
]


class Tolerance(NamedTuple):
    """Allowed error: `rtol` of the largest finite value plus `atol`.

    `matmul` replaces `rtol` where sums of products are compared.
    """

    rtol: float
    atol: float
    matmul: float


#: per dtype name; integers and bool compare exactly
TOLERANCE: dict[str, Tolerance] = {
    "float64": Tolerance(2e-6, 1e-7, 2e-5),
    "float32": Tolerance(2e-6, 1e-7, 2e-5),
    "float16": Tolerance(4e-3, 1e-5, 4e-3),
    "bfloat16": Tolerance(2e-2, 1e-5, 2e-2),
    "float8_e4m3": Tolerance(1.3e-1, 1e-2, 1.3e-1),
    "float8_e4m3fn": Tolerance(1.3e-1, 1e-2, 1.3e-1),
    "float8_e5m2": Tolerance(2.6e-1, 1e-2, 2.6e-1),
    "float8_e3m4": Tolerance(7e-2, 1e-2, 7e-2),
}


def tolerance(dtype: Any) -> Tolerance | None:
    """The row of a dtype; None means exact.

    Example:
        >>> tolerance(np.int32) is None
        True
    """
    return TOLERANCE.get(np.dtype(dtype).name)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    matmul: bool = False,
    dtype: Any = None,
) -> None:
    """Raise AssertionError unless `actual` is `expected` within its dtype's tolerance.

    Shapes must agree, NaN and infinities must stand in the same places, and the largest
    difference must be at most `rtol` times the largest finite value plus `atol`.

    Example:
        >>> assert_close(np.float32([1.0]), np.float64([1.0000001]))
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape:
        raise AssertionError(f"shape {actual.shape}, expected {expected.shape}")
    row = tolerance(dtype if dtype is not None else actual.dtype)
    if row is None and rtol is None and atol is None:
        _assert_equal(actual, expected)
        return
    row = row or Tolerance(0.0, 0.0, 0.0)
    rtol = (row.matmul if matmul else row.rtol) if rtol is None else rtol
    atol = row.atol if atol is None else atol
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(e)
    if not np.array_equal(a[~finite], e[~finite], equal_nan=True):
        raise AssertionError("NaN or infinite elements differ from the expected ones")
    if not finite.any():
        return
    diff = np.abs(np.where(finite, a, 0.0) - np.where(finite, e, 0.0))
    limit = rtol * float(np.abs(e[finite]).max()) + atol
    worst = np.unravel_index(int(np.argmax(diff)), diff.shape)
    if not diff[worst] <= limit:
        where = tuple(int(i) for i in worst)
        raise AssertionError(
            f"largest difference {diff[worst]:.3g} at {where} exceeds {limit:.3g}: "
            f"got {a[worst]!r}, expected {e[worst]!r}"
        )


def _assert_equal(actual: np.ndarray, expected: np.ndarray) -> None:
    if np.array_equal(actual, expected):
        return
    where = np.argwhere(actual != expected)[0]
    i = tuple(int(v) for v in where)
    raise AssertionError(f"element {i} is {actual[i]!r}, expected {expected[i]!r}")


def verify_against_numpy(
    fn: Callable,
    *arrays: Any,
    target: str = "trn2",
    rtol: float | None = None,
    atol: float | None = None,
    matmul: bool = False,
    **options: Any,
) -> Any:
    """Compile `fn`, run the program in the simulator and compare with `fn` in NumPy.

    arrays, options: the function's arguments, as compile() takes them, and its options.
    Returns the compiled kernel. Raises AssertionError when the hardware verifier finds
    a violation, or an output or a changed parameter differs by more than the dtype's
    tolerance. The arrays that are given stay as they are.

    Example:
        >>> x = np.linspace(-1, 1, 64, dtype=np.float32)
        >>> verify_against_numpy(np.tanh, x).cost.hbm_read_bytes   # doctest: +SKIP
        256
    """
    import nkigen
    from nkigen.trace import bind

    kernel = nkigen.compile(fn, *arrays, target=target, **options)
    violations = kernel.verify()
    if violations:
        raise AssertionError(
            "program breaks hardware rules:\n" + "\n".join(map(str, violations))
        )
    named = _parameters(nkigen.compile, options)
    plain, call, given = bind(fn, arrays, named)
    wide = [_wider(a) for a in map(np.asarray, given)]
    copies = [np.array(a, subok=True) for a in given]
    expected, actual = call.invoke(plain, wide), call.invoke(kernel, copies)
    _assert_structure(actual, expected, rtol=rtol, atol=atol, matmul=matmul)
    for j in kernel.aliases.values():
        assert_close(copies[j], wide[j], rtol=rtol, atol=atol, matmul=matmul)
    return kernel


def _parameters(compile_: Callable, options: dict[str, Any]) -> dict[str, Any]:
    """What of the keywords of compile() are arguments of the function."""
    signature = inspect.signature(compile_).parameters.values()
    known = {p.name for p in signature if p.kind is p.KEYWORD_ONLY}
    named = {k: v for k, v in options.items() if k not in known}
    return named | dict(options.get("params") or {})


def _assert_structure(actual: Any, expected: Any, **limits: Any) -> None:
    """Array by array; what is no array is the same."""

    def is_array(value: Any, path: str) -> bool:
        return isinstance(value, (np.ndarray, np.generic))

    tree, leaves = flatten(expected, "result", is_array)
    for leaf, got in zip(leaves, match(tree, actual), strict=True):
        assert_close(got, leaf.value, **limits)


def _wider(a: np.ndarray) -> np.ndarray:
    """A copy, floats in float64: the expected value has no rounding of its own."""
    floating = a.dtype.kind == "f" or a.dtype.name.startswith(("bfloat", "float8"))
    return a.astype(np.float64) if floating else a.copy()
