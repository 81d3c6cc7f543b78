"""Compositions of NumPy functions that multiply and add up: einsum, tensordot, norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nkigen.compose import (
    as_array,
    as_axis,
    composes,
    each,
    here,
    scalar_of,
)
from nkigen.errors import DTypeError, ShapeError, UnsupportedError

__all__: list[str] = []

# ---- products of two ----


@composes(np.vdot)
def _vdot(a: Any, b: Any) -> Any:
    return np.dot(as_array(a).reshape(-1), as_array(b).reshape(-1))


def _operands(name: str, pairs: Sequence[tuple[Any, int]]) -> list[Any]:
    """Operands with at least so many axes."""
    arrays = []
    for value, least in pairs:
        small = np.ndim(value) < least
        x = value if small else as_array(value)
        if small:
            raise here(
                ShapeError(
                    f"NKI-1618 {name}: an operand has {np.ndim(x)} dims, at least {least} are expected"
                )
            )
        arrays.append(x)
    return arrays


@composes(np.vecdot, np.linalg.vecdot)
def _vecdot(x1: Any, x2: Any, *, axis: int = -1) -> Any:
    x, y = _operands("vecdot", [(x1, 1), (x2, 1)])
    x, y = (np.moveaxis(a, as_axis("vecdot", axis, a.ndim), -1) for a in (x, y))
    if x.shape[-1] != y.shape[-1]:
        raise here(
            ShapeError(
                f"NKI-1577 vecdot: vectors of {x.shape[-1]} and {y.shape[-1]} elements"
            )
        )
    r = np.matmul(x[..., None, :], y[..., :, None])[..., 0, 0]
    return np.astype(r, np.result_type(x, y))


@composes(np.matvec)
def _matvec(x1: Any, x2: Any) -> Any:
    x, y = _operands("matvec", [(x1, 2), (x2, 1)])
    return np.matmul(x, y[..., :, None])[..., 0]


@composes(np.vecmat)
def _vecmat(x1: Any, x2: Any) -> Any:
    x, y = _operands("vecmat", [(x1, 1), (x2, 2)])
    return np.matmul(x[..., None, :], y)[..., 0, :]


def _contracted(axes: Any, a: Any, b: Any) -> tuple[list[int], list[int]]:
    """The axes of tensordot as two lists."""
    if hasattr(axes, "__index__"):
        n = axes.__index__()
        if not 0 <= n <= min(a.ndim, b.ndim):
            raise here(
                ShapeError(
                    f"NKI-1578 tensordot: {n} axes of operands with {a.ndim} and {b.ndim} dims"
                )
            )
        return list(range(a.ndim - n, a.ndim)), list(range(n))
    one, two = ([x] if hasattr(x, "__index__") else list(x) for x in axes)
    return (
        [as_axis("tensordot", x, a.ndim) for x in one],
        [as_axis("tensordot", x, b.ndim) for x in two],
    )


@composes(np.tensordot)
def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = each([a, b])
    one, two = _contracted(axes, a, b)
    sizes = [[x.shape[i] for i in at] for x, at in ((a, one), (b, two))]
    if sizes[0] != sizes[1]:
        raise here(
            ShapeError(
                f"NKI-1579 tensordot: contracted axes have sizes {tuple(sizes[0])} and "
                f"{tuple(sizes[1])}"
            )
        )
    left = [i for i in range(a.ndim) if i not in one]
    right = [i for i in range(b.ndim) if i not in two]
    k = int(np.prod(sizes[0], dtype=np.int64))
    rows, cols = ([x.shape[i] for i in at] for x, at in ((a, left), (b, right)))
    x = np.transpose(a, left + one).reshape(_size(rows), k)
    y = np.transpose(b, two + right).reshape(k, _size(cols))
    return scalar_of(np.dot(x, y).reshape(rows + cols))


@composes(np.linalg.tensordot)
def _tensordot_of(x1: Any, x2: Any, *, axes: Any = 2) -> Any:
    return _tensordot(x1, x2, axes)


def _size(dims: Sequence[int]) -> int:
    return int(np.prod(dims, dtype=np.int64))


@composes(np.kron)
def _kron(a: Any, b: Any) -> Any:
    a, b = each([a, b])
    n = max(a.ndim, b.ndim)
    s, t = ((1,) * (n - x.ndim) + x.shape for x in (a, b))
    x = a.reshape([d for pair in zip(s, (1,) * n, strict=True) for d in pair])
    y = b.reshape([d for pair in zip((1,) * n, t, strict=True) for d in pair])
    return (x * y).reshape([i * j for i, j in zip(s, t, strict=True)])


# ---- einsum ----


def _parsed(args: Sequence[Any]) -> tuple[list[list[Any]], list[Any] | None, list[Any]]:
    """Labels of the operands, of the result (None: not said), and the operands."""
    if isinstance(args[0], str):
        spec, arrays = args[0].replace(" ", ""), each(args[1:])
        inputs, arrow, output = spec.partition("->")
        return (
            [_labels(t) for t in inputs.split(",")],
            _labels(output) if arrow else None,
            arrays,
        )
    pairs = list(args)
    last = list(pairs.pop()) if len(pairs) % 2 else None
    return [list(x) for x in pairs[1::2]], last, each(pairs[::2])


def _labels(text: str) -> list[Any]:
    labels: list[Any] = []
    while text:
        if text.startswith("..."):
            labels.append(Ellipsis)
            text = text[3:]
        elif text[0].isalpha():
            labels.append(text[0])
            text = text[1:]
        else:
            raise here(
                ShapeError(f"NKI-1580 einsum: {text[0]!r} is no label of an axis")
            )
    return labels


def _expanded(labels: list[Any], ndim: int) -> list[Any]:
    """A label for each axis; those of an ellipsis are counted from the right."""
    if labels.count(Ellipsis) > 1:
        raise here(ShapeError("NKI-1581 einsum: an operand has one ellipsis at most"))
    if Ellipsis not in labels:
        if len(labels) != ndim:
            raise here(
                ShapeError(
                    f"NKI-1582 einsum: {len(labels)} labels for an operand of {ndim} dims"
                )
            )
        return labels
    at = labels.index(Ellipsis)
    n = ndim - len(labels) + 1
    if n < 0:
        raise here(
            ShapeError(
                f"NKI-1583 einsum: {len(labels) - 1} labels for an operand of {ndim} dims"
            )
        )
    return [*labels[:at], *[("...", i) for i in range(n, 0, -1)], *labels[at + 1 :]]


def _result_labels(inputs: list[list[Any]], output: list[Any] | None) -> list[Any]:
    used = [x for labels in inputs for x in labels]
    dots = sorted({x for x in used if isinstance(x, tuple)}, reverse=True)
    if output is None:
        return [
            *dots,
            *sorted(
                x for x in set(used) if not isinstance(x, tuple) and used.count(x) == 1
            ),
        ]
    if Ellipsis in output:
        at = output.index(Ellipsis)
        output = [*output[:at], *dots, *output[at + 1 :]]
    for x in output:
        if x not in used or output.count(x) > 1:
            raise here(
                ShapeError(
                    f"NKI-1584 einsum: the result's label {x!r} stands once in it and in an operand"
                )
            )
    return output


def _one_axis_each(x: Any, labels: list[Any]) -> tuple[Any, list[Any]]:
    """A label that an operand has twice means its diagonal."""
    labels = list(labels)
    for label in [v for i, v in enumerate(labels) if labels.index(v) != i]:
        if labels.count(label) < 2:
            continue
        one = labels.index(label)
        two = labels.index(label, one + 1)
        if x.shape[one] != x.shape[two]:
            raise here(
                ShapeError(
                    f"NKI-1585 einsum: label {label!r} is an axis of {x.shape[one]} and one of "
                    f"{x.shape[two]} elements"
                )
            )
        x = np.diagonal(x, 0, one, two)
        labels = [v for i, v in enumerate(labels) if i not in (one, two)] + [label]
    return x, labels


class _Term:
    """An operand: an array and a label for each axis."""

    def __init__(self, x: Any, labels: list[Any]) -> None:
        self.x, self.labels = x, labels

    def in_order(self, labels: Sequence[Any]) -> Any:
        return np.transpose(self.x, [self.labels.index(v) for v in labels])

    def only(self, keep: Sequence[Any]) -> _Term:
        """Summed over the labels that nobody else has."""
        axes = tuple(i for i, v in enumerate(self.labels) if v not in keep)
        if not axes:
            return self
        kept = [v for v in self.labels if v in keep]
        return _Term(np.sum(self.x, axis=axes, dtype=self.x.dtype), kept)

    def without_ones(self, sizes: dict[Any, int]) -> _Term:
        """Without axes of size 1 that are longer elsewhere."""
        axes = tuple(
            i for i, v in enumerate(self.labels) if self.x.shape[i] != sizes[v]
        )
        kept = [v for i, v in enumerate(self.labels) if i not in axes]
        return _Term(np.squeeze(self.x, axis=axes), kept) if axes else self


def _product(a: _Term, b: _Term, keep: Sequence[Any], sizes: dict[Any, int]) -> _Term:
    """Two operands as one matrix product, or element by element if nothing adds up."""
    a, b = a.only([*keep, *b.labels]), b.only([*keep, *a.labels])
    batch = [v for v in a.labels if v in b.labels and v in keep]
    inner = [v for v in a.labels if v in b.labels and v not in keep]
    rows = [v for v in a.labels if v not in b.labels]
    cols = [v for v in b.labels if v not in a.labels]

    def size(labels: Sequence[Any]) -> int:
        return _size([sizes[v] for v in labels])

    lead = [sizes[v] for v in batch]
    labels = [*batch, *rows, *cols]
    x, y = a.in_order([*batch, *rows, *inner]), b.in_order([*batch, *inner, *cols])
    if inner:
        x = x.reshape(*lead, size(rows), size(inner))
        r = np.matmul(x, y.reshape(*lead, size(inner), size(cols)))
        r = np.astype(r, a.x.dtype)
    else:
        x = x.reshape(*lead, size(rows), 1)
        r = x * y.reshape(*lead, 1, size(cols))
    return _Term(r.reshape([sizes[v] for v in labels]), labels)


def _sizes(terms: Sequence[_Term]) -> dict[Any, int]:
    sizes: dict[Any, int] = {}
    for t in terms:
        for label, n in zip(t.labels, t.x.shape, strict=True):
            have = sizes.setdefault(label, n)
            if have != n and 1 not in (have, n):
                raise here(
                    ShapeError(
                        f"NKI-1586 einsum: label {label!r} is an axis of {have} and one of "
                        f"{n} elements"
                    )
                )
            sizes[label] = n if have == 1 else have
    return sizes


def _contract(terms: list[_Term], output: list[Any]) -> Any:
    """From left to right, always those next that share a label with what is there."""
    sizes = _sizes(terms)
    terms = [t.without_ones(sizes) for t in terms]
    done = terms.pop(0)
    while terms:
        at = next(
            (i for i, t in enumerate(terms) if set(t.labels) & set(done.labels)), 0
        )
        other = terms.pop(at)
        keep = [*output, *[v for t in terms for v in t.labels]]
        done = _product(done, other, keep, sizes)
    r = done.only(output)
    missing = [v for v in output if v not in r.labels]
    if missing:  # of size 1 everywhere it stood
        shape = r.x.shape + tuple(sizes[v] for v in missing)
        x = np.broadcast_to(r.x.reshape(r.x.shape + (1,) * len(missing)), shape)
        r = _Term(x, [*r.labels, *missing])
    return r.in_order(output)


@composes(np.einsum)
def _einsum(
    *operands: Any,
    optimize: Any = False,
    dtype: Any = None,
    order: Any = "K",
    casting: Any = "safe",
) -> Any:
    inputs, output, arrays = _parsed(operands)
    if len(inputs) != len(arrays):
        raise here(
            ShapeError(
                f"NKI-1587 einsum: {len(inputs)} terms for {len(arrays)} operands"
            )
        )
    common = np.result_type(*arrays)
    dtype = common if dtype is None else np.dtype(dtype)
    if not all(np.can_cast(a.dtype, dtype, casting) for a in arrays):
        raise here(
            DTypeError(
                f"NKI-1588 einsum: operands cannot be cast to {dtype} ({casting!r})"
            )
        )
    inputs = [_expanded(x, a.ndim) for x, a in zip(inputs, arrays, strict=True)]
    output = _result_labels(inputs, output)
    work = np.dtype(np.int32) if dtype == np.bool_ else dtype
    terms = [
        _Term(*_one_axis_each(np.astype(a, work), x))
        for x, a in zip(inputs, arrays, strict=True)
    ]
    r = np.astype(_contract(terms, output), dtype)
    if r is arrays[0]:
        return np.copy(r)
    return r[...] if r.ndim else scalar_of(r)


# ---- norms ----


def _inexact(x: Any) -> Any:
    """NumPy's norms take float64 for what is no float of its own."""
    return x if x.dtype.kind == "f" else np.astype(x, np.float64)


def _vector_norm(x: Any, p: Any, axis: Any, keepdims: bool) -> Any:
    size = np.abs(x)
    if p is None or p == 2:
        return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))
    if p == np.inf:
        return np.max(size, axis=axis, keepdims=keepdims)
    if p == -np.inf:
        return np.min(size, axis=axis, keepdims=keepdims)
    if p == 0:
        return np.sum(np.astype(x != 0, x.dtype), axis=axis, keepdims=keepdims)
    if p == 1:
        return np.sum(size, axis=axis, keepdims=keepdims)
    if isinstance(p, str):
        raise here(ShapeError(f"NKI-1589 norm: order {p!r} is not one of vectors"))
    p = float(p)
    return np.sum(size**p, axis=axis, keepdims=keepdims) ** (1 / p)


def _matrix_norm(x: Any, order: Any, axes: Sequence[int], keepdims: bool) -> Any:
    rows, cols = axes
    if order in (None, "fro", "f"):
        return np.sqrt(np.sum(x * x, axis=(rows, cols), keepdims=keepdims))
    if order in (1, -1, np.inf, -np.inf):
        first, second = (rows, cols) if order in (1, -1) else (cols, rows)
        sums = np.sum(np.abs(x), axis=first, keepdims=True)
        r = (np.max if order > 0 else np.min)(sums, axis=second, keepdims=True)
        return r if keepdims else np.squeeze(r, axis=(rows, cols))
    if order in (2, -2, "nuc"):
        raise here(
            UnsupportedError(
                f"NKI-1590 norm: order {order!r} of matrices needs singular values, which are "
                "not supported; 'fro' is"
            )
        )
    raise here(ShapeError(f"NKI-1591 norm: order {order!r} is not one of matrices"))


@composes(np.linalg.norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = _inexact(as_array(x))
    if axis is None and (ord is None or (ord in ("f", "fro") and x.ndim == 2)):
        r = np.sqrt(np.sum(x * x))
        return r.reshape((1,) * x.ndim) if keepdims else r
    axes = tuple(range(x.ndim)) if axis is None else axis
    axes = (axes,) if hasattr(axes, "__index__") else tuple(axes)
    axes = tuple(as_axis("norm", a, x.ndim) for a in axes)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    if len(axes) == 2 and axes[0] != axes[1]:
        return scalar_of(_matrix_norm(x, ord, axes, keepdims))
    raise here(ShapeError(f"NKI-1592 norm: one or two axes are expected, got {axes}"))


@composes(np.linalg.vector_norm)
def _vector_norm_of(
    x: Any, *, axis: Any = None, keepdims: bool = False, ord: Any = 2
) -> Any:
    x = _inexact(as_array(x))
    if axis is None:
        r = _vector_norm(x.reshape(-1), ord, 0, False)
        return r.reshape((1,) * x.ndim) if keepdims else r
    axes = (axis,) if hasattr(axis, "__index__") else tuple(axis)
    return _vector_norm(x, ord, axes if len(axes) > 1 else axes[0], keepdims)


@composes(np.linalg.matrix_norm)
def _matrix_norm_of(x: Any, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    x = _inexact(as_array(x))
    return scalar_of(_matrix_norm(x, ord, (x.ndim - 2, x.ndim - 1), keepdims))
