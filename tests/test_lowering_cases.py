"""Programs that once were lowered wrongly, or not at all: name, function, shapes, dtype.

Each compiles for every target, breaks no rule, is its own text, and computes what NumPy
computes, with the plan that the compiler chose and with others forced on it.
"""

import re
import warnings

import ml_dtypes
import numpy as np
import pytest

import nkigen
from nkigen.testing import TOLERANCE

TARGETS = ("trn1", "trn2", "trn3")
I32 = np.int32


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def half_cast(a, b, c):
    t = (a * 2.0 + c.astype(np.float32)).astype(np.float16)
    return (t.astype(np.float32) - b) / np.sqrt(np.abs(b) + 1)


CASES = [
    # a maximum delivered with the other sign to a subtraction that reads it as a tile
    ("negated_tile", lambda x: np.exp(x - np.max(x, axis=-1, keepdims=True)), [(3, 5)], "f32"),
    ("negated_middle", lambda x: np.exp(x - np.max(x, axis=-1, keepdims=True)), [(2, 1, 128)], "f32"),
    ("negated_from_number", lambda x: 5 - np.max(x, axis=-1, keepdims=True), [(129, 7)], "f32"),
    # a chain that waits refers to a per-row operand that another op would overwrite
    ("waiting_operand", lambda a, b: (a - b) / np.sqrt(np.abs(b) + 1), [(), (3, 5)], "f32"),
    ("waiting_scalar", lambda a, b: (a - b) * np.exp(b), [(), ()], "f32"),
    ("waiting_rounding", half_cast, [(), (), ()], "f32 f32 i32"),
    # over the rows, with nothing left to reduce in a row
    ("extreme_of_all", lambda x: np.min(x, axis=(0, 1), keepdims=True), [(130, 33)], "i32"),
    ("sum_of_row", lambda x: np.sum(x, axis=(0, -2, -1), keepdims=True), [(1, 1, 70000)], "f32"),
    ("deviation_of_all", lambda x: np.std(x, axis=(0, 1)), [(3, 40000)], "f32"),
    # a value read by one group through two spans
    ("two_spans", lambda x: ((np.minimum(x, x).T >= x)[47], np.minimum(x, x).T), [(1, 300)], "f32"),
    ("with_its_transpose", lambda x: x + x.T, [(300, 300)], "f32"),
    ("two_outer_spans", lambda x: np.where(x > 0, np.max(x, axis=(0, 1), keepdims=True), np.float32(0)), [(5, 1, 24576)], "f32"),
    # slices along every dim of the result
    ("slice_both", lambda a, b, c: ((np.where(a > b, a, b) + c) * c)[2:127:3, 1:], [(128, 128), (128, 128), (128, 1)], "f32"),
    ("slice_rows_and_back", lambda x: x[0::2, 999::-1], [(1000, 1000)], "f32"),
    ("slice_of_many_rows", lambda x: x[2:, 1:], [(40000, 3)], "bool"),
    ("reversed", lambda x: x[::-1], [(60000,)], "f32"),
    ("reversed_result", lambda x: np.abs(x)[::-2] + 1, [(60000,)], "f32"),
    ("slice_moved", lambda x, y: np.transpose(x[1:3, :, 2:24574:2], (1, 0, 2)) + y, [(5, 1, 24576), ()], "f32"),
    ("slice_of_bool_rows", lambda x: np.logical_not(x)[:1241], [(24577, 3)], "bool"),
    ("repeated", lambda x: np.broadcast_to(x[:, None], (7, 2)).reshape(14), [(7,)], "f32"),
    # concatenations with no row short enough for a tile
    ("long_concat", lambda x, y: np.concatenate([x, y]), [(60000,), (50001,)], "f32"),
    ("long_concat_used", lambda x, y: np.concatenate([x + 1, y * 2, x]) * 2, [(60000,), (60001,)], "f32"),
    ("long_concat_rows", lambda x, y: np.concatenate([x, y], axis=1), [(3, 40000), (3, 40000)], "f32"),
    ("long_concat_nested", lambda x: np.concatenate([np.concatenate([x, x + 1]), x, np.sum(x, axis=0, keepdims=True)]), [(40000, 3)], "f32"),
    ("long_stack", lambda x, y: np.stack([x, y, x * y]), [(60000,), (60000,)], "f32"),
    ("long_stack_inner", lambda x, y: np.stack([x, y], axis=1), [(60000,), (60000,)], "i32"),
    # axes that no single reduction can take
    ("sum_two_runs", lambda x: np.sum(x, axis=(0, 2)), [(32, 300, 32, 40)], "f32"),
    ("sum_two_runs_long", lambda x: np.sum(x, axis=(0, 2), keepdims=True), [(64, 300, 64, 30)], "f32"),
    ("max_two_runs_long", lambda x: np.max(x, axis=(1, 3)), [(30, 300, 16, 60)], "f32"),
    ("sum_first_two", lambda x: np.sum(x, axis=(0, 1)), [(16, 16, 512)], "f32"),
    ("sum_middle", lambda x: np.sum(x, axis=1), [(100, 100, 100)], "f32"),
    # more dims than an access pattern has
    ("eight_dims", lambda x: np.transpose(x, (7, 5, 3, 1, 6, 4, 2, 0)) + 1, [(2, 3, 2, 3, 2, 3, 2, 3)], "f32"),
    ("seven_dims", lambda x: np.transpose(x, (5, 3, 1, 6, 4, 2, 0)).sum(axis=(0, 2, 4)), [(2, 3, 4, 5, 3, 2, 3)], "f32"),
    ("six_dims_sliced", lambda x: (np.transpose(x, (5, 3, 1, 4, 2, 0)) * 2)[:, ::2, :, ::2, :, ::-1], [(2, 3, 4, 5, 6, 7)], "f32"),
    ("mixed_broadcast", lambda x, y: x + y, [(5, 1, 7, 1, 6), (1, 6, 1, 8, 1)], "f32"),
    # rows longer than a partition
    ("softmax_one_row", softmax, [(1, 128256)], "f32"),
    ("softmax_four_rows", softmax, [(4, 60000)], "f32"),
    ("outer_product", lambda x, y: x[:, None] * y, [(30000,), (100,)], "f32"),
    ("long_contraction", lambda x, y: x @ y, [(3, 40000), (40000, 3)], "f32"),
    ("long_gram", lambda x: x @ x.T, [(3, 40000)], "f32"),
    ("batched_rows", lambda x, y: x @ y, [(8, 1, 1024), (1024, 300)], "f32"),
    ("batched_both", lambda x, y: (x @ y) * 0.1, [(6, 64, 200), (6, 200, 300)], "f32"),
    ("many_small_products", lambda x: x @ np.swapaxes(x, -1, -2), [(9000, 1, 3)], "f32"),
    ("many_smaller_products", lambda x: (x @ np.swapaxes(x, -1, -2)) * 0.5, [(2, 2000, 2, 3)], "f32"),
    # what is written is a parameter, a constant, a view, or the same twice
    ("parameter_twice", lambda x: (x, x, x.T), [(7, 129)], "f32"),
    ("result_twice", lambda x: (x + 1, x + 1, (x + 1)[::2]), [(129, 7)], "f32"),
    ("views", lambda x: (x[1:, None], np.broadcast_to(x, (3, 7, 5)), x.reshape(-1)), [(7, 5)], "i32"),
    ("constants", lambda x: (np.zeros_like(x), np.concatenate([x[:0], np.arange(6, dtype=np.float32)])), [(5,)], "f32"),
    # arrays without elements
    ("nothing", lambda x: x * 2 + 1, [(0, 5)], "f32"),
    ("nothing_of_something", lambda x: (x[:0] + 1, x[:, 2:2].T), [(7, 5)], "f32"),
    ("sum_of_nothing", lambda x: (np.sum(x, axis=0), np.sum(x)), [(0, 5)], "f32"),
    ("product_over_nothing", lambda x, y: x @ y + 1, [(3, 0), (0, 4)], "f32"),
    ("something_after_nothing", lambda x, y: np.concatenate([x, y + 1, x]), [(0, 5), (7, 5)], "bf16"),
    ("mean_of_nothing", lambda x: np.mean(x, axis=1), [(3, 0)], "f32"),
]  # fmt: skip

#: on integers of all sizes, exactly
WORDS = [
    ("less", lambda x, y: x < y),
    ("less_equal", lambda x, y: x <= y),
    ("greater", lambda x, y: x > y),
    ("greater_equal", lambda x, y: x >= y),
    ("equal", lambda x, y: x == y),
    ("not_equal", lambda x, y: x != y),
    ("maximum", lambda x, y: np.maximum(x, y)),
    ("minimum", lambda x, y: np.minimum(x, y)),
    ("clip", lambda x, y: np.clip(x, -5, 2**30)),
    ("relu", lambda x, y: np.maximum(x, 0)),
    ("abs", lambda x, y: np.abs(x)),
    ("where", lambda x, y: np.where(x > y, x, 7)),
    ("max_row", lambda x, y: np.max(x, axis=1)),
    ("min_column", lambda x, y: np.min(x, axis=0, keepdims=True)),
    ("max_all", lambda x, y: np.max(x)),
    ("broadcast", lambda x, y: x[:, :1] < y),
    ("shuffled", lambda x, y: np.concatenate([x.T, y.T], axis=1)[::-1, ::3]),
    ("remainder", lambda x, y: x % 7),
]


def as_tuple(x):
    return tuple(np.asarray(a) for a in (x if isinstance(x, tuple) else (x,)))


def arrays(shapes, dtypes):
    rng = np.random.default_rng(0)
    names = dtypes.split() * (1 if " " in dtypes else len(shapes))
    make = {"i32": lambda s: rng.integers(-9, 10, s), "bool": lambda s: rng.integers(0, 2, s)}
    of = [make.get(d, lambda s: rng.integers(-8, 9, s) / 4)(s) for s, d in zip(shapes, names)]
    kinds = {"f32": np.float32, "i32": I32, "bool": np.bool_, "bf16": ml_dtypes.bfloat16}
    return [np.asarray(a).astype(kinds[d]) for a, d in zip(of, names)]


def compare(actual, expected):
    for a, e in zip(as_tuple(actual), expected, strict=True):
        assert a.shape == e.shape
        if e.dtype.kind in "biu":
            assert np.array_equal(a, e)
            continue
        tol = TOLERANCE[a.dtype.name]
        a, e = a.astype(np.float64), e.astype(np.float64)
        assert np.array_equal(np.isnan(a), np.isnan(e))
        finite = np.isfinite(e)
        scale = np.abs(e[finite]).max(initial=0.0)
        assert np.abs(a - e)[finite].max(initial=0.0) <= tol.matmul * scale + tol.atol


def run(fn, xs, target, plan=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = nkigen.compile(fn, *xs, target=target, plan=plan, cache=False)
    assert kernel.verify() == []
    return kernel


def other_plans(plan):
    """The plan with the smallest decisions, and with single copies of larger tiles."""

    def decide(per_tile, **fixed):
        def line(m):
            values = {**fixed, "per_tile": max(1, min(int(m[2]) // 128, per_tile))}
            return re.sub(r"(\w+)=\d+", lambda k: f"{k[1]}={values[k[1]]}" if k[1] in values else k[0], m[0])

        return re.sub(r"group (\d+) rows=(\d+) .*", line, plan)

    yield decide(1, in_place=1, bufs=1, psum_width=512, psum_bufs=1, resident=0, panel=512)
    yield decide(3, in_place=0, bufs=2, psum_width=2048, psum_bufs=2, resident=16384, panel=2048)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("fn, shapes, dtype", [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_case(fn, shapes, dtype, target):
    xs = arrays(shapes, dtype)
    wide = [x.astype(np.float64) if x.dtype == np.float32 else x for x in xs]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = as_tuple(fn(*wide))
    kernel = run(fn, xs, target)
    for name, stage in kernel.stages.items():
        assert str(nkigen.parse(str(stage))) == str(stage), name
    compare(kernel(*xs), expected)
    for plan in other_plans(kernel.plan):
        try:
            other = run(fn, xs, target, plan)
        except nkigen.errors.HardwareLimitError:
            continue  # a forced plan may be too large
        compare(other(*xs), expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("fn", [pytest.param(f, id=n) for n, f in WORDS])
def test_words(fn, target):
    rng = np.random.default_rng(1)

    def words():
        any_word = rng.integers(-(2**31), 2**31, (130, 33))
        near = [any_word, 2**30 + rng.integers(-3, 3, any_word.shape), any_word >> 20 << 20]
        near.append(rng.integers(-3, 3, any_word.shape))
        return np.choose(rng.integers(0, 4, any_word.shape), near).astype(I32)

    x, y = words(), words()
    y[::3] = x[::3]
    kernel = run(fn, (x, y), target)
    compare(kernel(x, y), as_tuple(fn(x, y)))


def test_integer_products_are_exact():
    x = np.array([[3, -5, 46341], [2**31 - 1, 7, -(2**31)]], np.int32)
    assert np.array_equal(run(lambda x, y: x @ y, (x, x.T), "trn2")(x, x.T), x @ x.T)


def test_infinities_and_nans_flow():
    x = np.ones((129, 40), np.float32)
    x[3, 4], x[5, 6], x[7, 8] = np.inf, -np.inf, np.nan
    for fn in (softmax, lambda x: x.max(axis=0) - x.sum(axis=1)[:40], lambda x: np.maximum(x, 0)):
        with np.errstate(all="ignore"):
            expected = fn(x)
        np.testing.assert_allclose(run(fn, (x,), "trn2")(x), expected, rtol=1e-5)
