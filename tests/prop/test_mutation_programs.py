"""Random programs that write: in place, to parts, through views, into buffers, across casts.

Plain NumPy is the model, for what is returned and for what becomes of the arguments.
"""

import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import nkigen

f = np.float32
KEYS = ["[1:]", "[:-1]", "[::2]", "[1::2]", "[::-1]", "[0]", "[-1]", "[..., 1:]", "[..., ::-2]", "[..., 0]", "[None]", "[...]"]
VIEWS = [".T", ".reshape(-1)", ".ravel()", ".swapaxes(0, -1)", ".squeeze()", ".reshape(2, -1)", ".real", ".flatten()"]
VIEWS += [".copy()", ".astype(np.float32)", ".astype(np.float32, copy=False)", "[::-1]", "[1:]", ".T[:2]", "[..., None]"]
INPLACE = ["+= 1", "*= 2", "-= {x}", "+= {x}", "*= {x}", "//= 2", "+= {x}.sum()", "-= {x}[..., :1]"]
MAKERS = ["{x} * 1", "np.zeros((4, 6), np.float32)", "np.ones_like({x})", "{x} + {y}", "np.full((6,), 3, np.float32)"]
MAKERS += ["np.zeros(({x}.shape[0],), np.float32) + 1", "{x}.astype(np.int32)", "np.maximum({x}, {y}.T)", "{x}", "{x}.T * 1"]
MAKERS += ["np.concatenate([{x}, {y}])", "{x}.sum(0)", "np.array({x})", "np.broadcast_to({x}, (2,) + {x}.shape) + 0"]


@st.composite
def programs(draw):
    """Source of a function of a (4, 6) and a (6,); lines that NumPy refuses are skipped."""
    names, lines = ["a", "b"], []
    for i in range(draw(st.integers(2, 9))):
        x, y = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        kind = draw(st.integers(0, 6))
        if kind == 0:
            lines.append(f"v{i} = " + draw(st.sampled_from(MAKERS)).format(x=x, y=y))
            names.append(f"v{i}")
        elif kind <= 2:
            lines.append(f"v{i} = {x}" + draw(st.sampled_from(VIEWS + KEYS)))
            names.append(f"v{i}")
        elif kind == 3:
            lines.append(f"{x} " + draw(st.sampled_from(INPLACE)).format(x=y))
        elif kind == 4:
            lines.append(f"{x}{draw(st.sampled_from(KEYS))} " + draw(st.sampled_from(INPLACE)).format(x=y))
        elif kind == 5:
            key = draw(st.sampled_from(KEYS))
            value = draw(st.sampled_from(["{y}", "{y}{k}", "{y}{k} * 2", "7", "{y}[0]", "{y}.T", "{y}[::-1]"]))
            lines.append(f"{x}{key} = " + value.format(y=y, k=key))
        else:
            lines.append(f"for r{i} in {x}:\n    r{i} += {y}[0]")
    return lines, draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))


def sane(value):
    """Small enough that f32 and i32 are exact, and an array that a kernel may return."""
    return isinstance(value, np.ndarray) and value.size and np.abs(value.astype(np.float64)).max() < 2**20


def accepted(lines, names, arrays):
    """The lines that plain NumPy takes one after the other, with values that stay exact."""
    kept = []
    for line in lines:
        scope = run_lines([*kept, line], arrays)
        if scope is not None and all(sane(v) for k, v in scope.items() if k[0] in "abv" and k != "np"):
            kept.append(line)
    scope = run_lines(kept, arrays)
    return kept, [n for n in names if n in scope] or ["a"]


def run_lines(lines, arrays):
    scope = {"np": np, **{k: v.copy() for k, v in arrays.items()}}
    try:
        exec("\n".join(lines), scope)  # noqa: S102
    except (ValueError, TypeError, IndexError, NameError, AttributeError):
        return None
    scope.pop("__builtins__")
    return scope


def function(lines, names):
    body = "\n    ".join("\n".join([*lines, f"return {', '.join(names)},"]).splitlines())
    scope = {"np": np}
    exec(f"def kernel(a, b):\n    {body}\n", scope)  # noqa: S102
    return scope["kernel"], body


def inputs():
    return {"a": np.arange(24, dtype=f).reshape(4, 6) - 7, "b": np.arange(6, dtype=f) * 3 - 5}


def check(program, target, stages):
    arrays = inputs()
    lines, names = accepted(*program, arrays)
    fn, source = function(lines, names)
    note(source)
    after = {k: v.copy() for k, v in arrays.items()}
    expected = fn(*after.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = nkigen.compile(fn, *arrays.values(), target=target, cache=False)
    assert kernel.verify() == []
    runs = [kernel.reference, kernel]
    if stages:
        runs += [lambda *a, n=n: kernel.run_stage(n, *a) for n, p in kernel.stages.items() if p.kind != "plan"]
    for run in runs:
        given_arrays = {k: v.copy() for k, v in arrays.items()}
        for got, want in zip(run(*given_arrays.values()), expected, strict=True):
            assert got.shape == want.shape
            assert np.array_equal(got, want), source
        for k, v in given_arrays.items():
            assert np.array_equal(v, after[k]), f"{k} after\n{source}"


@settings(max_examples=60)
@given(programs(), st.sampled_from(["trn1", "trn2", "trn3"]), st.booleans())
def test_mutation_programs(program, target, stages):
    check(program, target, stages)


STRIDED = ["{x} + {y}", "np.sqrt({x})", "np.where({x} > 0, {x}, {y})", "{x}.sum(-1)", "{x}.sum(0, keepdims=True)"]
STRIDED += ["np.concatenate([{x}, {x}])", "np.stack([{x}, {x}], 1)", "np.concatenate([{x}, {x}], -1)"]
STRIDED += ["np.copy({x})", "{x}.copy()", "{x}.astype(np.float16)", "np.zeros_like({x})", "-{x}", "{x}[None] * {y}"]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(VIEWS + KEYS), st.sampled_from([*STRIDED, ""])), min_size=1, max_size=4))
def test_strides(steps):
    """The memory layout that decides on views is NumPy's."""

    def layouts(a):
        out, x, y = [], a, a
        for view, make in steps:
            try:
                x, y = eval("x" + view), x  # noqa: S307
                if not np.ndim(x):
                    break
                x = eval(make.format(x="x", y="y")) if make else x  # noqa: S307
            except (ValueError, IndexError):
                continue
            if not np.ndim(x):
                break
            out.append([s for s, d in zip(x.strides, x.shape, strict=True) if d > 1 and x.size])
        seen.append(out)
        return a * 1

    note(str(steps))
    seen = []
    with np.errstate(all="ignore"):
        layouts(inputs()["a"])
    nkigen.trace(layouts).graph(inputs()["a"])
    assert seen[0] == seen[1]


@pytest.mark.filterwarnings("ignore")
def test_narrow_floats_in_place():
    """In place, the left dtype stays and each step rounds to it."""

    def kernel(x, y):
        h = x.astype(ml_dtypes.bfloat16)
        h += y
        h[1:] *= h[:-1]
        g = np.zeros(x.shape, ml_dtypes.bfloat16)
        g[...] = x * y
        return h, g

    x, y = np.linspace(0.1, 1, 24, dtype=f).reshape(4, 6), np.linspace(1, 2, 24, dtype=f).reshape(4, 6)
    k = nkigen.compile(kernel, x, y, cache=False)
    for run in (k.reference, k):
        for got, want in zip(run(x, y), kernel(x, y), strict=True):
            assert got.dtype == want.dtype
            assert np.array_equal(got, want)
