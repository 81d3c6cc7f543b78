"""How much of csrc/ the tests run: lines and branches of each file, and in total.

    python .ci/coverage.py                        a copy of the tree, built with gcov; all tests; the table
    python .ci/coverage.py tests/ops tests/errors     the same with some of them
    python .ci/coverage.py --keep DIR             ... in a directory that stays
    python .ci/coverage.py --report DIR           the table of such a directory, nothing is run
    python .ci/coverage.py --report DIR --missing csrc/cost      what never ran, line by line

Lines and branches are what gcov counts in an unoptimized build with assertions off: a branch is one way out of a condition,
also of each && and ||. Left out of the branches, and shown beside them, are the ways that only a failing allocation
takes: gcov's branches on lines with TRY, NEW or VEC_PUSH, and in py/ those of conditions on an object that Python could
not make (`if (!list)`). tests/ext/test_failing_memory.py and test_failing_python.py take them by failing one
allocation after the other.

Exit status 1 when the tests fail, or lines or branches are below --lines and --branches percent.
"""

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: passes a failure on: the second way out is that of a failing allocation
PASSES_ON = re.compile(r"\b(TRY|NEW|VEC_PUSH)\(")
#: conditions of py/ that ask whether Python made an object, and nothing else
MADE = re.compile(r"^\s*(\} else )?if \((!\w+(->\w+)?( \|\| )?)+\)( \{)?$|^\s*Py_VISIT\(|^\s*Py_X?(CLEAR|SETREF)\(")


def build_and_test(tree, tests):
    """A copy of the tree with counters in it; the exit status of its tests."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in names.stdout.split():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    env = {**os.environ, "PYTHONPATH": str(tree), "NKIGEN_COVERAGE": "1"}
    env.pop("NKIGEN_DEBUG", None)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tree, env=env, check=True, stdout=subprocess.DEVNULL)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=tree, env=env).returncode


def counts(tree):
    """file -> line -> [count, counts of its branches]; a line of several functions is their sum."""
    files = defaultdict(dict)
    with tempfile.TemporaryDirectory() as out:
        data = [str(p.resolve()) for p in tree.glob("build/**/*.gcda")]
        if not data:
            raise SystemExit(f"{tree} has no counts")
        subprocess.run(["gcov", "-j", "-b", *data], cwd=out, check=True, stdout=subprocess.DEVNULL)
        for path in Path(out).glob("*.gcov.json.gz"):
            with gzip.open(path) as f:
                found = json.load(f)["files"]
            for name, lines in ((f["file"], f["lines"]) for f in found):
                if not re.fullmatch(r"csrc/\w+/\w+\.c", name):
                    continue
                for line in lines:
                    branches = [b["count"] for b in line["branches"]]
                    have = files[name].setdefault(line["line_number"], [0, []])
                    have[0] += line["count"]
                    if len(have[1]) == len(branches):
                        have[1] = [a + b for a, b in zip(have[1], branches)]
                    else:
                        have[1] = have[1] + branches
    return files


def is_of_memory(name, text):
    return bool(PASSES_ON.search(text) or (name.startswith("csrc/py/") and MADE.search(text)))


class Total:
    """Lines run and all; branches taken and all; the same of those that only a failing allocation takes."""

    def __init__(self):
        self.n = [0] * 6

    def add(self, other):
        self.n = [a + b for a, b in zip(self.n, other.n)]

    def count(self, ran, taken, of_memory):
        k = 4 if of_memory else 2
        self.n[0] += ran > 0
        self.n[1] += 1
        self.n[k] += sum(t > 0 for t in taken)
        self.n[k + 1] += len(taken)

    def percent(self, k):
        return 100.0 * self.n[k] / self.n[k + 1] if self.n[k + 1] else 100.0

    def row(self, name):
        a, b, c, d, e, f = self.n
        return (
            f"{name:32}{a:6}/{b:<6}{self.percent(0):6.1f}%{c:7}/{d:<6}{self.percent(2):6.1f}%"
            f"{e:7}/{f:<6}{self.percent(4):6.1f}%"
        )


def report(tree, missing):
    files, rows, total = counts(tree), [], Total()
    for name in sorted(files):
        source, t = (tree / name).read_text().splitlines(), Total()
        for number, (ran, taken) in sorted(files[name].items()):
            text = source[number - 1]
            of_memory = is_of_memory(name, text)
            t.count(ran, taken, of_memory)
            if missing and name.startswith(missing) and (not ran or (0 in taken and not of_memory)):
                print(f"{name}:{number}: {'never' if not ran else taken}: {text.strip()}")
        rows.append((t.percent(2), t.row(name)))
        total.add(t)
    if not missing:
        print(f"{'':32}{'lines':>13}{'branches':>22}{'... of failing memory':>30}")
        print(*(row for _, row in sorted(rows)), sep="\n")
    print(total.row("total"))
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="*", help="and options of pytest after --")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--missing", help="beginning of the paths whose gaps are shown")
    parser.add_argument("--lines", type=float, default=95)
    parser.add_argument("--branches", type=float, default=85)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tree = args.report or args.keep or Path(scratch)
        status = 0 if args.report else build_and_test(tree, args.tests)
        total = report(tree, args.missing)
    return status or int(total.percent(0) < args.lines or total.percent(2) < args.branches)


if __name__ == "__main__":
    sys.exit(main())
