"""Whatever fits in HBM has a tiling: NumPy == reference == each stage == simulator."""

import warnings

import ml_dtypes
import numpy as np
import pytest

import nkigen

TARGETS = ("trn1", "trn2", "trn3")
bf16 = ml_dtypes.bfloat16


def array(*shape, dtype=np.float32):
    """Small multiples of 1/8: their sums and products are exact in f32."""
    n = int(np.prod(shape))
    return ((np.arange(n) * 7 % 17 - 8) / 8).astype(dtype).reshape(shape)


def run_all(fn, *arrays, targets=TARGETS, stages=False, tol=1e-6):
    """Compile for each target, and compare the reference and the simulator with NumPy."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        want = np.asarray(fn(*arrays))
        for target in targets:
            kernel = nkigen.compile(fn, *arrays, target=target, cache=False)
            assert kernel.verify() == []
            results = {
                "reference": kernel.reference(*arrays),
                "simulator": kernel(*arrays),
            }
            for name in kernel.stages if stages else ():
                if name != "plan":
                    results[name] = kernel.run_stage(name, *arrays)
            for what, got in results.items():
                same(f"{target} {what}", np.asarray(got), want, tol)
    return kernel


def same(what, got, want, tol):
    assert got.shape == want.shape, what
    a, b = got.astype(np.float64), want.astype(np.float64)
    scale = np.abs(b).max(initial=1e-9)
    assert np.abs(a - b).max(initial=0.0) <= tol * scale, what


def test_eight_dims_of_loops():
    """A product of 8-d operands loops over every batch dim around its windows."""

    def f(a, b):
        return np.transpose(a @ b, (6, 0, 1, 2, 3, 4, 5, 7)).reshape(300, -1).sum(1)

    run_all(f, array(2, 2, 2, 2, 2, 2, 300, 4), array(2, 2, 2, 2, 2, 2, 4, 8), stages=True)


def test_epilogue_of_eight_dims():
    def f(a, b, c):
        return np.exp((a @ b) * c - 1)

    a, b = array(2, 1, 1, 1, 2, 2, 129, 130), array(1, 1, 2, 2, 2, 2, 130, 520)
    run_all(f, a, b, array(2, 1, 2, 1, 2, 1, 520) / 64, tol=2e-5)


def test_too_many_loop_variables():
    """Text may nest more loops than an access pattern takes: it says so."""
    loops = "".join(f"  %i{k} = loop {{count=1}}\n" for k in range(17))
    at = " + ".join(f"%i{k}" for k in range(17))
    text = (
        "tile @f trn2 {\n  %x = buffer {kind=input, index=0} : hbm f32[4]\n"
        "  %y = buffer {kind=output, index=0} : hbm f32[4]\n"
        f"{loops}  dma_copy %y[{at}: 4*1], %x[0: 4*1]\n"
        + "  end\n" * 17
        + "  return %y\n}\n"
    )
    with pytest.raises(nkigen.errors.ParseError, match="at most 16 loop variables"):
        nkigen.parse(text)
