"""Whatever the search tries is a program that keeps the rules, not only what it takes."""

import numpy as np
import pytest

import nkigen
from nkigen import workloads
from nkigen.compile import _spec_at
from nkigen.trace import bind, trace_graph

ROWS = (1, 7, 128, 300, 1024)
COLUMNS = (1, 96, 512, 2050)
DTYPES = ("f32", "bf16")
TARGETS = ("trn1", "trn2", "trn3")


def verified(fn, specs, target):
    """Compile with every candidate verified; a violation is an InternalError."""
    fn, call, given = bind(fn, specs, {})
    parameters = [_spec_at(path, g) for path, g in zip(call.paths, given)]
    session, _ = trace_graph(fn, call, parameters, "candidate", given)
    session.compile(target, "warn", None, "default", True)
    assert session.stages


def random_rows(rng):
    """A function of rows: element-wise ops, reductions, a product now and then."""
    ops = [
        lambda x, y: x + y,
        lambda x, y: x * y - x,
        lambda x, y: np.maximum(x, y) - np.max(x, axis=-1, keepdims=True),
        lambda x, y: x - np.sum(x, axis=-1, keepdims=True),
        lambda x, y: np.concatenate([x, y], axis=0)[: x.shape[0]],
        lambda x, y: x + np.sum(y, axis=0),
        lambda x, y: (x @ y.T @ x).astype(x.dtype),
        lambda x, y: np.reshape(x, (-1, 1)).reshape(x.shape) + y,
        lambda x, y: x[::-1] * y,
    ]
    picked = rng.choice(len(ops), size=rng.integers(2, 6))

    def fn(x, y):
        for i in picked:
            x = ops[i](x, y)
        return x, np.sum(x, axis=-1)

    return fn


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed):
    rng = np.random.default_rng(seed)
    shape = int(rng.choice(ROWS)), int(rng.choice(COLUMNS))
    dtype = str(rng.choice(DTYPES))
    target = str(rng.choice(TARGETS))
    verified(random_rows(rng), [(shape, dtype), (shape, dtype)], target)


@pytest.mark.parametrize("dtype", ("f32", "bf16"))
@pytest.mark.parametrize("name", sorted(workloads.WORKLOADS))
def test_workloads(name, dtype):
    w = workloads.get(name)
    for target in TARGETS:
        verified(w.fn, w.specs(dtype), target)


def test_a_forced_plan_is_not_searched():
    spec = ((512, 512), "f32")
    k = nkigen.compile(np.exp, spec, check="every-pass")
    again = nkigen.compile(np.exp, spec, plan=k.plan, check="every-pass")
    assert again.plan == k.plan
