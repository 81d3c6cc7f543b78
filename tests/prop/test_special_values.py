"""Every op on special values and their pairs: NumPy's result within the stated bound."""

from pathlib import Path

import numpy as np
import pytest

import nkigen
from nkigen import _core, accuracy
from nkigen.accuracy import BOUNDS, FLOATS, pairs, special_values

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
TARGETS = ("trn1", "trn2", "trn3")
STATED = [(n, d) for n in BOUNDS for d in FLOATS if accuracy.limit(n, d) is not None]


def check(name, dtype, **options):
    found = accuracy.measure(name, dtype, **options)
    assert found.ulp <= accuracy.limit(name, dtype), found


@pytest.mark.parametrize("name, dtype", STATED)
def test_bound(name, dtype):
    check(name, dtype, count=5000)


@pytest.mark.parametrize("target", ["trn1", "trn3"])
@pytest.mark.parametrize("name", BOUNDS)
def test_bound_on_other_targets(name, target):
    check(name, "f32", target=target, count=0)


def test_page_is_current():
    text = accuracy.page(count=0)
    assert accuracy.without_figures(text) == accuracy.without_figures(PAGE.read_text())


def test_every_ufunc_of_floats_is_stated():
    """Ops of the table that are ufuncs of floats, but for comparisons and logic."""
    rows = _core.op_table("tensor")
    found = {getattr(np, r["np"] or "", None) for r in rows}
    ufuncs = {f for f in found if isinstance(f, np.ufunc) and f.signature is None}
    ufuncs = {f for f in ufuncs if any("f" in loop for loop in f.types)}
    exact = {f for f in ufuncs if np.result_type(f(*[1.0] * f.nin)) == bool} | {
        np.positive
    }
    assert {f.__name__ for f in ufuncs - exact} - set(BOUNDS) == set()


COMPARE = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
LOGIC = ["logical_and", "logical_or", "logical_xor"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_comparisons(dtype, target):
    a, b = pairs(special_values(FLOATS[dtype]))

    def fn(a, b):
        results = [getattr(np, n)(a, b) for n in COMPARE + LOGIC]
        return (*results, np.logical_not(a), np.isnan(a))

    for got, want in zip(
        nkigen.compile(fn, a, b, target=target)(a, b), fn(a, b), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_where_and_extremes(dtype, target):
    a, b = pairs(special_values(FLOATS[dtype]))
    lo, hi = np.array([-1, 2], FLOATS[dtype])

    def fn(a, b):
        return (
            np.where(a < b, a, b),
            np.minimum(np.maximum(a, lo), hi),
            np.where(np.isnan(a), hi, a),
        )

    for got, want in zip(
        nkigen.compile(fn, a, b, target=target)(a, b), fn(a, b), strict=True
    ):
        np.testing.assert_array_equal(
            got.view(f"u{got.itemsize}"), want.view(f"u{want.itemsize}")
        )


INTEGERS = np.array(
    [
        0,
        1,
        -1,
        2,
        -2,
        3,
        -3,
        7,
        -7,
        10,
        100,
        255,
        256,
        257,
        -1000,
        46340,
        46341,
        65535,
        65536,
    ]
    + [
        8388607,
        16777215,
        16777217,
        -16777217,
        2**30,
        -(2**30),
        2**31 - 1,
        -(2**31),
        1 - 2**31,
    ],
    np.int32,
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", TARGETS)
def test_integers(target):
    a, b = pairs(INTEGERS)

    def fn(a, b):
        two = [
            "add",
            "subtract",
            "multiply",
            "floor_divide",
            "remainder",
            "maximum",
            "minimum",
        ]
        one = ["negative", "absolute", "sign", "square"]
        return (
            *(getattr(np, n)(a, b) for n in two + COMPARE + LOGIC),
            *(getattr(np, n)(a) for n in one),
        )

    defined = ~((a == -(2**31)) & (b == -1))  # NumPy's own result is undefined there
    for got, want in zip(
        nkigen.compile(fn, a, b, target=target)(a, b), fn(a, b), strict=True
    ):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got[defined], want[defined])


@pytest.mark.parametrize("target", TARGETS)
def test_bools(target):
    a, b = pairs(np.array([False, True]))

    def fn(a, b):
        results = [
            getattr(np, n)(a, b) for n in COMPARE + LOGIC + ["maximum", "minimum"]
        ]
        return (*results, ~a, a & b, a | b, a ^ b, np.where(a, b, ~b))

    for got, want in zip(
        nkigen.compile(fn, a, b, target=target)(a, b), fn(a, b), strict=True
    ):
        np.testing.assert_array_equal(got, want)


CONSTANTS = [
    3.0,
    0.1,
    1e-40,
    -1e-40,
    1e38,
    3.4e38,
    1.4e-45,
    2.0**100,
    2.0**-130,
    0.0,
    -0.0,
    np.inf,
    np.nan,
]


@pytest.mark.parametrize("c", CONSTANTS)
def test_division_by_a_constant(c):
    x = special_values(FLOATS["f32"])
    c = np.float32(c)
    bounds = {"divide": 2, "floor_divide": 2, "remainder": 0}
    for name, bound in bounds.items():
        fn = getattr(np, name)
        with np.errstate(all="ignore"):
            want = fn(x, c)
            keep = (
                BOUNDS[name].where(x, np.full_like(x, c))
                if BOUNDS[name].where
                else np.full(x.shape, True)
            )
        got = nkigen.compile(lambda x, fn=fn: fn(x, c), x, cache=False)(x)
        off = accuracy.ulps(got, want, BOUNDS[name])
        assert off[keep].max() <= bound, (name, x[keep][off[keep].argmax()])


@pytest.mark.parametrize("dtype", FLOATS)
def test_division_by_rows(dtype):
    values = special_values(FLOATS[dtype])
    rows = values[:, None]
    x = np.broadcast_to(values, (values.size, values.size)).copy()
    with np.errstate(all="ignore"):
        want = x / rows
    got = nkigen.compile(lambda x, r: x / r, x, rows, cache=False)(x, rows)
    off = accuracy.ulps(got.ravel(), want.ravel(), BOUNDS["divide"])
    assert off.max() <= accuracy.limit("divide", dtype)


def test_softmax_needs_no_scaling_of_its_divisor():
    def softmax(x):
        e = np.exp(x - np.max(x, axis=-1, keepdims=True))
        return e / np.sum(e, axis=-1, keepdims=True)

    plain = str(nkigen.compile(softmax, ((128, 64), "f32"), cache=False).tile_ir)
    other = str(
        nkigen.compile(
            lambda x: x / x.sum(-1, keepdims=True), ((128, 64), "f32")
        ).tile_ir
    )
    assert "less" not in plain and "less" in other


def test_silu_at_minus_infinity():
    x = np.array([-np.inf, np.inf, np.nan, -0.0], np.float32)
    spelled = nkigen.compile(lambda x: x / (1 + np.exp(-x)), x)(x)
    assert np.isnan(spelled[0]) and spelled[1] == np.inf and np.isnan(spelled[2])
    for fn in (nkigen.ops.silu, nkigen.ops.gelu, nkigen.ops.gelu_tanh):
        for y in (fn(x), nkigen.compile(fn, x)(x)):
            assert y[0] == 0 and np.signbit(y[0]) and y[1] == np.inf and np.isnan(y[2])
            assert y[3] == 0 and np.signbit(y[3])


def test_narrow_deg2rad_rounds_once():
    x = special_values(FLOATS["f16"])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(nkigen.compile(np.deg2rad, x)(x), np.deg2rad(x))


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_known_angles_are_cheap(name):
    """Below 2**16, by np.clip for instance, the reduction is short and as exact."""
    fn = getattr(np, name)
    x = accuracy._samples(FLOATS["f32"], 1, 5000)[0]
    x = np.concatenate([x, np.linspace(-6e4, 6e4, 20001, dtype=np.float32)])

    def clipped(x):
        return fn(np.clip(x, np.float32(-6e4), np.float32(6e4)))

    kernel = nkigen.compile(clipped, x, cache=False)
    whole = nkigen.compile(fn, x, cache=False)
    assert kernel.cost.time_us < whole.cost.time_us / 3
    with np.errstate(all="ignore"):
        want = clipped(x)
    off = accuracy.ulps(kernel(x), want, BOUNDS[name], x)
    off = off[np.abs(want) < 4096]
    assert off.max() <= BOUNDS[name].f32


def test_known_quotients_are_cheap():
    def count(fn):
        return nkigen.compile(fn, ((128, 64), "f32")).cost.instruction_count

    bounded = count(
        lambda x: np.clip(x, np.float32(-1e5), np.float32(1e5)) % np.float32(3)
    )
    assert bounded < count(lambda x: x % np.float32(3)) - 10
