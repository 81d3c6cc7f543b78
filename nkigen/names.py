"""NumPy's names in kernels: which work, in which forms, what they become, and what does not.

Nothing is listed twice: functions and methods are rows of csrc/py/functions.def, ufuncs
those of csrc/tensor/ops.def, compositions those of `nkigen.ops.COMPOSITIONS`, bounds those
of `nkigen.accuracy`, what is refused rows of csrc/py/absent.def. `page` writes
docs/numpy.md from them; parameters that are refused have their reason here.

Example:
    $ python -m nkigen names --write docs/numpy.md
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nkigen import (
    _core,
    compose_layout,
    compose_order,
    compose_reduce,
    ops,
)
from nkigen.accuracy import BOUNDS, FLOATS

__all__ = ["REFUSED", "Entry", "entries", "page", "ufuncs"]

#: parameter of NumPy's that is not taken, or with some values only -> why, and what to do
REFUSED: dict[str, str] = {
    "subok": "subclasses of ndarray have rules of their own, and arrays of a kernel are none",
    "device": "arrays of a kernel are on the target; 'cpu' is what NumPy calls that",
    "order": "only NumPy's own letters are orders",
    "copy": "True or False",
    "kwargs": "the other keywords of clip are those of its ufunc: convert with astype, choose with numpy.where",
}


@dataclass(frozen=True)
class Entry:
    """A NumPy function that kernels may call.

    taken: NumPy's parameters in NumPy's order, with the values that are taken if not
    all are. refused: those that are not. how: an op, a row, or a composition.

    Example:
        >>> next(e for e in entries() if e.name == "cumsum").refused
        ()
    """

    name: str
    function: Any
    taken: tuple[tuple[str, str], ...]
    refused: tuple[str, ...]
    how: str

    def text(self) -> str:
        """The parameters as a page shows them."""
        return ", ".join(f"{n}={v}" if v else n for n, v in self.taken)


def _rows(kind: str) -> dict[str, str]:
    return {name: text for k, name, text in _core.name_table() if k == kind}


def _of_row(signature: str) -> dict[str, str]:
    """Parameter -> the values that change nothing, if only those are taken."""
    found = {}
    for word in signature.split():
        name, _, values = word.partition("!")
        if word != "*":
            found[name.strip("*?")] = values.lstrip("=") if "!" in word else ""
    return found


def _with_masks(function: Any, found: dict[str, str]) -> dict[str, str]:
    """out= goes through a write, where= and the like through a composition."""
    more = {"out"}
    if function in ops.COMPOSITIONS:
        more |= {"where", "initial", "mean"}
    return {k: "" if k in more else v for k, v in found.items()}


def _entry(name: str, function: Any, ours: dict[str, str], how: str) -> Entry:
    theirs = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if how == "ops" or p.kind is not p.VAR_KEYWORD
    ]
    taken = tuple((p, ours[p]) for p in theirs if p in ours)
    return Entry(name, function, taken, tuple(p for p in theirs if p not in ours), how)


def _name_of(function: Any) -> str:
    module = function.__module__.removeprefix("numpy").lstrip(".")
    return f"{module}.{function.__name__}" if module == "linalg" else function.__name__


def entries() -> Iterator[Entry]:
    """All functions of NumPy that work in kernels, by name; ufuncs are not among them.

    Example:
        >>> any(e.name == "linalg.norm" for e in entries())
        True
    """
    found = {}
    for name, signature in _rows("function").items():
        function = getattr(np, name, None)
        if function is not None and not isinstance(function, np.ufunc):
            ours = _with_masks(function, _of_row(signature))
            found[name] = _entry(name, function, ours, "ops")
    for function, call in ops.COMPOSITIONS.items():
        if isinstance(function, (str, np.ufunc)):
            continue
        name = _name_of(function)
        if name not in found:
            compose = getattr(call, "args", (None, call))[1]
            ours = dict.fromkeys([*inspect.signature(compose).parameters, "out"], "")
            found[name] = _entry(name, function, ours, "composition")
    yield from (found[name] for name in sorted(found))


def ufuncs() -> dict[np.ufunc, str]:
    """Ufunc -> what it becomes: an op of the table, or a composition.

    Example:
        >>> ufuncs()[np.add], ufuncs()[np.arcsin]
        ('`add`', 'composition')
    """
    rows: dict[str, str] = {}
    for r in _core.op_table("tensor"):
        rows.setdefault(r["np"], r["name"])
    found = {}
    for name in sorted(dir(np)):
        u = getattr(np, name)
        if not isinstance(u, np.ufunc) or u.__name__ != name:
            continue
        row = rows.get("true_divide" if name == "divide" else name)
        if row:
            found[u] = f"`{row}`"
        elif u in ops.COMPOSITIONS:
            found[u] = "composition"
    return found | {np.divmod: "`floor_divide`, `remainder`"}


# ---- the page ----

_HEAD = """# NumPy in kernels

Written by `python -m nkigen names --write docs/numpy.md` from the tables that kernels are traced
with; a stale page fails a test.

Arrays are those of NumPy: bool, integers of 8 to 64 bits, f16, f32, f64 and the formats of ml_dtypes
(bf16, fp8), promoted as NumPy 2 promotes them. On the device f64, i64 and u64 are 32 bits wide, and a
warning says so; integers of up to 32 bits are exact and wrap. What is called with values that are
known while tracing simply runs and becomes a constant.

A **composition** is traced as the NumPy calls that it makes (`nkigen/compose_*.py`), an **op** is a row of
`csrc/tensor/ops.def`, which `decompose` writes in ops that the engines have.
"""

_METHODS_OF_UFUNCS = """
Bounds are the most units in the last place that an element is off, see [accuracy](accuracy.md); "exact"
are integers, comparisons and movement. `out=` takes arrays of the kernel and parameters, `where=` of a
call needs `out=`, `dtype=` and `casting=` choose the loop. `outer` works for all of two operands, `at` with
integers, slices and a list of positions that are known, in their order; `reduce` (axis, dtype, out,
keepdims, initial, where), `accumulate` and `reduceat` (axis, dtype, out) for {associative}.
"""


def _table(head: str, rows: Iterator[str] | list[str]) -> list[str]:
    columns = head.count("|") - 1
    return [head, "|" + " --- |" * columns, *rows, ""]


def _bound(ufunc: np.ufunc, dtype: str) -> str:
    name = ufunc.__name__
    if name in BOUNDS:
        limit = getattr(BOUNDS[name], dtype)
        return "-" if limit is None else str(limit)
    truths = all(t.endswith("?") for t in ufunc.types if not set("OMm") & set(t))
    return "exact" if truths or "floats" not in _dtypes(ufunc) else "-"


def _dtypes(ufunc: np.ufunc) -> str:
    """The kinds of operands that NumPy has loops for."""
    taken = "".join(t.partition("->")[0] for t in ufunc.types)
    kinds = {"bool": "?", "integers": "bhilqBHILQ", "floats": "efd"}
    found = [k for k, letters in kinds.items() if set(letters) & set(taken)]
    return ", ".join(found)


def _ufunc_row(ufunc: np.ufunc, how: str) -> str:
    bounds = " | ".join(_bound(ufunc, d) for d in FLOATS)
    return f"| `{ufunc.__name__}` | {_dtypes(ufunc)} | {how} | {bounds} |"


def _methods() -> list[str]:
    rows = [f"| `{n}` | `{t.split(' ', 1)[-1]}` |" for n, t in _rows("method").items()]
    for name, doc in _rows("composed method").items():
        signature = doc.partition("\n")[0].partition("($self, /, ")[2]
        rows.append(f"| `{name}` | `{signature.removesuffix(')')}` |")
    return sorted(rows)


def _limits() -> list[str]:
    """The constants that bound what is traced."""
    limits = {
        "runs of equally spaced positions of `take`, `pad`": compose_layout.MOST_RUNS,
        "pairs that traced positions compare": compose_layout.MOST_COMPARISONS,
        "elements of an axis of `sort`, `argsort`, `median`": compose_order.MOST_SORTED,
        "pairs that they compare": compose_order.MOST_PAIRS,
        "positions of the method `at`": compose_reduce.MOST_WRITES,
    }
    return [f"| {what} | {most} |" for what, most in limits.items()]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def page() -> str:
    """The text of docs/numpy.md.

    Example:
        >>> page().startswith("# NumPy in kernels")
        True
    """
    associative = [f"`{u.__name__}`" for u in compose_reduce.ASSOCIATIVE]
    methods = _METHODS_OF_UFUNCS.format(associative=" ".join(associative))
    lines = [_HEAD, "## Ufuncs", methods]
    head = f"| ufunc | operands | becomes | {' | '.join(f'{d}, ulp' for d in FLOATS)} |"
    lines += _table(head, [_ufunc_row(u, how) for u, how in ufuncs().items()])
    lines += ["## Functions", ""]
    rows = [f"| `{e.name}` | `{_escaped(e.text())}` | {e.how} |" for e in entries()]
    lines += _table("| function | parameters | by |", rows)
    lines += [
        "## Methods",
        "",
        *_table("| method | parameters |", [_escaped_row(r) for r in _methods()]),
    ]
    lines += ["## Parameters that are not taken, or with some values only", ""]
    lines += _table(
        "| parameter | why |", [f"| `{k}` | {v} |" for k, v in REFUSED.items()]
    )
    lines += ["## Limits", "", *_table("| of | at most |", _limits())]
    lines += ["## Names that are refused", ""]
    absent = _rows("absent function") | {
        f"ndarray.{k}": v
        for kind in ("absent method", "absent member")
        for k, v in _rows(kind).items()
    }
    lines += _table(
        "| name | way |",
        [f"| `{k}` | {_escaped(v)} |" for k, v in sorted(absent.items())],
    )
    return "\n".join(lines)


def _escaped_row(row: str) -> str:
    first, name, rest = row.split("|", 2)
    return f"{first}|{name}|{_escaped(rest[:-1])}|"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--write", metavar="FILE", help="write the page there")


def run(args: argparse.Namespace) -> int:
    """Print the page or write it."""
    if args.write:
        Path(args.write).write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
    return 0
