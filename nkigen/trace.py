"""Tracing: a NumPy function becomes a tensor program by being called once.

A kernel takes arrays and returns one array or a tuple of arrays. While it is traced,
its arrays are `TracedArray`s: shapes and dtypes are known, elements are not.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nkigen import _core
from nkigen.errors import DTypeError, ShapeError, TraceError

__all__ = ["trace", "TracedFunction", "Spec", "spec_of", "trace_graph"]


class Spec(NamedTuple):
    """Shape and NumPy dtype of one parameter."""

    shape: tuple[int, ...]
    dtype: np.dtype


class TracedFunction:
    """A kernel: calling it runs plain NumPy, compiling it gives a program.

    Example:
        >>> @trace
        ... def double(x):
        ...     return x + x
        >>> double(2.0)
        4.0
        >>> print(double.graph(((4,), "f32")).ops)
        ('input', 'add')
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        input_specs: Sequence[Any] | None = None,
        name: str | None = None,
    ) -> None:
        if not callable(fn):
            raise DTypeError(f"trace: expected a function, got {type(fn).__name__}")
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name or kernel_name(fn)
        self.input_specs = (
            None if input_specs is None else tuple(map(spec_of, input_specs))
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        return f"<nkigen.trace of {self.name}>"

    def graph(self, *specs: Any, **named: Any) -> _core.Program:
        """The tensor program for parameters of these shapes and dtypes, not compiled.

        A spec is an array or (shape, dtype). Raises what the kernel does wrong, at its
        line.

        Example:
            >>> trace(lambda x: x * 2).graph(((2, 3), "bf16")).inputs
            (('x', 'bf16', (2, 3)),)
        """
        names, ordered = bind_specs(self, specs, named)
        return trace_graph(self.fn, names, [spec_of(s) for s in ordered], self.name)[
            0
        ].program


def trace(
    fn: Callable[..., Any] | None = None,
    *,
    input_specs: Sequence[Any] | None = None,
    name: str | None = None,
) -> Any:
    """Mark a NumPy function as a kernel; usable with and without arguments.

    input_specs: one array or (shape, dtype) per parameter; compile() then needs none.
    name: the kernel's name in programs and messages.

    Example:
        >>> @trace(input_specs=[((128, 64), "f32")], name="twice")
        ... def f(x):
        ...     return x * 2
        >>> f.name
        'twice'
    """
    if fn is None:
        return functools.partial(TracedFunction, input_specs=input_specs, name=name)
    return TracedFunction(fn, input_specs, name)


def kernel_name(fn: Callable[..., Any]) -> str:
    """The name a function gives its kernel.

    Example:
        >>> kernel_name(lambda x: x)
        'kernel'
    """
    name = getattr(fn, "__name__", "") or type(fn).__name__
    return "kernel" if name == "<lambda>" else name


def spec_of(spec: Any) -> Spec:
    """Shape and dtype of an array or a (shape, dtype) pair.

    Raises DTypeError for a dtype that is not supported and for what is no spec.

    Example:
        >>> spec_of(((4, 8), "f32"))
        Spec(shape=(4, 8), dtype=dtype('float32'))
    """
    if isinstance(spec, Spec):
        return spec
    if (
        isinstance(spec, tuple)
        and len(spec) == 2
        and isinstance(spec[0], (tuple, list, int))
    ):
        shape = (spec[0],) if isinstance(spec[0], int) else tuple(spec[0])
        if not all(isinstance(d, (int, np.integer)) and d >= 0 for d in shape):
            raise ShapeError(
                f"a shape is a tuple of non-negative integers, got {spec[0]!r}"
            )
        return Spec(tuple(int(d) for d in shape), _core.np_dtype(spec[1]))
    if isinstance(spec, (np.ndarray, np.generic)):
        return Spec(spec.shape, _core.np_dtype(spec.dtype))
    if isinstance(spec, (bool, int, float)):
        raise DTypeError(
            f"a parameter is an array or (shape, dtype), got the Python scalar "
            f"{spec!r}; wrap it as numpy.float32(...) or let the function close over it"
        )
    if hasattr(spec, "__array__") and not isinstance(spec, _core.TracedArray):
        return spec_of(np.asarray(spec))
    raise DTypeError(
        f"a parameter is an array or (shape, dtype), got {type(spec).__name__}"
    )


def parameter_names(fn: Callable[..., Any], count: int) -> list[str]:
    """Names of the first `count` parameters; x0, x1, ... without a signature."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [
        p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return (names + [f"x{i}" for i in range(len(names), count)])[:count]


def bind_specs(
    fn: Callable[..., Any], specs: Sequence[Any], named: dict[str, Any]
) -> tuple[list[str], list[Any]]:
    """Parameter names and what was given for each, in the order of the signature.

    Example:
        >>> bind_specs(lambda x, w: x @ w, ["X"], {"w": "W"})
        (['x', 'w'], ['X', 'W'])
    """
    if isinstance(fn, TracedFunction):
        if not specs and not named and fn.input_specs is not None:
            specs = fn.input_specs
        fn = fn.fn
    if not named:
        if callable(fn) and not isinstance(fn, np.ufunc):
            _check_call(fn, specs, named)
        return parameter_names(fn, len(specs)), list(specs)
    bound = _check_call(fn, specs, named)
    if bound is None:
        raise DTypeError("arrays by name need a function with a signature")
    names: list[str] = []
    values: list[Any] = []
    for key, value in bound.arguments.items():
        kind = bound.signature.parameters[key].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{key}{i}" for i in range(len(value))]
            values += value
        elif kind is inspect.Parameter.VAR_KEYWORD:
            names += value
            values += value.values()
        else:
            names.append(key)
            values.append(value)
    return names, values


def _check_call(
    fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> inspect.BoundArguments | None:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return None
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as e:
        raise DTypeError(f"{kernel_name(fn)}{signature}: {e}") from None


def call_by_names(
    fn: Callable[..., Any], names: Sequence[str], values: Sequence[Any]
) -> Any:
    """Call by position where the signature allows it, by name elsewhere."""
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return fn(*values)
    by_name = {p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        by_name |= set(names) - set(parameters)
    if not by_name and list(names) != list(parameters)[: len(names)]:
        plain = (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        )
        if all(n in parameters and parameters[n].kind in plain for n in names):
            return fn(**dict(zip(names, values, strict=True)))
    pairs = list(zip(names, values, strict=True))
    args = [v for n, v in pairs if n not in by_name]
    return fn(*args, **{n: v for n, v in pairs if n in by_name})


def trace_graph(
    fn: Callable[..., Any], names: Sequence[str], specs: Sequence[Spec], name: str
) -> tuple[_core.Session, bool]:
    """Trace `fn`: the session with the finished graph, and whether it gave a tuple."""
    session = _core.Session(name)
    try:
        arrays = [
            session.input(n, s.dtype, s.shape)
            for n, s in zip(names, specs, strict=True)
        ]
        result = call_by_names(fn, names, arrays)
        returns_tuple = isinstance(result, tuple)
        outputs = tuple(result) if returns_tuple else (result,)
        _check_result(fn, result, outputs)
        session.finish(outputs)
    finally:
        session.close()
    return session, returns_tuple


def _check_result(
    fn: Callable[..., Any], result: Any, outputs: tuple[Any, ...]
) -> None:
    expected = "a kernel returns one traced array or a tuple of them"
    if not outputs:
        problem = "returned an empty tuple"
    elif all(isinstance(o, _core.TracedArray) for o in outputs):
        return
    elif isinstance(result, tuple):
        i = next(
            i for i, o in enumerate(outputs) if not isinstance(o, _core.TracedArray)
        )
        problem = f"returned a tuple whose item {i} is {_describe(outputs[i])}"
    else:
        problem = f"returned {_describe(result)}"
    code = getattr(fn, "__code__", None)
    message = f"{kernel_name(fn)} {problem}; {expected}"
    if isinstance(result, np.ndarray) or any(
        isinstance(o, np.ndarray) for o in outputs
    ):
        message += " (an array that does not depend on the parameters is no result)"
    raise TraceError.at(message, code, -1) if code else TraceError(message)


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"a NumPy array of shape {value.shape}"
    article = "an" if type(value).__name__[0] in "aeiou" else "a"
    return f"{article} {type(value).__name__}"
