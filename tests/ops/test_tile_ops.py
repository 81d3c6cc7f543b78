"""Every row of the tile op table in the simulator, against closed forms.

tests/ops/tile_cases.py has the cases. A row of csrc/tile/ops.def, an ALU operator or an
activation function without a case fails here.
"""

import re

import numpy as np
import pytest
from tile_cases import ACT, CASES, cases
from tile_program import (
    CSRC,
    DTYPES,
    NAMES,
    WIDE,
    Case,
    domains,
    instructions,
    text_of,
    words,
)

import nkigen
from nkigen.errors import HardwareLimitError

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def ulps(got, want):
    """Distance in steps of the dtype; 0 where both are the same value or NaN."""
    bits = {8: "i8", 4: "i4", 2: "i2", 1: "i1"}[got.itemsize]

    def rank(a):
        i = a.view(bits).astype(np.int64)
        return np.where(i < 0, -(i & ((1 << (8 * got.itemsize - 1)) - 1)), i)

    wide_got, wide_want = got.astype(np.float64), want.astype(np.float64)
    same = (wide_got == wide_want) | (np.isnan(wide_got) & np.isnan(wide_want))
    return np.where(same, 0, np.abs(rank(got) - rank(want)))


def differs(got, want, ulp):
    """Where an element is not what it should be."""
    if got.dtype != want.dtype or got.shape != want.shape:
        return True
    if got.dtype.kind in "iub":
        return not np.array_equal(got, want)
    if np.isnan(got.astype(np.float64)).tolist() != np.isnan(want.astype(np.float64)).tolist():
        return True
    return bool((ulps(got, want) > ulp).any())


def message(case, got, want):
    where = ulps(got, want) if got.dtype.kind not in "iub" else got != want
    at = (
        tuple(np.argwhere(where > case.ulp)[0])
        if got.shape == want.shape and (where > case.ulp).any()
        else ()
    )
    given = {k: v[at] for k, v in case.ins.items() if v.shape == want.shape and at}
    ins = {k: f"{NAMES[v.dtype]}{list(v.shape)}" for k, v in case.ins.items()}
    return f"{case.line} of {ins} at {at}: {given} gives {got[at]!r}, expected {want[at]!r}"


@pytest.mark.parametrize("name", CASES)
def test_closed_form(name):
    for case in (some := cases(name)):
        text = text_of(case)
        program = nkigen.parse(text)
        if case.verified:
            assert [v for v in program.verify() if "address" not in str(v)] == [], case.line
        got = program.run(*(a.reshape(len(a), -1) for a in case.ins.values()))
        got = got if isinstance(got, tuple) else (got,)
        for g, want in zip(got, case.outs.values(), strict=True):
            want = want.reshape(len(want), -1)
            assert not differs(g, want, case.ulp), message(case, g, want)
    assert len(some) > 3


def test_every_row_has_cases():
    assert sorted(CASES) == sorted(instructions())


def test_every_word_has_cases():
    """Every operator on the instructions that take operators, every function, every dtype."""
    lines = {name: [c.line for c in cases(name)] for name in CASES}
    alu = set(words("ALU")) - {"none"}
    for name in ("tensor_tensor", "tensor_scalar"):
        used = {w for line in lines[name] for w in re.findall(r"\bop0?=(\w+)", line)}
        assert used == alu, name
    assert set(ACT) == set(words("ACT"))
    used = {w for line in lines["activation"] for w in re.findall(r"\bfunc=(\w+)", line)}
    assert used == set(ACT)
    dtypes = re.findall(r"^DTYPE\((\w+),", (CSRC / "base/dtype.def").read_text(), re.M)
    assert set(dtypes) == {"none", *DTYPES, *WIDE}


@pytest.mark.parametrize("func", domains())
def test_outside_of_the_range(func):
    """The least argument outside of each end is undefined; the ends and NaN are not."""
    lo, hi, of_magnitude = domains()[func]
    line = f"activation {{y}}, _, {{x}}, _, _ {{func={func}}}"

    def run(v):
        x = np.array([[1, v]], np.float32) if lo <= 1 <= hi else np.array([[v]], np.float32)
        return nkigen.parse(text_of(Case(line, {"x": x}, {"y": x}))).run(x)

    ends = [np.float32(lo), np.float32(hi)]
    for sign in (1, -1) if of_magnitude else (1,):
        for end, away in zip(ends, (-np.inf, np.inf)):
            run(sign * end)
            with pytest.raises(HardwareLimitError, match=f"{func} is defined"):
                run(sign * np.nextafter(end, np.float32(away)))
    assert np.isnan(run(np.nan)).any()
