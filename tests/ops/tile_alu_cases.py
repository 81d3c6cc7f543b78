"""Cases of the instructions that compute with operators: f32, and exact integers."""

import itertools

import numpy as np
from tile_program import (
    ALU,
    BITWISE,
    COMPARE,
    DTYPES,
    INT_BINARY,
    INTS,
    LOGICAL,
    SHIFTS,
    UNARY,
    Case,
    alu,
    bits,
    f32,
    int_alu,
    loaded,
    operands,
    rng,
    stored,
    values,
    wrapped,
)

# ---- ALU

SHAPES = [(3, 5), (2, 70), (1, 2100), (128, 3)]


def tensor_tensor():
    for op, layout in itertools.product((*ALU, "power", *UNARY), ("row", "strided", "blocked")):
        for shape in SHAPES:
            a, b = operands(op, shape)
            if op == "rsqrt":
                a = np.abs(a)
            yield Case(
                f"tensor_tensor {{y}}, {{a}}, {{b}} {{op={op}}}",
                {"a": a, "b": b},
                {"y": alu(op, a, b)},
                ulp=2 if op in ("power", "rsqrt") else 0,
                layout=layout,
                verified=op in ALU,
            )
    for op, name, to in itertools.product(ALU, DTYPES, ("f32", "bf16", "i32", "u8")):
        a, b = operands(op, (4, 9), name)
        want = {"y": stored(alu(op, loaded(a), loaded(b)), to)}
        yield Case(f"tensor_tensor {{y}}, {{a}}, {{b}} {{op={op}}}", {"a": a, "b": b}, want)
    for op in ("add", "subtract", "multiply", "power"):
        a, b = operands(op, (4, 9))
        at = f"{{op={op}, engine=gpsimd}}"
        ulp = 2 * (op == "power")
        yield Case(
            f"tensor_tensor {{y}}, {{a}}, {{b}} {at}",
            {"a": a, "b": b},
            {"y": alu(op, a, b)},
            ulp=ulp,
            verified=True,
        )
    for engine, op, name in itertools.product(("vector", "gpsimd"), INT_BINARY, (*INTS, "bool")):
        exact = engine == "gpsimd" and name in ("i32", "u32")
        if not (exact or op in BITWISE or op in SHIFTS):
            continue
        shape = (2, 1500) if name == "i32" and op in ("add", "left_shift") else (3, 11)
        a, b = values(shape, name), values(shape, name)
        width = 8 * a.itemsize
        if op in LOGICAL:
            a, b = a & 1, b & 1
        if op in SHIFTS and name != "bool":
            b = np.where(rng.random(shape) < 0.8, rng.integers(0, width + 2, shape), b).astype(
                b.dtype
            )
        if op in COMPARE:
            b = np.where(rng.random(shape) < 0.4, a, b)
        got = [int_alu(op, int(x), int(y), width) for x, y in zip(a.ravel(), b.ravel())]
        got = np.array(got, object).reshape(shape)
        line = f"tensor_tensor {{y}}, {{a}}, {{b}} {{op={op}, engine={engine}}}"
        outs = (
            {"i32", "u32", "i16", "f32", "bf16"}
            if exact and op in ("add", "bitwise_or", "less")
            else {name}
        )
        for to in sorted(outs):
            if to == "bool":
                want = got.astype(bool)
            elif to in INTS and (to in ("i32", "u32") or op not in ALU):
                want = wrapped(got, to)
            else:
                want = stored(got.astype(np.float64), to)
            yield Case(line, {"a": a, "b": b}, {"y": want}, layout="strided")


def tensor_scalar():
    imm = {"logical_and": 1.0, "logical_or": 0.0, "logical_xor": 1.0, "power": 2.5}
    for op, reverse, shape in itertools.product((*ALU, "power"), (False, True), SHAPES):
        a, _ = operands(op, shape)
        col = bits((shape[0], 1)) if op in LOGICAL else np.abs(values((shape[0], 1)))
        k = f32(imm.get(op, 1.5))
        if op in COMPARE:
            a[0, 0] = k
        ulp = 2 * (op == "power")
        at = f"op0={op}, reverse0={str(reverse).lower()}"
        for layout in ("row", "blocked", "strided"):
            sides = (k, a) if reverse else (a, k)
            line = f"tensor_scalar {{y}}, {{a}}, _, _ {{{at}, imm0={k}}}"
            yield Case(
                line, {"a": a}, {"y": alu(op, *sides)}, ulp=ulp, layout=layout, verified=op in ALU
            )
            sides = (col, a) if reverse else (a, col)
            line = f"tensor_scalar {{y}}, {{a}}, {{f}}, _ {{{at}}}"
            yield Case(
                line,
                {"a": a, "f": col},
                {"y": alu(op, *sides)},
                ulp=ulp,
                layout=layout,
                verified=op in ALU,
            )
    for op, y in itertools.product(UNARY, ("f32", "bf16")):
        for shape, at in itertools.product(SHAPES, ("", ", reverse0=true")):
            a = values(shape)
            a = np.abs(a) if op == "rsqrt" else a
            want = {"y": stored(alu(op, a, a), y)}
            line = f"tensor_scalar {{y}}, {{a}}, _, _ {{op0={op}{at}}}"
            yield Case(line, {"a": a}, want, ulp=1)
    a = np.abs(values((4, 9))) + f32(1e-3)
    want = {"y": alu("rsqrt", a, a)}
    yield Case(
        "tensor_scalar {y}, {a}, _, _ {op0=rsqrt, engine=gpsimd}",
        {"a": a},
        want,
        ulp=1,
        verified=True,
    )
    for y in (2, 3, -1, 1, 0.5, 0, -2, 4):
        a = np.abs(values((3, 20)))
        yield Case(
            f"tensor_scalar {{y}}, {{a}}, _, _ {{op0=power, imm0={y}}}",
            {"a": a},
            {"y": alu("power", a, y)},
            ulp=2,
        )
    # the base is the constant; negative bases to whole exponents
    e = np.array([[0, 1, 2, 3, -1, -2, 0.5, 10]], f32)
    yield Case(
        "tensor_scalar {y}, {a}, _, _ {op0=power, imm0=2, reverse0=true}",
        {"a": e},
        {"y": alu("power", 2, e)},
        ulp=2,
    )
    a = np.array([[-2, -3, -0.5, 1, 0, -0.0, np.inf, -np.inf, np.nan]], f32)
    for y in (1, 2, 3, -1):
        yield Case(
            f"tensor_scalar {{y}}, {{a}}, _, _ {{op0=power, imm0={y}}}",
            {"a": a},
            {"y": alu("power", a, y)},
        )
    for op0, op1, r0, r1 in itertools.product(ALU, ALU, (False, True), (False, True)):
        a = (
            bits((3, 9))
            if op0 in LOGICAL or (op1 in LOGICAL and op0 not in COMPARE)
            else values((3, 9))
        )
        if op1 in LOGICAL and op0 not in (*COMPARE, *LOGICAL):
            k0 = f32(
                {"multiply": 1, "subtract": 1 if r0 else 0, "maximum": 1, "minimum": 0}.get(op0, 0)
            )
        else:
            k0 = f32(imm.get(op0, 1.5))
        k1, col = f32(imm.get(op1, -2.5)), (bits((3, 1)) if op1 in LOGICAL else values((3, 1)))
        t = alu(op0, *((k0, a) if r0 else (a, k0)))
        at = f"op0={op0}, imm0={k0}, reverse0={str(r0).lower()}, op1={op1}, reverse1={str(r1).lower()}"
        want = alu(op1, *((k1, t) if r1 else (t, k1)))
        yield Case(
            f"tensor_scalar {{y}}, {{a}}, _, _ {{{at}, imm1={k1}}}",
            {"a": a},
            {"y": want},
            verified=True,
        )
        want = alu(op1, *((col, t) if r1 else (t, col)))
        line = f"tensor_scalar {{y}}, {{a}}, _, {{g}} {{{at}}}"
        yield Case(line, {"a": a, "g": col}, {"y": want}, verified=True)
    for op0, op1, at in (
        ("multiply", None, ""),
        ("add", None, ""),
        ("multiply", "add", ", op1=add, imm1=0.25"),
    ):
        a = values((3, 9))
        want = alu(op0, a, 1.5) if op1 is None else alu(op1, alu(op0, a, 1.5), 0.25)
        line = f"tensor_scalar {{y}}, {{a}}, _, _ {{engine=scalar, op0={op0}, imm0=1.5{at}}}"
        yield Case(line, {"a": a}, {"y": want}, verified=True)
    for name, to in itertools.product(DTYPES, ("f32", "f16", "i32", "u8")):
        a = values((3, 70), name)
        want = stored(alu("add", loaded(a), 1.5), to)
        yield Case("tensor_scalar {y}, {a}, _, _ {op0=add, imm0=1.5}", {"a": a}, {"y": want})
    yield from tensor_scalar_integers()


def tensor_scalar_integers():
    for op, name, reverse in itertools.product((*BITWISE, *SHIFTS), INTS, (False, True)):
        a = values((3, 11), name)
        width = 8 * a.itemsize
        if reverse and op in SHIFTS:
            a = rng.integers(0, width + 1, a.shape).astype(a.dtype)
        k = 3
        at = f"op0={op}, reverse0={str(reverse).lower()}"
        col = np.array([[0], [1], [width - 1]], a.dtype)

        def apply(op, x, y, reverse):
            x, y = np.broadcast_arrays(x, y)
            pairs = zip(x.ravel(), y.ravel())
            got = [
                (
                    int_alu(op, int(v), int(u), width)
                    if reverse
                    else int_alu(op, int(u), int(v), width)
                )
                for u, v in pairs
            ]
            return np.array(got, object).reshape(x.shape)

        one = apply(op, a, np.array(k, object), reverse)
        line = f"tensor_scalar {{y}}, {{a}}, _, _ {{{at}, imm0={k}"
        yield Case(line + "}", {"a": a}, {"y": wrapped(one, name)}, layout="strided", verified=True)
        line_f = f"tensor_scalar {{y}}, {{a}}, {{f}}, _ {{{at}}}"
        yield Case(
            line_f,
            {"a": a, "f": col},
            {"y": wrapped(apply(op, a, col, reverse), name)},
            verified=True,
        )
        value = loaded(col)  # an f32 tile: its value
        yield Case(line_f, {"a": a, "f": value}, {"y": wrapped(apply(op, a, col, reverse), name)})
        for op1, r1 in itertools.product((*BITWISE, *SHIFTS), (False, True)):
            if r1 and op1 in SHIFTS:
                continue
            two = apply(op1, one, np.array(1, object), r1)
            more = f", op1={op1}, imm1=1, reverse1={str(r1).lower()}}}"
            yield Case(line + more, {"a": a}, {"y": wrapped(two, name)}, verified=True)
        for to in ("f32", "bool", "i32"):
            want = wrapped(one, to) if to == "i32" else stored(one.astype(np.float64), to)
            yield Case(line + "}", {"a": a}, {"y": want})
    for op1 in ALU:  # a bit operator, then integers
        a = values((3, 11), "i16")
        one = np.bitwise_and(a, 1 if op1 in LOGICAL else 7)
        if op1 in LOGICAL:
            one = one & 1
        got = [int_alu(op1, int(x), 1, 16) for x in one.ravel()]
        want = wrapped(np.array(got, object).reshape(a.shape), "i32")
        mask = 1 if op1 in LOGICAL else 7
        at = f"op0=bitwise_and, imm0={mask}, op1={op1}, imm1=1"
        yield Case(f"tensor_scalar {{y}}, {{a}}, _, _ {{{at}}}", {"a": a}, {"y": want})
    a = values((2, 3000), "u32")
    want = {"y": a >> np.uint32(7)}
    yield Case(
        "tensor_scalar {y}, {a}, _, _ {op0=right_shift, imm0=7}",
        {"a": a},
        want,
        layout="blocked",
        verified=True,
    )
    for k, v in (
        (9e18, 1),
        (-9e18, 1),
        (1e300, 1),
        (-1, 0),
        (32, 0),
        (2.0**40, 0),
    ):  # no i64: it counts as 0
        a = values((2, 5), "i32")
        line = "tensor_scalar {y}, {a}, _, _ {op0=left_shift, imm0=%r}" % k
        yield Case(line, {"a": a}, {"y": a * np.int32(v)})
        col = np.full((2, 1), k, f32)
        yield Case(
            "tensor_scalar {y}, {a}, {f}, _ {op0=left_shift}",
            {"a": a, "f": col},
            {"y": a * np.int32(v)},
        )


def scalar_tensor_tensor():
    for op0, op1, r0, r1 in itertools.product(ALU, ALU, (False, True), (False, True)):
        shape = (2, 70) if op1 == "add" else (3, 9)
        a = (
            bits(shape)
            if op0 in LOGICAL or (op1 in LOGICAL and op0 not in COMPARE)
            else values(shape)
        )
        b = bits(shape) if op1 in LOGICAL else values(shape)
        if op1 in LOGICAL and op0 not in (*COMPARE, *LOGICAL):
            k = f32({"multiply": 1, "subtract": 1 if r0 else 0, "maximum": 1}.get(op0, 0))
            col = np.full((shape[0], 1), k)
        else:
            k = f32(1 if op0 in LOGICAL else 1.5)
            col = bits((shape[0], 1)) if op0 in LOGICAL else values((shape[0], 1))
        at = f"op0={op0}, reverse0={str(r0).lower()}, op1={op1}, reverse1={str(r1).lower()}"
        for s, where, ins, more in ((k, "_", {}, f", imm0={k}"), (col, "{f}", {"f": col}, "")):
            t = alu(op0, *((s, a) if r0 else (a, s)))
            want = alu(op1, *((b, t) if r1 else (t, b)))
            line = f"scalar_tensor_tensor {{y}}, {{a}}, {where}, {{b}} {{{at}{more}}}"
            yield Case(line, {"a": a, "b": b, **ins}, {"y": want}, verified=True)
            # in place: dst is operand1
            line = f"scalar_tensor_tensor {{b}}, {{a}}, {where}, {{b}} {{{at}{more}}}"
            yield Case(line, {"a": a, "b": b, **ins}, {"b": want}, verified=True)
    for shape, layout, name in itertools.product(
        SHAPES, ("strided", "blocked"), ("bf16", "i32", "f16")
    ):
        a, b = values(shape, name), values(shape, name)
        want = stored(alu("subtract", alu("multiply", loaded(a), 3), loaded(b)), name)
        line = "scalar_tensor_tensor {y}, {a}, _, {b} {op0=multiply, imm0=3, op1=subtract}"
        yield Case(line, {"a": a, "b": b}, {"y": want}, layout=layout, verified=True)


def reciprocal():
    for name, shape, layout in itertools.product(DTYPES, SHAPES, ("row", "strided")):
        a = values(shape)
        with np.errstate(all="ignore"):
            yield Case("reciprocal {y}, {a}", {"a": a}, {"y": stored(1 / a, name)}, layout=layout)
    a = values((3, 9), "bf16")
    with np.errstate(all="ignore"):
        yield Case("reciprocal {y}, {a}", {"a": a}, {"y": 1 / loaded(a)})
