"""Random NumPy programs as source text, with inputs on which rounding decides nothing.

Tests draw them through hypothesis, `python -m nkigen fuzz programs` from a seed: both
hand in a `random.Random`.

Inputs are multiples of 1/4 in [-2, 2]. A value is `exact` while f32 holds it without
rounding; only exact values are compared or converted to integers, so that no step
function stands on a value that differs in its last bit between executors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

import nkigen

__all__ = ["Program", "Value", "check_program", "random_program"]

SHAPES = [
    (), (1,), (7,), (127,), (129,), (3, 5), (128, 1), (1, 129), (1, 1), (2, 3, 4),
    (130, 33), (4, 1, 5), (2, 1, 128), (5, 513), (300, 2), (0,), (7, 0),
]  # fmt: skip
EXACT_LIMIT = 2.0**12
LIMIT = 2.0**8


@dataclass
class Value:
    """A variable of a random program and what is known of it.

    Example:
        >>> Value("x0", (3,), "f32", True, 2.0).size
        2.0
    """

    name: str
    shape: tuple
    dtype: str
    exact: bool
    size: float  # bound of |value|


@dataclass
class Program:
    """A program as it grows: its parameters, its lines, all variables so far.

    Example:
        >>> Program([Value("x0", (3,), "f32", True, 2.0)], result="x0").source
        'def f(x0):\n\n    return x0\n'
    """

    inputs: list[Value] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    result: str = ""

    @property
    def source(self) -> str:
        names = ", ".join(v.name for v in self.inputs)
        return "\n".join([f"def f({names}):", *[f"    {x}" for x in self.lines]]) + (
            f"\n    return {self.result}\n"
        )

    def function(self) -> Callable:
        scope: dict[str, Any] = {"np": np}
        exec(compile(self.source, "<random program>", "exec"), scope)
        return scope["f"]

    def arrays(self, seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        make = {
            "f32": lambda s: (rng.integers(-8, 9, s) / 4).astype(np.float32),
            "i32": lambda s: rng.integers(-9, 10, s).astype(np.int32),
            "bool": lambda s: rng.integers(0, 2, s).astype(bool),
        }
        return [np.asarray(make[v.dtype](v.shape)) for v in self.inputs]

    def add(self, text: str, shape: Any, dtype: str, exact: bool, size: float) -> None:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.values.append(Value(name, tuple(shape), dtype, exact, size))


def fits(size: float, exact: bool) -> bool:
    return size <= (EXACT_LIMIT if exact else LIMIT)


def broadcastable(a: Value, b: Value) -> tuple | None:
    try:
        return np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return None


def elementwise(rng: Random, p: Program, v: Value) -> None:
    if v.dtype == "bool":
        text = f"np.where({v.name}, 1.5, -0.5).astype(np.float32)"
        p.add(text, v.shape, "f32", True, 1.5)
        return
    if v.dtype == "i32":
        op, dtype = rng.choice(
            [
                ("-{}", "i32"),
                ("np.abs({})", "i32"),
                ("{}.astype(np.float32)", "f32"),
                ("{} % 5", "i32"),
                ("{} // 3", "i32"),
            ]
        )
        p.add(op.format(v.name), v.shape, dtype, True, max(v.size, 5))
        return
    table = [
        ("-{}", v.exact, v.size),
        ("np.abs({})", v.exact, v.size),
        ("{} * 0.5", v.exact and v.size < 64, v.size / 2),
        ("{} + 1.25", v.exact, v.size + 1.25),
        ("3 - {}", v.exact, v.size + 3),
        ("np.maximum({}, 0)", v.exact, v.size),
        ("np.clip({}, -1, 2)", v.exact, 2.0),
        ("np.tanh({})", False, 1.0),
        ("np.exp(np.minimum({}, 2))", False, 8.0),
        ("np.sqrt(np.abs({}) + 0.5)", False, v.size**0.5 + 1),
        ("1 / (1 + np.exp(-{}))" if v.size <= 64 else "np.tanh({})", False, 1.0),
        ("np.log(np.abs({}) + 1)", False, 8.0),
        ("np.sin({})" if v.size <= 64 else "np.tanh({})", False, 1.0),
        ("np.square({})", v.exact and v.size < 16, v.size**2),
        ("{} / 3", False, v.size / 3),
    ]
    if v.exact:
        table += [("np.sign({})", True, 1.0), ("np.floor({})", True, v.size + 1)]
        table += [("{}.astype(np.int32)", True, v.size)]
    text, exact, size = rng.choice([t for t in table if fits(t[2], t[1])] or table[:2])
    dtype = "i32" if "int32" in text else "f32"
    p.add(text.format(v.name), v.shape, dtype, exact, size)


def binary(rng: Random, p: Program, v: Value) -> None:
    others = [o for o in p.values if broadcastable(v, o) is not None]
    o = rng.choice(others)
    shape = broadcastable(v, o)
    if int(np.prod(shape)) > 200_000:
        return
    if "bool" in (v.dtype, o.dtype):
        if v.dtype == o.dtype:
            op = rng.choice("&|^")
            p.add(f"{v.name} {op} {o.name}", shape, "bool", True, 1.0)
        else:
            c, x = (v, o) if v.dtype == "bool" else (o, v)
            zero = "np.float32(0)" if x.dtype == "f32" else "np.int32(0)"
            text = f"np.where({c.name}, {x.name}, {zero})"
            p.add(text, shape, x.dtype, x.exact, x.size)
        return
    if v.dtype != o.dtype:
        v, o = (v, o) if v.dtype == "f32" else (o, v)
        o = Value(f"{o.name}.astype(np.float32)", o.shape, "f32", True, o.size)
    exact = v.exact and o.exact
    table = [
        ("{} + {}", v.dtype, exact, v.size + o.size),
        ("{} - {}", v.dtype, exact, v.size + o.size),
        ("np.maximum({}, {})", v.dtype, exact, max(v.size, o.size)),
        ("np.minimum({}, {})", v.dtype, exact, max(v.size, o.size)),
        ("{} * {}", v.dtype, exact and v.size * o.size < 64, v.size * o.size),
    ]
    if v.dtype == "f32":
        table.append(("{} / (np.abs({}) + 1)", "f32", False, v.size))
    if exact:
        table += [(f"{{}} {c} {{}}", "bool", True, 1.0) for c in ("<", ">=", "==")]
    keep = [t for t in table if fits(t[3], t[2])]
    text, dtype, exact, size = rng.choice(keep or table[2:4])
    p.add(text.format(v.name, o.name), shape, dtype, exact, size)


def reduction(rng: Random, p: Program, v: Value) -> None:
    if v.dtype != "f32" or not v.shape:
        return
    axis = rng.randint(-len(v.shape), len(v.shape) - 1)
    keep = bool(rng.getrandbits(1))
    n = v.shape[axis]
    kinds = [
        ("max", v.exact, v.size),
        ("min", v.exact, v.size),
        ("mean", False, v.size),
    ]
    if fits(v.size * n, v.exact):
        kinds.append(("sum", v.exact and v.size < 64, v.size * n))
    if 0 in v.shape:
        kinds = [k for k in kinds if k[0] == "sum"]
        if not kinds:
            return
    name, exact, size = rng.choice(kinds)
    shape = list(v.shape)
    shape[axis] = 1
    if not keep:
        del shape[axis]
    text = f"np.{name}({v.name}, axis={axis}, keepdims={keep})"
    p.add(text, shape, "f32", exact, size)


def layout(rng: Random, p: Program, v: Value) -> None:
    rank = len(v.shape)
    kinds = ["reshape", "expand"]
    if rank:
        kinds += ["slice", "flip", "concat", "repeat"]
    if rank >= 2:
        kinds += ["transpose", "transpose"]
    if rank < 4:
        kinds.append("broadcast")
    kind = rng.choice(kinds)
    if kind == "reshape":
        total = int(np.prod(v.shape))
        shapes = [(total,), (1, total), (total, 1)]
        if total and total % 2 == 0:
            shapes += [(2, total // 2), (total // 2, 2)]
        shape = rng.choice(shapes)
        text = f"np.reshape({v.name}, {shape})"
    elif kind == "expand":
        axis = rng.randint(0, rank)
        shape = v.shape[:axis] + (1,) + v.shape[axis:]
        text = f"np.expand_dims({v.name}, {axis})"
        if len(shape) > 4:
            return
    elif kind == "broadcast":
        shape = (rng.randint(1, 3), *v.shape)
        text = f"np.broadcast_to({v.name}, {shape})"
    elif kind == "repeat":
        axis = rng.randint(0, rank - 1)
        shape = tuple(2 * n if i == axis else n for i, n in enumerate(v.shape))
        text = f"np.repeat({v.name}, 2, axis={axis})"
    elif kind == "transpose":
        perm = rng.sample(range(rank), rank)
        shape = tuple(v.shape[i] for i in perm)
        text = f"np.transpose({v.name}, {tuple(perm)})"
    else:
        axis = rng.randint(0, rank - 1)
        index = [":"] * rank
        if kind == "flip":
            index[axis] = "::-1"
        else:
            start = rng.randint(0, 2)
            step = rng.randint(1, 3)
            index[axis] = f"{start}::{step}"
        where = ", ".join(index)
        text = f"{v.name}[{where}]"
        shape = np.empty(v.shape)[eval(f"np.s_[{where}]")].shape
        if kind == "concat":
            shape = list(shape)
            shape[axis] += v.shape[axis]
            text = f"np.concatenate([{v.name}, {text}], axis={axis})"
    if int(np.prod(shape)) <= 200_000:
        p.add(text, shape, v.dtype, v.exact, v.size)


def product(rng: Random, p: Program, v: Value) -> None:
    if v.dtype != "f32" or len(v.shape) < 1 or v.size > 16:
        return
    k = v.shape[-1]
    if 0 in v.shape:
        return
    others = [
        o
        for o in p.values
        if o.dtype == "f32" and o.shape and 0 not in o.shape and o.size <= 16
        and (o.shape[-2] if len(o.shape) > 1 else o.shape[0]) == k
    ]  # fmt: skip
    if others:
        o = rng.choice(others)
        text = f"{v.name} @ {o.name}"
    else:
        if len(v.shape) < 2:
            return
        swapped = (*v.shape[:-2], k, v.shape[-2])
        name = f"np.swapaxes({v.name}, -1, -2)"
        o = Value(name, swapped, "f32", v.exact, v.size)
        text = f"{v.name} @ {o.name}"
    try:
        shape = np.matmul(np.zeros(v.shape), np.zeros(o.shape)).shape
    except ValueError:
        return
    if int(np.prod(shape)) <= 200_000:
        p.add(f"({text}) * {1.0 / k!r}", shape, "f32", False, v.size * o.size)


STEPS = [elementwise, elementwise, binary, binary, reduction, layout, layout, product]


def random_program(rng: Random, max_steps: int = 8) -> Program:
    """A random program of up to `max_steps` lines.

    Example:
        >>> random_program(Random(0)).source.startswith("def f(x0")
        True
    """
    p = Program()
    for i in range(rng.randint(1, 3)):
        dtype = rng.choice(["f32", "f32", "f32", "i32", "bool"])
        shape = rng.choice(SHAPES)
        if i and rng.getrandbits(1):
            shape = p.inputs[0].shape
        size = {"f32": 2.0, "i32": 9.0}.get(dtype, 1.0)
        p.inputs.append(Value(f"x{i}", shape, dtype, True, size))
    p.values = list(p.inputs)
    for _ in range(rng.randint(1, max_steps)):
        recent = p.values[-3:]
        v = rng.choice(recent + p.values)
        rng.choice(STEPS)(rng, p, v)
    p.result = p.values[-1].name
    if not p.lines:
        p.add(f"{p.result} == {p.result}", p.values[-1].shape, "bool", True, 1.0)
        p.result = p.values[-1].name
    if len(p.values) > len(p.inputs) + 1 and rng.getrandbits(1):
        p.result = f"{p.values[-1].name}, {p.values[-2].name}"
    return p


# ---- one program, many executors, one answer


def require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def as_tuple(x: Any) -> tuple:
    return x if isinstance(x, tuple) else (x,)


def quiet(fn: Callable, *arrays: np.ndarray) -> tuple:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return as_tuple(fn(*arrays))


def wide(a: np.ndarray) -> np.ndarray:
    return a.astype(np.float64) if a.dtype == np.float32 else a


def compare(what: str, actual: Any, narrow: tuple, exact: tuple) -> None:
    """`narrow` is NumPy's f32 result and `exact` its f64 one: their distance says how
    well conditioned the program is."""
    for a, n, e in zip(as_tuple(actual), narrow, exact, strict=True):
        require(a.shape == n.shape, what)
        narrowed = a.dtype.itemsize < n.dtype.itemsize
        require(a.dtype == n.dtype or narrowed, what)
        if n.dtype.kind in "biu":
            require(np.array_equal(a, n), what)
            continue
        finite = np.isfinite(e)
        require(np.array_equal(np.isnan(a), np.isnan(e)), what)
        scale = np.abs(e[finite]).max(initial=0.0)
        noise = np.abs(n.astype(np.float64) - e)[finite].max(initial=0.0)
        error = np.abs(a.astype(np.float64) - e)[finite].max(initial=0.0)
        limit = 2e-6 * scale + 1e-6 + 16 * noise
        require(error <= limit, f"{what}: {error} of {scale}")


def check_program(program: Program, target: str) -> Any:
    """Compile a program and compare NumPy, the reference, each stage and the simulator.

    Returns the kernel; raises AssertionError where two of them disagree.

    Example:
        >>> check_program(random_program(Random(0)), "trn2").verify()
        []
    """
    fn, arrays = program.function(), program.arrays()
    narrow = tuple(np.asarray(a) for a in quiet(fn, *arrays))
    exact = tuple(np.asarray(a) for a in quiet(fn, *map(wide, arrays)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = nkigen.compile(fn, *arrays, target=target, cache=False)
    require(not kernel.verify(), "the program breaks hardware rules")
    compare("reference", kernel.reference(*arrays), narrow, exact)
    for name, stage in kernel.stages.items():
        if stage.kind != "plan":
            compare(name, kernel.run_stage(name, *arrays), narrow, exact)
    compare("simulator", kernel(*arrays), narrow, exact)
    return kernel
