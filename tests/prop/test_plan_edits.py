"""An edited plan is obeyed, and computes what its program says, or is refused where it is wrong."""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from plan_edits import try_program  # noqa: E402


def test_edits_are_obeyed_or_refused():
    total = Counter()
    for seed in range(60):
        total += try_program(seed, edits=3)
    assert total["obeyed"] > 50 and total["refused"] > 30, total
