"""Random NumPy programs as source text, grown line by line in front of NumPy itself.

A line is kept when plain NumPy takes it on the program's own inputs and every value
stays where all executors must agree: conversions to integers in range, 64-bit values
that 32 bits hold. So the tables below say only what may be written: operators and
functions, views, writes through them, buffers, helpers that change what they are given,
conversions among all dtypes. What NumPy refuses is dropped, not predicted.

An array is *loose* once its last bits depend on the order or the formula of a sum, a
product or a function. Loose values are compared, and converted to integers, seldom: the
check (`nkigen.fuzz_check`) then lets every outcome pass that rounding explains, and
a program full of them would show little.

Tests draw programs through hypothesis, `python -m nkigen fuzz programs` from a seed:
both hand in a `random.Random`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["KEYS", "VIEWS", "Input", "Program", "random_program"]

SHAPES = [
    (), (1,), (6,), (7,), (127,), (129,), (3, 5), (4, 6), (128, 1), (1, 129), (1, 1),
    (2, 3, 4), (130, 33), (4, 1, 5), (2, 1, 128), (5, 513), (300, 2), (0,), (7, 0),
    (2, 2, 3, 2),
]  # fmt: skip
#: elements of the largest array
LIMIT = 100_000
DTYPES: dict[str, Any] = {
    "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3, "e5m2": ml_dtypes.float8_e5m2,
    "i8": np.int8, "i16": np.int16, "i32": np.int32,
    "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "bool": np.bool_,
}  # fmt: skip
#: what inputs are made of, common dtypes more often
INPUTS = ["f32"] * 8 + ["i32", "i32", "bool"] + list(DTYPES)
SPECIAL = [
    0.0, -0.0, 1.0, -1.0, 1e-40, -1e-45, 6e-8, 1.06, 3.1415927, 1.00390625, 257.0, 0.1,
    -0.3, 448.0, 65504.0, 65520.0, 70000.0, 1e38, -3e38, np.inf, -np.inf, np.nan,
]  # fmt: skip
SPECIAL_INT = [
    0, 1, -1, 127, 128, 255, 257, -257, 32767, 65535, 65536, 2**24 + 1, 2**31 - 1, -(2**31),
]  # fmt: skip

HELPERS = """
def bump(v, w):
    v += w

def put(v, w):
    v[...] = w
    return v

def head(v):
    return v[:1]

def swap(v, w):
    old = v.copy()
    v[...] = w
    w[...] = old

def scaled(v, by=2):
    v *= by
    return v.T
"""


@dataclass(frozen=True)
class Input:
    """A parameter: "plain" inputs are small multiples of 1/4, "wide" ones have all
    sizes, "special" ones also infinities, NaN, denormal numbers and the ends of ranges.

    Example:
        >>> Input("x0", (3,), "i8", "plain", 7).array().dtype
        dtype('int8')
    """

    name: str
    shape: tuple
    dtype: str
    kind: str
    seed: int

    def array(self) -> np.ndarray:
        """A new array of it, the same every time."""
        rng, dtype = np.random.default_rng(self.seed), np.dtype(DTYPES[self.dtype])
        if dtype == np.bool_:
            return np.asarray(rng.integers(0, 2, self.shape).astype(bool))
        if dtype.kind in "iu":
            low = 0 if dtype.kind == "u" else -9
            a = np.asarray(rng.integers(low, 10, self.shape))
            special: list = SPECIAL_INT
        else:
            a = np.asarray(rng.integers(-8, 9, self.shape) / 4)
            if self.kind != "plain":
                sizes = 10.0 ** rng.integers(-3, 4, self.shape)
                a = np.asarray(rng.standard_normal(self.shape) * sizes)
            special = SPECIAL
        if self.kind == "special" and a.size:
            count = min(a.size, int(rng.integers(1, len(special))))
            places = rng.permutation(a.size)[:count]
            a.reshape(-1)[places] = rng.choice(special, count)
        if dtype.kind in "iu":
            return a.astype(dtype)
        with np.errstate(all="ignore"):
            return a.astype(np.float32).astype(dtype)


VARIABLE = re.compile(r"\b[xt]\d+\b")


@dataclass
class Program:
    """A program as it grows: its parameters, its lines, and what NumPy made of them.

    Example:
        >>> p = Program([Input("x0", (3,), "f32", "plain", 0)])
        >>> p.add("t0 = x0[1:]"), p.add("t0 += np.ones(5)")
        (True, False)
        >>> print(p.source)
        def f(x0):
            t0 = x0[1:]
            return x0
        <BLANKLINE>
    """

    inputs: list[Input]
    #: with statics the parameters behind the first are one dict, which holds them, too
    statics: dict[str, Any] = field(default_factory=dict)
    lines: list[tuple[str, bool]] = field(default_factory=list)
    result: str = "x0"
    #: the variables in the result, in order
    returned: list[str] = field(default_factory=lambda: ["x0"])
    #: sums of narrow dtypes are rounded once, which NumPy does at each term
    rounds_once: bool = False

    def __post_init__(self) -> None:
        self._restart()

    @property
    def source(self) -> str:
        """As the text of a function f."""
        names = [v.name for v in self.inputs]
        lines = [text for text, _ in self.lines]
        if self.statics:
            names, inner = [names[0], "p"], [*names[1:], *self.statics]
            values = ", ".join(f'p["{n}"]' for n in inner)
            lines.insert(0, f"{', '.join(inner)}, = {values},")
        body = "\n".join([*lines, f"return {self.result}"]).replace("\n", "\n    ")
        return f"def f({', '.join(names)}):\n    {body}\n"

    def function(self) -> Callable:
        """As a function."""
        scope = dict(SCOPE)
        exec(compile(self.source, "<random program>", "exec"), scope)
        return scope["f"]

    def arrays(self) -> list[np.ndarray]:
        """New arrays for the parameters."""
        return [v.array() for v in self.inputs]

    def arguments(self, arrays: list[np.ndarray]) -> list[Any]:
        """The arguments of a call with these arrays."""
        if not self.statics:
            return list(arrays)
        rest = {v.name: a for v, a in zip(self.inputs[1:], arrays[1:])}
        return [arrays[0], {**rest, **self.statics}]

    # ---- growing

    @property
    def names(self) -> list[str]:
        """The variables so far."""
        return list(self.values)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]

    def evaluate(self, text: str) -> Any:
        """The value of an expression that changes nothing; None where NumPy refuses."""
        try:
            with _quiet():
                return eval(text, dict(self.scope))
        except REFUSED:
            return None

    def _mentioned(self, text: str) -> list[Any]:
        """The values of the variables in a text."""
        return [self.values[n] for n in VARIABLE.findall(text) if n in self.values]

    def is_loose(self, text: str) -> bool:
        """Whether an expression reads a loose array."""
        return any(id(_owner(v)) in self.loose for v in self._mentioned(text))

    def add(self, text: str, loose: bool = False) -> bool:
        """Append a line, unless NumPy refuses it or a value leaves its range."""
        if self._execute(text, loose):
            self.lines.append((text, loose))
            return True
        self._restart()
        for old in self.lines:
            self._execute(*old)
        return False

    def _restart(self) -> None:
        self.scope: dict[str, Any] = {**SCOPE, **self.statics}
        self.values: dict[str, Any] = {v.name: v.array() for v in self.inputs}
        self.scope.update(self.values)
        self.loose: set[int] = set()
        self.kept: list[Any] = []  # ids of what is gone must not come again

    def _is_wide(self, text: str, target: str) -> bool:
        """Whether NumPy computes a float in 64 bits, as it does with wide integers."""
        parts = [v.dtype for v in self._mentioned(text)]
        wide = any(d.itemsize == 8 or d.kind in "iu" and d.itemsize == 4 for d in parts)
        return wide and _kind(self.values[target]) == "f"

    def _execute(self, text: str, loose: bool) -> bool:
        loose = loose or self.is_loose(text)
        self.kept += self.values.values()
        if _leave_32_bits(self._mentioned(text)):
            return False
        try:
            with _quiet():
                exec(text, self.scope)
        except REFUSED:
            return False
        self.values = {n: v for n, v in self.scope.items() if VARIABLE.fullmatch(n)}
        if not all(map(_sane, self.values.values())):
            return False
        target = VARIABLE.search(text)
        if target and (loose or self._is_wide(text, target[0])):
            written = self._mentioned(text if "swap(" in text else target[0])
            self.loose.update(id(_owner(v)) for v in written)
        return True


SCOPE: dict[str, Any] = {"np": np, **DTYPES}
exec(HELPERS, SCOPE)
REFUSED = (ValueError, TypeError, IndexError, AttributeError, OverflowError)


class _quiet(warnings.catch_warnings):
    """No warnings, but conversions that have no value are refused as errors."""

    def __enter__(self) -> Any:
        super().__enter__()
        warnings.simplefilter("ignore")
        self.state = np.seterr(all="ignore")

    def __exit__(self, *error: Any) -> None:
        np.seterr(**self.state)
        super().__exit__(*error)


def _owner(a: Any) -> Any:
    while isinstance(a, np.ndarray) and a.base is not None:
        a = a.base
    return a


def _sane(a: Any) -> bool:
    """An array or scalar that a kernel may hold, with a value that the device has."""
    if not isinstance(a, (np.ndarray, np.generic)) or a.size > LIMIT or a.ndim > 5:
        return False
    if a.dtype.kind in "cOmMSU" or not a.size:
        return a.dtype.kind not in "cOmMSU"
    if a.dtype.itemsize < 8:
        return True
    if a.dtype.kind in "iu":
        return -(2**31) <= a.min() and a.max() < 2**31
    size = np.abs(a[np.isfinite(a)])
    return bool(((size < 3e38) & ((size > 1e-30) | (size == 0))).all())


def _leave_32_bits(values: list[Any]) -> bool:
    """Whether NumPy must go to 64 bits: u32 above 2^31 beside signed integers."""
    large = [a for a in values if a.dtype == np.uint32 and a.size and a.max() >= 2**31]
    return bool(large) and any(a.dtype.kind == "i" for a in values)


# ---- what may be written: {x} and {y} are variables, {c} a number, {d} a dtype

KEYS = [
    "[1:]", "[:-1]", "[::2]", "[1::2]", "[::-1]", "[0]", "[-1]", "[..., 1:]",
    "[..., ::-2]", "[..., 0]", "[None]", "[...]", "[:, 1:3]", "[1:, ..., -1]", "[2::3]",
]  # fmt: skip
VIEWS = [
    ".T", ".reshape(-1)", ".ravel()", ".swapaxes(0, -1)", ".squeeze()",
    ".reshape(2, -1)", ".real", ".flatten()", ".copy()", "[::-1]", "[1:]", ".T[:2]",
    ".astype(np.float32)", ".astype(np.float32, copy=False)", "[..., None]",
]  # fmt: skip
CONSTANTS = ["0.5", "1.25", "3", "-2", "0.1", "-1.5", "1e-3", "200", "0", "1"]
EXACT = [
    "-{x}", "np.abs({x})", "{x} * {c}", "{x} + {c}", "{c} - {x}", "{x} - {c}",
    "np.maximum({x}, {c})", "np.minimum({c}, {x})", "np.clip({x}, -1, 2)", "{x} * {x}",
    "np.square({x})", "np.sign({x})", "np.positive({x})", "{x} * {d}({c})",
    "np.copysign({x}, {c})",
    "{x} + {d}({c})", "{d}({c}) - {x}", "np.maximum({x}, {d}({c}))",
    "{x} + np.arange({x}.shape[-1], dtype={d})", "{x} * np.ones({x}.shape, {d})",
]  # fmt: skip
#: step functions: of values that are known to the last bit
STEPS_OF_VALUES = [
    "np.floor({x})", "np.ceil({x})", "np.rint({x})", "np.trunc({x})",
    "{x} > {c}", "{x} == {c}", "np.isnan({x})", "{x} <= {c}", "{x} // 3", "{x} % 5",
    "np.where({x} > 0, {x}, {c})", "np.where({x} == {x}, {x}, 0)",
]  # fmt: skip
FUNCTIONS = [
    "np.tanh({x})", "np.exp(np.minimum({x}, 2))", "np.exp({x})", "np.sqrt(np.abs({x}))",
    "np.sqrt(np.abs({x}) + 0.5)", "1 / (1 + np.exp(-{x}))", "np.log(np.abs({x}) + 1)",
    "np.log1p(np.abs({x}))", "np.arctan({x})", "np.expm1({x})", "{x} / 3", "{x} / {c}",
    "{c} / (np.abs({x}) + 1)", "{x} / (1 + np.exp(-{x}))", "np.reciprocal({x})",
    "{x} ** 2", "{x} ** 3", "np.abs({x}) ** 0.5", "np.log({x})", "np.sqrt({x})",
    "np.arctan2({x}, {c})",
]  # fmt: skip
WAVES = ["np.sin({x})", "np.cos({x})"]
INTEGER = [
    "-{x}", "np.abs({x})", "{x} % 5", "{x} // 3", "{x} % -3", "{x} // -2", "{x} * 7",
    "{x} + 100", "{x} * -4",
    "{x} & 6", "{x} | 5", "{x} ^ 9", "~{x}", "{x} << 2", "{x} >> 1",
    "{x} ** 2", "{x} ** 3", "np.minimum({x}, 9)", "np.maximum({x}, 3)", "np.sign({x})",
    "{x} > 2", "{x} == 1", "{x} * {x}", "{x} + {x}", "{x} - {d}(3)", "{x} * 0.5",
    "{x} + 1.5", "{x} * np.arange({x}.shape[-1], dtype=i32)",
    "np.where({x} > 0, {x}, 7)", "np.clip({x}, -3, 5)",
]  # fmt: skip
TRUTH = [
    "np.where({x}, 1.5, -0.5).astype(f32)", "~{x}", "np.where({x}, 3, -1)", "{x} + 1",
    "{x}.astype(i32)", "np.logical_not({x})", "{x} * f32(2.5)", "{x} ^ True",
    "np.ones({x}.shape, bool) & {x}", "np.where({x}, u8(3), u8(250))",
]  # fmt: skip
BINARY = [
    "{x} + {y}", "{x} - {y}", "{x} * {y}", "np.maximum({x}, {y})",
    "np.minimum({x}, {y})",
]  # fmt: skip
BINARY_LOOSE = [
    "{x} / (np.abs({y}) + 1)", "np.hypot({x}, {y})", "np.logaddexp({x}, {y})",
    "{x} / {y}",
]  # fmt: skip
COMPARISONS = [
    "{x} < {y}", "{x} >= {y}", "{x} == {y}", "{x} != {y}", "{x} > {y}", "{x} <= {y}",
    "np.where({x} < {y}, {x}, {y})", "np.where({x} > {y}, {y}, {x} - {y})",
]  # fmt: skip
BITWISE = [
    "{x} & {y}", "{x} | {y}", "{x} ^ {y}", "np.logical_and({x}, {y})",
    "np.logical_or({x}, {y})",
]  # fmt: skip
DIVISIONS = ["{x} // (abs({y}) % 7 + 1)", "{x} % (abs({y}) % 7 + 1)"]
INPLACE = [
    "+= 1", "*= 2", "-= {y}", "+= {y}", "*= {y}", "//= 2", "+= {y}.sum()", "%= 3",
    "-= {y}[..., :1]", "*= 0.5", "/= 2", "&= {y}", "|= True", "^= {y}",
    "**= 2", "+= {y}.T", "-= {y}[::-1]", "*= {y}[0]", "+= f32(0.1)",
]  # fmt: skip
STORED = [
    "{y}", "{y}{k}", "{y}{k} * 2", "7", "{y}[0]", "{y}.T", "{y}[::-1]", "-{y}",
    "{y} + {x}{k}",
]  # fmt: skip
BUFFERS = [
    "np.zeros({x}.shape, {d})", "np.ones_like({x})", "np.full({x}.shape, 3, {d})",
    "np.zeros((4, 6), {d})", "np.zeros_like({x})", "np.full({x}.shape[-1:], 2.5, {d})",
    "np.array({x})", "np.copy({x})", "np.zeros(({x}.shape[0],), f32) + 1",
    "np.ones((2, *{x}.shape), {d})", "np.full_like({x}, 1)", "np.zeros({x}.shape)",
]  # fmt: skip
FILLS = [
    "for i in range({t}.shape[0]):\n    {t}[i] = {y}[i]",
    "for i in range(len({t})):\n    {t}[i] = {y}[-1 - i] * 2",
    "for i in range({t}.shape[0]):\n    {t}[i] += {y}[i] * i",
    "for i in range(len({t})):\n    for j in range({t}.shape[1]):\n"
    "        {t}[i, j] = {y}[i, j] + j",
    "for j in range({t}.shape[-1]):\n    {t}[..., j] = {y}[..., -1 - j]",
    "for row, other in zip({t}, {y}):\n    row[...] = other",
    "{t}[::2] = {y}[::2]\n{t}[1::2] = {y}[1::2] * 3",
    "{t}[:] = {y}", "{t} += {y}", "{t}[0] = {y}[-1]", "{t}[..., 1:] -= {y}[..., :-1]",
]  # fmt: skip
HELPED = [
    "bump({x}, {y})", "bump({x}{k}, {y}{k})", "bump({x}, 3)", "swap({x}, {y})",
    "swap({x}[:1], {y}[-1:])",
]  # fmt: skip
HELPED_VIEWS = [
    "head({x})", "put({x}, {y})", "scaled({x})", "put({x}{k}, 5)",
    "scaled({x}{k}, by={c})",
]  # fmt: skip
JOINS = [
    "np.concatenate([{x}, {y}])", "np.stack([{x}, {y}], 1)", "np.tile({x}, 2)",
    "np.concatenate([{x}, {x}{k}], -1)", "np.repeat({x}, 2, axis=-1)", "np.roll({x}, 1)",
    "np.roll({x}, (1, 2), (0, -1))", "np.flip({x}, -1)",
    "np.stack([{x}, {y}])", "np.repeat({x}, 3, axis=0)", "np.atleast_2d({x})",
    "np.split({x}, 2)[1]", "np.array_split({x}, 3)[1]", "np.hstack([{x}, {y}])",
]  # fmt: skip
SUMS = [
    "{x}.sum({a})", "np.mean({x}, {a})", "np.sum({x}, {a})", "np.std({x}, {a})",
    "np.var({x}, {a})", "np.sum({x}, {a}, dtype=f32)",
]  # fmt: skip
EXTREMES = [
    "{x}.max({a})", "np.min({x}, {a})", "np.any({x}, {a})", "np.all({x}, {a})",
    "np.max({x}, {a})",
]  # fmt: skip


def _pick(rng: Random, p: Program, kinds: str = "fiub") -> str:
    """A variable, of these kinds if there is one; recent ones more often."""
    names = [n for n in p.names if _kind(p[n]) in kinds] or p.names
    return rng.choice(names[-3:] + names)


def _kind(a: Any) -> str:
    return "f" if a.dtype.kind not in "iub" else a.dtype.kind


def _mate(rng: Random, p: Program, x: str, kinds: str = "") -> str:
    """A variable that broadcasts with x."""

    def fits(n: str) -> bool:
        try:
            np.broadcast_shapes(p[x].shape, p[n].shape)
        except ValueError:
            return False
        return not kinds or _kind(p[n]) in kinds

    return rng.choice([n for n in p.names if fits(n)] or [x])


def _fill(rng: Random, text: str, **names: str) -> str:
    """A line of a table with its blanks filled in."""
    key = rng.choice(KEYS)
    dtype = rng.choice(["f32", "f32", "f16", "bf16", "i32", *DTYPES])
    return text.format(**{"c": rng.choice(CONSTANTS), "k": key, "d": dtype, **names})


def _let(rng: Random, p: Program, text: str, loose: bool = False, **names: str) -> bool:
    """A new variable for an expression that gives an array."""
    return p.add(f"t{len(p.lines)} = " + _fill(rng, text, **names), loose)


def _seldom(rng: Random, p: Program, *names: str) -> bool:
    """Whether a step function may be asked of these: seldom of loose values."""
    return not any(map(p.is_loose, names)) or rng.random() < 0.1


# ---- steps: each tries to append a line and says whether NumPy took it


def elementwise(rng: Random, p: Program) -> bool:
    x = _pick(rng, p)
    kind = _kind(p[x])
    if kind != "f":
        text = rng.choice(TRUTH if kind == "b" else INTEGER)
        dtype = {v: k for k, v in DTYPES.items()}.get(p[x].dtype.type, "i32")
        return _let(rng, p, text, x=x, d=dtype)
    dtype = {v: k for k, v in DTYPES.items()}.get(p[x].dtype.type, "f32")
    table = rng.choice([EXACT, EXACT, STEPS_OF_VALUES, FUNCTIONS, WAVES])
    if table is STEPS_OF_VALUES and not _seldom(rng, p, x):
        table = EXACT
    if (
        table is WAVES
        and not (np.abs(np.nan_to_num(p[x].astype(np.float64))) < 1e3).all()
    ):
        table = FUNCTIONS
    loose = table is FUNCTIONS or table is WAVES
    return _let(rng, p, rng.choice(table), loose, x=x, d=dtype)


def binary(rng: Random, p: Program) -> bool:
    x = _pick(rng, p)
    y = _mate(rng, p, x, rng.choice(["", _kind(p[x])]))
    kinds = _kind(p[x]) + _kind(p[y])
    tables = [BINARY, BINARY, COMPARISONS]
    if "f" in kinds:
        tables.append(BINARY_LOOSE)
    else:
        tables.append(BITWISE if kinds == "bb" else DIVISIONS)
    table = rng.choice(tables)
    if table is COMPARISONS and not _seldom(rng, p, x, y):
        table = BINARY
    return _let(rng, p, rng.choice(table), table is BINARY_LOOSE, x=x, y=y)


def select(rng: Random, p: Program) -> bool:
    c = _pick(rng, p, "b")
    x = _mate(rng, p, c)
    return _let(rng, p, "np.where({c}, {x}, {y})", c=c, x=x, y=_mate(rng, p, x))


def cast(rng: Random, p: Program) -> bool:
    x = _pick(rng, p)
    d = rng.choice(list(DTYPES))
    if not _converts(p[x], DTYPES[d]):
        return False
    steps = _kind(p[x]) == "f" and np.dtype(DTYPES[d]).kind in "iub"
    if steps and not _seldom(rng, p, x):
        return False
    text = rng.choice(["{x}.astype({d})", "{x}.astype({d})", "np.asarray({x}, {d})"])
    return _let(rng, p, text, x=x, d=d)


def _converts(a: Any, dtype: Any) -> bool:
    """Whether a conversion has one result: numbers to integers that hold them."""
    dtype = np.dtype(dtype)
    if _kind(a) != "f" or dtype.kind not in "iu":
        return True
    whole = np.trunc(a.astype(np.float64))
    info = np.iinfo(dtype)
    return bool(((whole >= info.min) & (whole <= info.max)).all())


def reduction(rng: Random, p: Program) -> bool:
    x = _pick(rng, p)
    rank = p[x].ndim
    axes = ["axis=None", *(f"axis={a}" for a in range(-rank or -1, rank or 1))]
    axes += ["axis=(0, -1)"] if rank > 1 else []
    axis = rng.choice(axes) + rng.choice(["", ", keepdims=True"])
    table = rng.choice([SUMS, EXTREMES])
    if "any" in (text := rng.choice(table)) or "all" in text:
        if not _seldom(rng, p, x):
            return False
    if table is SUMS and _is_narrow(p[x]):
        if rng.random() < 0.2:
            p.rounds_once = True
        else:
            text = "np.{f}({{x}}, {{a}}, dtype=f32)".format(
                f=rng.choice(["sum", "mean"])
            )
    return _let(rng, p, text, table is SUMS and _kind(p[x]) == "f", x=x, a=axis)


def _is_narrow(a: Any) -> bool:
    return _kind(a) == "f" and a.dtype.itemsize < 4


def product(rng: Random, p: Program) -> bool:
    x = _pick(rng, p, "f")
    if _kind(p[x]) != "f" or not p[x].ndim or p[x].size > 20_000:
        return False
    k = p[x].shape[-1]
    mates = [
        n for n in p.names
        if _kind(p[n]) == "f" and p[n].ndim and p[n].shape[max(p[n].ndim - 2, 0)] == k
    ]  # fmt: skip
    y = rng.choice(mates or [f"np.swapaxes({x}, -1, -2)"])
    text = rng.choice(["{x} @ {y}", f"({{x}} @ {{y}}) * {1 / max(k, 1)!r}"])
    return _let(rng, p, text, True, x=x, y=y)


def view(rng: Random, p: Program) -> bool:
    x = _pick(rng, p)
    rank = p[x].ndim
    texts = [rng.choice(VIEWS + KEYS), rng.choice(VIEWS + KEYS), ""]
    texts += [f".transpose({', '.join(map(str, rng.sample(range(rank), rank)))})"]
    texts += [f"[{', '.join(_index(rng) for _ in range(rank))}]"] if rank else []
    if (text := rng.choice(texts)) and rng.random() < 0.8:
        return _let(rng, p, "{x}" + text, x=x)
    table = ["np.broadcast_to({x}, (3, *{x}.shape))", "np.expand_dims({x}, -1)", "{x}"]
    return _let(rng, p, rng.choice(table), x=x)


def _index(rng: Random) -> str:
    step = rng.choice(["", "::2", "::-1", "1::3", "-1::-2", ":2", "2:", ":"])
    return step or rng.choice(["0", "-1", "1:-1"])


def join(rng: Random, p: Program) -> bool:
    x = _pick(rng, p)
    return _let(rng, p, rng.choice(JOINS), x=x, y=_mate(rng, p, x, _kind(p[x])))


def buffer(rng: Random, p: Program) -> bool:
    """A new array, and at times its content element by element or part by part."""
    x = _pick(rng, p)
    t = f"t{len(p.lines)}"
    if not _let(rng, p, rng.choice(BUFFERS), x=x):
        return False
    if rng.random() < 0.7 and len(p[t].shape) and p[t].shape[0] <= 16:
        y = _pick(rng, p, _kind(p[t]))
        return _write(p, _fill(rng, rng.choice(FILLS), t=t, y=y), t, p[y])
    return True


def _write(p: Program, line: str, target: str, value: Any) -> bool:
    """A line that stores a value, unless its conversion has no one result."""
    with _quiet():  # what is stored may be a small multiple
        whole = value is not None and _converts(np.asarray(value) * 4, p[target].dtype)
    return whole and p.add(line)


def inplace(rng: Random, p: Program) -> bool:
    x = _pick(rng, p)
    y = _mate(rng, p, x, rng.choice(["", _kind(p[x])]))
    key = rng.choice(["", "", rng.choice(KEYS)])
    text = _fill(rng, rng.choice(INPLACE), y=y)
    if text[0] in "&|^" and (_kind(p[x]) != "b" or _kind(p[y]) != "b"):
        return False  # of integers the device has none
    loose = _kind(p[x]) == "f" and ("/" in text or "sum" in text or "**" in text)
    if "sum" in text and _is_narrow(p[y]):
        return False
    if "%" in text or "//" in text:
        loose = False
        if not _seldom(rng, p, x):
            return False
    return p.add(f"{x}{key} {text}", loose)


def store(rng: Random, p: Program) -> bool:
    x = _pick(rng, p)
    y = _mate(rng, p, x, rng.choice(["", _kind(p[x])]))
    key = rng.choice(KEYS)
    text = _fill(rng, rng.choice(STORED), x=x, y=y, k=key)
    if _kind(p[x]) != "f" and not _seldom(rng, p, text):
        return False
    return _write(p, f"{x}{key} = {text}", x, p.evaluate(text))


def rows(rng: Random, p: Program) -> bool:
    x = _pick(rng, p)
    if not p[x].ndim or p[x].shape[0] > 12:
        return False
    y = _pick(rng, p, _kind(p[x]))
    body = rng.choice(["r += {y}[0]", "r *= 2", "r[...] = {y}[-1]", "r -= {y}"])
    return _write(p, f"for r in {x}:\n    " + body.format(y=y), x, p[y])


def helper(rng: Random, p: Program) -> bool:
    x = _pick(rng, p)
    y = _mate(rng, p, x, _kind(p[x]))
    if rng.getrandbits(1):
        return p.add(_fill(rng, rng.choice(HELPED), x=x, y=y))
    if not _converts(p[y], p[x].dtype):
        return False
    t, text = f"t{len(p.lines)}", _fill(rng, rng.choice(HELPED_VIEWS), x=x, y=y)
    return p.add(f"{t} = {text}", p.is_loose(text))


def static(rng: Random, p: Program) -> bool:
    x = _pick(rng, p)
    table = ["{x} * n", "{x}[:n]", "{x}[n:]", "np.tile({x}, n)", "{x} + n"]
    return bool(p.statics) and _let(rng, p, rng.choice(table), x=x)


#: steps that compute, and steps that write
PURE = [
    elementwise, elementwise, elementwise, binary, binary, select, cast, cast,
    reduction, view, view, join, product, static,
]  # fmt: skip
WRITING = [inplace, inplace, store, store, rows, helper, buffer, buffer, view]


def random_program(rng: Random, max_steps: int = 8, writes: float = 0.4) -> Program:
    """A random program of up to `max_steps` lines.

    writes: the share of steps that make buffers or change arrays in place.

    Example:
        >>> random_program(Random(0)).source.startswith("def f(x0")
        True
    """
    inputs = list(_parameters(rng))
    nested = len(inputs) > 1 and rng.random() < 0.2
    p = Program(inputs, {"n": rng.randint(1, 3)} if nested else {})
    for _ in range(rng.randint(1, max_steps)):
        for _ in range(6):
            if rng.choice(WRITING if rng.random() < writes else PURE)(rng, p):
                break
    _return(rng, p)
    return p


def _parameters(rng: Random) -> Iterator[Input]:
    shape = first = rng.choice(SHAPES)
    for i in range(rng.randint(1, 3)):
        if i:
            shape = rng.choice([first, first[1:], rng.choice(SHAPES)])
        kind = rng.choice(["plain", "plain", "wide", "special"])
        yield Input(f"x{i}", shape, rng.choice(INPUTS), kind, rng.randrange(1 << 30))


def _return(rng: Random, p: Program) -> None:
    """The last variable and others, first those that nothing reads; at times nested."""
    if not p.lines:
        p.add("t0 = x0 == x0")
    body = "\n".join(text for text, _ in p.lines)
    unread = [n for n in p.names if len(re.findall(rf"\b{n}\b", body)) <= 1]
    more = [rng.choice(unread or p.names) for _ in range(rng.randint(0, 3))]
    p.returned = [p.names[-1], *more]
    if not any(isinstance(p[n], np.ndarray) for n in p.returned):
        p.returned.append("x0")  # NumPy scalars that depend on nothing are no results
    form = rng.choice(["{}", "{}", "{},", '{{"a": {}, "rest": [{}]}}'])
    parts = p.returned[:1], p.returned[1:]
    if form.startswith("{{"):
        p.result = form.format(*map(", ".join, parts))
    else:
        p.result = form.format(", ".join(p.returned))
