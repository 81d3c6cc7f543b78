"""Counts that a user decides have no tables: thousands of parameters, results and constants."""

import ast

import numpy as np
import pytest

import nkigen

N = 10_000
X = np.arange(4, dtype=np.float32)


def everything(kernel, arrays, expected):
    """Run, reference, cost, source, and all of it again from the printed text."""
    for outputs in (kernel(*arrays), kernel.reference(*arrays)):
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        assert len(outputs) == len(expected)
        assert all(np.array_equal(a, e) for a, e in zip(outputs, expected, strict=True))
    assert kernel.verify() == []
    text = str(kernel.tile_ir)
    again = nkigen.parse(text)
    assert str(again) == text
    assert again.inputs == kernel.tile_ir.inputs and again.outputs == kernel.tile_ir.outputs
    assert again.cost().instruction_count == kernel.cost.instruction_count
    ast.parse(again.nki())
    ast.parse(kernel.nki())
    result = again.run(*arrays)
    result = result if isinstance(result, tuple) else (result,)
    assert all(np.array_equal(a, e) for a, e in zip(result, expected, strict=True))


def all_defined(source):
    """Every name that the source loads is one that it binds."""
    tree = ast.parse(source)
    bound = {"range", "float", "__file__"} | {a.arg for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for a in f.args.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= {(a.asname or a.name).split(".")[0] for a in node.names}
    loaded = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    assert loaded <= bound, loaded - bound


def test_many_outputs():
    kernel = nkigen.compile(lambda x: tuple(x + i for i in range(N)), X)
    everything(kernel, [X], [X + np.float32(i) for i in range(N)])


def test_many_inputs():
    names = [f"x{i}" for i in range(N)]
    lines = [f"    s = s + {n}" for n in names[1:]]
    scope = {}
    exec("\n".join([f"def f({', '.join(names)}):", "    s = x0", *lines, "    return s"]), scope)
    arrays = [np.full(4, i % 7, np.float32) for i in range(N)]
    kernel = nkigen.compile(scope["f"], *arrays)
    everything(kernel, arrays, [np.full(4, sum(i % 7 for i in range(N)), np.float32)])


@pytest.mark.parametrize("n", [2, 300])
def test_constants(n):
    many = [np.arange(4, dtype=np.float32) * (i + 1) for i in range(n)]

    def f(x):
        for a in many:
            x = np.maximum(x, a)
        return x

    kernel = nkigen.compile(f, X)
    everything(kernel, [X], [np.maximum.reduce([X, *many])])
    all_defined(kernel.nki())


def test_two_large_constants():
    a, b = (np.random.default_rng(i).random((600, 1024), np.float32) for i in range(2))
    kernel = nkigen.compile(lambda x: (x + a) * b, a)
    all_defined(kernel.nki())
    assert np.array_equal(kernel(a), (a + a) * b)
