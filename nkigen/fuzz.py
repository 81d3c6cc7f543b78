"""Fuzzing: texts that nobody wrote, and programs that nobody thought of.

`fuzz text` mutates the printed stages of a set of kernels and does with each mutant all
that a Program can do: parse, print, verify, price, emit, run, pass on. Nothing but a typed
error may come of it. `fuzz programs` compiles random NumPy programs for every target and
compares all executors.

Cases run in a forked child that notes the number of the case at hand in shared memory:
a crash or a hang ends the child alone, is reported with its text and seed, and the next
child goes on behind it.

Example:
    $ python -m nkigen fuzz text 20000 --seed 1 --seconds 60
"""

from __future__ import annotations

import argparse
import json
import math
import mmap
import os
import re
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import nkigen
from nkigen import _core, workloads
from nkigen.errors import InternalError, NkigenError
from nkigen.fuzz_check import check_program
from nkigen.fuzz_programs import random_program

__all__ = ["corpus", "exercise", "fuzz", "mutate"]

TARGETS = ("trn1", "trn2", "trn3")
HANG_S = 2.0
#: units of work that the simulator may do for a mutant
MAX_WORK = 1 << 22
#: mutants with more elements in their inputs are not run
MAX_ELEMENTS = 1 << 16

# ---- the texts that mutants are made of


def _f32(*shape: int) -> tuple[tuple[int, ...], str]:
    return (shape, "f32")


def _constants(x: Any) -> Any:
    return np.where(x > 0, x, np.arange(20, dtype=np.float32)) + np.eye(20)[:1]


def _integers(i: Any, b: Any) -> Any:
    return np.where(b, i * 3, i // 2), i.sum(0)


def _updates(x: Any, y: Any) -> Any:
    rows = x * 2
    rows[1] = y[0]
    y[::2, 3] = x[0, :2]
    x += y[:, :1]
    return rows


def _layout(x: Any) -> Any:
    wide = np.tile(x[::-1, 3:].reshape(25, -1)[:4], (1, 2))
    return np.concatenate([x[::2], wide[:, :23]], 0).T


KERNELS: list[tuple[Callable, list]] = [
    (workloads.softmax, [_f32(130, 20)]),
    (workloads.layernorm, [_f32(70, 33), _f32(33), _f32(33)]),
    (workloads.matmul, [((40, 130), "bf16"), ((130, 24), "bf16")]),
    (workloads.matmul_bias_gelu, [_f32(32, 64), _f32(64, 48), _f32(48)]),
    (workloads.attention_head, [_f32(64, 16)] * 3),
    (workloads.transpose, [_f32(40, 130)]),
    (_constants, [_f32(4, 20)]),
    (_integers, [((9, 7), "i32"), ((9, 7), "bool")]),
    (_layout, [_f32(20, 23)]),
    (_updates, [_f32(4, 8), _f32(4, 8)]),
]


def corpus(folders: Sequence[str | Path] = ()) -> list[str]:
    """Every stage of a set of kernels for three targets, and the texts in `folders`.

    A plan begins with a comment that names its kernel and target, and is there once more
    without its numbers.

    Example:
        >>> len(corpus()) > 100
        True
    """
    texts = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for fn, specs in KERNELS:
            for target in TARGETS:
                kernel = nkigen.compile(fn, *specs, target=target)
                for stage in kernel.stages.values():
                    head = f"# {fn.__name__} {target}\n" if stage.kind == "plan" else ""
                    texts[head + str(stage)] = None
                trace = str(kernel.stages["trace"])
                texts[_core.run_pass("fuse", trace, target)] = None
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.txt")):
            for part in path.read_text(encoding="utf-8").split("# >>> expect"):
                texts[part] = None
    return list(texts)


# ---- mutation

EDGES = [
    0, 1, 2, 3, 7, 31, 32, 33, 64, 65, 127, 128, 129, 255, 256, 512, 4095, 4096, 4097,
    65535, 65536, 1 << 20, (1 << 24) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
    1 << 40, 1 << 53, (1 << 60) - 1, 1 << 60, 1 << 62, (1 << 63) - 1, 1 << 63, 10**30,
]  # fmt: skip
FLOATS = ["nan", "inf", "-inf", "1e400", "-0.0", "1e-45", "3.4e38", "65504.0", "0.1"]
ODD = ["\0", "\udc80", "\xff", "\u2028", "\r", "\t", "#", '"', "\\", "%", "{", "}", "_"]
TOKEN = re.compile(r"%?\w+|\s+|.", re.S)
NUMBER = re.compile(r"(?<![\w%])\d+(?![\w.])")
WORDS = sorted(
    set(re.findall(r"\w+", " ".join(n for n in dir(np) if len(n) < 12)))
    & {"add", "multiply", "maximum", "power", "exp", "abs"}
    | set("input output constant scratch tile bufs addr index kind data count".split())
    | set("hbm sbuf psum reg f32 bf16 f16 i32 u8 bool f64 fp8_e4m3 true false".split())
    | set("engine vector scalar gpsimd tensor dma op op0 op1 imm0 func mask".split())
    | set("aliases=[0] aliases=[-1,0] return loop end buffer const full".split())
)


def _lines(rng: Random, text: str, other: str) -> str:
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(6)
    if kind == 0:
        del lines[i]
    elif kind == 1:
        lines.insert(j, lines[i])
    elif kind == 2:
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == 3:
        lines[i] = rng.choice(other.split("\n"))
    elif kind == 4:
        lines.insert(j, lines.pop(i))
    else:
        lines[i:i] = lines[min(i, j) : min(max(i, j), min(i, j) + 20)]
    return "\n".join(lines)


def _tokens(rng: Random, text: str, other: str) -> str:
    lines = text.split("\n")
    i = rng.randrange(len(lines))
    tokens = TOKEN.findall(lines[i]) or [" "]
    k, m = rng.randrange(len(tokens)), rng.randrange(len(tokens))
    kind = rng.randrange(6)
    if kind == 0:
        del tokens[k]
    elif kind == 1:
        tokens.insert(m, tokens[k])
    elif kind == 2:
        tokens[k], tokens[m] = tokens[m], tokens[k]
    elif kind == 3:
        tokens[k] = rng.choice(WORDS)
    elif kind == 4:
        line = rng.choice(other.split("\n"))
        tokens[k] = rng.choice(TOKEN.findall(line) or [" "])
    else:
        names = re.findall(r"%\w+", text)
        places = [p for p, t in enumerate(tokens) if t[0] == "%" and len(t) > 1]
        if names and places:
            tokens[rng.choice(places)] = rng.choice(names)
    lines[i] = "".join(tokens)
    return "\n".join(lines)


def _numbers(rng: Random, text: str, other: str) -> str:
    found = list(NUMBER.finditer(text))
    if not found:
        return _tokens(rng, text, other)
    m = rng.choice(found)
    old = int(m[0][:40])
    new = rng.choice(
        [rng.choice(EDGES), -rng.choice(EDGES), old + 1, old - 1, 2 * old, old // 2]
    )
    return text[: m.start()] + str(new) + text[m.end() :]


def _everywhere(rng: Random, text: str, other: str) -> str:
    """One number replaced wherever it stands: what belongs together stays so."""
    found = NUMBER.findall(text)
    if not found:
        return _tokens(rng, text, other)
    old = rng.choice(found)
    new = rng.choice([rng.choice(EDGES), int(old[:40]) + 1, 2 * int(old[:40]), 1])
    return re.sub(rf"(?<![\w%]){old}(?![\w.])", str(new), text)


def _floats(rng: Random, text: str, other: str) -> str:
    found = list(re.finditer(r"(?<==)-?\d{1,9}\.\d{1,20}(e[-+]?\d+)?", text))
    if not found:
        return _numbers(rng, text, other)
    m = rng.choice(found)
    return text[: m.start()] + rng.choice(FLOATS) + text[m.end() :]


def _bytes(rng: Random, text: str, other: str) -> str:
    i = rng.randrange(len(text) + 1)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:i] + rng.choice(ODD) + text[i:]
    if kind == 1:
        return text[:i] + text[i + rng.randrange(1, 9) :]
    if kind == 2:
        return text[:i]
    return text[:i] + rng.choice("x%9[{") * rng.choice([2, 70, 600, 20_000]) + text[i:]


def _splice(rng: Random, text: str, other: str) -> str:
    a, b = text.split("\n"), other.split("\n")
    i, j = rng.randrange(len(a)), rng.randrange(len(b))
    return "\n".join(a[:i] + b[j : j + rng.choice([1, 2, 5, 1000])] + a[i:][:1000])


def _nest(rng: Random, text: str, other: str) -> str:
    """Loops around a run of lines."""
    lines = text.split("\n")
    i = rng.randrange(1, len(lines) + 1)
    j = min(len(lines), i + rng.choice([0, 1, 2, 5]))
    depth = rng.choice([1, 2, 6, 7, 17, 70, 1000])
    counts = [rng.choice([0, 1, 2, 3, 100, 10**6, 2**31 - 1]) for _ in range(depth)]
    head = [f"%q{k} = loop {{count={n}}}" for k, n in enumerate(counts)]
    return "\n".join(lines[:i] + head + lines[i:j] + ["end"] * depth + lines[j:])


def _interface(rng: Random, text: str, other: str) -> str:
    """Another attribute, index, type or alias of an input or output."""
    kind = rng.randrange(4)
    n = rng.choice(EDGES)
    if kind == 0:
        return re.sub(r"index=\d+", f"index={n}", text, count=rng.randrange(1, 4))
    if kind == 1:
        return text.replace(": sbuf", f"{{bufs={n}}} : sbuf", rng.randrange(1, 3))
    if kind == 2:
        alias = [rng.choice([-1, 0, 1, n]) for _ in range(rng.randrange(1, 4))]
        return re.sub(r"(return .*)", rf"\1 aliases={alias}", text)
    dims = ", ".join(str(rng.choice(EDGES)) for _ in range(rng.randrange(0, 10)))
    found = list(re.finditer(r"\b\w{2,9}\[[\d, ]*\]$", text, re.M))
    if not found:
        return text
    m = rng.choice(found)
    return text[: m.start()] + f"f32[{dims}]" + text[m.end() :]


MUTATORS = [
    _lines, _lines, _tokens, _tokens, _tokens, _numbers, _numbers, _numbers, _floats,
    _everywhere, _everywhere, _bytes, _splice, _nest, _interface, _interface,
]  # fmt: skip


def mutate(rng: Random, texts: Sequence[str]) -> str:
    """A mutant of one of the texts, mostly with one change, sometimes with several.

    Example:
        >>> mutate(Random(0), ["tensor @f {}", "tensor @g {}"]) != ""
        True
    """
    text, other = rng.choice(texts), rng.choice(texts)
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 5])):
        text = rng.choice(MUTATORS)(rng, text, other)
    return text


# ---- what is done with a mutant

TENSOR_PASSES = "canonicalize narrow idiom decompose guard outputs tilable".split()
PLAN_PASSES = ["plan", "lower", "schedule", "allocate"]
TILE_PASSES = ["schedule", "allocate"]


def _typed(call: Callable, *args: Any) -> Any:
    """The call's result, None after a typed error; InternalError passes."""
    try:
        return call(*args)
    except InternalError:
        raise
    except (NkigenError, MemoryError):
        return None


def _arrays(program: Any) -> list[np.ndarray] | None:
    """Arrays for the inputs, None when they would be large."""
    total = sum(math.prod(max(d, 1) for d in s) for _, _, s in program.inputs)
    if total > MAX_ELEMENTS:
        return None
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 3, shape).astype(nkigen._core.np_dtype(dtype))
        for _, dtype, shape in program.inputs
    ]


PLAN = re.compile(r"# (\w+) (trn[123])\n")


def _carry_out(head: re.Match, text: str) -> None:
    """Compile the kernel that the text's first line names with the text as its plan."""
    fn, specs = next((k for k in KERNELS if k[0].__name__ == head[1]), KERNELS[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _typed(
            lambda: nkigen.compile(fn, *specs, target=head[2], plan=text, cache=False)
        )


def _pass_on(text: str | None, names: Sequence[str]) -> None:
    """Through one pass after the other, as far as it gets."""
    for name in names:
        text = _typed(_core.run_pass, name, text, "trn2")
        if text is None:
            break


def exercise(text: str, thorough: bool = True) -> str:
    """Do with a text all that one can do; how it ended: "accepted" or an error's class.

    Raises what should not happen: InternalError, untyped errors, a program that does not
    print as it was parsed.

    Example:
        >>> exercise("tensor @f {")
        'ParseError'
    """
    if head := PLAN.match(text):
        _carry_out(head, text)
    try:
        program = nkigen.parse(text)
    except InternalError:
        raise
    except (NkigenError, MemoryError) as e:
        return type(e).__name__
    printed = str(program)
    if str(nkigen.parse(printed)) != printed:
        raise AssertionError("printing and parsing is not the identity")
    repr(program), program.outputs, program.aliases, program.ops
    found = _typed(program.verify)
    tile = program.kind == "tile"
    if tile:
        _typed(program.cost)
        source = _typed(program.nki)
        if source is not None and thorough:
            compile(source, "<kernel>", "exec")
    arrays = _arrays(program)
    if arrays is not None:
        _typed(lambda: program.run(*arrays, max_work=MAX_WORK))
    if program.kind == "plan":
        _pass_on(text, PLAN_PASSES)
    elif thorough:
        _pass_on(text, TILE_PASSES if tile else TENSOR_PASSES)
    return "VerifyError" if found else "accepted"


# ---- the two kinds of cases


class TextCases:
    """Mutants by number; the same number and seed are the same mutant."""

    def __init__(self, seed: int, folders: Sequence[str] = ()) -> None:
        self.seed, self.texts = seed, corpus(folders)

    def rng(self, i: int) -> Random:
        """The source of chance of a mutant."""
        return Random(self.seed << 40 | i)

    def text(self, i: int) -> str:
        """The mutant."""
        return mutate(self.rng(i), self.texts)

    def run(self, i: int) -> str:
        """All that a Program can do with it; says what came of it."""
        return exercise(self.text(i), thorough=i % 8 == 0)


class ProgramCases:
    """Random NumPy programs by number, for the targets in turn."""

    def __init__(self, seed: int, folders: Sequence[str] = ()) -> None:
        self.seed = seed

    def program(self, i: int) -> Any:
        """The program of a number."""
        rng = Random(self.seed << 40 | i)
        return random_program(rng, rng.choice([3, 8, 8, 20]), rng.choice([0, 0.4, 0.7]))

    def text(self, i: int) -> str:
        """Its inputs and its source."""
        p = self.program(i)
        head = " ".join(f"{v.name}:{v.dtype}{v.shape}:{v.kind}" for v in p.inputs)
        return f"# {head} {p.statics or ''}\n{p.source}"

    def run(self, i: int) -> str:
        """Compile it for every target and compare all executors."""
        program = self.program(i)
        for target in TARGETS:
            check_program(program, target, every_pass=i % 2 == 0)
        return "agreed"


# ---- children, watched


class Shared:
    """What a child tells its parent without a system call: the case and a count."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 4096)

    def note(self, case: int) -> None:
        """The child is at this case."""
        struct.pack_into("q", self.memory, 0, case)

    def case(self) -> int:
        """Where the child is, or was when it ended."""
        return struct.unpack_from("q", self.memory, 0)[0]


def _child(cases: Any, numbers: range, shared: Shared, path: str) -> None:
    counts: Counter = Counter()
    with open(path, "a", encoding="utf-8") as out:

        def tell(**what: Any) -> None:
            out.write(json.dumps(what) + "\n")
            out.flush()

        for k, i in enumerate(numbers):
            shared.note(i)
            try:
                counts[cases.run(i)] += 1
            except KeyboardInterrupt:
                break
            except BaseException:
                counts["internal"] += 1
                tell(case=i, why=traceback.format_exc(limit=-4))
            if k % 64 == 63:
                tell(counts=counts)
                counts.clear()
        tell(counts=counts)


def _watch(pid: int, shared: Shared, hang_s: float, until: float) -> str:
    """Waits for the child: "done", "crash", "hang" or "time"."""
    last, since = -1, time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "done" if status == 0 else "crash"
        now = time.monotonic()
        if shared.case() != last:
            last, since = shared.case(), now
        why = "hang" if now - since > hang_s else "time" if now > until else ""
        if why:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return why
        time.sleep(0.02)


def _fork(cases: Any, numbers: range, shared: Shared, path: str) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _child(cases, numbers, shared, path)
        code = 0
    finally:
        os._exit(code)


def _read(path: str) -> Iterator[dict]:
    with open(path, encoding="utf-8") as f:
        for line in f:
            yield json.loads(line)


def fuzz(
    cases: Any,
    first: int,
    count: int,
    *,
    seconds: float = float("inf"),
    hang_s: float = HANG_S,
    report: Callable[[str, int, str, str], None] = lambda *_: None,
) -> Counter:
    """Run `count` cases from number `first` in children; how they ended, by word.

    `report` is called with ("internal" | "crash" | "hang", case, text, traceback).

    Example:
        >>> fuzz(TextCases(1), 0, 10).total()       # doctest: +SKIP
        10
    """
    counts: Counter = Counter()
    shared, until = Shared(), time.monotonic() + seconds
    at, end = first, first + count
    while at < end and time.monotonic() < until:
        with tempfile.NamedTemporaryFile("w+") as log:
            shared.note(at)
            pid = _fork(cases, range(at, end), shared, log.name)
            how = _watch(pid, shared, hang_s, until)
            for row in _read(log.name):
                counts.update(row.get("counts", {}))
                if "case" in row:
                    report("internal", row["case"], cases.text(row["case"]), row["why"])
        case = shared.case()
        if how in ("crash", "hang"):
            counts[how] += 1
            report(how, case, cases.text(case), "")
        at = end if how in ("done", "time") else case + 1
    return counts


# ---- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m nkigen fuzz`."""
    parser.add_argument("what", choices=["text", "programs"])
    parser.add_argument("count", type=int, help="cases to run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop after this time"
    )
    parser.add_argument("--hang", type=float, help="seconds that a case may take")
    parser.add_argument(
        "--corpus", action="append", default=[], metavar="DIR", help="texts to mutate"
    )
    parser.add_argument("--save", metavar="DIR", help="write each finding's text there")


def run(args: argparse.Namespace) -> int:
    """Fuzz; 1 when anything was found.

    Example:
        >>> from nkigen.cli import main
        >>> main(["fuzz", "text", "100"])            # doctest: +SKIP
        0
    """
    kind = TextCases if args.what == "text" else ProgramCases
    cases = kind(args.seed, args.corpus)
    hang_s = args.hang or (HANG_S if args.what == "text" else 120.0)

    def report(how: str, case: int, text: str, why: str) -> None:
        print(f"-- {how}: --seed {args.seed} --first {case}\n{why}")
        if args.save:
            folder = Path(args.save)
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{how}-{args.seed}-{case}.txt"
            (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        else:
            print(text[:4000].encode("ascii", "backslashreplace").decode())

    begin = time.monotonic()
    counts = fuzz(
        cases,
        args.first,
        args.count,
        seconds=args.seconds,
        hang_s=hang_s,
        report=report,
    )
    seconds = time.monotonic() - begin
    bad = sum(counts[how] for how in ("internal", "crash", "hang"))
    ends = ", ".join(f"{n} {how}" for how, n in sorted(counts.items()))
    rate = counts.total() / max(seconds, 1e-9)
    print(f"{counts.total()} {args.what} in {seconds:.1f} s ({rate:.0f}/s): {ends}")
    print(f"crashes {counts['crash']}, hangs {counts['hang']}, internal errors "
          f"{counts['internal']}")  # fmt: skip
    return 1 if bad else 0
