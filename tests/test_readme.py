"""Every name in the README's table of what works, compiled and simulated."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import nkigen
from nkigen.testing import assert_close

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
X = np.linspace(0.25, 3, 7 * 12, dtype=np.float32).reshape(7, 12)
Y = X[::-1].copy()
ROW = X[0]
P = X > 1


def copied(x, y):
    out = np.empty_like(x)
    np.copyto(out, y * 2)
    return out


FUNCTIONS = {
    "where": lambda x, y: np.where(x > y, x, y),
    "clip": lambda x, y: np.clip(x, 0.5, 2),
    "matmul": lambda x, y: np.matmul(x, y.T),
    "dot": lambda x, y: np.dot(x, y.T),
    "inner": lambda x, y: np.inner(x, y),
    "round": lambda x, y: np.round(x) + y,
    "permute_dims": lambda x, y: np.permute_dims(x, (1, 0)) + 1,
    "broadcast_arrays": lambda x, y: np.broadcast_arrays(x, x[0])[1] + y,
    "array_split": lambda x, y: np.array_split(x, 5, axis=1)[1] + 1,
    "flipud": lambda x, y: np.flipud(x) + 1,
    "fliplr": lambda x, y: np.fliplr(x) + 1,
    "tril": lambda x, y: np.tril(x) + y,
    "triu": lambda x, y: np.triu(x, 1) + y,
    "copyto": copied,
    "outer": lambda x, y: np.outer(x[0], y[0]),
    "transpose": lambda x, y: np.transpose(x) + 1,
    "swapaxes": lambda x, y: np.swapaxes(x, 0, 1) + 1,
    "moveaxis": lambda x, y: np.moveaxis(x, 0, 1) + 1,
    "reshape": lambda x, y: np.reshape(x, (12, 7)) + 1,
    "expand_dims": lambda x, y: np.expand_dims(x, 1) + 1,
    "squeeze": lambda x, y: np.squeeze(x[None]) + 1,
    "broadcast_to": lambda x, y: np.broadcast_to(x[0], (7, 12)) + y,
    "concatenate": lambda x, y: np.concatenate([x, y]),
    "stack": lambda x, y: np.stack([x, y]),
    "vstack": lambda x, y: np.vstack([x, y]),
    "hstack": lambda x, y: np.hstack([x, y]),
    "split": lambda x, y: np.split(x, 3, axis=1)[2] + 1,
    "flip": lambda x, y: np.flip(x, 1) + 1,
    "roll": lambda x, y: np.roll(x, 2, axis=1) + 1,
    "repeat": lambda x, y: np.repeat(x, 2, axis=0) + 1,
    "tile": lambda x, y: np.tile(x, (2, 1)) + 1,
    "astype": lambda x, y: x.astype(np.float16) + 1,
    "zeros_like": lambda x, y: np.zeros_like(x) + y,
    "ones_like": lambda x, y: np.ones_like(x) + y,
    "full_like": lambda x, y: np.full_like(x, 2) + y,
    "any": lambda x, y: np.any(x > 2.5, axis=1),
    "all": lambda x, y: np.all(x > 2.5, axis=1),
    "ravel": lambda x, y: np.ravel(x) + 1,
}
REDUCTIONS = "sum max min mean var std".split()


def row(title):
    cells = re.search(rf"^\| {title} \| (.*) \|$", README, re.M)[1]
    return [name for part in re.findall(r"`([^`]*)`", cells) for name in part.split()]


def agree(fn, *arrays):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        k = nkigen.compile(fn, *arrays, check="every-pass", cache=False)
        wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]
        expected, dtype = fn(*wide), fn(*arrays).dtype
        assert_close(k(*arrays), expected, dtype=dtype, rtol=2e-5 if dtype == np.float32 else None)


@pytest.mark.parametrize("name", [n for n in row("ufuncs") if "*" not in n])
def test_ufunc(name):
    f = getattr(np, name)
    if name == "invert":
        agree(f, P)
    elif name == "divmod":
        agree(lambda x, y: f(x, y)[0] + f(x, y)[1], X, Y)
    elif f.nin == 2:
        agree(f, X, Y)
    else:
        agree(f, X)


@pytest.mark.parametrize("name", row("functions"))
def test_function(name):
    if name in REDUCTIONS:
        f = getattr(np, name)
        agree(lambda x: f(x, axis=1), X)
        agree(lambda x: f(x, axis=0, keepdims=True), X)
        agree(f, X)
    else:
        agree(FUNCTIONS[name], X, Y)


@pytest.mark.parametrize(
    "dtype", "bool i8 i16 i32 u8 u16 u32 f16 bf16 f32 f64 i64 u64".split()
)
def test_dtype(dtype):
    d = nkigen._core.np_dtype(dtype)
    x = np.arange(21).reshape(3, 7).astype(d)
    fn = (lambda x: x ^ x[::-1]) if dtype == "bool" else (lambda x: x + x[::-1])
    if dtype in ("i8", "i16", "u8", "u16"):

        def fn(x):
            return np.where(x > x[::-1], x * x * x, x - x[::-1])  # wraps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        k = nkigen.compile(fn, x, check="every-pass", cache=False)
    assert_close(k(x), fn(x), dtype=d)


@pytest.mark.parametrize("export", ["nisa", "klir", "timeline"])
def test_what_is_not_there_says_so(export):
    k = nkigen.compile(lambda x: x + 1, X)
    with pytest.raises(nkigen.UnsupportedError):
        getattr(k, export)()


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: np.sort(np.concatenate([x.ravel()] * 1025)),
        lambda x: x[x[0].astype(np.int32)],
        lambda x: x.__setitem__(x > 0, 1),
    ],
    ids=["long sort", "gather", "masked update"],
)
def test_what_is_not_there_raises(fn):
    with pytest.raises(nkigen.NkigenError):
        nkigen.compile(fn, X, cache=False)
