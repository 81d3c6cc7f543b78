"""Emitted source of every tile instruction, run by tests/nki_model.py, gives the closed forms of tests/ops.

Of each row's legal cases the ones that differ in their words are taken: operators,
attributes, engine, dtypes and layout.
"""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "ops"))
import nki_model  # noqa: E402
from test_tile_ops import differs, message  # noqa: E402
from tile_cases import CASES, cases  # noqa: E402
from tile_program import Case, text_of  # noqa: E402

import nkigen  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
MOST = 30


def different(name):
    """One legal case for each set of words, at most MOST of them."""
    found = {}
    for case in cases(name):
        size = max((a.size for a in [*case.ins.values(), *case.outs.values()]), default=0)
        if "_shift" in case.line:  # of signed numbers: the model has NumPy's, the simulator shifts bits
            continue
        key = (re.sub(r"-?\d[\d.e+-]*", "0", case.line), case.layout)
        if key in found or not case.verified or size > 3000:
            continue
        if not nkigen.parse(text_of(case)).verify():
            found[key] = case
    chosen = list(found.values())
    return chosen[:: max(1, -(-len(chosen) // MOST))]


@pytest.mark.parametrize("name", CASES)
def test_source_of(name):
    for case in different(name):
        source = nkigen.parse(text_of(case)).nki()
        got = nki_model.run(source, *(a.reshape(len(a), -1) for a in case.ins.values()))
        for g, want in zip(got, case.outs.values(), strict=True):
            want = want.reshape(len(want), -1)
            g = np.asarray(g).astype(want.dtype)
            assert not differs(g, want, max(case.ulp, 1)), message(case, g, want) + "\n" + source


@pytest.mark.parametrize("words", [["nan"], ["inf"], ["-inf"], ["nan", "inf"], ["-inf", "nan", "1.5"], ["0.1"]])
def test_numbers_that_are_no_literals(words):
    """NaN and infinities have names in the source, defined when they are used."""
    lines = [f"memset %y[0+2, {i}: 1*1] {{imm0={w}}}" for i, w in enumerate(words)]
    want = np.tile(np.array([float(w) for w in words], np.float32), (2, 1))
    source = nkigen.parse(text_of(Case("\n".join(lines), {}, {"y": want}))).nki()
    (got,) = nki_model.run(source)
    np.testing.assert_array_equal(got, want)
    assert ("NAN = " in source) == ("nan" in words)
    assert ("INF = " in source) == ("inf" in words or "-inf" in words)
