"""A program's text does not grow with its data: loops stay loops."""

import numpy as np
import pytest

import nkigen
from nkigen import workloads

F32 = "f32"


def ops_of(fn, *shapes):
    """Lines of the final program, which are its ops."""
    kernel = nkigen.compile(fn, *[(s, F32) for s in shapes], cache=False)
    assert kernel.verify() == []
    return len(str(kernel.tile_ir).splitlines())


CASES = {
    "elementwise rows": (lambda x: np.tanh(x) * 2.0 + 1.0, lambda n: [(128 * n, 4096)]),
    "softmax rows": (workloads.softmax, lambda n: [(128 * n, 2048)]),
    "norm rows": (workloads.rmsnorm, lambda n: [(128 * n, 2048), (2048,)]),
    "column sum": (workloads.colsum, lambda n: [(128 * n, 2048)]),
    "transpose": (workloads.transpose, lambda n: [(128 * n, 128 * n)]),
    "matmul": (workloads.matmul, lambda n: [(128 * n, 128 * n), (128 * n, 512 * n)]),
    "attention": (workloads.attention_head, lambda n: [(512 * n, 64)] * 3),
    "batched matmul": (workloads.matmul, lambda n: [(8 * n, 64, 64), (8 * n, 64, 64)]),
}


@pytest.mark.parametrize("name", CASES)
def test_size_of_text_is_bounded(name):
    fn, shapes = CASES[name]
    small, large = ops_of(fn, *shapes(8)), ops_of(fn, *shapes(32))
    assert large <= small + 24, (small, large)


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_every_output_is_written_once(name):
    w = workloads.get(name)
    kernel = nkigen.compile(w.fn, *[(s, F32) for s in w.shapes], cache=False)
    outputs = sum(4 * int(np.prod(o.shape)) for o in kernel.outputs)
    assert kernel.cost.hbm_write_bytes == outputs
