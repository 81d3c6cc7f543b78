"""What the compiler makes of the workloads: counts, bytes, modelled time, compile time.

Counts and bytes are exact and repeat; `time` and `roofline` are modelled; compile and
simulator times are wall times of this machine. A committed baseline holds the figures
that repeat, and a run that makes one of them worse fails.

Example:
    $ python -m nkigen bench softmax matmul_1024 --dtype f32
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import nkigen
from nkigen import calibration, cliffs, workloads
from nkigen.anchors import ANCHORS, WAITING, Anchor
from nkigen.layers import LAYERS
from nkigen.workloads import Workload

TARGETS = ("trn1", "trn2", "trn3")
DTYPES = ("f32", "bf16")
REPEATS = 7
CHAINS = {"chain_10k": 10_000, "chain_100k": 100_000}
CHAIN_SHAPE = (128, 512)
#: figures that repeat from run to run, with the relative slack that still counts as equal
DETERMINISTIC = {
    "instructions": 0.0,
    "hbm_read_bytes": 0.0,
    "hbm_write_bytes": 0.0,
    "modelled_us": 1e-6,
}
MIB = 1 << 20
#: us of the busiest engine above which a kernel counts as long
LONG_US = 20.0

#: ms that repeating a long compilation may take
REPEAT_MS = 1000.0
#: every kernel by name; those after WORKLOADS are run when named, or by --all
KERNELS: dict[str, Workload] = {**workloads.WORKLOADS, **LAYERS, **ANCHORS}

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m nkigen bench`."""
    known = " ".join([*workloads.WORKLOADS, *CHAINS])
    more = " ".join([*LAYERS, *ANCHORS])
    parser.add_argument(
        "names", nargs="*", help=f"these when none is given: {known}; more: {more}"
    )
    parser.add_argument(
        "--all", action="store_true", help="also layers and kernels of experts"
    )
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    parser.add_argument(
        "--baseline", metavar="FILE", help="fail where a figure got worse"
    )
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    parser.add_argument("--target", default="trn2", help="trn1, trn2 or trn3")
    parser.add_argument(
        "--dtype", default=",".join(DTYPES), help="a comma-separated list"
    )
    parser.add_argument(
        "--no-sim", action="store_true", help="do not run the simulator"
    )
    parser.add_argument(
        "--calibration",
        action="store_true",
        help="price published kernels instead, and print predicted over measured time",
    )
    parser.add_argument(
        "--cliffs",
        action="store_true",
        help="compare kernels with neighbours that do as much; --update keeps those met",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="also every target with every pass checked, simulator time and memory",
    )


class Progress:
    """One rewritten line on a terminal, nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.on = sys.stderr.isatty()

    def step(self, text: str) -> None:
        self.done += 1
        if self.on:
            print(f"\r\x1b[K[{self.done}/{self.total}] {text}", end="", file=sys.stderr)
            sys.stderr.flush()

    def close(self) -> None:
        if self.on:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def median_ms(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median wall time of `call` in milliseconds, after one call to warm up; fewer
    repeats of what takes long."""
    begin = time.perf_counter()
    call()
    once = 1e3 * (time.perf_counter() - begin)
    times = []
    for _ in range(max(1, min(repeats, int(REPEAT_MS / max(once, 1e-3))))):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute error over largest absolute value."""
    diff = np.abs(actual.astype(np.float64) - expected).max(initial=0.0)
    scale = np.abs(expected).max(initial=0.0)
    return float(diff / scale) if scale else float(diff)


def cost_figures(kernel: Any) -> Row:
    """The repeating and the modelled figures of a compiled kernel."""
    c = kernel.cost
    moved = c.hbm_read_bytes + c.hbm_write_bytes
    return {
        "instructions": c.instruction_count,
        "instructions_by_name": {k: v for k, v in sorted(c.instructions.items()) if v},
        "hbm_read_bytes": c.hbm_read_bytes,
        "hbm_write_bytes": c.hbm_write_bytes,
        "hbm_min_bytes": c.hbm_min_bytes,
        "hbm_ratio": moved / c.hbm_min_bytes if c.hbm_min_bytes else 1.0,
        "modelled_us": c.time_us,
        "roofline_us": c.roofline_us,
        "engine_us": {k: v for k, v in c.engine_us.items() if v},
        "sbuf_peak_bytes": c.sbuf_peak_bytes,
        "psum_peak_banks": c.psum_peak_banks,
    }


def bench_workload(w: Workload, dtype: str, args: argparse.Namespace) -> Row:
    """All figures of one workload at its real shape."""
    specs = w.specs(dtype)
    kernel = nkigen.compile(w.fn, *specs, target=args.target, cache=False)
    row: Row = {"name": w.name, "dtype": dtype, "target": args.target}
    row |= cost_figures(kernel)
    row["instr_bar"], row["hbm_bar"] = w.instr_bar, w.hbm_bar
    row["compile_ms"] = median_ms(
        lambda: nkigen.compile(w.fn, *specs, target=args.target, cache=False)
    )
    row["compile_bar_ms"] = w.compile_bar_ms
    if isinstance(w, Anchor):
        row["floor_us"] = w.floor_us
    row["violations"] = len(kernel.verify())
    if not args.no_sim:
        row |= simulate(w, kernel, dtype, args.full)
    if args.full:
        row["targets"] = check_targets(w, dtype)
    return row


def check_targets(w: Workload, dtype: str) -> dict[str, int]:
    """Violations per target, each compiled with every pass checked on the inputs."""
    out = {}
    inputs = w.inputs(dtype)
    for target in TARGETS:
        k = nkigen.compile(
            w.fn, *inputs, target=target, check="every-pass", cache=False
        )
        out[target] = len(k.verify())
    return out


def simulate(w: Workload, kernel: Any, dtype: str, measure: bool) -> Row:
    """Simulated error against float64 NumPy; with `measure` also time and memory."""
    inputs = w.inputs(dtype)
    row: Row = {"error_limit": workloads.error_limit(w, dtype)}
    if measure and dtype == "f32":
        row["numpy_ms"] = median_ms(lambda: w.fn(*inputs), 3)
        row["simulator_extra_mib"] = peak_above(lambda: kernel(*inputs))
        row["simulator_ms"] = median_ms(lambda: kernel(*inputs), 3)
        row["simulator_ratio"] = row["simulator_ms"] / row["numpy_ms"]
        row["simulator_bar"] = w.simulator_bar
    actual = kernel(*inputs)
    row["error"] = relative_error(actual, w.expected(inputs))
    return row


def peak_above(call: Callable[[], Any]) -> float | None:
    """MiB of resident memory that `call` needs at its peak, above what is held before it
    and its result; None where the kernel does not tell."""
    if not reset_peak():
        return None
    before = resident("VmRSS")
    result = call()
    return (resident("VmHWM") - before - result.nbytes) / MIB


def reset_peak() -> bool:
    """Give free memory back and start a new high-water mark (Linux)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return True
    except (OSError, AttributeError):
        return False


def resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def bench_chain(name: str, args: argparse.Namespace) -> Row:
    """Tracing and compiling a very long element-wise chain."""
    n = CHAINS[name]
    fn, spec = workloads.long_chain(n), (CHAIN_SHAPE, "f32")

    def build() -> Any:
        return nkigen.compile(fn, spec, target=args.target, cache=False)

    row: Row = {"name": name, "dtype": "f32", "target": args.target}
    row |= cost_figures(build())
    row["compile_ms"] = median_ms(build, 3)
    row["compile_bar_ms"] = 100.0 if n == 10_000 else None
    row["instructions_per_op"] = row["instructions"] / n
    return row


# ---- output


def compared(value: float | None, bar: float | None, form: str) -> str:
    """A figure with its bar, marked where the bar is missed."""
    if value is None:
        return "-"
    text = format(value, form)
    if bar is None:
        return text
    missed = float(text) > float(format(bar, form))
    return f"{text} / {format(bar, form)}{' !' if missed else ''}"


def busiest_us(row: Row) -> float:
    """How long the engine that works longest works, in modelled us."""
    return max(row["engine_us"].values(), default=0.0)


def overlap(rows: Iterable[Row]) -> str:
    """Time over the busiest engine and over the roofline, of kernels that are not short."""
    long = [r for r in rows if "failure" not in r and busiest_us(r) > LONG_US]
    if not long:
        return ""
    out = []
    for what, of in (("busiest", busiest_us), ("roofline", lambda r: r["roofline_us"])):
        ratios = [r["modelled_us"] / of(r) for r in long]
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        out.append(f"time / {what}: geometric mean {mean:.2f}, worst {max(ratios):.2f}")
    return f"{len(long)} rows with over {LONG_US:.0f} us on one engine: " + "; ".join(
        out
    )


COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("kernel", lambda r: r["name"]),
    ("dtype", lambda r: r["dtype"]),
    ("instr / bar", lambda r: compared(r["instructions"], r.get("instr_bar"), "d")),
    ("HBM ratio / bar", lambda r: compared(r["hbm_ratio"], r.get("hbm_bar"), ".2f")),
    ("modelled us", lambda r: f"{r['modelled_us']:.1f}"),
    ("roofline us", lambda r: f"{r['roofline_us']:.1f}"),
    ("busiest us", lambda r: f"{busiest_us(r):.1f}"),
    ("time / busiest", lambda r: f"{r['modelled_us'] / max(busiest_us(r), 1e-9):.2f}"),
    (
        "expert's floor us",
        lambda r: format(r["floor_us"], "g") if "floor_us" in r else "",
    ),
    (
        "compile ms / bar",
        lambda r: compared(r["compile_ms"], r.get("compile_bar_ms"), ".1f"),
    ),
    ("violations", lambda r: str(r.get("violations", "-"))),
    ("error / limit", lambda r: compared(r.get("error"), r.get("error_limit"), ".1e")),
)
FULL_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    (
        "trn1 trn2 trn3",
        lambda r: " ".join(map(str, r.get("targets", {}).values())) or "-",
    ),
    (
        "sim / NumPy",
        lambda r: compared(r.get("simulator_ratio"), r.get("simulator_bar"), ".2f"),
    ),
    ("sim extra MiB", lambda r: compared(r.get("simulator_extra_mib"), 64.0, ".0f")),
)


def print_table(rows: list[Row], full: bool) -> None:
    columns = COLUMNS + (FULL_COLUMNS if full else ())
    table = [[title for title, _ in columns]]
    table += [[cell(r) for _, cell in columns] for r in rows if "failure" not in r]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        print(
            "  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip()
        )
    print("times in us are modelled; ! marks a missed bar")
    if any("floor_us" in r for r in rows):
        print("not here yet: " + "; ".join(f"{k} ({v})" for k, v in WAITING.items()))
    print(overlap(r for r in rows if r["name"] not in CHAINS))


def key_of(row: Row) -> str:
    return f"{row['name']}/{row['dtype']}/{row['target']}"


def deterministic(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """What a baseline file holds."""
    return {
        key_of(r): {k: r[k] for k in (*DETERMINISTIC, "hbm_min_bytes")}
        for r in rows
        if "failure" not in r
    }


def compare(rows: list[Row], baseline: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Lines about figures that got worse, and about those that got better."""
    worse, better = [], []
    for r in rows:
        old = baseline.get(key_of(r))
        if old is None:
            continue
        if "failure" in r:
            worse.append(f"{key_of(r)}: compiled before, now: {r['failure']}")
            continue
        for k, slack in DETERMINISTIC.items():
            line = f"{key_of(r)} {k}: {old[k]:.10g} -> {r[k]:.10g}"
            if r[k] > old[k] * (1 + slack):
                worse.append(line)
            elif r[k] < old[k] * (1 - slack):
                better.append(line)
    return worse, better


def faults(rows: list[Row]) -> list[str]:
    """Results that are wrong whatever the baseline says."""
    out = [f"{key_of(r)}: {r['failure']}" for r in rows if "failure" in r]
    for r in rows:
        violations = r.get("violations", 0) + sum(r.get("targets", {}).values())
        if violations:
            out.append(f"{key_of(r)}: {violations} verifier violations")
        if not r.get("error", 0.0) <= r.get("error_limit", 1.0):
            out.append(
                f"{key_of(r)}: error {r['error']:.2e} above {r['error_limit']:.0e}"
            )
    return out


def plan_of(args: argparse.Namespace) -> list[tuple[str, str]]:
    """The (name, dtype) pairs to run."""
    names = args.names or [*workloads.WORKLOADS, *CHAINS]
    if args.all:
        names = [*KERNELS, *CHAINS]
    dtypes = [d for d in args.dtype.split(",") if d]
    for d in dtypes:
        if d not in DTYPES:
            raise ValueError(f"no dtype {d!r} here; there are: {' '.join(DTYPES)}")
    out = []
    for n in names:
        if n in CHAINS:
            out.append((n, "f32"))
        elif n not in KERNELS:
            workloads.get(n)
        else:
            out += [(n, d) for d in dtypes if d == "bf16" or n not in ANCHORS]
    return out


def one_row(name: str, dtype: str, args: argparse.Namespace) -> Row:
    try:
        if name in CHAINS:
            return bench_chain(name, args)
        return bench_workload(KERNELS[name], dtype, args)
    except Exception as e:
        text = f"{type(e).__name__}: {e}".splitlines()[0]
        return {"name": name, "dtype": dtype, "target": args.target, "failure": text}


def write_json(path: str, value: Any) -> None:
    Path(path).write_text(
        json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "nkigen": getattr(nkigen, "__version__", "unknown"),
    }


def check_baseline(path: str, rows: list[Row], update: bool) -> bool:
    """Compare with, and with `update` rewrite, the baseline; False when worse."""
    file = Path(path)
    old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    worse, better = compare(rows, old)
    for title, lines in (("worse", worse), ("better", better)):
        for line in lines:
            print(f"{title}: {line}")
    if update:
        write_json(path, old | deterministic(rows))
        return True
    if not old:
        print(f"no baseline in {path}; --update writes it")
    elif better and not worse:
        print("--update keeps the better figures")
    return not worse


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; the exit code."""
    if args.calibration:
        return calibration.run()
    if args.cliffs:
        return cliffs.run(args.update)
    try:
        plan = plan_of(args)
    except (KeyError, ValueError) as e:
        print(f"error: {e.args[0]}", file=sys.stderr)
        return 2
    progress, rows = Progress(len(plan)), []
    for name, dtype in plan:
        progress.step(f"{name} {dtype}")
        rows.append(one_row(name, dtype, args))
    progress.close()
    print_table(rows, args.full)
    if args.json:
        write_json(args.json, {"machine": machine(), "rows": rows})
    bad = faults(rows)
    for line in bad:
        print(f"fault: {line}")
    path = args.baseline or ("tests/baseline.json" if args.update else None)
    good = check_baseline(path, rows, args.update) if path else True
    return 0 if good and not bad else 1
