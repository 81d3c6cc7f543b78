"""Random programs and all lowering cases: the emitted source computes what the program does."""

import ast
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import nki_model  # noqa: E402
import test_lowering_cases as lowering  # noqa: E402

import nkigen  # noqa: E402
from nkigen.fuzz_programs import random_program  # noqa: E402


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def quiet(fn, *arrays, **options):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return fn(*arrays, **options)


def close(got, want):
    """Both f32 in another order of sums, so near to each other beside the largest value."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True)
    scale = np.abs(want[finite]).max(initial=0.0)
    assert np.abs(got - want)[finite].max(initial=0.0) <= 2e-4 * scale + 1e-5


def check(fn, args, target):
    kernel = quiet(nkigen.compile, fn, *args, target=target, cache=False)
    arrays = kernel._call.arrays(args, {})
    narrowed = [np.asarray(a).astype(i.dtype) for a, i in zip(arrays, kernel.inputs, strict=True)]
    wanted = [w for w in as_tuple(quiet(kernel.tile_ir.run, *narrowed)) if w.size]
    if not wanted:
        with pytest.raises(nkigen.UnsupportedError, match="no result .* has elements"):
            kernel.nki()
        return
    source = kernel.nki()

    ast.parse(source)
    assert max(map(len, source.splitlines())) <= 100
    results = nki_model.run(source, *narrowed)
    for got, want in zip(results, wanted, strict=True):
        assert got.dtype == want.dtype and got.size == want.size
        exact = want.dtype.kind in "biu"
        got = got.reshape(want.shape)
        assert np.array_equal(got, want) if exact else close(got, want) is None


@st.composite
def programs(draw):
    """A program made from a number: hypothesis shrinks towards small seeds."""
    return random_program(draw(st.randoms(use_true_random=False)))


@given(programs(), st.sampled_from(("trn1", "trn2", "trn3")))
def test_random_program(program, target):
    note(program.source)
    check(program.function(), program.arguments(program.arrays()), target)


@pytest.mark.parametrize("case", [pytest.param(c, id=c[0]) for c in lowering.CASES])
def test_case(case):
    _, fn, shapes, dtypes = case
    arrays = lowering.arrays(shapes, dtypes)
    check(fn, arrays, "trn1" if len(case[0]) % 2 else "trn2")
