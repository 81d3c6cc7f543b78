"""Rules about the Python package: examples that hold, text files with an encoding."""

import ast
import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import nkigen

NAMES = [m.name for m in pkgutil.iter_modules(nkigen.__path__) if m.name not in ("_core", "__main__")]
FILES = sorted(Path(nkigen.__file__).parent.glob("*.py"))


def module(name):
    return importlib.import_module(f"nkigen.{name}")


def public(name):
    return [(n, getattr(module(name), n)) for n in getattr(module(name), "__all__", ())]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_examples_hold(name):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(module(name), optionflags=flags).failed == 0


@pytest.mark.parametrize("name", NAMES)
def test_public_functions_have_examples(name):
    functions = [(n, f) for n, f in public(name) if inspect.isfunction(f)]
    assert [n for n, f in functions if "Example" not in (f.__doc__ or "")] == []


@pytest.mark.parametrize("name", NAMES)
def test_public_methods_have_docstrings(name):
    silent = [
        f"{n}.{m}"
        for n, c in public(name)
        if inspect.isclass(c)
        for m, f in vars(c).items()
        if not m.startswith("_") and isinstance(f, (property, classmethod, type(module))) and not f.__doc__
    ]
    assert silent == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_everything_is_typed(path):
    """Parameters and results of functions; the workloads are what users write."""
    if path.name in ("workloads.py", "layers.py", "anchors.py"):
        return
    functions = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef)]
    untyped = [
        f"{f.name}:{f.lineno}"
        for f in functions
        for a in [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs, f.args.vararg, f.args.kwarg]
        if f.returns is None or (a and a.annotation is None and a.arg not in ("self", "cls"))
    ]
    assert untyped == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_text_files_have_an_encoding(path):
    """What users write need not be ASCII, and the platform's encoding need not hold it."""
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    without = [
        c.lineno
        for c in calls
        if getattr(c.func, "attr", getattr(c.func, "id", "")) in ("open", "read_text", "write_text")
        and "encoding" not in {k.arg for k in c.keywords}
    ]
    assert without == []
