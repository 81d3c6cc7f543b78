"""The acceptance kernels: legal on every target, right against float64 NumPy, in budget.

Reduced and ragged shapes run everything; the real shapes run what is cheap there: the
compiler, the verifier and the cost model.
"""

import numpy as np
import pytest

import nkigen
from nkigen import workloads
from nkigen.bench import relative_error
from nkigen.workloads import WORKLOADS, error_limit

TARGETS = ("trn1", "trn2", "trn3")
DTYPES = ("f32", "bf16")
SMALL = [
    pytest.param(w, shapes, id=f"{w.name}-{'_'.join('x'.join(map(str, s)) for s in shapes)}")
    for w in WORKLOADS.values()
    for shapes in w.small
]
#: the bars that hold; the others are figures of the benchmark
REACHED = (
    "chain softmax rmsnorm layernorm colsum matmul_1024 matmul_bias_gelu swiglu".split()
)
ALL = [pytest.param(w, id=w.name) for w in WORKLOADS.values()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("w, shapes", SMALL)
def test_small(w, shapes, dtype):
    inputs = w.inputs(dtype, shapes)
    expected = w.expected(inputs)
    for target in TARGETS:
        k = nkigen.compile(w.fn, *inputs, target=target, check="every-pass", cache=False)
        assert k.verify() == []
        actual = k(*inputs)
        assert actual.shape == expected.shape
        assert actual.dtype == workloads.np_dtype(dtype)
        assert relative_error(actual, expected) <= error_limit(w, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("w", ALL)
def test_real_shape_is_legal(w, dtype):
    for target in TARGETS:
        k = nkigen.compile(w.fn, *w.specs(dtype), target=target, cache=False)
        assert k.verify() == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("w", ALL)
def test_bars(w, dtype):
    cost = nkigen.compile(w.fn, *w.specs(dtype), cache=False).cost
    moved = cost.hbm_read_bytes + cost.hbm_write_bytes
    assert cost.hbm_min_bytes > 0
    if w.name in REACHED:
        assert cost.instruction_count <= w.instr_bar
        assert round(moved / cost.hbm_min_bytes, 2) <= w.hbm_bar
    assert sum(cost.instructions.values()) == cost.instruction_count
    assert cost.time_us >= cost.roofline_us * 0.999


def test_program_size_does_not_grow_with_the_tensor():
    small = nkigen.compile(workloads.softmax, ((1024, 1024), "f32"), optimize="fast")
    large = nkigen.compile(workloads.softmax, ((65536, 1024), "f32"), optimize="fast")
    ratio = len(str(large.tile_ir)) / len(str(small.tile_ir))
    assert ratio < 1.5


def test_long_chain_traces_and_runs():
    n = 2000
    x = np.linspace(-1, 1, 128 * 16, dtype=np.float32).reshape(128, 16)
    fn = workloads.long_chain(n)
    k = nkigen.compile(fn, x, cache=False)
    assert k.verify() == []
    expected = fn(x.astype(np.float64))
    assert relative_error(k(x), expected) <= 1e-5


def heads_first(x):
    return np.transpose(x, (0, 2, 1, 3))


def sum_of_leading_axes(x):
    return np.sum(x, axis=(0, 1))


TABLE = np.random.default_rng(1).standard_normal((128, 64), dtype=np.float32)

#: name -> (function, shapes, HBM bytes over minimum that must not be exceeded)
AWKWARD = {
    "tall softmax": (workloads.softmax, [(65536, 8)], 1.0),
    "one long row": (workloads.softmax, [(1, 128256)], 6.0),
    "seven rows": (workloads.rmsnorm, [(7, 2880), (2880,)], 5.67),
    "hidden 2880": (workloads.layernorm, [(300, 2880), (2880,), (2880,)], 1.01),
    "one row times a matrix": (workloads.matmul, [(1, 1024), (1024, 1024)], 1.0),
    "batch of rows, one matrix": (workloads.matmul, [(8, 1, 1024), (1024, 1024)], 7.92),
    "ragged product": (workloads.matmul, [(129, 2880), (2880, 513)], 1.5),
    "batch of products": (workloads.matmul, [(3, 130, 70), (3, 70, 200)], 1.29),
    "sum of leading axes": (sum_of_leading_axes, [(64, 64, 512)], 1.0),
    "heads first": (heads_first, [(2, 100, 8, 64)], 1.0),
    "ragged mlp": (workloads.swiglu, [(7, 2880), (2880, 300), (2880, 300), (300, 2880)], 1.03),
    "short attention": (workloads.attention_head, [(1, 64), (300, 64), (300, 64)], 1.5),
    "constant of random numbers": (lambda x: x * TABLE, [(128, 64)], 1.67),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(AWKWARD))
def test_awkward_shape(name, dtype, rng):
    fn, shapes, hbm = AWKWARD[name]
    arrays = [
        (rng.standard_normal(s) / (s[-2] ** 0.5 if i and len(s) > 1 else 1)).astype(
            workloads.np_dtype(dtype)
        )
        for i, s in enumerate(shapes)
    ]
    k = nkigen.compile(fn, *arrays, check="every-pass", cache=False)
    assert k.verify() == []
    cost = k.cost
    moved = cost.hbm_read_bytes + cost.hbm_write_bytes
    assert round(moved / cost.hbm_min_bytes, 2) <= hbm
    expected = fn(*[a.astype(np.float64) for a in arrays])
    limit = 2e-2 if dtype == "bf16" else 2e-5
    assert relative_error(k(*arrays), expected) <= limit
