"""Broken programs must be caught: by the parser, the hardware verifier or the simulator.

Each mutator breaks the text of a compiled program in one way, at every place where it
applies (a sample of them). None of the results may pass for a program.
"""

import re

import numpy as np
import pytest

import nkigen
from nkigen import workloads

LIMIT = 6  # places per mutator and kernel

KERNELS = {
    "softmax": (workloads.softmax, [((300, 512), "f32")]),
    "matmul": (workloads.matmul, [((256, 384), "bf16"), ((384, 600), "bf16")]),
    "mlp": (
        workloads.matmul_bias_gelu,
        [((128, 256), "f32"), ((256, 512), "f32"), ((512,), "f32")],
    ),
    "layernorm": (
        workloads.layernorm,
        [((200, 300), "f32"), ((300,), "f32"), ((300,), "f32")],
    ),
}
BUFFER = re.compile(r"^\s*(%\w+) = buffer\b.*: (hbm|sbuf|psum) (\w+)\[([^\]]*)\]$")
ON_CHIP = re.compile(r"(%\w+)\[([^,\]]*)\+(\d+), ([^:\]]*)(:[^\]]*)?\]")


class Text:
    """A program's lines with what the mutators ask about them."""

    def __init__(self, text):
        self.lines = text.splitlines()
        self.buffers = {}
        for line in self.lines:
            m = BUFFER.match(line)
            if m:
                self.buffers[m[1]] = (m[2], m[3], m[4], "kind=output" in line)

    def rows(self, wanted):
        """Indices of the lines whose op is `wanted`, or of all instructions."""
        for i, line in enumerate(self.lines):
            m = re.match(r"\s*(?:%\w+ = )?(\w+)", line)
            op = m[1] if m else ""
            structure = ("buffer", "loop", "end", "tile", "return", "")
            if op == wanted or (wanted is None and op not in structure):
                yield i

    def buffer_rows(self, space):
        for i, line in enumerate(self.lines):
            m = BUFFER.match(line)
            if m and m[2] == space:
                yield i

    def replaced(self, i, *new):
        return "\n".join(self.lines[:i] + list(new) + self.lines[i + 1 :]) + "\n"

    def edited(self, i, pattern, by):
        """The text with line `i` edited; None when nothing matched."""
        new, n = re.subn(pattern, by, self.lines[i], count=1)
        return self.replaced(i, new) if n and new != self.lines[i] else None


def edit(rows, pattern, by):
    def mutate(t):
        return [t.edited(i, pattern, by) for i in rows(t)]

    return mutate


def sbuf(t):
    return t.buffer_rows("sbuf")


def psum(t):
    return t.buffer_rows("psum")


def hbm(t):
    return t.buffer_rows("hbm")


def every(t):
    return t.rows(None)


def op(name):
    return lambda t: t.rows(name)


def first_dim(factor):
    return lambda m: f"{m[1]}[{int(m[2]) * factor}"


def drop_first_write(t):
    """Without the first instruction that writes a buffer that is read later."""
    seen, out = set(), []
    for i in every(t):
        m = re.match(r"\s*\w+ (%\w+)", t.lines[i])
        if m and m[1] not in seen and t.buffers.get(m[1], ("",))[0] in ("sbuf", "psum"):
            seen.add(m[1])
            rest = "\n".join(t.lines[i + 1 :])
            if re.search(rf", {re.escape(m[1])}\b", rest):
                out.append(t.replaced(i))
    return out


def drop_store(t):
    stores = []
    for i in op("dma_copy")(t):
        name = re.match(r"\s*\w+ (%\w+)", t.lines[i])[1]
        if t.buffers[name][3]:
            stores.append(t.replaced(i))
    return stores


def share_address(t):
    """Two operands of one instruction at the same address."""
    out = []
    for i in every(t):
        names = [n for n in re.findall(r"%\w+", t.lines[i]) if t.buffers.get(n, ("",))[0] == "sbuf"]
        names = list(dict.fromkeys(names))
        if len(names) < 2:
            continue
        at = {}
        for j in sbuf(t):
            m = BUFFER.match(t.lines[j])
            a = re.search(r"addr=(\d+)", t.lines[j])
            at[m[1]] = (j, a and a[1])
        (j, _), (_, addr) = at[names[1]], at[names[0]]
        out.append(t.edited(j, r"addr=\d+", f"addr={addr}"))
    return out


def use_before_load(t):
    """A load moved behind the next instruction, which reads what it loads."""
    out, rows = [], list(every(t))
    for a, b in zip(rows, rows[1:], strict=False):
        m = re.match(r"\s*dma_copy (%\w+)", t.lines[a])
        between = "".join(t.lines[a + 1 : b])
        reads = m and re.search(rf", {re.escape(m[1])}\b", t.lines[b])
        if reads and not re.search(r"\b(loop|end)\b", between):
            moved = t.lines[:a] + t.lines[a + 1 : b + 1] + [t.lines[a]] + t.lines[b + 1 :]
            out.append("\n".join(moved) + "\n")
    return out


def sbuf_in_psum(t):
    """What a DMA or the tensor engine takes from SBUF, in PSUM."""
    out = []
    for i in sbuf(t):
        name = re.escape(BUFFER.match(t.lines[i])[1])
        uses = rf"(dma_\w+ .*{name}\b|nc_matmul .*, {name}\b)"
        if any(re.search(uses, line) for line in t.lines):
            out.append(t.edited(i, ": sbuf ", ": psum "))
    return out


def drop_accumulate_start(t):
    """The first product adds to a PSUM tile that nobody has written."""
    out = []
    for i in op("nc_matmul")(t):
        line = re.sub(r", (_|%\w+)( \{.*\})?$", ", _ {accumulate=true}", t.lines[i])
        if "accumulate=true" not in t.lines[i]:
            out.append(t.replaced(i, line))
    return out


def drop_line(name):
    return lambda t: [t.replaced(i) for i in op(name)(t)]


def wide_count(m):
    return f"{m[1]}{int(m[2]) + 1}*1]"


MUTATORS = {
    "misaligned address": edit(sbuf, r"addr=(\d+)", lambda m: f"addr={int(m[1]) + 1}"),
    "negative address": edit(sbuf, r"addr=\d+", "addr=-64"),
    "address past the end": edit(sbuf, r"addr=\d+", "addr=1000000"),
    "overlapping addresses": share_address,
    "tile of 256 partitions": edit(sbuf, r"(sbuf \w+)\[(\d+)", "\\1[256"),
    "tile wider than SBUF": edit(sbuf, r"\[(\d+), (\d+)", "[\\1, 9000000"),
    "tile wider than a bank": edit(psum, r"\[(\d+), (\d+)\]", "[\\1, 9000]"),
    "result across two banks": edit(psum, r"addr=(\d+)", lambda m: f"addr={int(m[1]) + 1028}"),
    "bank that does not exist": edit(psum, r"addr=\d+", "addr=16384"),
    "pattern past the buffer": edit(every, r"(%\w+\[\S*\+\d+, .*?: )(\d+)\*1\]", wide_count),
    "pattern starts before the buffer": edit(every, r"(\+\d+), 0: ", "\\1, -1: "),
    "partition start not a quadrant": edit(every, r"\[0\+(\d+)", "[5+\\1"),
    "pattern of 200 partitions": edit(every, r"\[0\+\d+", "[0+200"),
    "first write dropped": drop_first_write,
    "store dropped": drop_store,
    "load after its use": use_before_load,
    "PSUM buffer in SBUF": edit(psum, r": psum ", ": sbuf "),
    "SBUF buffer in PSUM": sbuf_in_psum,
    "HBM buffer in SBUF": edit(hbm, r": hbm ", ": sbuf "),
    "matmul starts by adding": drop_accumulate_start,
    "matmul of integers": lambda t: [
        t.edited(j, r"sbuf \w+\[", "sbuf i32[")
        for i in op("nc_matmul")(t)
        for j in sbuf(t)
        if BUFFER.match(t.lines[j])[1] == re.findall(r"%\w+(?=\[)", t.lines[i])[2]
    ],
    "contraction over 256 rows": edit(
        op("nc_matmul"), r"(, %\w+)\[([^+]*)\+\d+(.*, %\w+)\[([^+]*)\+\d+", "\\1[\\2+256\\3[\\4+256"
    ),
    "moving tile of 10000 columns": edit(
        op("nc_matmul"), r"(, %\w+\[[^\]]*\], %\w+\[[^:]*: )\d+", "\\g<1>10000"
    ),
    "loop runs once more": edit(op("loop"), r"count=(\d+)", lambda m: f"count={int(m[1]) + 1}"),
    "loop never runs": edit(op("loop"), r"count=\d+", "count=0"),
    "end dropped": drop_line("end"),
    "loop dropped": drop_line("loop"),
    "engine that cannot": edit(op("activation"), r"\{func", "{engine=tensor, func"),
    "vector op on the scalar engine": lambda t: [
        t.edited(i, r"\{", "{engine=scalar, ") for i in op("tensor_tensor")(t)
        if "engine=" not in t.lines[i]
    ],
    "input of another dtype": edit(hbm, r"(kind=input.*): hbm (f32|bf16)", "\\1: hbm i32"),
    "output twice as large": edit(hbm, r"(kind=output.*: hbm \w+)\[(\d+)", first_dim(2)),
    "input half as large": edit(
        hbm, r"(kind=input.*: hbm \w+)\[(\d+)", lambda m: f"{m[1]}[{int(m[2]) // 2}"
    ),
    "buffer nobody declared": drop_line("buffer"),
    "operand missing": edit(every, r"^(\s*\w+ %\w+\[[^\]]*\]), %\w+\[[^\]]*\]", "\\1"),
    "unknown instruction": edit(every, r"^(\s*)\w+", "\\1warp_drive"),
}  # fmt: skip


#: a kernel as loops, and as straight code in another order
FORMS = [(name, how) for name in sorted(KERNELS) for how in ("fast", "default")]


@pytest.fixture(scope="module", params=FORMS, ids="-".join)
def program(request):
    name, how = request.param
    fn, specs = KERNELS[name]
    kernel = nkigen.compile(fn, *specs, cache=False, optimize=how)
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal(shape).astype(workloads.np_dtype(dtype)) for shape, dtype in specs
    ]
    return name, str(kernel.tile_ir), arrays


def caught(text, arrays):
    """What caught it, None when nothing did."""
    try:
        mutant = nkigen.parse(text)
        found = mutant.verify()
        if found:
            return str(found[0])
        mutant.run(*arrays)
    except nkigen.errors.InternalError:
        raise
    except (nkigen.errors.NkigenError, ValueError, TypeError) as e:
        return f"{type(e).__name__}: {e}"
    return None


def mutants_of(mutate, text):
    found = [m for m in mutate(Text(text)) if m is not None and m != text]
    step = max(1, len(found) // LIMIT)
    return found[::step][:LIMIT]


def test_the_original_passes(program):
    _, text, arrays = program
    assert caught(text, arrays) is None


@pytest.mark.parametrize("name", sorted(MUTATORS))
def test_mutant_is_caught(program, name):
    _, text, arrays = program
    for mutant in mutants_of(MUTATORS[name], text):
        assert caught(mutant, arrays) is not None, difference(text, mutant)


def difference(before, after):
    old, new = before.splitlines(), after.splitlines()
    gone = [f"- {x}" for x in old if x not in new][:4]
    come = [f"+ {x}" for x in new if x not in old][:4]
    return "\n".join(["not caught:", *gone, *come])


def test_every_mutator_applies_somewhere():
    texts = [
        str(nkigen.compile(KERNELS[name][0], *KERNELS[name][1], optimize=how).tile_ir)
        for name, how in FORMS
    ]
    idle = [n for n, m in MUTATORS.items() if not any(mutants_of(m, t) for t in texts)]
    assert idle == []
