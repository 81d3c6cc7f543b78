"""Hand-written tile programs and the rules they break.

The head of each file says what the hardware verifier must find: one line
`# expect: RULE` per broken rule, in the order of the first violation, or `# expect: ok`.
"""

from pathlib import Path

import pytest

import nkigen

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.txt"))


def rule_of(violation):
    return getattr(violation, "rule", None) or str(violation).split(":")[0]


@pytest.mark.parametrize("path", FILES, ids=[p.stem for p in FILES])
def test_verify(path):
    text = path.read_text()
    expected = [
        line.split(":", 1)[1].strip()
        for line in text.splitlines()
        if line.startswith("# expect:")
    ]
    assert expected, f"{path.name} says nothing about what to expect"
    found = list(dict.fromkeys(rule_of(v) for v in nkigen.parse(text).verify()))
    assert found == ([] if expected == ["ok"] else expected)
