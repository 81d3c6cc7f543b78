"""Emitted NKI source: valid Python, and run by the NumPy model it computes what NumPy does."""

import ast
import keyword

import numpy as np
import pytest

import nki_model
import nkigen
from nkigen import testing, workloads

TARGETS = ("trn1", "trn2", "trn3")


def check(fn, *arrays, target="trn2", matmul=False):
    """Compile, emit, run the source, compare; returns the source."""
    kernel = nkigen.compile(fn, *arrays, target=target)
    source = kernel.nki()
    ast.parse(source)
    actual = nki_model.run(source, *arrays)
    expected = fn(*arrays)
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        want = np.asarray(want)
        if want.dtype == np.bool_:
            got = got.astype(np.bool_)
        testing.assert_close(got.reshape(want.shape), want, matmul=matmul, rtol=rtol(want, matmul))
    return source


def rtol(want, matmul):
    """The model rounds intermediates as the program says, which NumPy's bf16 does not."""
    row = testing.tolerance(want.dtype)
    return None if row is None else (row.matmul if matmul else row.rtol)


def chain(a, b):
    """An element-wise chain."""
    return (np.exp(a) * np.tanh(b) + a - b) / np.exp(a)


def softmax(x):
    """Softmax of the last axis."""
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def f32(rng, *shape):
    """Standard normal float32."""
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(256, 512), (7, 130), (1, 1000), (300, 8)])
def test_chain(rng, shape, target):
    check(chain, f32(rng, *shape), f32(rng, *shape), target=target)


@pytest.mark.parametrize("shape", [(256, 512), (130, 33)])
def test_softmax(rng, shape):
    check(softmax, f32(rng, *shape))


@pytest.mark.parametrize("m,k,n", [(128, 256, 512), (130, 200, 600), (7, 128, 64), (1, 300, 5)])
@pytest.mark.parametrize("target", TARGETS)
def test_matmul(rng, m, k, n, target):
    check(lambda a, b: a @ b, f32(rng, m, k), f32(rng, k, n), target=target, matmul=True)


def test_transpose(rng):
    check(np.transpose, f32(rng, 200, 136))


def test_layout(rng):
    def split_and_join(x):
        return np.concatenate([x[:, 5:], x[:, :5]], axis=1), x.reshape(-1)[::2], x[None, 3]

    check(split_and_join, f32(rng, 40, 24))


def test_reductions(rng):
    def sums(x):
        return x.sum(axis=0), x.max(axis=1), x.mean()

    check(sums, f32(rng, 200, 70))


def test_where_and_integers(rng):
    def select(x, n):
        return np.where(x > 0, x, -1.5 * x), n + n * 3, x > n

    check(select, f32(rng, 60, 40), rng.integers(-50, 50, (60, 40)).astype(np.int32))


def test_constants(rng):
    mask = rng.standard_normal((30, 40)).astype(np.float32)
    source = check(lambda x: x * mask + np.float32(2), f32(rng, 30, 40))
    assert "shared_constant" in source


def test_infinity(rng):
    source = check(lambda x: np.minimum(x, np.float32(np.inf)), f32(rng, 8, 8))
    ast.parse(source)


WORKLOADS = ("chain", "softmax", "rmsnorm", "layernorm", "colsum", "swiglu", "rope", "attention")


@pytest.mark.parametrize("name", [n for n in WORKLOADS if n in workloads.WORKLOADS])
@pytest.mark.parametrize("small", [0, -1])
def test_workloads(name, small):
    w = workloads.get(name)
    check(w.fn, *w.inputs("f32", shapes=w.small[small]), matmul=True)


def test_names_are_kept_and_safe(rng):
    def lambda_(nl, range, i, x1):  # noqa: A002
        return nl + range + i + x1

    source = check(lambda_, *(f32(rng, 130, 4) for _ in range(4)))
    tree = ast.parse(source)
    (fn,) = (n for n in tree.body if isinstance(n, ast.FunctionDef))
    names = [a.arg for a in fn.args.args]
    assert len(set(names)) == 4 and names[2:] == ["i", "x1"]
    assert not {"nl", "nki", "nisa", "range"} & set(names)
    assert not any(keyword.iskeyword(n) for n in names)


def test_source_is_deterministic_and_narrow(rng):
    x = f32(rng, 300, 700)
    one, two = (nkigen.compile(softmax, x, cache=False).nki() for _ in range(2))
    assert one == two
    assert max(map(len, one.splitlines())) <= 100
