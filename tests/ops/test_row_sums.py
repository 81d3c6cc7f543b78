"""Sums of rows on either engine, and values that are read as they are instead of converted first."""

import re

import ml_dtypes
import numpy as np
import pytest

import nkigen

TARGETS = ("trn1", "trn2", "trn3")
BF16 = ml_dtypes.bfloat16


def centred(x):
    return x - np.mean(x, axis=-1, keepdims=True)


def sums_of_blocks(x):
    return np.sum(np.reshape(x, (x.shape[0], 3, -1)), axis=-1)


def one_sum(x):
    return np.sum(x, axis=-1)


@pytest.mark.parametrize("dtype", (np.float32, BF16))
@pytest.mark.parametrize("fn", (centred, sums_of_blocks, one_sum))
@pytest.mark.parametrize("target", TARGETS)
def test_either_engine_sums_rows(fn, dtype, target):
    """The plan says which; both are right for ragged rows and several rows per partition."""
    x = np.random.default_rng(1).standard_normal((300, 1539)).astype(dtype)
    k = nkigen.compile(fn, x, target=target)
    instructions = []
    for engine in (0, 1):
        plan = re.sub("scalar_sums=.", f"scalar_sums={engine}", k.plan)
        forced = nkigen.compile(fn, x, target=target, plan=plan, check="every-pass")
        assert f"scalar_sums={engine}" in forced.plan and forced.verify() == []
        instructions.append(forced.cost.instructions)
        expected = fn(x.astype(np.float64))
        scale = np.abs(x.astype(np.float64)).sum(-1).max()
        error = np.abs(forced(x).astype(np.float64) - expected).max()
        assert error <= scale * (1e-6 if dtype == np.float32 else 8e-3)
    assert instructions[0]["tensor_reduce"] and not instructions[1].get("tensor_reduce")
    assert instructions[1]["activation"]


@pytest.mark.filterwarnings("ignore::nkigen.NarrowingWarning")
def test_short_rows_and_integers_are_not_summed_there():
    for spec in (((300, 64), "f32"), ((300, 4096), "i32")):
        k = nkigen.compile(one_sum, spec)
        forced = nkigen.compile(one_sum, spec, plan=k.plan.replace("scalar_sums=0", "scalar_sums=1"))
        assert forced.cost.instructions == k.cost.instructions


def test_sums_go_where_there_is_room():
    """A layer norm keeps the vector engine busy with products; a row sum beside many functions does not."""

    def busy(x):
        return np.exp(np.tanh(np.exp(np.tanh(x)))) + np.sum(x, axis=-1, keepdims=True)

    def norm(x, w):
        return centred(x) * w

    assert "scalar_sums=1" in nkigen.compile(norm, ((512, 4096), "f32"), ((4096,), "f32")).plan
    assert "scalar_sums=0" in nkigen.compile(busy, ((512, 4096), "f32")).plan


@pytest.mark.parametrize("target", TARGETS)
def test_a_widened_value_is_read_as_it_is(target):
    """Two readers of an exact conversion cost no pass of their own; products have operands of one dtype."""

    def elementwise(x):
        y = x.astype(np.float32)
        return np.exp(y) * (y + 1)

    def product(x, w):
        y = x.astype(np.float32)
        return np.transpose(y) @ w + np.sum(y * y)

    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((130, 520)).astype(BF16), rng.standard_normal((130, 70)).astype(np.float32)
    k = nkigen.compile(elementwise, x, target=target, check="every-pass", optimize="fast")
    assert np.allclose(k(x), elementwise(x), rtol=1e-5, atol=1e-6)
    assert not k.cost.instructions.get("tensor_copy")
    k = nkigen.compile(product, x, w, target=target, check="every-pass")
    expected = product(x.astype(np.float64), w.astype(np.float64))
    assert np.abs(k(x, w) - expected).max() <= 2e-5 * np.abs(expected).max()
