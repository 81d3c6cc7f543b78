"""The simulator gives the same bits on every CPU and in every build.

`simulator_bits.json` holds a hash of what each element-wise instruction makes of 65,536 fixed bit patterns. Sums and
products are left out: their order and their rounding may differ within a bound. Neither sign nor payload of a NaN is
anybody's promise.
"""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import nkigen

STORED = Path(__file__).parent / "simulator_bits.json"
CSRC = Path(__file__).parents[2] / "csrc"
P, F = 128, 512
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, -3.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-40, 1e38, -1e38, 89.0]
SIMPLE = "copy square sigmoid relu gelu gelu_tanh silu tanh softplus mish erf exp log sin arctan sqrt rsqrt".split()
ACTS = [*SIMPLE, "reciprocal", "sign", "abs"]
ALUS = (
    "add subtract multiply maximum minimum equal not_equal greater_equal greater less_equal less logical_and "
    "logical_or logical_xor power"
).split()
DTYPES = "bf16 f16 fp8_e4m3 fp8_e4m3fn fp8_e5m2 fp8_e3m4 i32 u32 i16 u16 i8 u8".split()


def patterns(step, first):
    """All kinds of floats: bit patterns an odd number apart, and numbers of everyday size."""
    bits = (np.arange(P * F, dtype=np.uint64) * step + first).astype(np.uint32)
    x = bits.view(np.float32).copy()
    everyday = (bits >> 8).astype(np.float32) * np.float32(2.0**-19) - np.float32(16)
    x[::2] = everyday[::2]
    pairs = np.array([(a, b) for a in SPECIAL for b in SPECIAL], np.float32)
    x[1 : 2 * len(pairs) : 2] = pairs[:, 0 if step % 4 == 1 else 1]
    return x.reshape(P, F)


X, Y = patterns(2654435761, 12345), patterns(2246822519, 987)
COLUMN = np.resize(Y.ravel()[1::2], (P, 1))

PROGRAM = f"""tile @bits trn3 {{
  %x = buffer {{kind=input, index=0}} : hbm f32[{P}, {F}]
  %y = buffer {{kind=input, index=1}} : hbm f32[{P}, {F}]
  %c = buffer {{kind=input, index=2}} : hbm f32[{P}, 1]
  %z = buffer {{kind=output, index=0}} : hbm f32[{P}, {F}]
  %a = buffer : sbuf f32[{P}, {F}]
  %b = buffer : sbuf f32[{P}, {F}]
  %s = buffer : sbuf f32[{P}, 1]
  %t = buffer : sbuf DTYPE[{P}, {F}]
  dma_copy %a[0+{P}, 0: {F}*1], %x[0: {P}*{F}, {F}*1]
  dma_copy %b[0+{P}, 0: {F}*1], %y[0: {P}*{F}, {F}*1]
  dma_copy %s[0+{P}, 0], %c[0: {P}*1]
  LINE
  dma_copy %z[0: {P}*{F}, {F}*1], %t[0+{P}, 0: {F}*1]
  return %z
}}"""


def domains():
    """function -> array of arguments where the device defines it"""
    row = re.compile(r"^(DOMAIN\w*)\((\w+), (-?[\w.+-]+), (-?[\w.+-]+),", re.M)
    for kind, f, lo, hi in row.findall((CSRC / "tile/act.def").read_text()):
        lo, hi = (np.float32(float.fromhex(v) if "0x" in v else float(v)) for v in (lo, hi))
        clipped = np.clip(np.abs(X) if lo > 0 else X, lo, hi)
        yield f, np.copysign(clipped, X) if "ABS" in kind else clipped


def arguments(name):
    """What an instruction may be given."""
    if "logical" in name:
        return X > 0, Y > 0, COLUMN > 0
    f = name.removeprefix("act_").removeprefix("ts_")
    return dict(domains()).get(f, X), Y, COLUMN


def results():
    """name -> array"""
    a, b, s, t = (f"%{n}[0+{P}, 0{'' if n == 's' else f': {F}*1'}]" for n in "abst")
    lines = {f"act_{f}": (f"activation {t}, _, {a}, _, _ {{func={f}}}", "f32") for f in ACTS}
    lines["act_scaled"] = (f"activation {t}, _, {a}, {s}, {s} {{func=tanh}}", "f32")
    lines["reciprocal"] = (f"reciprocal {t}, {a}", "f32")
    for op in ALUS:
        lines[f"tt_{op}"] = (f"tensor_tensor {t}, {a}, {b} {{op={op}}}", "f32")
        lines[f"ts_{op}"] = (f"tensor_scalar {t}, {a}, {s}, _ {{op0={op}}}", "f32")
        lines[f"st_{op}"] = (f"tensor_scalar {t}, {a}, {s}, _ {{op0={op}, reverse0=true}}", "f32")
        fused = f"scalar_tensor_tensor {t}, {a}, {s}, {b} {{op0=multiply, op1={op}}}"
        lines[f"stt_{op}"] = (fused, "f32")
    for op in ("abs", "rsqrt"):
        lines[f"ts_{op}"] = (f"tensor_scalar {t}, {a}, _, _ {{op0={op}, imm0=0.0}}", "f32")
    for exponent in (-1, 2, 3, 0.5, -2.5):
        line = f"tensor_scalar {t}, {a}, _, _ {{op0=power, imm0={float(exponent)}}}"
        lines[f"power_{exponent}"] = (line, "f32")
    for dt in DTYPES:
        lines[f"cast_{dt}"] = (f"tensor_copy {t}, {a}", dt)
        lines[f"add_{dt}"] = (f"tensor_tensor {t}, {a}, {b} {{op=add}}", dt)
    for name, (line, dtype) in lines.items():
        text = PROGRAM.replace("LINE", line).replace("DTYPE", dtype)
        yield name, nkigen.parse(text).run(*(a.astype(np.float32) for a in arguments(name)))


def bits_of(array):
    array = np.where(np.isnan(array), np.float32(np.nan), array)
    return hashlib.sha256(array.astype("<f4").tobytes()).hexdigest()[:16]


@pytest.fixture(scope="module")
def hashes():
    return {name: bits_of(array) for name, array in results()}


def test_bits_are_the_stored_ones(hashes, request):
    if request.config.getoption("--update-golden"):
        STORED.write_text(json.dumps(hashes, indent=1) + "\n")
    stored = json.loads(STORED.read_text())
    changed = {k for k in hashes if hashes[k] != stored.get(k)}
    assert not changed, "other bits than stored: a build that computes differently, or --update-golden if that is meant"
    assert hashes.keys() == stored.keys()


def test_every_function_is_among_them(hashes):
    """A row added to the tables needs a hash."""
    table = (CSRC / "ir/enums.def").read_text()
    acts = set(re.findall(r"\bACT\((\w+), \"", table))
    assert acts == set(ACTS)
    alus = set(re.findall(r"\bALU\((\w+), \"", table))
    integers = {"none", "bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"}
    assert alus - integers == {*ALUS, "abs", "rsqrt"}


WHOLE = np.resize(np.arange(-9, 10, dtype=np.float32), Y.shape)


@pytest.mark.parametrize("exponents", [Y, WHOLE], ids=["any", "whole"])
def test_power_is_numpys(exponents):
    line = f"tensor_tensor %t[0+{P}, 0: {F}*1], %a[0+{P}, 0: {F}*1], %b[0+{P}, 0: {F}*1] {{op=power}}"
    got = nkigen.parse(PROGRAM.replace("LINE", line).replace("DTYPE", "f32")).run(X, exponents, COLUMN)
    with np.errstate(all="ignore"):
        exact = np.power(X.astype(np.float64), exponents.astype(np.float64))
        want = exact.astype(np.float32)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert np.array_equal(np.signbit(got)[~np.isnan(got)], np.signbit(want)[~np.isnan(got)])
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite & ~np.isnan(got)], want[~finite & ~np.isnan(got)])
    error = np.abs(got[finite].astype(np.float64) - exact[finite]) / np.spacing(np.abs(want[finite]))
    assert error.max() <= 0.51
