"""Faults that a search could make: the verifier must see them, before anything runs."""

import re

import pytest
from test_mutation import (
    KERNELS,
    MUTATORS,
    Text,
    difference,
    edit,
    every,
    mutants_of,
    op,
)

import nkigen

HALF = r"^(\s*nc_matmul %\w+\[[^:]*): (\d+)\*1\], (%\w+\[[^\]]*\]), (%\w+\[[^:]*): \d+\*1\], (%\w+)$"


def overwritten(t):
    """Another engine writes what a loop of matmuls accumulates."""
    out = []
    for i in op("nc_matmul")(t):
        dst = re.match(r"\s*nc_matmul (%\w+\[[^\]]*\]).*, %\w+$", t.lines[i])
        if dst:
            out.append(t.replaced(i, t.lines[i], f"memset {dst[1]} {{imm0=0}}"))
    return out


def in_turns(t):
    """Two halves of the columns, each added to in every step of the contraction."""
    out = []
    for i in op("nc_matmul")(t):
        m = re.match(HALF, t.lines[i])
        if m and int(m[2]) % 2 == 0:
            n = int(m[2]) // 2
            first = f"{m[1]}: {n}*1], {m[3]}, {m[4]}: {n}*1], {m[5]}"
            second = re.sub(r", 0$", f", {n}", m[1]) + first[len(m[1]) :]
            if second != first:
                out.append(t.replaced(i, first, second))
    return out


def narrow_load(t):
    """A load without its last column, of rows that are read whole."""
    out = []
    for i in op("dma_copy")(t):
        m = re.match(
            r"(\s*dma_copy %\w+\[\S+, 0: )(\d+)\*1(\], .*), (\d+)\*1\]$", t.lines[i]
        )
        if m and m[2] == m[4] and int(m[2]) > 1:
            n = int(m[2]) - 1
            out.append(t.replaced(i, f"{m[1]}{n}*1{m[3]}, {n}*1]"))
    return out


def shifted_in_place(t):
    """The result one column beside its source, in the same tile."""
    out = []
    for i in every(t):
        m = re.match(
            r"(\s*(?:tensor_\w+|activation|reciprocal)) (%\w+)\[(\S+), 0: (\d+)\*1\], ",
            t.lines[i],
        )
        if m and int(m[4]) > 2 and not m[1].endswith(("_reduce", "_copy_predicated")):
            n, tile = int(m[4]) - 1, f"{m[2]}[{m[3]}"
            line = f"tensor_copy {tile}, 1: {n}*1], {tile}, 0: {n}*1]"
            out.append(t.replaced(i, t.lines[i], line))
    return out


def same_column(m):
    return f"{m[1]}*0]"


FAULTS = {
    "accumulate-start": overwritten,
    "accumulate-group": in_turns,
    "read-before-write": narrow_load,
    "source-overlap": shifted_in_place,
    "destination-overlap": edit(
        every, r"^(\s*\w+ %\w+\[[^\]]*: \d+)\*1\]", same_column
    ),
    "output-gap": MUTATORS["store dropped"],
}


@pytest.fixture(scope="module")
def texts():
    kernels = [
        nkigen.compile(fn, *specs, cache=False) for fn, specs in KERNELS.values()
    ]
    return [str(k.tile_ir) for k in kernels]


@pytest.mark.parametrize("rule", sorted(FAULTS))
def test_verifier_names_the_fault(rule, texts):
    seen = 0
    for text in texts:
        assert nkigen.parse(text).verify() == []
        for mutant in mutants_of(FAULTS[rule], text):
            rules = [v.rule for v in nkigen.parse(mutant).verify()]
            assert rule in rules, f"{rules}\n{difference(text, mutant)}"
            seen += 1
    assert seen > 0


def test_halves_are_taken_apart():
    t = Text(
        "  nc_matmul %p[0+128, 0: 512*1], %s[0+128, 0: 128*1], %m[0+128, 0: 512*1], %k"
    )
    assert in_turns(t)[0].splitlines() == [
        "  nc_matmul %p[0+128, 0: 256*1], %s[0+128, 0: 128*1], %m[0+128, 0: 256*1], %k",
        "  nc_matmul %p[0+128, 256: 256*1], %s[0+128, 0: 128*1], %m[0+128, 0: 256*1], %k",
    ]
