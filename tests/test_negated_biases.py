"""What is subtracted before an activation function is its bias, with the sign turned on the way and by no instruction of its own."""

import numpy as np
import pytest

import nkigen

COLUMN = ((128, 1), "f32")
KERNELS = {
    "a maximum": (lambda x: np.exp(x - x.max(-1, keepdims=True)), [], 0),
    "twice a maximum": (lambda x: np.exp(x - x.max(-1, keepdims=True) * 2), [], 1),
    "a scaled column": (lambda x, b: np.exp(x - b * 2), [COLUMN], 1),
    "of a scaled row": (lambda x, b: np.exp(x * 3 - b * 2), [COLUMN], 1),
}


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("name", KERNELS)
def test_instructions(name, target):
    fn, columns, scalars = KERNELS[name]
    k = nkigen.compile(fn, ((128, 512), "f32"), *columns, target=target, optimize="fast")
    count = dict(k.cost.instructions)
    assert count.pop("activation") == 1 and count.pop("tensor_scalar", 0) == scalars
    assert set(count) <= {"dma_copy", "tensor_reduce"}, count
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((128, 512), *(c for c, _ in columns))]
    assert np.allclose(k(*arrays), fn(*arrays), rtol=1e-5)
