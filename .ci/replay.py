"""What the compiler makes of some hundred programs, as hashes: a change that means none changes none.

    python .ci/replay.py capture FILE    at the commit to compare with
    python .ci/replay.py compare FILE    after the change: which programs differ, and from which stage on

The programs: all workloads x dtypes x targets x shapes, the lowering cases of the tests, and seeded random programs.
Each has one hash per stage and one for its NKI source; a program that is refused has that of the message.
"""

import hashlib
import importlib.util
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random

import nkigen
from nkigen import fuzz_programs, workloads

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("trn1", "trn2", "trn3")
RANDOM = 300
#: elements; larger workloads take seconds
LARGE = 1 << 23


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stages(fn, *arguments, target="trn2") -> dict[str, str]:
    """Hash by stage."""
    try:
        kernel = nkigen.compile(fn, *arguments, target=target, cache=False)
        hashes = {name: sha(str(stage)) for name, stage in kernel.stages.items()}
    except nkigen.NkigenError as e:
        return {"error": sha(str(e))}
    try:
        return {**hashes, "nki": sha(kernel.nki())}
    except nkigen.NkigenError as e:
        return {**hashes, "nki": sha(str(e))}


def of_workloads() -> Iterator[tuple[str, dict[str, str]]]:
    for name, w in workloads.WORKLOADS.items():
        for k, shapes in enumerate([w.shapes, *w.small]):
            for dtype in ("f32", "bf16"):
                for target in TARGETS:
                    specs = w.specs(dtype, shapes)
                    yield f"{name} {k} {dtype} {target}", stages(
                        w.fn, *specs, target=target
                    )


def of_cases() -> Iterator[tuple[str, dict[str, str]]]:
    path = ROOT / "tests" / "test_lowering_cases.py"
    spec = importlib.util.spec_from_file_location("cases", path)
    assert spec and spec.loader
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    for name, fn, shapes, dtypes in cases.CASES:
        arrays = cases.arrays(shapes, dtypes)
        for target in TARGETS:
            yield f"case {name} {target}", stages(fn, *arrays, target=target)


def of_random() -> Iterator[tuple[str, dict[str, str]]]:
    for seed in range(RANDOM):
        p = fuzz_programs.random_program(Random(seed))
        target = TARGETS[seed % len(TARGETS)]
        yield f"random {seed}", stages(
            p.function(), *p.arguments(p.arrays()), target=target
        )


def replay() -> dict[str, dict[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            k: v for source in (of_workloads, of_cases, of_random) for k, v in source()
        }


def differences(
    before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]
) -> list[str]:
    out = [
        f"{name}: only {'before' if name in before else 'after'}"
        for name in before.keys() ^ after.keys()
    ]
    for name in before.keys() & after.keys():
        a, b = before[name], after[name]
        if a != b:
            first = next(k for k in [*a, *b] if a.get(k) != b.get(k))
            out.append(f"{name}: from {first} on")
    return sorted(out)


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ("capture", "compare"):
        print(__doc__)
        return 2
    path = Path(sys.argv[2])
    now = replay()
    if sys.argv[1] == "capture":
        path.write_text(json.dumps(now, indent=0))
        print(f"{len(now)} programs")
        return 0
    found = differences(json.loads(path.read_text()), now)
    print("\n".join([*found[:40], f"{len(found)} of {len(now)} programs differ"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
