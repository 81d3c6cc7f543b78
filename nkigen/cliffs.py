"""Kernels beside neighbours that do as much: no shape or layout may fall off a cliff.

A pair holds a kernel and one that moves or computes as much without the stride, the
reversal, the ragged size or the transposition; both are judged by modelled time per MiB
of their arguments and results, or per element of a product. A kernel without a
neighbour is judged by its roofline, or by 10 us where that is more.

Example:
    $ python -m nkigen bench --cliffs
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nkigen

MIB = 1 << 20
TARGETS = ("trn1", "trn2")
#: a kernel may take so many times what its neighbour, or its roofline, does
BAR = 1.5
#: where a row outgrows SBUF
WIDE_BAR = 1.8
#: us that a kernel without a neighbour may take whatever its roofline
SHORT_US = 10.0
#: the pairs within their bars; a run in which one of them is not any more fails
MET = Path(__file__).with_name("cliffs.json")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Side:
    """A function on arrays of these shapes."""

    fn: Callable[..., Any]
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Cliff:
    """A kernel and its neighbour; `work` counts their elements, else bytes count."""

    name: str
    side: Side
    neighbour: Side | None = None
    work: tuple[int, int] | None = None
    bar: float = BAR
    dtype: str = "f32"


@dataclass(frozen=True)
class Priced:
    """What a kernel costs."""

    us: float
    roofline_us: float
    instructions: int
    hbm_ratio: float
    mib: float


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    cliff: Cliff
    target: str
    own: Priced
    other: Priced | None

    @property
    def key(self) -> str:
        return f"{self.cliff.name}/{self.target}"

    @property
    def rates(self) -> tuple[float, float]:
        """us per MiB, or per million elements, of both sides; without a neighbour the
        time and what it may be at a ratio of one."""
        if self.other is None:
            least = max(self.own.roofline_us, SHORT_US / self.cliff.bar)
            return self.own.us, least
        work = self.cliff.work
        mine, others = work or (self.own.mib, self.other.mib)
        scale = 1e-6 if work else 1.0
        return self.own.us / (mine * scale), self.other.us / (others * scale)

    @property
    def ratio(self) -> float:
        mine, others = self.rates
        return mine / others

    @property
    def met(self) -> bool:
        return self.ratio <= self.cliff.bar


# ---- kernels


def copied(x: Any) -> Any:
    return x.copy()


def added(x: Any, y: Any) -> Any:
    return x + y


def product(a: Any, b: Any) -> Any:
    return a @ b


def permuted(*perm: int) -> Callable[[Any], Any]:
    """The function that transposes by `perm`."""
    return lambda x: np.transpose(x, perm)


def pairs_multiplied(x: Any) -> Any:
    return x[..., ::2] * x[..., 1::2]


def halves_multiplied(x: Any) -> Any:
    half = x.shape[-1] // 2
    return x[..., :half] * x[..., half:]


def rope_interleaved(x: Any, cos: Any, sin: Any) -> Any:
    a, b = x[..., ::2], x[..., 1::2]
    turned = np.stack([a * cos - b * sin, a * sin + b * cos], axis=-1)
    return turned.reshape(x.shape)


def rope_halves(x: Any, cos: Any, sin: Any) -> Any:
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def rope_rows(x: Any, cos: Any, sin: Any) -> Any:
    """Columns of heads before rows: the halves lie along the row axis."""
    half = x.shape[0] // 2
    a, b = x[:half], x[half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=0)


def every_second(x: Any) -> Any:
    return x[::2]


def backwards(x: Any) -> Any:
    return x[::-1]


def columns_backwards(x: Any) -> Any:
    return x[..., ::-1]


def rows_joined(a: Any, b: Any) -> Any:
    return np.concatenate([a, b], axis=0)


def columns_joined(a: Any, b: Any) -> Any:
    return np.concatenate([a, b], axis=1)


def rows_joined_computed(a: Any, b: Any) -> Any:
    return np.concatenate([np.exp(a), b * 2], axis=0)


def columns_joined_computed(a: Any, b: Any) -> Any:
    return np.concatenate([np.exp(a), b * 2], axis=1)


def column_sums(x: Any) -> Any:
    return x.sum(axis=0)


def row_sums(x: Any) -> Any:
    return x.sum(axis=1)


def image_columns(x: Any) -> Any:
    """3 x 3 windows of an image, a row for each."""
    h, w = x.shape[0] - 2, x.shape[1] - 2
    shifted = [x[i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return np.stack(shifted, axis=-1).reshape(h * w, 9)


def stencil(x: Any) -> Any:
    """A 3 x 3 box filter as a sum of shifted slices."""
    h, w = x.shape[0] - 2, x.shape[1] - 2
    total = x[0:h, 0:w]
    for i in range(3):
        for j in range(3):
            if i or j:
                total = total + x[i : i + h, j : j + w]
    return total


def distances(a: Any, b: Any) -> Any:
    return ((a[:, None, :] - b[None, :, :]) ** 2).sum(-1)


def scores_repeated(q: Any, k: Any) -> Any:
    repeated = np.repeat(k, q.shape[0] // k.shape[0], axis=0)
    return q @ repeated.transpose(0, 2, 1)


def scores(q: Any, k: Any) -> Any:
    return q @ k.transpose(0, 2, 1)


def softmax(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def layernorm(x: Any, g: Any, b: Any) -> Any:
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5) * g + b


def product_with_bias(x: Any, w: Any, b: Any) -> Any:
    return x @ w + b


def ragged(a: Any, b: Any) -> Any:
    return np.exp(a) * b


def stationary_as_stored(a: Any, b: Any) -> Any:
    return a.T @ b


def moving_transposed(a: Any, b: Any) -> Any:
    return a @ b.T


def _side(fn: Callable[..., Any], *shapes: Shape) -> Side:
    return Side(fn, shapes)


def _moves() -> list[Cliff]:
    """Data movement beside copies of as many bytes."""
    flat, square = _side(copied, (1 << 20,)), _side(copied, (2048, 2048))
    turned = _side(permuted(1, 0), (2048, 2048))
    small = _side(copied, (128, 512))
    out = [
        Cliff("x[::2] of 1M", _side(every_second, (1 << 20,)), flat),
        Cliff("x[::-1] of 1M", _side(backwards, (1 << 20,)), flat),
        Cliff("x[::-1] of 1000003", _side(backwards, (1000003,)), flat),
        Cliff("x[::-1] of 2048x2048", _side(backwards, (2048, 2048)), square),
        Cliff(
            "x[:, ::-1] of 2048x2048", _side(columns_backwards, (2048, 2048)), square
        ),
        Cliff(
            "x[:, ::-1] of 128x32768", _side(columns_backwards, (128, 32768)), square
        ),
        Cliff("x[:, ::-1] of 16x65536", _side(columns_backwards, (16, 65536)), square),
        Cliff("x[:, ::-1] of 300x777", _side(columns_backwards, (300, 777)), small),
        Cliff("concat of rows", _side(rows_joined, (1024, 2048), (1024, 2048)), square),
        Cliff("concat of 7 and 5 rows", _side(rows_joined, (7, 131), (5, 131))),
    ]
    permutations: Sequence[tuple[Shape, Shape, Side]] = (
        ((1, 0), (2048, 2048), square),
        ((1, 0), (1000, 3000), turned),
        ((2, 1, 0), (256, 128, 128), turned),
        ((2, 1, 0), (64, 300, 200), turned),
        ((0, 2, 1), (64, 256, 256), turned),
        ((0, 2, 1), (1024, 64, 64), turned),
        ((0, 2, 1), (128, 16, 2048), turned),
        ((1, 0, 2), (256, 128, 128), square),
        ((1, 2, 0), (64, 256, 256), turned),
        ((2, 0, 1), (64, 256, 256), turned),
        ((0, 2, 1, 3), (4, 1024, 16, 64), square),
        ((0, 2, 3, 1), (4, 1024, 16, 64), turned),
        ((2, 3, 0, 1), (64, 32, 64, 32), turned),
        ((0, 1, 3, 2), (8, 8, 256, 256), turned),
        ((3, 2, 1, 0), (32, 64, 32, 64), turned),
        ((0, 3, 4, 1, 2), (16, 16, 16, 32, 32), turned),
        ((3, 4, 5, 0, 1, 2), (16, 8, 16, 8, 16, 16), turned),
        ((0, 1, 4, 5, 2, 3), (4, 4, 16, 32, 16, 8), turned),
    )
    for perm, shape, neighbour in permutations:
        title = f"{perm} of {'x'.join(map(str, shape))}".replace(" ", "")
        out.append(Cliff(title, _side(permuted(*perm), shape), neighbour))
    return out


def _strided() -> list[Cliff]:
    """Element-wise work on strided, joined and repeated parts."""
    x, half = (2048, 2048), (1024, 1024)
    table, tall = (1024, 32), (16, 1024, 64)
    halves = _side(halves_multiplied, x)
    heads = _side(rope_halves, tall, table, table)
    rows = ((64, 16384), (32, 16384), (32, 16384))
    joined = _side(columns_joined_computed, x, x)
    return [
        Cliff("pairs of 2048x2048", _side(pairs_multiplied, x), halves),
        Cliff("pairs of 16x1024x64", _side(pairs_multiplied, tall), halves),
        Cliff("RoPE, interleaved", _side(rope_interleaved, tall, table, table), heads),
        Cliff("RoPE, halves, heads in front", heads, _side(added, half, half)),
        Cliff("RoPE along rows", _side(rope_rows, *rows), _side(added, half, half)),
        Cliff("concat of computed rows", _side(rows_joined_computed, x, x), joined),
        Cliff(
            "sums of 4x65536 over axis 0",
            _side(column_sums, (4, 65536)),
            _side(row_sums, (65536, 4)),
        ),
        Cliff("sums of 65536x4 over axis 0", _side(column_sums, (65536, 4))),
        Cliff("im2col of 514x514", _side(image_columns, (514, 514))),
        Cliff("3x3 stencil of 1026x1026", _side(stencil, (1026, 1026))),
        Cliff("exp(a) * b of 7x131", _side(ragged, (7, 131), (7, 131))),
        Cliff("exp(a) * b of 3x5x7", _side(ragged, (3, 5, 7), (3, 5, 7))),
        Cliff("exp(a) * b of 1009", _side(ragged, (1009,), (1009,))),
        Cliff(
            "exp(a) * b of 1000003",
            _side(ragged, (1000003,), (1000003,)),
            _side(ragged, half, half),
        ),
    ]


def _long_rows() -> list[Cliff]:
    """Rows that outgrow a partition beside rows that do not."""

    def rows(n: int, m: int = 128, shared: int = 1) -> tuple[Shape, ...]:
        return ((m, n), *[(n,)] * shared)

    def biased(n: int) -> Side:
        return _side(product_with_bias, (128, 1024), (1024, n), (n,))

    whole, plain = _side(softmax, (128, 16384)), _side(added, *rows(16384))
    tall, normed = (
        _side(added, *rows(16384, 1024)),
        _side(layernorm, *rows(8192, 128, 2)),
    )
    wide = _side(product, (128, 1024), (1024, 32768))
    return [
        Cliff("softmax of 128x32000", _side(softmax, (128, 32000)), whole),
        Cliff(
            "softmax of 8x16384", _side(softmax, (8, 16384)), _side(softmax, (8, 8192))
        ),
        Cliff(
            "softmax of 128x65536", _side(softmax, (128, 65536)), whole, bar=WIDE_BAR
        ),
        Cliff("layernorm of 128x16384", _side(layernorm, *rows(16384, 128, 2)), normed),
        Cliff(
            "layernorm of 128x32000",
            _side(layernorm, *rows(32000, 128, 2)),
            normed,
            bar=WIDE_BAR,
        ),
        Cliff("x + b of 128x16512", _side(added, *rows(16512)), plain),
        Cliff("x + b of 128x65536", _side(added, *rows(65536)), plain),
        Cliff("x + b of 1024x16512", _side(added, *rows(16512, 1024)), tall),
        Cliff("wide product with bias", biased(32768), wide),
    ]


def _products() -> list[Cliff]:
    """Products, by multiplications."""
    n = 2048
    square, thin = _side(product, (n, n), (n, n)), (8, 1024, 128)
    repeated = _side(scores_repeated, (32, 128, 128), thin)
    plain = _side(scores, (32, 128, 128), (32, 1024, 128))
    macs, even = (n**3, n**3), (32 * 1024 * 128 * 128,) * 2
    return [
        Cliff("a.T @ b", _side(stationary_as_stored, (n, n), (n, n)), square, macs),
        Cliff("a @ b.T", _side(moving_transposed, (n, n), (n, n)), square, macs),
        Cliff(
            "a.T @ b, bf16",
            _side(stationary_as_stored, (n, n), (n, n)),
            square,
            macs,
            dtype="bf16",
        ),
        Cliff("scores of repeated heads", repeated, plain, even),
        Cliff("4096 products of 8x8", _side(product, (4096, 8, 8), (4096, 8, 8))),
        Cliff("4096 products of 16x16", _side(product, (4096, 16, 16), (4096, 16, 16))),
        Cliff("1024 products of 32x32", _side(product, (1024, 32, 32), (1024, 32, 32))),
        Cliff("2048x1 @ 1x2048", _side(product, (2048, 1), (1, 2048))),
        Cliff("2048x2048 @ 2048x1", _side(product, (2048, 2048), (2048, 1))),
        Cliff("1x2048 @ 2048x2048", _side(product, (1, 2048), (2048, 2048))),
        Cliff("65536x4 @ 4x4", _side(product, (65536, 4), (4, 4))),
        Cliff("pairwise distances of 16", _side(distances, (512, 16), (512, 16))),
        Cliff("pairwise distances of 3", _side(distances, (512, 3), (512, 3))),
    ]


CLIFFS: tuple[Cliff, ...] = (
    *_moves(),
    *_strided(),
    *_long_rows(),
    *_products(),
)


# ---- measuring


def price(side: Side, dtype: str, target: str) -> Priced:
    """What `side` costs, compiled anew."""
    specs = [(s, dtype) for s in side.shapes]
    kernel = nkigen.compile(side.fn, *specs, target=target, cache=False)
    cost = kernel.cost
    moved = cost.hbm_read_bytes + cost.hbm_write_bytes
    shapes = [*side.shapes, *(o.shape for o in kernel.outputs)]
    elements = sum(math.prod(s) for s in shapes)
    return Priced(
        cost.time_us,
        cost.roofline_us,
        cost.instruction_count,
        moved / cost.hbm_min_bytes if cost.hbm_min_bytes else 1.0,
        elements * {"f32": 4, "bf16": 2}[dtype] / MIB,
    )


def measure(
    cliffs: Sequence[Cliff] | None = None, targets: Sequence[str] = TARGETS
) -> list[Row]:
    """A row for every pair and target, in order.

    Example:
        >>> [row.met for row in measure(CLIFFS[:1], ["trn2"])]
        [True]
    """
    seen: dict[Any, Priced] = {}
    rows = []
    for target in targets:
        for c in CLIFFS if cliffs is None else cliffs:
            priced = []
            for side in (c.side, c.neighbour):
                key = (side, c.dtype, target)
                if side is not None and key not in seen:
                    seen[key] = price(side, c.dtype, target)
                priced.append(seen[key] if side is not None else None)
            own, other = priced
            assert own is not None
            rows.append(Row(c, target, own, other))
    return rows


# ---- output

TITLES = (
    "kernel",
    "target",
    "us",
    "roofline",
    "instr",
    "HBM",
    "rate",
    "other",
    "ratio",
)


def cells(row: Row) -> list[str]:
    own, (mine, others) = row.own, row.rates
    mark = "" if row.met else " !"
    return [
        row.cliff.name,
        row.target,
        f"{own.us:.1f}",
        f"{own.roofline_us:.1f}",
        str(own.instructions),
        f"{own.hbm_ratio:.2f}",
        f"{mine:.3g}",
        f"{others:.3g}",
        f"{row.ratio:.2f} / {row.cliff.bar}{mark}",
    ]


def print_table(rows: Sequence[Row]) -> None:
    """The rows, worst first."""
    worst = sorted(rows, key=lambda r: r.ratio / r.cliff.bar, reverse=True)
    table = [list(TITLES)] + [cells(r) for r in worst]
    widths = [max(len(line[i]) for line in table) for i in range(len(TITLES))]
    for line in table:
        text = "  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True))
        print(text.rstrip())
    print("rates in modelled us per MiB or million multiplications, else in us;")
    print(f"! marks a missed bar; {sum(r.met for r in rows)} of {len(rows)} met")


def lost(rows: Sequence[Row], met: Sequence[str]) -> list[str]:
    """Lines about the rows that were within their bars, and are not."""
    return [
        f"lost: {r.key}: {r.ratio:.2f} above {r.cliff.bar}"
        for r in rows
        if r.key in set(met) and not r.met
    ]


def run(update: bool = False) -> int:
    """Print the table; 1 when a bar that was met is lost. `update` adds those met."""
    rows = measure()
    print_table(rows)
    met = json.loads(MET.read_text(encoding="utf-8")) if MET.exists() else []
    lines = lost(rows, met)
    for line in lines:
        print(line, file=sys.stderr)
    if update:
        now = sorted(set(met) | {r.key for r in rows if r.met})
        MET.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    return 1 if lines else 0
