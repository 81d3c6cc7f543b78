"""Random programs that write: in place, to parts, through views, into buffers, across casts.

Plain NumPy is the model, for what is returned and for what becomes of the arguments.
"""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import nkigen
from nkigen.fuzz_check import check_program
from nkigen.fuzz_programs import KEYS, VIEWS, random_program

f = np.float32


def inputs():
    return {"a": np.arange(24, dtype=f).reshape(4, 6) - 7, "b": np.arange(6, dtype=f) * 3 - 5}


@settings(max_examples=100)
@given(st.randoms(use_true_random=False), st.sampled_from(["trn1", "trn2", "trn3"]), st.booleans())
def test_mutation_programs(rng, target, every_pass):
    program = random_program(rng, 9, writes=0.8)
    note(f"{program.inputs}\n{program.source}")
    check_program(program, target, every_pass)


STRIDED = ["{x} + {y}", "np.sqrt({x})", "np.where({x} > 0, {x}, {y})", "{x}.sum(-1)", "{x}.sum(0, keepdims=True)"]
STRIDED += ["np.concatenate([{x}, {x}])", "np.stack([{x}, {x}], 1)", "np.concatenate([{x}, {x}], -1)"]
STRIDED += ["np.copy({x})", "{x}.copy()", "{x}.astype(np.float16)", "np.zeros_like({x})", "-{x}", "{x}[None] * {y}"]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(VIEWS + KEYS), st.sampled_from([*STRIDED, ""])), min_size=1, max_size=4))
def test_strides(steps):
    """The memory layout that decides on views is NumPy's."""

    def layouts(a):
        out, x, y = [], a, a
        for view, make in steps:
            try:
                x, y = eval("x" + view), x  # noqa: S307
                if not np.ndim(x):
                    break
                x = eval(make.format(x="x", y="y")) if make else x  # noqa: S307
            except (ValueError, IndexError):
                continue
            if not np.ndim(x):
                break
            out.append([s for s, d in zip(x.strides, x.shape, strict=True) if d > 1 and x.size])
        seen.append(out)
        return a * 1

    note(str(steps))
    seen = []
    with np.errstate(all="ignore"):
        layouts(inputs()["a"])
    nkigen.trace(layouts).graph(inputs()["a"])
    assert seen[0] == seen[1]


@pytest.mark.filterwarnings("ignore")
def test_narrow_floats_in_place():
    """In place, the left dtype stays and each step rounds to it."""

    def kernel(x, y):
        h = x.astype(ml_dtypes.bfloat16)
        h += y
        h[1:] *= h[:-1]
        g = np.zeros(x.shape, ml_dtypes.bfloat16)
        g[...] = x * y
        return h, g

    x, y = np.linspace(0.1, 1, 24, dtype=f).reshape(4, 6), np.linspace(1, 2, 24, dtype=f).reshape(4, 6)
    k = nkigen.compile(kernel, x, y, cache=False)
    for run in (k.reference, k):
        for got, want in zip(run(x, y), kernel(x, y), strict=True):
            assert got.dtype == want.dtype
            assert np.array_equal(got, want)
