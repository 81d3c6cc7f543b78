"""Every error, warning and violation has a code of its own, and docs/errors.md lists them all."""

import importlib.util
import re
from pathlib import Path

import pytest

import nkigen

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("codes", ROOT / ".ci" / "codes.py")
codes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(codes)


def test_codes_are_given_unique_and_listed():
    assert codes.faults(codes.messages()) == []


def test_the_check_finds_what_is_wrong():
    known = codes.messages()
    bare = [known[0]._replace(text="no code here"), *known[1:]]
    twice = [*known, known[0]]
    assert any("no code" in f for f in codes.faults(bare))
    assert any("twice" in f for f in codes.faults(twice))
    assert codes.faults(known[1:]) == ["docs/errors.md is stale"]


@pytest.mark.parametrize(
    "fn",
    [
        lambda: nkigen.compile(lambda x: x @ x, ((4, 3), "f32")),
        lambda: nkigen.compile(lambda x: bool(x), ((4,), "f32")),
        lambda: nkigen.compile(lambda x: x, ((4,), "f33")),
        lambda: nkigen.compile(lambda x: x, ((4,), "f32"), target="trn9"),
        lambda: nkigen.parse("tensor @f {"),
        lambda: nkigen.compile(lambda x: x + 1, ((4,), "f32"))([1.0, 2.0]),
    ],
    ids=range(6),
)
def test_exceptions_end_with_their_code(fn):
    with pytest.raises(nkigen.NkigenError) as e:
        fn()
    code = e.value.code
    assert re.fullmatch(r"NKI-\d{4}", code)
    assert f"{e.value.message} [{code}]" in str(e.value) and code not in e.value.message
    assert f"| {code} | " in (ROOT / "docs" / "errors.md").read_text()


def test_violations_and_warnings_have_codes():
    text = str(nkigen.compile(lambda x: x + 1, ((4,), "f32"), cache=False).tile_ir)
    broken = re.sub(r"hbm f32\[4\]", "hbm f32[3]", text, count=1)
    violation = nkigen.parse(broken).verify()[0]
    assert re.fullmatch(r"NKI-3\d{3}", violation.code) and f"[{violation.code}]" in str(violation)
    with pytest.warns(nkigen.NarrowingWarning, match=r"\[NKI-4\d{3}\]"):
        nkigen.compile(lambda x: x + 1, ((4,), "f64"), cache=False)
