"""A small NumPy model of the NKI calls that nkigen emits: runs emitted source for real.

It knows tensors with slices and `.ap`, and the `nki.isa` functions of the tile instruction
table with their keyword names. Every new tensor is filled with NaN (floats) or 77 (integers),
so that reading what nobody wrote shows in the result. Limits of the hardware are not its
business beyond shapes and spaces; those are the verifier's.

Example:
    >>> y = run(kernel.nki(), x)          # doctest: +SKIP
"""

import math
import sys
import types

import ml_dtypes
import numpy as np

PMAX = 128
HBM = ("shared_hbm", "private_hbm")


class NkiTensor:
    """Storage and a view of it; writes through the view reach the storage."""

    def __init__(self, storage, view, buffer):
        self.storage, self.elements, self.buffer = storage, view, buffer

    shape = property(lambda self: self.elements.shape)
    dtype = property(lambda self: self.elements.dtype)

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        if self.buffer not in HBM and isinstance(key[0], int):
            key = (slice(key[0], key[0] + 1), *key[1:])
        for k, n in zip(key, self.shape, strict=False):
            if isinstance(k, slice):
                assert 0 <= (k.start or 0) < n and (n if k.stop is None else k.stop) <= n, (
                    f"slice {k} of a dim of {n}"
                )
            else:
                assert 0 <= k < n, f"index {k} of a dim of {n}"
        return NkiTensor(self.storage, self.elements[key], self.buffer)

    def view_of(self, array):
        """Another view, of at most five dims."""
        assert array.ndim <= 5, f"a view has at most 5 dims, not {array.shape}"
        assert array.size == 0 or np.shares_memory(array, self.storage), "no view"
        return NkiTensor(self.storage, array, self.buffer)

    def reshape(self, shape):
        """The same elements in other dims; the partition stays."""
        assert self.buffer in HBM or shape[0] == self.shape[0]
        assert math.prod(shape) == self.elements.size
        return self.view_of(self.elements.reshape(shape))

    def permute(self, dims):
        """Dims exchanged; the partition stays the first."""
        assert self.buffer in HBM or dims[0] == 0
        return self.view_of(self.elements.transpose(dims))

    def broadcast(self, dim, size):
        """A dim of size 1 repeated; not the partition."""
        assert self.shape[dim] == 1 and (dim > 0 or self.buffer in HBM)
        shape = [size if i == dim else n for i, n in enumerate(self.shape)]
        return self.view_of(np.broadcast_to(self.elements, shape))

    def view(self, dtype):
        """The bytes as elements of another dtype of the same size."""
        assert np.dtype(dtype).itemsize == self.dtype.itemsize
        return NkiTensor(self.storage.view(dtype), self.storage.view(dtype), self.buffer)

    def ap(self, pattern, offset=0):
        """Elements of the storage: [stride, count] pairs, outermost first."""
        assert all(s >= 0 for s, _ in pattern), f"a negative stride: {pattern}"
        flat = self.storage.reshape(-1)
        last = offset + sum((c - 1) * s for s, c in pattern)
        assert 0 <= offset and last < flat.size, (
            f"pattern reaches [{offset}, {last}] of {flat.size}"
        )
        if self.buffer not in HBM:
            row = flat.size // self.storage.shape[0]
            assert pattern[0][0] == row, "the first pair of an on-chip pattern is the partition"
        view = np.lib.stride_tricks.as_strided(
            flat[offset:],
            [c for _, c in pattern],
            [s * flat.itemsize for s, _ in pattern],
        )
        return NkiTensor(self.storage, view, self.buffer)


def ndarray(shape, dtype, buffer="sbuf", name="", address=None):
    """A new tensor of NaN, or 77 for integers."""
    dtype = np.dtype(dtype)
    assert 1 <= len(shape) <= 5 and all(n > 0 for n in shape), f"no tensor of shape {shape}"
    if buffer not in HBM:
        assert len(shape) >= 2 and shape[0] <= PMAX, f"{buffer} tensor of shape {shape}"
    fill = 77 if dtype.kind in "iu" else np.nan
    storage = np.full(shape, fill, dtype)
    return NkiTensor(storage, storage[...], buffer)


def shared_constant(array):
    """An array in HBM."""
    return NkiTensor(array, array[...], "shared_hbm")


# ---- values ----


def is_int(t):
    """Integer elements?"""
    return t.dtype.kind in "iu"


def rows(t):
    """[P, N] as float32 (integers as they are in float64, to keep 32 bits)."""
    a = np.ascontiguousarray(t.elements).reshape(t.shape[0], -1)
    return a.astype(np.float64 if is_int(t) else np.float32)


def cast(a, dtype):
    """To a float: round to nearest even. To an integer: the same, saturating, NaN to 0; words of words wrap."""
    if dtype.kind not in "iu":
        with np.errstate(over="ignore", invalid="ignore"):
            return a.astype(dtype)
    info = np.iinfo(dtype)
    if a.dtype == np.float64 and info.bits == 32:  # integers: words wrap
        return a.astype(np.int64).astype(dtype)
    a = np.nan_to_num(np.rint(a.astype(np.float64)), nan=0.0, posinf=info.max, neginf=info.min)
    return np.clip(a, info.min, info.max).astype(dtype)


def store(dst, a):
    """Write [P, N] or any array of as many elements."""
    assert a.size == math.prod(dst.shape), f"{a.shape} into {dst.shape}"
    dst.elements[...] = cast(np.asarray(a), dst.dtype).reshape(dst.shape)


def on_chip(*tensors):
    """Compute engines do not reach HBM."""
    for t in tensors:
        assert not isinstance(t, NkiTensor) or t.buffer not in HBM, "compute operand in HBM"


def scalar(x):
    """A [P, 1] tile or a number."""
    if isinstance(x, NkiTensor):
        on_chip(x)
        assert math.prod(x.shape[1:]) == 1, f"scalar operand of shape {x.shape}"
        return rows(x).astype(np.float32)
    return np.float32(x)


def bits(fn):
    """An operator on raw integer bits."""
    return lambda x, y: fn(np.asarray(x).astype(np.int64), np.asarray(y).astype(np.int64))


def shift_right(x, n):
    """Of raw bits: zeros come in, whatever the sign."""
    x = np.ascontiguousarray(x)
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    return np.right_shift(x.view(unsigned), np.asarray(n).astype(unsigned)).view(x.dtype)


ALU = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "power": np.power,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "bitwise_and": bits(np.bitwise_and),
    "bitwise_or": bits(np.bitwise_or),
    "bitwise_xor": bits(np.bitwise_xor),
    "left_shift": bits(np.left_shift),
    "right_shift": shift_right,
}


#: what the gpsimd engine does in native words, without saturation
WORDS = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply}


def erf(x):
    """Element-wise error function."""
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def sigmoid(x):
    """1 / (1 + exp(-x))"""
    return 1 / (1 + np.exp(-x))


def softplus(x):
    """log(1 + exp(x))"""
    return np.logaddexp(0, x)


ACT = {
    "copy": lambda x: x,
    "square": np.square,
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_apprx_tanh": lambda x: (
        0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "silu": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
    "softplus": softplus,
    "mish": lambda x: x * np.tanh(softplus(x)),
    "erf": erf,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "arctan": np.arctan,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "sign": np.sign,
    "abs": np.abs,
}


def alu(op, x, y, reverse=False):
    """x op y, or y op x; the unary operators ignore y."""
    if op in ("abs", "rsqrt"):
        return ACT[op](np.asarray(x))
    return ALU[op](y, x) if reverse else ALU[op](x, y)


# ---- nki.isa ----


def dma_copy(dst, src):
    """dst = src in element order"""
    assert "psum" not in (dst.buffer, src.buffer)
    assert dst.shape == src.shape, f"{src.shape} into {dst.shape}"
    if dst.dtype == src.dtype:
        dst.elements[...] = np.ascontiguousarray(src.elements).reshape(dst.shape)
    else:
        store(dst, np.ascontiguousarray(src.elements).astype(np.float32))


def dma_transpose(dst, src, axes):
    """dst = src with its axes permuted"""
    assert dst.dtype == src.dtype and dst.buffer == "sbuf"
    assert dst.shape == tuple(src.shape[a] for a in axes), f"{src.shape} into {dst.shape}"
    dst.elements[...] = src.elements.transpose(axes)


def tensor_copy(dst, src, engine=None):
    """dst = src"""
    on_chip(dst, src)
    assert dst.shape[0] == src.shape[0]
    if dst.dtype == src.dtype:
        dst.elements[...] = np.ascontiguousarray(src.elements).reshape(dst.shape)
    else:
        store(dst, rows(src))


def memset(dst, value, engine=None):
    """dst = value; an int for integer tensors, a float for the others"""
    assert isinstance(value, int) == is_int(dst)
    on_chip(dst)
    dst.elements[...] = cast(np.asarray(value, np.float64), dst.dtype)


def tensor_copy_predicated(dst, src, predicate, reverse_pred=False):
    """dst = src where the predicate holds"""
    on_chip(dst, src, predicate)
    take = (rows(predicate) != 0) != reverse_pred
    store(dst, np.where(take, rows(src), rows(dst)))


def nc_matmul(dst, stationary, moving, accumulate=None):
    """dst (+)= stationary.T @ moving in float32"""
    assert dst.buffer == "psum" and stationary.buffer == moving.buffer == "sbuf"
    a, b = rows(stationary), rows(moving)
    assert a.shape[0] == b.shape[0] and a.shape[1] <= PMAX
    assert dst.shape[0] == a.shape[1] and math.prod(dst.shape[1:]) == b.shape[1]
    out = a.T @ b
    store(dst, out + rows(dst) if accumulate else out)


def nc_transpose(dst, data, engine=None):
    """dst[F, P] = data[P, F]"""
    on_chip(dst, data)
    assert dst.dtype == data.dtype
    a = np.ascontiguousarray(data.elements).reshape(data.shape[0], -1)
    assert dst.shape[0] == a.shape[1]
    dst.elements[...] = a.T.reshape(dst.shape)


def tensor_tensor(dst, data1, data2, op, engine=None):
    """dst = data1 op data2"""
    on_chip(dst, data1, data2)
    if engine == "gpsimd" and is_int(data1) and is_int(data2) and is_int(dst) and op in WORDS:
        wide = [np.ascontiguousarray(t.elements).astype(np.int64) for t in (data1, data2)]
        with np.errstate(over="ignore"):
            words = WORDS[op](*(w.reshape(dst.shape) for w in wide))
        dst.elements[...] = words.astype(dst.dtype)
    else:
        store(dst, alu(op, rows(data1), rows(data2)))


def tensor_scalar(
    dst, data, op0, operand0, reverse0=False, op1=None, operand1=None, reverse1=False, engine=None
):
    """dst = (data op0 operand0) op1 operand1"""
    on_chip(dst, data)
    x = alu(op0, rows(data), scalar(operand0), reverse0)
    if op1 is not None:
        x = alu(op1, x, scalar(operand1), reverse1)
    store(dst, x)


def scalar_tensor_tensor(
    dst, data, op0, operand0, op1, operand1, reverse0=False, reverse1=False
):
    """dst = (data op0 operand0) op1 operand1"""
    on_chip(dst, data, operand1)
    x = alu(op0, rows(data), scalar(operand0), reverse0)
    store(dst, alu(op1, x, rows(operand1), reverse1))


def reciprocal(dst, data):
    """dst = 1 / data"""
    on_chip(dst, data)
    store(dst, 1 / rows(data))


def select_reduce(dst, predicate, on_true, on_false, reverse_pred=False):
    """dst = predicate ? on_true : on_false"""
    on_chip(dst, predicate, on_true)
    take = (rows(predicate) != 0) != reverse_pred
    store(dst, np.where(take, rows(on_true), scalar(on_false)))


def tensor_reduce(dst, op, data, axis, negate=False, keepdims=False):
    """Reduce the trailing axes."""
    on_chip(dst, data)
    assert axis == tuple(range(axis[0], len(data.shape))) and axis[0] > 0
    wide = data.elements.astype(np.float64 if is_int(data) else np.float32)
    x = ALU[op].reduce(np.ascontiguousarray(wide), axis=axis)
    store(dst, -x.astype(wide.dtype) if negate else x)


def tensor_scalar_reduce(dst, data, op0, operand0, reduce_op, reduce_res):
    """dst = data op0 operand0; reduce_res = reduce_op over its free elements"""
    on_chip(dst, data, reduce_res)
    x = alu(op0, rows(data), scalar(operand0))
    store(dst, x)
    store(reduce_res, ALU[reduce_op].reduce(x, axis=1))


def activation(
    dst, op, data, bias=None, scale=1.0, reduce_op=None, reduce_res=None, reduce_cmd="idle"
):
    """dst = op(data * scale + bias); reduce_res = its sum"""
    on_chip(dst, data)
    x = rows(data).astype(np.float32) * scalar(scale)
    if bias is not None:
        x = x + scalar(bias)
    x = ACT[op](x).astype(np.float32)
    store(dst, x)
    if reduce_res is not None:
        assert reduce_op == "add" and reduce_cmd == "reset_reduce"
        store(reduce_res, x.sum(axis=1))


def nc_stream_shuffle(dst, src, shuffle_mask):
    """In each group of 32 partitions dst[i] = src[mask[i]]; 255 keeps."""
    on_chip(dst, src)
    a, out = np.array(src.elements), np.array(dst.elements)
    for p in range(out.shape[0]):
        lane = shuffle_mask[p % 32]
        if lane != 255:
            out[p] = a[p // 32 * 32 + lane]
    dst.elements[...] = out


def tensor_partition_reduce(dst, op, data):
    """dst[1, F] = op over the partitions"""
    on_chip(dst, data)
    store(dst, ALU[op].reduce(rows(data), axis=0))


def affine_values(pattern, offset, channel_multiplier, parts):
    """offset + p * channel_multiplier + sum(step * index), as [P, N]"""
    v = np.zeros(1, np.int64)
    for step, num in pattern:
        v = (v[:, None] + step * np.arange(num)).reshape(-1)
    return offset + channel_multiplier * np.arange(parts)[:, None] + v[None, :]


def iota(dst, pattern, offset=0, channel_multiplier=0):
    """dst = the affine value"""
    on_chip(dst)
    store(dst, affine_values(pattern, offset, channel_multiplier, dst.shape[0]))


def affine_select(
    dst, pattern, channel_multiplier, on_true_tile, on_false_value, cmp_op="equal", offset=0
):
    """dst = on_true_tile where the affine value cmp_op 0, else on_false_value"""
    on_chip(dst, on_true_tile)
    v = affine_values(pattern, offset, channel_multiplier, dst.shape[0])
    store(dst, np.where(ALU[cmp_op](v, 0), rows(on_true_tile), np.float32(on_false_value)))


# ---- modules ----

DTYPES = {
    **{n: n for n in ("int8", "int16", "int32", "uint8", "uint16", "uint32")},
    **{n: n for n in ("float16", "float32")},
    "bool_": np.bool_,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3": ml_dtypes.float8_e4m3,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}
ISA = (
    dma_copy, dma_transpose, tensor_copy, memset, tensor_copy_predicated, nc_matmul, nc_transpose,
    tensor_tensor, tensor_scalar, scalar_tensor_tensor, reciprocal, select_reduce, tensor_reduce,
    tensor_scalar_reduce, activation, nc_stream_shuffle, tensor_partition_reduce, iota,
    affine_select,
)  # fmt: skip


def modules():
    """`nki`, `nki.isa` and `nki.language` as importable modules."""
    nki, isa, nl = (types.ModuleType(n) for n in ("nki", "nki.isa", "nki.language"))
    nki.jit = lambda fn: fn
    nki.isa, nki.language = isa, nl
    for fn in ISA:
        setattr(isa, fn.__name__, fn)
    isa.engine = types.SimpleNamespace(
        **{n: n for n in ("unknown", "tensor", "vector", "scalar", "gpsimd", "dma", "sync")}
    )
    isa.reduce_cmd = types.SimpleNamespace(idle="idle", reset_reduce="reset_reduce")
    for name in {*ALU, *ACT}:
        setattr(nl, name, name)
    for name, dtype in DTYPES.items():
        setattr(nl, name, np.dtype(dtype))
    for name in ("sbuf", "psum", *HBM):
        setattr(nl, name, name)
    nl.ndarray, nl.shared_constant = ndarray, shared_constant
    return {"nki": nki, "nki.isa": isa, "nki.language": nl}


def run(source, *arrays, file="<nki>"):
    """Execute the one kernel of emitted source; a tuple of arrays.

    file: where it lies; constants too large for the source lie beside it.
    """
    saved = {n: sys.modules.get(n) for n in modules()}
    sys.modules.update(modules())
    try:
        space = {"__file__": str(file)}
        exec(compile(source, str(file), "exec"), space)
    finally:
        for name, module in saved.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
    (fn,) = (f for f in space.values() if isinstance(f, types.FunctionType))
    args = []
    for a in arrays:
        a = np.array(a, order="C")
        lead = max(a.ndim - 4, 0)  # tensors of at most 5 dims
        a = a.reshape(math.prod(a.shape[:lead]), *a.shape[lead:]) if a.ndim > 5 else a
        args.append(shared_constant(a.reshape(a.shape or (1,))))
    with np.errstate(all="ignore"):
        out = fn(*args)
    out = out if isinstance(out, tuple) else (out,)
    assert all(t.buffer == "shared_hbm" for t in out)
    return tuple(t.storage for t in out)
