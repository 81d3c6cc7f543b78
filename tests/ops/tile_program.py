"""Tile programs of one instruction each, and how the hardware stores numbers.

Operands are named in braces and stand for the access patterns of SBUF buffers that are
loaded before the instruction and stored after it: `"tensor_copy {y}, {a}"`. `stored` finds
the nearest element of a dtype in a table of all of them and so shares nothing with the C
code.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np

CSRC = Path(__file__).parents[2] / "csrc"
f32 = np.float32

DTYPES = {
    "bool": np.bool_,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f32": np.float32,
    "fp8_e4m3": ml_dtypes.float8_e4m3,
    "fp8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "fp8_e3m4": ml_dtypes.float8_e3m4,
}
WIDE = {"i64": np.int64, "u64": np.uint64, "f64": np.float64}  # in HBM constants only
NAMES = {np.dtype(v): k for k, v in (DTYPES | WIDE).items()}
SMALL_FLOATS = ("f16", "bf16", "fp8_e4m3", "fp8_e4m3fn", "fp8_e5m2", "fp8_e3m4")
SMALL = {n: (np.uint16 if np.dtype(DTYPES[n]).itemsize == 2 else np.uint8) for n in SMALL_FLOATS}
INTS = ("i8", "i16", "i32", "u8", "u16", "u32")

# ---- rows and words of the C tables


def instructions():
    """Names of all instruction rows of tile/ops.def."""
    rows = re.findall(r"^OP\((\w+), *(\w+),", (CSRC / "tile/ops.def").read_text(), re.M)
    return [name for name, cls in rows if cls != "CONTROL"]


def words(macro):
    """The names in one vocabulary of ir/enums.def: ALU or ACT."""
    text = (CSRC / "ir/enums.def").read_text()
    part = text[text.index(f"#ifdef {macro}") : text.index(f"#undef {macro}")]
    return re.findall(rf"\b{macro}\((\w+),", part)


def domains():
    """The ranges of activation functions in tile/act.def: name -> (lo, hi, of magnitude)."""
    rows = re.findall(
        r"^DOMAIN(_ABS)?\((\w+), ([^,]+), ([^,]+),", (CSRC / "tile/act.def").read_text(), re.M
    )

    def number(text):
        return float.fromhex(text) if "0x" in text else float(text)

    return {name: (number(lo), number(hi), bool(of_abs)) for of_abs, name, lo, hi in rows}


# ---- number formats


def elements(name):
    """Every value of a small float format, by code, as f64."""
    codes = np.arange(2 ** (8 * SMALL[name]().itemsize), dtype=np.uint32).astype(SMALL[name])
    return codes.view(DTYPES[name]).astype(np.float64)


_TABLES = {}


def steps(name):
    if name not in _TABLES:
        v = elements(name)
        half = v[: len(v) // 2]
        finite = half[np.isfinite(half)]
        over = finite[-1] + (finite[-1] - finite[-2])  # what the next code would be
        _TABLES[name] = np.append(finite, over)
    return _TABLES[name]


def nearest(v, name):
    """f64 values rounded to the nearest element of a small float format, ties to even codes."""
    v = np.asarray(v, np.float64)
    table = steps(name)
    a = np.minimum(np.abs(v), table[-1])
    a = np.where(np.isnan(a), 0, a)
    hi = np.clip(np.searchsorted(table, a), 1, len(table) - 1)
    lo = hi - 1
    up = (a - table[lo] > table[hi] - a) | ((a - table[lo] == table[hi] - a) & (hi % 2 == 0))
    code = np.where(up, hi, lo)
    over = np.nan if name == "fp8_e4m3fn" else np.inf
    out = np.where(code == len(table) - 1, over, table[code])
    out = np.copysign(out, v)
    return np.where(np.isnan(v), np.nan, out)


def stored(v, name):
    """f32 (or f64) values as the hardware stores them in a dtype."""
    v = np.asarray(v)
    with np.errstate(all="ignore"):
        if name == "bool":
            return v != 0
        if name in ("f32", "f64"):
            return v.astype(name.replace("f", "float"))
        if name in SMALL:
            return nearest(v, name).astype(DTYPES[name])
        info = np.iinfo((DTYPES | WIDE)[name])
        whole = np.rint(np.where(np.isnan(v), 0, v).astype(np.float64))
        out = np.zeros(v.shape, info.dtype)
        inside = (whole > float(info.min)) & (whole < float(info.max))
        out[inside] = whole[inside].astype(info.dtype)
        out[whole <= float(info.min)] = info.min
        out[whole >= float(info.max)] = info.max
        return out


def loaded(a):
    """Elements as the engines see them."""
    return a if a.dtype == np.float32 else a.astype(np.float32)


# ---- cases


@dataclass
class Case:
    line: str
    ins: dict
    outs: dict
    target: str = "trn2"
    ulp: float = 0  # of the stored dtype
    layout: str = "row"
    spaces: dict = field(default_factory=dict)
    before: str = ""  # lines that stand before the instruction
    verified: bool = False  # the hardware verifier has no objection


def pattern(layout, n):
    """(elements that a row needs, offset, dims) of n elements."""
    if layout == "strided":
        return 2 * n + 1, 1, f"{n}*2"
    if layout == "apart":
        return 3 * n + 2, 2, f"{n}*3"
    if layout == "blocked" and n % 2 == 0:
        return n + 6, 0, f"2*{n // 2 + 3}, {n // 2}*1"
    return n, 0, f"{n}*1"


def text_of(case):
    """The case as a tile program."""
    head, load, store, where, names = [], [], [], {}, []
    arrays = {**case.ins, **{k: v for k, v in case.outs.items() if k not in case.ins}}
    for name, a in arrays.items():
        parts, dims, dt = len(a), a.shape[1:], NAMES[a.dtype]
        n = math.prod(dims)
        if case.layout == "row" and len(dims) > 1:
            row, off = n, 0
            strides = [math.prod(dims[k + 1 :]) for k in range(len(dims))]
            dims = ", ".join(f"{d}*{s}" for d, s in zip(dims, strides))
        else:
            row, off, dims = pattern(case.layout, n)
        space = case.spaces.get(name, "sbuf")
        head.append(f"%{name} = buffer : {space} {dt}[{parts}, {row}]")
        where[name] = f"%{name}[0+{parts}, {off}: {dims}]"
        staged, shape = where[name], f"{parts}*{n}, {n}*1"
        if space == "psum":
            head.append(f"%{name}_s = buffer : sbuf {dt}[{parts}, {row}]")
            staged = staged.replace(f"%{name}[", f"%{name}_s[")
        if name in case.ins:
            k = list(case.ins).index(name)
            head.insert(k, f"%{name}_h = buffer {{kind=input, index={k}}} : hbm {dt}[{parts}, {n}]")
            load.append(f"dma_copy {staged}, %{name}_h[0: {shape}]")
            if space == "psum":
                load.append(f"tensor_copy {where[name]}, {staged}")
        if name in case.outs:
            k = len(names)
            names.append(f"%{name}_o")
            head.append(f"%{name}_o = buffer {{kind=output, index={k}}} : hbm {dt}[{parts}, {n}]")
            if space == "psum":
                store.append(f"tensor_copy {staged}, {where[name]}")
            store.append(f"dma_copy %{name}_o[0: {shape}], {staged}")
    line = re.sub(r"\{(\w+)\}", lambda m: where[m[1]], case.line)
    body = [*head, *load, *case.before.splitlines(), *line.splitlines(), *store]
    return "\n".join([f"tile @case {case.target} {{", *body, "return " + ", ".join(names), "}"])


# ---- values

rng = np.random.default_rng(17)
SPECIAL = np.array(
    [
        0.0,
        -0.0,
        1,
        -1,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        3,
        100,
        -128.5,
        255.5,
        65504,
        65520,
        1e-3,
        6e-8,
        1e-40,
        -1e-45,
    ]
    + [2**31, -(2**31), 2**32, 1e30, -3e38, np.inf, -np.inf, np.nan, 7.00001, -6.99999, np.pi],
    f32,
)


def values(shape, name="f32", scale=4.0):
    """Random elements; floats have the special values among them."""
    n = math.prod(shape)
    if name == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if name in INTS or name in ("i64", "u64"):
        info = np.iinfo((DTYPES | WIDE)[name])
        v = rng.integers(info.min, info.max, n, info.dtype, endpoint=True)
        edges = [0, 1, 2, 3, info.max, info.min, info.max - 1, info.min + 1]
        v[: min(n, 8)] = np.array(edges, info.dtype)[: min(n, 8)]
        return rng.permutation(v).reshape(shape)
    v = (rng.standard_normal(n) * scale).astype(f32)
    k = min(len(SPECIAL), n // 2)
    v[:k] = rng.permutation(SPECIAL)[:k]
    return stored(rng.permutation(v), name).reshape(shape)


def bits(shape):
    return rng.integers(0, 2, shape).astype(f32)


# ---- operators

ALU = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater_equal": np.greater_equal,
    "greater": np.greater,
    "less_equal": np.less_equal,
    "less": np.less,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
COMPARE = ("equal", "not_equal", "greater_equal", "greater", "less_equal", "less")
LOGICAL = ("logical_and", "logical_or", "logical_xor")
BITWISE = {
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
}
SHIFTS = ("left_shift", "right_shift")
UNARY = {"abs": np.abs, "rsqrt": lambda x: 1 / np.sqrt(x)}
ROW_REDUCE = {"add": np.sum, "multiply": np.prod, "maximum": np.max, "minimum": np.min}


def power(x, y):
    return np.power(x.astype(np.float64), y.astype(np.float64))


def alu(op, x, y):
    """x op y in f32."""
    x, y = np.asarray(x, f32), np.asarray(y, f32)
    with np.errstate(all="ignore"):
        if op == "power":
            return power(x, y).astype(f32)
        if op in UNARY:
            return UNARY[op](x.astype(np.float64)).astype(f32)
        return ALU[op](x, y).astype(f32)


def operands(op, shape, name="f32"):
    """Two arrays that `op` is defined for."""
    if op in LOGICAL:
        return [bits(shape).astype(DTYPES[name]) for _ in range(2)]
    a, b = values(shape, name), values(shape, name)
    if op in COMPARE:
        b = np.where(rng.random(shape) < 0.4, a, b)
    if op == "power":
        a = np.abs(a)
    return [a, b]


def int_alu(op, a, b, width):
    """Exact, as Python integers."""
    if op in SHIFTS:
        u = a & (2**width - 1)
        if not 0 <= b < width:
            return 0
        return u << b if op == "left_shift" else u >> b
    table = {
        "add": int.__add__,
        "subtract": int.__sub__,
        "multiply": int.__mul__,
        "maximum": max,
        "minimum": min,
    }
    table |= {
        "equal": int.__eq__,
        "not_equal": int.__ne__,
        "greater_equal": int.__ge__,
        "greater": int.__gt__,
    }
    table |= {
        "less_equal": int.__le__,
        "less": int.__lt__,
        "logical_and": lambda x, y: bool(x and y),
    }
    table |= {
        "logical_or": lambda x, y: bool(x or y),
        "logical_xor": lambda x, y: bool(x) != bool(y),
    }
    table |= {"bitwise_and": int.__and__, "bitwise_or": int.__or__, "bitwise_xor": int.__xor__}
    return int(table[op](a, b))


def wrapped(v, name):
    """Python integers, their low bits kept."""
    t = np.dtype(DTYPES[name])
    low = [int(x) & (2 ** (8 * t.itemsize) - 1) for x in np.ravel(v)]
    return np.array(low, f"u{t.itemsize}").view(t).reshape(np.shape(v))


INT_BINARY = (*ALU, *BITWISE, *SHIFTS)
