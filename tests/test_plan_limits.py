"""A program that does not fit on chip is planned again under the next limits, which the plan's first line shows."""

import numpy as np
import pytest

import nkigen


def together(*xs):
    """Every row of every operand is needed until the end."""
    tops = [x.max(-1, keepdims=True) for x in xs]
    out = xs[0] * tops[-1]
    for x, top in zip(xs[1:], tops[:-1]):
        out = out * (x - top)
    return out


def chosen(x, y, z):
    """Three rows at a time, over and over."""
    for i in range(5):
        row = x - x.max(-1, keepdims=True)
        other = np.exp(z) * i + z.sum(-1, keepdims=True)
        x = np.where(row > y - y.sum(-1, keepdims=True), other, x * y)
    return x


CASES = [
    (together, 2, 1000, ""),
    (together, 6, 16000, "row_bytes=49152 max_ops=0 "),
    (chosen, 3, 10000, "row_bytes=32768 max_ops=64 "),
    (together, 12, 5000, "row_bytes=32768 max_ops=16 "),
    (chosen, 3, 8192, "row_bytes=32768 max_ops=4 "),
]


@pytest.mark.parametrize("fn, operands, columns, limits", CASES)
def test_the_first_limits_that_fit(fn, operands, columns, limits):
    specs = [((256, columns), "f32")] * operands
    kernel = nkigen.compile(fn, *specs, target="trn2", cache=False)
    assert f"plan trn2 {limits}{{" in kernel.plan.splitlines()
    assert kernel.verify() == []
