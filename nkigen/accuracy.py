"""How far compiled kernels are from NumPy: the bounds, measured.

`BOUNDS` is the one place where bounds stand. `measure` compiles an op, runs it in the
simulator on special values, all pairs of them, and random bit patterns, and compares each
element with NumPy's in units in the last place of the dtype. `page` writes docs/accuracy.md.

Example:
    $ python -m nkigen accuracy --write docs/accuracy.md
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import nkigen
from nkigen import ops

__all__ = [
    "BOUNDS",
    "FLOATS",
    "Bound",
    "Measured",
    "limit",
    "measure",
    "page",
    "pairs",
    "special_values",
    "ulps",
]

FLOATS: dict[str, np.dtype] = {
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
}
#: what a wrong nan, infinity or sign of zero counts
WRONG = float("inf")

Mask = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Bound:
    """What is promised of one op: at most so many units in the last place, per dtype.

    None: not a ufunc, and only f32 is compared. An element may instead be off by
    `absolute`, of operands in `loose`. `where` says of which operands all this is
    promised, `note` says it in words; `fn` is what is compiled, by default NumPy's.

    Example:
        >>> BOUNDS["reciprocal"].f32
        0
    """

    f32: int
    f16: int | None = 1
    bf16: int | None = 1
    nin: int = 1
    fn: Callable[..., Any] | None = None
    absolute: float = 0.0
    loose: Mask | None = None
    where: Mask | None = None
    note: str = ""
    zero_sign: bool = True


def _wide(*arrays: np.ndarray) -> list[np.ndarray]:
    with np.errstate(all="ignore"):
        return [a.astype(np.float64) for a in arrays]


def _quotient_below(limit: float) -> Mask:
    def where(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        a, b = _wide(x, y)
        q = np.abs(a / b)
        return ~(np.isfinite(a) & np.isfinite(b) & (b != 0) & (q >= limit))

    return where


def _beyond_one(x: np.ndarray) -> np.ndarray:
    return np.abs(_wide(x)[0]) > 1


def _tan_below(limit: float) -> Mask:
    def where(x: np.ndarray) -> np.ndarray:
        return ~(np.abs(np.tan(*_wide(x))) >= limit)

    return where


def _normal_exponential(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u = np.exp(y)
    return ~((u > 0) & (u < np.finfo(np.float32).tiny))


def _ordered_zeros(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ~((x == 0) & (y == 0))


def _signed(*args: np.ndarray) -> np.ndarray:
    return ~np.isnan(_wide(args[-1])[0])


def _exact(nin: int = 1, **more: Any) -> Bound:
    return Bound(0, 0, 0, nin=nin, **more)


def _spelled(f32: int, fn: Callable[..., Any], **more: Any) -> Bound:
    return Bound(f32, None, None, fn=fn, **more)


_OVERFLOW = (
    "NumPy's exp overflows below -88.7 and gives 0; the kernel has the true value"
)

_NAN_SIGN = "the sign of nan is not known: it counts as positive"

#: op -> bound. Ops that only move, compare or select are exact.
BOUNDS: dict[str, Bound] = {
    "absolute": _exact(),
    "negative": _exact(),
    "sign": _exact(
        zero_sign=False, note="+0 for -0, as NumPy; ml_dtypes keeps bf16's -0"
    ),
    "square": _exact(),
    "sqrt": Bound(
        2, note="exact where the operand is known to be in 2**-116 to 2**118"
    ),
    "reciprocal": _exact(),
    "rint": _exact(),
    "floor": _exact(),
    "ceil": _exact(),
    "trunc": _exact(),
    "isnan": _exact(),
    "isinf": _exact(),
    "isfinite": _exact(),
    "add": _exact(2),
    "subtract": _exact(2),
    "multiply": _exact(2),
    "maximum": _exact(2, where=_ordered_zeros, note="of 0 and -0 either"),
    "minimum": _exact(2, where=_ordered_zeros, note="of 0 and -0 either"),
    "arcsin": Bound(3),
    "arccos": Bound(3),
    "arctan2": Bound(4, nin=2, where=_signed, note=_NAN_SIGN),
    "copysign": _exact(2, where=_signed, note=_NAN_SIGN),
    "signbit": _exact(where=_signed, note=_NAN_SIGN),
    "heaviside": _exact(2),
    "fmod": _exact(
        2,
        where=_quotient_below(2.0**46),
        note="nan where the quotient is 2**46 or more, which f16 never is",
    ),
    "fmax": _exact(2, where=_ordered_zeros, note="of 0 and -0 either"),
    "fmin": _exact(2, where=_ordered_zeros, note="of 0 and -0 either"),
    "divide": Bound(
        4,
        nin=2,
        note="2 for divisors up to 2**126: a reciprocal and a product; "
        "by powers of two exact",
    ),
    "floor_divide": Bound(
        2, 0, 0, nin=2, note="exact for quotients below 2**24; beyond, NumPy rounds too"
    ),
    "remainder": _exact(
        2,
        where=_quotient_below(2.0**46),
        note="nan where the quotient is 2**46 or more, which f16 never is",
    ),
    "power": Bound(1, nin=2),
    "exp": Bound(3),
    "exp2": Bound(3),
    "expm1": Bound(3),
    "log": Bound(3),
    "log2": Bound(3),
    "log10": Bound(3),
    "log1p": Bound(2),
    "logaddexp": Bound(
        4,
        nin=2,
        absolute=2e-7,
        note="near 0, where NumPy's formula cancels too: 2e-7 absolute",
    ),
    "sin": Bound(
        3,
        absolute=2.0**-34,
        loose=_beyond_one,
        note="the whole range; near the zeros 2**-34 absolute",
    ),
    "cos": Bound(3, absolute=2.0**-34, loose=_beyond_one, note="as sin"),
    "tan": Bound(
        5,
        absolute=2.0**-34,
        loose=_beyond_one,
        where=_tan_below(4096.0),
        note="as sin; relative 2**-34 abs(tan) above 4096",
    ),
    "arctan": Bound(2),
    "sinh": Bound(5),
    "cosh": Bound(4),
    "tanh": Bound(2),
    "cbrt": Bound(2),
    "hypot": Bound(2, nin=2),
    "deg2rad": Bound(1),
    "rad2deg": Bound(3),
    "x / exp(y)": _spelled(
        6,
        lambda x, y: x / np.exp(y),
        nin=2,
        absolute=2.0**-126,
        where=_normal_exponential,
        note="2**-126 absolute; of a subnormal exp(y) as exact as exp is",
    ),
    "1 / sqrt(x)": _spelled(2, lambda x: 1 / np.sqrt(x)),
    "x / sqrt(y)": _spelled(2, lambda x, y: x / np.sqrt(y), nin=2),
    "x**3": _spelled(2, lambda x: x**3),
    "x**-2": _spelled(2, lambda x: x**-2),
    "x**0.5": _spelled(2, lambda x: x**0.5),
    "x**-0.5": _spelled(2, lambda x: x**-0.5),
    "1 / (1 + exp(-x))": _spelled(
        4, ops.sigmoid, absolute=2.0**-127, note=f"{_OVERFLOW}: 2**-127 absolute"
    ),
    "x / (1 + exp(-x))": _spelled(
        4, ops._silu, absolute=2.0**-121, note=f"{_OVERFLOW}: 2**-121 absolute"
    ),
    "ops.silu(x)": _spelled(4, ops.silu, absolute=2.0**-121, note="-0 at -inf"),
    "tanh form of gelu": _spelled(
        4,
        ops._gelu_tanh,
        absolute=1e-6,
        note="NumPy's 1 + tanh cancels below 0: 1e-6 absolute",
    ),
}


# ---- samples ----


_NUMBERS = """
0 0.1 0.3 0.5 0.7 0.9999999 1 1.5 2 2.5 3 3.141592653589793 1.5707963267948966 7 10 12.3
16 27 88 89 95 100 103 104 110 400 700 1000 65504 1e5 1e6 1e10 1e20 1e30 1e38 3.4e38
8388608 8388609 4194304.5 16777216 2147483648 1099511627776 1e-3 1e-5 6e-5 1e-8 6e-8
1e-20 1e-30 1.18e-38 1e-38 1e-40 1.4e-45 inf nan
"""


def special_values(dtype: np.dtype) -> np.ndarray:
    """Zeros, subnormals, halves, limits, infinities, nan and more, of both signs.

    Example:
        >>> special_values(np.dtype("float32")).dtype
        dtype('float32')
    """
    positive = np.array(_NUMBERS.split(), np.float64)
    with np.errstate(all="ignore"):
        values = np.concatenate([positive, -positive]).astype(dtype)
    return np.unique(_bits(values)).view(dtype)


def pairs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each value with each.

    Example:
        >>> [a.tolist() for a in pairs(np.array([1, 2]))]
        [[1, 2, 1, 2], [1, 1, 2, 2]]
    """
    a, b = np.meshgrid(values, values)
    return a.ravel(), b.ravel()


def _unsigned(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"u{dtype.itemsize}")


def _bits(a: np.ndarray) -> np.ndarray:
    return a.view(_unsigned(a.dtype))


def _sweep(dtype: np.dtype, nin: int, count: int) -> list[np.ndarray]:
    """Random bit patterns, then as many numbers of ordinary size."""
    rng = np.random.default_rng(7)
    out = []
    for i in range(nin):
        bits = rng.integers(0, 1 << (8 * dtype.itemsize), count, np.uint64)
        size = 30.0 if i == 0 else 3.0
        plain = (rng.standard_normal(count) * size).astype(dtype)
        any_bits = bits.astype(_unsigned(dtype)).view(dtype)
        with np.errstate(all="ignore"):
            any_bits[np.isnan(any_bits)] = np.nan  # quiet: C treats others apart
        out.append(np.concatenate([any_bits, plain]))
    return out


def _samples(dtype: np.dtype, nin: int, count: int) -> list[np.ndarray]:
    special = special_values(dtype)
    first = [special] if nin == 1 else list(pairs(special))
    if count == 0:
        return first
    rest = _sweep(dtype, nin, count)
    return [np.concatenate(both) for both in zip(first, rest, strict=True)]


# ---- comparison ----


def ulps(
    got: np.ndarray, want: np.ndarray, bound: Bound, *args: np.ndarray
) -> np.ndarray:
    """The distance of each element in units in the last place; WRONG for another kind.

    `args` are the operands, for bounds that depend on them.

    Example:
        >>> a = np.float32([1.0, 2.0])
        >>> ulps(a, np.nextafter(a, np.float32(9)), BOUNDS["exp"]).tolist()
        [1.0, 1.0]
    """
    if got.dtype != want.dtype:
        raise AssertionError(f"the kernel gives {got.dtype}, NumPy {want.dtype}")
    if got.dtype.kind in "biu":
        return np.where(got == want, 0.0, WRONG)
    top = 1 << (8 * got.dtype.itemsize - 1)
    g, w = (_bits(a).astype(np.int64) for a in (got, want))
    g, w = (np.where(a < top, a, top - a) for a in (g, w))
    off = np.abs(g - w).astype(np.float64)
    a, b = _wide(got, want)
    off[np.isnan(a) & np.isnan(b)] = 0
    off[np.isnan(a) != np.isnan(b)] = WRONG
    zeros = (a == 0) & (b == 0) & (np.signbit(a) != np.signbit(b))
    off[zeros] = WRONG if bound.zero_sign else 0
    if bound.absolute:
        with np.errstate(all="ignore"):
            near = (np.abs(a - b) <= bound.absolute) & ~zeros
        off[near & bound.loose(*args) if bound.loose else near] = 0
    return off


@dataclass(frozen=True)
class Measured:
    """The largest error found, and the operands, result and NumPy's result there.

    Example:
        >>> measure("exp", "f32", count=0).ulp <= BOUNDS["exp"].f32
        True
    """

    ulp: float
    at: tuple[Any, ...]
    got: Any
    want: Any

    def __str__(self) -> str:
        args = ", ".join(str(a) for a in self.at)
        return f"{self.ulp:g} ulp at ({args}): got {self.got}, NumPy {self.want}"


def measure(
    name: str, dtype: str = "f32", *, target: str = "trn2", count: int = 20000
) -> Measured:
    """Compile an op, run it on special values and `count` random ones, and compare.

    Example:
        >>> print(measure("negative", "f32", count=0).ulp)
        0.0
    """
    bound = BOUNDS[name]
    fn = bound.fn or getattr(np, name)
    args = _samples(FLOATS[dtype], bound.nin, count)
    with np.errstate(all="ignore"):
        if bound.where is not None:
            keep = bound.where(*args)
            args = [a[keep] for a in args]
        want = np.asarray(fn(*args))
    got = np.asarray(nkigen.compile(fn, *args, target=target, cache=False)(*args))
    off = ulps(got, want, bound, *args)
    i = int(np.argmax(off))
    return Measured(float(off[i]), tuple(a[i] for a in args), got[i], want[i])


def limit(name: str, dtype: str) -> int | None:
    """The bound of an op in a dtype; None where none is stated.

    Example:
        >>> limit("sqrt", "f16")
        1
    """
    return getattr(BOUNDS[name], dtype)


# ---- the page ----

_HEAD = """# Accuracy

Written by `python -m nkigen accuracy --write docs/accuracy.md`; the bounds stand in
`nkigen/accuracy.py` and the tests check them.

Each cell is *measured / bound*: the largest distance of a compiled kernel from NumPy, element
by element, in units in the last place of the dtype, on all pairs of special values (zeros,
subnormals, halves, limits, infinities, nan), on random bit patterns and on numbers of
ordinary size. Infinities, nan and signs of zeros must be NumPy's; a note says where they are not.

The figures are those of the **simulated program**. The simulator computes activation functions
to the last bits of f32, where the device has tables of polynomials whose error is not
published; it keeps subnormals, and takes maxima of nan and comparisons with it as NumPy does.

The narrow floats are computed in f32 and rounded once. Integers of up to 32 bits and bool are exact in every op that
takes them; sums, products, powers and conversions wrap as NumPy's do.
"""


def _cell(name: str, dtype: str, count: int) -> str:
    bound = limit(name, dtype)
    if bound is None:
        return "-"
    found = measure(name, dtype, count=count)
    if found.ulp > bound:
        raise ValueError(f"{name} of {dtype} exceeds its bound {bound}: {found}")
    return f"{found.ulp:.0f} / {bound}"


def page(count: int = 20000) -> str:
    """The text of docs/accuracy.md, measured anew.

    Example:
        >>> page(count=0).startswith("# Accuracy")
        True
    """
    lines = [_HEAD, "| op | f32 | f16 | bf16 | |", "| --- | --- | --- | --- | --- |"]
    for name, bound in BOUNDS.items():
        cells = [_cell(name, dtype, count) for dtype in FLOATS]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {bound.note} |")
    return "\n".join([*lines, ""])


def without_figures(text: str) -> str:
    """A page without what was measured: NumPy's own last bits differ between machines.

    Example:
        >>> without_figures("| `exp` | 2 / 2 |")
        '| `exp` | / 2 |'
    """
    return re.sub(r"\d+ / ", "/ ", text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--write", metavar="FILE", help="write the page there")
    parser.add_argument(
        "--count", type=int, default=200000, help="random operands of each op"
    )


def run(args: argparse.Namespace) -> int:
    """Measure every op; print the page or write it."""
    text = page(args.count)
    if args.write:
        Path(args.write).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0
