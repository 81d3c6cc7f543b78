"""check="every-pass": silent on right programs, however badly conditioned; loud on faults."""

import re
import sys
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from test_prop import programs  # noqa: E402
from test_rounding import SCOPE, TARGETS, arrays_of, chains, grid, quiet  # noqa: E402

import nkigen  # noqa: E402
from nkigen import check, workloads  # noqa: E402
from nkigen.accuracy import BOUNDS  # noqa: E402
from nkigen.check import Bound, bounds, explain  # noqa: E402
from nkigen.errors import VerifyError  # noqa: E402

bf, f, h = ml_dtypes.bfloat16, np.float32, np.float16
RNG = np.random.default_rng(0)
UNIT = RNG.standard_normal((130, 64)).astype(f)
WIDE = (UNIT * 100).astype(f)


def checked(fn, *arrays, target="trn2"):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return nkigen.compile(fn, *arrays, target=target, check="every-pass", cache=False)


def saturated(x, w):
    s = (x @ w).astype(x.dtype)
    return workloads.softmax(s)


def written(x):
    y = x / 3
    y[::2, 5:9] = np.exp(x[::2, :4])
    y[0] += y[1]
    return y > 0.1, np.where(y > x, y, 0.0)


POLES = (np.pi / 2 + np.arange(-20, 20) * np.pi).astype(f)
#: right programs on which rounding decides much or everything
AWKWARD = {
    "tan near its poles": (np.tan, [np.concatenate([POLES, np.nextafter(POLES, f(0))])]),
    "sin of large numbers": (np.sin, [WIDE * 100]),
    "variance of a constant": (lambda x: np.var(x, axis=1), [np.full((130, 64), 3.3, f)]),
    "deviation of a constant": (lambda x: np.std(x, axis=-1), [np.full((130, 64), 0.1, f)]),
    "norm of a constant": (lambda x: (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6), [np.full((9, 100), 0.1, f)]),
    "difference of equals": (lambda x: (x + 1e4) - 1e4 - x, [UNIT]),
    "equal up to rounding": (lambda x: (x / 3 * 3 == x) * 1.0, [UNIT]),
    "branches at a tie": (lambda x: np.where(x / 3 * 3 >= x, x, -x), [UNIT]),
    "floor at a tie": (lambda x: np.floor(x / 3 * 3), [np.rint(WIDE)]),
    "integers at a tie": (lambda x: (x / 7 * 7).astype(np.int32) + 1, [np.rint(WIDE)]),
    "remainder at a tie": (lambda x: np.remainder(x / 7 * 7, f(1)), [np.rint(WIDE)]),
    "sign of noise": (lambda x: np.sign(x - x / 3 * 3), [UNIT]),
    "quotient of noise": (lambda x: 1 / (x - x / 3 * 3), [UNIT]),
    "log of nearly one": (lambda x: np.log(1 + x * 1e-6), [UNIT]),
    "a sum that cancels, then a factor": (lambda x: np.exp((x - f(1000)) * f(0.3)), [UNIT + 1000]),
    "a divisor that overflows on the way": (lambda x: x / (1 + np.exp(-x)), [np.linspace(-91, -88, 400, dtype=f).reshape(4, 100)]),
    "a divisor that always does": (lambda x: x / (1 + np.exp(-x)), [np.full((3, 5), -89, f)]),
    "factors that overflow on the way": (lambda x: np.sqrt(np.abs(x) * f(1e38) * f(1e-38)), [WIDE]),
    "factors that underflow on the way": (lambda x: np.tanh(x * f(1e-38) * f(1e38)), [UNIT]),
    "bf16 softmax that saturates": (saturated, [RNG.standard_normal((64, 256)).astype(bf), RNG.standard_normal((256, 96)).astype(bf)]),
    "bf16 norm": (lambda x: x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True)), [UNIT.astype(bf)]),
    "f16 that overflows": (lambda x: np.sum(x * x * h(90), axis=-1), [WIDE.astype(h)]),
    "f32 that overflows": (lambda x: np.exp(x) * 1e30 + np.exp(-x), [WIDE]),
    "sum that cancels": (lambda x: np.sum(x - x.mean(), axis=0), [UNIT + 1000]),
    "product that cancels": (lambda x: x @ (x.T - x.T.mean(0)), [UNIT + 10]),
    "not a number": (lambda x: np.sqrt(x) + np.maximum(np.log(x), 0), [UNIT]),
    "all that is special": (lambda x: np.exp(x) + x * x - x, [grid()]),
    "special, bf16": (lambda x: np.tanh(x) * x + x, [grid(bf)]),
    "mask": (lambda x: (x > x.mean(axis=1, keepdims=True)) * x, [UNIT]),
    "double precision": (lambda x: np.tanh(x) @ x.T / 3, [UNIT.astype(np.float64)]),
    "written in part": (written, [UNIT]),
    "beyond i8": (lambda x: x.astype(np.int8) + np.int8(1), [np.float32([-1, 300, np.nan, 3e9])]),
    "beyond u32": (lambda x: (x * 3).astype(np.uint32), [np.float32([-1, 300, np.inf, 3e9])]),
    "beyond u8 in bf16": (lambda x: x.astype(np.uint8)[::-1], [np.float32([-1, 300]).astype(bf)]),
    "powers": (lambda x: (x - x.mean(1, keepdims=True)) ** 2 + np.abs(x) ** 1.7, [UNIT]),
}  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_no_false_alarm(name):
    fn, arrays = AWKWARD[name]
    for target in TARGETS:
        checked(fn, *arrays, target=target)


@settings(max_examples=60)
@given(programs(), st.sampled_from(TARGETS))
def test_no_false_alarm_on_a_random_program(program, target):
    note(program.source)
    checked(program.function(), *program.arguments(program.arrays()), target=target)


@settings(max_examples=60)
@given(chains(), st.sampled_from(TARGETS))
def test_no_false_alarm_on_a_random_chain(chain, target):
    source, inputs = chain
    note(source)
    scope = dict(SCOPE)
    exec(compile(source, "<chain>", "exec"), scope)
    checked(scope["fn"], *arrays_of(inputs), target=target)


# ---- faults ----


def found(kernel, arrays, stage, text):
    """What the check says of another text for a stage."""
    program = nkigen.parse(text)
    expected = bounds(kernel.tensor_ir, arrays)
    results = program.run(*arrays)
    results = results if isinstance(results, tuple) else (results,)
    return [m for b, g in zip(expected, results, strict=True) if (m := explain(b, g))]


def without_casts(text):
    """Variants of a tensor program without one of its roundings to a narrow dtype."""
    for m in re.finditer(r"(%\w+) = cast (%\w+) \{dtype=(bf16|f16|fp8_\w+)\}.*\n", text):
        name, source = m[1], m[2]
        for back in re.finditer(rf"  (%\w+) = cast {name} \{{dtype=f32\}} : f32.*\n", text):
            if f"{source} = " in text and re.search(rf"{source} = .* : f32\[", text):
                rest = text.replace(back[0], "")
                yield re.sub(rf"{back[1]}\b", source, rest)


def with_wide_tiles(text):
    """Variants of a tile program with one narrow buffer on chip in f32."""
    for m in re.finditer(r": sbuf (bf16|f16|fp8_\w+)\[", text):
        yield text[: m.start()] + ": sbuf f32[" + text[m.end() :]


ROUNDINGS = {
    "there and back": (lambda x: x.astype(bf).astype(f), [UNIT]),
    "in the middle": (lambda x: ((x * 3).astype(h).astype(f) + 1) * x, [UNIT]),
    "under a root": (lambda x: np.sqrt(np.abs(x * x - 1).astype(bf).astype(f)), [UNIT]),
    "before a sum": (lambda x: np.sum((x + 1).astype(bf).astype(f), axis=1), [UNIT]),
    "before a product": (lambda x: (x * 3).astype(bf).astype(f) @ x.T, [UNIT]),
    "of the scores": (lambda x: workloads.softmax((x @ x.T).astype(bf).astype(f)), [UNIT]),
}  # fmt: skip


@pytest.mark.parametrize("name", ROUNDINGS)
def test_a_dropped_cast_is_found(name):
    fn, arrays = ROUNDINGS[name]
    k = checked(fn, *arrays)
    variants = list(without_casts(str(k.stages["outputs"])))
    assert variants
    for text in variants:
        assert found(k, arrays, "outputs", text)


NARROW = {
    "square": (lambda x: (x * x).astype(f) + f(1), [UNIT.astype(bf)]),
    "chain": (lambda x: (x + x * x) * x, [UNIT.astype(h)]),
    "exponential": (lambda x: np.exp(-x) * x, [UNIT.astype(bf)]),
    "softmax": (workloads.softmax, [UNIT.astype(bf)]),
    "logistic": (lambda x: bf(1) / (bf(1) + np.exp(-x)), [UNIT.astype(bf)]),
}


@pytest.mark.parametrize("name", NARROW)
def test_a_result_that_stays_wide_is_found(name):
    fn, arrays = NARROW[name]
    k = checked(fn, *arrays)
    right = k(*arrays)
    changed = 0
    for text in with_wide_tiles(str(k.stages["lower"])):
        if np.array_equal(nkigen.parse(text).run(*arrays), right):
            continue  # of a result that is a number of its dtype anyway
        changed += 1
        assert found(k, arrays, "lower", text)
    assert changed


@pytest.mark.parametrize("name", ["softmax", "rmsnorm", "layernorm", "matmul_bias_gelu", "chain"])
def test_a_constant_or_an_operator_that_is_off_is_found(name):
    w = workloads.get(name)
    arrays = w.inputs("f32", w.small[0])
    k = checked(w.fn, *arrays)
    text = str(k.stages["lower"])
    faults = []
    for m in re.finditer(r"(scale|bias|imm0|imm1)=(-?[\d.e-]+)", text):
        if abs(float(m[2])) > 1e-4:  # not the epsilon of a norm
            faults.append(f"{text[:m.start(2)]}{float(m[2]) * 1.001!r}{text[m.end(2):]}")
    for a, b in [("op=add", "op=maximum"), ("op0=multiply", "op0=add"), ("func=exp", "func=tanh")]:
        faults += [text.replace(a, b, 1)] if a in text else []
    for variant in faults:
        assert found(k, arrays, "lower", variant), variant
    assert faults


@settings(max_examples=50)
@given(chains())
def test_lost_roundings_of_random_chains_are_found(chain):
    """A difference beyond f32's last places is one that the check sees, unless an element is free."""
    source, inputs = chain
    scope = dict(SCOPE)
    exec(compile(source, "<chain>", "exec"), scope)
    arrays = arrays_of(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        k = nkigen.compile(scope["fn"], *arrays, cache=False)
    expected = quiet(bounds, k.tensor_ir, arrays)
    for text in with_wide_tiles(str(k.stages["lower"])):
        results = nkigen.parse(text).run(*arrays)
        for b, got in zip(expected, results if isinstance(results, tuple) else (results,)):
            a, w = np.asarray(got).astype(float), b.value.astype(float)
            differ = (a != w) & ~(np.isnan(a) & np.isnan(w))
            with np.errstate(invalid="ignore"):
                far = differ & ~(np.abs(a - w) <= 4e-7 * np.abs(w))
            if far.any() and b.free is None:
                assert explain(b, got), (source, text)


# ---- the parts ----


def test_the_message_names_stage_element_and_range(monkeypatch):
    x = np.float32([1, 2, 3])
    k = nkigen.compile(lambda x: x / 3, x)
    [b] = bounds(k.tensor_ir, [x])
    assert explain(b, x / 3) is None
    text = explain(b, x / np.float32([3, 3.01, 3]))
    assert text.startswith("1 of 3 elements differ: at (1,) 0.664")
    assert "the first stage gives 0.66666" in text
    assert "rounding explains 0.66666" in text
    assert explain(b, x[:2]) == "shape (2,), the first stage gives (3,)"
    monkeypatch.setattr(sys.modules["nkigen.compile"], "bounds", lambda p, a: [Bound(x)])
    with pytest.raises(VerifyError, match=r"stage trace, output 0: 3 of 3 elements differ: at \(2,\) 1.0"):
        nkigen.compile(lambda x: x / 3, x, check="every-pass")


@pytest.mark.parametrize("fn", [
    lambda x: x[::-1].reshape(10, 13, 64).transpose(2, 0, 1),
    lambda x: x.astype(bf).astype(h).astype(f),
    lambda x: np.concatenate([x, -x]).max(axis=1),
    lambda x: np.where(x > 0, x, 0).astype(np.int32) * 3 // 2,
    lambda x: (x.astype(bf) * bf(3) + bf(1)).astype(f),
])  # fmt: skip
def test_movement_conversion_and_narrow_arithmetic_are_exact(fn):
    k = nkigen.compile(fn, UNIT)
    assert all(b.exact for b in bounds(k.tensor_ir, [UNIT]))


def test_every_op_has_a_rule_that_allows_what_is_promised():
    rows = nkigen._core.op_table("tensor")
    assert {row["name"] for row in rows} == set(check._RULES)
    for row in rows:
        if row["name"] in check.SMOOTH and row["np"] in BOUNDS:
            allowed = check.FUNCTION_ULP.get(row["name"], check.FUNCTION)
            assert allowed >= BOUNDS[row["np"]].f32, row["name"]


def test_watch_shows_every_result_in_order():
    seen = []
    k = nkigen.compile(lambda x: np.sum(x * 2, axis=0), UNIT)
    ids = k.tensor_ir.watch(lambda *a: seen.append(a), UNIT)
    assert [s[0] for s in seen][-2:] == ["mul", "reduce_sum"]
    op, attrs, operands, out, value, dead = seen[-1]
    assert attrs == {"axes": (0,), "keepdims": 0} and operands == (seen[-2][3],) == tuple(dead)
    assert ids == (out,) and value.shape == (64,)
    with pytest.raises(nkigen.errors.UnsupportedError, match="only tensor programs"):
        k.tile_ir.watch(print, UNIT)
    with pytest.raises(nkigen.errors.DTypeError, match="first argument is a function"):
        k.tensor_ir.watch(UNIT)
    with pytest.raises(ZeroDivisionError):
        k.tensor_ir.watch(lambda *a: 1 / 0, UNIT)


def test_double_precision_may_be_kept_or_narrowed():
    """2**31 - 1 is a double and rounds to 2**31 in f32; both are right, and nothing beside them."""
    x = np.int32([2**31 - 1, 3])
    k = quiet(nkigen.compile, lambda x: x + 0.0, x)
    [b] = bounds(k.tensor_ir, [x])
    for value in (2.0**31 - 1, 2.0**31):
        assert explain(b, np.float64([value, 3])) is None
    assert explain(b, f([2**31, 3])) is None
    assert explain(b, np.float64([2.0**31 + 512, 3]))


def test_a_quotient_by_infinity_is_nearly_zero():
    x, y = f([3, -200, np.inf]), f([np.inf, np.inf, np.inf])
    [b] = quiet(bounds, nkigen.compile(np.divide, x, y).tensor_ir, [x, y])
    assert explain(b, f([0, -0.0, np.nan])) is None
    assert explain(b, f([5e-39, -5e-37, np.nan])) is None
    assert explain(b, f([1e-36, 0, np.nan])) and explain(b, f([0, 1e-36, np.nan]))


def silu_spelled(x):
    return x / (1 + np.exp(-x))


def gelu_spelled(x):
    return 0.5 * x * (1 + np.tanh(np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x)))


@pytest.mark.parametrize("fn", [silu_spelled, gelu_spelled, nkigen.ops.silu, nkigen.ops.gelu_tanh])
def test_spelled_idioms_at_minus_infinity(fn):
    """Every stage has NumPy's nan, or the -0 of nkigen.ops."""
    x = np.array([-np.inf, -1e30, -200, -1, 0, 1, 1e30], np.float32)
    with np.errstate(all="ignore"):
        k = nkigen.compile(fn, x, check="every-pass", cache=False)
        expected = fn(x)
    assert np.isnan(k(x)[0]) == np.isnan(expected[0])
