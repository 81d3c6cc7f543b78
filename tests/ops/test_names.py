"""NumPy functions that are compositions: NumPy == reference == every stage == simulator, on three targets."""

import ml_dtypes
import numpy as np
import pytest

import nkigen
from nkigen.testing import assert_close

pytestmark = pytest.mark.filterwarnings("ignore")

TARGETS = ("trn1", "trn2", "trn3")
BF16 = ml_dtypes.bfloat16
A = np.linspace(-3, 3, 5 * 7, dtype=np.float32).reshape(5, 7)
B = (np.cos(np.arange(35, dtype=np.float32)) * 2).reshape(5, 7)
C = np.sin(np.arange(60, dtype=np.float32)).reshape(3, 4, 5)
D = np.cos(np.arange(60, dtype=np.float32)).reshape(3, 4, 5)
S = np.cos(np.arange(36, dtype=np.float32)).reshape(6, 6)
V = np.array([0.5, -1.0, 2.0, 1.5, -0.25, 3.0, 1.0], np.float32)
X = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5, 3e38, -1e-40, 2.5, 7.0], np.float32)
I = (np.arange(35, dtype=np.int32) * 37 % 101 - 50).reshape(5, 7)
J = (np.arange(35, dtype=np.int32) * 11 % 13 + 1).reshape(5, 7)
U = (np.arange(35) * 37 % 251).astype(np.uint8).reshape(5, 7)
P = np.arange(35).reshape(5, 7) % 3 == 0
T = np.array([3, 1, 1, np.nan, 2, -0.0, 0.0, np.nan, np.inf, -np.inf], np.float32)
E = np.zeros((0, 3), np.float32)
K = np.array([[0, 2], [1, 1], [6, -7], [3, 0], [5, 4]], np.int32)


def written(fn, *more):
    """What a function has written to a copy of its first argument."""

    def write(x, *args):
        y = x * 1
        fn(y, *args, *more)
        return y

    return write


def into(fn, dtype=None):
    def call(x, *args):
        y = np.zeros(np.shape(fn(x, *args)), dtype or x.dtype)
        r = fn(x, *args, out=y)
        return r + y

    return call


VALUES = {
    "signbit": [(np.signbit, A), (np.signbit, X), (np.signbit, I), (np.signbit, U)],
    "copysign": [(np.copysign, A, B), (np.copysign, X[3:], X[3:][::-1].copy()), (lambda x: np.copysign(x, -0.0), A)],
    "fmod": [(np.fmod, A, B), (np.fmod, I, J), (np.fmod, I, -J), (np.fmod, U, J.astype(np.uint8)), (lambda x: np.fmod(x, 0.75), A),
             (lambda x: np.fmod(x, 0.75), X[:7])],
    "float_power": [(np.float_power, np.abs(A) + 1, B), (lambda x: np.float_power(x, 2), A)],
    "arcsin": [(np.arcsin, A / 3), (np.arcsin, X), (np.arcsin, (A / 4).astype(np.float16))],
    "arccos": [(np.arccos, A / 3), (np.arccos, X), (np.arccos, (A / 4).astype(BF16))],
    "arctan2": [(np.arctan2, A, B), (lambda x: np.arctan2(x[:, None], x[None]), X[:7]), (lambda x: np.arctan2(x, 2.0), A)],
    "heaviside": [(lambda x: np.heaviside(x, 0.5), X)],
    "isposinf": [(np.isposinf, X), (np.isneginf, X)],
    "fix": [(np.fix, A)],
    "nan_to_num": [(np.nan_to_num, X[3:]), (lambda x: np.nan_to_num(x, nan=1.0, posinf=2.0, neginf=-2.0), X), (np.nan_to_num, I),
                   (written(lambda y: np.nan_to_num(y, copy=False, posinf=9, neginf=-9)), X)],
    "select": [(lambda x: np.select([x > 1, x < -1], [x, x * 2]), A), (lambda x: np.select([x > 1, x > 0], [1, x], 7), A),
               (lambda x, y: np.select([x > 0], [y], default=x[0]), I, J)],
}
LAYOUT = {
    "pad": [(lambda x: np.pad(x, 2), A), (lambda x: np.pad(x, (1, 2), "edge"), A), (lambda x: np.pad(x, ((1, 2), (0, 3)), "reflect"), A),
            (lambda x: np.pad(x, 3, mode="wrap"), A), (lambda x: np.pad(x, 9, mode="symmetric"), A), (lambda x: np.pad(x, 1, constant_values=5), I),
            (lambda x: np.pad(x, ((1, 2), (3, 0)), constant_values=((1, 2), (3, 4))), A), (lambda x: np.pad(x, (2, 0), "maximum"), A),
            (lambda x: np.pad(x, 1, "mean", stat_length=2), A), (lambda x: np.pad(x, 1, "reflect", reflect_type="even"), A[:1] * 0 + 1),
            (lambda x: np.pad(x, 1, "minimum"), I)],
    "rot90": [(lambda x, k=k: np.rot90(x, k), A) for k in (0, 1, 2, 3, -1)] + [(lambda x: np.rot90(x, 1, (1, 2)), C)],
    "diag": [(np.diag, S), (np.diag, V), (lambda x: np.diag(x, 2), A), (lambda x: np.diag(x, -2), V), (lambda x: np.diag(x, -3), A), (np.diagflat, A)],
    "diagonal": [(np.diagonal, A), (lambda x: np.diagonal(x, 1, 2, 0), C), (lambda x: x.diagonal(-9), A), (lambda x: np.linalg.diagonal(x, offset=-1), C)],
    "trace": [(np.trace, A), (lambda x: np.trace(x, 1, 1, 2), C), (lambda x: x.trace(), I), (np.linalg.trace, C)],
    "take": [(lambda x: np.take(x, [0, 2, 4, 6], 1), A), (lambda x: np.take(x, [[0, -1], [3, 3]]), A), (lambda x: x.take(3, axis=0), A),
             (lambda x: np.take(x, [9, -9], 1, mode="clip"), A), (lambda x: np.take(x, [9, -9], 1, mode="wrap"), A), (lambda x: np.take(x, [], 0), A),
             (lambda x: np.take(x, 3), A), (lambda x, i: np.take(x, i, 1), X[None].repeat(2, 0), K), (lambda x, i: np.take(x, i, axis=0), I, K[:1])],
    "take_along_axis": [(lambda x, i: np.take_along_axis(x, i, 1), A, K), (lambda x, i: np.take_along_axis(x, i, -1), I * 10**7, K),
                        (lambda x: np.take_along_axis(x, K, 1), A), (lambda x: np.take_along_axis(x, np.array([[1, 3, 3]]), 1), A),
                        (lambda x, i: np.take_along_axis(x, i, None), X, np.array([4, 3, 0, 1], np.int32)), (lambda x, i: np.take_along_axis(x, i, 1), P, K)],
    "put_along_axis": [(written(lambda y, i: np.put_along_axis(y, i, 9, 1)), A, K), (written(lambda y, i, v: np.put_along_axis(y, i, v, 1)), I, K, K)],
    "fill_diagonal": [(written(lambda y: np.fill_diagonal(y, 7)), A)],
    "meshgrid": [(lambda x, y: np.stack(np.meshgrid(x, y)), V, A[0].copy()), (lambda x, y: np.stack(np.meshgrid(x, y, indexing="ij")), V, A[0].copy()), (lambda x, y: np.meshgrid(x, y, sparse=True)[0] + x[0], V, V)],
    "joins": [(lambda x: np.column_stack([x, x[:, 0]]), A), (lambda x: np.dstack([x, x]), A), (lambda x: np.append(x, 2.0), A),
              (lambda x: np.append(x, x, axis=1), A), (lambda x: np.rollaxis(x, 2), C), (lambda x: np.atleast_3d(x), A)],
}
PRODUCTS = {
    "vdot": [(np.vdot, A, B), (np.vecdot, A, B), (lambda x, y: np.vecdot(x, y, axis=0), A, B), (np.matvec, A, V), (lambda x, v: np.vecmat(v, x), A.T.copy(), V)],
    "tensordot": [(lambda x, y: np.tensordot(x, y, ([1, 2], [1, 2])), C, D), (lambda x, y: np.tensordot(x, y, 1), C, S[:5, :5].copy()),
                  (lambda x, y: np.tensordot(x, y, 0), V, V), (lambda x, y: np.tensordot(x, y, 2), A, B), (lambda x, y: np.tensordot(x, y, (0, -1)), C, C.T.copy())],
    "kron": [(np.kron, A, S[:2, :3].copy()), (np.kron, V, A)],
    "einsum": [(lambda x, y, s=s: np.einsum(s, x, y), *o) for s, *o in [
        ("ij,jk->ik", A, B.T.copy()), ("ij,kj", A, B), ("ijk,ijk->", C, D), ("ijk,ijk->ij", C, D), ("bij,bkj->bik", C, D), ("i,j->ij", V, V),
        ("ij,ij->ji", A, B), ("...j,...j->...", C, D), ("i...,i...->...i", C, D), ("ii,ij->j", S, S), ("ij,jk->", A, B.T.copy()), ("ij,j", A, V),
        ("ij,k->ik", A, V), (" i j , j k -> k i ", A, B.T.copy()), ("ijk,ljk->il", C, D), ("ij,ij->ij", A[:1].copy(), B)]]
        + [(lambda x, s=s: np.einsum(s, x), o) for s, o in [("ij->ji", A), ("ii", S), ("ii->i", S), ("ijk->k", C), ("ij->", A + 1), ("...ij->...ji", C), ("ba", A)]]
        + [(lambda x, y, z: np.einsum("ij,jk,kl->il", x, y, z), A, B.T.copy(), A), (lambda x, y: np.einsum(x, [0, 1], y, [2, 1], [0, 2]), A, B),
           (lambda x, y, z: np.einsum("i,j,ij->", x, y, z, optimize=True), V[:5].copy(), V, A), (lambda x, y: np.einsum("ij,ij->i", x, y), P, P), (lambda x, y: np.einsum("ij,kj->ik", x, y), I, I)],
    "norm": [(lambda x, o=o, a=a: np.linalg.norm(x, o, a), A) for o in (None, 1, 2, np.inf, -np.inf, 0, 3) for a in (0, -1)]
            + [(lambda x, o=o: np.linalg.norm(x, o), A) for o in (None, "fro", 1, -1, np.inf, -np.inf)]
            + [(lambda x: np.linalg.norm(x, axis=1, keepdims=True), A), (lambda x: np.linalg.norm(x, keepdims=True), C), (np.linalg.norm, I),
               (lambda x: np.linalg.vector_norm(x, axis=(0, 2)), C), (np.linalg.matrix_norm, C)],
}
REDUCTIONS = {
    "prod": [(np.prod, V), (lambda x: np.prod(x, axis=0), A / 2), (lambda x: x.prod(axis=(0, 2), keepdims=True), C + 1), (lambda x: np.prod(x, 1), J),
             (lambda x: np.prod(x, axis=-1, initial=2.0), A), (lambda x: np.prod(x, axis=0), E), (lambda x: np.prod(x, 1, where=x > 0), A),
             (lambda x: np.prod(x, 1, dtype=np.int16), J), (lambda x: np.multiply.reduce(x), J)],
    "cumsum": [(np.cumsum, A), (lambda x: np.cumsum(x, 0), A), (lambda x: x.cumsum(-1), C), (lambda x: np.cumsum(x, 1), I), (lambda x: np.cumsum(x, 1), P),
               (lambda x: np.cumsum(x, 1, dtype=np.uint8), U), (np.cumsum, X[3:7]), (lambda x: np.cumsum(x), X), (lambda x: np.cumsum(x, 1), E),
               (lambda x: np.cumulative_sum(x, axis=1, include_initial=True), A), (lambda x: np.add.accumulate(x, 1), A), (into(np.cumsum), V)],
    "cumprod": [(np.cumprod, V), (lambda x: np.cumprod(x, 1), J), (lambda x: x.cumprod(0), A), (lambda x: np.multiply.accumulate(x), V), (np.cumulative_prod, V)],
    "accumulate": [(lambda x: np.maximum.accumulate(x, 1), B), (lambda x: np.minimum.accumulate(x), X), (lambda x: np.logical_or.accumulate(x, 1), P)],
    "diff": [(np.diff, A), (lambda x: np.diff(x, 2, 0), B), (lambda x: np.diff(x, prepend=0, append=x[:, :2]), A), (np.diff, P), (np.diff, U), (np.ediff1d, A),
             (lambda x: np.ediff1d(x, to_begin=0.0), V)],
    "argmax": [(np.argmax, B), (lambda x: np.argmax(x, 1), B), (lambda x: x.argmax(axis=0, keepdims=True), B), (np.argmax, X), (np.argmax, X[1:]),
               (lambda x: np.argmax(x, -1), P), (lambda x: np.argmax(x, 0), I * 40_000_001), (lambda x: np.argmax(x, -1), np.full((3, 9), -np.inf, np.float32)),
               (lambda x: np.argmax(x, 1), U), (lambda x: np.argmax(x, 1), B.astype(BF16)), (lambda x: np.argmax(x, 1), np.round(B).astype(np.float16))],
    "argmin": [(np.argmin, B), (lambda x: x.argmin(1), np.round(B)), (np.argmin, X), (lambda x: np.argmin(x, 1, keepdims=True), I)],
    "count_nonzero": [(np.count_nonzero, I), (lambda x: np.count_nonzero(x, axis=1, keepdims=True), P), (lambda x: np.count_nonzero(x > 0, axis=0), A)],
    "where=": [(lambda x, f=f: f(x, axis=1, where=x > -2), A) for f in (np.sum, np.mean, np.var, np.std, np.any, np.all)]
              + [(lambda x, f=f: f(x, axis=1, where=x > 0, initial=0.5), A) for f in (np.max, np.min, np.sum)]
              + [(lambda x: np.sum(x, initial=3), I), (lambda x: x.sum(0, where=P), A), (lambda x: x.max(initial=-9), I), (lambda x: np.mean(x, where=P), I),
                 (lambda x: np.max(x, axis=0, initial=-1.0), E), (lambda x: np.var(x, axis=1, ddof=1, where=x < 2, keepdims=True), A),
                 (lambda x: np.std(x, 1, mean=np.mean(x, 1, keepdims=True)), A), (lambda x: np.add.reduce(x, 1, where=x > 0, initial=2.0), A),
                 (lambda x: np.maximum.reduce(x, axis=None, initial=1.0), A), (lambda x: np.mean(x, 1, where=x > 0), A.astype(np.float16))],
    "nan": [(f, X[3:]) for f in (np.nansum, np.nanmax, np.nanmin)] + [(lambda x: np.nanmean(x, axis=0), np.array([[1, np.nan], [2, np.nan]], np.float32)), (np.nanmax, X), (np.nanprod, V),
        (lambda x: np.nanmax(x, initial=-5.0, where=P), A), (lambda x: np.nanmean(x, 1, where=P), A), (lambda x: np.nansum(x, 0, initial=2.0), A), (lambda x: np.nanmin(x, 1), np.full((2, 3), np.nan, np.float32))],
    "ptp": [(lambda x: np.ptp(x, 1), A), (np.ptp, I), (lambda x: np.average(x, 1, weights=V), A), (lambda x: np.average(x), A)],
    "isclose": [(np.isclose, A, A * (1 + np.float32(1e-5))), (lambda x: np.isclose(x, x, equal_nan=True), X), (lambda x: np.allclose(x, x), A), (lambda x: np.array_equal(x, x), X)],
    "methods": [(np.multiply.outer, V, A), (np.subtract.outer, I, J), (np.maximum.outer, V, V), (lambda x: np.logical_xor.reduce(x, axis=1), P),
                (written(lambda y: np.add.at(y, [0, 2, 0], 1)), V), (written(lambda y, v: np.add.at(y, [0, 2, 0], v)), A, A[:3].copy()),
                (written(lambda y: np.negative.at(y, slice(1, 3))), V), (written(lambda y: np.multiply.at(y, ([1, 1, 4],), 2)), I),
                (lambda x: np.add.reduceat(x, [0, 3, 1, 5]), V)],
    "out=": [(into(np.prod), V), (into(np.argmax, np.int64), V), (into(lambda x, out=None: np.take(x, [1, 2], out=out)), V), (into(lambda x, out=None: np.einsum("i,i->i", x, x, out=out)), V),
             (into(np.add.accumulate), V), (into(lambda x, out=None: np.multiply.outer(x, x, out=out)), V), (into(lambda x, out=None: np.sum(x, 1, where=P, out=out)), A)],
    "ufunc where=": [(written(lambda y: np.add(y, 1, out=y, where=y > 0)), A), (written(lambda y, b: np.exp(b, where=P, out=y)), A, B),
                     (written(lambda y: np.copyto(y, 7.0, where=P)), A), (written(lambda y, b: np.copyto(y, b, where=b > 0)), A, B)],
}
ORDER = {
    "sort": [(np.sort, T), (lambda x: np.sort(x, 0), B), (lambda x: np.sort(x, None), I), (np.sort, I * 40_000_001), (np.sort, U), (np.sort, P), (lambda x: np.sort(x, 1, kind="stable"), C),
             (np.sort, B.astype(BF16)), (np.sort, V[:1])],
    "argsort": [(lambda x: np.argsort(x, kind="stable"), T), (lambda x: np.argsort(x, 0, stable=True), np.round(B)), (lambda x: x.argsort(kind="stable"), I)],
    "median": [(np.median, V), (lambda x: np.median(x, 1, keepdims=True), A), (lambda x: np.median(x, 0), I), (np.median, T)],
}  # fmt: skip
FAMILIES = {"values": VALUES, "layout": LAYOUT, "products": PRODUCTS, "reductions": REDUCTIONS, "order": ORDER}
CASES = [
    pytest.param(name, fn, arrays, id=f"{name}-{i}")
    for family in FAMILIES.values()
    for name, cases in family.items()
    for i, (fn, *arrays) in enumerate(cases)
]
#: composed of a few roundings more than the one of NumPy
LOOSE = {"arcsin": 4e-6, "arccos": 4e-6, "float_power": 2e-5, "norm": 1e-5, "cumprod": 5e-6, "einsum": 2e-5, "tensordot": 2e-5, "vdot": 2e-5}


def wide(a):
    return a.astype(np.float64) if a.dtype == np.float32 else a


@pytest.mark.parametrize("name, fn, arrays", CASES)
def test_name(name, fn, arrays):
    expected, exact = fn(*arrays), fn(*map(wide, arrays))
    expected, exact = np.asarray(expected), np.asarray(exact)
    for target in TARGETS:
        kernel = nkigen.compile(fn, *arrays, target=target, check="every-pass" if target == "trn2" else "off", cache=False)
        assert kernel.verify() == []
        got = kernel(*arrays)
        assert got.shape == expected.shape
        assert_close(got, exact, rtol=LOOSE.get(name) if expected.dtype == np.float32 else None, dtype=expected.dtype)
    reference = kernel.reference(*arrays)
    assert reference.dtype == expected.dtype and reference.shape == expected.shape
    assert_close(reference, expected)


ERRORS = [
    (lambda x: np.take(x, [9], 1), nkigen.IndexingError, "index 9 is out of bounds for axis with size 7"),
    (lambda x: np.take(x, [0.5]), nkigen.DTypeError, "positions are integers, got float64"),
    (lambda x: np.cumsum(x, 2), nkigen.IndexingError, "cumsum: axis 2 is out of bounds"),
    (lambda x: np.einsum("ij,jk->ik", x, x), nkigen.ShapeError, "label 'j' is an axis of 7 and one of 5"),
    (lambda x: np.einsum("ijk->k", x), nkigen.ShapeError, "3 labels for an operand of 2 dims"),
    (lambda x: np.einsum("ij->q", x), nkigen.ShapeError, "label 'q'"),
    (lambda x: np.tensordot(x, x, 1), nkigen.ShapeError, r"sizes \(7,\) and \(5,\)"),
    (lambda x: np.linalg.norm(x, 2), nkigen.UnsupportedError, "'fro' is"),
    (lambda x: np.pad(x, 1, "linear_ramp"), nkigen.UnsupportedError, "symmetric, wrap is"),
    (lambda x: np.pad(x, -1), nkigen.ShapeError, "may not be negative"),
    (lambda x: np.select([x], [x]), nkigen.DTypeError, "conditions are bool, got float32"),
    (lambda x: np.max(x, where=x > 0), nkigen.ShapeError, "where= needs initial="),
    (lambda x: np.sum(x, where=x), nkigen.DTypeError, "where= is bool, got float32"),
    (lambda x: np.exp(x, where=x > 0), nkigen.UnsupportedError, "give out="),
    (lambda x: np.cumsum(x, out=np.zeros(3, np.float32)), nkigen.ShapeError, r"out has shape \(3,\)"),
    (lambda x: np.cumsum(x, 1, out=np.zeros((5, 7), np.int32)), nkigen.DTypeError, "same_kind"),
    (lambda x: np.sort(np.broadcast_to(x[:1, :1], (1, 2000))), nkigen.HardwareLimitError, "sort before the kernel"),
    (lambda x: np.subtract.accumulate(x), nkigen.UnsupportedError, "subtract.accumulate is not supported; one of"),
    (lambda x: np.take_along_axis(x, x > 0, 1), nkigen.DTypeError, "positions are integers"),
    (lambda x: np.diff(x, -1), nkigen.ShapeError, "order may not be negative"),
    (lambda x: np.add.at(x, x, 1), nkigen.UnsupportedError, "indices that are traced"),
    (lambda x: np.trace(x, axis1=0, axis2=0), nkigen.ShapeError, "are the same"),
]  # fmt: skip


@pytest.mark.parametrize("fn, error, message", ERRORS)
def test_errors_at_the_users_line(fn, error, message):
    with pytest.raises(error, match=message) as e:
        nkigen.trace(fn).graph(((5, 7), "f32"))
    assert e.value.filename == __file__ and e.value.lineno == fn.__code__.co_firstlineno and e.value.code


def test_traced_positions_beyond_the_ends():
    """Negative ones count from the end; what is beyond is the element there, where NumPy raises."""
    index = np.array([[-8, -7, -1, 0, 7, 99, 6]] * 5, np.int32)
    kernel = nkigen.compile(lambda x, i: np.take_along_axis(x, i, 1), A, index)
    expected = np.take_along_axis(A, np.array([[0, 0, 6, 0, 6, 6, 6]] * 5), 1)
    assert np.array_equal(kernel(A, index), expected) and np.array_equal(kernel.reference(A, index), expected)
