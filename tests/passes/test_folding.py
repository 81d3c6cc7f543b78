"""Ops of constants are computed by the compiler: what it folds is what NumPy computes.

One program per op and dtype holds the op of many constants. The reference interpreter runs
it as it is (it calls NumPy for each op), then what canonicalize makes of it.
"""

import itertools

import numpy as np
import pytest

import nkigen
from nkigen import _core

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

REAL = [
    "0.0",
    "-0.0",
    "1.0",
    "-1.0",
    "0.5",
    "0.75",
    "2.5",
    "-2.5",
    "3.0",
    "-7.0",
    "100.5",
    "inf",
    "-inf",
    "nan",
]
WHOLE = [0, 1, 2, 3, 5, -1, -2, -7, 100, 127, -128, 46341, 2**31 - 1, -(2**31)]
RANGE = {"i8": (-128, 127), "u8": (0, 255), "i32": (-(2**31), 2**31 - 1), "u32": (0, 2**32 - 1)}
FLOATS, INTS = ("f32", "f16", "bf16"), tuple(RANGE)
ROWS = {row["name"]: row["class"] for row in _core.op_table("tensor")}
BITS = ["bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift", "shift_down"]
FLOAT_UNARY = [n for n, c in ROWS.items() if c == "EW1" and n not in ("copy", "logical_not", "invert")] + [
    "isnan"
]
INT_UNARY = ["neg", "positive", "abs", "sign", "square", "invert"]
FLOAT_BINARY = [
    n
    for n, c in ROWS.items()
    if c in ("EW2", "CMP") and n != "isnan" and "logical" not in n and n not in BITS
]
INT_BINARY = [n for n in FLOAT_BINARY if n not in ("div", "hypot", "logaddexp")] + BITS
LOGICAL = [n for n in ROWS if n.startswith("logical_") and n != "logical_not"]
COMPARE = [n for n, c in ROWS.items() if c == "CMP"]
#: not of every value, or left to the device: the constants stay
NOT_FOLDED = {"hypot", "logaddexp"}
#: in steps of f32: NumPy's own f32 functions and C's f64 ones, rounded once
ULP = 2
COMPOSED = ("silu", "gelu_tanh")  # several steps in the reference


def full(i, v, dtype):
    key = "value" if isinstance(v, str) else "ivalue"
    return f"%{i} = full {{{key}={v}, shape=[1], dtype={dtype}}} : {dtype}[1]"


def constants(dtype):
    if dtype == "bool":
        return [0, 1]
    if dtype in FLOATS:
        return REAL
    lo, hi = RANGE[dtype]
    return sorted({v for v in (*WHOLE, lo, hi, hi - 1) if lo <= v <= hi})


def program(op, operands, dtype, result, attrs=""):
    """op of every combination of operands, each result an output."""
    lines, outs, n = ["tensor @f {"], [], 0
    for values in operands:
        names = []
        for v in values:
            n += 1
            lines.append(full(n, v, dtype))
            names.append(f"%{n}")
        n += 1
        lines.append(f"%{n} = {op} {', '.join(names)}{attrs} : {result}[1]")
        outs.append(f"%{n}")
    return "\n".join([*lines, "return " + ", ".join(outs), "}"])


def both(text, op, folds=True):
    """Results of NumPy, and of the folded program: one array each."""
    folded = _core.run_pass("canonicalize", text, "trn2")
    left = sum(f" = {op} " in line for line in folded.splitlines())
    assert (left == 0) == folds, f"{left} of {text.count(f' = {op} ')} {op} are left"
    with np.errstate(all="ignore"):
        want, got = (np.concatenate(nkigen.parse(t).run()) for t in (text, folded))
    return want, got


def assert_same(got, want, ulp=0, least=0):
    """Within steps of the dtype, at values from `least` on; exactly, signs of zero too, when ulp is 0."""
    assert got.dtype == want.dtype
    if want.dtype.kind in "iub":
        assert got.tolist() == want.tolist()
        return
    g, w = got.astype(np.float64), want.astype(np.float64)
    same = (g == w) & (np.signbit(g) == np.signbit(w)) | np.isnan(g) & np.isnan(w)
    step = np.spacing(np.maximum(np.abs(want), np.array(least, want.dtype))).astype(np.float64)
    assert (same | (np.abs(g - w) <= ulp * step)).all(), (g[~same], w[~same])


@pytest.mark.parametrize("op, dtype", itertools.product(FLOAT_UNARY, FLOATS))
def test_unary(op, dtype):
    values = constants(dtype)
    if op in ("sin_pi", "arctan_small"):  # arguments in their range
        values = ["0.0", "-0.0", "1.0", "-1.5", "nan"] + ["-3.0"] * (op == "sin_pi")
        values.remove("nan")
    if op in ("sin", "cos", "tan"):
        values = [v for v in values if "inf" not in v]
    text = program(op, [(v,) for v in values], dtype, "bool" if op == "isnan" else dtype)
    want, got = both(text, op)
    exact = (
        "neg",
        "positive",
        "abs",
        "sign",
        "floor",
        "ceil",
        "trunc",
        "rint",
        "isnan",
        "sqrt",
        "square",
    )
    if op in COMPOSED:
        assert_same(got, want, 8, least=1)
    else:
        assert_same(got, want, 0 if op in exact else ULP)


@pytest.mark.parametrize("op, dtype", itertools.product(FLOAT_BINARY, FLOATS))
def test_binary(op, dtype):
    pairs = list(itertools.product(constants(dtype), repeat=2))
    if op == "power":  # of one exponent 0.5 NumPy takes the square root: nan and -0.0
        pairs = [(a, b) for a, b in pairs if b != "0.5" or a not in ("-inf", "-0.0")]
    text = program(op, pairs, dtype, "bool" if op in COMPARE else dtype)
    want, got = both(text, op, op not in NOT_FOLDED)
    assert_same(got, want, ULP if op == "power" else 0)


@pytest.mark.parametrize("op, dtype", itertools.product(INT_UNARY, INTS))
def test_unary_integers(op, dtype):
    want, got = both(program(op, [(v,) for v in constants(dtype)], dtype, dtype), op)
    assert_same(got, want)


@pytest.mark.parametrize("op, dtype", itertools.product(INT_BINARY, INTS))
def test_binary_integers(op, dtype):
    pairs = list(itertools.product(constants(dtype), repeat=2))
    if op == "power":
        pairs = [(a, b) for a, b in pairs if b >= 0]
    want, got = both(program(op, pairs, dtype, "bool" if op in COMPARE else dtype), op)
    assert_same(got, want)


@pytest.mark.parametrize("op", [*LOGICAL, *COMPARE, "maximum", "minimum"])
def test_binary_bool(op):
    if op == "isnan":
        return
    want, got = both(program(op, list(itertools.product([0, 1], repeat=2)), "bool", "bool"), op)
    assert_same(got, want)


def test_not():
    want, got = both(program("logical_not", [(0,), (1,)], "bool", "bool"), "logical_not")
    assert_same(got, want)


@pytest.mark.parametrize("a, b", itertools.product([*FLOATS, *INTS, "bool"], repeat=2))
def test_cast(a, b):
    """Numbers that both dtypes have, and floats to floats of every value."""
    values = constants(a)
    if a in FLOATS and b in INTS:
        lo, hi = RANGE[b]
        values = [v for v in values if v not in ("inf", "-inf", "nan") and lo <= float(v) <= hi]
    text = program("cast", [(v,) for v in values], a, b, f" {{dtype={b}}}")
    want, got = both(text, "cast")
    assert_same(got, want)
