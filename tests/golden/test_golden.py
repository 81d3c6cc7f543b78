"""What a kernel becomes: NAME.py beside the texts of its stages.

A refactor leaves these files byte for byte the same; `pytest --update-golden` writes
them anew after an intended change. Blocks of the docs under a comment with the name of a
file are copies of it.
"""

import json
import re
import runpy
from pathlib import Path

import pytest

import nkigen
from nkigen.workloads import WORKLOADS

HERE = Path(__file__).parent
KERNELS = sorted(p for p in HERE.glob("*.py") if not p.name.startswith("test_"))


def texts_of(kernel):
    """File suffix -> text."""
    stages = {"tensor": "trace", "core": "outputs", "plan": "plan", "tile": "allocate"}
    out = {suffix: kernel.stages[name] for suffix, name in stages.items()}
    out["nki"] = kernel.nki()
    return {k: str(v).rstrip("\n") + "\n" for k, v in out.items()}


@pytest.mark.parametrize("path", KERNELS, ids=[p.stem for p in KERNELS])
def test_golden(path, update_golden):
    case = runpy.run_path(str(path))
    kernel = nkigen.compile(case["kernel"], *case["SPECS"], cache=False)
    for suffix, text in texts_of(kernel).items():
        expected = path.with_suffix(f".{suffix}.txt")
        if update_golden:
            expected.write_text(text)
        assert text == expected.read_text(), f"{expected.name} differs"


def test_there_are_kernels():
    assert KERNELS


# ---- docs: blocks that are copies of files, and the table of figures

ROOT = HERE.parents[1]
BLOCK = re.compile(
    r"(<!-- ((?:tests/golden|examples)/\S+) -->\n```\w*\n)(.*?)(```)", re.S
)
TABLE = re.compile(r"(<!-- tests/baseline.json -->\n)(.*?)(\n\n|\Z)", re.S)
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def figures():
    """The baseline as a table."""
    lines = [
        "| kernel | dtype | instructions | HBM bytes / minimum | modelled us on trn2 |",
        "| --- | --- | --- | --- | --- |",
    ]
    baseline = json.loads((ROOT / "tests" / "baseline.json").read_text())
    for name in WORKLOADS:
        for dtype in ("f32", "bf16"):
            r = baseline.get(f"{name}/{dtype}/trn2")
            if r:
                ratio = (r["hbm_read_bytes"] + r["hbm_write_bytes"]) / r["hbm_min_bytes"]
                lines.append(
                    f"| {name} | {dtype} | {r['instructions']} | {ratio:.2f} "
                    f"| {r['modelled_us']:.0f} |"
                )
    return "\n".join(lines)


@pytest.mark.parametrize("path", DOCS, ids=[p.stem for p in DOCS])
def test_docs_show_the_real_thing(path, update_golden):
    text = path.read_text()
    current = BLOCK.sub(lambda m: m[1] + (ROOT / m[2]).read_text() + m[4], text)
    if TABLE.search(current):
        table = figures()
        current = TABLE.sub(lambda m: m[1] + table + m[3], current)
    if update_golden:
        path.write_text(current)
        text = current
    assert text == current
