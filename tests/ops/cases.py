"""The case table of the tensor ops: op name -> cases.

A case is a NumPy function and its arguments, built small. Every row of the op table has
one; `test_ops.py` fails for a row without.
"""

import numpy as np

from nkigen.workloads import gelu

A = np.linspace(-3, 3, 7 * 33, dtype=np.float32).reshape(7, 33)
B = np.cos(np.arange(7 * 33, dtype=np.float32)).reshape(7, 33) * 2
POS = np.abs(A) + np.float32(0.25)
UNIT = A / 4
UP = A + 1  # sums that do not cancel
GRID = np.round(A * 2) / 2
ROW = np.linspace(0.5, 2, 33, dtype=np.float32)
COL = np.linspace(-1, 1, 7, dtype=np.float32).reshape(7, 1)
I = (np.arange(7 * 33, dtype=np.int32).reshape(7, 33) * 37) % 101 - 50
J = (np.arange(7 * 33, dtype=np.int32).reshape(7, 33) * 11) % 13 + 1
P = np.arange(7 * 33).reshape(7, 33) % 3 == 0
Q = np.arange(7 * 33).reshape(7, 33) % 2 == 0
TABLE = np.sin(np.arange(33, dtype=np.float32))


def binary(f):
    """Same shapes, a row, a column, a Python scalar on each side."""
    return [(f, A, B), (f, A, ROW), (f, COL, B), (lambda x: f(x, 1.5), A), (lambda x: f(2, x), B)]


def compare(f):
    return [(f, GRID, np.round(B)), (f, I, J), (lambda x: f(x, 0.5), GRID)]


def reduction(f):
    return [
        (lambda x: f(x, axis=-1), UP),
        (lambda x: f(x, axis=0), UP),
        (lambda x: f(x, axis=-1, keepdims=True), UP),
        (f, UP),
        (lambda x: f(x, axis=(0, 2)), UP.reshape(7, 3, 11)),
    ]


def written(*keys):
    """A copy of x with v, and then v + 1 ..., written to parts of it."""

    def write(x, v):
        y = x * 1
        for i, key in enumerate(keys):
            y[key] = v + i
        return y

    return write


CASES = {
    "input": [(lambda x: x + 1, A)],
    "const": [(lambda x: x * TABLE, A)],
    "copy": [(lambda x: x, A), (lambda x: (x + 1, x), A)],
    "full": [(lambda x: x + np.full((7, 33), 2.5, np.float32), A)],
    "cast": [
        (lambda x: x.astype(np.float16), UNIT),
        (lambda x: x.astype(np.int32), GRID),
        (lambda x: x.astype(np.float32), I),
        (lambda x: x.astype(np.float32), P),
        (lambda x: x.astype(bool), GRID),
    ],
    "rcast": [(lambda x: x.astype(np.int32), GRID)],
    "neg": [(lambda x: -x, A), (np.negative, I)],
    "positive": [(lambda x: +x, A)],
    "abs": [(np.abs, A), (np.abs, I)],
    "sign": [(np.sign, GRID)],
    "square": [(np.square, A)],
    "sqrt": [(np.sqrt, POS)],
    "rsqrt": [(lambda x: 1 / np.sqrt(x), POS)],
    "rsqrt_wide": [(lambda x: x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True)), POS)],
    "cbrt": [(np.cbrt, A)],
    "reciprocal": [(np.reciprocal, POS), (lambda x: 1 / x, POS)],
    "exp": [(np.exp, A)],
    "exp2": [(np.exp2, A)],
    "expm1": [(np.expm1, A)],
    "log": [(np.log, POS)],
    "log2": [(np.log2, POS)],
    "log10": [(np.log10, POS)],
    "log1p": [(np.log1p, POS)],
    "sin": [(np.sin, A * 5)],
    "sin_pi": [(np.sin, A)],
    "cos": [(np.cos, A * 5)],
    "tan": [(np.tan, UNIT)],
    "arctan": [(np.arctan, A * 10)],
    "arctan_small": [(np.arctan, A)],
    "sinh": [(np.sinh, A)],
    "cosh": [(np.cosh, A)],
    "tanh": [(np.tanh, A)],
    "floor": [(np.floor, A)],
    "ceil": [(np.ceil, A)],
    "rint": [(np.rint, GRID)],
    "trunc": [(np.trunc, A)],
    "logical_not": [(np.logical_not, P), (lambda x: ~x, P)],
    "isnan": [(np.isnan, np.where(P, np.float32(np.nan), A))],
    "sigmoid": [(lambda x: 1 / (1 + np.exp(-x)), A)],
    "silu": [(lambda x: x / (1 + np.exp(-x)), A)],
    "gelu_tanh": [(gelu, A)],
    "add": [*binary(np.add), (np.add, I, J)],
    "sub": [
        *binary(np.subtract),
        (np.subtract, I, J),
        (lambda x: 3 - np.max(x, axis=-1, keepdims=True), A),
        (lambda x: 3 - np.sum(x), UP),
        (lambda x: x - np.max(x, axis=-1, keepdims=True), A),
    ],
    "mul": [*binary(np.multiply), (np.multiply, I, J)],
    "div": [(np.divide, A, POS), (np.true_divide, A, ROW), (lambda x: 3 / x, POS)],
    "floor_divide": [(np.floor_divide, GRID, np.round(POS) + 1), (np.floor_divide, I, J)],
    "remainder": [(np.remainder, GRID, np.round(POS) + 1), (np.remainder, I, J)],
    "power": [(np.power, POS, B), (lambda x: x**3, A), (lambda x: x**2.5, POS)],
    "hypot": binary(np.hypot),
    "logaddexp": binary(np.logaddexp),
    "maximum": [*binary(np.maximum), (np.maximum, I, J)],
    "minimum": [*binary(np.minimum), (lambda x: np.clip(x, -1, 1), A)],
    "equal": compare(np.equal),
    "not_equal": compare(np.not_equal),
    "less": compare(np.less),
    "less_equal": compare(np.less_equal),
    "greater": compare(np.greater),
    "greater_equal": compare(np.greater_equal),
    "bitwise_and": [(np.bitwise_and, I, J), (lambda x: x & 0x7FFFFF0F, I * 40_000_001), (np.bitwise_and, I.astype(np.int8), J.astype(np.int8))],
    "bitwise_or": [(np.bitwise_or, I, J), (lambda x: 5 | x, I), (np.bitwise_or, I.astype(np.uint8), J.astype(np.uint8))],
    "bitwise_xor": [(np.bitwise_xor, I, J), (lambda x: x ^ -1, I), (np.bitwise_xor, I.astype(np.uint32), J.astype(np.uint32))],
    "left_shift": [(np.left_shift, I, J), (lambda x: x << 30, J), (np.left_shift, I.astype(np.int16), J.astype(np.int16)), (lambda x: 1 << x, I)],
    "right_shift": [(np.right_shift, I * 40_000_001, J), (np.right_shift, I.astype(np.int8), J.astype(np.int8)), (lambda x: x >> 40, I.astype(np.int8))],
    "shift_down": [(lambda x: x >> 3, I.astype(np.uint32)), (np.right_shift, I, I)],
    "invert": [(np.invert, I), (np.invert, I.astype(np.uint8)), (lambda x: ~x, I.astype(np.uint32))],
    "logical_and": [(np.logical_and, P, Q), (lambda x, y: x & y, P, Q)],
    "logical_or": [(np.logical_or, P, Q), (lambda x, y: x | y, P, Q)],
    "logical_xor": [(np.logical_xor, P, Q), (lambda x, y: x ^ y, P, Q)],
    "where": [
        (np.where, P, A, B),
        (lambda x: np.where(x > 0, x, 0), GRID),
        (lambda x, c: np.where(x > 0, x, c), GRID, COL),
    ],
    "reduce_sum": [*reduction(np.sum), (lambda x: np.mean(x, axis=-1), A), (np.var, A)],
    "reduce_max": reduction(np.max),
    "reduce_min": reduction(np.min),
    "matmul": [
        (np.matmul, A, B.T.copy()),
        (lambda x, y: x @ y.T, A, B),
        (np.matmul, A, ROW),
        (np.matmul, ROW, B.T.copy()),
        (np.matmul, ROW, ROW),
        (np.matmul, A.reshape(1, 7, 33), np.stack([B.T, A.T])),
        (np.matmul, np.stack([A, B, A]), np.stack([B.T, A.T, B.T])),
    ],
    "transpose": [
        (np.transpose, A),
        (lambda x: x.T + 1, A),
        (lambda x: np.transpose(x, (1, 2, 0)), A.reshape(7, 3, 11)),
        (lambda x: np.transpose(x, (0, 2, 1, 3)), np.arange(240, dtype=np.float32).reshape(2, 3, 4, 10)),
        (lambda x: np.swapaxes(x, 0, 1), I),
    ],
    "reshape": [
        (lambda x: np.reshape(x, (33, 7)), A),
        (lambda x: np.exp(x).reshape(-1), A),
        (lambda x: np.expand_dims(x, 1) * 2, A),
        (lambda x: np.squeeze(x, axis=1) * 2, A.reshape(7, 1, 33)),
    ],
    "broadcast_to": [
        (lambda x: np.broadcast_to(x, (7, 33)), ROW),
        (lambda x: np.broadcast_to(x, (3, 7, 33)), COL),
    ],
    "slice": [
        (lambda x: x[2:5, ::3], A),
        (lambda x: x[-1], A),
        (lambda x: x[..., :16] - x[..., 16:32], A),
        (lambda x: x[::-1, None, 1:10:2], A),
        (lambda x: np.split(x, 3, axis=1)[1], A),
    ],
    "update": [
        (written(np.s_[2:5]), A, ROW),
        (written(np.s_[:, 3]), A, COL[:, 0]),
        (written(np.s_[::-2, 1::3]), A, B[:4, :11]),
        (written(np.s_[:-1], np.s_[1:]), A, B[1:]),
        (written(np.s_[1], np.s_[..., 2:9], np.s_[1:3, 4:12]), A, np.float32(2)),
    ],
    "concat": [
        (lambda x, y: np.concatenate([x, y], axis=-1), A, B),
        (lambda x, y: np.concatenate((y, x)), A, B),
        (lambda x, y: np.stack([x, y], axis=1), A, B),
    ],
}
