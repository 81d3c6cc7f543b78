"""No kernel falls off the cliffs that are known; the committed list of those met is kept."""

import json
import re

import numpy as np
import pytest

import nkigen
from nkigen import cliffs
from nkigen.cli import main

ROWS = cliffs.measure()


def test_bars_that_were_met_still_are():
    met = json.loads(cliffs.MET.read_text(encoding="utf-8"))
    assert met == sorted(met) and len(met) > 60
    assert {r.key for r in ROWS} >= set(
        met
    ), "the list names pairs that are not there any more"
    assert cliffs.lost(ROWS, met) == []


def test_names_are_unique():
    assert len({c.name for c in cliffs.CLIFFS}) == len(cliffs.CLIFFS)


def test_a_lost_bar_is_the_exit_code(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cliffs, "CLIFFS", cliffs.CLIFFS[:2])
    assert main(["bench", "--cliffs"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^x\[::2\] of 1M +trn1 .* / 1\.5$", out, re.M), out
    monkeypatch.setattr(cliffs, "MET", tmp_path / "met.json")
    monkeypatch.setattr(cliffs.Row, "met", property(lambda r: r.target == "trn2"))
    (tmp_path / "met.json").write_text(json.dumps([f"{cliffs.CLIFFS[0].name}/trn1"]))
    assert main(["bench", "--cliffs"]) == 1
    assert "lost: x[::2] of 1M/trn1" in capsys.readouterr().err


def test_update_adds_and_never_drops(monkeypatch, tmp_path):
    monkeypatch.setattr(cliffs, "CLIFFS", cliffs.CLIFFS[:1])
    monkeypatch.setattr(cliffs, "MET", tmp_path / "met.json")
    (tmp_path / "met.json").write_text('["another/trn1"]')
    cliffs.run(update=True)
    now = json.loads((tmp_path / "met.json").read_text())
    assert now[0] == "another/trn1" and len(now) == 3


SMALL = [
    ("ragged", cliffs.ragged, [(7, 131), (7, 131)], 5),
    ("one row", cliffs.ragged, [(1009,), (1009,)], 5),
    ("joined", cliffs.rows_joined, [(7, 131), (5, 131)], 5),
]


@pytest.mark.parametrize(("name", "fn", "shapes", "most"), SMALL)
@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_small_ragged_shapes_are_one_tile(rng, name, fn, shapes, most, target):
    args = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    k = nkigen.compile(fn, *args, target=target, cache=False)
    assert k.cost.instruction_count <= most
    np.testing.assert_allclose(k(*args), fn(*args), rtol=1e-5, atol=1e-6)


AWKWARD = [
    ("pairs", cliffs.pairs_multiplied, [(37, 258)]),
    ("pairs, 3-d", cliffs.pairs_multiplied, [(3, 129, 66)]),
    ("RoPE rows", cliffs.rope_rows, [(14, 1237), (7, 1237), (7, 1237)]),
    ("RoPE rows, long", cliffs.rope_rows, [(64, 4099), (32, 4099), (32, 4099)]),
    (
        "RoPE, interleaved",
        cliffs.rope_interleaved,
        [(3, 131, 34), (131, 17), (131, 17)],
    ),
    ("computed rows", cliffs.rows_joined_computed, [(77, 641), (130, 641)]),
    ("im2col", cliffs.image_columns, [(67, 133)]),
    ("stencil", cliffs.stencil, [(131, 259)]),
    ("thin product", cliffs.product, [(4099, 4), (4, 7)]),
    ("thin product of vectors", cliffs.product, [(2051, 3), (3, 1)]),
    (
        "permuted and used",
        lambda x, y: np.exp(x.transpose(2, 1, 0)) + y,
        [(130, 17, 66), (66, 17, 130)],
    ),
    ("strided and used", lambda x, y: np.exp(x[1::2]) + y, [(20011,), (10005,)]),
]


@pytest.mark.parametrize(("name", "fn", "shapes"), AWKWARD)
@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_awkward_shapes_compute_what_numpy_does(rng, name, fn, shapes, target):
    args = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    k = nkigen.compile(fn, *args, target=target, check="every-pass", cache=False)
    assert k.verify() == []
    np.testing.assert_allclose(k(*args), fn(*args), rtol=1e-4, atol=1e-5)


def test_groups_that_read_the_same_rows_are_one(rng):
    """Also when what they read it for is two ops away."""
    args = [
        rng.standard_normal(s).astype(np.float32)
        for s in ((64, 3001), (32, 3001), (32, 3001))
    ]
    k = nkigen.compile(cliffs.rope_rows, *args, cache=False)
    assert k.cost.hbm_ratio == 1.0
    np.testing.assert_allclose(k(*args), cliffs.rope_rows(*args), rtol=1e-5, atol=1e-6)
