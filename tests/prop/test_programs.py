"""The random programs themselves: they reach what they are for, and hide little behind rounding."""

import re
from random import Random

import numpy as np
import pytest

import nkigen
from nkigen.fuzz import ProgramCases
from nkigen.fuzz_check import check_program, expected, quiet
from nkigen.fuzz_programs import DTYPES, Input, Program, random_program

MANY = [ProgramCases(7).program(i) for i in range(300)]
SOURCE = "\n".join(p.source for p in MANY)


@pytest.mark.parametrize("what", [
    r"t\d+ [-+*/]= ", r"x\d+ [-+*/]= ", r"\] [-+*/]= ", r"\] = [-\w]", r"for \w+ in range", r"for r in ", r"bump\(", r"swap\(",
    r"= put\(", r"= scaled\(", r"np\.zeros\(", r"np\.full\(", r"_like\(", r"\.T\b", r"\.reshape\(", r"\.swapaxes", r"broadcast_to",
    r"::-1\]", r"astype\(", r"np\.asarray\(", r"np\.where\(", r" @ ", r"sum\(", r"np\.exp", r"np\.sin|np\.cos", r" n\b", r"\"rest\"",
    r"np\.concatenate", r"//", r"%", r"<|>", r"\[:, 1:3\]|\[1:, \.\.\., -1\]",
])  # fmt: skip
def test_programs_have_all_that_they_are_for(what):
    assert len(re.findall(what, SOURCE)) >= 3


def test_inputs_and_conversions_have_all_dtypes():
    assert {v.dtype for p in MANY for v in p.inputs} == set(DTYPES)
    assert set(re.findall(r"astype\((\w+)\)", SOURCE)) >= set(DTYPES)
    assert {v.kind for p in MANY for v in p.inputs} == {"plain", "wide", "special"}


def test_most_results_are_compared_to_the_last_bit():
    exact = total = free = elements = changed = 0
    for p in MANY[:100]:
        k = quiet(nkigen.compile, p.function(), *p.arguments(p.arrays()), check="off", cache=False)
        changed += bool(k.aliases)
        for b in expected(k, p.arrays()):
            total, exact = total + 1, exact + b.exact
            elements += b.value.size
            free += 0 if b.free is None else np.count_nonzero(b.free)
    assert exact > 0.7 * total and free < 0.01 * elements and changed > 20


def test_a_program_is_its_seed():
    assert random_program(Random(3)).source == random_program(Random(3)).source
    assert ProgramCases(7).text(12) == ProgramCases(7).text(12)


def test_a_refused_line_changes_nothing():
    p = Program([Input("x0", (3,), "i32", "plain", 0)])
    before = p["x0"].copy()
    assert not p.add("x0 += 1\nx0[5] = 1")
    assert p.lines == [] and np.array_equal(p["x0"], before)
    assert not p.add("t0 = x0.astype(np.int64) << 40")
    assert p.add("t0 = u32(2**32 - 1) - np.abs(x0).astype(u32)") and not p.add("t1 = x0 < t0")


def test_what_a_loose_value_is_written_to_is_loose():
    p = Program([Input("x0", (3,), "f32", "plain", 0), Input("x1", (3,), "f32", "plain", 1)])
    assert p.add("t0 = x0 * 2") and p.add("t1 = np.exp(x1)", True) and p.add("t2 = t0[1:]")
    assert p.is_loose("t1 + 1") and not p.is_loose("t0 + x1")
    assert p.add("t2[0] = t1[0]") and p.is_loose("t0")


FAULTS = {
    "a lost write": ("t0 = x0 * 2\nt0[1:] = x0[:-1]", "t0 = x0 * 2"),
    "a lost argument": ("x0 += 1\nt0 = x0 * 1", "t0 = x0 + 1"),
    "a lost rounding": ("t0 = x0.astype(bf16).astype(f32)", "t0 = x0 * 1"),
    "a last bit": ("t0 = x0 * 3", "t0 = x0 * np.nextafter(f32(3), f32(4))"),
    "a dtype": ("t0 = x0.astype(f16)", "t0 = x0 * 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name, monkeypatch):
    """What is compiled is not what NumPy runs."""
    right, wrong = (Program([Input("x0", (40,), "f32", "wide", 0)], returned=["t0"], result="t0") for _ in range(2))
    for p, text in zip((right, wrong), FAULTS[name]):
        assert p.add(text)
    check_program(right, "trn2")
    compiled = nkigen.compile
    monkeypatch.setattr(nkigen, "compile", lambda fn, *a, **o: compiled(wrong.function(), *a, **o))
    with pytest.raises(AssertionError):
        check_program(right, "trn2")


def test_sums_of_narrow_dtypes_are_not_numpys():
    """They round once; such a program is compared without NumPy."""
    p = Program([Input("x0", (2000,), "bf16", "wide", 1)], returned=["t0"], result="t0")
    assert p.add("t0 = x0.sum()", True)
    with pytest.raises(AssertionError, match="NumPy, 0"):
        check_program(p, "trn2")
    p.rounds_once = True
    check_program(p, "trn2")
