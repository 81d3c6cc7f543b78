"""Accumulation in PSUM: random programs, the verifier against a model that runs every iteration."""

import random

import nkigen

HEAD = [
    "%y = buffer {kind=output, index=0} : hbm f32[1, 1]",
    "%s = buffer : sbuf bf16[128, 128]",
    "%m = buffer : sbuf bf16[128, 512]",
    "%p = buffer : psum f32[128, 1024]",
    "%o = buffer : sbuf f32[1, 1]",
    "memset %s[0+128, 0: 128*1] {imm0=0}",
    "memset %m[0+128, 0: 512*1] {imm0=0}",
    "memset %o[0+1, 0] {imm0=0}",
]
TAIL = ["dma_copy %y[0], %o[0+1, 0]", "return %y", "}"]
ROWS = [(0, 128)] * 4 + [(0, 64), (64, 64)]


class Loop:
    def __init__(self, var, count):
        self.var, self.count, self.body = var, count, []


def place(rng, loops):
    """Partitions, columns in units of 128, and a loop that moves them; within one bank."""
    rows, n = rng.choice(ROWS), rng.choice([1, 2, 2, 4])
    movers = [x for x in loops if (x.count - 1) * n < 8]
    if movers and rng.random() < 0.4:
        return rows, 0, n, rng.choice(movers)
    return rows, n * rng.randrange(8 // n), n, None


def product(rng, loops):
    where = place(rng, loops)
    first = [x.var for x in loops if x is not where[3]]
    kind = rng.choice(["start", "start", "add", "first", "first"])
    if kind == "first" and first:
        return ("matmul", where, rng.choice(first))
    return ("matmul", where, {"add": True}.get(kind, False))


def body(rng, loops, out, names):
    for _ in range(rng.randint(1, 3)):
        if len(loops) < 2 and rng.random() < 0.45:
            loop = Loop(f"%i{next(names)}", rng.randint(1, 3))
            body(rng, [*loops, loop], loop.body, names)
            out.append(loop)
        elif rng.random() < 0.1:
            out.append(("memset", place(rng, loops), None))
        else:
            out.append(product(rng, loops))
    return out


def written(op):
    kind, ((part, rows), at, n, mover), how = op
    offset = f"{128 * n}*{mover.var}" if mover else 128 * at
    dst = f"%p[{part}+{rows}, {offset}: {128 * n}*1]"
    if kind == "memset":
        return f"memset {dst} {{imm0=0}}"
    last = how if isinstance(how, str) else "_ {accumulate=true}" if how else "_"
    return f"nc_matmul {dst}, %s[0+128, 0: {rows}*1], %m[0+128, 0: {128 * n}*1], {last}"


def text_of(ops):
    for op in ops:
        if isinstance(op, Loop):
            yield f"{op.var} = loop {{count={op.count}}}"
            yield from text_of(op.body)
            yield "end"
        else:
            yield written(op)


class Model:
    def __init__(self):
        self.started, self.last, self.wrong = set(), {}, False

    def run(self, ops, at):
        for op in ops:
            if isinstance(op, Loop):
                for i in range(op.count):
                    self.run(op.body, {**at, op.var: i})
            else:
                self.step(op, at)

    def step(self, op, at):
        kind, ((part, rows), lo, n, mover), how = op
        lo = n * at[mover.var] if mover else lo
        halves = range(part // 64, (part + rows) // 64)
        cells = {(h, c) for h in halves for c in range(lo, lo + n)}
        if kind == "memset":
            self.started -= cells
        elif at[how] > 0 if isinstance(how, str) else how:
            groups = [self.last.get((h, c // 4), range(8)) for h, c in cells]
            inside = all(c in g for (_, c), g in zip(cells, groups, strict=True))
            self.wrong |= not (cells <= self.started and inside)
        else:
            self.started |= cells
            self.last.update({(h, lo // 4): range(lo, lo + n) for h in halves})


def test_random_accumulation():
    rng, seen = random.Random(8), {}
    for _ in range(2500):
        ops = body(rng, [], [], iter(range(99)))
        text = "\n".join(["tile @g trn2 {", *HEAD, *text_of(ops), *TAIL])
        rules = {v.rule for v in nkigen.parse(text).verify()}
        assert rules <= {"accumulate-start", "accumulate-group"}, text
        model = Model()
        model.run(ops, {})
        assert model.wrong or not rules, text
        key = (model.wrong, bool(rules))
        seen[key] = seen.get(key, 0) + 1
    assert seen[(False, False)] > 300 and seen[(True, True)] > 300
    assert seen.get((True, False), 0) < 0.1 * seen[(True, True)], seen
