"""Transposes on their way on chip: by DMA where it has the unit for it, else by the
tensor engine (operands of products) or, bit for bit, by the vector engine."""

import ml_dtypes
import numpy as np
import pytest

import nkigen
import nki_model
from nkigen import workloads

BF16, FP8 = ml_dtypes.bfloat16, ml_dtypes.float8_e4m3
PRODUCTS = {
    "nt": lambda a, b: a @ b.T,
    "tn": lambda a, b: a.T @ b,
    "nn": lambda a, b: a @ b,
}
MOVES = {
    "add": lambda x: x.T + np.ones((), x.dtype),
    "join": lambda x: np.concatenate([x.T, x.T], axis=1),
    "max": lambda x: np.maximum.reduce(x, axis=0),
}


def values(rng, shape, dtype):
    dt = np.dtype(dtype)
    if dt == bool:
        return rng.random(shape) > 0.5
    if dt.kind in "iu":
        return rng.integers(0, 100, shape).astype(dt)
    return rng.integers(-4, 5, shape).astype(np.float32).astype(dt)


def transposes(kernel):
    """The engine of every transpose in the program text, once per line."""
    lines = [x for x in str(kernel.tile_ir).splitlines() if "transpose" in x]
    return {
        "dma"
        if "dma_transpose" in x
        else "vector"
        if "engine=vector" in x
        else "tensor"
        for x in lines
    }


def run(fn, *arrays, target):
    kernel = nkigen.compile(fn, *arrays, target=target)
    assert kernel.verify() == []
    got, expected = np.asarray(kernel(*arrays)), np.asarray(kernel.reference(*arrays))
    # small integers: sums are exact in f32
    np.testing.assert_array_equal(got, expected)
    if np.asarray(arrays[0]).nbytes < 1 << 18:  # and so does the emitted source
        (emitted,) = nki_model.run(kernel.nki(), *arrays)
        np.testing.assert_array_equal(emitted.reshape(expected.shape), expected)
    return kernel


@pytest.mark.parametrize("dtype", [np.float32, BF16, np.float16, FP8])
@pytest.mark.parametrize("form", PRODUCTS)
@pytest.mark.parametrize(
    "m, k, n", [(1, 1, 1), (7, 5, 3), (128, 128, 128), (130, 257, 300), (60, 4500, 140)]
)
def test_operands_of_products(rng, form, dtype, m, k, n):
    a = values(rng, (k, m) if form == "tn" else (m, k), dtype)
    b = values(rng, (n, k) if form == "nt" else (k, n), dtype)
    kernel = run(PRODUCTS[form], a, b, target="trn1")
    assert "dma" not in transposes(kernel)
    if form == "nt" and n > 1 and k > 1:
        assert "tensor" in transposes(kernel)


@pytest.mark.parametrize(
    "dtype", [np.float32, BF16, np.float16, np.int32, np.int16, np.uint8, bool]
)
@pytest.mark.parametrize("form", MOVES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (128, 128), (130, 300), (31, 2000)])
def test_moved_values(rng, form, dtype, shape):
    if form == "max" and dtype == bool:
        pytest.skip("the maximum of bools is a logical or")
    kernel = run(MOVES[form], values(rng, shape, dtype), target="trn1")
    assert transposes(kernel) <= {"vector"}


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_every_bit_pattern_is_moved(rng, target):
    bits = rng.integers(0, 1 << 32, (130, 200), dtype=np.uint32)
    x = bits.view(np.int32)
    kernel = nkigen.compile(MOVES["join"], x, target=target)
    np.testing.assert_array_equal(kernel(x), MOVES["join"](x))
    assert "tensor" not in transposes(kernel)
    y = np.where(bits % 3 == 0, np.inf, 1.0).astype(np.float32)
    kernel = nkigen.compile(MOVES["join"], y, target=target)
    np.testing.assert_array_equal(kernel(y), np.concatenate([y.T, y.T], axis=1))
    assert "tensor" not in transposes(kernel)


def test_batches_and_outer_loops(rng):
    x, y = values(rng, (3, 70, 130), np.float32), values(rng, (3, 130, 70), np.float32)
    kernel = run(lambda x, y: x.transpose(0, 2, 1) + y, x, y, target="trn1")
    assert "dma" not in transposes(kernel)
    q, k = values(rng, (2, 3, 140, 64), BF16), values(rng, (2, 3, 300, 64), BF16)
    kernel = run(lambda q, k: q @ np.swapaxes(k, -1, -2), q, k, target="trn1")
    assert transposes(kernel) == {"tensor"}


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_workloads_of_trn1_leave_the_dma_alone(name, dtype):
    w = workloads.get(name)
    kernel = nkigen.compile(w.fn, *w.specs(dtype), target="trn1")
    assert kernel.cost.instructions.get("dma_transpose", 0) == 0
    assert kernel.verify() == []


def price(target, move, dtype="f32"):
    return nkigen.parse(
        f"""tile @move {target} {{
  %x = buffer {{kind=input, index=0}} : hbm {dtype}[512, 128]
  %y = buffer {{kind=output, index=0}} : hbm {dtype}[128, 512]
  %a = buffer : sbuf {dtype}[128, 512]
  {move}
  dma_copy %y[0: 128*512, 512*1], %a[0+128, 0: 512*1]
  return %y
}}
"""
    ).cost()


def test_a_transpose_without_a_unit_moves_element_by_element():
    turned = "dma_transpose %a[0+128, 0: 512*1], %x[0: 512*128, 128*1]"
    strided = "dma_copy %a[0+128, 0: 512*1], %x[0: 128*1, 512*128]"
    slow = price("trn1", turned).time_us
    assert slow >= price("trn1", strided).time_us
    assert slow > 10 * price("trn2", turned).time_us
    x = np.zeros((512, 128), np.float32)
    here = nkigen.compile(MOVES["join"], x, target="trn1")
    assert here.cost.time_us < slow / 5
