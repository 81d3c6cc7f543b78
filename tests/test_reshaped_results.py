"""A result that is a reshape of what a group computes is written by that group."""

import numpy as np
import pytest

import nkigen
from nkigen import cliffs


def by_runs(x):
    y = x.reshape(x.shape[0], 8, -1)
    return (y / y.sum(-1, keepdims=True)).transpose(1, 0, 2).reshape(-1, x.shape[0] * 2)


def stacked(x):
    return np.stack([np.exp(x), x * 2], axis=-1).reshape(-1)


def joined(x, y):
    return np.concatenate([np.exp(x), y * 2], axis=0).reshape(-1)


def twice(x):
    y = np.stack([np.exp(x), x * 2], axis=-1)
    return y, y.reshape(-1)


CASES = [
    ("unfolded image", cliffs.image_columns, [(45, 83)]),
    ("normed runs", by_runs, [(12, 320)]),
    ("stacked", stacked, [(131, 33)]),
    ("joined rows", joined, [(77, 65), (130, 65)]),
    ("its shape is wanted, too", twice, [(140, 21)]),
    ("product", lambda a, b: (a @ b).reshape(-1, 7), [(70, 20), (20, 49)]),
    ("backwards", lambda x: x[::-1].reshape(-1, 3), [(40, 3000)]),
    ("sum", lambda x: x.sum(0).reshape(4, -1), [(300, 40)]),
    ("scalar", lambda x: (x * 2).sum().reshape(1, 1), [(30, 40)]),
]


@pytest.mark.parametrize(("name", "fn", "shapes"), CASES)
@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_results_are_what_numpy_has(rng, name, fn, shapes, target):
    args = [rng.standard_normal(s).astype(np.float32) + 3 for s in shapes]
    k = nkigen.compile(fn, *args, target=target, check="every-pass", cache=False)
    assert k.verify() == []
    got, want = k(*args), fn(*args)
    for a, b in (
        zip(got, want, strict=True) if name.startswith("its") else [(got, want)]
    ):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-4)


def test_nothing_is_copied_for_a_shape():
    assert (
        nkigen.compile(
            cliffs.image_columns, ((514, 514), "f32"), cache=False
        ).cost.hbm_ratio
        < 1.25
    )
    assert (
        nkigen.compile(stacked, ((512, 512), "f32"), cache=False).cost.hbm_ratio == 1.0
    )


def test_the_plan_says_so_and_is_obeyed():
    spec = ((130, 67), "f32")
    k = nkigen.compile(cliffs.image_columns, spec, cache=False)
    assert "home=part" in k.plan
    again = nkigen.compile(cliffs.image_columns, spec, plan=str(k.plan), cache=False)
    assert str(again.stages["lower"]) == str(k.stages["lower"])
    assert str(again.plan) == str(k.plan)
