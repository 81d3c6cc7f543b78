"""The busy time of one instruction, in closed form: nisa-facts 2.13 with the numbers of hw.def.

Each row is an instruction between loads and stores; what it adds to its engine is compared
on every target.
"""

import itertools
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "ops"))
from tile_program import CSRC, DTYPES, Case, text_of  # noqa: E402

import nkigen  # noqa: E402

TARGETS = ("trn1", "trn2", "trn3")
ROWS = re.findall(r"^HW\((\w+), ([\d.]+), ([\d.]+), ([\d.]+),", (CSRC / "tile/hw.def").read_text(), re.M)
HW = {t: SimpleNamespace(**{r[0]: float(r[i + 1]) for r in ROWS}) for i, t in enumerate(TARGETS)}


def busy(line, arrays, engine, target, layout="row", spaces=None):
    """us that the instruction adds to its engine."""
    ins = {k: np.zeros(shape, DTYPES[dt]) for k, (shape, dt) in arrays.items()}
    case = Case(line, ins, ins, layout=layout, spaces=spaces or {}, target=target)
    got = nkigen.parse(text_of(case)).cost().engine_us
    case.line = ""
    return got[engine] - nkigen.parse(text_of(case)).cost().engine_us.get(engine, 0)


def check(target, engine, line, arrays, cycles, n, slow=False, extra=0.0, **how):
    h = HW[target]
    want = max(h.min_ii, cycles * (2 if slow else 1)) + extra
    if engine == "vector":
        want += min(h.sram_access, n / 4)
    if engine == "gpsimd":
        want += h.gpsimd_start
    elif n < h.pmax:
        want += h.static_instr * (h.pmax - n) / h.pmax
    got = busy(line, arrays, engine, target, **how) * getattr(h, f"clock_{engine}") * 1e3
    assert got == pytest.approx(want, rel=1e-6), (line, target, arrays, how)


def is_16bit(h, dt):
    return dt in ("bf16", "f16") or (h.vector_fast_fp8 and dt.startswith("fp8"))


PAIRS = [("f32", "f32"), ("bf16", "bf16"), ("bf16", "f32"), ("f32", "f16"), ("f16", "bf16"), ("u8", "u8")]
PAIRS += [("fp8_e5m2", "fp8_e5m2"), ("fp8_e5m2", "bf16")]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", ["tensor_copy", "tensor_scalar"])
def test_copies(op, target):
    h = HW[target]
    where = [{}, {"y": "psum"}, {"x": "psum"}, {"x": "psum", "y": "psum"}]
    for (d, s), spaces, layout, engine in itertools.product(
        PAIRS, where, ("row", "strided"), ("vector", "scalar", "gpsimd")
    ):
        if (engine == "scalar" and target == "trn1") or (engine == "gpsimd" and spaces):
            continue  # not legal
        half, unit = is_16bit(h, d) and is_16bit(h, s), layout == "row"
        rate = 1
        if engine == "scalar" and half:
            rate = h.scalar_fast_copy
        elif engine == "vector" and half:
            rate = (h.vector_fast_copy if unit else h.vector_mid_copy) if not spaces else 1
            rate = h.vector_mid_copy if len(spaces) == 1 and unit else rate
        for n in (512, 40):
            cycles = 4 * n if engine == "gpsimd" and op == "tensor_scalar" else n / rate
            more = "op0=rsqrt, " if engine == "gpsimd" else "op0=multiply, imm0=2, "
            more = more if op == "tensor_scalar" else ""
            refs = ", _, _" if op == "tensor_scalar" else ""
            line = f"{op} {{y}}, {{x}}{refs} {{{more}engine={engine}}}"
            arrays = {"y": ((128, n), d), "x": ((128, n), s)}
            check(target, engine, line, arrays, cycles, n, layout=layout, spaces=spaces)


@pytest.mark.parametrize("target", TARGETS)
def test_wide_strides(target):
    """From 16 bytes on a stride halves the memory interface."""
    for dt, stride, slow in (
        ("f32", 3, False),
        ("f32", 4, True),
        ("bf16", 7, False),
        ("bf16", 8, True),
        ("u8", 16, True),
    ):
        at = f"%x[0+128, 0: 256*{stride}]"
        arrays = {"y": ((128, 256), "f32"), "x": ((128, 256 * stride), dt)}
        line = f"activation {{y}}, _, {at}, _, _ {{func=copy}}"
        check(target, "scalar", line, arrays, 256, 256, slow=slow)
    one = {"y": ((128, 1), "f32"), "x": ((128, 64), "f32")}
    check(target, "vector", "tensor_copy {y}, %x[0+128, 3: 1*32]", one, 1, 1)  # of one element there is no stride


@pytest.mark.parametrize("target", TARGETS)
def test_tensor_tensor(target):
    h = HW[target]
    dts = [("f32",) * 3, ("bf16",) * 3, ("f16",) * 3, ("f32", "bf16", "bf16"), ("bf16", "f32", "bf16")]
    dts += [("bf16", "bf16", "f32"), ("fp8_e5m2",) * 3]
    where = [{}, {"a": "psum"}, {"b": "psum"}, {"y": "psum"}]
    for (d, a, b), spaces, op, layout in itertools.product(
        dts, where, ("add", "subtract", "multiply", "maximum"), ("row", "strided")
    ):
        n, sbuf = 300, not ("a" in spaces or "b" in spaces)
        if ("a" in spaces) != ("b" in spaces):
            cycles = n
        elif sbuf and (d, a, b) == ("bf16",) * 3 and op != "maximum" and layout == "row":
            cycles = n
        elif sbuf and all(is_16bit(h, t) for t in (d, a, b)):
            cycles = 2 * n / h.vector_fast_tt
        else:
            cycles = 2 * n
        arrays = {"y": ((128, n), d), "a": ((128, n), a), "b": ((128, n), b)}
        line = f"tensor_tensor {{y}}, {{a}}, {{b}} {{op={op}}}"
        check(target, "vector", line, arrays, cycles, n, layout=layout, spaces=spaces)
    arrays = {k: ((128, 300), "f16") for k in "yab"}
    check(target, "gpsimd", "tensor_tensor {y}, {a}, {b} {op=add, engine=gpsimd}", arrays, 600, 300)


@pytest.mark.parametrize("target", TARGETS)
def test_scalar_tensor_tensor(target):
    for dt, n, op0, op1 in itertools.product(("f32", "bf16"), (300, 301), ("subtract", "add"), ("multiply", "add")):
        fast = dt == "bf16" and n == 300 and op0 == "subtract" and op1 == "multiply"
        arrays = {k: ((128, n), dt) for k in "yab"}
        line = f"scalar_tensor_tensor {{y}}, {{a}}, _, {{b}} {{op0={op0}, imm0=1, op1={op1}}}"
        check(target, "vector", line, arrays, n if fast else 2 * n, n)
    arrays = {"y": ((128, 300), "bf16"), "a": ((128, 300), "bf16"), "b": ((128, 300), "f32")}
    line = "scalar_tensor_tensor {y}, {a}, _, {b} {op0=subtract, imm0=1, op1=multiply}"
    check(target, "vector", line, arrays, 600, 300)


@pytest.mark.parametrize("target", TARGETS)
def test_other_streams(target):
    h, n = HW[target], 500
    for dt, imm, engine in itertools.product(("f32", "bf16", "f16", "u8"), (0, 1), ("vector", "gpsimd")):
        cycles = n / 2 if imm == 0 and dt in ("bf16", "f16") else n
        check(target, engine, f"memset {{y}} {{imm0={imm}, engine={engine}}}", {"y": ((128, n), dt)}, cycles, n)
    for d, s, op in itertools.product(("f32", "bf16"), ("f32", "bf16"), ("add", "maximum", "minimum")):
        cycles = n / 2 if d == s == "bf16" and op != "minimum" else n
        arrays = {"y": ((128, 1), d), "x": ((128, n), s)}
        check(target, "vector", f"tensor_reduce {{y}}, {{x}} {{op={op}}}", arrays, cycles, n)
    three = {"y": ((128, n), "f32"), "x": ((128, n), "f32"), "p": ((128, n), "u8")}
    for spaces, cycles in (({}, 2 * n), ({"x": "psum"}, n), ({"p": "psum"}, n)):
        line = "tensor_copy_predicated {y}, {x}, {p}"
        check(target, "vector", line, three, cycles, n, spaces=spaces)
        line = "select_reduce {y}, {p}, {x}, _ {imm0=1}"
        check(target, "vector", line, three, cycles, n, spaces=spaces)
    two = {"y": ((128, n), "f32"), "x": ((128, n), "f32")}
    check(target, "vector", "reciprocal {y}, {x}", two, h.reciprocal_cycles * n, n)
    column = {**two, "r": ((128, 1), "f32")}
    line = "tensor_scalar_reduce {y}, {r}, {x}, _ {op0=add, imm0=1, op1=add}"
    check(target, "vector", line, column, n, n, extra=h.min_ii)
    check(target, "scalar", "activation {y}, _, {x}, _, _ {func=exp}", two, n, n)
    check(target, "scalar", "activation {y}, {r}, {x}, _, _ {func=exp}", column, n, n, extra=h.act_read_accumulator)
    mask = ", ".join(map(str, range(32)))
    check(target, "vector", f"nc_stream_shuffle {{y}}, {{x}} {{mask=[{mask}]}}", two, n, n)
    check(target, "gpsimd", f"iota {{y}} {{pattern=[1, {n}]}}", {"y": ((128, n), "f32")}, n, n)
    line = f"affine_select {{y}}, {{x}} {{pattern=[1, {n}], op=less, imm0=0}}"
    check(target, "gpsimd", line, two, n, n)
    for parts, folds in ((128, 8), (16, 1), (17, 2)):
        arrays = {"y": ((1, n), "f32"), "x": ((parts, n), "f32")}
        check(target, "gpsimd", "tensor_partition_reduce {y}, {x} {op=add}", arrays, folds * n, n)


@pytest.mark.parametrize("target", TARGETS)
def test_tensor_engine(target):
    h = HW[target]
    for k, m, n, dt in itertools.product((1, 128), (1, 128), (1, 64, 65, 512), ("bf16", "f32")):
        arrays = {"c": ((m, n), "f32"), "a": ((k, m), dt), "b": ((k, n), dt)}
        passes = h.fp32_passes if dt == "f32" else 1
        want = passes * max(h.mm_min_cycles, n) + h.mm_gap_cycles
        got = busy("nc_matmul {c}, {a}, {b}, _", arrays, "tensor", target, spaces={"c": "psum"})
        assert got * h.clock_tensor * 1e3 == pytest.approx(want)
    for p, f, dt in itertools.product((1, 40, 128), (1, 50, 128), ("bf16", "f32")):
        arrays = {"y": ((f, p), dt), "x": ((p, f), dt)}
        passes = h.fp32_transpose_passes if dt == "f32" else 1
        want = max(passes * max(p, min(h.mm_min_cycles, f)), h.mm_min_cycles) + h.mm_gap_cycles
        got = busy("nc_transpose {y}, {x}", arrays, "tensor", target, spaces={"y": "psum"})
        assert got * h.clock_tensor * 1e3 == pytest.approx(want)


def dma_us(h, rows, bytes_per_row, run_bytes, parts, hbm_bytes):
    """Share of all DMA engines of a transfer of rows * bytes_per_row in runs."""
    engines = min(max(-(-parts // h.dma_engine_partitions), 1), h.dma_engines)
    runs = rows * bytes_per_row / run_bytes
    hbm_us = hbm_bytes / (h.hbm_device_gbs / h.cores_per_device) * 1e-3
    per_run = max(run_bytes, h.dma_run_min) + h.dma_row_bytes
    span = max(runs * per_run / engines / h.dma_engine_gbs * 1e-3, hbm_us)
    return max(max(span, h.dma_least_ns * 1e-3) * engines / h.dma_engines, hbm_us)


@pytest.mark.parametrize("target", TARGETS)
def test_dma(target):
    h = HW[target]
    for parts, n, dt in itertools.product((1, 8, 9, 128), (1, 100, 1024, 5000), ("f32", "bf16", "u8")):
        size = np.dtype(DTYPES[dt]).itemsize
        arrays = {"x": ((parts, n), dt), "y": ((parts, n), dt)}
        got = busy("dma_copy {y}, {x}", arrays, "dma", target)
        # on chip a run is a row
        assert got == pytest.approx(dma_us(h, parts, n * size, n * size, parts, 0)), (parts, n, dt)
        got = busy(f"dma_copy {{y}}, %x_h[0: {parts}*{n}, {n}*1]", arrays, "dma", target)
        total = parts * n * size
        assert got == pytest.approx(dma_us(h, parts, n * size, n * size, parts, total))
        if n > 1:
            got = busy("dma_copy {y}, {x}", arrays, "dma", target, layout="strided")
            assert got == pytest.approx(dma_us(h, parts, n * size, size, parts, 0))
    # a cast moves the wider elements, and each side's bytes count
    arrays = {"x": ((128, 1000), "f32"), "y": ((128, 1000), "bf16")}
    got = busy("dma_copy {y}, %x_h[0: 128*1000, 1000*1]", arrays, "dma", target)
    assert got == pytest.approx(dma_us(h, 128, 4000, 4000, 128, 128 * 4000))


def test_matmul_flops_and_bytes():
    arrays = {
        "c": np.zeros((16, 70), np.float32),
        "a": np.zeros((32, 16), np.float32),
        "b": np.zeros((32, 70), np.float32),
    }
    case = Case("nc_matmul {c}, {a}, {b}, _", arrays, arrays, spaces={"c": "psum"})
    c = nkigen.parse(text_of(case)).cost()
    assert c.flops == 2 * 32 * 16 * 70
    assert c.hbm_read_bytes == c.hbm_write_bytes == sum(v.nbytes for v in arrays.values())
    assert c.hbm_min_bytes == 2 * c.hbm_read_bytes
