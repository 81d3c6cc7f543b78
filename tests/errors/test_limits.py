"""Limits of texts, exactly: the last number that is accepted and the first that is not."""

import pytest

import nkigen
from nkigen.errors import NkigenError

LOOPS = """tile @limits trn2 {{
  %x = buffer {{kind=input, index=0}} : hbm f32[4, 8]
  %y = buffer {{kind=output, index=0}} : hbm f32[4, 8]
  %a = buffer : sbuf f32[4, 8]
  %i = loop {{count={i}}}
  %j = loop {{count={j}}}
  dma_copy %a[0+4, 0: 8*1], %x[{at}: 4*8, 8*1]
  end
  end
  dma_copy %y[0: 4*8, 8*1], %a[0+4, 0: 8*1]
  return %y
}}
"""


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("i, j, at", [(4, 1, f"{2**58}*%i"), (2, 2, f"{2**58}*%i + {2**58}*%j")])
def test_reach_of_patterns(i, j, at, sign):
    """Loop variables may move a pattern by 2^60 elements."""
    at = at.replace("%j", "%j").replace(f"{2**58}", f"{sign}{2**58}").replace("+ -", "- ")
    nkigen.parse(LOOPS.format(i=i, j=j, at=at))
    with pytest.raises(NkigenError, match="out of range"):
        nkigen.parse(LOOPS.format(i=i + 1, j=j, at=at))
