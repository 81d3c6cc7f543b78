"""Constants joined to long rows are written by transfers from one row on chip; every element of the result is there."""

import ml_dtypes
import numpy as np
import pytest

import nkigen

bf = ml_dtypes.bfloat16
#: rows, columns, rows of constants: the row on chip repeats along a dim (513 = 3 * 171, 4099 is prime), or over rows
SHAPES = [(512, 1024, 512), (100, 2048, 3), (3, 4096, 2), (5, 4099, 4), (40, 513, 300), (2, 16384, 2), (1, 70000, 1)]


@pytest.mark.parametrize("dtype", [np.float32, bf, np.int32, np.bool_], ids=["f32", "bf16", "i32", "bool"])
@pytest.mark.parametrize("rows, columns, more", SHAPES)
def test_rows_of_constants(rows, columns, more, dtype):
    x = (np.arange(rows * columns) % 200).reshape(rows, columns).astype(dtype)

    def fn(x):
        return np.concatenate([np.zeros((1, columns), dtype), x, np.full((more, columns), 3, dtype), x[:1]], axis=0)

    k = nkigen.compile(fn, x)
    assert k.verify() == [] and np.array_equal(k(x), fn(x))


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_they_are_not_read_from_memory(target):
    x = np.ones((512, 1024), np.float32)
    k = nkigen.compile(lambda x: np.concatenate([x, np.zeros((512, 1024), np.float32)]), x, target=target)
    assert k.cost.hbm_ratio == 1 and k.cost.instructions["memset"] == 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_in_the_middle_of_three_dims(axis):
    x = np.arange(6 * 300 * 64, dtype=np.float32).reshape(6, 300, 64)
    shape = tuple(2 if i == axis else n for i, n in enumerate(x.shape))
    for fn in (lambda x: np.concatenate([x, np.full(shape, 7, np.float32), x], axis), lambda x: np.concatenate([x.T.T, np.ones(shape, np.float32)], axis)):
        k = nkigen.compile(fn, x)
        assert np.array_equal(k(x), fn(x))
