"""Whichever dim of a permuted array is the long one, it fills the partitions: no more than 2.4 times what moving it takes."""

import itertools

import numpy as np
import pytest

import nkigen

PERMUTATIONS = list(itertools.permutations(range(3)))[1:]


@pytest.mark.parametrize("shape", [(2048, 16, 16), (16, 2048, 16), (2048, 4, 64)])
def test_time_of_permutations(shape):
    for axes in PERMUTATIONS:
        k = nkigen.compile(lambda x, axes=axes: np.transpose(x, axes), (shape, "f32"), optimize="fast")
        assert k.cost.time_us <= 2.4 * k.cost.roofline_us, axes
