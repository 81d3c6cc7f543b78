"""Random programs of layout ops, reductions, broadcasts and products at awkward shapes.

    python tests/prop/tilings.py 1000 SEED [ELEMENTS [ROW_BYTES MAX_OPS]]

runs 1000 of them against NumPy and reports what was refused or wrong, and the programs
with the most instructions for the bytes that they must move.
"""

import sys
import warnings

import numpy as np

import nkigen

SIZES = (1, 2, 3, 7, 8, 16, 64, 127, 128, 129, 300, 2880, 65536, 128256)
SHORT = (1, 2, 3, 4, 5, 7, 9, 17)


def array(shape, seed=0):
    """Small multiples of 1/8: their sums and products are nearly exact."""
    n = int(np.prod(shape))
    return (((np.arange(n) * 7 + seed) % 17 - 8) / 8).astype(np.float32).reshape(shape)


class Program:
    """Source in `source`, parameters in `arrays`; `elements` bounds every value."""

    def __init__(self, seed, elements):
        self.rng = np.random.default_rng(seed)
        self.elements = elements
        self.arrays, self.lines = [], []
        value, shape = self.parameter(self.shape())
        for _ in range(1 + self.below(5)):
            step = getattr(self, str(self.pick(STEPS)))
            value, shape = step(value, tuple(shape), len(shape)) or (value, shape)
        if not self.lines:
            value, shape = self.line(f"{value} + 1", shape)
        names = ", ".join(f"a{i}" for i in range(len(self.arrays)))
        body = "".join(f"    {line}\n" for line in self.lines)
        self.source = f"def f({names}):\n{body}    return {value}\n"
        scope = {"np": np}
        exec(self.source, scope)
        self.function = scope["f"]

    def below(self, n):
        return int(self.rng.integers(n))

    def pick(self, options):
        return options[self.below(len(options))]

    def fits(self, *dims):
        return 0 < np.prod([int(d) for d in dims], dtype=float) <= self.elements

    def shape(self):
        rank, dims, left = self.pick((0, 1, 2, 2, 2, 3, 3, 4, 5, 6, 8)), [], self.elements
        for _ in range(rank):
            sizes = [n for n in (SHORT if rank > 4 else SIZES) if n <= left]
            dims.append(0 if self.below(40) == 0 else self.pick(sizes))
            left //= max(dims[-1], 1)
        return tuple(int(n) for n in self.rng.permutation(dims))

    def axes(self, rank):
        some = self.rng.permutation(rank)[: 1 + self.below(rank)]
        return tuple(sorted(int(i) for i in some))

    def parameter(self, shape):
        self.arrays.append(array(shape, len(self.arrays)))
        return f"a{len(self.arrays) - 1}", tuple(shape)

    def line(self, expression, shape):
        self.lines.append(f"v{len(self.lines)} = {expression}")
        return f"v{len(self.lines) - 1}", tuple(int(n) for n in shape)

    # ---- one step each: the new value and its shape, or None when it does not apply
    def compute(self, x, s, rank):
        return self.line(f"np.maximum({x} * 0.5, 0.25)", s)

    def transpose(self, x, s, rank):
        order = [int(i) for i in self.rng.permutation(rank)]
        return self.line(f"{x}.transpose({order})", [s[i] for i in order])

    def reshape(self, x, s, rank):
        n, dims = int(np.prod(s)), []
        for _ in range(self.below(4) if n else 0):
            dims.append(self.pick([d for d in range(1, min(n, 400) + 1) if n % d == 0]))
            n //= dims[-1]
        dims = [int(d) for d in self.rng.permutation([*dims, n])]
        return self.line(f"{x}.reshape({dims})", dims) if np.prod(s) else None

    def broadcast(self, x, s, rank):
        at, n = self.below(rank + 1), self.pick((2, 3, 7, 64, 129, 300))
        if rank == 8 or not self.fits(n, *s):
            return None
        to = (*s[:at], n, *s[at:])
        return self.line(f"np.broadcast_to(np.expand_dims({x}, {at}), {to})", to)

    def slices(self, x, s, rank):
        index, to = ["slice(None)"] * rank, list(s)
        for at in self.rng.permutation(rank)[:2]:
            if s[at] > 2:
                low, step = self.below(s[at] // 2), self.pick((1, 1, 2, 3))
                high = s[at] - self.below(s[at] // 2)
                index[at] = f"slice({low}, {high}, {step})"
                to[at] = len(range(low, high, step))
        return self.line(f"{x}[({', '.join(index)},)]", to) if rank else None

    def flip(self, x, s, rank):
        return self.line(f"np.flip({x}, {self.below(rank)})", s) if rank else None

    def roll(self, x, s, rank):
        return self.line(f"np.roll({x}, 2, {self.below(rank)})", s) if rank else None

    def tile(self, x, s, rank):
        reps = tuple(self.pick((1, 2, 3)) for _ in s)
        if rank == 0 or not self.fits(*reps, *s):
            return None
        return self.line(f"np.tile({x}, {reps})", np.multiply(s, reps))

    def repeat(self, x, s, rank):
        if rank == 0 or not self.fits(3, *s):
            return None
        to, at = list(s), self.below(rank)
        to[at] *= 3
        return self.line(f"np.repeat({x}, 3, {at})", to)

    def concat(self, x, s, rank):
        if rank == 0 or not self.fits(4, *s):
            return None
        to, at = list(s), self.below(rank)
        to[at] = self.pick((1, 7, to[at]))
        other = self.pick(("{}", "({} * 2)")).format(self.parameter(to)[0])
        to[at] += s[at]
        return self.line(f"np.concatenate([{x}, {other}], {at})", to)

    def cumulative(self, x, s, rank):
        if rank == 0 or not self.fits(4, *s):
            return None
        for scaled in ("* 2", "+ 1"):
            at = self.below(rank)
            s = (*s[:at], 2 * s[at], *s[at + 1 :])
            x, s = self.line(f"np.concatenate([{x}, {x} {scaled}], {at})", s)
        return x, s

    def stack(self, x, s, rank):
        if rank == 8 or not self.fits(2, *s):
            return None
        at = self.below(rank + 1)
        return self.line(f"np.stack([{x}, {x} * 2], {at})", (*s[:at], 2, *s[at:]))

    def reduce(self, x, s, rank):
        if rank == 0 or not np.prod(s):
            return None
        axes, keep = self.axes(rank), self.below(2) == 0
        op = self.pick(("sum", "max", "min", "mean"))
        to = [1 if i in axes else n for i, n in enumerate(s) if keep or i not in axes]
        return self.line(f"{x}.{op}({axes}, keepdims={keep})", to)

    def softmax(self, x, s, rank):
        if rank == 0 or not np.prod(s):
            return None
        at = self.below(rank)
        y, _ = self.line(f"np.exp({x} - {x}.max({at}, keepdims=True))", s)
        return self.line(f"{y} / {y}.sum({at}, keepdims=True)", s)

    def norm(self, x, s, rank):
        if rank == 0 or not np.prod(s):
            return None
        mean = f"({x} * {x}).mean({self.axes(rank)}, keepdims=True)"
        return self.line(f"{x} / np.sqrt({mean} + 1)", s)

    def product(self, x, s, rank):
        n = self.pick((1, 7, 64, 129, 300))
        if rank < 2 or not np.prod(s) or not self.fits(n, *s[:-1]):
            return None
        shape = (*(self.pick((1, d)) for d in s[:-2]), s[-1], n)
        if self.below(2) or not self.fits(*shape):
            shape = (s[-1], n)
        if np.prod(s, dtype=float) * n > 3e8 or not self.fits(*shape):
            return None
        return self.line(f"({x} @ {self.parameter(shape)[0]}) * 0.0625", (*s[:-1], n))

    def outer(self, x, s, rank):
        n, at = self.pick((3, 64, 129, 300, 2880)), self.below(rank + 1)
        if rank == 8 or not self.fits(n, *s):
            return None
        shape = (*[1] * at, n, *[1] * (rank - at))
        y = f"{self.parameter((n,))[0]}.reshape({shape})"
        return self.line(f"np.expand_dims({x}, {at}) * {y}", (*s[:at], n, *s[at:]))

    def distances(self, x, s, rank):
        n = self.pick((7, 64, 129, 300))
        if rank != 2 or not self.fits(n, *s):
            return None
        y, _ = self.parameter((n, s[1]))
        square = f"(({x}[:, None] - {y}[None]) ** 2)"
        return self.line(f"{square}.sum(-1) * 0.0625", (s[0], n))

    def combine(self, x, s, rank):
        shape = tuple(1 if self.below(3) == 0 else n for n in s)
        return self.line(f"{x} {self.pick('+-*')} {self.parameter(shape)[0]}", s)

    # ---- running it
    def check(self, target, row_bytes=0, max_ops=0, stages=False):
        """Compile under limits, compare with NumPy, return the kernel."""
        plan = f"plan {target} row_bytes={row_bytes} max_ops={max_ops} {{\n}}\n"
        options = {"plan": plan} if row_bytes else {}
        arrays = self.arrays
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            kernel = nkigen.compile(
                self.function, *arrays, target=target, cache=False, **options
            )
            assert kernel.verify() == [], self.source
            narrow = np.asarray(self.function(*arrays)).astype(np.float64)
            wide = np.asarray(self.function(*[a.astype(np.float64) for a in arrays]))
            results = {"reference": kernel.reference(*arrays), "run": kernel(*arrays)}
            for name in kernel.stages if stages else ():
                results[name] = kernel.run_stage(name, *arrays)
        noise = 16 * np.abs(narrow - wide).max(initial=0) + 1e-6
        limit = 2e-5 * np.abs(wide).max(initial=0) + noise
        for what, got in results.items():
            assert np.shape(got) == wide.shape, f"{what}: shape\n{self.source}"
            error = np.abs(np.asarray(got, np.float64) - wide).max(initial=0)
            assert error <= limit, f"{what}: {error} > {limit}\n{self.source}"
        return kernel


STEPS = (
    *("compute", "transpose", "reshape", "broadcast", "slices", "flip", "roll", "tile"),
    *("repeat", "concat", "cumulative", "stack", "reduce", "reduce", "softmax", "norm"),
    *("product", "outer", "distances", "combine"),
)


def tiling_program(seed, elements):
    """The program of a seed, with values of at most so many elements."""
    return Program(seed, elements)


def main(count, seed, elements=300000, row_bytes=0, max_ops=1):
    """Run programs and report; 1 when any failed."""
    failed, worst = 0, []
    for s in range(seed, seed + count):
        program = tiling_program(s, elements)
        try:
            cost = program.check(("trn1", "trn2", "trn3")[s % 3], row_bytes, max_ops).cost
        except Exception as error:
            failed += 1
            print(s, f"{type(error).__name__}: {error}".splitlines()[0])
            continue
        tiles = 50 + cost.hbm_min_bytes / 8192
        worst.append((cost.instruction_count / tiles, s, cost.instruction_count))
    print(f"{count} programs, {failed} failed; most instructions per tile, seed, count:")
    print(*sorted(worst, reverse=True)[:5], sep="\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(*(int(float(a)) for a in sys.argv[1:])))
