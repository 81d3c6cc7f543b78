"""Decisions of one group do not depend on what the other groups of a program need."""

import re

import numpy as np

import nkigen


def linear(x, w):
    return np.tanh(x @ w)


def attention(q, k, v):
    s = q @ k.T
    e = np.exp(s - np.max(s, axis=-1, keepdims=True))
    return (e / np.sum(e, axis=-1, keepdims=True)) @ v


def both(x, w, q, k, v):
    return linear(x, w), attention(q, k, v)


def decisions(k):
    lines = re.findall(r"group \d+ (rows=.*)", k.plan)
    assert lines
    return lines


def test_a_group_without_room_is_cut_and_no_other():
    """A long attention does not fit at first; a product beside it keeps its tiles."""
    lin = [((1024, 1024), "bf16"), ((1024, 1024), "bf16")]
    att = [((16384, 128), "f32")] * 3
    apart = decisions(nkigen.compile(linear, *lin)), decisions(
        nkigen.compile(attention, *att)
    )
    together = decisions(nkigen.compile(both, *lin, *att))
    residents = [int(re.search(r"resident=(\d+)", s).group(1)) for s in apart[0]]
    assert max(residents) > 100_000
    assert [re.search(r"resident=\S+", s)[0] for s in together] == [
        re.search(r"resident=\S+", s)[0] for part in apart for s in part
    ]
