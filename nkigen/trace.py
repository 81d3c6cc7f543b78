"""Tracing: a NumPy function becomes a tensor program by being called once.

A kernel takes arrays and returns arrays, alone or in nested containers with static
values beside them (nkigen.structure). While it is traced, its arrays are `TracedArray`s:
shapes and dtypes are known, elements are not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from nkigen import _core
from nkigen.buffers import buffers
from nkigen.calls import Call, Spec, is_parameter, is_spec, kernel_name, spec_of
from nkigen.errors import DTypeError, TraceError
from nkigen.structure import Tree, flatten, printable

__all__ = ["trace", "TracedFunction", "Traced", "bind", "trace_graph"]

#: what a kernel may return beside arrays
STATIC_RESULTS = (
    *(type(None), bool, int, float, complex, str, bytes, Enum, np.generic),
    *(np.dtype, type, range, slice, frozenset, type(...)),
)


class Traced(NamedTuple):
    """A finished trace: its session, and what the function returned."""

    session: _core.Session
    results: Tree


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
            raise DTypeError(
                f"NKI-1501 trace: expected a function, got {type(fn).__name__}"
            )
        functools.update_wrapper(self, fn)
        self.fn = fn
        if name is not None and not isinstance(name, str):
            raise DTypeError(
                f"NKI-1502 trace: a name is text, got {type(name).__name__}"
            )
        self.name = printable(name) if name else kernel_name(fn)
        self.input_specs = None if input_specs is None else tuple(input_specs)
        for i, spec in enumerate(self.input_specs or ()):
            for leaf in flatten(spec, f"input_specs[{i}]", is_parameter, is_spec)[1]:
                spec_of(leaf.value)

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
        fn, call, given = bind(self, specs, named)
        specs = [spec_of(g) for g in given]
        return trace_graph(fn, call, specs, self.name, given).session.program


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


def bind(
    fn: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]
) -> tuple[Callable[..., Any], Call, list[Any]]:
    """The plain function, how it is called, and what is given for each parameter.

    Example:
        >>> bind(trace(lambda x, n: x * n), [((4,), "f32"), 3], {})[2]
        [((4,), 'f32')]
    """
    if isinstance(fn, TracedFunction):
        if not args and not named and fn.input_specs is not None:
            args = fn.input_specs
        fn = fn.fn
    return fn, *Call.of(fn, args, named)


def trace_graph(
    fn: Callable[..., Any],
    call: Call,
    specs: Sequence[Spec],
    name: str,
    given: Sequence[Any],
) -> Traced:
    """Trace `fn`: the session with the finished graph, and what it returned.

    given: what the specs are of; a NumPy scalar among them is immutable, not an array.

    Example:
        >>> fn, call, given = bind(lambda x: x + x, [((4,), "f32")], {})
        >>> session = trace_graph(fn, call, [spec_of(given[0])], "f", given).session
        >>> session.program.ops
        ('input', 'add')
    """
    session = _core.Session(name)
    try:
        arrays = [
            session.input(n, s.dtype, s.shape, isinstance(g, np.generic))
            for n, s, g in zip(call.names(), specs, given, strict=True)
        ]
        with buffers(session, fn):
            result = _invoke(fn, call, arrays)
        results, outputs = _results(fn, result, bool(session.changed))
        session.finish(tuple(outputs))
    finally:
        session.close()
    return Traced(session, results)


def _invoke(fn: Callable[..., Any], call: Call, arrays: Sequence[Any]) -> Any:
    try:
        return call.invoke(fn, arrays)
    except ValueError as e:
        if isinstance(e.__cause__, TraceError):  # NumPy's own text hides it
            raise e.__cause__ from None
        raise


def _results(
    fn: Callable[..., Any], result: Any, changes: bool
) -> tuple[Tree, list[Any]]:
    """The structure that a kernel returned, and the arrays in it.

    changes: it changed a parameter, so that it need not return an array.
    """

    def is_array(value: Any, path: str) -> bool:
        if isinstance(value, (_core.TracedArray, np.ndarray)):
            return True
        if isinstance(value, STATIC_RESULTS):
            return False
        raise _result_error(fn, f"returned {_describe(value, path)}")

    tree, leaves = flatten(result, "result", is_array)
    if not leaves and not changes:
        raise _result_error(fn, f"returned {_describe(result)}")
    return tree, [leaf.value for leaf in leaves]


def _result_error(fn: Callable[..., Any], problem: str) -> TraceError:
    message = (
        f"{kernel_name(fn)} {problem}; a kernel returns an array, or a tuple, list, dict "
        "or dataclass of arrays, numbers, text and None with at least one array"
    )
    code = getattr(fn, "__code__", None)
    return TraceError.at(message, code, -1) if code else TraceError(message)


def _describe(value: Any, path: str = "result") -> str:
    if value is None:
        return "None"
    if isinstance(value, (tuple, list, dict)) and not value:
        return f"an empty {type(value).__name__}"
    article = "an" if type(value).__name__[0] in "aeiou" else "a"
    where = f" ({path})" if path != "result" else ""
    none = " without arrays" if isinstance(value, (tuple, list, dict)) else ""
    return f"{article} {type(value).__name__}{where}{none}"
