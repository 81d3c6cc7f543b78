"""Reversed axes: no access pattern runs backwards, and no element moves by itself."""

import re
import sys
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import nkigen

sys.path.insert(0, str(Path(__file__).parents[1]))
import nki_model  # noqa: E402

DTYPES = {
    "f32": np.float32,
    "bf16": ml_dtypes.bfloat16,
    "i32": np.int32,
    "bool": np.bool_,
}
TARGETS = ("trn1", "trn2", "trn3")

#: name: function, shapes
CASES = {
    "run": (lambda x: x[::-1], (60000,)),
    "run_of_a_prime": (lambda x: x[::-1], (60013,)),
    "every_second": (lambda x: x[::-2], (60000,)),
    "row": (lambda x: x[:, ::-1], (1, 128256)),
    "few_rows": (lambda x: x[:, ::-1], (3, 20011)),
    "rows": (lambda x: x[::-1], (419, 300)),
    "columns": (lambda x: x[:, ::-1], (300, 419)),
    "both": (lambda x: x[::-1, ::-1], (300, 1000)),
    "middle": (lambda x: x[:, ::-1], (5, 129, 300)),
    "middle_of_many": (lambda x: x[:, ::-1], (40, 70, 200)),
    "long_columns": (lambda x: x[:, ::-1], (40, 20001)),
    "thin": (lambda x: x[::-1], (20000, 3)),
    "three_axes": (lambda x: x[::-1, ::-1, ::-1], (9, 40, 50)),
    "steps": (lambda x: x[::-1, ::-3], (127, 129)),
    "steps_of_rows": (lambda x: x[::-3, 5:90:2], (700, 200)),
    "part": (lambda x: x[400:17:-2, 200:3:-1], (419, 300)),
    "one_and_none": (lambda x: np.concatenate([x[:1][::-1], x[:0][::-1]]), (7, 5)),
    "seven": (lambda x: x[::-1, ::-1], (7, 127)),
    "turned": (lambda x: x.T[::-1], (129, 40)),
    "turned_back": (lambda x: x[::-1].T[:, ::-1], (129, 40)),
    "eight_dims": (lambda x: x[:, :, ::-1, :, ::-1, ::-2, :, ::-1], (2, 3, 4, 1, 5, 6, 2, 3)),
    "eight_dims_of_runs": (lambda x: x[::-1, :, ::-1], (40, 1, 30, 1, 2, 1, 1, 300)),
    "joined": (lambda x, y: np.concatenate([x[::-1], y, x[::-1]]), (400, 200), (3, 200)),
    "written": (lambda x: np.stack([x[::-1], x]), (60000,)),
    "repeated": (lambda x: np.repeat(x[::-1], 3, 0)[:, ::-1], (150, 130)),
}  # fmt: skip

#: the same with arithmetic around it
COMPUTED = {
    "sum": (lambda x, y: x[::-1] + y, (300, 300), (300, 300)),
    "sum_of_columns": (lambda x, y: x[:, ::-1] + y, (300, 300), (300, 300)),
    "computed": (lambda x: np.abs(x)[::-2] * 2, (60000,)),
    "computed_rows": (lambda x: (x * 2)[::-1] + x, (300, 300)),
    "twice_read": (lambda x: (x[::-1] + 1, x[::-1] * 2), (300, 300)),
    "reduced": (lambda x: x[::-1].max(0) + x[:, ::-1].sum(1)[::-1], (300, 300)),
    "rows_of_a_product": (lambda x, y: x[::-1] @ y, (300, 130), (130, 200)),
    "contraction": (lambda x, y: x[:, ::-1] @ y[::-1], (130, 300), (300, 200)),
    "of_a_product": (lambda x, y: (x @ y)[::-1, ::-1], (130, 300), (300, 200)),
    "constant": (lambda x: x + np.arange(300, dtype=np.float32)[::-1], (130, 300)),
    "of_numbers": (lambda x: np.ones((300, 20), np.float32)[::-1] * x[::-1], (300, 20)),
}


def arrays(shapes, dtype="f32"):
    rng = np.random.default_rng(0)
    return [rng.integers(-8 * (dtype != "bool"), 2, s).astype(DTYPES[dtype]) for s in shapes]


def compiled(fn, xs, target, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = nkigen.compile(fn, *xs, target=target, cache=False, **options)
    assert kernel.verify() == []
    for stage in ("lower", "schedule", "allocate"):
        assert not re.search(r"\d\*-\d", str(kernel.stages[stage])), stage
    return kernel


def same(got, want):
    got, want = [v if isinstance(v, (tuple, list)) else (v,) for v in (got, want)]
    for a, b in zip(got, want, strict=True):  # NKI knows five dims
        assert np.array_equal(np.asarray(a).reshape(np.shape(b)), np.asarray(b))


def check(fn, xs, target, stages=False, **options):
    kernel = compiled(fn, xs, target, **options)
    want = fn(*xs)
    same(kernel.reference(*xs), want)
    same(kernel(*xs), want)
    for name in kernel.stages if stages else ():
        same(kernel.run_stage(name, *xs), want)
    same(nki_model.run(kernel.nki(), *xs), want)
    return kernel


@pytest.mark.parametrize("name", CASES)
def test_moves(name):
    """Every bit of every dtype arrives, and nothing takes an instruction per element."""
    fn, *shapes = CASES[name]
    k = sorted(CASES).index(name)
    for i, dtype in enumerate(DTYPES):
        xs = arrays(shapes, dtype)
        kernel = check(fn, xs, TARGETS[(k + i) % 3], stages=i == k % 4)
        moved = sum(x.nbytes for x in xs) + np.asarray(fn(*xs)).nbytes
        assert kernel.cost.instruction_count < 400 + moved / 2048


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", COMPUTED)
def test_among_others(name, target):
    fn, *shapes = COMPUTED[name]
    check(fn, arrays(shapes), target, stages=target == "trn2")


@pytest.mark.parametrize("row_bytes, max_ops", [(64, 1), (512, 4), (8192, 1)])
@pytest.mark.parametrize("name", ["run", "rows", "columns", "both", "thin", "middle"])
def test_short_rows(name, row_bytes, max_ops):
    """Under small limits the parts move within HBM."""
    fn, *shapes = CASES[name]
    xs = [x[:300] for x in arrays(shapes)]
    check(fn, xs, "trn2", plan=f"plan trn2 row_bytes={row_bytes} max_ops={max_ops} {{\n}}\n")


@pytest.mark.parametrize("n", [*range(2, 40), 63, 64, 65, 127, 128, 129, 161, 257])
def test_sizes(n):
    xs = arrays([(n, 200), (40, n)])
    check(lambda x, y: (x[::-1], y[:, ::-1]), xs, TARGETS[n % 3])


#: shape, index: at most so many times the time of moving all bytes once, and their number
COSTS = [
    ((4096, 4096), np.s_[::-1], 2, 1.01),
    ((4096, 4096), np.s_[:, ::-1], 3, 1.01),
    ((4096, 4096), np.s_[::-1, ::-1], 4, 2.01),
    ((512, 20, 1024), np.s_[:, ::-1], 2, 1.01),
    ((64, 100, 700), np.s_[:, ::-1], 2, 1.01),
    ((200, 20001), np.s_[:, ::-1], 12, 3.01),
]


@pytest.mark.parametrize("shape, index, times, ratio", COSTS)
def test_costs(shape, index, times, ratio):
    kernel = nkigen.compile(lambda x: x[index], (shape, "f32"), target="trn2")
    assert kernel.cost.time_us < times * kernel.cost.roofline_us
    assert kernel.cost.hbm_ratio < ratio
