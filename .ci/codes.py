"""The codes of errors, warnings and violations: gives them, checks them, lists them.

A message carries its code in front, where it is written: fail(..., "NKI-2003 matmul: ..."). A code is never
given to another message. docs/errors.md is made from the sources.

    python .ci/codes.py            what lacks a code or shares one, and whether docs/errors.md is current
    python .ci/codes.py --write    gives codes to messages without one and writes docs/errors.md
"""

import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "errors.md"

#: function or macro -> position of its format
FORMAT_AT = {
    "fail": 3,
    "fail_at": 3,
    "raise_here": 2,
    "raise_plain": 2,
    "report": 2,
    "report_at": 3,
    "warn": 2,
    "BUG_IF": 3,
    "SCAN_FAIL": 2,
}
#: folder -> first code and what its messages are about
BLOCKS = {
    "csrc/py": (1000, "tracing: NumPy functions and arguments"),
    "nkigen": (1500, "compiling and calling kernels"),
    "csrc/tensor": (2000, "tensor ops: shapes and dtypes"),
    "csrc/ir": (2500, "the text of programs"),
    "csrc/tile": (3000, "rules of the hardware"),
    "csrc/pass": (4000, "passes"),
    "csrc/plan": (4500, "plans"),
    "csrc/lower": (4700, "lowering"),
    "csrc/eval": (5000, "the simulator"),
    "csrc/emit": (6000, "emitted source"),
    "csrc/cost": (6500, "the cost model"),
    "csrc/driver": (7000, "the pipeline"),
    "csrc/base": (7500, "memory"),
}
STATUS = {
    "ST_USER": "NkigenError",
    "ST_TYPE": "DTypeError",
    "ST_UNSUPPORTED": "UnsupportedError",
    "ST_LIMIT": "HardwareLimitError",
    "ST_NOMEM": "MemoryError",
    "ST_BUG": "InternalError",
}
RAISED = {
    "E_Nkigen": "NkigenError",
    "E_Trace": "TraceError",
    "E_Shape": "ShapeError",
    "E_Index": "IndexingError",
    "E_DType": "DTypeError",
    "E_Unsupported": "UnsupportedError",
    "E_Verify": "VerifyError",
    "E_Parse": "ParseError",
    "E_HardwareLimit": "HardwareLimitError",
    "E_Internal": "InternalError",
}
LITERAL = r'"(?:[^"\\\n]|\\.)*"'
CODE = re.compile(r"NKI-(\d{4}) ")


class Message(NamedTuple):
    """One message in a source: where its text begins, and what it becomes."""

    path: Path
    at: int  # offset of the first character inside the quotes
    text: str
    raised: str

    @property
    def code(self) -> int:
        found = CODE.match(self.text)
        return int(found[1]) if found else 0


def blank_comments(source: str) -> str:
    """The source with comments as spaces of the same length."""
    pattern = LITERAL + r"|'(?:[^'\\\n]|\\.)+'|/\*.*?\*/|//[^\n]*"

    def blank(m: re.Match) -> str:
        text = m[0]
        return re.sub(r"[^\n]", " ", text) if text.startswith("/") else text

    return re.sub(pattern, blank, source, flags=re.S)


def arguments(source: str, begin: int) -> list[tuple[int, int]]:
    """Spans of the arguments of a call whose parenthesis opens before `begin`."""
    spans, depth, start = [], 0, begin
    for m in re.compile(LITERAL + r"|'(?:[^'\\\n]|\\.)+'|[(){}\[\],]").finditer(
        source, begin
    ):
        token = m[0]
        if token in "([{":
            depth += 1
        elif token in ")]}":
            if depth == 0:
                return [*spans, (start, m.start())]
            depth -= 1
        elif token == "," and depth == 0:
            spans.append((start, m.start()))
            start = m.end()
    return []


def c_class(name: str, args: list[str]) -> str:
    if name in ("report", "report_at"):
        return "Violation " + " / ".join(re.findall(r'"([a-z0-9-]+)"', args[-1]))
    if name in ("fail_at", "SCAN_FAIL"):
        return "ParseError"
    if name == "warn":
        return "NarrowingWarning"
    if name == "BUG_IF":
        return "InternalError"
    known = {**STATUS, **RAISED}
    words = re.findall(r"\b(?:ST|E)_\w+", args[1])
    return " / ".join(dict.fromkeys(known.get(w, "NkigenError") for w in words))


def c_messages(path: Path) -> list[Message]:
    source = blank_comments(path.read_text())
    out = []
    for m in re.finditer(r"\b(" + "|".join(FORMAT_AT) + r")\(", source):
        spans = arguments(source, m.end())
        at = FORMAT_AT[m[1]]
        if len(spans) <= at:
            continue
        begin, end = spans[at]
        args = [source[a:b] for a, b in spans[:at]]
        for group in re.finditer(rf"{LITERAL}(?:\s*{LITERAL})*", source[begin:end]):
            text = "".join(p[1:-1] for p in re.findall(LITERAL, group[0]))
            where = begin + group.start() + 1
            out.append(Message(path, where, text, c_class(m[1], args)))
    return out


def error_classes() -> set[str]:
    tree = ast.parse((ROOT / "nkigen" / "errors.py").read_text())
    return {n.name for n in tree.body if isinstance(n, ast.ClassDef)}


def python_messages(path: Path, classes: set[str]) -> list[Message]:
    source = path.read_text()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    out = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        f = node.func
        if isinstance(f, ast.Attribute) and f.attr == "at":
            f = f.value
        text = node.args[0]
        if not (isinstance(f, ast.Name) and f.id in classes):
            continue
        if not isinstance(text, (ast.Constant, ast.JoinedStr)):
            continue
        lines = source.encode().splitlines(keepends=True)
        column = len(lines[text.lineno - 1][: text.col_offset].decode())
        at = starts[text.lineno - 1] + column
        at = source.index('"', at) + 1
        out.append(Message(path, at, template(text), f.id))
    return out


def template(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.JoinedStr)
    return "".join(
        v.value if isinstance(v, ast.Constant) else "%s" for v in node.values
    )


def messages() -> list[Message]:
    out: list[Message] = []
    for path in sorted(ROOT.glob("csrc/*/*.[ch]")):
        out += c_messages(path)
    classes = error_classes()
    for path in sorted(ROOT.glob("nkigen/*.py")):
        if path.name != "errors.py":
            out += python_messages(path, classes)
    return out


def block_of(path: Path) -> int:
    name = path.relative_to(ROOT).as_posix()
    return next(v[0] for k, v in BLOCKS.items() if name.startswith(k + "/"))


def used_codes(known: list[Message]) -> set[int]:
    page = PAGE.read_text() if PAGE.exists() else ""
    return {m.code for m in known} | {int(c) for c in re.findall(r"NKI-(\d{4})", page)}


def give_codes(known: list[Message]) -> None:
    used = used_codes(known)
    starts = sorted(b[0] for b in BLOCKS.values()) + [10000]
    for path in {m.path for m in known}:
        source = path.read_text()
        edits = []
        for m in known:
            if m.path == path and not m.code:
                first = block_of(path)
                last = next(s for s in starts if s > first)
                code = max((c for c in used if first <= c < last), default=first) + 1
                used.add(code)
                edits.append((m.at, f"NKI-{code:04d} "))
        for at, text in sorted(edits, reverse=True):
            source = source[:at] + text + source[at:]
        if edits:
            path.write_text(source)


def readable(text: str) -> str:
    text = CODE.sub("", text, count=1).replace('\\"', '"').replace("\\n", " ")
    text = re.sub(r"%[-+ #0]*(?:\*|\d+)?(?:\.(?:\*|\d+))?(?:ll|z|h)?[a-zA-Z]", "…", text)
    return text.replace("%%", "%").replace("|", "\\|").replace("<", "\\<")


def page(known: list[Message]) -> str:
    lines = [
        "# Codes of errors, warnings and violations",
        "",
        "Every message of nkigen ends with its code, which is also the `code` of the exception or `Violation`. A code",
        "keeps its meaning over versions and is never given to another message. `…` stands for what was given.",
        "",
    ]
    for first, title in sorted(BLOCKS.values()):
        block = sorted(
            (m for m in known if block_of(m.path) == first), key=lambda m: m.code
        )
        if not block:
            continue
        lines += [f"## {first}: {title}", "", "| code | raised as | message |"]
        lines += ["| --- | --- | --- |"]
        lines += [
            f"| NKI-{m.code:04d} | {m.raised} | {readable(m.text)} |" for m in block
        ]
        lines.append("")
    retired = sorted(used_codes(known) - {m.code for m in known})
    if retired:
        lines += ["## Retired", "", " ".join(f"NKI-{c:04d}" for c in retired), ""]
    return "\n".join(lines)


def faults(known: list[Message]) -> list[str]:
    out, seen = [], {}
    for m in known:
        where = f"{m.path.relative_to(ROOT)}: {m.text[:60]!r}"
        if not m.code:
            out.append(f"no code: {where}")
        elif m.code in seen:
            out.append(f"NKI-{m.code:04d} twice: {seen[m.code]} and {where}")
        seen[m.code] = where
    if not out and (not PAGE.exists() or PAGE.read_text() != page(known)):
        out.append("docs/errors.md is stale")
    return out


def main() -> int:
    if "--write" in sys.argv[1:]:
        give_codes(messages())
        PAGE.write_text(page(messages()))
    found = faults(messages())
    print("\n".join(found) or f"{len(messages())} messages have codes")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
