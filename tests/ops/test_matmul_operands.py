"""Matmul operands in every form: constants, views and computed values, narrow dtypes.

Each form goes with each dtype on either side, over sizes around the tile's; every case
is compared with NumPy in the reference and in the simulator. `NKIGEN_SWEEP=N` runs N
more cases drawn at random.
"""

import itertools
import os
import warnings

import ml_dtypes
import numpy as np
import pytest

import nkigen

TARGETS = ("trn1", "trn2", "trn3")
DTYPES = {
    "f32": np.float32,
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
    "fp8": ml_dtypes.float8_e4m3,
}
SIZES = (1, 7, 127, 128, 129, 300)
BATCHES = (
    ((), ()),
    ((3,), (3,)),
    ((2,), ()),
    ((), (2,)),
    ((2, 1), (1, 3)),
)


def array(shape, dtype, seed=0):
    """Small multiples of 1/8: exact in every dtype, as are their products in f32."""
    n = int(np.prod(shape))
    return (((np.arange(n) * 7 + seed) % 17 - 8) / 8).astype(dtype).reshape(shape)


def halves(s, axis, dtype, seed):
    h = s[axis] // 2
    first, second = list(s), list(s)
    first[axis], second[axis] = h, s[axis] - h
    return [array(first, dtype, seed), array(second, dtype, seed + 1)]


def _constant(s, dtype, seed):
    c = array(s, dtype, seed)
    return [], lambda: c


def _grown(s, rows, cols):
    return (*s[:-2], s[-2] + rows, s[-1] + cols)


def _turned(s):
    return (*s[:-2], s[-1], s[-2])


#: name -> (shape, dtype, seed) -> (parameters, operand of that shape made from them)
FORMS = {
    "plain": lambda s, d, k: ([array(s, d, k)], lambda x: x),
    "full": lambda s, d, k: ([], lambda: np.full(s, 2, d)),
    "constant": _constant,
    "broadcast_rows": lambda s, d, k: (
        [array((*s[:-2], 1, s[-1]), d, k)],
        lambda x: np.broadcast_to(x, s),
    ),
    "broadcast_columns": lambda s, d, k: (
        [array((*s[:-1], 1), d, k)],
        lambda x: np.broadcast_to(x, s),
    ),
    "broadcast_batch": lambda s, d, k: (
        [array(s[-2:], d, k)],
        lambda x: np.broadcast_to(x, s),
    ),
    "broadcast_vector": lambda s, d, k: (
        [array(s[-1:], d, k)],
        lambda x: np.broadcast_to(x, s),
    ),
    "slice": lambda s, d, k: (
        [array(_grown(s, 3, 2), d, k)],
        lambda x: x[..., 2 : s[-2] + 2, 1 : s[-1] + 1],
    ),
    "strided": lambda s, d, k: (
        [array((*s[:-2], s[-2] * 2, s[-1] * 3), d, k)],
        lambda x: x[..., ::2, 1::3],
    ),
    "reversed_rows": lambda s, d, k: ([array(s, d, k)], lambda x: x[..., ::-1, :]),
    "reversed_columns": lambda s, d, k: ([array(s, d, k)], lambda x: x[..., ::-1]),
    "transposed": lambda s, d, k: (
        [array(_turned(s), d, k)],
        lambda x: np.swapaxes(x, -1, -2),
    ),
    "transposed_reversed": lambda s, d, k: (
        [array(_turned(s), d, k)],
        lambda x: np.swapaxes(x, -1, -2)[..., ::-1, ::-1],
    ),
    "reshaped": lambda s, d, k: (
        [array((int(np.prod(s)),), d, k)],
        lambda x: x.reshape(s),
    ),
    "concat_rows": lambda s, d, k: (
        halves(s, -2, d, k),
        lambda x, y: np.concatenate([x, y], -2),
    ),
    "concat_columns": lambda s, d, k: (
        halves(s, -1, d, k),
        lambda x, y: np.concatenate([x, y], -1),
    ),
    "computed": lambda s, d, k: ([array(s, d, k)], lambda x: np.maximum(x, -x)),
    "computed_transposed": lambda s, d, k: (
        [array(_turned(s), d, k)],
        lambda x: np.swapaxes(np.maximum(x, -x), -1, -2),
    ),
    "computed_broadcast": lambda s, d, k: (
        [array((*s[:-1], 1), d, k)],
        lambda x: np.maximum(np.full(s, 0.5, d), x),
    ),
}


def check(left, right, dtype, sizes, batches, target):
    m, k, n = sizes
    a, make_a = FORMS[left]((*batches[0], m, k), DTYPES[dtype], 1)
    b, make_b = FORMS[right]((*batches[1], k, n), DTYPES[dtype], 5)
    extra = [] if a or b else [np.zeros((), np.float32)]  # a kernel has a parameter

    def f(*x):
        product = make_a(*x[: len(a)]) @ make_b(*x[len(a) : len(a) + len(b)])
        return product + x[-1] if extra else product

    arrays = a + b + extra
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = nkigen.compile(f, *arrays, target=target, cache=False)
    assert kernel.verify() == []
    want = np.asarray(f(*arrays)).astype(np.float64)
    limit = (2e-3 if dtype == "f16" else 2e-6) * np.abs(want).max(initial=1e-3)
    for run in (kernel, kernel.reference):
        got = np.asarray(run(*arrays)).astype(np.float64)
        assert got.shape == want.shape
        assert np.abs(got - want).max(initial=0) <= limit


def cases():
    """Every form with every dtype on either side, the rest drawn at random."""
    rng = np.random.default_rng(0)
    for form, dtype, side in itertools.product(FORMS, DTYPES, (0, 1)):
        other = str(rng.choice([*FORMS]))
        forms = (form, other) if side == 0 else (other, form)
        yield (*forms, dtype, *draw(rng))


def draw(rng):
    """Sizes, batch dims and target."""
    sizes = tuple(int(n) for n in rng.choice(SIZES, 3))
    while np.prod(sizes) > 5e6:  # NumPy takes its time for f16
        sizes = tuple(int(n) for n in rng.choice(SIZES, 3))
    batches = BATCHES[rng.choice(len(BATCHES), p=[0.5, 0.2, 0.1, 0.1, 0.1])]
    return sizes, batches, str(rng.choice(TARGETS))


@pytest.mark.parametrize("left, right, dtype, sizes, batches, target", [*cases()])
def test_form(left, right, dtype, sizes, batches, target):
    check(left, right, dtype, sizes, batches, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("form", ["broadcast_rows", "full", "reversed_columns"])
def test_short_contraction(form, dtype, target):
    """Rows of few elements are kept in f32 on chip and come to the engine as 16 bit."""
    for sizes in ((4, 2, 5), (129, 7, 3)):
        check(form, "plain", dtype, sizes, ((3,), ()), target)
        check("plain", form, dtype, sizes, ((3,), (3,)), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", ["plain", "transposed", "strided", "constant"])
def test_long_contraction(form, target):
    check(form, "plain", "bf16", (3, 17000, 2), ((), ()), target)
    check("plain", form, "bf16", (2, 17000, 3), ((), ()), target)


def test_sweep():
    """As many random cases as NKIGEN_SWEEP says; none by default beyond a handful."""
    rng = np.random.default_rng(1)
    for _ in range(int(os.environ.get("NKIGEN_SWEEP", "20"))):
        left, right = rng.choice([*FORMS], 2)
        dtype = str(rng.choice([*DTYPES]))
        check(str(left), str(right), dtype, *draw(rng))
