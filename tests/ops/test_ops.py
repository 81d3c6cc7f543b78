"""One op at a time: NumPy == reference interpreter == simulator, at f32 and bf16."""

import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cases import CASES  # noqa: E402

import nkigen  # noqa: E402
from nkigen import _core  # noqa: E402
from nkigen.testing import assert_close  # noqa: E402

ROWS = {row["name"]: row for row in _core.op_table("tensor")}
ALL = [
    pytest.param(name, case[0], case[1:], id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]
#: no gradual loss: tests that compare f32 with f64 NumPy allow for the condition of the op
LOOSE = {"power": 2e-5, "tan": 1e-5, "sinh": 1e-5, "cosh": 1e-5, "matmul": 2e-5, "sin": 5e-6}


def test_every_row_has_a_case():
    assert set(ROWS) - set(CASES) == set()


def test_every_case_has_a_row():
    assert set(CASES) - set(ROWS) == set()


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def wide(a):
    return a.astype(np.float64) if a.dtype == np.float32 else a


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, fn, arrays", ALL)
def test_op(name, fn, arrays):
    kernel = nkigen.compile(fn, *arrays, check="every-pass", cache=False)
    assert kernel.verify() == []
    results = zip(
        as_tuple(fn(*arrays)),
        as_tuple(fn(*map(wide, arrays))),
        as_tuple(kernel.reference(*arrays)),
        as_tuple(kernel(*arrays)),
        strict=True,
    )
    for expected, exact, reference, simulated in results:
        assert reference.dtype == expected.dtype
        assert_close(reference, expected, rtol=1e-6 if expected.dtype.kind == "f" else None)
        assert_close(simulated, exact, rtol=LOOSE.get(name), dtype=expected.dtype)


@pytest.mark.parametrize("name", sorted(CASES))
def test_op_appears(name):
    """Some stage of some case has the op, or the builder has a better form of it."""
    seen = ""
    for fn, *arrays in CASES[name]:
        kernel = nkigen.compile(fn, *arrays)
        seen += "".join(str(program) for program in kernel.stages.values())
    folded = {"positive"}
    assert name in folded or name in seen


BF16 = [p for p in ALL if all(a.dtype == np.float32 for a in p.values[2])]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, fn, arrays", BF16)
def test_op_bf16(name, fn, arrays):
    exact = {"floor_divide", "remainder", "floor", "ceil", "trunc", "rcast", "const", "full"}
    if name in exact:
        return  # steps and f32 constants: rounding the input moves the result
    narrow = [a.astype(ml_dtypes.bfloat16) for a in arrays]
    kernel = nkigen.compile(fn, *narrow, cache=False)
    assert kernel.verify() == []
    exact = as_tuple(fn(*[a.astype(np.float64) for a in narrow]))
    for actual, expected in zip(as_tuple(kernel(*narrow)), exact, strict=True):
        limit = None if expected.dtype.kind == "f" else 0
        assert_close(actual, expected, rtol=limit, atol=limit, dtype=ml_dtypes.bfloat16)


SHAPES = [(), (1,), (129,), (1, 300), (300, 1), (2, 3, 130), (1, 128, 1, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_awkward_shapes(shape):
    x = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    kernel = nkigen.compile(lambda x: np.exp(x) * 2 + x, x, check="every-pass")
    assert kernel.verify() == []
    assert kernel(x).shape == shape
    assert_close(kernel(x), np.exp(x.astype(np.float64)) * 2 + x)


def test_nan_and_inf_flow():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], np.float32)
    fns = (np.exp, np.abs, lambda x: np.maximum(x, 0), lambda x: x * 2 + 1, lambda x: x == x)
    for fn in fns:
        kernel = nkigen.compile(fn, x)
        assert_close(kernel(x), fn(x))
