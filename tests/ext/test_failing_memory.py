"""Every allocation fails once: an error comes, nothing crashes, nothing is left behind.

`_core.set_fail_after(n)` lets the n-th allocation of each new session fail and all after
it. Each job below runs for every n until it needs no more memory than it gets (or for a
sample of them), so the error path behind each allocation runs. The jobs together touch
every pass, every emitter and the simulator.
"""

import functools
import warnings

import ml_dtypes
import numpy as np
import pytest

import nkigen
from nkigen import _core, workloads

f = np.float32
X = np.linspace(0.5, 1, 8, dtype=f).reshape(2, 4)
Y = X.astype(ml_dtypes.bfloat16)


def everything(fn, *args, target="trn2"):
    """Compiles, checks, prices, prints, emits, runs and reads back."""

    def job():
        k = nkigen.compile(fn, *args, target=target, cache=False, check="off")
        k(*args)
        texts = [str(stage) for stage in k.stages.values()]
        k.nki()
        k.verify()
        k.reference(*args)
        return k.cost.instruction_count, texts

    return job


def read_back(fn, *args, target="trn2"):
    @functools.cache
    def texts():
        k = nkigen.compile(fn, *args, target=target, cache=False)
        return str(k.tensor_ir), str(k.tile_ir)

    def job():
        for text in texts():
            p = nkigen.parse(text)
            p.verify()
            str(p)
            p.run(*args)
        p.nki()
        return p.cost().instruction_count

    return job


def planned(fn, *args):
    plan = functools.cache(lambda: str(nkigen.compile(fn, *args, cache=False).stages["plan"]))

    def job():
        k = nkigen.compile(fn, *args, cache=False, plan=plan(), check="off")
        read = nkigen.parse(plan())
        return k.cost.instruction_count, read.verify(), str(read), _core.run_pass("lower", plan(), "trn2")

    return job


def passes():
    text = functools.cache(lambda: str(nkigen.trace(special).graph(X, X)))
    names = ("narrow", "canonicalize", "idiom", "decompose", "guard", "outputs", "tilable", "fuse", "plan", "lower")
    return lambda: [_core.run_pass(name, text(), "trn2") for name in names]


def chain(x, y):
    return np.exp(x) * y + 1, np.where(x > y, x, 2 * y)


def special(x, y):
    z = np.sqrt(x * x + 1e-6) / (y + 3) + np.sin(x) + np.log1p(y) + np.tanh(x) // 2
    return np.rint(z) + x % 2 + np.power(y, 3) + np.arctan(x)


def moves(x, y):
    z = np.concatenate([x, y[::-1, ::2].repeat(2, 1)]).T
    return z.reshape(2, 8)[:, 1:7], np.tile(z, (1, 2)), z.sum(0), np.broadcast_to(x[0], (3, 4))


def products(x, y):
    return (x @ y.T) @ y + np.array([[1, 2, 3, 4]], f)


def writes(x, y):
    x[0, 1:3] += y[1, :2]
    x[1] = 0
    buf = np.zeros((3, 4), f)
    buf[1:] = y
    return buf


def integers(x, y):
    i, j = (x * 100).astype(np.int32), (y * 7).astype(np.int32)
    return i // 3 + (i < j), i % 5 == j, (i * j).astype(np.int8), i.sum(1), i.max()


def norm(x, y):
    m = x.mean(-1, keepdims=True)
    return (x - m) / np.sqrt(((x - m) ** 2).mean(-1, keepdims=True) + 1e-5) * y[0]


JOBS = {
    "chain": everything(chain, X, X),
    "special": everything(special, X, X, target="trn3"),
    "moves": everything(moves, X, X),
    "products": everything(products, X, X),
    "products trn1": everything(products, Y, Y, target="trn1"),
    "integers": everything(integers, X, X),
    "norm": everything(norm, X, X),
    "softmax": everything(workloads.softmax, X),
    "attention": everything(workloads.attention_head, X, X, X),
    "wide": everything(lambda x: x * 2.0, X.astype(np.float64)),
    "read chain": read_back(chain, X, X),
    "read moves": read_back(moves, X, X),
    "read products": read_back(products, X, X),
    "read integers": read_back(integers, X, X),
    "planned": planned(norm, X, X),
    "passes": passes(),
    "writes": lambda: nkigen.compile(writes, X.copy(), X, cache=False, check="off")(X.copy(), X),
}


def attempts(job):
    """Runs with a growing share of the memory; how many failed before the first that did not."""
    n = failed = 0
    while True:
        _core.set_fail_after(n)
        try:
            job()
            return failed
        except MemoryError:
            failed += 1
        finally:
            _core.set_fail_after(-1)
        n += 1 + n // 100


@pytest.mark.parametrize("name", JOBS)
def test_each_allocation(name):
    job = JOBS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = job()
        assert attempts(job) > 20
        assert same(job(), want)


def same(a, b):
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return all(map(same, a, b)) if isinstance(a, tuple) and not isinstance(a[0], str) else a == b
