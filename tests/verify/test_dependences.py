"""The one dependence test, against all iterations written out and compared byte by byte."""

import itertools
import random
import re

import pytest

import nkigen

RAW, WAR, WAW = 1, 2, 4


def program(body):
    return nkigen.parse(
        "tile @f trn2 {\n"
        "  %x = buffer {kind=input, index=0} : hbm f32[64, 1024]\n"
        "  %y = buffer {kind=output, index=0} : hbm f32[64, 1024]\n"
        f"  %a = buffer : sbuf f32[128, 1024]\n{body}\n"
        "  return %y\n}\n"
    )


def dependences(body):
    """{(earlier, later, loop): (distance, why)} with instructions numbered from 0."""
    p = program(body)
    instr = [i for i, op in enumerate(p.ops) if op not in ("buffer", "loop", "end")]
    loops = [i + 1 for i, op in enumerate(p.ops) if op == "loop"]
    order = {op: n for n, op in enumerate(instr)}
    return {
        (order[a], order[b], loops.index(loop) if loop else None): (far, why)
        for a, b, loop, far, why in p.dependences()
    }


def memset(part, nparts, off, count):
    return f"memset %a[{part}+{nparts}, {off}: {count}*1] {{imm0=0.0}}"


def copy(src, dst):
    return f"tensor_copy %a[{dst}], %a[{src}]"


@pytest.mark.parametrize(
    "first, second, why",
    [
        (memset(0, 64, 0, 512), memset(64, 64, 0, 512), None),
        (memset(0, 64, 0, 512), memset(0, 64, 512, 512), None),
        (memset(0, 64, 0, 512), memset(32, 32, 511, 1), WAW),
        (memset(0, 128, 0, 8), copy("0+128, 0: 8*1", "0+128, 8: 8*1"), RAW),
        (copy("0+128, 0: 8*1", "0+128, 8: 8*1"), memset(0, 128, 4, 1), WAR),
        (memset(0, 128, 0, 8), copy("0+128, 0: 8*1", "0+128, 4: 8*1"), RAW | WAW),
        (copy("0+128, 0: 8*1", "0+128, 16: 8*1"), copy("0+128, 0: 8*1", "0+128, 8: 8*1"), None),
    ],
)  # fmt: skip
def test_boxes_of_one_buffer(first, second, why):
    found = dependences(f"  {first}\n  {second}")
    assert found == ({} if why is None else {(0, 1, None): (0, why)})


def test_a_buffer_of_the_body_is_another_one_in_each_iteration():
    body = (
        "  %i = loop {count=4}\n  %b = buffer : sbuf f32[128, 8]\n"
        "  memset %b[0+128, 0: 8*1] {imm0=0.0}\n  end"
    )
    assert dependences(body) == {}


@pytest.mark.parametrize(
    "offset, distance", [(0, 0), (8, None), (-16, 2), (-15, 2), (-17, 3)]
)
def test_distance(offset, distance):
    """Iteration i reads what iteration i - distance wrote."""
    body = (
        f"  %i = loop {{count=8}}\n  {memset(0, 128, '8*%i + 32', 8)}\n"
        f"  %b = buffer : sbuf f32[128, 1]\n"
        f"  tensor_copy %b[0+128, 0: 1*1], %a[0+128, 8*%i + {32 + offset}: 1*1]\n  end"
    )
    found = {k: v for k, v in dependences(body).items() if v[1] & RAW}
    assert found == (
        {} if distance is None else {(0, 1, 0 if distance else None): (distance, RAW)}
    )


def brute(counts, uses):
    """What `dependences` must say, or anything nearer."""
    space = list(itertools.product(*(range(c) for c in counts)))
    out = {}

    def box(u, it):
        off = u["off"] + sum(c * i for c, i in zip(u["coef"], it, strict=True))
        part = u["part"] + sum(c * i for c, i in zip(u["pcoef"], it, strict=True))
        return range(off, off + u["n"]), range(part, part + u["np"])

    def meet(a, b):
        return all(
            max(x.start, y.start) < min(x.stop, y.stop)
            for x, y in zip(a, b, strict=True)
        )

    for (i, u), (j, v) in itertools.product(enumerate(uses), repeat=2):
        for s, t in itertools.product(space, repeat=2):
            if not meet(box(u, s), box(v, t)):
                continue
            differs = [k for k in range(len(counts)) if s[k] != t[k]]
            if not differs and i < j:
                out[i, j, None] = 0
            elif differs and t[differs[0]] > s[differs[0]]:
                k = differs[0]
                far = t[k] - s[k]
                out[i, j, k] = min(out.get((i, j, k), far), far)
    return out


@pytest.mark.parametrize("seed", range(90))
def test_random_nests(seed):
    """Distances over nests: never farther than the truth, and exact for equal steps."""
    r = random.Random(seed)
    counts = [r.randint(2, 5) for _ in range(r.randint(1, 2))]
    alike = r.random() < 0.6
    steps = [r.choice([0, 0, 4, 8, 16]) for _ in counts]
    psteps = [r.choice([0, 0, 0, 32, -32]) if c <= 3 else 0 for c in counts]
    first = sum(32 * (c - 1) for c, p in zip(counts, psteps, strict=True) if p < 0)
    uses = []
    for _ in range(3):
        coef = steps if alike else [r.choice([0, 4, 8, 16]) for _ in counts]
        uses.append({
            "off": r.randrange(0, 40, 4), "coef": coef, "pcoef": psteps, "n": r.choice([1, 4, 8]),
            "part": first, "np": 32,
        })  # fmt: skip
    lines, names = [], [f"%i{k}" for k in range(len(counts))]
    for name, c in zip(names, counts, strict=True):
        lines.append(f"  {name} = loop {{count={c}}}")
    for u in uses:
        off = " + ".join(
            [f"{c}*{n}" for c, n in zip(u["coef"], names, strict=True) if c]
            + [str(u["off"])]
        )
        part = " + ".join(
            [f"{c}*{n}" for c, n in zip(u["pcoef"], names, strict=True) if c]
            + [str(first)]
        )
        part = re.sub(r" \+ 0$", "", part)
        lines.append(f"  memset %a[{part}+{u['np']}, {off}: {u['n']}*1] {{imm0=0.0}}")
    lines += ["  end"] * len(counts)
    found, truth = dependences("\n".join(lines)), brute(counts, uses)
    assert set(found) >= set(truth)
    for key, far in truth.items():
        assert found[key][0] <= far, key
        if alike and key[2] in (None, len(counts) - 1):
            assert found[key] == (far, WAW), key
    if alike and len(counts) == 1:
        assert set(found) == set(truth)


def test_only_tile_programs_have_dependences():
    k = nkigen.compile(lambda x: x + 1.0, ((4, 4), "f32"), cache=False)
    with pytest.raises(
        nkigen.UnsupportedError, match="only a tile program has dependences"
    ):
        k.tensor_ir.dependences()
