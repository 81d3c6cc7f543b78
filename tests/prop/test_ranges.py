"""Ranges of activation functions: guards, what the simulator poisons, interval analysis."""

import re
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import nkigen
from nkigen import HardwareLimitError, workloads

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "ops"))
from cases import CASES  # noqa: E402

F = np.float32
TARGETS = ("trn1", "trn2", "trn3")
BOUNDS = {"log": (-64, 64), "sqrt": (-116, 118), "rsqrt": (-87, 97), "reciprocal": (-42, 42)}


def around(k):
    """2**k and what is next to it."""
    v = F(2.0**k)
    return [v, np.nextafter(v, F(0)), np.nextafter(v, F(np.inf)), v / 2, v * 2]


MAGNITUDES = [0, 1e-45, 1e-40, 2.0**-126, 1e-25, 1e-9, 0.5, np.nextafter(F(1), F(0)), 1, np.nextafter(F(1), F(2))]
MAGNITUDES += [2, 3, 1e9, 1e20, 1e30, 3.4e38, np.inf]
MAGNITUDES += [x for bounds in BOUNDS.values() for k in bounds for x in around(k)]
MAGNITUDES += [x for k in (-62, 62) for x in around(k)]
SPECIAL = np.array([*MAGNITUDES, *(-F(x) for x in MAGNITUDES), np.nan], F)

UFUNCS = {
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log_abs": lambda x: np.log(np.abs(x)),
    "log_square": lambda x: np.log(np.minimum(np.abs(x), 1)),
    "log_above": lambda x: np.log(np.maximum(x, F(1e-9))),
    "sqrt_abs": lambda x: np.sqrt(np.abs(x)),
    "exp": np.exp,
    "tanh": np.tanh,
    "reciprocal": np.reciprocal,
    "sigmoid": nkigen.ops.sigmoid,
    "arctan": np.arctan,
}


def ulps(got, want):
    """Distance in units of the last place of `want`; infinite where only one is NaN or infinite."""
    got, want = np.asarray(got, np.float64), np.asarray(want)
    with np.errstate(all="ignore"):
        step = np.spacing(np.abs(want)).astype(np.float64)
        d = np.abs(got - want.astype(np.float64)) / step
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    return np.where(same, 0, np.where(np.isnan(d), np.inf, d))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", UFUNCS)
def test_special_values(name, target):
    fn = UFUNCS[name]
    with np.errstate(all="ignore"):
        want = fn(SPECIAL)
        got = nkigen.compile(fn, SPECIAL, target=target, check="off")(SPECIAL)
    d = ulps(got, want)
    worst = int(np.argmax(d))
    assert d.max() <= 3, f"{name}({SPECIAL[worst]!r}) is {got[worst]!r}, NumPy has {want[worst]!r}"


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", ["sqrt", "rsqrt", "log"])
def test_special_values_of_narrow_floats(name, dtype):
    fn = {**UFUNCS, "rsqrt": lambda x: np.reciprocal(np.sqrt(x))}[name]
    with np.errstate(all="ignore"):
        x = SPECIAL.astype(dtype)
        want = fn(x.astype(F)).astype(dtype)
        got = nkigen.compile(fn, x, check="off")(x)
        assert got.dtype == dtype
        close = np.abs(got.astype(F) - want.astype(F)) <= 2 * ml_dtypes.finfo(dtype).eps.astype(F) * np.abs(want.astype(F))
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    assert np.all(same | close), x[~(same | close)]


def test_zero_keeps_its_sign_under_a_root():
    x = np.array([0.0, -0.0], F)
    assert list(np.signbit(nkigen.compile(np.sqrt, x)(x))) == [False, True]


def rows(value):
    return np.full((5, 64), value, F)


@pytest.mark.parametrize("value", [0, 1e-30, -3, 1e12, 1e25])
def test_std_of_a_constant_row(value):
    x = rows(value)
    with np.errstate(all="ignore"):
        got = nkigen.compile(lambda x: np.std(x, axis=1), x, check="off")(x)
    assert np.all(np.abs(got) <= 1e-5 * abs(value))


def test_unit_vectors_of_any_length():
    x = np.concatenate([rows(1e-30), rows(1e-12), rows(1), rows(1e12), rows(1e15)])
    fn = lambda x: x / np.sqrt(np.sum(x * x, axis=1, keepdims=True))  # noqa: E731
    with np.errstate(all="ignore"):
        want, got = fn(x), nkigen.compile(fn, x, check="off")(x)
    assert np.all(ulps(got, want) <= 8)


# ---- what is proven costs nothing ----


def logsumexp(x):
    m = np.max(x, axis=-1, keepdims=True)
    return m + np.log(np.sum(np.exp(x - m), axis=-1, keepdims=True))


def logsumexp_of_columns(x):
    m = x.max(0)
    return m + np.log(np.exp(x - m).sum(0))


X = ((256, 320), "f32")
ROW = ((320,), "f32")
PROVEN = {
    "rmsnorm": (workloads.rmsnorm, X, ROW),
    "layernorm": (workloads.layernorm, X, ROW, ROW),
    "softmax": (workloads.softmax, X),
    "logsumexp": (logsumexp, X),
    "logsumexp_columns": (logsumexp_of_columns, X),
    "std_eps": (lambda x: np.sqrt(np.var(x, axis=-1) + F(1e-6)), X),
    "normalize": (lambda x: x / np.sqrt((x**2).sum(1)[:, None] + 1e-12), X),
    "log_of_sigmoid_plus_eps": (lambda x: np.log(1 / (1 + np.exp(-x)) + F(1e-9)), X),
    "log_of_clipped": (lambda x: np.log(np.clip(x, 1e-7, 1 - 1e-7)), X),
    "sqrt_of_count": (lambda x: np.sqrt(np.sum(x > 0, axis=1, dtype=np.float32) + 1), X),
    "sine": (np.sin, X),
    "cosine": (np.cos, X),
}


def ops_of(k, stage):
    return sorted(k.stages[stage].ops)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", PROVEN)
def test_proven_ranges_cost_nothing(name, dtype):
    fn, *specs = PROVEN[name]
    if dtype == "bf16" and name in ("log_of_clipped", "normalize"):
        pytest.skip("another program: Python scalars")
    k = nkigen.compile(fn, *[(shape, dtype) for shape, _ in specs], check="off")
    assert ops_of(k, "guard") == ops_of(k, "decompose")


@pytest.mark.parametrize(
    "fn",
    [
        np.sqrt, np.log, lambda x: 1 / np.sqrt(x * x + 1e-40), lambda x: np.std(x, axis=1), lambda x: np.log(np.exp(x)),
        lambda x: np.log(np.sum(x * x, axis=1) + 1), lambda x: 1 / np.sqrt(np.sum(np.abs(x), axis=1) + 1),
        lambda x: np.log(np.sum(np.exp(x - x.max(0)), axis=1)),
    ],
)  # fmt: skip
def test_unproven_ranges_are_guarded(fn):
    k = nkigen.compile(fn, X, check="off")
    assert ops_of(k, "guard") != ops_of(k, "decompose")


COUNTS = {  # functions, and how many instructions come before the guarded one
    "`1 / sqrt(x)`": [(lambda x: 1 / np.sqrt(x), 0)],
    "`sqrt(x)`": [(np.sqrt, 0)],
    "`log(x)`, x at most 2^64": [
        (lambda x: np.log(np.minimum(np.abs(x), 1)), 2),
        (lambda x: np.log(np.minimum(x, 1)), 1),
    ],
    "`log(x)`, x at least 2^-64": [(lambda x: np.log(np.maximum(x, 1)), 1)],
    "`log(x)` of anything": [(np.log, 0)],
}


def table(title):
    text = (ROOT / "docs" / "ranges.md").read_text()
    lines = text.split(title)[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("| ---")]


def test_documented_instructions():
    rows = {name: [int(n) for n in re.findall(r"\d+", count)] for name, _, count in table("| function | instead |")[1:]}
    assert set(rows) == set(COUNTS)
    for name, cases in COUNTS.items():
        counts = []
        for fn, before in cases:
            k = nkigen.compile(fn, X, check="off")
            moves = k.cost.instructions["dma_copy"]  # a load and a store per tile
            counts.append((k.cost.instruction_count - moves) // (moves // 2) - before)
        assert counts == rows[name], name


def test_documented_ranges():
    """docs/ranges.md and tile/act.def say the same."""
    names = {"pi": np.pi, "-pi": -np.pi, "pi/2": np.pi / 2, "-pi/2": -np.pi / 2}

    def number(text):
        return names[text] if text in names else float(eval(text.split(",")[0].replace("^", "**")))

    documented = {f: (number(lo), number(hi)) for f, lo, hi in table("| function | from |")[1:]}
    rows = re.findall(r"^DOMAIN(?:_ABS)?\((\w+), ([^,]+), ([^,]+),", (ROOT / "csrc/tile/act.def").read_text(), re.M)
    defined = {f: tuple(float.fromhex(x) if "0x" in x else float(x) for x in (lo, hi)) for f, lo, hi in rows}
    assert documented.keys() == defined.keys()
    for f, bounds in defined.items():
        assert np.allclose(bounds, documented[f], rtol=1e-7), f


# ---- the simulator ----

TILE = """tile @t trn2 {{
  %x = buffer {{kind=input, index=0}} : hbm f32[4, 8]
  %y = buffer {{kind=output, index=0}} : hbm {dtype}[4, {width}]
  %a = buffer : sbuf f32[4, 8]
  %b = buffer : sbuf f32[4, 8]
  %c = buffer : sbuf {dtype}[4, 8]
  %s = buffer : sbuf f32[4, 1]
  dma_copy %a[0+4, 0: 8*1], %x[0: 4*8, 8*1]
  {body}
  return %y
}}
"""
ALL = "[0+4, 0: 8*1]"
STORE = "dma_copy %y[0: 4*8, 8*1], %c[0+4, 0: 8*1]"
STORE_B = STORE.replace("%c", "%b")


def simulate(body, x, dtype="f32", width=8):
    lines = "\n  ".join(body)
    program = nkigen.parse(TILE.format(body=lines.replace("@", ALL), dtype=dtype, width=width))
    return program.run(np.asarray(x, F))


def with_one(value):
    x = np.full((4, 8), 0.75, F)
    x[2, 5] = value
    return x


LOG = "activation %b@, _, %a@, _, _ {func=log}"
OUTSIDE = {
    "log": [0, 1e-20, 2.0**65, -1, np.inf],
    "sqrt": [0, 2.0**-117, 2.0**119, -1, np.inf],
    "rsqrt": [0, 2.0**-88, 2.0**98, -1, np.inf],
    "reciprocal": [0, 2.0**-43, -(2.0**43), np.inf],
    "sin": [3.2, -3.2, 1e9],
    "arctan": [1.6, -1.6],
}
INSIDE = {
    "log": [2.0**-64, 2.0**64, np.nan],
    "sqrt": [2.0**-116, 2.0**118, np.nan],
    "rsqrt": [2.0**-87, 2.0**97, np.nan],
    "reciprocal": [2.0**-42, -(2.0**42), np.nan],
    "sin": [np.pi, -np.pi],
    "arctan": [np.pi / 2, -np.pi / 2],
    "exp": [0, np.inf, -np.inf, 1e30],
}


@pytest.mark.parametrize("func, value", [(f, v) for f, values in OUTSIDE.items() for v in values])
def test_outside_is_refused(func, value):
    body = [LOG.replace("=log", f"={func}"), STORE_B]
    with pytest.raises(HardwareLimitError) as e:
        simulate(body, with_one(value))
    assert f"{func} is defined" in str(e.value) and "is stored to an output" in str(e.value)
    assert f"given {F(value):g}" in str(e.value)
    assert "activation" in str(e.value).split("in `")[1]


@pytest.mark.parametrize("func, value", [(f, v) for f, values in INSIDE.items() for v in values])
def test_inside_is_fine(func, value):
    simulate([LOG.replace("=log", f"={func}"), STORE_B], with_one(value))


def test_scale_and_bias_count():
    scaled = "activation %b@, _, %a@, _, _ {func=log, scale=1e-30}"
    moved = "activation %b@, _, %a@, _, _ {func=log, bias=1.0}"
    with pytest.raises(HardwareLimitError, match="given 7.5e-31"):
        simulate([scaled, STORE_B], with_one(0.75))
    assert simulate([moved, STORE_B], with_one(0))[2, 5] == 0


MASK = "tensor_scalar %m@, %a@, _, _ {op0=greater, imm0=0.5}"
LINEAR = "tensor_scalar %b@, %b@, _, _ {op0=multiply, imm0=2.0, op1=add, imm1=1.0}"


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("how", ["select", "predicated"])
def test_discarded_lanes_are_fine(how, dtype):
    mask = "%m = buffer : sbuf f32[4, 8]"
    if how == "select":
        body = [mask, MASK, LOG, LINEAR, "select_reduce %c@, %m@, %b@, _ {imm0=0.0}"]
    else:
        copy = "%d = buffer : sbuf " + dtype + "[4, 8]"
        body = [mask, MASK, copy, LOG, LINEAR, "tensor_copy %d@, %b@", "memset %c@ {imm0=0.0}"]
        body.append("tensor_copy_predicated %c@, %d@, %m@")
    got = simulate([*body, STORE], with_one(0), dtype).astype(F)
    assert got[2, 5] == 0 and np.isclose(got[0, 0], 2 * np.log(0.75) + 1, atol=0.01)
    with pytest.raises(HardwareLimitError, match="stored to an output"):  # the other way round
        simulate([x.replace("greater", "less") for x in body] + [STORE], with_one(0), dtype)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3, np.float16, np.int32, np.int8])
def test_discarded_lanes_are_not_converted(dtype, target):
    """A selection with a conversion behind it: what is undefined in one branch has no room in 8 bits."""
    x = np.tile(np.float32([1e-25, 2.5, 1e25, -3, 0, np.inf, 1]), (9, 8))
    x = np.where(x <= 0, F(0.5), x) if np.dtype(dtype).kind == "i" else x
    x = np.minimum(x, F(1e30))

    def fn(x):
        return np.log(x).astype(dtype)

    with np.errstate(all="ignore"):
        want = fn(x)
        got = nkigen.compile(fn, x, target=target)(x)
    assert np.array_equal(got.astype(F), want.astype(F), equal_nan=True)


USES = {
    "a sum": ["activation %b@, %s[0+4, 0], %a@, _, _ {func=log}", STORE_B],
    "reduced": [LOG, "tensor_reduce %s[0+4, 0], %b@ {op=maximum, naxes=1}", STORE_B],
    "compared": [LOG, "tensor_scalar %b@, %b@, _, _ {op0=less, imm0=0.0}", STORE_B],
    "predicate": [LOG, "select_reduce %c@, %b@, %a@, _ {imm0=0.0}", STORE],
    "output": [LOG, "activation %b@, _, %b@, _, _ {func=tanh}", STORE_B],
    "output ": [LOG, "tensor_tensor %b@, %a@, %b@ {op=maximum}", STORE_B],
    "matrix": [
        LOG, "%p = buffer : psum f32[8, 8]", "nc_matmul %p[0+8, 0: 8*1], %b@, %a@, _", "%q = buffer : sbuf f32[8, 8]",
        "tensor_copy %q[0+8, 0: 8*1], %p[0+8, 0: 8*1]", "tensor_copy %c@, %q@", STORE,
    ],
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
def test_uses_of_undefined_results_are_refused(use):
    simulate(USES[use], with_one(1))
    with pytest.raises(HardwareLimitError, match=f"log is defined.*{use.strip()}"):
        simulate(USES[use], with_one(0))


def test_conversion_of_undefined_results_is_refused():
    body = [LOG, "tensor_copy %c@, %b@", STORE]
    with pytest.raises(HardwareLimitError, match="is converted"):
        simulate(body, with_one(0), "i32")


def test_the_place_is_the_activation():
    body = ["tensor_copy %b@, %a@", LOG, STORE_B]
    with pytest.raises(HardwareLimitError) as e:
        simulate(body, with_one(0))
    line = TILE.split("{body}")[0].count("\n") + 2
    assert f"line {line}" in str(e.value) or re.search(rf":{line}\b", str(e.value))


@pytest.mark.parametrize("op", ["logical_and", "logical_or", "logical_xor"])
def test_logic_is_for_zero_and_one(op):
    body = [f"tensor_tensor %b@, %a@, %a@ {{op={op}}}", STORE_B]
    simulate(body, np.eye(4, 8))
    with pytest.raises(HardwareLimitError, match=f"{op} is defined for 0 and 1 and was given 0.75"):
        simulate(body, with_one(0.75))


def test_outside_is_seen_in_compiled_programs():
    """A norm is not guarded above: the simulator says so."""
    k = nkigen.compile(lambda x: x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + 1e-6), ((4, 8), "f32"))
    x = np.ones((4, 8), F)
    k(x)
    with pytest.raises(HardwareLimitError, match="rsqrt is defined"):
        k(x * F(1e16))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_no_op_meets_what_is_undefined(name, rng):
    """Every case of the op table on special values: whatever comes out, no activation is outside of its range."""
    for fn, *arrays in CASES[name]:
        k = nkigen.compile(fn, *arrays, check="off")
        special = [rng.choice(SPECIAL, a.shape).astype(a.dtype) if a.dtype.kind == "f" else a for a in arrays]
        k(*special)


# ---- intervals ----

STEPS = [
    "{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / {b}", "np.maximum({a}, {b})", "np.minimum({a}, {b})", "{a} * {a}",
    "np.abs({a})", "-{a}", "np.exp({a})", "np.sqrt({a})", "np.log({a})", "np.log1p({a})", "np.tanh({a})", "np.sign({a})",
    "np.sin({a})", "np.cos({a})", "np.arctan({a})", "np.floor({a})", "np.cbrt({a})", "np.square({a})", "1 / {a}",
    "{a} + F(1e-6)", "{a} * F(-3)", "F(0.5) - {a}", "np.where({a} > {b}, {a}, {b})", "np.maximum({a}, 0)",
    "{a}.astype(np.float16)", "{a}.astype(bf)", "({a} > 0).astype(np.float32)", "np.sum({a}, axis=1, keepdims=True)",
    "np.max({a}, axis=1, keepdims=True)", "np.exp({a} - np.max({a}, axis=1, keepdims=True))", "np.sinh({a})",
    "np.sum(np.exp({a} - np.max({a}, axis=-1, keepdims=True)), axis=-1, keepdims=True)", "np.cosh({a})",
    "np.minimum(1 - {a}, {a})", "np.maximum(-2 - {a}, {a})", "1 / (1 + np.exp(-{a}))", "{a} / (1 + np.exp(-{a}))",
    "np.sqrt(np.mean({a} * {a}, axis=1, keepdims=True) + F(1e-6))", "np.exp2({a})", "np.expm1({a})", "np.tan({a})",
    "np.trunc(np.clip({a}, -9, 9)).astype(np.int32).astype(np.float32)", "{a} - {a}", "np.rint({a}) % 3", "{a} // 2",
]  # fmt: skip


def random_program(rng):
    lines, names = [], ["x", "y"]
    for i in range(int(rng.integers(2, 9))):
        a, b = rng.choice(names[-4:]), rng.choice(names)
        lines.append(f"    v{i} = ({rng.choice(STEPS).format(a=a, b=b)}).astype(np.float32)")
        names.append(f"v{i}")
    source = "def f(x, y):\n" + "\n".join(lines) + f"\n    return {names[-1]}\n"
    scope = {"np": np, "F": F, "bf": ml_dtypes.bfloat16}
    exec(source, scope)
    return source, scope["f"]


def random_inputs(rng):
    pool = np.concatenate([SPECIAL, rng.normal(size=64).astype(F), rng.normal(size=64).astype(F) * 50])
    for scale in ("special", "normal"):
        x = rng.choice(pool, (2, 6, 5)) if scale == "special" else rng.normal(size=(2, 6, 5))
        yield x.astype(F)


def all_values(program):
    """The same program with every value an output, and their intervals."""
    text = str(program)
    names = re.findall(r"^  (%\w+) = ", text, re.M)
    everything = nkigen.parse(re.sub(r"return .*", "return " + ", ".join(names), text))
    return names, everything, program.intervals()


def is_within(v, lo, hi, nan):
    v = np.asarray(v, np.float64)
    numbers = v[~np.isnan(v)]
    return (nan or numbers.size == v.size) and np.all((numbers >= lo) & (numbers <= hi))


@pytest.mark.parametrize("seed", range(60))
def test_values_lie_in_their_intervals(seed):
    rng = np.random.default_rng(seed)
    source, fn = random_program(rng)
    k = nkigen.compile(fn, ((6, 5), "f32"), ((6, 5), "f32"), check="off")
    for stage in ("trace", "guard"):
        names, everything, intervals = all_values(k.stages[stage])
        for arrays in random_inputs(rng):
            with np.errstate(all="ignore"):
                values = everything.run(*arrays)
            for name, value, (lo, hi, nan) in zip(names, values, intervals, strict=True):
                assert is_within(value, lo, hi, nan), f"{source}{everything}\n{name}: {value} in {lo} {hi} {nan}"


def interval_of(fn, *specs):
    return nkigen.compile(fn, *specs, check="off").stages["canonicalize"].intervals()[-1]


def test_intervals_are_tight_where_it_matters():
    lo, hi, nan = interval_of(lambda x: np.exp(x - np.max(x, axis=1, keepdims=True)), X)
    assert lo == 0 and hi <= 1.0001 and nan
    lo, hi, _ = interval_of(lambda x: np.sum(np.exp(x - x.max(1)[:, None]), axis=1), X)
    assert lo == 1 and 320 <= hi <= 321
    lo, _, _ = interval_of(lambda x: np.mean(x * x, axis=1) + F(1e-6), X)
    assert lo >= 0.99e-6
    assert interval_of(lambda x: np.clip(x, -2, 3), X) == (-2, 3, True)
    assert interval_of(lambda n: np.clip(n, -5, 7) * 3 - 1, ((8,), "i32")) == (-16, 20, False)
    assert interval_of(lambda n: n * 3, ((8,), "i32")) == (-(2.0**31), 2.0**31 - 1, False)
    lo, hi, nan = interval_of(lambda x: np.tanh(x) + 1, X)
    assert -1e-6 <= lo <= 0 and 2 <= hi <= 2.000001
    lo, _, _ = interval_of(lambda x: np.sum(np.exp(x - x.max(0)), axis=1), X)  # the maximum is of other elements
    assert lo == 0
