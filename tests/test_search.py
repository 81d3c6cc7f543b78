"""Decisions are searched group by group, at any size of the program, for what will run."""

import re

import numpy as np
import pytest

import nkigen
from nkigen import layers, workloads

BF16 = workloads.np_dtype("bf16")


def decisions(k):
    return re.findall(r"group \d+ (rows=.*) \{", k.plan)


def test_equal_groups_have_equal_decisions():
    """But for what is resident: beside values that live on chip a group has less room."""
    w = layers.LAYERS["layer_s128_x28"]
    k = nkigen.compile(w.fn, *w.specs("bf16"), cache=False)
    kinds = {re.sub(r"resident=\d+", "", d) for d in decisions(k)}
    assert len(decisions(k)) >= 28
    assert len(kinds) <= len(decisions(k)) // 7


def test_a_program_of_many_groups_is_searched():
    w = layers.LAYERS["layer_s128_x28"]
    searched = nkigen.compile(w.fn, *w.specs("bf16"), cache=False)
    fast = nkigen.compile(w.fn, *w.specs("bf16"), optimize="fast", cache=False)
    assert len(decisions(searched)) > 8
    assert searched.cost.time_us < fast.cost.time_us
    assert set(decisions(searched)) != set(decisions(fast))


def test_the_same_program_has_the_same_plan():
    w = layers.LAYERS["layer_s256"]
    plans = {nkigen.compile(w.fn, *w.specs("bf16"), cache=False).plan for _ in range(3)}
    assert len(plans) == 1


@pytest.mark.parametrize(
    "name, dtype", [("softmax", "bf16"), ("rmsnorm", "bf16"), ("rope", "f32")]
)
def test_tiles_are_chosen_for_the_order_that_runs(name, dtype):
    """Tiles of half and of twice the size, in straight order, are not much faster."""
    w = workloads.get(name)
    k = nkigen.compile(w.fn, *w.specs(dtype), cache=False)
    assert "pipeline" in k.stages
    per = int(re.search(r"per_tile=(\d+)", k.plan)[1])
    for other in (per // 2, per * 2):
        if other < 1:
            continue
        plan = re.sub(r"per_tile=\d+", f"per_tile={other}", k.plan)
        try:
            neighbour = nkigen.compile(w.fn, *w.specs(dtype), plan=plan, cache=False)
        except nkigen.HardwareLimitError:
            continue
        if neighbour.cost.instruction_count <= 1.33 * k.cost.instruction_count:
            assert k.cost.time_us <= 1.05 * neighbour.cost.time_us


def two_layers(x, w, b, y, v, c):
    return (x @ w + b).astype(x.dtype), (y @ v + c).astype(y.dtype)


@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_shared_columns_begin_anew_in_every_group(target):
    """The second bias is converted before any column loop of its group begins."""
    shapes = ((512, 256), (256, 3072), (3072,), (384, 256), (256, 2048), (2048,))
    rng = np.random.default_rng(0)
    args = [(rng.standard_normal(s) * 0.1).astype(BF16) for s in shapes]
    for optimize in ("fast", "default"):
        k = nkigen.compile(two_layers, *args, target=target, optimize=optimize)
        for got, want in zip(k(*args), two_layers(*(a.astype("f8") for a in args))):
            assert np.abs(got.astype("f8") - want).max() < 0.02
