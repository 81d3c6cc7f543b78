"""Whatever fits in HBM has a tiling: NumPy == reference == each stage == simulator."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import nkigen

sys.path.insert(0, str(Path(__file__).parent))
from tilings import tiling_program  # noqa: E402

TARGETS = ("trn1", "trn2", "trn3")


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

    a, b = array(2, 1, 1, 1, 1, 1, 129, 70), array(1, 1, 2, 1, 1, 1, 70, 520)
    run_all(f, a, b, array(2, 1, 2, 1, 1, 1, 520) / 64, tol=2e-5)


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


def windows(x):
    return [x[:, i : i + 30, j : j + 30] for i in range(3) for j in range(3)]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def cumulative(x):
    a = np.concatenate([x, x + 1], 0)
    return np.concatenate([a, a * 2, a[::-1]], 1)


#: name -> function and parameters; each was refused, or is near to what was
CASES = {
    "pairwise distances": (
        lambda a, b: ((a[:, None] - b[None]) ** 2).sum(-1),
        array(300, 64),
        array(150, 64),
    ),
    "a sum along which the bias moves": (
        lambda a, b: ((a[:, None] - b[None]) ** 2).sum(-1),
        array(300, 64),
        array(256, 64),
    ),
    "a sum of more dims than a pattern has": (
        lambda x: (lambda y: y / np.sqrt((y * y).mean() + 1))(
            (x * x).transpose(3, 7, 4, 1, 6, 5, 2, 0)
        ),
        array(1, 7, 3, 7, 2, 4, 1, 3),
    ),
    "most of six dims": (
        lambda x: np.exp(x)[:3, :3, :3, :3, :3, :3].max(),
        array(4, 4, 4, 4, 4, 4),
    ),
    "all rows of six dims": (
        lambda x: np.exp(x)[:, :3, :3, :3, :3, :3, :3].sum((0, 1, 2, 3, 4, 5, 6)),
        array(130, 4, 4, 4, 4, 4, 4),
    ),
    "turned and reduced": (
        lambda x: x.transpose(3, 0, 5, 2, 1, 6, 4).min((0, 1, 2, 4, 5, 6)),
        array(2, 5, 1, 3, 1, 4, 5),
    ),
    "neighbouring rows": (lambda x: (x * 2 - x.max(0)).T + 1, array(3, 65541)),
    "inner part of tiles": (
        lambda x: np.tile(x, (3, 3))[60:-60, 60:-60],
        array(64, 64),
    ),
    "inner part of repeats": (
        lambda x: np.repeat(np.repeat(x, 3, 0), 3, 1)[7:-7, 7:-7],
        array(64, 64),
    ),
    "inner part of a concat": (
        lambda x: np.concatenate([np.concatenate([x, x * 2])] * 3, 1)[60:-60, 60:-60],
        array(64, 64),
    ),
    "tiles of eight dims": (
        lambda x: np.tile(x, (2, 1, 3, 2, 2, 1, 2, 3)) + 1,
        array(2, 3, 1, 2, 1, 3, 2, 2),
    ),
    "repeats of eight dims": (
        lambda x: np.repeat(np.repeat(x, 3, 3), 2, 7),
        array(2, 3, 1, 2, 1, 3, 2, 2),
    ),
    "cumulative concat": (cumulative, array(64, 129)),
    "long row": (lambda x: x.sum(1), array(3, 100003)),
    "vocabulary": (softmax, array(1, 128256) / 4),
    "tall": (lambda x: x.max(0), array(65536, 8)),
    "outer product": (lambda a, b: a[:, None] * b[None], array(50), array(30000)),
    "outer of six": (
        lambda a, b: a[:, None, :, None, :, None] * b[None, :, None, :, None, :],
        array(7, 8, 9),
        array(8, 9, 7),
    ),
    "turned in four": (lambda x: x.transpose(3, 1, 0, 2) + 1, array(7, 30, 17, 33)),
    "turned in eight": (
        lambda x: x.transpose(7, 5, 3, 1, 6, 4, 2, 0) + 1,
        array(3, 4, 5, 2, 3, 4, 5, 7),
    ),
    "separated axes": (lambda x: x.sum((0, 2, 4)), array(7, 30, 5, 9, 33)),
    "image to columns": (
        lambda x: np.stack(windows(x), 1).reshape(4, 9, 900),
        array(4, 32, 32),
    ),
    "convolution": (
        lambda x, w: w @ np.stack(windows(x), 1).reshape(4, 9, 900),
        array(4, 32, 32),
        array(24, 9),
    ),
    "mixed batch": (
        lambda a, b: a[:, :, None] @ b[:, None],
        array(2, 64, 7, 40),
        array(2, 3, 40, 33),
    ),
    "batch at both ends": (
        lambda x, w: np.broadcast_to(x[:, :, None], (2, 128, 30, 2, 7)) @ w,
        array(2, 128, 2, 7),
        array(2, 1, 30, 7, 7),
    ),
    "rows before dims of one": (
        lambda x, w: (x @ w) * 0.5,
        array(40, 4, 17, 1, 1, 17),
        array(17, 1),
    ),
    "many small matrices": (
        lambda a, b: np.concatenate([a, a * 2], 2) @ b * 0.5,
        array(6000, 2, 3),
        array(6000, 6, 2),
    ),
    "empty": (
        lambda x: np.concatenate([x, x], 1).sum(0) + x.sum((0, 1)),
        array(7, 0),
    ),
    "no dims": (lambda x: np.broadcast_to(x, (129, 3, 7)).sum((0, 2)), array()),
}


@pytest.mark.parametrize("name", CASES)
def test_has_a_tiling(name):
    fn, *arrays = CASES[name]
    kernel = run_all(fn, *arrays, tol=1e-5, stages=name == "turned in eight")
    tiles = sum(a.nbytes for a in (*arrays, np.asarray(fn(*arrays)))) / 8192
    assert kernel.cost.instruction_count < 1000 + 20 * tiles


@pytest.mark.parametrize("row_bytes, max_ops", [(64, 1), (256, 3), (4096, 1)])
@pytest.mark.parametrize("name", CASES)
def test_short_rows(name, row_bytes, max_ops):
    """Under small limits everything that could be refused has to find another form."""
    fn, *arrays = CASES[name]
    if sum(a.nbytes for a in arrays) > 200000:
        arrays = [a[: max(len(a) // 4, 1), ..., :64] for a in arrays]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        plan = f"plan trn2 row_bytes={row_bytes} max_ops={max_ops} {{\n}}\n"
        kernel = nkigen.compile(fn, *arrays, plan=plan, cache=False)
        assert kernel.verify() == []
        want = np.asarray(fn(*arrays))
        same("simulator", np.asarray(kernel(*arrays)), want, 1e-5)
        stage = np.asarray(kernel.run_stage("tilable", *arrays))
        same("tilable", stage, want, 1e-5)


#: limits of the plan: (bytes of a row, ops in a group), and the elements of an array
LIMITS = ((0, 0, 300000), (128, 2, 3000), (1024, 1, 60000))


@pytest.mark.parametrize("row_bytes, max_ops, elements", LIMITS)
def test_random_programs(row_bytes, max_ops, elements):
    """`python tests/prop/tilings.py N SEED` runs as many more as it is asked for."""
    for seed in range(40):
        program = tiling_program(seed, elements)
        program.check(TARGETS[seed % 3], row_bytes, max_ops, stages=seed % 8 == 0)
