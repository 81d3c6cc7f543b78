"""A program's text does not grow with its data: loops stay loops."""

import numpy as np
import pytest

import nkigen
from nkigen import workloads

F32 = "f32"


def ops_of(fn, *shapes):
    """Lines of the final program, which are its ops."""
    specs = [(s, F32) for s in shapes]
    kernel = nkigen.compile(fn, *specs, cache=False, optimize="fast")
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


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [8, 64])
def test_straight_code_stays_short(name, n):
    """Short programs lose their loops; from 2,000 instructions on loops stay."""
    fn, shapes = CASES[name]
    kernel = nkigen.compile(fn, *[(s, F32) for s in shapes(n)], cache=False)
    lines = [line for line in str(kernel.tile_ir).splitlines() if " = buffer" not in line]
    assert len(lines) <= 2003 and kernel.verify() == []


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_every_output_is_written_once(name):
    w = workloads.get(name)
    kernel = nkigen.compile(w.fn, *[(s, F32) for s in w.shapes], cache=False)
    outputs = sum(4 * int(np.prod(o.shape)) for o in kernel.outputs)
    assert kernel.cost.hbm_write_bytes == outputs


def branches(n):
    """A function of n branches, summed pairwise: all stand before the first sum."""

    def f(x):
        parts = [np.exp(x + float(i)) for i in range(n)]
        while len(parts) > 1:
            parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    return f


def test_branches_are_computed_when_they_are_needed():
    """Instructions per op do not grow with the number of branches."""

    def per_branch(n):
        k = nkigen.compile(branches(n), ((128, 512), F32), cache=False)
        x = np.linspace(-1, 1, 128 * 512, dtype=np.float32).reshape(128, 512) - n
        np.testing.assert_allclose(k(x), k.reference(x), rtol=1e-5)
        return k.cost.instruction_count / n

    assert per_branch(4096) < 1.1 * per_branch(512)
