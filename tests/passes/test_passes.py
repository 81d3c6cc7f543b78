"""One behaviour of one pass per file: passes/NAME/*.txt holds input, marker, output.

NAME is the pass. The output after the marker line is what the pass must print.
"""

from pathlib import Path

import pytest

from nkigen import _core

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*/*.txt"))
MARKER = "# >>> expect"


@pytest.mark.parametrize("path", FILES, ids=[f"{p.parent.name}/{p.stem}" for p in FILES])
def test_pass(path, update_golden):
    text = path.read_text()
    given, marker, expected = text.partition(MARKER + "\n")
    assert marker, f"{path.name} has no line {MARKER!r}"
    actual = _core.run_pass(path.parent.name, given, "trn2").rstrip("\n") + "\n"
    if update_golden:
        path.write_text(given + marker + actual)
        expected = actual
    assert actual == expected


def test_there_are_cases():
    assert FILES
