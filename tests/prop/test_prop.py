"""Random programs: NumPy == reference == each stage == simulator; text is the program."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from programs import programs  # noqa: E402

import nkigen  # noqa: E402

PLAN = "plan"


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def quiet(fn, *arrays):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return as_tuple(fn(*arrays))


def wide(a):
    return a.astype(np.float64) if a.dtype == np.float32 else a


def compare(what, actual, narrow, exact):
    """`narrow` is NumPy's f32 result and `exact` its f64 one: their distance says how
    well conditioned the program is."""
    for a, n, e in zip(as_tuple(actual), narrow, exact, strict=True):
        assert a.shape == n.shape, what
        assert a.dtype == n.dtype or a.dtype.itemsize < n.dtype.itemsize, what
        if n.dtype.kind in "biu":
            assert np.array_equal(a, n), what
            continue
        finite = np.isfinite(e)
        assert np.array_equal(np.isnan(a), np.isnan(e)), what
        scale = np.abs(e[finite]).max(initial=0.0)
        noise = np.abs(n.astype(np.float64) - e)[finite].max(initial=0.0)
        error = np.abs(a.astype(np.float64) - e)[finite].max(initial=0.0)
        assert error <= 2e-6 * scale + 1e-6 + 16 * noise, f"{what}: {error} of {scale}"


def run_all(program, target):
    fn, arrays = program.function(), program.arrays()
    note(program.source)
    note(" ".join(f"{v.name}:{v.dtype}{v.shape}" for v in program.inputs))
    narrow = tuple(np.asarray(a) for a in quiet(fn, *arrays))
    exact = tuple(np.asarray(a) for a in quiet(fn, *map(wide, arrays)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = nkigen.compile(fn, *arrays, target=target, cache=False)
    assert kernel.verify() == []
    compare("reference", kernel.reference(*arrays), narrow, exact)
    for name in kernel.stages:
        if name != PLAN:
            compare(name, kernel.run_stage(name, *arrays), narrow, exact)
    compare("simulator", kernel(*arrays), narrow, exact)
    return kernel


@given(programs(), st.sampled_from(["trn1", "trn2", "trn3"]))
def test_random_program(program, target):
    run_all(program, target)


@pytest.mark.slow
@given(programs(max_steps=20), st.just("trn2"))
def test_longer_random_program(program, target):
    run_all(program, target)


@given(programs())
def test_print_parse_identity(program):
    fn, arrays = program.function(), program.arrays()
    note(program.source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = nkigen.compile(fn, *arrays, cache=False)
    for name, stage in kernel.stages.items():
        if name != PLAN:
            text = str(stage)
            assert str(nkigen.parse(text)) == text, name
