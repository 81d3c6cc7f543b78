"""Emitted NKI source: valid Python, and run by the NumPy model it computes what NumPy does."""

import ast
import keyword

import ml_dtypes
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


def test_constants_in_files(rng, tmp_path):
    """What is too large for the source lies beside it, whatever its dtype."""
    a, b = f32(rng, 300, 200), f32(rng, 300, 200)
    mask = a > 0
    eye = np.eye(300, dtype=np.float32)

    def constants(x):
        """Two large arrays, a bool one, an identity and a uniform one."""
        y = np.where(mask, (x + a) * b, x)
        return eye @ y + np.full((300, 200), 2, np.float32)

    x = f32(rng, 300, 200)
    kernel = nkigen.compile(constants, x)
    path = kernel.export(tmp_path / "new")
    assert path.name == "constants_nki.py"
    source = path.read_text()
    assert source == kernel.nki() and len(source) < 20000
    files = {p.name for p in path.parent.iterdir()}
    assert files == {"constants_nki.py"} | {
        f"constants_{n}.npy" for n, c in kernel.constants.items() if f"_{n}.npy" in source
    }
    assert len(files) == 4 and "np.eye(300" in source
    (got,) = nki_model.run(source, x, file=path)
    testing.assert_close(got, constants(x), rtol=2e-5)


def test_narrow_constants_in_files(rng, tmp_path):
    """.npy has no bf16: its bytes are stored."""
    half = f32(rng, 300, 200).astype(ml_dtypes.bfloat16)
    kernel = nkigen.compile(lambda x: x + half, half)
    path = kernel.export(tmp_path)
    (got,) = nki_model.run(path.read_text(), half, file=path)
    np.testing.assert_array_equal(got, half + half)


def test_small_constants_stay_in_the_source(rng):
    """No files: 16 KiB are still text."""
    small = f32(rng, 64, 64)
    source = check(lambda x: x + small, f32(rng, 64, 64))
    assert "base64" in source and ".npy" not in source


def test_words_of_the_user(rng):
    """Names from variables, and each line of the user above what it becomes."""

    def named(x, weight):
        centred = x - x.mean(axis=-1, keepdims=True)
        hidden = centred @ weight
        return np.tanh(hidden)

    source = check(named, f32(rng, 100, 128), f32(rng, 128, 64), matmul=True)
    for name in ("x_tile", "weight_tile", "centred_tile", "hidden_psum"):
        assert f"{name} = nl.ndarray" in source
    assert "hidden = centred @ weight\n" in source
    loops = nkigen.compile(named, ((100, 128), "f32"), ((128, 64), "f32"), optimize="fast").nki()
    assert "hidden = centred @ weight\n" in loops.split("# test_emit_nki.py:")[2]


def test_bools_are_bools(rng):
    """Parameters and results of bool are nl.bool_; instructions see their bytes."""
    mask = f32(rng, 40, 30) > 0
    source = check(lambda m, x: (np.logical_not(m), np.where(m, x, -x)), mask, f32(rng, 40, 30))
    assert "dtype=nl.bool_, buffer=nl.shared_hbm" in source and ".view(nl.uint8)" in source


def test_copies_become_loops(rng):
    """Code per bank and block is a loop where that saves ops: scores have two banks, their transposes 16 blocks."""
    w = workloads.get("attention_head")
    source = nkigen.compile(w.fn, *w.inputs("bf16", shapes=w.shapes), optimize="fast").nki()
    assert source.count("nisa.nc_matmul(") <= 3 and source.count("nisa.nc_transpose(") <= 1


def test_results_without_elements(rng):
    """They cannot be declared, so they are not returned, and the docstring says so."""
    x = f32(rng, 8, 8)
    source = nkigen.compile(lambda x: (x[:0], x * 2), x).nki()
    assert "not returned, no elements: out0: (0, 8)" in source and "return out1\n" in source
    (got,) = nki_model.run(source, x)
    np.testing.assert_array_equal(got, x * 2)
    with pytest.raises(nkigen.UnsupportedError, match="no result of this kernel has elements"):
        nkigen.compile(lambda x: x[:0], x).nki()


def test_many_dims_are_merged(rng):
    """Tensors have at most five dims: the leading ones become one."""
    x = f32(rng, 2, 3, 2, 2, 3, 4, 5)
    source = check(lambda x: x.transpose(0, 1, 2, 3, 4, 6, 5) + 1, x)
    assert "x: (24, 3, 4, 5) float32" not in source and "reshaped from (2, 3, 2, 2, 3, 4, 5)" in source


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
    memset %q[0+33, 29 - 4*%i: 3*1] {imm0=0.5}
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


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_transposes_keep_their_dtype(rng, dtype, target):
    """On every generation a 16-bit tile is transposed through a 16-bit PSUM tile."""
    a, b = f32(rng, 130, 200).astype(dtype), f32(rng, 200, 70).astype(dtype)
    source = check(lambda a, b: (a + a) @ b, a, b, target=target, matmul=True)
    assert "nisa.nc_transpose(" in source
