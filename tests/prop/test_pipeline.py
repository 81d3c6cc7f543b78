"""Straight code in another order computes the same bits, and is kept only when it is faster."""

import numpy as np
import pytest

import nkigen
from nkigen import workloads

TARGETS = ("trn1", "trn2", "trn3")
CASES = [
    (name, dtype, i)
    for name, w in workloads.WORKLOADS.items()
    for dtype in ("f32", "bf16")
    for i in range(len(w.small))
]


def bits(result):
    return np.ascontiguousarray(result).view(np.uint8)


def agree(kernel, *inputs):
    """The last stage gives what the loops give; its modelled time is not longer."""
    loops, last = kernel.stages["allocate"], kernel.tile_ir
    assert last.verify() == []
    assert last.cost().time_us <= loops.cost().time_us
    assert last.cost().hbm_read_bytes == loops.cost().hbm_read_bytes
    with np.errstate(all="ignore"):
        for a, b in zip(outputs(loops, inputs), outputs(last, inputs), strict=True):
            np.testing.assert_array_equal(bits(a), bits(b))
    return "pipeline" in kernel.stages


def outputs(program, inputs):
    result = program.run(*inputs)
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name, dtype, i", CASES)
def test_workloads(name, dtype, i, target):
    w = workloads.get(name)
    inputs = w.inputs(dtype, w.small[i])
    agree(nkigen.compile(w.fn, *inputs, target=target), *inputs)


@pytest.mark.parametrize("name", ["softmax", "layernorm", "attention_head", "swiglu"])
def test_real_shapes_gain(name):
    w = workloads.get(name)
    assert agree(nkigen.compile(w.fn, *w.specs("f32")), *w.inputs("f32"))


def step_by_step(x, y):
    """Reductions, a product, a strided read and a changed array: every kind of dependence."""
    a = np.exp(x - x.max(axis=-1, keepdims=True))
    b = a / a.sum(axis=-1, keepdims=True) @ y
    c = np.zeros(b.shape, np.float32)
    c[::2] = b[::2] * 2
    c[1::2] += b[1::2].mean(axis=0)
    return c, b.T + 1, a.sum(axis=0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rows", [1, 7, 127, 128, 129, 300, 640])
@pytest.mark.parametrize("cols", [1, 64, 130])
def test_dependences(rows, cols, target):
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, 96)).astype(np.float32)
    y = rng.standard_normal((96, cols)).astype(np.float32)
    agree(nkigen.compile(step_by_step, x, y, target=target), x, y)


def test_search_is_not_slower_and_fast_keeps_loops():
    w = workloads.get("rope")
    fast, default, search = (
        nkigen.compile(w.fn, *w.specs("f32"), optimize=how, cache=False)
        for how in ("fast", "default", "search")
    )
    assert "pipeline" not in fast.stages and " = loop " in str(fast.tile_ir)
    assert search.cost.time_us <= default.cost.time_us < fast.cost.time_us


def test_bad_optimize():
    with pytest.raises(nkigen.errors.NkigenError, match="optimize"):
        nkigen.compile(np.exp, ((4, 4), "f32"), optimize="most")
