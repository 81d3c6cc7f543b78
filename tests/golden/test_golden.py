"""What a kernel becomes: NAME.py beside the texts of its stages.

A refactor leaves these files byte for byte the same; `pytest --update-golden` writes
them anew after an intended change.
"""

import runpy
from pathlib import Path

import pytest

import nkigen

HERE = Path(__file__).parent
KERNELS = sorted(p for p in HERE.glob("*.py") if not p.name.startswith("test_"))


def texts_of(kernel):
    """File suffix -> text."""
    out = {"tensor": kernel.tensor_ir, "tile": kernel.tile_ir, "nki": kernel.nki()}
    if "plan" in kernel.stages:
        out["plan"] = kernel.stages["plan"]
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
