"""Are the tests strong enough to see a fault? Puts one small fault at a time into the C code and runs them.

    python .ci/mutate.py --count 10 --seed 1      ten mutants drawn by the seed
    python .ci/mutate.py --count 100 --jobs 2     a hundred, on two cores
    python .ci/mutate.py --only csrc/cost         of some files
    python .ci/mutate.py --count 10 --list        shows them, runs nothing

A mutant is one change on one line: a comparison moved by one or turned round, && for ||, + for -, MIN for MAX, a constant
off by one, a condition negated, a statement left out, true for false. It is built in a copy of the tree (one object and
the link). First run the tests that reach its function, by the map of reach.py, beside the first two of its folder;
then the prices of the workloads, the tests of its folder, all tests. The first failure ends the run. Caught: a test
fails, the process crashes, or it takes far longer than without the mutant (a hang). Mutants that do not compile, that
warn, or whose object is the original's to the byte are no mutants and are drawn again.

.ci/mutants.txt lists mutants that no test can see, each with the reason: `file`, `- line`, `+ line`, reason, blank line.

Exit status 1 when more than 5 % (and more than one) survive without a reason. At the end every test that has failed is
run without a mutant, and has to pass, or nothing is said.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from reach import read_map

ROOT = Path(__file__).resolve().parent.parent
ACCEPTED = Path(__file__).with_name("mutants.txt")

#: tests by the folder of the mutated file, most likely first, where those that reach its function pass
FIRST = {
    "base": ["tests/ops/test_tile_ops.py", "tests/passes", "tests/errors", "tests/golden", "tests/ext/test_ext.py"],
    "ir": ["tests/golden", "tests/errors", "tests/verify", "tests/passes", "tests/ext/test_structures.py"],
    "tensor": ["tests/passes", "tests/golden", "tests/errors", "tests/ops"],
    "tile": [
        "tests/verify",
        "tests/mutation",
        "tests/golden",
        "tests/ops/test_tile_ops.py",
        "tests/test_lowering_cases.py",
    ],
    "cost": ["tests/test_cost_instr.py", "tests/test_cost.py", "tests/golden"],
    "plan": ["tests/golden", "tests/test_plan_check.py", "tests/test_plan_text.py", "tests/passes", "tests/test_lowering_cases.py", "tests/ops/test_ops.py"],
    "lower": ["tests/golden", "tests/passes", "tests/test_lowering_cases.py", "tests/ops/test_ops.py"],
    "pass": ["tests/golden", "tests/passes", "tests/test_lowering_cases.py", "tests/ops/test_ops.py"],
    "eval": ["tests/ops/test_tile_ops.py", "tests/golden", "tests/prop/test_ranges.py"],
    "emit": ["tests/golden", "tests/test_emit_nki.py"],
    "driver": ["tests/test_plan_limits.py", "tests/golden", "tests/passes", "tests/test_call_arguments.py"],
    "py": ["tests/errors", "tests/ext/test_leaks.py", "tests/ext/test_cells.py", "tests/golden", "tests/ops"],
}
#: not of the C code, or of its text, or minutes long
LEFT_OUT = ["tests/lint", "tests/test_readme.py", "tests/ext/test_fork.py"]


# ---- mutants


@dataclass(frozen=True)
class Mutant:
    path: str
    line: int
    old: str
    new: str
    kind: str

    def diff(self):
        return f"{self.path}:{self.line}\n- {self.old.strip()}\n+ {self.new.strip()}"

    def key(self):
        return self.path, self.old.strip(), self.new.strip()

    def function(self):
        """The name of the function around the line; the name stands at the beginning of a line of its own."""
        for line in reversed((ROOT / self.path).read_text().splitlines()[: self.line]):
            if m := re.match(r"(\w+)\(", line):
                return m[1]
        return ""


SWAPS = [
    ("comparison", r" < ", " <= "),
    ("comparison", r" <= ", " < "),
    ("comparison", r" > ", " >= "),
    ("comparison", r" >= ", " > "),
    ("comparison", r" == ", " != "),
    ("comparison", r" != ", " == "),
    ("comparison", r" < ", " >= "),
    ("comparison", r" > ", " <= "),
    ("logic", r" && ", " || "),
    ("logic", r" \|\| ", " && "),
    ("arithmetic", r" \+ ", " - "),
    ("arithmetic", r" - ", " + "),
    ("arithmetic", r" \+= ", " -= "),
    ("arithmetic", r" -= ", " += "),
    ("arithmetic", r"\bMIN\(", "MAX("),
    ("arithmetic", r"\bMAX\(", "MIN("),
    ("result", r"\breturn true;", "return false;"),
    ("result", r"\breturn false;", "return true;"),
    ("result", r"\breturn !", "return "),
]
SKIP = re.compile(r"^\s*(#|/\*|\*|//|case\b|enum\b|typedef\b|assert\(|static const\b|OP\(|\w+:$)|\\$|_Static_assert")
STATEMENT = re.compile(
    r"^\s+(?=\S)(?!return\b|break\b|continue\b|goto\b|else\b|for\b|if\b|while\b|do\b|case\b|default\b)"
)
DECLARATION = re.compile(r"^\s*(const |static |unsigned |struct |enum )?[A-Za-z_]\w*( const)? [*\w]+( =|;|,|\[)")


def blanked(text):
    """The C text with comments and literals as blanks, so that columns stay."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def of_line(code, line, before):
    """(kind, new line) of every mutant of a line; `code` is the blanked line."""
    for kind, old, new in SWAPS:
        for m in re.finditer(old, code):
            yield kind, line[: m.start()] + new + line[m.end() :]
    if not re.search(r"\w\[\d+\];", code):
        for m in re.finditer(r"(?<![\w.#%])(\d+)(?![\w.])", code):
            yield "constant", line[: m.start()] + str(int(m[1]) + 1) + line[m.end() :]
    m = re.match(r"^(\s*(?:\} else )?(?:if|while)) \((.*)\)( \{)?$", code)
    if m and m[2].count("(") == m[2].count(")"):
        yield "condition", f"{line[: m.end(1)]} (!{line[m.end(1) + 1 : m.end(2) + 1]}){m[3] or ''}"
    whole = code.rstrip().endswith(";") and re.search(r"(^|[;{})])\s*$|\*/\s*$", before)
    if whole and STATEMENT.match(code) and not DECLARATION.match(code) and re.search(r"[=(]|\+\+|--", code):
        if code.count("(") == code.count(")"):
            yield "statement", re.match(r"\s*", line)[0] + ";"


def mutants_of(path):
    text = (ROOT / path).read_text()
    lines, codes = text.splitlines(), blanked(text).splitlines()
    for i, (line, code) in enumerate(zip(lines, codes)):
        if not code.strip() or SKIP.search(code) or not line.startswith(" "):
            continue
        before = next((c for c in reversed(codes[:i]) if c.strip()), "")
        for kind, new in of_line(code, line, before):
            yield Mutant(path, i + 1, line, new, kind)


def accepted():
    """The mutants of the list: (file, old line, new line) -> reason."""
    found = {}
    for block in ACCEPTED.read_text().split("\n\n"):
        rows = [row for row in block.splitlines() if row and not row.startswith("#")]
        if rows:
            path, old, new, *reason = rows
            assert old[:2] == "- " and new[:2] == "+ " and reason, block
            found[path, old[2:], new[2:]] = " ".join(reason)
    return found


# ---- a copy of the tree that is built and tested


class Place:
    def __init__(self, where, built=None):
        self.tree = Path(where)
        if built:
            shutil.copytree(built.tree, self.tree)
        import numpy

        self.cc = [*os.environ.get("CC", "gcc").split(), "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g0"]
        self.cc += ["-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-UNDEBUG", "-Icsrc"]
        self.cc += ["-ffp-contract=off"]
        self.cc += [f"-I{numpy.get_include()}", f"-I{sysconfig.get_paths()['include']}"]
        self.library = self.tree / ("nkigen/_core" + sysconfig.get_config_var("EXT_SUFFIX"))
        if not built:
            self.build()

    def build(self):
        names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in names.split():
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.tree / name)
        (self.tree / "objects").mkdir()
        sources = [str(p.relative_to(self.tree)) for p in sorted(self.tree.glob("csrc/**/*.c"))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            if not all(pool.map(self.compile, sources)):
                raise SystemExit("the tree does not compile without warnings")

    def object_of(self, path):
        return self.tree / "objects" / (path.replace("/", "_")[:-1] + "o")

    def compile(self, path):
        contract = ["-ffp-contract=fast"] if path == "csrc/eval/gemm.c" else []  # as setup.py has it
        command = [*self.cc, *contract, "-c", path, "-o", str(self.object_of(path))]
        return subprocess.run(command, cwd=self.tree, stderr=subprocess.DEVNULL).returncode == 0

    def link(self):
        objects = [str(p) for p in sorted((self.tree / "objects").glob("*.o"))]
        self.library.unlink(missing_ok=True)
        subprocess.run(["gcc", "-shared", "-o", str(self.library), *objects, "-lm", "-lpthread"], check=True)

    def run(self, tests, limit, done=()):
        """(what ended it, the last lines): "passed", "failed", "hung" or "crashed". Without the tests of `done`."""
        env = {**os.environ, "PYTHONPATH": str(self.tree), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--tb=line"]
        command += [f"--ignore={p}" for p in [*LEFT_OUT, *done]] + tests
        with tempfile.TemporaryFile("w+") as log:
            child = subprocess.Popen(
                command,
                cwd=self.tree,
                env=env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                code = child.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return "hung", ""
            log.seek(0)
            tail = log.read()
        if code in (0, 5):  # 5: no test of these is to run
            return "passed", tail
        return ("failed" if code == 1 else "crashed"), tail

    def must_pass(self, tests, limit=600):
        """What the tests say without a mutant; nothing that is said with one counts when they do not pass."""
        self.link()
        end, tail = self.run(tests, limit)
        if end != "passed":
            raise SystemExit(f"without a mutant: {end}\n{tail[-2000:]}")
        return tail

    def price(self):
        """Instruction counts and bytes of the workloads against the baseline."""
        env = {**os.environ, "PYTHONPATH": str(self.tree)}
        command = [sys.executable, "-m", "nkigen", "bench", "--baseline", "tests/baseline.json", "--no-sim"]
        try:
            done = subprocess.run(command, cwd=self.tree, env=env, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            return "hung"
        return "passed" if done.returncode == 0 else "failed"

    def is_mutant(self, m):
        """Builds it; false when it does not compile or is the original. The source is put back."""
        source, obj = self.tree / m.path, self.object_of(m.path)
        text, was = source.read_text(), obj.read_bytes()
        lines = text.splitlines(keepends=True)
        lines[m.line - 1] = m.new + "\n"
        source.write_text("".join(lines))
        ok = self.compile(m.path) and obj.read_bytes() != was
        source.write_text(text)
        self.original = obj, was
        if not ok:
            obj.write_bytes(was)
        return ok

    def put_back(self):
        obj, was = self.original
        obj.write_bytes(was)

    def is_slow(self, tests, limit, done):
        """Whether tests that did not end have none to thank for it: they take as long without the mutant."""
        obj, _ = self.original
        mutant = obj.read_bytes()
        self.put_back()
        self.link()
        end, _ = self.run(tests, limit, done)
        obj.write_bytes(mutant)
        self.link()
        return end == "hung"

    def judge(self, m, nearest, limit, quick):
        """What the tests say of a mutant that is built: the nearest, the prices, those of its folder, all."""
        self.link()
        folder = [t for t in FIRST[m.path.split("/")[1]] if (self.tree / t).exists()]
        steps = [([*folder[:2], *nearest], limit / 2, ()), (folder, limit / 2, ()), (["tests"], limit, folder)]
        for i, (tests, seconds, done) in enumerate(steps[:1] if quick else steps):
            end, tail = self.run(tests, seconds, done)
            if end == "hung" and self.is_slow(tests, seconds, done):
                end = "passed"
            if end == "passed" and i == 0 and not quick:
                end, tail = self.price(), ""
            if end != "passed":
                break
        return end, tail


def said(end, test):
    if end in ("failed", "crashed", "hung"):
        return f"{end} {test[1] if test else ''}"
    return "SURVIVED" if end == "passed" else f"no test can: {end}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="csrc", help="beginning of the paths to mutate")
    parser.add_argument("--quick", action="store_true", help="only the tests that reach the function")
    parser.add_argument("--limit", type=float, default=300, help="seconds after which a mutant hangs")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    paths = [str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("csrc/**/*.c"))]
    drawn = [m for p in paths if p.startswith(args.only) for m in mutants_of(p)]
    rng = random.Random(args.seed)
    rng.shuffle(drawn)
    if args.list:
        print(*(f"{m.kind}: {m.diff()}" for m in drawn[: args.count]), sep="\n")
        return 0
    known, began = accepted(), time.time()
    print(f"{len(drawn)} possible mutants; building", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        places, first = Queue(), Place(f"{scratch}/0")
        collected = set(first.must_pass(["tests", "--collect-only"]).splitlines())
        reach = {f: [t for t in tests if t in collected] for f, tests in read_map().items()}
        for place in [first, *(Place(f"{scratch}/{i}", first) for i in range(1, args.jobs))]:
            places.put(place)
        ends, left, failed = [], iter(drawn), set()

        def one(_):
            place = places.get()
            try:
                m = next(m for m in left if place.is_mutant(m))
                end, tail = known.get(m.key()), ""
                if not end:
                    end, tail = place.judge(m, reach.get((m.path, m.function()), []), args.limit, args.quick)
                place.put_back()
                test = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", tail, re.M)
                failed.update([test[1] if test else ""] if end == "failed" else [])
                print(f"[{time.time() - began:.0f}s] {m.kind}: {m.diff()}\n  {said(end, test)}", flush=True)
                ends.append((m, end))
            finally:
                places.put(place)

        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(one, range(args.count)))
        if failed & collected:
            first.must_pass(sorted(failed & collected))
        if "" in failed and first.price() != "passed":
            raise SystemExit("without a mutant: the workloads miss their baseline")
    survivors = [m for m, end in ends if end == "passed"]
    reasons = sum(m.key() in known for m, _ in ends)
    print(
        f"\n{len(ends)} mutants in {time.time() - began:.0f} s: {len(ends) - len(survivors) - reasons} caught, {reasons} equivalent"
    )
    print(f"{len(survivors)} survived", *(m.diff() for m in survivors), sep="\n")
    return int(len(survivors) > max(1, 0.05 * len(ends)))


if __name__ == "__main__":
    sys.exit(main())
