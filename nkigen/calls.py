"""What a kernel is called with: parameters that are arrays, and static ones.

The arguments of a function are walked (nkigen.structure). A leaf that is an array, a
NumPy scalar or a (shape, dtype) pair is a parameter of the kernel; any other hashable
leaf is static, a constant of it.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nkigen import _core
from nkigen.buffers import live
from nkigen.errors import DTypeError, NkigenError, ShapeError, TraceError
from nkigen.structure import (
    Branch,
    flatten_arguments,
    has_arrays,
    identifiers,
    match,
    match_static,
    printable,
    unflatten,
)

__all__ = ["Spec", "spec_of", "Call", "kernel_name", "plain_array", "scalar_of"]

POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


class Spec(NamedTuple):
    """Shape and NumPy dtype of one parameter."""

    shape: tuple[int, ...]
    dtype: np.dtype


def spec_of(spec: Any) -> Spec:
    """Shape and dtype of an array or a (shape, dtype) pair.

    Raises DTypeError for a dtype that is not supported and for what is no spec.

    Example:
        >>> spec_of(((4, 8), "f32"))
        Spec(shape=(4, 8), dtype=dtype('float32'))
    """
    if isinstance(spec, Spec):
        return spec
    if is_spec_pair(spec):
        dims = spec[0] if isinstance(spec[0], (tuple, list)) else (spec[0],)
        shape = tuple(operator.index(d) if _is_int(d) else -1 for d in dims)
        if not all(0 <= d < 2**63 for d in shape):
            raise ShapeError(
                "NKI-1511 a shape is a tuple of non-negative integers below 2**63, got "
                f"{spec[0]!r}"
            )
        try:
            return Spec(shape, _core.np_dtype(spec[1]))
        except NkigenError as e:
            raise _misread(spec, e) from None
    if isinstance(spec, _core.TracedArray):
        raise DTypeError(
            "NKI-1505 a parameter is an array or (shape, dtype), got a TracedArray"
        )
    if isinstance(spec, (np.ndarray, np.generic)) or hasattr(type(spec), "__array__"):
        array = plain_array(spec)
        return Spec(array.shape, _core.np_dtype(array.dtype))
    raise DTypeError(
        f"NKI-1503 a parameter is an array or (shape, dtype), got {type(spec).__name__}"
    )


def _misread(spec: Any, error: NkigenError) -> NkigenError:
    """The error of a pair that reads as (shape, dtype), with the way out."""
    if isinstance(spec[1], str):
        error = error.inside(
            f"{spec!r} reads as (shape, dtype), give two static values as a list"
        )
    return error


def is_spec(value: Any) -> bool:
    """Whether a tuple is one leaf: a Spec, or (shape, dtype).

    Example:
        >>> is_spec(Spec((4,), np.dtype("f4")))
        True
    """
    return isinstance(value, Spec) or is_spec_pair(value)


def is_spec_pair(value: Any) -> bool:
    """Whether a value reads as (shape, dtype).

    The first item is an int or a tuple or list of numbers. The second is a dtype: text
    that names one, a NumPy dtype or scalar type, a class of Python's numbers. After a tuple or
    list of integers any text counts, so that a misspelt dtype is an error; two static
    values of that kind are given as a list.

    Example:
        >>> is_spec_pair((4, "f32")), is_spec_pair((4, "relu")), is_spec_pair((4, 8))
        (True, False, False)
    """
    if type(value) is not tuple or len(value) != 2:
        return False
    first, second = value
    if isinstance(first, (tuple, list)):
        numbers = all(_is_int(d) or isinstance(d, float) for d in first)
        return numbers and (isinstance(second, str) or _is_dtype(second))
    return _is_int(first) and _is_dtype(second)


def _is_int(value: Any) -> bool:
    return hasattr(type(value), "__index__") and not isinstance(
        value, (bool, np.ndarray, _core.TracedArray)
    )


def _is_dtype(value: Any) -> bool:
    if isinstance(value, type):
        return issubclass(value, (np.generic, bool, int, float, complex))
    if isinstance(value, np.dtype):
        return True
    if not isinstance(value, str):
        return False
    try:
        _core.np_dtype(value)
    except NkigenError:
        return _numpy_knows(value)
    return True


def _numpy_knows(name: str) -> bool:
    """A dtype of NumPy's that is not ours: meant as one."""
    try:
        np.dtype(name)
    except Exception:  # whatever NumPy makes of any text at all
        return False
    return True


def plain_array(value: Any) -> np.ndarray:
    """A value as an array; DTypeError for arrays that mean more than their elements.

    Example:
        >>> plain_array([1, 2]).shape
        (2,)
    """
    if live(value) is not None:
        raise TraceError(
            "NKI-1506 an array that was made inside of a kernel and has traced elements is no "
            "argument of another; pass arrays in as parameters and out as results"
        )
    if isinstance(value, np.ma.MaskedArray):
        raise DTypeError(
            "NKI-1507 a masked array has elements that do not count; give it as "
            "x.filled(value), or its mask as a parameter of its own"
        )
    if isinstance(value, np.matrix):
        raise DTypeError(
            "NKI-1508 numpy.matrix multiplies matrices with *; give it as numpy.asarray(x)"
        )
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.asarray(value)
    except ValueError as e:
        raise ShapeError(f"NKI-1512 {type(value).__name__} is no array: {e}") from None


def scalar_of(value: bool | int | float, dtype: np.dtype, what: str) -> np.ndarray:
    """A Python scalar in a dtype that can hold it; DTypeError for any other dtype.

    Example:
        >>> scalar_of(3, np.dtype("f4"), "x")
        array(3., dtype=float32)
    """
    wide = dtype if dtype.kind in "biu" else np.dtype(np.float64)
    kinds = {"b": (bool,), "i": (bool, int), "u": (bool, int), "f": (bool, int, float)}
    fits = isinstance(value, kinds[wide.kind])
    try:
        exact = np.array(value, wide) if fits else None
    except OverflowError:
        exact = None
    if exact is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            a = exact.astype(dtype)
        if np.isfinite(a) == np.isfinite(exact):
            return a
    raise DTypeError(
        f"NKI-1504 {what} is of dtype {dtype}, which cannot hold {value!r}"
    )


def is_parameter(value: Any, path: str) -> bool:
    """Whether a leaf is a parameter; DTypeError for one that is neither that nor static.

    Example:
        >>> is_parameter(np.float32(1), "x"), is_parameter(1.0, "eps")
        (True, False)
    """
    if isinstance(value, _core.TracedArray):
        raise DTypeError(
            f"NKI-1509 {path}: a TracedArray is no parameter; give an array or (shape, dtype)"
        )
    if isinstance(value, (str, bytes, slice)):  # numpy.str_ is one; slices are hashable
        return False  # only from Python 3.12 on
    if is_spec(value):
        return True
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(type(value), "__array__"):
        return True
    if type(value).__hash__ is None:
        raise DTypeError(
            f"NKI-1510 {path}: expected an array, (shape, dtype) or a static value, which is "
            f"hashable, got a {type(value).__name__}"
        )
    return False


def kernel_name(fn: Callable[..., Any]) -> str:
    """The name a function gives its kernel.

    Example:
        >>> kernel_name(lambda x: x)
        'kernel'
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str) or not name:
        name = type(fn).__name__
    return "kernel" if name == "<lambda>" else printable(name)


@dataclass(frozen=True)
class Call:
    """How a function was called to be compiled: what a call of its kernel must match."""

    name: str
    signature: inspect.Signature
    tree: Branch
    paths: tuple[str, ...]

    @classmethod
    def of(
        cls, fn: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]
    ) -> tuple[Call, list[Any]]:
        """The call, and what was given for each parameter that is an array.

        Example:
            >>> call, given = Call.of(lambda x, n: x * n, ["f32 4"], {"n": (4, "f32")})
            >>> call.paths, given
            (('n',), [(4, 'f32')])
        """
        name, signature = kernel_name(fn), _signature(fn, args, named)
        try:
            bound = signature.bind(*args, **named)
        except TypeError as e:
            raise DTypeError(f"NKI-1513 {name}{signature}: {e}") from None
        tree, leaves = flatten_arguments(
            bound.arguments, _var_keyword(signature), is_parameter, is_spec
        )
        return cls(name, signature, tree, tuple(v.path for v in leaves)), [
            v.value for v in leaves
        ]

    def names(self) -> list[str]:
        """Identifiers for the parameters, made of their paths."""
        return identifiers(self.paths)

    def invoke(self, fn: Callable[..., Any], arrays: Sequence[Any]) -> Any:
        """Call `fn` as it was called, with other arrays."""
        arguments = unflatten(self.tree, arrays)
        bound = inspect.BoundArguments(self.signature, arguments)
        return fn(*bound.args, **bound.kwargs)

    def arrays(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        """The arrays of a later call, in the order of the parameters.

        Wholly static arguments may be left out: all of those given by position, those at
        the end, and any given by name. Raises StructureError where a call has another
        structure or another static value, DTypeError where it does not fit the signature.
        """
        arguments, out = self._bound(args, named), []
        for name, tree in zip(self.tree.keys, self.tree.items, strict=True):
            if name in arguments:
                out += match(tree, arguments.pop(name))
            elif has_arrays(tree):
                raise DTypeError(
                    f"NKI-1516 {self.name}: missing '{name}'; {self._takes()}"
                )
        for name, value in arguments.items():
            match_static(name, self._default(name), value)
        return out

    def _bound(self, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        args, named = self._completed(args, named)
        try:
            bound = self.signature.bind_partial(*args, **named)
        except TypeError as e:
            raise DTypeError(f"NKI-1514 {self.name}: {e}; {self._takes()}") from None
        arguments = dict(bound.arguments)
        keyword = _var_keyword(self.signature)
        if (
            keyword in self.tree.keys
        ):  # of **kwargs, too, what is static may be left out
            kwargs = self.tree.items[self.tree.keys.index(keyword)]
            static = {
                k: unflatten(t, ())
                for k, t in zip(kwargs.keys, kwargs.items, strict=True)
                if not has_arrays(t)
            }
            arguments[keyword] = static | arguments.get(keyword, {})
        return arguments

    def _completed(
        self, args: Sequence[Any], named: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """When just the arguments with arrays are given by position: with the others."""
        trees = dict(zip(self.tree.keys, self.tree.items, strict=True))
        kinds = {n: p.kind for n, p in self.signature.parameters.items()}
        slots = [n for n in kinds if kinds[n] in POSITIONAL]
        by_name = {n for n in named if kinds.get(n) is POSITIONAL[1]}
        arrays = [
            n for n in slots if n in trees and n not in by_name and has_arrays(trees[n])
        ]
        if len(args) != len(arrays) or slots[: len(arrays)] == arrays:
            return args, named
        given, rest = iter(args), dict(named)
        full = []
        for n in slots[: slots.index(arrays[-1]) + 1]:
            if n in arrays:
                full.append(next(given))
            elif n in by_name:
                full.append(rest.pop(n))
            elif n in trees:
                full.append(unflatten(trees[n], ()))
            else:
                full.append(self._default(n))
        return full, rest

    def _default(self, name: str) -> Any:
        """What a parameter that was not given is."""
        parameter = self.signature.parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            return ()
        return {} if parameter.kind is parameter.VAR_KEYWORD else parameter.default

    def _takes(self) -> str:
        shown = [*self.paths[:8], *(["..."] if len(self.paths) > 8 else [])]
        return f"it takes {len(self.paths)} arrays ({', '.join(shown)})"


def _signature(
    fn: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]
) -> inspect.Signature:
    """Of a function that tells none: one parameter for each argument by position."""
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        if named:
            raise DTypeError(
                f"NKI-1515 {kernel_name(fn)}: arrays by name need a function with a signature"
            ) from None
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [f"x{i}" for i in range(len(args))]
    return inspect.Signature([inspect.Parameter(n, kind) for n in names])


def _var_keyword(signature: inspect.Signature) -> str | None:
    parameters = signature.parameters.values()
    return next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
