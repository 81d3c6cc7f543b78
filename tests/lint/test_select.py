"""Every element-wise op that lowering is to know has a row that says what computes it."""

import re
from pathlib import Path

CSRC = Path(__file__).parents[2] / "csrc"


def rows(path, macro):
    text = (CSRC / path).read_text(encoding="utf-8")
    return re.findall(rf"^{macro}\((\w+),(.*)$", text, re.M)


def test_every_core_elementwise_op_is_selected_once():
    core = [name for name, row in rows("tensor/ops.def", "OP") if "F_EW" in row and "F_CORE" in row]
    selected = [name for name, _ in rows("plan/select.def", "SELECT")]
    assert len(core) > 30
    assert sorted(selected) == sorted(core)


def test_lowering_has_a_case_for_every_kind():
    kinds = {row.split(",")[0].strip() for _, row in rows("plan/select.def", "SELECT")}
    text = (CSRC / "lower/elementwise.c").read_text(encoding="utf-8")
    assert kinds == set(re.findall(r"case BY_(\w+):", text)) - {"none"}
