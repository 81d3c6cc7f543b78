"""Published hardware times, and the same kernels written as tile IR and priced.

Every entry states where its figure is from. Kernels whose source leaves open which
loads a compiler hoists are priced in both readings, and the nearer one counts. None of
them is tuned to its figure.

Example:
    $ python -m nkigen bench --calibration
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import nkigen
from nkigen.calibration_kernels import (
    attention_fused,
    attention_naive,
    back_to_back,
    blocked_matmul,
    exp_of,
    load_and_store,
    mamba_v1,
    mamba_v2,
    panels_matmul,
    tiled_matmul,
)

#: predicted over measured: geometric mean of total and of busiest engine, worst of both
GOALS = (1.15, 1.20, 1.5)


class Priced(NamedTuple):
    """What the model says of one kernel, in us."""

    total: float
    busy: float | None


@dataclass(frozen=True)
class Entry:
    """A measured kernel: its readings as tile IR, and what the hardware took."""

    name: str
    source: str
    readings: tuple[tuple[str, Callable[[], str]], ...]
    measured_us: float
    engine: str | None = None
    engine_us: float | None = None
    #: a program without the instruction that was measured; its time is taken off
    base: Callable[[], str] | None = None
    #: instructions that the figure is divided by, and us of the difference that the
    #: source counts elsewhere
    count: int = 1
    elsewhere_us: float = 0.0

    def price(self, text: str) -> Priced:
        cost = nkigen.parse(text).cost()
        busy = cost.engine_us[self.engine] if self.engine_us and self.engine else None
        total = cost.time_us
        if self.base:
            total -= nkigen.parse(self.base()).cost().time_us
        return Priced(total / self.count - self.elsewhere_us, busy)

    def prices(self) -> list[tuple[str, Priced]]:
        return [(label, self.price(build())) for label, build in self.readings]


def activation_entry(parts: int, cols: int, ns: float) -> Entry:
    return Entry(
        f"exp [{parts}, {cols}] bf16, trn2",
        "nki-dma-overview profile image",
        (("", lambda: load_and_store(parts, cols, "trn2", exp_of)),),
        ns * 1e-3,
        base=lambda: load_and_store(parts, cols, "trn2"),
        elsewhere_us=1.28 + 0.081,  # the table load; the semaphore between the engines
    )


def dma_entry(parts: int, cols: int, ns: float, source: str) -> Entry:
    again = f"0: {parts}*{cols}, {cols}*1"
    return Entry(
        f"dma_copy [{parts}, {cols}] bf16, trn2",
        source,
        (
            (
                "",
                lambda: load_and_store(
                    parts, cols, "trn2", lambda t: f"dma_copy {t}, %x[{again}]"
                ),
            ),
        ),
        ns * 1e-3,
        base=lambda: load_and_store(parts, cols, "trn2"),
        elsewhere_us=0.975,  # trigger to first byte, last byte to consumer
    )


def matmul_trn1(tiles: tuple[int, int], ms: float, wide: bool = False) -> Entry:
    size = (4096, 8192, 8192, "bf16", "trn1", tiles)
    both = (
        ("loads per step", lambda: tiled_matmul(*size, wide=wide)),
        ("lhs hoisted", lambda: tiled_matmul(*size, hoisted=True, wide=wide)),
    )
    label = f"{tiles[0]}x{tiles[1]}" + (", wide DMAs" if wide else "")
    return Entry(
        f"matmul 4096x8192x8192 bf16 {label}, trn1",
        "published ladder of NKI matmuls on trn1",
        both,
        1e3 * ms,
    )


KO = "nki/guides/tutorials/kernel-optimization.rst"
SKILLS = "aws-neuron/neuron-agentic-development"
MAMBA = "nki/guides/tutorials/fused_mamba.rst"
ATTENTION = "published attention kernels of trn1, S 4096, 128 columns, bf16"


def one(
    build: Callable[..., str], *args: Any, **named: Any
) -> tuple[tuple[str, Callable[[], str]], ...]:
    return (("", lambda: build(*args, **named)),)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "matmul 4096x8192x8192 f32 blocked, trn2",
        KO,
        one(blocked_matmul, 4096, 8192, 8192),
        28300,
        "tensor",
        28160,
    ),
    Entry(
        "matmul 4096x8192x8192 f32 tiled, trn2",
        KO,
        one(tiled_matmul, 4096, 8192, 8192, "f32"),
        39890,
        "dma",
        39862,
    ),
    Entry(
        "matmul 4096 bf16, 2 KiB rows, trn2",
        SKILLS,
        one(panels_matmul, 4096, "bf16", (1024, 1024), (8, 2)),
        1801,
        "tensor",
        1781,
    ),
    Entry(
        "matmul 4096 bf16, blocks of 8x2, trn2",
        SKILLS,
        one(panels_matmul, 4096, "bf16", (128, 512), (8, 2)),
        2451,
        "tensor",
        2163,
    ),
    Entry(
        "matmul 4096 bf16 tiled, trn2",
        SKILLS,
        one(tiled_matmul, 4096, 4096, 4096, "bf16"),
        8602,
        "dma",
        7906,
    ),
    Entry(
        "2048 products back to back, trn2",
        SKILLS,
        one(back_to_back),
        445.1,
        "tensor",
        445.1,
    ),
    Entry(
        "mamba v1 512x256, trn1",
        MAMBA,
        one(mamba_v1, 512, 256),
        172.93,
        "vector",
        170.7,
    ),
    Entry("mamba v1 2048x256, trn1", MAMBA, one(mamba_v1, 2048, 256), 636.0),
    Entry(
        "mamba v2 512x4096, trn1", MAMBA, one(mamba_v2, 512, 4096), 1610, "vector", 1604
    ),
    Entry(
        "mamba v3 8192x4096, trn1",
        MAMBA,
        one(mamba_v2, 8192, 4096),
        27800,
        "vector",
        26370,
    ),
    dma_entry(4, 4096, 1416, "nki/get-started/about/nki-dma-overview.rst"),
    dma_entry(128, 128, 97, "nki-dma-overview profile image"),
    activation_entry(4, 4096, 3709),
    activation_entry(128, 128, 398),
    Entry(
        "dependent activations of one element, trn1",
        "nki/deep-dives/nki_perf_guide.rst",
        one(load_and_store, 128, 1, "trn1", lambda t: exp_of(t, 101)),
        0.189,
        base=lambda: load_and_store(128, 1, "trn1", exp_of),
        count=100,
    ),
    Entry("attention naive, trn1", ATTENTION, one(attention_naive, 4096), 3093),
    Entry("attention fused, trn1", ATTENTION, one(attention_fused, 4096), 293),
    matmul_trn1((1, 1), 20.99),
    matmul_trn1((1, 2), 28.68),
    matmul_trn1((2, 2), 11.8),
    matmul_trn1((4, 2), 8.07),
    matmul_trn1((4, 2), 6.96, wide=True),
)


def ratio(predicted: float, measured: float) -> float:
    return predicted / measured


def distance(r: float) -> float:
    """How far off, whichever way: 1 is exact."""
    return max(r, 1 / r) if r > 0 else math.inf


def mean(ratios: Sequence[float]) -> float:
    """Geometric mean of the distances."""
    return math.exp(sum(math.log(distance(r)) for r in ratios) / len(ratios))


def table() -> tuple[list[str], dict[str, float]]:
    """The lines to print, and the three figures that GOALS bound."""
    lines, totals, busies = [], [], []
    titles = ("kernel", "measured us", "predicted", "ratio")
    lines.append("{:<48}{:>12}{:>11}{:>7}  busiest engine".format(*titles))
    for e in ENTRIES:
        prices = e.prices()
        label, near = min(
            prices, key=lambda x: distance(ratio(x[1].total, e.measured_us))
        )
        totals.append(ratio(near.total, e.measured_us))
        figures = (e.name, e.measured_us, near.total, totals[-1])
        line = "{:<48}{:>12.3f}{:>11.3f}{:>7.2f}".format(*figures)
        if e.engine_us and near.busy is not None:
            busies.append(ratio(near.busy, e.engine_us))
            line += f"  {e.engine} {e.engine_us:.0f} {near.busy:.0f} {busies[-1]:.2f}"
        if len(prices) > 1:
            other = next(x for x in prices if x[0] != label)
            line += f"  ({label}; {other[0]}: {other[1].total:.0f})"
        lines.append(line)
    return lines, {
        "total": mean(totals),
        "busiest": mean(busies),
        "worst": max(map(distance, [*totals, *busies])),
    }


def run() -> int:
    """Print the table; the exit code says whether GOALS are met."""
    lines, figures = table()
    print("\n".join(lines))
    good = True
    for (what, value), goal in zip(figures.items(), GOALS, strict=True):
        good = good and value <= goal
        print(f"{what}: {value:.3f} times off, at most {goal} is the goal")
    return 0 if good else 1
