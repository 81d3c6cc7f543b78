"""Every result is rounded to its dtype before anybody reads it: bit for bit as in NumPy.

Compared exactly: conversions, sums, differences, products, comparisons, extremes,
selections and layout changes are specified to the last bit in every dtype.
"""

import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import nkigen

TARGETS = ("trn1", "trn2", "trn3")
bf, f, h = ml_dtypes.bfloat16, np.float32, np.float16
SCOPE = {
    "np": np, "f32": f, "f16": h, "bf16": bf, "i32": np.int32, "bool_": np.bool_,
    "e4m3": ml_dtypes.float8_e4m3, "e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
NARROW = ["bf16", "f16", "e4m3", "e5m2"]
FLOATS = ["f32", *NARROW]
SPECIAL = [
    0.0, -0.0, 1.0, -1.0, 1e-40, -1e-45, 6e-8, 1.06, 3.1415927, 1.00390625, 257.0, 2049.0,
    0.1, -0.3, 448.0, 240.5, 65504.0, 65519.0, 65520.0, 70000.0, 1e38, -3e38, 3.4e38,
    np.inf, -np.inf, np.nan,
]  # fmt: skip
SPECIAL_INT = [0, 1, -1, 255, 257, -257, 2049, 65504, 65519, 65520, 2**24 + 1, 2**31 - 1, -(2**31)]


def quiet(fn, *arrays):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return fn(*arrays)


def bits(a, zeros=2):
    """Bytes that are equal where the values are: one NaN, and two zeros or one."""
    a = np.array(a)
    if a.dtype.kind not in "biu":
        a[np.isnan(a.astype(f))] = np.nan
        if zeros == 1:
            a[a == 0] = 0
    return a.view(f"u{a.dtype.itemsize}") if a.dtype != bool else a


def same(fn, *arrays, target="trn2"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        k = nkigen.compile(nkigen.trace(fn), *arrays, target=target, cache=False)
    assert k.verify() == []
    want = np.asarray(quiet(fn, *arrays))
    for what, got in (("reference", quiet(k.reference, *arrays)), ("device", k(*arrays))):
        assert got.dtype == want.dtype, what
        differ = bits(got) != bits(want)
        where = np.argwhere(differ)[:4].tolist()
        assert not differ.any(), f"{what} at {where}: {got[differ][:4]} is not {want[differ][:4]}"
    return k


def column(values, dtype=f):
    """The values as [P, 1], where they may be per-row operands."""
    return np.asarray(values, dtype).reshape(-1, 1)


def grid(dtype=f, shape=(130, 40), seed=0):
    """Random numbers of all sizes, among them the special ones."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)
    n = min(a.size, len(SPECIAL))
    a.reshape(-1)[rng.permutation(a.size)[:n]] = SPECIAL[:n]
    with np.errstate(all="ignore"):
        return a.astype(f).astype(dtype)


# ---- each way a rounding once got lost ----

ONE = {
    "f32 bf16 f32": (lambda x: x.astype(bf).astype(f), f),
    "f16 overflows": (lambda x: x.astype(h).astype(f), f),
    "fp8": (lambda x: x.astype(ml_dtypes.float8_e4m3).astype(f), f),
    "what rounding leaves": (lambda x: x - x.astype(bf), f),
    "bf16 square": (lambda x: (x * x).astype(f), bf),
    "sum overflows": (lambda x: (x + x) - x, h),
    "product then sum": (lambda x: x * h(1.1) + h(0.3), h),
    "three steps": (lambda x: (x * h(1.1) + h(0.3)) * h(2.7), h),
    "negated": (lambda x: (-(x * bf(1.1))).astype(f), bf),
    "of a selection": (lambda x: np.where(x > 0, x * x, x + x).astype(f), bf),
    "of an extreme": (lambda x: np.maximum(x * x, x + x).astype(f), bf),
    "of a part": (lambda x: (x * x)[..., :1].astype(f) - f(1), bf),
    "of a join": (lambda x: np.concatenate([x * x, x], axis=-1).astype(f), bf),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ONE)
def test_one_value(name, target):
    fn, dtype = ONE[name]
    for shape in [(130, 40), (26, 1), (300, 3), (40,)]:
        same(fn, grid(dtype, shape), target=target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [bf, h])
def test_a_value_per_row_is_rounded(dtype, target):
    """[P, 1] operands must be f32 on the device; the values are those of the dtype."""
    x, s = grid(dtype), grid(dtype, (130, 1), seed=1)
    same(lambda x, s: x - s * s, x, s, target=target)
    same(lambda x, s: (x - s * s) * (s + s), x, s, target=target)
    same(lambda x, s: x.astype(f) * (s * s).astype(f), x, s, target=target)
    same(lambda x, s: np.where(x > s, x, s * s), x, s, target=target)
    same(lambda x, s: (x + s * s, (s * s).astype(f))[1] + x.astype(f), x, s, target=target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [bf, h])
def test_a_value_for_all_rows_is_rounded(dtype, target):
    x, w = grid(dtype), grid(dtype, (40,), seed=1)
    same(lambda x, w: x - w * w, x, w, target=target)
    same(lambda x, w: x * (w[:1] * w[:1]) + w, x, w, target=target)
    same(lambda x, w: x.astype(f) * (w[:1] * w[:1]).astype(f), x, w, target=target)


def test_integers_round_on_their_way():
    same(lambda x: x.astype(bf).astype(np.int32), column([257, -257, 3, 1000], np.int32))
    same(lambda x: x.astype(h).astype(f), column(SPECIAL_INT, np.int32))
    same(lambda x: x.astype(bf).astype(f), column(SPECIAL_INT, np.int32))
    n = 2**25 + 2**17 + 1  # a tie once it is f32
    same(lambda x: np.full((1, 1), n, np.int32).astype(bf) + x, column([0], bf))


@pytest.mark.parametrize("target", TARGETS)
def test_activations_read_rounded_values(target):
    """exp is not exact, but on equal operands it is equal."""
    x, s = grid(bf), grid(bf, (130, 1), seed=1)
    x = np.clip(np.nan_to_num(x.astype(f)), -9, 9).astype(bf)
    s = np.clip(np.nan_to_num(s.astype(f)), -9, 9).astype(bf)
    for fn in (lambda x, s: x - s, lambda x, s: x * s, lambda x, s: x * bf(0.7) + s, lambda x, s: bf(1.1) - x):
        arg = fn(x, s)
        got = nkigen.compile(lambda x, s, fn=fn: np.exp(fn(x, s)), x, s, target=target)(x, s)
        want = nkigen.compile(np.exp, arg, target=target)(arg)
        assert np.array_equal(bits(got), bits(want))


def one_by_one(steps, x, compiled):
    """The values of `steps`, each from those before it; each compiled alone if `compiled`."""
    values = [x]
    for step in steps:
        values.append(nkigen.compile(step, *values)(*values) if compiled else step(*values))
    return values[-1]


COMPOSED = {
    "sigmoid": lambda t: [lambda x: np.exp(-x), lambda x, e: e + t(1), lambda x, e, s: t(1) / s],
    "silu": lambda t: [lambda x: np.exp(-x), lambda x, e: e + t(1), lambda x, e, s: x / s],
    "rsqrt": lambda t: [lambda x: np.sqrt(x * x + t(1)), lambda x, r: t(1) / r],
    "gelu": lambda t: [
        lambda x: x * x * x,
        lambda x, c: x + t(0.044715) * c,
        lambda x, c, u: np.tanh(t(0.79788456) * u),
        lambda x, c, u, y: (t(1) + y) * t(0.5) * x,
    ],
    "softplus": lambda t: [np.exp, lambda x, e: e + t(1), lambda x, e, s: np.log(s)],
    "wider in the middle": lambda t: [
        lambda x: np.exp(-x),
        lambda x, e: f(1) / (f(1) + e.astype(f)),
    ],
}


@pytest.mark.parametrize("dtype", [bf, h])
@pytest.mark.parametrize("name", COMPOSED)
def test_a_composed_function_keeps_the_roundings_of_its_steps(name, dtype):
    """The steps as one kernel, and each as a kernel of its own, agree to the last bit."""
    x = np.linspace(-4, 4, 128 * 65, dtype=f).reshape(128, 65).astype(dtype)
    steps = COMPOSED[name](dtype)
    whole = nkigen.compile(lambda x: one_by_one(steps, x, False), x)(x)
    assert np.array_equal(bits(whole), bits(one_by_one(steps, x, True)))


@pytest.mark.parametrize("target", TARGETS)
def test_products_round_once(target):
    """f16 @ f16 is f16: small integers make the f32 sum exact, and large enough to round."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-40, 41, (130, 64)).astype(h), rng.integers(-40, 41, (64, 70)).astype(h)
    w = rng.integers(-9, 10, (70,)).astype(h)
    exact = a.astype(f) @ b.astype(f)
    assert (exact.astype(h) != exact).any()
    k = nkigen.compile(lambda a, b: (a @ b).astype(f), a, b, target=target)
    assert np.array_equal(k(a, b), exact.astype(h).astype(f))
    k = nkigen.compile(lambda a, b, w: a @ b + w, a, b, w, target=target)
    assert np.array_equal(k(a, b, w), exact.astype(h) + w)
    k = nkigen.compile(lambda a, b: (a @ b) - (a @ b).astype(bf), a.astype(bf), b.astype(bf), target=target)
    assert np.array_equal(k(a.astype(bf), b.astype(bf)), exact - exact.astype(bf).astype(f))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis", [0, 1, None])
def test_sums_round_once(axis, target):
    """Of integers, so that the f32 sum is exact whatever its order; its own result is rounded."""
    x = np.random.default_rng(0).integers(-8, 90, (300, 70)).astype(bf)
    total = np.sum(x.astype(f), axis=axis, keepdims=True)
    assert (total.astype(bf) != total).any()
    got = nkigen.compile(lambda x: np.sum(x, axis=axis, keepdims=True).astype(f), x, target=target)(x)
    assert np.array_equal(got, total.astype(bf).astype(f))
    got = nkigen.compile(lambda x: x - np.sum(x, axis=axis, keepdims=True), x, target=target)(x)
    assert np.array_equal(got, x - total.astype(bf))
    got = nkigen.compile(lambda x: np.sum(x * bf(0.7), axis=axis, keepdims=True, dtype=f), x, target=target)(x)
    terms = (x * bf(0.7)).astype(np.float64)
    assert np.allclose(got, np.sum(terms, axis=axis, keepdims=True), rtol=1e-5)


# ---- random chains ----


def step(draw, lines, values):
    """One more line: values are (name, dtype, shape); compared and converted as they are."""
    name, dtype, shape = draw(st.sampled_from(values[-3:] + values))
    floats = dtype in FLOATS
    kinds = ["cast", "cast"] if dtype != "bool_" else ["cast"]
    kinds += ["unary", "constant", "binary", "binary", "where", "layout"] if floats else []
    kind = draw(st.sampled_from(kinds))
    new, text = dtype, None
    if kind == "cast":
        new = draw(st.sampled_from([*FLOATS, "i32" if dtype in ("bool_", "f32") else "bool_"]))
        source = name
        if new == "i32" and dtype == "f32":
            source = f"np.minimum(np.maximum(np.where({name} == {name}, {name}, f32(0)), f32(-4000)), f32(4000))"
        text = f"{source}.astype({new})"
    elif kind == "unary":
        text = draw(st.sampled_from(["-{}", "np.abs({})", "{} * {}", "{} + {}"])).format(name, name)
    elif kind == "constant":
        c = draw(st.sampled_from(["0.1", "-1.5", "3", "-1", "1", "0.0625", "200"]))
        form = draw(st.sampled_from(["{} + {}", "{} - {}", "{1} - {0}", "{} * {}", "np.maximum({}, {})"]))
        text = form.format(name, f"{dtype}({c})")
    elif kind == "layout":
        text = f"{name}[::-1]" if draw(st.booleans()) else f"{name}.reshape({shape})"
    else:
        other = draw(st.sampled_from([v for v in values if v[1] == dtype]))
        shape = np.broadcast_shapes(shape, other[2])
        if kind == "where":
            text = f"np.where({name} < {other[0]}, {other[0]}, {name})"
        else:
            form = draw(st.sampled_from(["{} + {}", "{} - {}", "{} * {}", "{} > {}", "{} == {}", "np.minimum({}, {})"]))
            new = "bool_" if ">" in form or "==" in form else dtype
            text = form.format(name, other[0])
    lines.append(f"t{len(lines)} = {text}")
    values.append((f"t{len(lines) - 1}", new, shape))


@st.composite
def chains(draw):
    rows, cols = draw(st.sampled_from([(5, 26), (130, 3), (129, 70), (1, 40), (26, 1)]))
    shapes = [(rows, cols), (rows, cols), (rows, 1), (1, cols)]
    values = []
    for i in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from([*FLOATS, "f32", "bf16", "i32"]))
        values.append((f"x{i}", dtype, draw(st.sampled_from(shapes if i else shapes[:1]))))
    inputs, lines = list(values), []
    for _ in range(draw(st.integers(1, 7))):
        step(draw, lines, values)
    results = [values[-1][0]] if draw(st.booleans()) else [values[-1][0], values[-2][0]]
    body = "\n".join(f"    {x}" for x in lines)
    source = f"def fn({', '.join(v[0] for v in inputs)}):\n{body}\n    return {', '.join(results)}\n"
    return source, inputs


def arrays_of(inputs):
    def make(i, dtype, shape):
        if dtype != "i32":
            return grid(SCOPE[dtype], shape, seed=i)
        rng = np.random.default_rng(i)
        return rng.choice(SPECIAL_INT, shape).astype(np.int32)

    return [make(i, d, s) for i, (_, d, s) in enumerate(inputs)]


@given(chains(), st.sampled_from(TARGETS))
def test_random_chain(chain, target):
    source, inputs = chain
    note(source)
    note(str(inputs))
    scope = dict(SCOPE)
    exec(compile(source, "<chain>", "exec"), scope)
    arrays = arrays_of(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        k = nkigen.compile(scope["fn"], *arrays, target=target, cache=False)
    assert k.verify() == []
    want = quiet(scope["fn"], *arrays)
    zeros = 1 if "imum" in source else 2  # NumPy's choice between two zeros varies
    for got, ref, w in zip(*(x if isinstance(x, tuple) else (x,) for x in (k(*arrays), quiet(k.reference, *arrays), want))):
        for what, a in (("reference", ref), ("device", got)):
            differ = bits(a, zeros) != bits(w, zeros)
            assert not differ.any(), f"{what}: {a[differ][:4]} is not {np.asarray(w)[differ][:4]}"
