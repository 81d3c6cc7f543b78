"""Offsets in as many loop variables as a pattern may have, and in one more."""

import pytest

import nkigen
from nkigen.errors import NkigenError

MOST = 16


def program(terms, last):
    """A product of 512 f32 in PSUM, moved by `terms` loops; the innermost one moves it by `last` elements."""
    names = [f"%i{k}" for k in range(terms)]
    steps = [512] * (terms - 1) + [last]
    at = " + ".join(f"{s}*{n}" for s, n in zip(steps, names))
    lines = [
        "tile @f trn2 {",
        "  %x = buffer {kind=input, index=0} : hbm bf16[128, 512]",
        "  %y = buffer {kind=output, index=0} : hbm f32[128, 512]",
        "  %a = buffer {addr=0} : sbuf bf16[128, 512]",
        "  %p = buffer {addr=0} : psum f32[128, 1024]",
        "  %b = buffer {addr=1024} : sbuf f32[128, 512]",
        "  dma_copy %a[0+128, 0: 512*1], %x[0: 128*512, 512*1]",
        *(f"  {n} = loop {{count={1 + (n == names[-1])}}}" for n in names),
        f"  nc_matmul %p[0+128, {at}: 512*1], %a[0+128, 0: 128*1], %a[0+128, 0: 512*1], _",
        *("  end" for _ in names),
        "  tensor_copy %b[0+128, 0: 512*1], %p[0+128, 0: 512*1]",
        "  dma_copy %y[0: 128*512, 512*1], %b[0+128, 0: 512*1]",
        "  return %y",
        "}",
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("terms", [1, MOST - 1, MOST])
def test_every_variable_counts(terms):
    assert nkigen.parse(program(terms, 512)).verify() == []
    (violation,) = nkigen.parse(program(terms, 256)).verify()
    assert violation.rule == "matmul-bank"


def test_one_variable_more_is_refused():
    with pytest.raises(NkigenError, match="terms|variables"):
        nkigen.parse(program(MOST + 1, 512))
