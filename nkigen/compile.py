"""compile(): from a kernel and the shapes of its parameters to a checked program."""

from __future__ import annotations

import functools
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from nkigen import _core
from nkigen.check import bounds, explain
from nkigen.calls import Call, Spec, kernel_name, plain_array, scalar_of, spec_of
from nkigen.display import Cost, Violation, kernel_html
from nkigen.errors import (
    DTypeError,
    NarrowingWarning,
    NkigenError,
    OptionError,
    ParseError,
    ShapeError,
    UnsupportedError,
    VerifyError,
    format_location,
    split_code,
    with_code,
)
from nkigen.export import export_nki
from nkigen.structure import Tree, printable, unflatten
from nkigen.trace import TracedFunction, bind, trace_graph
from nkigen.writeback import check_targets, write_back

__all__ = ["compile", "parse", "Kernel", "ArrayInfo", "clear_cache"]

CHECKS = ("off", "boundaries", "every-pass")
NARROW = ("warn", "error")
OPTIMIZE = ("fast", "default", "search")
#: the cache forgets the oldest kernels beyond this many, or beyond this many bytes
CACHE_SIZE = 256
CACHE_BYTES = 512 << 20

#: repr() of a kernel shows so many parameters
REPR_INPUTS = 8

_cache: OrderedDict[tuple, _core.Session] = OrderedDict()
_cache_lock = threading.Lock()


def _renew_cache_lock() -> None:
    """In the child of a fork: the thread that held the lock is not there."""
    global _cache_lock
    _cache_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_cache_lock)


class ArrayInfo(NamedTuple):
    """Name, shape and NumPy dtype of an input or output.

    The name of an input is its path in the arguments, such as `params['w'][3]`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


class Kernel:
    """A compiled kernel: call it to run its program in the simulator.

    `stages` maps names to Programs in the order of the pipeline; `tensor_ir` and
    `tile_ir` are the first and the last of them, `plan` is the text of the plan stage.

    Example:
        >>> k = compile(np.exp, ((128, 512), "f32"))        # doctest: +SKIP
        >>> k(np.zeros((128, 512), np.float32)).max()       # doctest: +SKIP
        1.0
    """

    def __init__(
        self,
        session: _core.Session,
        name: str,
        target: str,
        call: Call,
        results: Tree,
    ) -> None:
        self._session = session
        self.name = name
        self.target = target
        self._call = call
        self._results = results
        self.stages: Mapping[str, _core.Program] = MappingProxyType(
            {p.name: p for p in session.stages}
        )
        programs = [p for p in self.stages.values() if p.kind != "plan"]
        #: the traced tensor program
        self.tensor_ir: _core.Program = programs[0]
        #: the program for the hardware
        self.tile_ir: _core.Program = programs[-1]
        #: modelled cost
        self.cost: Cost = Cost(**session.cost)
        #: parameters as traced, by their paths in the arguments
        self.inputs: tuple[ArrayInfo, ...] = _infos(
            [(p, d, s) for p, (_, d, s) in zip(call.paths, self.tensor_ir.inputs)]
        )
        #: results as the program writes them
        self.outputs: tuple[ArrayInfo, ...] = _infos(
            [(n or f"out{i}", d, s) for i, (n, d, s) in enumerate(self.tile_ir.outputs)]
        )
        #: {k: j}: output k updates input j; those that the function does not return
        #: come after those that it returns
        self.aliases: dict[int, int] = dict(self.tensor_ir.aliases)
        self._exponents = frozenset(self.tensor_ir.exponents)
        self._narrowed = [spec_of((s, d)).dtype for _, d, s in self.tile_ir.inputs]

    @functools.cached_property
    def plan(self) -> str:
        """The text of the plan, which compile(plan=...) takes and nkigen.parse() reads.

        It begins with the tensor program that it is about.

        Example:
            >>> print(k.plan)                               # doctest: +SKIP
            tensor @f {
            ...
        """
        return str(self.stages["plan"])

    def __call__(self, /, *args: Any, **named: Any) -> Any:
        """Run the program in the simulator; returns what the function returns.

        args, named: the arguments of the function, with arrays of the shapes and dtypes
        that were compiled for, in any memory order. Arguments without arrays may be left
        out; those that are given must be the ones that were compiled for. 64-bit data of
        a narrowed parameter is converted. A parameter that the function changes is
        written back into the array that was given. Raises ShapeError, DTypeError or
        StructureError when an argument is not what was compiled for.

        Example:
            >>> k(x, weight=w)                              # doctest: +SKIP
        """
        return self._run(self.tile_ir, args, named)

    def reference(self, /, *args: Any, **named: Any) -> Any:
        """Run the traced tensor program through NumPy, op by op.

        Example:
            >>> np.allclose(k.reference(x), f(x))           # doctest: +SKIP
            True
        """
        return self._run(self.tensor_ir, args, named)

    def run_stage(self, name: str, /, *args: Any, **named: Any) -> Any:
        """Run one stage: tensor stages through NumPy, the plan as the tensor program that
        it is about, tile stages in the simulator.

        Raises NkigenError for a name that is no stage.

        Example:
            >>> k.run_stage("decompose", x)                 # doctest: +SKIP
        """
        if name not in self.stages:
            raise NkigenError(
                f"NKI-1541 there is no stage {name!r}; the stages are {_list(self.stages)}"
            )
        return self._run(self.stages[name], args, named)

    def verify(self) -> list[Violation]:
        """The hardware rules the program breaks; empty for every compiled kernel.

        Example:
            >>> k.verify()                                  # doctest: +SKIP
            []
        """
        return self.tile_ir.verify()

    def nki(self) -> str:
        """The program as NKI Python source.

        Example:
            >>> "nki.jit" in k.nki()                        # doctest: +SKIP
            True
        """
        return self.tile_ir.nki()

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """{name in the emitted source: array} of all constants of the program.

        Example:
            >>> k.constants["const0"].shape                 # doctest: +SKIP
            (128, 128)
        """
        return {f"const{i}": a for i, a in enumerate(self.tile_ir.constants)}

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Write NAME_nki.py, and beside it an .npy of each constant that it reads.

        folder: is made when it does not exist; files of that name are replaced.
        Returns the path of the source.

        Example:
            >>> k.export("build/kernels").name              # doctest: +SKIP
            'softmax_nki.py'
        """
        return export_nki(self.nki(), self.constants, Path(folder))

    def nisa(self) -> str:
        """NISA MLIR: raises UnsupportedError, nki() is the form that is emitted."""
        raise UnsupportedError(
            "NKI-1533 NISA MLIR is not emitted; nki() gives the program as NKI Python"
        )

    def klir(self) -> bytes:
        """KLIR bytes: raises UnsupportedError, nki() is the form that is emitted."""
        raise UnsupportedError(
            "NKI-1534 KLIR is not emitted; nki() gives the program as NKI Python"
        )

    def timeline(self) -> str:
        """Perfetto JSON: raises UnsupportedError, cost has the time per engine."""
        raise UnsupportedError(
            "NKI-1535 timelines are not emitted; cost has the time per engine"
        )

    def __repr__(self) -> str:
        shown = [
            f"{i.name}: {_core.dtype_name(i.dtype)}{list(i.shape)}"
            for i in self.inputs[:REPR_INPUTS]
        ]
        if len(self.inputs) > REPR_INPUTS:
            shown.append(f"... {len(self.inputs) - REPR_INPUTS} more")
        args = ", ".join(shown)
        count = self.cost.instruction_count
        return f"<Kernel {self.name}({args}) for {self.target}, {count} instructions>"

    def _repr_html_(self) -> str:
        return kernel_html(self)

    def _run(
        self, program: _core.Program, args: Sequence[Any], named: Mapping[str, Any]
    ) -> Any:
        """Run a stage on the arrays of a call; the structure that the function returns."""
        given = self._call.arrays(args, named)
        check_targets(self.name, self.inputs, self.aliases, given)
        arrays = [self._argument(i, a) for i, a in enumerate(given)]
        outputs = write_back(self.aliases, given, _as_tuple(program.run(*arrays)))
        return unflatten(self._results, outputs)

    def _argument(self, i: int, value: Any) -> Any:
        info = self.inputs[i]
        try:
            a = plain_array(value)
        except NkigenError as e:
            raise e.inside(f"{self.name}: parameter '{info.name}'") from None
        if isinstance(value, (bool, int, float)) and info.shape == ():
            a = scalar_of(value, info.dtype, f"{self.name}: parameter '{info.name}'")
        if a.shape != info.shape:
            raise ShapeError(
                f"NKI-1542 {self.name}: parameter '{info.name}' was compiled for shape "
                f"{info.shape}, got {a.shape}"
            )
        if not a.dtype.isnative:
            a = a.astype(a.dtype.newbyteorder("="))
        if a.dtype != info.dtype:
            if a.dtype != self._narrowed[i]:
                raise DTypeError(
                    f"NKI-1547 {self.name}: parameter '{info.name}' was compiled for dtype "
                    f"{info.dtype}, got {a.dtype}"
                )
            a = a.astype(info.dtype)
        if i in self._exponents and a.size and a.min() < 0:
            raise ShapeError(
                f"NKI-1543 {self.name}: parameter '{info.name}' has negative exponents; "
                "integers to negative integer powers are not allowed"
            )
        return a


def compile(
    fn: Callable[..., Any],
    /,
    *arrays_or_specs: Any,
    target: str = "trn2",
    check: str = "boundaries",
    cache: bool = True,
    narrow: str = "warn",
    plan: str | None = None,
    optimize: str = "default",
    params: Mapping[str, Any] | None = None,
    **named: Any,
) -> Kernel:
    """Compile a NumPy function for parameters of given shapes and dtypes.

    fn: the function; @trace is optional.
    arrays_or_specs, named: the function's arguments, with an array or (shape, dtype) for
        each array; dtype as text ("f32", "bf16", "fp8_e4m3", ...) or a NumPy or ml_dtypes
        dtype. Lists, tuples, dicts and dataclasses are walked. A leaf that is an array,
        a NumPy scalar or (shape, dtype) is a parameter; any other hashable leaf (number,
        None, text, enum, function ...) is static: a constant of the kernel.
    params: more arguments by name; for parameters whose name is that of an option.
    target: "trn1", "trn2" or "trn3".
    check: "off"; "boundaries" verifies the program against the hardware's rules;
        "every-pass" also verifies, prints, parses back and runs every stage and
        compares it with the first, and verifies every candidate of the search.
    cache: reuse the result for an equal traced graph, target and options.
    narrow: 64-bit dtypes that the hardware lacks: "warn" computes in 32 bits and says
        so (NarrowingWarning), "error" refuses.
    plan: text of a plan to execute instead of the compiler's own, as in Kernel.plan: its
        groups, members, spans, homes and numbers are obeyed, or refused with line and
        column. Of a plan without numbers the compiler chooses those.
    optimize: "fast" keeps loops and the order in which ops were lowered; "default" puts
        programs of up to 2,000 instructions in the best of a few orders that keep the
        engines busy (stage "pipeline", straight code); "search" tries all orders it knows.

    Raises TraceError, ShapeError, DTypeError or UnsupportedError at the user's line for
    what the function does wrong, HardwareLimitError for what the target cannot do.

    Example:
        >>> k = compile(np.tanh, ((256, 1024), "bf16"))     # doctest: +SKIP
        >>> k.cost.hbm_read_bytes                           # doctest: +SKIP
        524288
    """
    _choice("target", target, _core.targets())
    _choice("check", check, CHECKS)
    _choice("narrow", narrow, NARROW)
    _choice("optimize", optimize, OPTIMIZE)
    if plan is not None and not isinstance(plan, str):
        raise DTypeError(f"NKI-1536 plan is text, got {type(plan).__name__}")
    if plan is not None:
        plan = printable(plan).replace("\0", "\\x00")
    if not callable(fn):
        raise DTypeError(
            f"NKI-1537 compile: expected a function, got {type(fn).__name__}"
        )
    traced = fn if isinstance(fn, TracedFunction) else None
    name = traced.name if traced else kernel_name(fn)
    fn, call, given = bind(fn, arrays_or_specs, _by_name(fn, named, params))
    specs = [_spec_at(path, g) for path, g in zip(call.paths, given)]
    session, results = trace_graph(fn, call, specs, name, given)
    options = (target, narrow, plan, optimize, check == "every-pass")
    try:
        session = _compiled(session, options, cache)
    except NkigenError as e:
        _quote_line(e, plan or "")
        raise
    kernel = Kernel(session, name, target, call, results)
    if check != "off":
        _check_boundaries(kernel)
    if check == "every-pass":
        _check_stages(
            kernel, [_data(g, s, i) for i, (g, s) in enumerate(zip(given, specs))]
        )
    return kernel


def _by_name(
    fn: Callable[..., Any], named: dict[str, Any], params: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Arguments by name, of both kinds."""
    if params is None:
        return named
    if not isinstance(params, Mapping) or not all(isinstance(k, str) for k in params):
        raise DTypeError(
            "NKI-1538 params is the option that gives arguments by name, {name: value}; give a "
            "parameter of that name by position or as params={'params': value}"
        )
    for key in params:
        if key in named:
            raise DTypeError(f"NKI-1544 {kernel_name(fn)}: '{key}' is given twice")
    return {**named, **params}


def _spec_at(path: str, given: Any) -> Spec:
    try:
        return spec_of(given)
    except NkigenError as e:
        raise e.inside(f"parameter '{path}'") from None


def parse(text: str) -> _core.Program:
    """The Program that a text says, as str(program) prints it: tensor or tile IR, a plan.

    A plan is checked: what can be read can be carried out. Raises ParseError with
    `lineno`, `offset` and the line's `text`.

    Example:
        >>> body = "%x = input {index=0} : f32[4]\\n  return %x"
        >>> p = parse("tensor @f {\\n  " + body + "\\n}\\n")
        >>> p.outputs
        (('x', 'f32', (4,)),)
    """
    try:
        return _core.parse(text)
    except ParseError as e:
        _quote_line(e, text)
        raise


def _quote_line(error: NkigenError, text: str) -> None:
    """An error at a line of IR text, which no file has, shows the line."""
    lines = text.split("\n")
    if error.filename is None and error.lineno and error.lineno <= len(lines):
        error.text = lines[error.lineno - 1]


def clear_cache() -> None:
    """Forget all compiled kernels.

    Example:
        >>> clear_cache()
    """
    with _cache_lock:
        _cache.clear()


def _compiled(
    session: _core.Session,
    options: tuple[str, str, str | None, str, bool],
    cache: bool,
) -> _core.Session:
    key = (session.program.digest(), *options) if cache else None
    if key is not None:
        with _cache_lock:
            known = _cache.get(key)
            if known is not None:
                _cache.move_to_end(key)
    else:
        known = None
    if known is None:
        session.compile(*options)
        known = session
        if key is not None:
            with _cache_lock:
                _cache[key] = session
                _shrink_cache()
    for message, where in known.warnings:
        _warn(message, where)
    return known


def _shrink_cache() -> None:
    held = sum(s.nbytes for s in _cache.values())
    while len(_cache) > 1 and (len(_cache) > CACHE_SIZE or held > CACHE_BYTES):
        held -= _cache.popitem(last=False)[1].nbytes


def _warn(message: str, where: tuple | None) -> None:
    message = with_code(*reversed(split_code(message)))
    if where is not None:
        place = format_location(NkigenError.at(message, *where))
        message = f"{message}\n{place}" if place else message
    warnings.warn(message, NarrowingWarning, stacklevel=4)


def _choice(what: str, value: Any, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise OptionError(
            f"NKI-1539 there is no {what} {value!r}; choose one of {_list(choices)}"
        )


def _list(names: Any) -> str:
    return ", ".join(map(repr, names))


def _infos(
    described: Sequence[tuple[str, str, tuple[int, ...]]],
) -> tuple[ArrayInfo, ...]:
    return tuple(ArrayInfo(n, s, _core.np_dtype(d)) for n, d, s in described)


def _check_boundaries(kernel: Kernel) -> None:
    violations = kernel.verify()
    if violations:
        text = "\n".join(map(str, violations[:10]))
        raise VerifyError(
            f"NKI-1540 {kernel.name} breaks {len(violations)} hardware rules:\n{text}"
        )


def _data(given: Any, spec: Spec, i: int) -> np.ndarray:
    """The array that was given, or seeded random data of the spec."""
    if isinstance(given, (np.ndarray, np.generic)):
        return np.asarray(given)
    rng = np.random.default_rng(i)
    kind = spec.dtype.kind
    if kind == "b":
        return rng.integers(0, 2, spec.shape).astype(bool)
    if kind in "iu":
        return rng.integers(0, 8, spec.shape).astype(spec.dtype)
    return (rng.standard_normal(spec.shape) * 0.5).astype(np.float32).astype(spec.dtype)


def _check_stages(kernel: Kernel, data: list[np.ndarray]) -> None:
    expected = bounds(kernel.tensor_ir, data)
    for name, program in kernel.stages.items():
        violations = program.verify()
        if violations:
            raise VerifyError(f"NKI-1545 stage {name}: {violations[0]}")
        text = str(program)
        try:
            again = str(_core.parse(text))
        except NkigenError as e:
            raise VerifyError(
                f"NKI-1548 stage {name}: its text does not parse back: {e}"
            ) from e
        if again != text:
            raise VerifyError(
                f"NKI-1546 stage {name}: its text changes when it is parsed and printed"
            )
        results = _as_tuple(program.run(*data))
        for i, (got, bound) in enumerate(zip(results, expected, strict=True)):
            problem = explain(bound, got)
            if problem:
                raise VerifyError(f"NKI-1549 stage {name}, output {i}: {problem}")


def _as_tuple(out: Any) -> tuple:
    return out if isinstance(out, tuple) else (out,)
