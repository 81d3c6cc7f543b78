"""The cost model: formulas per instruction, published measurements, loops extrapolated."""

import re
import time
from pathlib import Path

import numpy as np
import pytest

import nkigen
from nkigen import calibration

def cost(text):
    """Cost of a program text."""
    return nkigen.parse(text).cost()


def copy_loop(count, body, bufs=2, cols=1024, dt="f32"):
    """Rows through SBUF with a body between load and store."""
    return f"""tile @copy trn2 {{
  %x = buffer {{kind=input, index=0}} : hbm {dt}[{128 * count}, {cols}]
  %y = buffer {{kind=output, index=0}} : hbm {dt}[{128 * count}, {cols}]
  %i = loop {{count={count}}}
    %t = buffer {{bufs={bufs}}} : sbuf {dt}[128, {cols}]
    dma_copy %t[0+128, 0: {cols}*1], %x[{128 * cols}*%i: 128*{cols}, {cols}*1]
    {body}
    dma_copy %y[{128 * cols}*%i: 128*{cols}, {cols}*1], %t[0+128, 0: {cols}*1]
  end
  return %y
}}
"""


def engine_us(text, engine):
    """Busy time of an engine."""
    return cost(text).engine_us[engine]


def test_published_kernels_are_met():
    lines, figures = calibration.table()
    assert len(lines) == len(calibration.ENTRIES) + 1
    for (what, value), goal in zip(figures.items(), calibration.GOALS, strict=True):
        assert 1 <= value <= goal, (what, lines)


def test_published_kernels_verify():
    for entry in calibration.ENTRIES:
        for label, build in entry.readings:
            assert nkigen.parse(build()).verify() == [], (entry.name, label)


def test_the_goals_would_be_missed_by_other_constants():
    """What the table says when the hardware is twice as fast or slow."""
    for factor in (0.5, 2.0):
        wrong = [factor * e.prices()[0][1].total / e.measured_us for e in calibration.ENTRIES]
        assert calibration.mean(wrong) > calibration.GOALS[0]


def test_every_hardware_number_is_used():
    """A number that nothing reads is a claim that nothing tests."""
    root = Path(__file__).parents[1] / "csrc"
    fields = re.findall(r"^HW\((\w+),", (root / "tile" / "hw.def").read_text(), re.M)
    text = "".join(
        p.read_text() for p in root.rglob("*.[ch]") if p.name not in ("hw.c", "hw.def")
    )
    used = set(re.findall(r"->(\w+)", text))
    assert len(fields) > 50
    assert sorted(set(fields) - used) == []


@pytest.mark.parametrize("target, together", [("trn1", False), ("trn2", True)])
def test_engines_take_turns_where_the_hardware_does(target, together):
    def both(space):
        moves = []
        for i in range(64):
            moves.append(f"tensor_copy %a[0+128, 0: 512*1], %p{space}[0+128, 0: 512*1]")
            moves.append(
                f"activation %b[0+128, 0: 512*1], _, %q{space}[0+128, 0: 512*1], _, _ {{func=copy}}"
            )
        return cost(
            f"""tile @turns {target} {{
  %x = buffer {{kind=input, index=0}} : hbm f32[128, 512]
  %y = buffer {{kind=output, index=0}} : hbm f32[128, 512]
  %a = buffer : sbuf f32[128, 512]
  %b = buffer : sbuf f32[128, 512]
  %pp = buffer : psum f32[128, 512]
  %qp = buffer : psum f32[128, 512]
  %ps = buffer : sbuf f32[128, 512]
  %qs = buffer : sbuf f32[128, 512]
  memset %p{space}[0+128, 0: 512*1] {{imm0=1.0}}
  memset %q{space}[0+128, 0: 512*1] {{imm0=1.0}}
  {chr(10).join(moves)}
  tensor_tensor %a[0+128, 0: 512*1], %a[0+128, 0: 512*1], %b[0+128, 0: 512*1] {{op=add}}
  dma_copy %y[0: 128*512, 512*1], %a[0+128, 0: 512*1]
  return %y
}}
"""
        ).time_us

    assert (both("p") < 1.3 * both("s")) == together


@pytest.mark.parametrize("parts,cols,us", [(4, 4096, 3.709), (128, 128, 0.398)])
def test_published_activation(parts, cols, us):
    def program(n):
        acts = f"activation %t[0+{parts}, 0: {cols}*1], _, %t[0+{parts}, 0: {cols}*1], _, _ {{func=exp}}\n"
        return f"""tile @act trn2 {{
  %x = buffer {{kind=input, index=0}} : hbm bf16[{parts}, {cols}]
  %y = buffer {{kind=output, index=0}} : hbm bf16[{parts}, {cols}]
  %t = buffer : sbuf bf16[{parts}, {cols}]
  dma_copy %t[0+{parts}, 0: {cols}*1], %x[0: {parts}*{cols}, {cols}*1]
  {acts * n}
  dma_copy %y[0: {parts}*{cols}, {cols}*1], %t[0+{parts}, 0: {cols}*1]
  return %y
}}
"""

    one, two = cost(program(1)), cost(program(2))
    issue = one.engine_us["scalar"]
    assert issue + 0.29 == pytest.approx(us, rel=0.02)
    # a dependent instruction waits for the one before it, not for a semaphore
    assert issue < two.time_us - one.time_us < issue + 0.29


def test_dma_rows_should_be_long():
    def per_byte(cols):
        return engine_us(copy_loop(4, "", cols=cols), "dma") / cols

    sizes = [per_byte(c) for c in (16, 128, 512, 1024, 4096)]
    assert sizes == sorted(sizes, reverse=True)
    # 1 KiB rows 259 GB/s, 4 KiB rows 354 GB/s
    load = 4 * 2 * 128 * 1024 / 259e3
    assert engine_us(copy_loop(4, "", cols=256), "dma") == pytest.approx(load, rel=0.05)
    load = 4 * 2 * 128 * 4096 / 354e3
    assert engine_us(copy_loop(4, "", cols=1024), "dma") == pytest.approx(load, rel=0.05)


def test_vector_modes():
    tile, turned = "%t[0+128, 0: 1024*1]", "%t[0+128, 0: 32*1, 32*32]"

    def vector(op, dt, src=tile, dst=tile):
        return engine_us(copy_loop(1, f"{op} {dst}, {src}", dt=dt), "vector") * 960

    start = 19  # of the access
    assert vector("tensor_copy", "f32") == pytest.approx(1024 + start)
    assert vector("tensor_copy", "bf16") == pytest.approx(256 + start)
    strided = vector("tensor_copy", "bf16", turned, turned)
    assert strided == pytest.approx(1024 + start)
    assert vector("reciprocal", "f32") == pytest.approx(8 * 1024 + start)
    add = "%t[0+128, 0: 1024*1], %t[0+128, 0: 1024*1] {op=add}"
    assert vector("tensor_tensor", "f32", add) == pytest.approx(2048 + start)
    assert vector("tensor_tensor", "bf16", add) == pytest.approx(1024 + start)


def test_double_buffering_overlaps():
    body = "tensor_copy %t[0+128, 0: 1024*1], %t[0+128, 0: 1024*1]"
    one, two = (cost(copy_loop(64, body, bufs=b)).time_us for b in (1, 3))
    assert two < 0.6 * one


def test_loops_are_extrapolated():
    body = "tensor_copy %t[0+128, 0: 1024*1], %t[0+128, 0: 1024*1]"
    counts = (1000, 2000, 3000)
    times = [cost(copy_loop(n, body)).time_us for n in counts]
    assert times[2] - times[1] == pytest.approx(times[1] - times[0], rel=1e-6)
    per = (times[2] - times[1]) / 1000
    short = (cost(copy_loop(26, body)).time_us - cost(copy_loop(10, body)).time_us) / 16
    assert per == pytest.approx(short, rel=0.05)
    many = copy_loop(1_000_000, body.replace("1024", "32"), cols=32)
    begin = time.perf_counter()
    cost(many)
    assert time.perf_counter() - begin < 1


def test_counts_and_bytes_are_exact():
    c = cost(copy_loop(7, "memset %t[0+128, 0: 1*1] {imm0=1.0}"))
    assert c.instruction_count == 21
    assert c.instructions == {"dma_copy": 14, "memset": 7}
    assert c.hbm_read_bytes == c.hbm_write_bytes == 7 * 128 * 1024 * 4
    assert c.hbm_min_bytes == 2 * c.hbm_read_bytes
    assert c.sbuf_peak_bytes == 2 * 1024 * 4


def test_broadcast_reads_count_every_time():
    text = """tile @row trn2 {
  %x = buffer {kind=input, index=0} : hbm f32[1, 512]
  %y = buffer {kind=output, index=0} : hbm f32[128, 512]
  %t = buffer : sbuf f32[128, 512]
  dma_copy %t[0+128, 0: 512*1], %x[0: 128*0, 512*1]
  dma_copy %y[0: 128*512, 512*1], %t[0+128, 0: 512*1]
  return %y
}
"""
    assert cost(text).hbm_read_bytes == 128 * 512 * 4


def test_cost_of_compiled_kernels_is_linear_in_text():
    def chain(n):  # with one plan for all n
        def fn(x):
            for _ in range(n):
                x = x * 0.5 + 1.0
            return x

        return nkigen.compile(fn, ((128, 512), "f32"), check="off", optimize="fast")

    one, two = chain(50).cost, chain(100).cost
    assert 1 < two.time_us / one.time_us < 2.2


def test_roofline_bounds_time(rng):
    k = nkigen.compile(lambda a, b: a @ b, ((512, 512), "bf16"), ((512, 512), "bf16"))
    c = k.cost
    assert c.time_us >= c.roofline_us > 0
    assert all(v <= c.time_us * (1 + 1e-9) for v in c.engine_us.values())
    a, b = (rng.standard_normal((512, 512)).astype(np.float32) for _ in range(2))
    assert nkigen.compile(lambda a, b: a @ b, a, b).cost.roofline_us >= c.roofline_us


def test_the_benchmark_counts_how_engines_overlap():
    """Geometric mean and worst of time over the busiest engine, of kernels that are not short."""
    from nkigen import bench

    rows = [
        {"modelled_us": 110.0, "roofline_us": 55.0, "engine_us": {"vector": 100.0, "dma": 50.0}},
        {"modelled_us": 440.0, "roofline_us": 400.0, "engine_us": {"dma": 100.0}},
        {"modelled_us": 90.0, "roofline_us": 1.0, "engine_us": {"dma": 1.0}},
    ]
    assert "2 rows" in bench.overlap(rows)
    assert "time / busiest: geometric mean 2.20, worst 4.40" in bench.overlap(rows)
    assert "time / roofline: geometric mean 1.48, worst 2.00" in bench.overlap(rows)
    assert bench.overlap(rows[2:]) == ""
