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
    assert max(map(len, source.splitlines())) <= 100
    actual = nki_model.run(source, *arrays)
    expected = fn(*map(wider, arrays))
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        want = np.asarray(want)
        if want.dtype == np.bool_:
            got = got.astype(np.bool_)
        testing.assert_close(got.reshape(want.shape), want, matmul=matmul)
    return source


def wider(a):
    """Floats in float64, so that the expected value has no rounding of its own."""
    return a if a.dtype.kind in "iub" else a.astype(np.float64)


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


@pytest.mark.parametrize("name", sorted(workloads.WORKLOADS))
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_workloads(name, dtype):
    w = workloads.get(name)
    for shapes in {w.small[0], w.small[-1]}:
        check(w.fn, *w.inputs(dtype, shapes=shapes), matmul=True)


PROGRAM = """tile @by_hand trn2 {
  %x = buffer {kind=input, index=0} : hbm f32[4, 33, 8]
  %y = buffer {kind=output, index=0} : hbm f32[33, 8, 4]
  %z = buffer {kind=output, index=1} : hbm i32[33]
  %t = buffer : sbuf f32[33, 4, 8]
  %v = buffer : sbuf f32[33, 1]
  %n = buffer : sbuf i32[33, 4]
  %q = buffer : sbuf f32[33, 32]
  dma_copy %t[0+33, 0: 4*8, 8*1], %x[0: 33*8, 4*264, 8*1]
  tensor_reduce %v[0+33, 0: 1*1], %t[0+33, 0: 4*8, 8*1] {naxes=2, negate=true, op=maximum}
  tensor_tensor %q[0+33, 0: 32*1], %t[0+33, 0: 8*1, 4*8], %v[0+33, 0: 32*0] {op=add}
  iota %n[0+33, 0: 4*1] {channel_multiplier=3, offset=1, pattern=[2, 4]}
  tensor_scalar %n[0+33, 0: 4*1], %n[0+33, 0: 4*1], _, _ {imm0=7.0, op0=bitwise_and}
  affine_select %q[0+33, 0: 32*1], %q[0+33, 0: 32*1] {channel_multiplier=-1, imm0=-inf, offset=0, op=greater_equal, pattern=[1, 32]}
  %i = loop {count=2}
    memset %q[0+33, 31 - 4*%i: 3*-1] {imm0=0.5}
  end
  dma_copy %y[0: 33*32, 32*1], %q[0+33, 0: 32*1]
  dma_copy %z[0: 33*1], %n[0+33, 2: 1*1]
  return %y, %z
}
"""


def test_patterns_that_are_no_slices(rng):
    x = f32(rng, 4, 33, 8)
    y, z = nki_model.run(nkigen.parse(PROGRAM).nki(), x)
    t = x.transpose(1, 0, 2)
    q = (t.transpose(0, 2, 1) - t.max((1, 2))[:, None, None]).reshape(33, 32)
    q = np.where(np.arange(32) >= np.arange(33)[:, None], q, -np.inf)
    q[:, [31, 30, 29, 27, 26, 25]] = 0.5
    np.testing.assert_array_equal(y.reshape(33, 32), q.astype(np.float32))
    np.testing.assert_array_equal(z, (3 * np.arange(33) + 5) & 7)


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
