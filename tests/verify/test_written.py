"""What is written before it is read: random programs, the verifier against the simulator.

The simulator keeps a bit per byte and is right by construction. The verifier looks at a
program once and must never refuse what runs; what it lets through and the simulator then
refuses is counted, and is rare.
"""

import random
import time

import numpy as np
import pytest

import nkigen

ROWS = [(0, 128), (0, 32), (32, 32), (64, 64), (0, 64), (96, 32), (0, 96)]
X = np.ones((128, 24), np.float32)


def pattern(rng, size, variables):
    """Offset and dims of some elements of a row, all within it."""
    dims, reach = [], 0
    for _ in range(rng.choice([1, 1, 1, 2])):
        count, stride = rng.randint(1, 8), rng.choice([1, 1, 1, 2, 3, 4, 8])
        if reach + (count - 1) * stride < size:
            dims.append((count, stride))
            reach += (count - 1) * stride
    terms = []
    for var, count in variables:
        coef = rng.choice([0, 0, 1, 2, 4, 8])
        if coef and reach + coef * (count - 1) < size:
            terms.append(f"{coef}*{var}")
            reach += coef * (count - 1)
    offset = " + ".join([*terms, str(rng.randint(0, size - 1 - reach))])
    text = ", ".join(f"{c}*{s}" for c, s in dims)
    return f"{offset}: {text}" if dims else offset, int(np.prod([c for c, _ in dims]))


def access(rng, variables):
    part, count = rng.choice(ROWS)
    moved = [
        v for v, n in variables if 32 * (n - 1) + part + count <= 128 and count == 32
    ]
    start = f"{part} + 32*{rng.choice(moved)}" if moved and rng.random() < 0.4 else part
    text, _ = pattern(rng, 24, variables)
    return f"[{start}+{count}, {text}]"


def touch(rng, variables):
    """An instruction that writes some of %a, or reads some of it."""
    where = access(rng, variables)
    if rng.random() < 0.5:
        return f"memset %a{where} {{imm0=1.0}}"
    return f"tensor_copy %b{where}, %a{where}"


def body(rng, depth, variables, lines, names):
    for _ in range(rng.randint(1, 4)):
        if depth < 2 and rng.random() < 0.4:
            var, count = f"%i{next(names)}", rng.randint(1, 4)
            lines.append(f"{var} = loop {{count={count}}}")
            body(rng, depth + 1, [*variables, (var, count)], lines, names)
            lines.append("end")
        else:
            lines.append(touch(rng, variables))


def chip_program(rng):
    lines = ["%x = buffer {kind=input, index=0} : hbm f32[128, 24]"]
    lines += ["%y = buffer {kind=output, index=0} : hbm f32[128, 24]"]
    lines += ["%a = buffer : sbuf f32[128, 24]", "%b = buffer : sbuf f32[128, 24]"]
    lines.append("memset %b[0+128, 0: 24*1] {imm0=0.0}")
    for _ in range(rng.randint(1, 3)):
        lo, hi = sorted(rng.sample(range(25), 2))
        part, count = rng.choice(ROWS)
        lines.append(f"memset %a[{part}+{count}, {lo}: {hi - lo}*1] {{imm0=1.0}}")
    body(rng, 0, [], lines, iter(range(99)))
    lines.append("dma_copy %y[0: 3072*1], %x[0: 3072*1]")
    return lines


def output_program(rng):
    """Strided writes to an output, often all of it."""
    rows, cols = rng.randint(1, 6), rng.randint(1, 8)
    size, lines = rows * cols, [
        f"%x = buffer {{kind=input, index=0}} : hbm f32[{rows}, {cols}]"
    ]
    lines.append(f"%y = buffer {{kind=output, index=0}} : hbm f32[{rows}, {cols}]")
    step = rng.randint(1, 5)
    for start in range(min(step, size)):
        count = len(range(start, size, step)) - (rng.random() < 0.05)
        if count > 0 and rng.random() < 0.5:
            lines.append(f"dma_copy %y[{start}: {count}*{step}], %x[0: {count}*1]")
        elif count > 0:
            lines += [f"%i{start} = loop {{count={count}}}"]
            lines += [f"dma_copy %y[{step}*%i{start} + {start}], %x[%i{start}]", "end"]
    return lines


def disagreements(rng, make, n):
    counts = {"both": 0, "neither": 0, "only the simulator": 0}
    for _ in range(n):
        text = "\n".join(["tile @w trn2 {", *make(rng), "return %y", "}"])
        program = nkigen.parse(text)
        found = [v.rule for v in program.verify()]
        assert set(found) <= {
            "read-before-write",
            "output-gap",
            "destination-overlap",
        }, text
        found = [r for r in found if r != "destination-overlap"]
        try:
            program.run(np.ones(program.inputs[0][2], np.float32))
            assert found == [], text
            counts["neither"] += 1
        except nkigen.NkigenError:
            counts["both" if found else "only the simulator"] += 1
    return counts


def test_reads_on_chip():
    counts = disagreements(random.Random(3), chip_program, 1500)
    assert counts["both"] > 300 and counts["neither"] > 100
    assert counts["only the simulator"] <= 0.02 * counts["both"], counts


def test_outputs():
    counts = disagreements(random.Random(4), output_program, 1000)
    assert counts["both"] > 50 and counts["neither"] > 300
    assert counts["only the simulator"] == 0


def test_messages_name_what_the_text_names():
    text = """tile @w trn2 {
      %x = buffer {kind=input, index=0} : hbm f32[2, 4]
      %1 = buffer {kind=output, index=0} : hbm f32[2, 4]
      %2 = buffer : sbuf f32[2, 4]
      dma_copy %1[0: 8*1], %2[0+2, 0: 4*1]
      return %1
    }"""
    program = nkigen.parse(text)
    with pytest.raises(
        nkigen.NkigenError, match="reads 32 bytes of %2 that nothing has written"
    ):
        program.run(np.ones((2, 4), np.float32))


EARLY = """tile @w trn2 {{
  %x = buffer {{kind=input, index=0}} : hbm f32[2, 4]
  %y = buffer {{kind=output, index=0}} : hbm f32[2, 4]
  %a = buffer {{addr=0}} : sbuf f32[2, 4]
  %b = buffer {{addr=64}} : sbuf f32[2, 4]
  dma_copy %a[0+2, 0: 4*1], %x[0: 8*1]
  %c = buffer {{addr=0}} : sbuf f32[2, 4]
  tensor_copy %b[0+2, 0: 4*1], %a[0+2, 0: 4*1]
  {write}
  tensor_tensor %b[0+2, 0: 4*1], %b[0+2, 0: 4*1], %c[0+2, 0: 4*1] {{op=add}}
  dma_copy %y[0: 8*1], %b[0+2, 0: 4*1]
  return %y
}}"""


def test_a_buffer_lives_from_its_first_touch():
    """Not from its declaration: until it is touched its bytes may be another one's."""
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    program = nkigen.parse(EARLY.format(write="memset %c[0+2, 0: 4*1] {imm0=1.0}"))
    assert program.verify() == []
    assert np.array_equal(program.run(x), x + 1)
    program = nkigen.parse(EARLY.format(write="# none"))
    assert [v.rule for v in program.verify()] == ["read-before-write"]
    with pytest.raises(nkigen.NkigenError, match="of %c that nothing has written"):
        program.run(x)


SHORT = """tile @w trn2 {{
  %x = buffer {{kind=input, index=0}} : hbm f32[64, 8]
  %y = buffer {{kind=output, index=0}} : hbm f32[64, 8]
  %a = buffer : sbuf f32[64, 8]
  %s = buffer {{kind=scratch}} : hbm f32[64, 8]
  dma_copy %a[0+{rows}, 0: {cols}*1], %x[0: {rows}*8, {cols}*1]
  dma_copy %s[0: {rows}*8, {cols}*1], %x[0: {rows}*8, {cols}*1]
  dma_copy %y[0: 512*1], {read}
  return %y
}}"""


@pytest.mark.parametrize(
    "rows, cols, read, what",
    [
        (
            64,
            5,
            "%a[0+64, 0: 8*1]",
            "src takes element 5 of partition 0, which nothing",
        ),
        (
            40,
            8,
            "%a[0+64, 0: 8*1]",
            "src takes element 0 of partition 40, which nothing",
        ),
        (64, 5, "%s[0: 512*1]", "src takes element 5, which nothing"),
        (40, 8, "%s[0: 512*1]", "src takes element 320, which nothing"),
    ],
)
def test_messages_say_which_element(rows, cols, read, what):
    (found,) = nkigen.parse(SHORT.format(rows=rows, cols=cols, read=read)).verify()
    assert what in str(found)


def scattered(n):
    """Strided writes by other partitions each time: sets of bits that are cut and copied."""
    lines = ["tile @w trn2 {", "%x = buffer {kind=input, index=0} : hbm f32[128, 512]"]
    lines += ["%y = buffer {kind=output, index=0} : hbm f32[128, 512]"]
    lines += ["%a = buffer : sbuf f32[128, 8192]"]
    for i in range(n):
        rows = 32 if i % 3 else 1 + i % 31
        at = f"{32 * (i % 4)}+{rows}, {i * 37 % 4096}: 2048*2"
        lines.append(f"memset %a[{at}] {{imm0=1.0}}")
    lines += ["dma_copy %y[0: 65536*1], %x[0: 65536*1]", "return %y", "}"]
    return nkigen.parse("\n".join(lines))


def test_work_is_rationed():
    """About 4 us an op at worst, after a fixed amount; without rations it is a hundred."""
    program = scattered(20_000)
    begin = time.process_time()
    assert program.verify() == []
    assert time.process_time() - begin < 0.5
