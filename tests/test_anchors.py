"""Layers and kernels of experts: legal everywhere, right at reduced and ragged shapes."""

import numpy as np
import pytest

import nkigen
from nkigen import workloads
from nkigen.anchors import ANCHORS, WAITING
from nkigen.bench import relative_error
from nkigen.layers import LAYERS, PER_LAYER, stack
from nkigen.workloads import error_limit

TARGETS = ("trn1", "trn2", "trn3")
SMALL = [
    pytest.param(w, shapes, id=f"{w.name}-{i}")
    for w in (*LAYERS.values(), *ANCHORS.values())
    for i, shapes in enumerate(w.small)
    if not w.name.endswith("_s2048") and w.name not in ("layer_s512", "layer_s1024")
]


@pytest.mark.parametrize("dtype", ("f32", "bf16"))
@pytest.mark.parametrize("w, shapes", SMALL)
def test_small(w, shapes, dtype):
    inputs = w.inputs(dtype, shapes)
    for target in TARGETS if "x28" not in w.name else TARGETS[1:2]:
        k = nkigen.compile(w.fn, *inputs, target=target, check="every-pass", cache=False)
        assert k.verify() == []
        got = k(*inputs)
        if isinstance(got, np.ndarray) and dtype == "f32":
            layers = 28 if "x28" in w.name else 1
            assert relative_error(got, w.expected(inputs)) <= layers * error_limit(w, dtype)


@pytest.mark.parametrize("w", ANCHORS.values(), ids=ANCHORS)
def test_anchors_move_no_more_than_the_experts(w):
    """At the real shape: legal, and no more HBM bytes than written by hand."""
    k = nkigen.compile(w.fn, *w.specs("bf16"), cache=False)
    assert k.verify() == []
    moved = k.cost.hbm_read_bytes + k.cost.hbm_write_bytes
    if w.name != "anchor_rope":  # heads lie between halves: 13 MiB
        assert moved <= 1.01 * w.expert_mib * 2**20


def test_a_stack_gives_each_layer_its_own_weights():
    w = LAYERS["layer_s128_x28"]
    assert len(w.shapes) == 1 + 28 * PER_LAYER
    x = [np.full(s, i, np.float32) for i, s in enumerate(((1, 2, 8), *[(8,)] * 16))]
    seen = []

    def layer(x, *weights):
        seen.append([int(a[0]) for a in weights])

    stack(layer, 2)(*x)
    assert seen == [list(range(1, 9)), list(range(9, 17))]


def test_what_waits_is_named():
    assert all(WAITING.values()) and not set(WAITING) & set(ANCHORS)
    assert not set(ANCHORS) & set(workloads.WORKLOADS) | set(LAYERS) & set(ANCHORS)
