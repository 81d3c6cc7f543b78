"""Which tests reach which function of the C code: what mutate.py runs first.

    python .ci/reach.py              a copy of the tree that notes what runs; all tests; writes .ci/reach.txt
    python .ci/reach.py tests/ops    some tests: what that says of a tree before it is written

The copy is compiled with -fsanitize-coverage=trace-pc, which calls us at every basic block. After each test that passes (some
bound their time, which this build takes twice of) the blocks that ran are taken down. For each function a few tests are kept that together run what any test runs of it, each block by
three of them where three do, of several files, the quick ones first. The map only says what to try first: a test that it does not know, or a
function that has another name by now, costs time and loses no fault. tests/lint does not ask that it is new.

.ci/reach.txt: a line `file::test seconds` for every test that is named, numbered from 0; an empty line; a line
`csrc/file.c function numbers` for every function.
"""

import argparse
import os
import pickle
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MAP = Path(__file__).with_name("reach.txt")
#: tests kept for a function, and how many of them run each block
MOST, TWICE = 14, 3

RUNTIME = r"""
#include <stdint.h>
extern char __ehdr_start[] __attribute__((visibility("hidden")));
static uint8_t ran[1 << 24];
__attribute__((visibility("default"))) uint8_t *reach_ran = ran;
/* Resolvers of ifuncs call it before anything is relocated: hidden, and nothing by way of the GOT. */
__attribute__((visibility("hidden"))) void
__sanitizer_cov_trace_pc(void)
{
    ran[((uintptr_t)__builtin_return_address(0) - (uintptr_t)__ehdr_start) & (sizeof ran - 1)] = 1;
}
"""

PLUGIN = r"""
import ctypes, os, pickle, time
import numpy as np
import pytest
from nkigen import _core

seen, failed = {}, set()
limit = int(os.environ["REACH_TEXT"])
address = ctypes.c_void_p.in_dll(ctypes.CDLL(_core.__file__), "reach_ran").value
ran = np.ctypeslib.as_array((ctypes.c_uint8 * limit).from_address(address))

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    ran[:] = 0
    began = time.perf_counter()
    result = yield
    seen[item.nodeid] = (time.perf_counter() - began, np.flatnonzero(ran).astype(np.uint32))
    return result

def pytest_runtest_logreport(report):
    if report.failed:
        failed.add(report.nodeid)

def pytest_sessionfinish():
    for name in failed:
        seen.pop(name, None)
    with open(os.environ["REACH_OUT"], "wb") as f:
        pickle.dump(seen, f)
"""


def build(tree):
    """A copy of the tree whose library takes down the blocks that run; the library."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.split():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    (tree / "reach_runtime.c").write_text(RUNTIME)
    (tree / "reach_plugin.py").write_text(PLUGIN)
    (tree / "objects").mkdir()
    flags = ["-std=gnu11", "-O1", "-g1", "-fno-inline", "-fPIC", "-fvisibility=hidden", "-fno-math-errno"]
    flags += ["-fno-trapping-math", "-ffp-contract=off", "-Icsrc", f"-I{np.get_include()}"]
    flags += [f"-I{sysconfig.get_paths()['include']}"]

    def compile_one(path):
        trace = ["-fsanitize-coverage=trace-pc"] if path.startswith("csrc") else []
        obj = "objects/" + path.replace("/", "_")[:-1] + "o"
        command = [*os.environ.get("CC", "gcc").split(), *flags, *trace, "-c", path, "-o", obj]
        subprocess.run(command, cwd=tree, check=True)
        return obj

    sources = [str(p.relative_to(tree)) for p in sorted(tree.glob("csrc/**/*.c"))] + ["reach_runtime.c"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    library = tree / ("nkigen/_core" + sysconfig.get_config_var("EXT_SUFFIX"))
    subprocess.run(["gcc", "-shared", "-o", str(library), *objects, "-lm", "-lpthread"], cwd=tree, check=True)
    return library


def run(tree, library, tests):
    """test -> (seconds, addresses that ran)."""
    table = subprocess.run(["readelf", "-SW", str(library)], capture_output=True, text=True, check=True).stdout
    start, size = re.search(r"\.text\s+PROGBITS\s+(\w+) \w+ (\w+)", table).groups()
    env = {**os.environ, "PYTHONPATH": str(tree), "REACH_OUT": str(tree / "reach.pickle")}
    env["REACH_TEXT"] = str(int(start, 16) + int(size, 16))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "reach_plugin", "-m", "not slow"]
    subprocess.run([*command, "--ignore=tests/lint", *tests], cwd=tree, env=env)
    return pickle.loads((tree / "reach.pickle").read_bytes())


def functions_of(library, addresses):
    """address -> (file, function) of those in csrc."""
    text = "\n".join(hex(a - 1) for a in addresses)
    out = subprocess.run(
        ["addr2line", "-f", "-e", str(library)], input=text, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = {}
    for a, name, place in zip(addresses, out[::2], out[1::2]):
        m = re.search(r"(csrc/\w+/\w+\.(?:c|def|h))", place)
        if m:
            found[a] = m[1], name
    return found


def choose(ran, seconds, files):
    """A few tests that run the blocks of one function: `ran` says which test runs which, `files` where tests stand."""
    need, worth_of_one, chosen = np.minimum(ran.sum(0), TWICE), 1 / (seconds + 0.05), []
    for _ in range(MOST):
        worth = (ran @ (need > 0)) * worth_of_one
        best = int(worth.argmax())
        if worth[best] <= 0:
            break
        chosen.append(best)
        need -= ran[best] & (need > 0)
        worth_of_one[files == files[best]] /= 2
        worth_of_one[best] = 0
    return chosen


def write(ran, where):
    tests, addresses = sorted(ran), np.array(sorted(where), np.uint32)
    seconds = np.array([ran[t][0] for t in tests])
    files = np.unique([t.partition("::")[0] for t in tests], return_inverse=True)[1]
    matrix = np.zeros((len(tests), len(addresses)), bool)
    for row, t in zip(matrix, tests):
        row[:] = np.isin(addresses, ran[t][1])
    columns = defaultdict(list)
    for i, a in enumerate(addresses.tolist()):
        columns[where[a]].append(i)
    numbers, rows = {}, []
    for (path, name), blocks in sorted(columns.items()):
        mine = matrix[:, blocks]
        reach = np.flatnonzero(mine.any(1))
        chosen = reach[choose(mine[reach], seconds[reach], files[reach])]
        rows.append(f"{path} {name} " + " ".join(str(numbers.setdefault(t, len(numbers))) for t in chosen))
    names = [f"{tests[t]} {seconds[t]:.2f}" for t in numbers]
    MAP.write_text("\n".join([*names, "", *rows]) + "\n")
    print(f"{len(rows)} functions, {len(names)} tests of {len(tests)}, {MAP.stat().st_size} bytes")


def read_map():
    """(file, function) -> the tests to try first, in order."""
    tests, _, rows = MAP.read_text().partition("\n\n")
    names = [line.rpartition(" ")[0] for line in tests.splitlines()]
    found = {}
    for row in rows.splitlines():
        path, function, *numbers = row.split(" ")
        found[path, function] = [names[int(n)] for n in numbers if n]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="*", default=[])
    parser.add_argument("--keep", type=Path, help="a new directory for the copy that stays")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tree = args.keep or Path(scratch)
        library = build(tree)
        ran = run(tree, library, args.tests)
        addresses = np.unique(np.concatenate([a for _, a in ran.values()])).tolist()
        write(ran, functions_of(library, addresses))


if __name__ == "__main__":
    main()
