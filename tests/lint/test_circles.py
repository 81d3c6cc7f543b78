"""No file of the C core calls what calls it: read from the object files.

A circle is a set of .c files each of which reaches each other one through symbols that
one defines and another uses, two files included. What is used is what `nm` lists as
undefined: calls, and tables that are read.
"""

import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"

#: The circles there are, and why. An entry that has become untrue must go.
ALLOWED = {
    ("tensor/build", "tensor/fold"): "what an op folds to is built, and building folds",
}


def is_fresh(obj):
    """Made after everything that its compiler read."""
    deps = obj.with_suffix(".d")
    if not deps.exists():
        return False
    names = shlex.split(deps.read_text().partition(":")[2].replace("\\\n", " "))
    paths = [ROOT / n for n in names]
    return all(p.exists() and p.stat().st_mtime <= obj.stat().st_mtime for p in paths)


def compiled(source, folder):
    """The object file of a source that no build of this tree has left."""
    obj = folder / f"{source.parent.name}_{source.stem}.o"
    names = [(sysconfig.get_config_var("CC") or "cc").split()[0], "cc", "gcc", "clang"]
    cc = next(name for name in names if shutil.which(name))
    include = [CSRC, sysconfig.get_path("include"), np.get_include()]
    flags = ["-std=gnu11", "-O0", "-c", *(f"-I{p}" for p in include)]
    subprocess.run([cc, *flags, str(source), "-o", str(obj)], check=True)
    return obj


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """{"tile/verify": its object file}, one per source."""
    folder, found = tmp_path_factory.mktemp("objects"), {}
    for source in sorted(CSRC.rglob("*.c")):
        name = source.relative_to(CSRC).with_suffix("").as_posix()
        built = (ROOT / "build").glob(f"temp*/**/csrc/{name}.o")
        fresh = next((o for o in built if is_fresh(o)), None)
        found[name] = fresh or compiled(source, folder)
    return found


def read_symbols(objects):
    """Which file defines a symbol, and which symbols each file uses."""
    by_path = {str(path): name for name, path in objects.items()}
    command = ["nm", "-A", "-P", "-g", *by_path]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    defined, used = {}, {name: set() for name in objects}
    for line in out.splitlines():
        path, _, rest = line.partition(": ")
        symbol, kind = rest.split()[:2]
        if kind in "Uw":
            used[by_path[path]].add(symbol)
        else:
            defined[symbol] = by_path[path]
    return defined, used


def call_graph(objects):
    defined, used = read_symbols(objects)
    return {
        name: {defined[s] for s in symbols if s in defined} - {name}
        for name, symbols in used.items()
    }


def reached_from(graph, start):
    seen, todo = set(), [start]
    while todo:
        new = graph[todo.pop()] - seen
        seen |= new
        todo += new
    return seen


def circles(graph):
    """The sets of files that reach each other, as sorted tuples."""
    reach = {name: reached_from(graph, name) for name in graph}
    return {
        tuple(sorted({b for b in reach[a] if a in reach[b]}))
        for a in graph
        if a in reach[a]
    }


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": {"e"}, "e": {"d"}}
    assert circles(graph) == {("b", "c"), ("d", "e")}
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == set()


def test_calls_are_read(objects):
    graph = call_graph(objects)
    assert set(graph) == set(objects) and len(graph) > 100
    assert "base/mem" in graph["base/status"] and not graph["base/mem"]
    assert "tensor/infer" in graph["tensor/dialect"], "a table of functions calls them"


def test_no_file_calls_what_calls_it(objects):
    graph = call_graph(objects)
    found = circles(graph)
    for circle in sorted(found - set(ALLOWED)):
        inside = [
            f"{a} -> {b}" for a in circle for b in sorted(graph[a]) if b in circle
        ]
        pytest.fail("files that call each other:\n" + "\n".join(inside))
    assert set(ALLOWED) <= found, "a listed circle is none any more: take it out"
