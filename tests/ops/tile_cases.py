"""What NumPy says of every tile instruction: `CASES` has a generator for each row.

Expected values are closed forms in f32 (f64 for the activation functions), stored in the
dtype of the destination.
"""

import itertools
import math

import numpy as np
from tile_alu_cases import (
    SHAPES,
    reciprocal,
    scalar_tensor_tensor,
    tensor_scalar,
    tensor_tensor,
)
from tile_program import (
    ALU,
    COMPARE,
    DTYPES,
    LOGICAL,
    ROW_REDUCE,
    SMALL,
    SPECIAL,
    WIDE,
    Case,
    alu,
    bits,
    domains,
    f32,
    loaded,
    rng,
    steps,
    stored,
    values,
    words,
)

# ---- copies, fills, selects


def boundaries(name):
    """f32 values around every rounding step of a dtype."""
    if name in SMALL:
        t = steps(name)
        mid = ((t[1:] + t[:-1]) / 2).astype(f32)
        v = np.concatenate(
            [t.astype(f32), mid, np.nextafter(mid, f32(np.inf)), np.nextafter(mid, f32(0))]
        )
    else:
        whole = np.array(
            [0, 1, 2, 3, 126, 127, 128, 254, 255, 256, 32766, 32767, 32768, 65534, 65535, 65536],
            f32,
        )
        v = np.concatenate([whole + d for d in (-1, -0.51, -0.5, -0.49, 0, 0.49, 0.5, 0.51)])
        big = np.array([2.0**k for k in range(20, 66)], f32)
        v = np.concatenate([v, big, np.nextafter(big, f32(0)), np.nextafter(big, f32(np.inf))])
    v = np.concatenate([v, -v, SPECIAL]).astype(f32)
    n = -len(v) % 128
    return np.concatenate([v, np.zeros(n, f32)]).reshape(128, -1)


def every_code(name):
    if name in SMALL:
        n = 2 ** (8 * SMALL[name]().itemsize)
        return np.arange(n, dtype=np.uint32).astype(SMALL[name]).view(DTYPES[name]).reshape(16, -1)
    if name == "bool":
        return np.array([[False, True]])
    if name in ("i8", "u8", "i16", "u16"):
        t = np.dtype(DTYPES[name])
        return (
            np.arange(2 ** (8 * t.itemsize), dtype=np.uint32)
            .astype(f"u{t.itemsize}")
            .view(t)
            .reshape(16, -1)
        )
    if name == "f64":
        return values((4, 70)).astype(np.float64) * 1.1
    return values((4, 70), name)


def conversions(op, layouts=("row",)):
    everything = [*DTYPES, *WIDE]
    for name, layout in itertools.product(everything, layouts):
        v = boundaries(name)
        yield Case(f"{op} {{y}}, {{x}}", {"x": v}, {"y": stored(v, name)}, layout=layout)
        v = every_code(name)
        with np.errstate(all="ignore"):
            wide = v.astype(f32)
        yield Case(f"{op} {{y}}, {{x}}", {"x": v}, {"y": wide}, layout=layout)
        yield Case(f"{op} {{y}}, {{x}}", {"x": v}, {"y": v}, layout=layout)
    for a, b in itertools.permutations(everything, 2):
        v = every_code(a)[:4, :70]
        with np.errstate(all="ignore"):
            yield Case(f"{op} {{y}}, {{x}}", {"x": v}, {"y": stored(v.astype(f32), b)})


def dma_copy():
    yield from conversions("dma_copy")
    for layout in ("strided", "blocked", "apart"):
        for shape, name in itertools.product([(3, 10), (2, 2600)], ["u8", "bf16", "f32", "f64"]):
            v = values(shape, name) if name != "f64" else values(shape).astype(np.float64)
            yield Case("dma_copy {y}, {x}", {"x": v}, {"y": v}, layout=layout)
            yield Case("dma_copy {y}, {x}", {"x": v}, {"y": v.astype(f32)}, layout=layout)


def dma_transpose():
    for name in ("f32", "bf16", "u32", "i16", "u8"):
        for p, f in ((4, 7), (128, 64), (33, 128), (1, 5)):
            v = values((p, f), name)
            yield Case("dma_transpose {y}, {x}", {"x": v}, {"y": v.T.copy()})
        v = values((3, 4, 5), name)
        yield Case("dma_transpose {y}, {x}", {"x": v}, {"y": v.transpose(2, 1, 0).copy()})


def tensor_copy():
    yield from conversions("tensor_copy", ("row", "strided"))
    for engine, name in itertools.product(("vector", "scalar", "gpsimd"), DTYPES):
        v = values((5, 12), name)
        yield Case(
            f"tensor_copy {{y}}, {{x}} {{engine={engine}}}",
            {"x": v},
            {"y": v},
            layout="blocked",
            verified=name != "fp8_e3m4" and name != "fp8_e4m3fn",
        )


def memset():
    for name in DTYPES:
        if name in SMALL:
            t = steps(name)
            t = (
                t[: 200 if len(t) > 300 else len(t)].tolist()
                + t[-40:].tolist()
                + t[:: len(t) // 60 + 1].tolist()
            )
            t = np.unique(t)
            mid = (t[1:] + t[:-1]) / 2
            v = np.concatenate(
                [t, mid, np.nextafter(mid, 0), np.nextafter(mid, np.inf), [1e300, 5e-324, np.inf]]
            )
            v = np.concatenate([v, -v, [np.nan]])
        elif name == "f32":
            v = np.concatenate(
                [SPECIAL.astype(np.float64), [0.1, 1e300, 1 + 2.0**-24, 1 + 2.0**-24 + 2.0**-50]]
            )
        else:
            info = np.iinfo(DTYPES[name]) if name != "bool" else np.iinfo(np.uint8)
            whole = np.array([info.min, info.min + 1, 0, 1, 2, info.max - 1, info.max], np.float64)
            v = np.concatenate(
                [whole, whole + 0.5, whole - 0.5, whole + 0.51, [1e30, -1e30, np.nan, np.inf]]
            )
        for engine in ("vector", "gpsimd"):
            before = [
                f"memset %y[0+1, {i}: 1*1] {{imm0={x!r}, engine={engine}}}"
                for i, x in enumerate(v.tolist())
            ]
            yield Case("\n".join(before), {}, {"y": stored(v, name)[None]})
        for shape, layout in itertools.product(
            [(3, 10), (2, 2100)], ["row", "strided", "blocked", "apart"]
        ):
            want = np.full(shape, stored(np.float64(3), name))
            yield Case("memset {y} {imm0=3}", {}, {"y": want}, layout=layout)


def tensor_copy_predicated():
    for name, pred in itertools.product(
        [*DTYPES, "f64"], ("u8", "u16", "u32", "bool", "f32", "i32")
    ):
        shape = (3, 2100) if name in ("f32", "u8", "bf16") else (3, 10)
        for reverse, layout in itertools.product((False, True), ("row", "strided")):
            old = values(shape, name) if name != "f64" else values(shape).astype(np.float64)
            new = values(shape, name) if name != "f64" else values(shape).astype(np.float64)
            p = (rng.integers(0, 2, shape) * rng.integers(1, 100, shape)).astype(DTYPES[pred])
            keep = (p != 0) != reverse
            yield Case(
                f"tensor_copy_predicated {{y}}, {{x}}, {{p}} {{reverse_pred={str(reverse).lower()}}}",
                {"y": old, "x": new, "p": p},
                {"y": np.where(keep, new, old)},
                layout=layout,
                verified=pred[0] in "ub" and name not in ("f64", "fp8_e3m4", "fp8_e4m3fn"),
            )
    x, old, p = values((4, 9)), values((4, 9), "i16"), values((4, 9), "u8")
    want = {"y": np.where(p != 0, stored(x, "i16"), old)}
    yield Case("tensor_copy_predicated {y}, {x}, {p}", {"y": old, "x": x, "p": p}, want)


def select_reduce():
    for name, pred in itertools.product(
        ("f32", "bf16", "i16", "fp8_e5m2"), ("u8", "i8", "i16", "bool")
    ):
        for shape, reverse in itertools.product([(4, 9), (2, 2100)], (False, True)):
            x, p = values(shape), rng.integers(0, 3, shape).astype(DTYPES[pred])
            keep = (p != 0) != reverse
            at = f"reverse_pred={str(reverse).lower()}"
            col = values((shape[0], 1))
            for layout in ("row", "strided"):
                yield Case(
                    f"select_reduce {{y}}, {{p}}, {{x}}, _ {{imm0=-7.25, {at}}}",
                    {"x": x, "p": p},
                    {"y": stored(np.where(keep, x, f32(-7.25)), name)},
                    layout=layout,
                    verified=True,
                )
                yield Case(
                    f"select_reduce {{y}}, {{p}}, {{x}}, {{f}} {{{at}}}",
                    {"x": x, "p": p, "f": col},
                    {"y": stored(np.where(keep, x, col), name)},
                    layout=layout,
                    verified=True,
                )


# ---- reductions


def reduced(op, x, axis):
    """op over axes in f64, rounded to f32; logic is of 0 and 1."""
    x = x.astype(np.float64)
    if op in ROW_REDUCE:
        with np.errstate(all="ignore"):
            return ROW_REDUCE[op](x, axis=axis).astype(f32)
    fold = {
        "logical_and": np.all,
        "logical_or": np.any,
        "logical_xor": lambda v, axis: v.sum(axis) % 2,
    }
    return fold[op](x, axis=axis).astype(f32)


def reducible(op, shape, name="f32"):
    """Values whose sum or product is exact in f32, so that its order does not matter."""
    if op in LOGICAL:
        mostly = 0.02 if op != "logical_and" else 0.98
        return (rng.random(shape) < mostly).astype(DTYPES[name])
    if op == "multiply":
        v = rng.choice(np.array([1, 1, 1, -1, 2, 0.5]), shape)
        return v.astype(DTYPES[name]) if name[0] not in "iu" else np.ones(shape, DTYPES[name])
    if op == "add":
        return rng.integers(0, 8, shape).astype(DTYPES[name])
    v = values(shape, name)
    return np.where(np.isnan(loaded(v)), 0, v).astype(DTYPES[name])


REDUCTIONS = (*ROW_REDUCE, *LOGICAL)


def tensor_reduce():
    shapes = [(3, 5), (2, 64), (4, 6, 7), (2, 3, 4, 5), (1, 5000), (2, 3, 2100), (3, 700, 4)]
    for op, shape in itertools.product(REDUCTIONS, shapes):
        x = reducible(op, shape)
        for naxes, negate in itertools.product(range(1, len(shape)), (False, True)):
            want = reduced(op, x, tuple(range(len(shape) - naxes, len(shape))))
            want = (-want if negate else want).reshape(shape[0], -1)
            line = f"tensor_reduce {{y}}, {{x}} {{op={op}, naxes={naxes}, negate={str(negate).lower()}}}"
            yield Case(line, {"x": x}, {"y": want}, verified=math.prod(shape) < 5000)
    for op, layout, name in itertools.product(
        REDUCTIONS, ("strided", "apart"), ("f32", "bf16", "i32", "u8")
    ):
        x = reducible(op, (3, 37), name)
        want = stored(reduced(op, loaded(x), 1).reshape(3, 1), name)
        line = f"tensor_reduce {{y}}, {{x}} {{op={op}, naxes=1}}"
        yield Case(line, {"x": x}, {"y": want}, layout=layout, verified=True)
    # the reduced dims lie outside of the kept ones: [P, kept, reduced] with kept contiguous
    for op, kept, red, name in itertools.product(
        REDUCTIONS, (16, 17, 2100), (2, 5), ("f32", "bf16")
    ):
        x = reducible(op, (2, red * kept), name)
        v = x.reshape(2, red, kept)
        at = f"%x[0+2, 0: {kept}*1, {red}*{kept}]"
        line = f"tensor_reduce {{y}}, {at} {{op={op}, naxes=1, negate=true}}"
        yield Case(line, {"x": x}, {"y": -reduced(op, loaded(v), 1)})
        if kept < 100:
            w = reducible(op, (2, 3 * red * 2 * kept), name)
            v = w.reshape(2, red, 3, 2, kept)
            at = f"%x[0+2, 0: 3*{2 * kept}, {kept}*1, {red}*{6 * kept}, 2*{kept}]"
            line = f"tensor_reduce {{y}}, {at} {{op={op}, naxes=2}}"
            yield Case(line, {"x": w}, {"y": reduced(op, loaded(v), (1, 3)).reshape(2, -1)})
    x = np.array([[np.nan, 1, 2], [1, np.nan, -1], [1, 2, np.nan], [np.inf, -np.inf, 0]], f32)
    for op in ("maximum", "minimum"):
        want = {"y": reduced(op, x, 1).reshape(4, 1)}
        yield Case(f"tensor_reduce {{y}}, {{x}} {{op={op}}}", {"x": x}, want)


def tensor_scalar_reduce():
    for op0, op1, shape in itertools.product(
        ALU, ROW_REDUCE, [(3, 5), (2, 70), (1, 2100), (128, 3)]
    ):
        a = bits(shape) if op0 in LOGICAL else rng.integers(0, 2, shape).astype(f32)
        k = f32(1)
        if op1 == "multiply" and shape[1] > 70:
            a[:] = 1
        col = rng.integers(0, 2, (shape[0], 1)).astype(f32)
        for s, where, ins, more in ((k, "_", {}, ", imm0=1"), (col, "{f}", {"f": col}, "")):
            t = alu(op0, a, s)
            if op1 == "multiply" and not np.isfinite(np.prod(t.astype(np.float64), axis=1)).all():
                continue
            with np.errstate(all="ignore"):
                r = reduced(op1, t, 1).reshape(-1, 1)
            if not np.array_equal(
                r.astype(np.float64), ROW_REDUCE[op1](t.astype(np.float64), axis=1, keepdims=True)
            ):
                continue  # not exact in f32
            line = (
                f"tensor_scalar_reduce {{y}}, {{r}}, {{a}}, {where} {{op0={op0}, op1={op1}{more}}}"
            )
            yield Case(line, {"a": a, **ins}, {"y": t, "r": r}, verified=True)
    for op1 in LOGICAL:
        a = values((3, 9))
        t = alu("greater", a, 0.5)
        line = f"tensor_scalar_reduce {{y}}, {{r}}, {{a}}, _ {{op0=greater, op1={op1}, imm0=0.5}}"
        yield Case(line, {"a": a}, {"y": t, "r": reduced(op1, t, 1).reshape(3, 1)})
    a = rng.integers(0, 9, (3, 40)).astype(DTYPES["bf16"])  # the sum is of unrounded values
    t = alu("add", loaded(a), 0.0009765625)
    line = "tensor_scalar_reduce {y}, {r}, {a}, _ {op0=add, op1=add, imm0=0.0009765625}"
    yield Case(
        line,
        {"a": a},
        {"y": stored(t, "bf16"), "r": reduced("add", t, 1).reshape(3, 1)},
        layout="strided",
    )


def tensor_partition_reduce():
    for op, p, f in itertools.product(REDUCTIONS, (1, 2, 31, 128), (1, 9, 2100)):
        x = reducible(op, (p, f))
        want = {"y": reduced(op, x, 0).reshape(1, f)}
        verified = op in ("add", "maximum")
        yield Case(
            f"tensor_partition_reduce {{y}}, {{x}} {{op={op}}}", {"x": x}, want, verified=verified
        )
    for name, layout in itertools.product(
        ("bf16", "i32", "f16"), ("strided", "blocked", "apart")
    ):
        x = reducible("add", (7, 10), name)
        want = {"y": stored(reduced("add", loaded(x), 0).reshape(1, 10), name)}
        yield Case(
            "tensor_partition_reduce {y}, {x} {op=add}",
            {"x": x},
            want,
            layout=layout,
            verified=True,
        )


# ---- the tensor engine, shuffles


def nc_matmul():
    for k, m, n in (
        (1, 1, 1),
        (3, 4, 5),
        (128, 128, 512),
        (17, 33, 70),
        (64, 6, 130),
        (127, 5, 16),
    ):
        for name, to in (("f32", "f32"), ("bf16", "f32"), ("fp8_e5m2", "f32"), ("f16", "bf16")):
            a = rng.integers(-3, 4, (k, m)).astype(DTYPES[name])
            b = rng.integers(-3, 4, (k, n)).astype(DTYPES[name])
            c = rng.integers(-9, 9, (m, n)).astype(DTYPES[to])
            ab = loaded(a).T @ loaded(b)
            spaces = {"c": "psum"}
            for layout in ("row", "strided") if k < 100 else ("row",):
                yield Case(
                    "nc_matmul {c}, {a}, {b}, _",
                    {"a": a, "b": b},
                    {"c": stored(ab, to)},
                    spaces=spaces,
                    layout=layout,
                    target="trn3" if to == "bf16" else "trn2",
                    verified=layout == "row" or n < 200,
                )
                yield Case(
                    "nc_matmul {c}, {a}, {b}, _ {accumulate=true}",
                    {"a": a, "b": b, "c": c},
                    {"c": stored(loaded(c) + ab, to)},
                    spaces=spaces,
                    layout=layout,
                )
    # a loop: parts of K, the first starts the sum
    for steps, k, n in ((2, 4, 8), (70, 2, 5), (5, 128, 512)):
        a = rng.integers(-3, 4, (k, steps * 16)).astype(f32)
        b = rng.integers(-3, 4, (k, steps * n)).astype(f32)
        want = sum(a[:, 16 * i : 16 * i + 16].T @ b[:, n * i : n * i + n] for i in range(steps))
        at = f"%a[0+{k}, 16*%i: 16*1], %b[0+{k}, {n}*%i: {n}*1]"
        for first in ("%i", "_"):
            before = f"memset %c[0+16, 0: {n}*1] {{imm0=2}}\n" if first == "_" else ""
            acc = " {accumulate=true}" if first == "_" else ""
            line = f"{before}%i = loop {{count={steps}}}\nnc_matmul {{c}}, {at}, {first}{acc}\nend"
            outs = {"c": want + f32(2 * (first == "_"))}
            yield Case(line, {"a": a, "b": b}, outs, spaces={"c": "psum"})


def nc_transpose():
    for name, p, f in itertools.product(("f32", "bf16", "f16"), (1, 5, 128), (1, 6, 64, 128)):
        v = values((p, f), name)
        for layout in ("row", "strided"):
            spaces = {"y": "psum"}
            case = Case(
                "nc_transpose {y}, {x}", {"x": v}, {"y": v.T.copy()}, spaces=spaces, layout=layout
            )
            case.verified = layout == "row"
            yield case
    for name, p, f in itertools.product(DTYPES, (1, 7, 32), (4, 32)):
        v = values((p, f), name)
        for layout in ("row", "blocked", "strided"):
            yield Case(
                "nc_transpose {y}, {x} {engine=vector}", {"x": v}, {"y": v.T.copy()}, layout=layout
            )
    v = values((6, 10), "bf16")
    for layout in ("row", "strided", "blocked"):
        want = {"y": loaded(v).T.copy()}
        yield Case(
            "nc_transpose {y}, {x}",
            {"x": v},
            want,
            spaces={"y": "psum"},
            target="trn1",
            layout=layout,
        )


def nc_stream_shuffle():
    for name, parts, layout in itertools.product(
        ("f32", "bf16", "u8"), (1, 5, 32, 64, 128), ("row", "strided")
    ):
        for f in (3, 150):
            x, old = values((parts, f), name), values((parts, f), name)
            lanes = min(parts, 32)
            mask = rng.integers(0, lanes, 32)
            mask[rng.random(32) < 0.2] = 255
            want = old.copy()
            for p in range(parts):
                if mask[p % 32] != 255:
                    want[p] = x[p // 32 * 32 + mask[p % 32]]
            text = ", ".join(map(str, mask))
            line = f"nc_stream_shuffle {{y}}, {{x}} {{mask=[{text}]}}"
            yield Case(line, {"y": old, "x": x}, {"y": want}, layout=layout, verified=True)


# ---- index patterns


def affine(pattern, offset, channel, parts):
    """[parts, elements] int32, wrapped."""
    v = np.arange(parts, dtype=np.int64)[:, None] * channel + offset
    for step, num in zip(pattern[::2], pattern[1::2]):
        v = v[..., None] + np.arange(num, dtype=np.int64) * step
    return v.reshape(parts, -1).astype(np.int32)


PATTERNS = [
    [1, 8],
    [3, 5, -2, 4],
    [0, 3, 7, 2, 1, 5],
    [-1, 2100],
    [100, 3, 1, 1500],
    [2**30, 9],
    [5, 1],
    [1, 64, 1, 3],
]


def iota():
    for p, offset, channel in itertools.product(PATTERNS, (0, -7, 2**31 - 5), (0, 1, -3, 2**29)):
        v = affine(p, offset, channel, 4)
        for name in (
            ("i32", "f32", "bf16", "u8", "i16", "u32") if offset == -7 else ("i32", "f32")
        ):
            want = v.view(np.uint32) if name == "u32" else stored(v.astype(f32), name)
            want = v if name == "i32" else want
            line = f"iota {{y}} {{pattern={p}, offset={offset}, channel_multiplier={channel}}}"
            yield Case(line, {}, {"y": want}, layout="strided" if channel else "row", verified=True)


def affine_select():
    for p, op, channel in itertools.product(PATTERNS, COMPARE, (0, 1, -3)):
        v = affine(p, -4, channel, 4)
        for name in ("f32", "bf16", "u8"):
            x = values(v.shape, name)
            keep = ALU[op](v, 0)
            want = np.where(keep, x, stored(np.float32(9.5), name))
            at = f"pattern={p}, offset=-4, channel_multiplier={channel}, op={op}, imm0=9.5"
            layout = "strided" if channel else "row"
            yield Case(
                f"affine_select {{y}}, {{x}} {{{at}}}",
                {"x": x},
                {"y": want},
                layout=layout,
                verified=True,
            )
    x = values((4, 8))
    v = affine([1, 8], -4, 0, 4)
    want = np.where(v < 0, stored(x, "i16"), stored(np.float32(-3), "i16"))
    line = "affine_select {y}, {x} {pattern=[1, 8], offset=-4, op=less, imm0=-3}"
    yield Case(line, {"x": x}, {"y": want}, verified=True)


# ---- activation functions


def each(f):
    def run(x):
        return np.array([f(float(v)) for v in x.ravel()]).reshape(x.shape)

    return run


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


ACT = {
    "copy": lambda x: x,
    "square": lambda x: (x * x).astype(f32),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.where(x < 0, 0, x),
    "gelu": lambda x: x * 0.5 * each(math.erfc)(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: x
    / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "softplus": softplus,
    "mish": lambda x: x * np.tanh(softplus(x)),
    "erf": each(math.erf),
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "arctan": np.arctan,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "sign": np.sign,
    "abs": np.abs,
}
EXACT = ("copy", "square", "relu", "sign", "abs", "reciprocal", "sqrt")


def arguments(func):
    """f32 arguments inside of the function's range: all magnitudes, and where its form changes."""
    dense = np.concatenate(
        [np.linspace(-16, 16, 1201), np.geomspace(1e-45, 3e38, 600), np.linspace(-2, 2, 401)]
    )
    edges = [
        0.0,
        -0.0,
        0.5,
        1,
        math.pi,
        math.pi / 2,
        6,
        15,
        20,
        50,
        60,
        88.7,
        89,
        104,
        200,
        700,
        np.inf,
    ]
    v = np.concatenate([dense, edges]).astype(f32)
    v = np.concatenate([v, -v, np.nextafter(v, f32(np.inf)), [np.nan]]).astype(f32)
    lo, hi, of_abs = domains().get(func, (-np.inf, np.inf, False))
    if func in domains():
        ends = np.array(
            [lo, hi, np.nextafter(f32(lo), f32(hi)), np.nextafter(f32(hi), f32(lo))], f32
        )
        v = np.concatenate([v, ends, -ends]).astype(f32)
    m = np.abs(v) if of_abs else v
    return v[~((m < lo) | (m > hi))]


def activation():
    for func in words("ACT"):
        x = arguments(func)
        with np.errstate(all="ignore"):
            want = ACT[func](x.astype(np.float64) if func != "square" else x).astype(f32)
        ulp = 0 if func in EXACT else 1
        for shape in ((1, -1), (-1, 1)):
            v, y = x.reshape(shape), want.reshape(shape)
            if len(v) > 128:
                v, y = x[: len(x) // 128 * 128].reshape(128, -1), want[
                    : len(x) // 128 * 128
                ].reshape(128, -1)
            line = f"activation {{y}}, _, {{x}}, _, _ {{func={func}}}"
            yield Case(line, {"x": v}, {"y": y}, ulp=ulp)
        for name in ("bf16", "f16", "i32", "fp8_e5m2"):
            # near a step of the dtype one ulp of f32 decides: such arguments are left out
            near = [stored(np.nextafter(want, f32(d)), name) for d in (-np.inf, np.inf)]
            with np.errstate(all="ignore"):
                clear = (near[0] == near[1]) | np.isnan(want)
            line = f"activation {{y}}, _, {{x}}, _, _ {{func={func}}}"
            yield Case(
                line,
                {"x": x[clear][None]},
                {"y": stored(want, name)[clear][None]},
                layout="strided",
            )
    for shape, layout in itertools.product(SHAPES, ("row", "strided", "blocked")):
        x = rng.integers(-4, 5, shape).astype(f32)
        s = rng.integers(-2, 3, (shape[0], 1)).astype(f32)
        b = rng.integers(-3, 4, (shape[0], 1)).astype(f32)
        for scale, bias in itertools.product((None, 0.5, "tile"), (None, -1.5, "tile")):
            k = s if scale == "tile" else f32(1 if scale is None else scale)
            c = b if bias == "tile" else f32(0 if bias is None else bias)
            at = ["func=relu"]
            at += [f"scale={scale}"] if isinstance(scale, float) else []
            at += [f"bias={bias}"] if isinstance(bias, float) else []
            ins = {"x": x}
            ins |= {"s": s} if scale == "tile" else {}
            ins |= {"b": b} if bias == "tile" else {}
            refs = f"{{x}}, {'{b}' if bias == 'tile' else '_'}, {'{s}' if scale == 'tile' else '_'}"
            y = np.maximum(x * k + c, 0)
            attrs = "{" + ", ".join(at) + "}"
            case = Case(f"activation {{y}}, _, {refs} {attrs}", ins, {"y": y}, layout=layout)
            case.target = "trn3"
            case.verified = True
            yield case
            r = reduced("add", y, 1).reshape(-1, 1)
            yield Case(
                f"activation {{y}}, {{r}}, {refs} {attrs}", ins, {"y": y, "r": r}, layout=layout
            )


def cases(name):
    """All cases of an instruction."""
    with np.errstate(all="ignore"):
        return list(CASES[name]())


CASES = {
    "dma_copy": dma_copy,
    "dma_transpose": dma_transpose,
    "tensor_copy": tensor_copy,
    "memset": memset,
    "tensor_copy_predicated": tensor_copy_predicated,
    "nc_matmul": nc_matmul,
    "nc_transpose": nc_transpose,
    "tensor_tensor": tensor_tensor,
    "tensor_scalar": tensor_scalar,
    "scalar_tensor_tensor": scalar_tensor_tensor,
    "reciprocal": reciprocal,
    "select_reduce": select_reduce,
    "tensor_reduce": tensor_reduce,
    "tensor_scalar_reduce": tensor_scalar_reduce,
    "activation": activation,
    "nc_stream_shuffle": nc_stream_shuffle,
    "tensor_partition_reduce": tensor_partition_reduce,
    "iota": iota,
    "affine_select": affine_select,
}
