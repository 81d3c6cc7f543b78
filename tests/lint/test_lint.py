"""Rules about the source itself: layers, file heads, forbidden calls, tables in step."""

import ast
import re
from pathlib import Path

import pytest

import nkigen
from nkigen import _core

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
RANK = {
    "base": 0, "ir": 1, "tensor": 2, "tile": 2, "cost": 3, "plan": 4,
    "lower": 5, "pass": 6, "eval": 6, "emit": 6, "driver": 7, "py": 8,
}  # fmt: skip
SOURCES = sorted(p for p in CSRC.rglob("*") if p.suffix in (".c", ".h", ".def"))
IDS = [str(p.relative_to(CSRC)) for p in SOURCES]


def code_of(path):
    """The text without comments and string literals."""
    text = path.read_text()
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r'"(\\.|[^"\\\n])*"', '""', text)


def test_there_are_sources():
    assert {p.relative_to(CSRC).parts[0] for p in SOURCES} == set(RANK)


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_layers(path):
    layer = path.relative_to(CSRC).parts[0]
    for line in path.read_text().splitlines():
        m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if m and "/" in m[1]:
            other = m[1].split("/")[0]
            assert other == layer or RANK[other] < RANK[layer], line
        elif m:
            raise AssertionError(f"includes are spelled from csrc: {line}")
        if layer != "py":
            assert not re.search(r"#\s*include\s+<(Python|numpy/)", line), line


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_file_head(path):
    first = path.read_text().splitlines()[0]
    assert re.match(rf"/\* (\w+/)*{re.escape(path.name)} - \S", first), first


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_forbidden_calls(path):
    code, layer = code_of(path), path.relative_to(CSRC).parts[0]
    if path.relative_to(CSRC).as_posix() != "base/mem.c":
        found = re.search(r"\b(malloc|calloc|realloc|aligned_alloc|posix_memalign)\s*\(", code)
        assert not found, found and found[0]
    if layer not in ("driver", "py"):
        found = re.search(r"\b(printf|puts|fprintf|exit|abort|longjmp)\s*\(", code)
        assert not found, found and found[0]


def test_columns():
    """Code, comments beside it left aside, as csrc/.clang-format has it."""
    long = [
        f"{p.relative_to(ROOT)}:{i}"
        for p in SOURCES
        if p.suffix != ".def"
        for i, line in enumerate(code_of(p).splitlines(), 1)
        if len(line.rstrip()) > 120
    ]
    assert long == []


def test_no_mutable_statics():
    pattern = re.compile(r"^\s*static\s+(?!inline\b|const\b|_Thread_local\b)[^()={};]*(=|;)", re.M)
    for path in SOURCES:
        for m in pattern.finditer(code_of(path)):
            declaration = m[0]
            constant = re.search(r"\bconst\b", declaration)
            table = path.parts[-2] == "py" and re.search(
                r"\b(PyMethodDef|PyModuleDef|PyModuleDef_Slot|PyType_Slot|PyType_Spec|"
                r"PyGetSetDef|PyMemberDef|PyNumberMethods)\b",
                declaration,
            )
            keywords = re.search(r"static char \*\w+\[\] =", declaration)  # the C API's type
            assert constant or table or keywords, f"{path}: {declaration}"


def test_hardware_numbers_live_in_one_table():
    """SBUF's and PSUM's sizes in bytes are written nowhere but in tile/hw.def."""
    for path in SOURCES:
        if path.name != "hw.def":
            assert not re.search(r"\b(196608|229376|24\s*\*\s*1024\s*\*\s*1024)\b", code_of(path)), path


def stub_names():
    tree = ast.parse((ROOT / "nkigen" / "_core.pyi").read_text())
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets}
    return names


def test_stub_agrees_with_module():
    public = {n for n in dir(_core) if not n.startswith("__")}
    stub = {n for n in stub_names() if not n.startswith("__")}
    assert public == stub


def test_public_functions_have_docstrings():
    for name in nkigen.__all__:
        thing = getattr(nkigen, name)
        if callable(thing):
            assert thing.__doc__, name


def test_python_layers():
    """No algorithm in the Python package: it imports neither scipy nor anything unlisted."""
    allowed = {"numpy", "ml_dtypes", "nkigen", "__future__"}
    import sys

    for path in (ROOT / "nkigen").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for n in names:
                top = n.split(".")[0]
                assert top in allowed or top in sys.stdlib_module_names, (path, n)


def test_links_in_docs_exist():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), (path.name, target)


def test_decisions_stand_under_a_theme():
    """A new one goes where its theme is, behind a blank line, not to the end of the page."""
    text = (ROOT / "docs" / "decisions.md").read_text()
    blocks = text.strip().split("\n\n")
    assert all(b.startswith(("#", "**")) for b in blocks[2:-1]), "a paragraph begins with its decision in bold"
    assert blocks[-2] == "## Known to be improvable", "what can be improved is one paragraph at the end"
    assert not re.search(r"[^\n]\n\*\*[A-Z]", text), "a blank line before a decision"
