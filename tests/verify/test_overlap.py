"""Buffers that live at once do not share bytes: random layouts against the obvious check."""

import random

import nkigen

SHAPES = {"sbuf": [1, 3, 16, 100, 600], "psum": [16, 512, 600]}


def layout(rng):
    """A program and what each buffer is: (space, first byte, end, first use, last use, name)."""
    space = rng.choice(["sbuf", "sbuf", "psum"])
    unit = 4 if space == "sbuf" else 2048
    n = rng.randint(2, 9)
    lines, facts = [], []
    for i in range(n):
        cols, bufs = rng.choice(SHAPES[space]), rng.choice([1, 1, 2, 3])
        stride = -(-cols * 4 // unit) * unit
        addr = rng.randrange(0, 6) * unit if space == "psum" else rng.randrange(0, 900) * unit
        facts.append([addr, addr + (bufs - 1) * stride + cols * 4, None, None, f"b{i}"])
        lines.append(f"%b{i} = buffer {{addr={addr}, bufs={bufs}}} : {space} f32[2, {cols}]")
    uses = [rng.randrange(n) for _ in range(rng.randint(n, 3 * n))]
    for at, i in enumerate(uses):
        lines.append(f"memset %b{i}[0+2, 0: 1*1] {{imm0=0}}")
        facts[i][2] = at if facts[i][2] is None else facts[i][2]
        facts[i][3] = at
    text = "\n".join(["tile @layout trn3 {", *lines, "return", "}"])
    return text, [f for f in facts if f[2] is not None]


def shared(facts):
    """Names of the buffers that begin while another one has some of their bytes."""
    names = []
    for k, (lo, hi, first, last, name) in enumerate(facts):
        for j, (lo2, hi2, first2, last2, _) in enumerate(facts):
            earlier = (first2, j) < (first, k)
            if j != k and earlier and lo < hi2 and lo2 < hi and last2 >= first:
                names.append(name)
                break
    return sorted(names)


def test_random_layouts():
    rng = random.Random(5)
    clean = 0
    for _ in range(400):
        text, facts = layout(rng)
        found = [v for v in nkigen.parse(text).verify() if "overlap" in str(v)]
        got = sorted(str(v).split(": ")[2] for v in found)
        assert got == shared(facts), text
        clean += not got
    assert 20 < clean < 380
