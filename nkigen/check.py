"""What rounding explains: bounds for every result of a tensor program.

A stage of a compilation rounds in other places than NumPy does: sums have another
order, a division is a product with a reciprocal. `bounds` runs a tensor program through
NumPy and carries along, per element, the range of values that a right program may
give. Data movement, conversions, comparisons and integers add nothing to a range, an
f32 operation adds its few units in the last place, a sum or a product adds them for the
sum of absolute values, and a rounding to a narrow dtype takes place at both ends: what
is known exactly stays exact. An element is free when the range says nothing, as after a
comparison of values too close to tell apart chose between two branches.

Example:
    >>> import numpy as np, nkigen
    >>> k = nkigen.compile(lambda x: x + 1, ((2,), "f32"))
    >>> [r] = bounds(k.tensor_ir, [np.float32([1, 2])])
    >>> explain(r, np.float32([2, 3])) is None
    True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nkigen import _core, ops

__all__ = ["Bound", "bounds", "explain"]

Array = np.ndarray
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
ULP = 2.0**-23
TINY = 2.0**-126
F32_MAX = float(np.finfo(np.float32).max)

#: relative errors of f32 operations beyond their rounding, in units of ULP
ARITHMETIC = 1.0
QUOTIENT = 4.0
FUNCTION = 10.0
#: of single functions: relative error in ULP, where it is not FUNCTION
FUNCTION_ULP = {
    "sqrt": QUOTIENT, "rsqrt": QUOTIENT, "rsqrt_wide": QUOTIENT,
    "reciprocal": QUOTIENT, "cbrt": 32,
}  # fmt: skip
#: beside its zeros a sine is right to this, a tangent in its operand; a logarithm of a
#: sum is where NumPy's formula cancels
SINE_ERROR = LOG_ERROR = 5e-7
#: where functions that fall and rise have their extreme
TURN = {"square": 0.0, "abs": 0.0, "cosh": 0.0, "silu": -1.2784645, "gelu_tanh": -0.752}

STEPS = ("floor", "ceil", "rint", "trunc")
SMOOTH = tuple(
    "square sqrt rsqrt rsqrt_wide cbrt reciprocal exp exp2 expm1 log log2 log10 log1p "
    "arctan arctan_small sinh cosh tanh sigmoid silu gelu_tanh".split()
)
COMPARE = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


def _function(name: str) -> Callable[..., Array]:
    """What the reference interpreter calls for an op."""
    return getattr(ops, name[1:]) if name[0] == "." else getattr(np, name)


#: by op
NUMPY: dict[str, Callable[..., Array]] = {
    row["name"]: _function(row["np"])
    for row in _core.op_table("tensor")
    if row["np"] and hasattr(np if row["np"][0] != "." else ops, row["np"].lstrip("."))
}


@dataclass(frozen=True)
class Bound:
    """A result: NumPy's value and the range of right ones.

    `lo` and `hi` are f64; None: only the value itself. `free` marks elements that may
    be anything. `raw` is the range before the result was rounded to a narrow dtype,
    which a sum that rides along with its operand adds up.
    """

    value: Array
    lo: Array | None = None
    hi: Array | None = None
    free: Array | None = None
    raw: tuple[Array, Array] | None = None

    @property
    def exact(self) -> bool:
        """Whether only NumPy's value is right."""
        return self.lo is None and self.free is None

    def ends(self) -> tuple[Array, Array]:
        """The least and the greatest right value of each element, in f64."""
        if self.lo is None:
            v = _wide(self.value)
            if self.value.dtype == np.bool_ and self.free is not None:
                return np.where(self.free, 0.0, v), np.where(self.free, 1.0, v)
            return v, v
        return self.lo, self.hi


def bounds(program: _core.Program, arrays: Sequence[Array]) -> list[Bound]:
    """The Bound of every output of a tensor program on these inputs.

    Example:
        >>> import nkigen
        >>> k = nkigen.compile(lambda x: -x, ((2,), "f32"))
        >>> bounds(k.tensor_ir, [np.float32([1, 2])])[0].exact
        True
    """
    known: dict[int, Bound] = {}

    def result(
        op: str, attrs: dict, operands: tuple, out: int, value: Array, dead: list
    ) -> None:
        x = [known[i] for i in operands]
        known[out] = _rule(op)(op, attrs, x, np.asarray(value))
        for i in dead:
            known.pop(i, None)

    with np.errstate(all="ignore"):
        return [known[i] for i in program.watch(result, *arrays)]


def explain(bound: Bound, got: Array) -> str | None:
    """None when every element of `got` is in its range, else the worst of the others.

    Example:
        >>> explain(Bound(np.float32([1, 2])), np.float32([1, 3]))
        '1 of 2 elements differ: at (1,) 3.0, the first stage gives 2.0'
    """
    want = bound.value
    if got.shape != want.shape:
        return f"shape {got.shape}, the first stage gives {want.shape}"
    with np.errstate(all="ignore"):
        lo, hi = (_wide(_round(e, got.dtype)) for e in bound.ends())
        if got.dtype == F64:  # NumPy's own, or what 32 bits hold of it
            lo, hi = np.fmin(lo, bound.ends()[0]), np.fmax(hi, bound.ends()[1])
        a, w = _wide(got), _wide(want)
        good = ((a >= lo) & (a <= hi)) | (np.isnan(a) & np.isnan(w))
        if got.dtype == np.bool_ or bound.lo is None:
            good = got == want.astype(got.dtype)
            good |= np.isnan(a) & np.isnan(w)
        if bound.free is not None:
            good |= bound.free
        if good.all():
            return None
        outside = np.where(good, -1.0, np.nan_to_num(np.abs(a - w), nan=np.inf))
    at = tuple(int(i) for i in np.unravel_index(np.argmax(outside), got.shape))
    text = f"{np.count_nonzero(~good)} of {got.size} elements differ: at {at} "
    text += f"{a[at]:.9g}" if got.dtype.kind in "biu" else f"{float(a[at])!r}"
    text += f", the first stage gives {w[at].item()!r}"
    if bound.lo is not None and lo[at] < hi[at]:
        text += f" and rounding explains {lo[at]:.9g} to {hi[at]:.9g}"
    return text


# ---- ranges ----


def _wide(a: Array) -> Array:
    return a.astype(np.float64)


def _is_float(dtype: np.dtype) -> bool:
    return dtype.kind not in "biu"


def _is_narrow(dtype: np.dtype) -> bool:
    return _is_float(dtype) and dtype.itemsize < 4


def _round(a: Array, dtype: np.dtype) -> Array:
    """As the device does: f64 is f32 there, and everything comes from f32."""
    if not _is_float(dtype):
        return a
    a = a.astype(np.float32)
    return a if dtype in (F32, F64) else a.astype(dtype)


def _make(
    value: Array,
    lo: Array,
    hi: Array,
    ulps: float | Array,
    free: Any,
    rides: bool = False,
) -> Bound:
    """The range [lo, hi] of real numbers, computed in f32 and rounded to the dtype.

    rides: a sum may ride along with the instruction that computes it.
    """
    if not _is_float(value.dtype):
        return _whole(value, lo, hi, free)
    if _is_narrow(value.dtype) and np.isscalar(ulps) and ulps <= ARITHMETIC:
        ulps = 0.0  # nothing is rewritten in a narrow dtype
    slack = ulps * ULP
    least = 0.0 if np.isscalar(ulps) and ulps <= ARITHMETIC else TINY
    lo = lo - np.where(np.isfinite(lo), np.abs(lo) * slack + least, 0)
    hi = hi + np.where(np.isfinite(hi), np.abs(hi) * slack + least, 0)
    raw = (_wide(_round(lo, F32)), _wide(_round(hi, F32)))
    lo, hi = (_wide(_round(e, value.dtype)) for e in raw)
    w = _wide(value)
    unknown = (np.isnan(lo) | np.isnan(hi)) != np.isnan(w)
    free = _either(free, unknown if unknown.any() else None)
    lo, hi = np.fmin(lo, w), np.fmax(hi, w)
    narrow = rides and _is_narrow(value.dtype)
    if free is None and np.array_equal(lo, hi, equal_nan=True) and value.dtype != F64:
        return Bound(value, raw=raw if narrow else None)
    return Bound(value, lo, hi, free, raw if narrow else None)


def _whole(value: Array, lo: Array, hi: Array, free: Any) -> Bound:
    """Integers and bools: nothing is added; beyond 32 bits they wrap around."""
    wild = np.isnan(lo) | np.isnan(hi) | (np.abs(lo) >= 2**31) | (np.abs(hi) >= 2**31)
    wild = wild & (lo != hi)
    free = _either(free, wild if wild.any() else None)
    if free is None and np.array_equal(lo, hi):
        return Bound(value)
    if value.dtype == np.bool_:
        return Bound(value, free=_either(free, lo != hi))
    return Bound(value, np.fmin(lo, _wide(value)), np.fmax(hi, _wide(value)), free)


def _either(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a | b


def _free(x: Sequence[Bound], shape: tuple[int, ...]) -> Array | None:
    """Free where an operand is."""
    out = None
    for b in x:
        if b.free is not None and not (b.value.dtype == np.bool_ and len(x) == 1):
            out = _either(out, np.broadcast_to(b.free, shape))
    return out


# ---- rules: (op, attributes, operands, value) -> Bound ----


def _source(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    if value.dtype != F64:
        return Bound(value)
    w, r = _wide(value), _wide(_round(value, F32))
    return Bound(value, np.fmin(w, r), np.fmax(w, r))


def _move(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    def moved(parts: list[Any]) -> Any:
        if parts[0] is None:
            return None
        if op == "transpose":
            return np.transpose(parts[0], attrs["perm"])
        if op == "reshape":
            return np.reshape(parts[0], attrs["shape"])
        if op == "broadcast_to":
            return np.broadcast_to(parts[0], attrs["shape"])
        if op == "slice":
            return parts[0][_slices(attrs)]
        return np.concatenate(parts, attrs["axis"]) if op == "concat" else parts[0]

    if all(b.exact for b in x):
        return Bound(value)
    lo, hi = (moved(list(e)) for e in zip(*(b.ends() for b in x)))
    free = None
    if any(b.free is not None for b in x):
        free = moved(
            [np.zeros(b.value.shape, bool) if b.free is None else b.free for b in x]
        )
    if value.dtype == np.bool_:
        return Bound(value, free=free)
    return Bound(value, lo, hi, free)


def _update(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    """The first operand with a part replaced by the second."""
    if x[0].exact and x[1].exact:
        return Bound(value)
    lo, hi = (e.copy() for e in x[0].ends())
    free = np.zeros(value.shape, bool) if x[0].free is None else x[0].free.copy()
    part = _slices(attrs)
    lo[part], hi[part] = x[1].ends()
    free[part] = False if x[1].free is None else x[1].free
    if value.dtype == np.bool_:
        return Bound(value, free=free)
    return Bound(value, lo, hi, free if free.any() else None)


def _slices(attrs: dict) -> tuple[slice, ...]:
    out = []
    for start, step, size in zip(attrs["start"], attrs["step"], attrs["size"]):
        stop = start + step * size
        out.append(slice(start, None if stop < 0 else stop, step))
    return tuple(out)


def _cast(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    a, dtype = x[0], value.dtype
    lo, hi = a.ends()
    free = _free(x, value.shape)
    if dtype.kind in "iu" and _is_float(a.value.dtype):
        free = _either(free, _beyond(lo, hi, dtype))
    if a.exact:
        widened = a.raw if _is_float(dtype) and dtype.itemsize >= 4 else None
        return Bound(value, raw=widened, free=free)
    if dtype == np.bool_:
        unsure = (lo != hi) & (lo <= 0) & (hi >= 0)
        return Bound(value, free=_either(free, unsure))
    if not _is_float(dtype):
        step = np.rint if op == "rcast" else np.trunc
        return _whole(value, step(lo), step(hi), free)
    made = _make(value, lo, hi, 0.0, free)
    if dtype.itemsize >= 4 and a.raw is not None:
        return Bound(value, made.lo, made.hi, made.free, a.raw)
    return made


def _beyond(lo: Array, hi: Array, dtype: np.dtype) -> Array | None:
    """Where floats have no integer of a dtype: NumPy's result is that of the machine it
    runs on, the device's is the nearest integer."""
    info = np.iinfo(dtype)
    beyond = ~((lo > info.min - 1.0) & (hi < info.max + 1.0))
    return beyond if beyond.any() else None


def _unary(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    lo, hi = x[0].ends()
    free = _free(x, value.shape)
    if op in ("neg", "abs", "sign") or op in STEPS or not _is_float(value.dtype):
        if x[0].exact:
            return Bound(value)
        if op == "neg":
            return _make(value, -hi, -lo, 0.0, free)
        return _make(value, *_image(op, lo, hi), 0.0, free)
    ulps = ARITHMETIC if op == "square" else FUNCTION_ULP.get(op, FUNCTION)
    if op == "reciprocal":
        pole = (lo <= 0) & (hi >= 0) & (lo != hi)
        free = _either(free, pole if pole.any() else None)
    return _make(value, *_image(op, lo, hi), ulps, free, True)


def _image(op: str, lo: Array, hi: Array) -> tuple[Array, Array]:
    """The range of a function that is monotone but for one turn; nan if partly that."""
    ends = [NUMPY[op](lo), NUMPY[op](hi)]
    if op in TURN:
        ends.append(NUMPY[op](np.clip(TURN[op], lo, hi)))
    return _hull(ends)


def _hull(ends: list[Array]) -> tuple[Array, Array]:
    low = high = ends[0]
    for e in ends[1:]:
        low, high = np.minimum(low, e), np.maximum(high, e)
    return low, high


def _wave(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    """Sine, cosine, and tangent between its poles."""
    lo, hi = x[0].ends()
    free = _free(x, value.shape)
    if op == "tan":
        lo, hi = lo - SINE_ERROR, hi + SINE_ERROR
        pole = np.floor(lo / math.pi - 0.5) != np.floor(hi / math.pi - 0.5)
        free = _either(free, pole & np.isfinite(lo) & np.isfinite(hi))
        return _make(value, np.tan(lo), np.tan(hi), FUNCTION, free)
    a, b = (NUMPY["cos" if op == "cos" else "sin"](e) for e in (lo, hi))
    low = np.maximum(np.minimum(a, b) - (hi - lo) - SINE_ERROR, -1.000001)
    high = np.minimum(np.maximum(a, b) + (hi - lo) + SINE_ERROR, 1.000001)
    return _make(value, low, high, 0.0, free, True)


def _arithmetic(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    (alo, ahi), (blo, bhi) = x[0].ends(), x[1].ends()
    free = _free(x, value.shape)
    if not _is_float(value.dtype) and x[0].exact and x[1].exact:
        return Bound(value)
    if op == "add":
        return _make(value, alo + blo, ahi + bhi, ARITHMETIC, free)
    if op == "sub":
        return _make(value, alo - bhi, ahi - blo, ARITHMETIC, free)
    if op == "maximum":
        return _make(value, np.maximum(alo, blo), np.maximum(ahi, bhi), 0.0, free)
    if op == "minimum":
        return _make(value, np.minimum(alo, blo), np.minimum(ahi, bhi), 0.0, free)
    f = NUMPY[op]
    ulps: Any = ARITHMETIC if op == "mul" else QUOTIENT
    if op != "mul":
        of = (blo, bhi) if op == "div" else (alo, ahi)
        pole = (of[0] <= 0) & (of[1] >= 0) & (of[0] != of[1])
        if op == "power" and x[1].exact:
            pole = pole & ~((blo > 0) & (blo == np.rint(blo)))
        free = _either(free, np.broadcast_to(pole, value.shape) if pole.any() else None)
    corners = [f(p, q) for p in (alo, ahi) for q in (blo, bhi)]
    if op == "div":  # an infinite divisor may be one that overflowed on the way
        largest = [np.clip(q, -F32_MAX, F32_MAX) for q in (blo, bhi)]
        corners += [f(p, q) for p in (alo, ahi) for q in largest]
    if op == "power":
        corners.append(f(np.clip(0.0, alo, ahi), blo))
        ulps = FUNCTION + 2 * np.abs(
            np.log2(np.abs(np.where(value == 0, 1, value)).astype(F64))
        )
        ulps = np.where(np.isfinite(ulps), ulps, FUNCTION)
    return _make(value, *_hull(corners), ulps, free, op != "div")


def _rising(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    """Functions of two operands that rise with both, or with both sizes."""
    ends = [b.ends() for b in x]
    free = _free(x, value.shape)
    if op == "hypot":
        (alo, ahi), (blo, bhi) = (_image("abs", *e) for e in ends)
        return _make(value, np.hypot(alo, blo), np.hypot(ahi, bhi), FUNCTION, free)
    lo, hi = (np.logaddexp(a, b) for a, b in zip(*ends))
    return _make(value, lo - LOG_ERROR, hi + LOG_ERROR, FUNCTION, free)


def _divmod(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    """Exact where the operands are and the quotient is not large."""
    (alo, ahi), (blo, bhi) = x[0].ends(), x[1].ends()
    exact = x[0].exact and x[1].exact
    if not _is_float(value.dtype) and exact:
        return Bound(value)
    low, high = _hull([p / q for p in (alo, ahi) for q in (blo, bhi)])
    known = np.floor(low) == np.floor(high)
    if exact:
        known &= np.abs(low) < 2**22
    free = _either(_free(x, value.shape), ~known & np.isfinite(_wide(value)))
    if op == "floor_divide":
        w = _wide(value)
        return _make(value, w, w, 0.0, free)
    if exact:
        return _make(value, _wide(value), _wide(value), 0.0, free)
    q = np.floor(low)
    low, high = _hull([a - q * b for a in (alo, ahi) for b in (blo, bhi)])
    size = np.maximum(np.abs(alo), np.abs(ahi)) * ULP * QUOTIENT
    return _make(value, low - size, high + size, QUOTIENT, free)


def _compare(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    free = _free(x, value.shape)
    if x[0].exact and x[1].exact:
        return Bound(value)
    (alo, ahi), (blo, bhi) = x[0].ends(), x[1].ends()
    point = (alo == ahi) & (blo == bhi)
    unsure = (alo <= bhi) & (blo <= ahi) & ~point
    return Bound(value, free=_either(free, np.broadcast_to(unsure, value.shape)))


def _logic(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    free = _free(x, value.shape) if len(x) > 1 else x[0].free
    if free is None or op not in ("logical_and", "logical_or"):
        return Bound(value, free=free)
    decides = op == "logical_or"
    for b in x:
        sure = True if b.free is None else ~b.free
        free = free & ~(sure & (b.value == decides))
    return Bound(value, free=free)


def _bits(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    """Nothing is known of bits of a number that is not sure."""
    if all(b.exact for b in x):
        return Bound(value)
    free = _free(x, value.shape)
    for lo, hi in (b.ends() for b in x):
        free = _either(free, np.broadcast_to(lo != hi, value.shape))
    return Bound(value, free=free)


def _isnan(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    return Bound(value, free=x[0].free)


def _where(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    cond, a, b = x
    if all(i.exact for i in x):
        return Bound(value)
    (alo, ahi), (blo, bhi) = a.ends(), b.ends()
    c = cond.value
    nothing = np.zeros((), bool)
    afree, bfree = (nothing if i.free is None else i.free for i in (a, b))
    lo, hi = np.where(c, alo, blo), np.where(c, ahi, bhi)
    free = np.where(c, afree, bfree)
    if cond.free is not None:
        both = cond.free
        lo, hi = np.where(both, np.fmin(alo, blo), lo), np.where(
            both, np.fmax(ahi, bhi), hi
        )
        odd = np.isnan(alo) | np.isnan(blo) | afree | bfree
        free = np.where(both, odd, free)
    lo, hi, free = (np.broadcast_to(i, value.shape) for i in (lo, hi, free))
    free = free if free.any() else None
    if value.dtype == np.bool_:
        return Bound(value, free=_either(free, lo != hi))
    return _make(value, lo, hi, 0.0, free)


def _reduced(attrs: dict) -> dict:
    return {"axis": attrs["axes"], "keepdims": bool(attrs["keepdims"])}


def _sum(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    how = _reduced(attrs)
    if not _is_float(value.dtype) and x[0].exact:
        return Bound(value)
    lo, hi = x[0].ends()
    free = None if x[0].free is None else np.any(x[0].free, **how)
    size = np.maximum(np.abs(lo), np.abs(hi))
    n = math.prod(x[0].value.shape[a] for a in attrs["axes"])
    low, high = np.sum(lo, **how), np.sum(hi, **how)
    if x[0].raw is not None:  # a sum that rides along adds what was not yet rounded
        rlo, rhi = x[0].raw
        low = np.fmin(low, np.sum(rlo, **how))
        high = np.fmax(high, np.sum(rhi, **how))
    total = np.sum(size, **how)
    slack = _steps(n) * ULP * total
    free = _either(
        free, (total > F32_MAX) & np.isfinite(total) & _is_float(value.dtype)
    )
    if not _is_float(value.dtype):
        return _whole(value, low, high, free)
    return _make(value, low - _finite(slack), high + _finite(slack), 0.0, free)


def _steps(n: int) -> float:
    """Roundings of n terms that add up: of many about the square root of n."""
    return min(n, 8 + 2 * math.sqrt(n))


def _finite(a: Array) -> Array:
    return np.where(np.isfinite(a), a, 0.0)


def _extreme(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    if x[0].exact:
        return Bound(value)
    f, (lo, hi) = (np.max if op == "reduce_max" else np.min), x[0].ends()
    free = None if x[0].free is None else np.any(x[0].free, **_reduced(attrs))
    return _make(value, f(lo, **_reduced(attrs)), f(hi, **_reduced(attrs)), 0.0, free)


def _matmul(op: str, attrs: dict, x: list[Bound], value: Array) -> Bound:
    """Sums of products: for the error, the same product of absolute values."""
    middle, radius, free = [], [], False
    for b in x:
        lo, hi = b.ends()
        mid = lo if b.lo is None else _finite(lo) / 2 + _finite(hi) / 2
        middle.append(_finite(mid))
        radius.append(None if b.lo is None else _finite(hi - lo) / 2)
        free = free or b.free is not None
    n = x[0].value.shape[-1]
    size = [np.abs(m) for m in middle]
    size = [s.astype(F32) for s in size]
    total = _wide(size[0] @ size[1])
    slack = _steps(n) * ULP * total
    if radius[0] is not None:
        more = size[1] if radius[1] is None else size[1] + radius[1]
        slack = slack + radius[0] @ more
    if radius[1] is not None:
        slack = slack + size[0] @ radius[1]
    sure = all(r is None for r in radius) and not _is_narrow(value.dtype)
    centre = _wide(value) if sure else middle[0] @ middle[1]
    odd = ~np.isfinite(_wide(value)) & (total <= F32_MAX)
    centre = np.where(odd, _wide(value), centre)  # of infinities and nan
    loose = total > F32_MAX
    if free:
        loose = loose | (_marked(x[0]) @ np.ones_like(size[1]) > 0)
        loose = loose | (np.ones_like(size[0]) @ _marked(x[1]) > 0)
    return _make(
        value, centre - slack, centre + slack, 0.0, loose if loose.any() else None
    )


def _marked(b: Bound) -> Array:
    return np.zeros(b.value.shape) if b.free is None else _wide(b.free)


_RULES: dict[str, Callable[[str, dict, list[Bound], Array], Bound]] = {
    **dict.fromkeys(["input", "const", "full"], _source),
    **dict.fromkeys(["transpose", "reshape", "broadcast_to", "slice", "concat"], _move),
    **dict.fromkeys(["copy", "positive"], _move),
    "update": _update,
    **dict.fromkeys(["cast", "rcast"], _cast),
    **dict.fromkeys(["neg", "abs", "sign", *STEPS, *SMOOTH], _unary),
    **dict.fromkeys(["sin", "sin_pi", "cos", "tan"], _wave),
    **dict.fromkeys(
        ["add", "sub", "mul", "div", "power", "maximum", "minimum"], _arithmetic
    ),
    **dict.fromkeys(["floor_divide", "remainder"], _divmod),
    **dict.fromkeys(["hypot", "logaddexp"], _rising),
    **dict.fromkeys(COMPARE, _compare),
    **dict.fromkeys(
        ["logical_not", "logical_and", "logical_or", "logical_xor"], _logic
    ),
    **dict.fromkeys(["bitwise_and", "bitwise_or", "bitwise_xor", "invert"], _bits),
    **dict.fromkeys(["left_shift", "right_shift", "shift_down"], _bits),
    "isnan": _isnan,
    "where": _where,
    "reduce_sum": _sum,
    **dict.fromkeys(["reduce_max", "reduce_min"], _extreme),
    "matmul": _matmul,
}


def _rule(op: str) -> Callable[[str, dict, list[Bound], Array], Bound]:
    return _RULES[op]
