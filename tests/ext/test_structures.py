"""Arguments and results that are nested: model code with dicts of weights and static options."""

import dataclasses
import enum
import functools
import math
from collections import OrderedDict, defaultdict, namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest

import nkigen
from nkigen import errors
from nkigen.testing import assert_close, verify_against_numpy

F = np.float32
X = np.linspace(-1, 1, 6 * 16, dtype=F).reshape(6, 16)


def normal(*shape, seed=0):
    return (np.random.default_rng((seed, *shape)).standard_normal(shape) * 0.5).astype(F)


# ---- model kernels as people write them


@dataclasses.dataclass
class Config:
    dim: int
    heads: int
    eps: float = 1e-5
    causal: bool = True
    act: str = "silu"
    scale: float | None = None

    def __post_init__(self):
        self.head_dim = self.dim // self.heads


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def activation(x, name):
    if name == "silu":
        return x / (1 + np.exp(-x))
    if name == "relu":
        return np.maximum(x, 0)
    raise ValueError(name)


def linear(x, p):
    y = x @ p["w"]
    return y if p.get("bias") is None else y + p["bias"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(x, p, num_heads, causal=False):
    s, d = x.shape
    q, k, v = (np.reshape(linear(x, p[n]), (s, num_heads, d // num_heads)).swapaxes(0, 1) for n in "qkv")
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(d // num_heads)
    if causal:
        scores = np.where(np.tri(s, dtype=bool), scores, F(-1e30))
    return linear(np.reshape((softmax(scores) @ v).swapaxes(0, 1), (s, d)), p["o"])


def mlp(x, layers, act="relu"):
    for layer in layers[:-1]:
        x = activation(linear(x, layer), act)
    return linear(x, layers[-1])


def decoder(x, layers, config):
    for p in layers:
        h = rms_norm(x, p["norm1"], config.eps)
        x = x + attention(h, p["attention"], config.heads, config.causal)
        h = rms_norm(x, p["norm2"], config.eps)
        x = x + linear(activation(linear(h, p["up"]), config.act) * linear(h, p["gate"]), p["down"])
    return x


def lora(x, w, adapters, *, alpha=16, rank):
    for a in adapters:
        w = w + (a.down @ a.up) * (alpha / rank)
    return x @ w


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def pool(x, axes, how):
    return getattr(np, how)(x, axis=axes, keepdims=True)


def weights(n, m, bias=False, seed=0):
    return {"w": normal(n, m, seed=seed), "bias": normal(m, seed=seed) if bias else None}


Adapter = namedtuple("Adapter", "down up")
ATTENTION = {n: weights(16, 16, n == "q", i) for i, n in enumerate("qkvo")}


def layer(seed):
    return {
        "norm1": normal(16, seed=seed), "norm2": normal(16, seed=seed + 1), "attention": ATTENTION,
        "up": weights(16, 24, seed=seed), "gate": weights(16, 24, seed=seed + 9), "down": weights(24, 16, True, seed),
    }  # fmt: skip


MODELS = {
    "rms_norm": (rms_norm, (X, normal(16), 1e-6), {}),
    "attention": (attention, (X, ATTENTION, 4), {"causal": True}),
    "attention_not_causal": (attention, (X, ATTENTION), {"num_heads": 2}),
    "mlp": (mlp, (X, [weights(16, 8), weights(8, 8, True, 1), weights(8, 4)], "silu"), {}),
    "decoder": (decoder, (X, [layer(0), layer(5)], Config(16, 4)), {}),
    "lora": (lora, (X, normal(16, 16), (Adapter(normal(16, 4), normal(4, 16)),)), {"rank": 4}),
    "layer_norm": (layer_norm, (X,), {"bias": normal(16)}),
    "layer_norm_plain": (layer_norm, (X, None, None, 1e-3), {}),
    "pool": (pool, (X, (0, 1), "max"), {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_model_kernels(name):
    fn, args, named = MODELS[name]
    k = verify_against_numpy(fn, *args, rtol=2e-5, params=named)
    assert_close(k.reference(*args, **named), fn(*args, **named), rtol=2e-6)
    assert_close(k.run_stage("decompose", *args, **named), fn(*args, **named), rtol=2e-6)


def test_the_same_structure_with_other_arrays():
    fn, (x, layers, config), _ = MODELS["decoder"]
    k = nkigen.compile(fn, x, layers, config)
    other = [layer(20), layer(30)]
    assert_close(k(x, other, config), fn(x, other, config), rtol=2e-5)
    assert_close(k(x, layers=other), fn(x, other, config), rtol=2e-5)
    assert k.nki().isascii() and compile(k.nki(), "decoder", "exec")


def test_specs_in_structures():
    params = {"w": ((16, 8), "bf16"), "bias": (8, np.float32), "eps": 1e-5, "layers": [((2, 8), "f32"), 3]}

    def fn(x, p):
        return (x @ p["w"]).astype(F) * p["eps"] + p["bias"] + p["layers"][0][0] * p["layers"][1]

    k = nkigen.compile(fn, X, params)
    assert [(i.name, i.shape, i.dtype.name) for i in k.inputs] == [
        ("x", (6, 16), "float32"), ("p['w']", (16, 8), "bfloat16"), ("p['bias']", (8,), "float32"),
        ("p['layers'][0]", (2, 8), "float32"),
    ]  # fmt: skip
    p = {"w": np.ones((16, 8), ml_dtypes.bfloat16), "bias": np.ones(8, F), "eps": 1e-5, "layers": [np.ones((2, 8), F), 3]}
    assert_close(k(X, p), fn(X, p))


# ---- what is a parameter, what is static


class Mode(enum.Enum):
    TWICE = 2


class Op(enum.IntEnum):
    NEG = -1


class Point(NamedTuple):
    x: object
    y: object


STATICS = [
    None, True, 3, 2.5, -0.0, 1 + 0j, "text", b"bytes", Mode.TWICE, Op.NEG, math.exp, np.dtype("f4"), np.float32, int,
    slice(1, 3), range(4), ..., frozenset({1}), np.str_("s"), 10**30, X.shape.__len__, NotImplemented, (1, 2), (4, 8),
    (2, "same"), [4, "f4"], {"a": 1}, (True, "f4"), ((1, 2), (3, 4)), [(2, 2), "bf16"], ("f4", 4), (), {},
]  # fmt: skip


@pytest.mark.parametrize("value", STATICS, ids=repr)
def test_static_values(value):
    seen = []

    def fn(x, s):
        seen.append(s)
        return x + 1

    k = nkigen.compile(fn, X, value)
    assert seen == [value] and type(seen[0]) is type(value)
    assert [i.name for i in k.inputs] == ["x"]
    assert np.array_equal(k(X, value), X + 1) and np.array_equal(k(X), X + 1)


@pytest.mark.parametrize(
    "value", [X, F(2), np.int32(2), np.bool_(1), ((4, 8), "f32"), (4, "bf16"), (4, np.float32), ((), "i32"), ([2, 3], np.float16)]
)  # fmt: skip
def test_parameters(value):
    k = nkigen.compile(lambda p: (p[0], None), (value, 3))
    assert [i.name for i in k.inputs] == ["p[0]"]


@pytest.mark.parametrize(
    "value, part",
    [
        ([1, {"k": bytearray(2)}], r"s\[1\]\['k'\]: .*hashable, got a bytearray"),
        ({1, 2}, "s: .*got a set"),
        (((2, 2), "f33"), r"'s': \(\(2, 2\), 'f33'\) reads as \(shape, dtype\), give two static values as a list.*f33"),
        (((-1, 2), "f32"), r"non-negative integers.*\(-1, 2\)"),
        (((2.5, 2), "f32"), r"non-negative integers.*\(2.5, 2\)"),
        ((2**63, "f32"), "2\\*\\*63"),
        (((1, 2), "complex64"), "complex64"),
        ([np.ones(2, complex)], r"s\[0\].*complex128"),
        (np.ma.masked_array([1.0, 2], [0, 1]), "'s': a masked array"),
        (np.ones((1, 1)).view(np.matrix), "'s': numpy.matrix"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_leaves_that_are_neither(value, part):
    with pytest.raises(errors.NkigenError, match=part):
        nkigen.compile(lambda x, s: x + 1, X, value)


def test_a_structure_that_contains_itself():
    loop = [X]
    loop.append(loop)
    with pytest.raises(errors.DTypeError, match=r"s\[1\]: a list that contains itself"):
        nkigen.compile(lambda s: s[0], loop)
    deep = X
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(errors.DTypeError, match="nested more than 100 deep"):
        nkigen.compile(lambda s: s, deep)
    shared = {"w": X}
    assert nkigen.compile(lambda a, b: a["w"] + b["w"], shared, shared).reference(shared, shared).shape == X.shape


# ---- calls


K = nkigen.compile(lambda x, n, p, eps=0.5: x * n + p["w"] + eps, X, 3, {"w": X, "k": 1})


@pytest.mark.parametrize(
    "args, named",
    [
        ((X, 3, {"w": X, "k": 1}), {}),
        ((X, 3, {"k": 1, "w": X}, 0.5), {}),
        ((X, {"w": X, "k": 1}), {}),
        ((X, {"w": X, "k": 1}), {"n": 3}),
        ((X,), {"p": {"w": X, "k": 1}}),
        ((), {"p": {"w": X, "k": 1}, "x": X, "n": 3, "eps": 0.5}),
        ((X, 3), {"p": OrderedDict(w=X, k=1)}),
    ],
)
def test_calls_that_fit(args, named):
    assert np.array_equal(K(*args, **named), K.reference(X, {"w": X, "k": 1}))


W = {"w": X, "k": 1}


@pytest.mark.parametrize(
    "args, named, part",
    [
        ((X, 4, W), {}, "n is static: compiled for 3, got 4"),
        ((X, 3.0, W), {}, "n is static: compiled for 3, got 3.0"),
        ((X, 10**5000, W), {}, "n is static: compiled for 3, got an integer of 16610 bits"),
        ((X, 3, W, 0.25), {}, "eps is static: compiled for 0.5, got 0.25"),
        ((X, W), {"n": True}, "n is static: compiled for 3, got True"),
        ((X, 3, {"w": X, "k": 2}), {}, r"p\['k'\] is static"),
        ((X, 3, {"w": X}), {}, "p: 'k' is missing"),
        ((X, 3, {"w": X, "k": 1, "b": X}), {}, "p: 'b' was not there"),
        ((X, 3, [X, 1]), {}, "p: expected a dict, got a list"),
        ((X, 3, {"w": None, "k": 1}), {}, r"p\['w'\]: expected an array, got None"),
        ((X,), {}, r"missing 'p'; it takes 2 arrays \(x, p\['w'\]\)"),
        ((X, 3), {}, "p: expected a dict, got an int"),
        ((X, 3, W, 0.5, 1), {}, "too many positional"),
        ((X, 3, W), {"q": 1}, "'q'"),
        ((X, 3, W), {"x": X}, "multiple values"),
        ((X, 3, {"w": X[0], "k": 1}), {}, r"p\['w'\]' was compiled for shape"),
        ((X, 3, {"w": np.ma.masked_array(X), "k": 1}), {}, r"p\['w'\]': a masked array"),
        ((X, 3, {"w": [X, X[0]], "k": 1}), {}, r"p\['w'\]': list is no array"),
    ],
)
@pytest.mark.parametrize("run", [K, K.reference, functools.partial(K.run_stage, "decompose")], ids="k ref stage".split())
def test_calls_that_do_not_fit(args, named, part, run):
    with pytest.raises((errors.StructureError, errors.DTypeError, errors.ShapeError), match=part):
        run(*args, **named)


def test_lengths_and_fields():
    k = nkigen.compile(lambda p: p[0] + p[1].x, (X, Point(X, 2)))
    for bad, part in [((X,), "p: compiled for 2 items, got 1"), ((X, (X, 2)), r"p\[1\]: expected a Point, got a tuple")]:
        with pytest.raises(errors.StructureError, match=part):
            k(bad)
    with pytest.raises(errors.StructureError, match=r"p\[1\].y is static: compiled for 2, got 3"):
        k((X, Point(X, 3)))
    assert k.inputs[1].name == "p[1].x"


@pytest.mark.parametrize("a, b", [(1, 1.0), (1, True), (0.0, -0.0), (math.nan, 1.0), ("1", b"1"), ((0.0,), (-0.0,))])
def test_statics_that_are_told_apart(a, b):
    k = nkigen.compile(lambda x, s: x + 1, X, a)
    assert k(X, a) is not None
    with pytest.raises(errors.StructureError, match="static"):
        k(X, b)


def test_kernels_of_different_statics_are_different():
    def fn(x, s):
        return x * s

    x = np.array([1, -2, 3], np.int32)
    for s in (1, 1.0, True, 0.0, -0.0, math.nan, math.inf):
        k, y = nkigen.compile(fn, x.astype(F), s), fn(x.astype(F), s)
        assert np.array_equal(k(x.astype(F)), y, equal_nan=True)
        assert np.array_equal(np.signbit(k(x.astype(F))), np.signbit(y)) or s != s


# ---- signatures


class Scale:
    def __init__(self, by):
        self.by = by

    def __call__(self, x, *, bias=0.0):
        return x * self.by + bias

    def method(self, x, w):
        return x * self.by + w


def keyword_only(x, *, w, eps=1e-3):
    return x * w + eps


def several(*xs, scale=1.0):
    return sum(xs[1:], xs[0]) * scale


def by_name(x, /, **weights):
    return x * weights["w"] + weights.get("bias", 0)


SIGNATURES = [
    (Scale(2.0), (X,), {"bias": 1.0}),
    (Scale(2.0).method, (X, X), {}),
    (functools.partial(Scale(2.0).method, w=X), (X,), {}),
    (functools.partial(keyword_only, eps=2.0), (X,), {"w": X}),
    (keyword_only, (X,), {"w": X, "eps": 0.5}),
    (several, (X, X, X), {"scale": 2.0}),
    (several, (X,), {}),
    (by_name, (X,), {"w": X, "bias": X[0]}),
    (by_name, (X,), {"w": X, "x": 2.0}),
    (nkigen.trace(keyword_only), (X,), {"w": X}),
    (np.tanh, (X,), {}),
    (np.maximum, (X, X[::-1]), {}),
    (Point, (X, 3), {}),
]


@pytest.mark.parametrize("fn, args, named", SIGNATURES, ids=range(len(SIGNATURES)))
def test_signatures(fn, args, named):
    if fn is Point:

        def fn(x, y):
            return Point(x + 1, y)

    k = verify_against_numpy(fn, *args, rtol=2e-6, **named)
    assert k.verify() == []


def test_static_keywords_may_be_left_out():
    k = nkigen.compile(by_name, X, w=X, x=2.0, bias=1.5)
    assert np.array_equal(k(X, w=X), X * X + F(1.5)) and np.array_equal(k(X, w=X, x=2.0), k(X, bias=1.5, w=X))
    with pytest.raises(errors.StructureError, match="x is static: compiled for 2.0, got 3.0"):
        k(X, w=X, x=3.0)
    with pytest.raises(errors.StructureError, match="'w' is missing"):
        k(X)
    with pytest.raises(errors.StructureError, match="'v' was not there"):
        k(X, w=X, v=X)


OPTION_NAMES = ["target", "check", "cache", "narrow", "plan", "params", "fn", "self", "name", "args"]


@pytest.mark.parametrize("name", OPTION_NAMES)
def test_parameters_named_like_options(name):
    scope = {}
    exec(f"def f(x, {name}): return x + {name}['w']", scope)
    for k in (nkigen.compile(scope["f"], X, {"w": X}), nkigen.compile(scope["f"], X, params={name: {"w": X}})):
        assert np.array_equal(k(X, {"w": X}), X + X)
        assert np.array_equal(k(X, **{name: {"w": X}}), X + X)
        assert np.array_equal(k.reference(X, **{name: {"w": X}}), X + X)


def test_options_are_options():
    with pytest.raises(errors.DTypeError, match="'x' is given twice"):
        nkigen.compile(lambda x: x, x=X, params={"x": X})
    with pytest.raises(errors.DTypeError, match="params is the option"):
        nkigen.compile(lambda params: params, params=X)
    with pytest.raises(errors.OptionError, match="there is no target"):
        nkigen.compile(lambda x, target: x, X, target=X)


def test_input_specs_may_be_structures():
    @nkigen.trace(input_specs=[((4, 8), "f32"), {"w": ((8,), "f32"), "eps": 1e-5}])
    def fn(x, p):
        return x * p["w"] + p["eps"]

    assert [i.name for i in nkigen.compile(fn).inputs] == ["x", "p['w']"]
    assert fn.graph().inputs == (("x", "f32", (4, 8)), ("p_w", "f32", (8,)))
    with pytest.raises(errors.DTypeError, match="f33"):
        nkigen.trace(input_specs=[[((4,), "f33")]])(lambda x: x)


def test_names_are_distinct_identifiers():
    class Odd:
        def __repr__(self):
            return "d\u00e4 -> 'x'"

    def fn(a, a_b, class_, α, _, p_0, p):
        return a["b"] + a_b + class_ + α + _ + p_0 + p[0] + a[2] + a[odd] + a["\ud800"]

    odd = Odd()
    a = {"b": X, 2: X, odd: X, "\ud800": X}
    k = nkigen.compile(fn, a, X, X, X, X, X, [X])
    names = [n for n, _, _ in k.tensor_ir.inputs]
    assert len(set(names)) == len(names) == 10 and all(n.isidentifier() and n.isascii() for n in names)
    assert [i.name for i in k.inputs][:2] == ["a['b']", "a[2]"]
    assert nkigen.parse(str(k.tile_ir)) == k.tile_ir
    compile(k.nki(), "fn", "exec")
    assert_close(k(a, X, X, X, X, X, [X]), X * 10)


# ---- containers, in and out


@dataclasses.dataclass(frozen=True)
class Frozen:
    w: object
    n: int = 2

    def __post_init__(self):
        assert isinstance(self.w, np.ndarray)  # not run on traced arrays

    @functools.cached_property
    def shape(self):
        return self.w.shape


@dataclasses.dataclass(slots=True)
class Slotted:
    w: object
    sub: object = None


class Named(dict):
    __getattr__ = dict.__getitem__


CONTAINERS = [
    [X, 2], (X, 2), {"w": X, 1: 2}, OrderedDict(b=2, a=X), defaultdict(int, w=X), Point(X, {"q": 2}), Frozen(X), Slotted(X),
    Slotted([X, (2, None)], Frozen(X)), SimpleNamespace(w=X, n=2), Named(w=X), [[[[]], X]], (X, X, X),
]  # fmt: skip


def arrays_of(value):
    """The arrays in a structure, found without nkigen's help."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    elif dataclasses.is_dataclass(value):
        value = [getattr(value, f.name) for f in dataclasses.fields(value)]
    elif isinstance(value, SimpleNamespace):
        value = list(vars(value).values())
    return [a for v in value for a in arrays_of(v)] if isinstance(value, (list, tuple)) else []


@pytest.mark.parametrize("value", CONTAINERS, ids=lambda v: type(v).__name__)
def test_containers_go_in_and_out(value):
    seen = []

    def fn(s):
        seen.append(s)
        return s, s

    k = nkigen.compile(fn, value)
    assert type(seen[0]) is type(value)
    if isinstance(value, defaultdict):
        assert seen[0].default_factory is int
    for run in (k, k.reference):
        a, b = run(value)
        assert type(a) is type(b) is type(value)
        assert all(np.array_equal(u, X) for u in arrays_of(a) + arrays_of(b))
        assert len(arrays_of(a)) == len(arrays_of(value))


def test_what_is_beside_the_fields_of_a_dataclass():
    k = nkigen.compile(lambda p: p.w * p.shape[0], Frozen(X))
    used = Frozen(X)
    assert used.shape == X.shape  # now cached
    assert np.array_equal(k(used), X * 6)
    k = nkigen.compile(lambda p: p.w * p.shape[0], used)
    assert np.array_equal(k(Frozen(X)), X * 6)


def test_the_caller_keeps_what_was_given():
    params = {"w": X, "layers": [1, 2]}

    def fn(p):
        p["w"] = p["w"] * 2
        p["layers"].append(3)
        return p

    out = nkigen.compile(fn, params)(params)
    assert params == {"w": X, "layers": [1, 2]}
    assert np.array_equal(out["w"], X * 2) and out["layers"] == [1, 2, 3]


RESULTS = {
    "one in a tuple": (lambda x: (x + 1,), 1),
    "one in a list": (lambda x: [x + 1], 1),
    "dict": (lambda x: {"y": x + 1, "n": 3, "none": None, "text": "t"}, 1),
    "dataclass": (lambda x: Slotted(x * 2, [x, None]), 2),
    "named tuple": (lambda x: Point(x + 1, (x, Mode.TWICE, 2.5)), 2),
    "twice the same": (lambda x: (x, x, {"y": x}), 3),
    "constant": (lambda x: (x + 1, np.arange(6, dtype=F)), 2),
    "constants only": (lambda x: [np.eye(3, dtype=F)], 1),
    "scalar": (lambda x: (x + 1, F(2), np.dtype("f4"), slice(3), ...), 1),
    "sum": (lambda x: {"loss": (x + 1).sum(), "x": x}, 2),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results(name):
    fn, count = RESULTS[name]
    k = verify_against_numpy(fn, X, check="every-pass", cache=False)
    assert len(k.outputs) == count
    assert type(k(X)) is type(k.reference(X)) is type(fn(X))
    compile(k.nki(), "fn", "exec")


def test_a_constant_result_of_another_dtype():
    k = nkigen.compile(lambda x: (x, np.arange(3, dtype=np.int32), np.array([True])), X)
    _, i, b = k(X)
    assert i.tolist() == [0, 1, 2] and b.tolist() == [True] and i.dtype == np.int32 and b.dtype == bool


def test_verify_against_numpy_compares_what_is_no_array():
    calls = []

    def fn(x):
        calls.append(0)
        return x, len(calls)

    with pytest.raises(errors.StructureError, match=r"result\[1\] is static"):
        verify_against_numpy(fn, X)


def test_show_takes_static_arguments(capsys, tmp_path):
    from nkigen.cli import main, parse_arguments

    file = tmp_path / "kernels.py"
    file.write_text("def f(x, p, eps, act='relu'):\n    assert act == 'gelu' and eps == 1e-5\n    return x @ p['w'] + eps\n")
    args = ["8x4", "p={'w': ((4, 2), 'f32'), 'bias': None}", "eps=1e-5", "act=gelu"]
    assert main(["show", f"{file}:f", *args]) == 0
    assert "%p_w = input {index=1} : f32[4, 2]" in capsys.readouterr().out
    assert main(["show", f"{file}:f", "eps=1", "8x4"]) == 2
    assert "by position come before" in capsys.readouterr().err
    assert parse_arguments(["w=8x4:bf16", "s=scalar:i32"]) == ([], {"w": ((8, 4), "bf16"), "s": ((), "i32")})


def test_a_default_array_is_static():
    k = nkigen.compile(lambda x, w=X: x * w, X)
    assert np.array_equal(k(X), X * X) and np.array_equal(k(X, X.copy()), X * X)
    with pytest.raises(errors.StructureError, match=r"compiled for an array of shape \(6, 16\), got another like it"):
        k(X, X + 1)
    assert np.array_equal(nkigen.compile(lambda x, w=X: x * w, X, X)(X, X + 1), X * (X + 1))


def test_the_page_about_parameters(capsys):
    page = (Path(__file__).parents[2] / "docs" / "parameters.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    exec(compile(code, "parameters.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page
    assert "layers[1]['w']" in capsys.readouterr().out


def step(x, state, lr=0.5):
    """In-place updates of arrays inside of containers."""
    state["mean"] *= 0.9
    state["layers"][0][:, :2] += x[:, :2] * lr
    state["count"] += 1
    return {"loss": (x + 1).sum(), "mean": state["mean"]}


def test_arrays_in_containers_are_updated_in_place():
    state = {"mean": X.copy(), "layers": [X.copy(), None], "count": np.arange(3, dtype=np.int32)}
    k = verify_against_numpy(step, X, state)
    assert state["count"].tolist() == [0, 1, 2] and np.array_equal(state["mean"], X)
    assert {k.inputs[j].name for j in k.aliases.values()} == {"state['mean']", "state['layers'][0]", "state['count']"}
    out = k(X, state)
    assert out["mean"] is state["mean"] and state["count"].tolist() == [1, 2, 3]
    assert_close(state["layers"][0][:, :2], X[:, :2] * 1.5)
    with pytest.raises(errors.NkigenError, match=r"changes its parameter 'state\['layers'\]\[0\]'"):
        k(X, {**state, "layers": [X.astype(np.float64), None]})


def test_a_spec_of_complex_numbers_is_a_spec():
    with pytest.raises(errors.DTypeError, match="parameter 'x': dtype .* is not supported"):
        nkigen.compile(lambda x: x, ((4, 6), complex))
