"""One program, one answer of all executors: NumPy, reference, each stage, simulator.

What may differ is what rounding explains (`nkigen.check`): nothing at all where only
data movement, conversions, integers and single operations took place. Compared are the
results and what became of the arguments.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import nkigen
from nkigen.check import FUNCTION, ULP, Bound, bounds, explain
from nkigen.fuzz_programs import Program
from nkigen.structure import unflatten

__all__ = ["check_program", "expected"]


def require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def leaves(result: Any) -> Iterator[Any]:
    """The arrays of a result, whatever it is made of."""
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        for part in result:
            yield from leaves(part)
    else:
        yield result


def quiet(fn: Callable, *args: Any, **options: Any) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return fn(*args, **options)


def expected(kernel: nkigen.Kernel, arrays: list[np.ndarray]) -> list[Bound]:
    """What a call must give: its results, then its arguments afterwards.

    Example:
        >>> k = nkigen.compile(np.negative, ((2,), "f32"))
        >>> [b.value.tolist() for b in expected(k, [np.float32([1, 2])])]
        [[-1.0, -2.0], [1.0, 2.0]]
    """
    outputs = bounds(kernel.tensor_ir, arrays)
    after = [Bound(a) for a in arrays]
    for k, j in kernel.aliases.items():
        after[j] = outputs[k]
    results = [*leaves(unflatten(kernel._results, outputs)), *after]
    return [b if isinstance(b, Bound) else Bound(np.asarray(b)) for b in results]


def sharpened(bound: Bound, loose: bool, numpy: bool) -> Bound:
    """What a program says about a result beyond what its graph says.

    Without sums and functions every step is rounded once, by everybody in the same way.
    And of a constant that the trace computed with functions the last bits are its own.
    """
    value = bound.value
    if value.dtype.kind in "iub":
        return bound
    if not loose:
        return Bound(value, free=bound.free)
    if not (numpy and bound.exact):
        return bound
    wide = value.astype(np.float64)
    slack = np.where(np.isfinite(wide), FUNCTION * ULP * np.abs(wide), 0)
    return Bound(value, wide - slack, wide + slack)


def compare(what: str, got: list[Any], wanted: list[Bound]) -> None:
    require(len(got) == len(wanted), f"{what}: {len(got)} results, not {len(wanted)}")
    for i, (a, bound) in enumerate(zip(got, wanted)):
        a, dtype = np.asarray(a), bound.value.dtype
        narrowed = dtype.itemsize == 8 and a.dtype.itemsize == 4
        require(a.dtype == dtype or narrowed, f"{what}, {i}: {a.dtype}, not {dtype}")
        problem = explain(bound, a)
        require(not problem, f"{what}, {i}: {problem}")


def check_program(program: Program, target: str, every_pass: bool = True) -> Any:
    """Compile a program and compare NumPy, the reference, each stage and the simulator.

    every_pass: also verify, print, parse and run each stage.

    Returns the kernel; raises AssertionError or VerifyError where two of them disagree.

    Example:
        >>> from random import Random
        >>> from nkigen.fuzz_programs import random_program
        >>> check_program(random_program(Random(0)), "trn2").verify()
        []
    """
    fn = program.function()
    check = "every-pass" if every_pass else "boundaries"
    args = program.arguments(program.arrays())
    kernel = quiet(nkigen.compile, fn, *args, target=target, check=check, cache=False)
    wanted = expected(kernel, program.arrays())
    names = [*program.returned, *(v.name for v in program.inputs)]
    runs = {"NumPy": fn, "reference": kernel.reference, "simulator": kernel}
    if program.rounds_once:
        del runs["NumPy"]
    for what, run in runs.items():
        arrays = program.arrays()
        got = [*leaves(quiet(run, *program.arguments(arrays))), *arrays]
        loose = map(program.is_loose, names)
        sharp = [sharpened(b, i, run is fn) for b, i in zip(wanted, loose, strict=True)]
        compare(what, got, sharp)
    return kernel
