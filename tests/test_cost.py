"""The cost model: formulas per instruction, published measurements, loops extrapolated."""

import time

import numpy as np
import pytest

import nkigen

MATMUL_ROWS = """
    %o = buffer {{bufs=2}} : sbuf {dt}[128, 512]
    tensor_copy %o[0+128, 0: 512*1], %p[0+128, 0: 512*1]
    dma_copy %y[{a}*%m + 512*%n: 128*{n}, 512*1], %o[0+128, 0: 512*1]
"""


def cost(text):
    """Cost of a program text."""
    return nkigen.parse(text).cost()


def tiled_matmul(m, k, n, dt):
    """Both operands loaded for every matmul."""
    return f"""tile @tiled trn2 {{
  %a = buffer {{kind=input, index=0}} : hbm {dt}[{k}, {m}]
  %b = buffer {{kind=input, index=1}} : hbm {dt}[{k}, {n}]
  %y = buffer {{kind=output, index=0}} : hbm {dt}[{m}, {n}]
  %m = loop {{count={m // 128}}}
  %n = loop {{count={n // 512}}}
    %p = buffer {{bufs=2}} : psum f32[128, 512]
    %k = loop {{count={k // 128}}}
      %l = buffer {{bufs=4}} : sbuf {dt}[128, 128]
      %r = buffer {{bufs=4}} : sbuf {dt}[128, 512]
      dma_copy %l[0+128, 0: 128*1], %a[{128 * m}*%k + 128*%m: 128*{m}, 128*1]
      dma_copy %r[0+128, 0: 512*1], %b[{128 * n}*%k + 512*%n: 128*{n}, 512*1]
      nc_matmul %p[0+128, 0: 512*1], %l[0+128, 0: 128*1], %r[0+128, 0: 512*1], %k
    end
    {MATMUL_ROWS.format(dt=dt, a=128 * n, n=n)}
  end
  end
  return %y
}}
"""


def blocked_matmul(m, k, n):
    """f32, blocks of 16 x 2 x 8 tiles, partial sums added in SBUF."""
    rows = 2 * 512
    part = f"{16 * rows}*%m + {rows}*%bm + 512*%bn: 512*1"
    return f"""tile @blocked trn2 {{
  %a = buffer {{kind=input, index=0}} : hbm f32[{k}, {m}]
  %b = buffer {{kind=input, index=1}} : hbm f32[{k}, {n}]
  %y = buffer {{kind=output, index=0}} : hbm f32[{m}, {n}]
  %n = loop {{count={n // rows}}}
    %acc = buffer : sbuf f32[128, {m // 128 * rows}]
    memset %acc[0+128, 0: {m // 128 * rows}*1] {{imm0=0.0}}
    %k = loop {{count={k // 1024}}}
      %r = buffer {{bufs=2}} : sbuf f32[128, {8 * rows}]
      %q = loop {{count=8}}
        dma_copy %r[0+128, {rows}*%q: {rows}*1], %b[{1024 * n}*%k + {128 * n}*%q + {rows}*%n: 128*{n}, {rows}*1]
      end
      %m = loop {{count={m // 2048}}}
        %l = buffer {{bufs=2}} : sbuf f32[128, 16384]
        %q2 = loop {{count=8}}
          dma_copy %l[0+128, 2048*%q2: 2048*1], %a[{1024 * m}*%k + {128 * m}*%q2 + 2048*%m: 128*{m}, 2048*1]
        end
        %bn = loop {{count=2}}
        %bm = loop {{count=16}}
          %p = buffer {{bufs=4}} : psum f32[128, 512]
          %bk = loop {{count=8}}
            nc_matmul %p[0+128, 0: 512*1], %l[0+128, 2048*%bk + 128*%bm: 128*1], %r[0+128, {rows}*%bk + 512*%bn: 512*1], %bk
          end
          tensor_tensor %acc[0+128, {part}], %p[0+128, 0: 512*1], %acc[0+128, {part}] {{op=add}}
        end
        end
      end
    end
    %mm = loop {{count={m // 128}}}
      dma_copy %y[{128 * n}*%mm + {rows}*%n: 128*{n}, {rows}*1], %acc[0+128, {rows}*%mm: {rows}*1]
    end
  end
  return %y
}}
"""


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


def test_published_matmuls():
    # measured on trn2: 28.30 ms blocked and 39.89 ms tiled f32; 8.602 ms tiled bf16
    blocked = cost(blocked_matmul(4096, 8192, 8192))
    assert blocked.time_us == pytest.approx(28_300, rel=0.03)
    assert blocked.engine_us["tensor"] == pytest.approx(28_160, rel=0.01)
    assert cost(tiled_matmul(4096, 8192, 8192, "f32")).time_us == pytest.approx(39_890, rel=0.1)
    tiled = cost(tiled_matmul(4096, 4096, 4096, "bf16"))
    assert tiled.time_us == pytest.approx(8_602, rel=0.2)
    # 1.781 ms busy, 8192 matmuls of 512 columns
    assert tiled.engine_us["tensor"] == pytest.approx(1_781, rel=0.01)


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
    def vector(op, dt, src="%t[0+128, 0: 1024*1]"):
        return engine_us(copy_loop(1, f"{op} %t[0+128, 0: 1024*1], {src}", dt=dt), "vector") * 960

    assert vector("tensor_copy", "f32") == pytest.approx(1024)
    assert vector("tensor_copy", "bf16") == pytest.approx(256)
    assert vector("tensor_copy", "bf16", "%t[0+128, 0: 32*1, 32*32]") == pytest.approx(1024)
    assert vector("reciprocal", "f32") == pytest.approx(8 * 1024)
    add = "%t[0+128, 0: 1024*1], %t[0+128, 0: 1024*1] {op=add}"
    assert vector("tensor_tensor", "f32", add) == pytest.approx(2048)
    assert vector("tensor_tensor", "bf16", add) == pytest.approx(1024)


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
    begin = time.perf_counter()
    cost(copy_loop(1_000_000, body))
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
    def chain(n):
        def fn(x):
            for _ in range(n):
                x = x * 0.5 + 1.0
            return x

        return nkigen.compile(fn, ((128, 512), "f32"), check="off")

    one, two = chain(50).cost, chain(100).cost
    assert 1 < two.time_us / one.time_us < 2.2


def test_roofline_bounds_time(rng):
    k = nkigen.compile(lambda a, b: a @ b, ((512, 512), "bf16"), ((512, 512), "bf16"))
    c = k.cost
    assert c.time_us >= c.roofline_us > 0
    assert all(v <= c.time_us * (1 + 1e-9) for v in c.engine_us.values())
    a, b = (rng.standard_normal((512, 512)).astype(np.float32) for _ in range(2))
    assert nkigen.compile(lambda a, b: a @ b, a, b).cost.roofline_us >= c.roofline_us
