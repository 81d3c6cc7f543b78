"""Work of the compiler against the size of the program, in instructions that callgrind counts.

Tracing and compiling 10 times as many ops may take LIMIT times as many instructions. Every family is counted at 1,000
and 10,000 ops, chains also at 100,000, and wide graphs when asked for by name. Counts repeat to within a few thousandths, so this gates; wall times do
not. Needs valgrind.

    python .ci/linear.py            # all families
    python .ci/linear.py wide       # one
    python .ci/linear.py --run wide 1000   # what is counted
"""

import re
import subprocess
import sys

import numpy as np

import nkigen
from nkigen import layers, workloads

LIMIT = 12.0
SIZES = (1_000, 10_000, 100_000)
LARGE = ("chain", "wide")
#: counted at all sizes by name only: the largest takes minutes
BY_NAME = ("wide",)
#: ops of a layer, about
LAYER_OPS = 50
SHAPE = (128, 512)


def chain(n):
    """Each op reads the one before."""
    return workloads.long_chain(n), [(SHAPE, "f32")]


def wide(n):
    """Many values of one input, added in pairs."""

    def fn(x):
        values = [x * float(i + 1) for i in range(n // 2)]
        while len(values) > 1:
            pairs = zip(values[::2], values[1::2], strict=False)
            values = [a + b for a, b in pairs] + values[len(values) & ~1 :]
        return values[0]

    return fn, [(SHAPE, "f32")]


def reductions(n):
    """Sums of rows, added up."""

    def fn(x):
        total = np.sum(x, axis=-1)
        for i in range(n // 3):
            total = total + np.sum(x + float(i), axis=-1)
        return total

    return fn, [(SHAPE, "f32")]


def slices(n):
    """Rows of one array, added up."""

    def fn(x):
        total = x[0]
        for i in range(n // 2):
            total = total + x[i % len(x)]
        return total

    return fn, [((512, 512), "f32")]


def layer(n):
    """Transformer layers in a row."""
    count = n // LAYER_OPS
    one = workloads.layer_shapes(32, 64, 128)
    shapes = one[:1] + one[1:] * count
    return layers.stack(workloads.transformer_layer, count), [(s, "f32") for s in shapes]


FAMILIES = {f.__name__: f for f in (chain, wide, reductions, slices, layer)}


def run(family: str, n: int) -> None:
    """What is counted; n = 0 is the start of the interpreter and a program of one op."""
    fn, specs = FAMILIES[family](n) if n else (np.tanh, [((2, 2), "f32")])
    nkigen.compile(fn, *specs, cache=False)


def count(family: str, n: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    done = subprocess.run([*command, __file__, "--run", family, str(n)], capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"{family} {n}: {done.stderr[-2000:]}")
    return int(found.group(1))


def main(names: list[str]) -> int:
    start, bad = count("chain", 0), 0
    for name in names or FAMILIES:
        large = name in LARGE and (names or name not in BY_NAME)
        sizes = SIZES if large else SIZES[:-1]
        work = [count(name, n) - start for n in sizes]
        growth = [b / a for a, b in zip(work, work[1:], strict=False)]
        line = ", ".join(f"{n:,}: {w / n:,.0f}" for n, w in zip(sizes, work, strict=True))
        steps = " ".join(f"{g:.1f}" for g in growth)
        worst = max(growth) > LIMIT
        bad += worst
        print(f"{name:<11} instructions per op at {line}; 10 times as many: {steps}{' !' if worst else ''}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main(sys.argv[1:]))
