"""Plans edited as somebody would by hand: groups split, merged, moved, other homes, spans and numbers.

    python tests/prop/plan_edits.py 1000 SEED

compiles 1000 random programs with edited plans: each edit is obeyed and computes what the
program says, or is refused with a line and a column.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from random import Random

import numpy as np

import nkigen
from nkigen import fuzz_programs
from nkigen.check import bounds, explain

TARGETS = ("trn1", "trn2", "trn3")
NUMBERS = {
    "per_tile": (1, 1, 2, 3, 8),
    "in_place": (0, 1),
    "bufs": (1, 2, 3),
    "psum_width": (512, 1024, 2048),
    "psum_bufs": (1, 2),
    "scalar_sums": (0, 1),
    "resident": (0, 4096, 65536),
    "panel": (512, 1024, 2048),
}


class Group:
    """`head` is its first line without the number; members are lines without indent."""

    def __init__(self, head: str, members: list[str]) -> None:
        self.head, self.members = head, members

    def number(self, name: str) -> int:
        m = re.search(rf"\b{name}=(\d+)", self.head)
        return int(m[1]) if m else 0

    def without_columns(self) -> None:
        self.head = re.sub(r" (cols|panel)=\d+", "", self.head)
        self.members = [re.sub(r" cols \[\d+,\d+\)", "", m) for m in self.members]


class Text:
    """A plan's text taken apart; str() puts it together again."""

    def __init__(self, plan: str) -> None:
        self.program, header, rest = re.split(
            r"^(plan .*)$", plan, maxsplit=1, flags=re.M
        )
        self.header, self.loose, self.groups = header, [], []
        for line in rest.splitlines():
            if m := re.match(r"  group \d+ (.*)", line):
                self.groups.append(Group(m[1], []))
            elif line.startswith("    "):
                self.groups[-1].members.append(line.strip())
            elif line.startswith("  %"):
                self.loose.append(line.strip())

    def __str__(self) -> str:
        lines = [f"  {line}\n" for line in self.loose]
        for k, g in enumerate(self.groups):
            body = "".join(f"    {m}\n" for m in g.members)
            lines.append(f"  group {k} {g.head}\n{body}  }}\n")
        return f"{self.program}{self.header}\n{''.join(lines)}}}\n"

    # ---- edits; each is legal for some plans
    def give_homes(self) -> None:
        """A home for whatever another group, or nobody, reads."""
        for k, g in enumerate(self.groups):
            elsewhere = [
                m for h in self.groups[:k] + self.groups[k + 1 :] for m in h.members
            ]
            read = set(
                re.findall(r"%\w+", " ".join(m.partition("=")[2] for m in elsewhere))
            )
            read |= set(re.findall(r"%\w+", self.program.rpartition("return")[2]))
            for i, m in enumerate(g.members):
                if m.split()[0] in read and "home=" not in m and " free" not in m:
                    g.members[i] = f"{m}  home=hbm"

    def split(self, rng: Random) -> None:
        k = rng.randrange(len(self.groups))
        g = self.groups[k]
        if len(g.members) > 1:
            at = rng.randrange(1, len(g.members))
            g.without_columns()
            self.groups.insert(k + 1, Group(g.head, g.members[at:]))
            g.members = g.members[:at]
            self.give_homes()

    def merge(self, rng: Random) -> None:
        if len(self.groups) > 1:
            k = rng.randrange(len(self.groups) - 1)
            self.groups[k].members += self.groups.pop(k + 1).members
            self.groups[k].without_columns()

    def swap_groups(self, rng: Random) -> None:
        if len(self.groups) > 1:
            k = rng.randrange(len(self.groups) - 1)
            self.groups.insert(k, self.groups.pop(k + 1))

    def move_member(self, rng: Random) -> None:
        source, target = rng.choice(self.groups), rng.choice(self.groups)
        if len(source.members) > 1:
            m = source.members.pop(rng.randrange(len(source.members)))
            target.members.insert(rng.randrange(len(target.members) + 1), m)
            source.without_columns()
            target.without_columns()
            self.give_homes()

    def swap_members(self, rng: Random) -> None:
        g = rng.choice(self.groups)
        if len(g.members) > 1:
            k = rng.randrange(len(g.members) - 1)
            g.members.insert(k, g.members.pop(k + 1))

    def move_home(self, rng: Random) -> None:
        g = rng.choice(self.groups)
        k = rng.randrange(len(g.members))
        bare, home, _ = g.members[k].partition("  home=")
        g.members[k] = bare if home else f"{bare}  home=hbm"

    def compute_view(self, rng: Random) -> None:
        """A view becomes a member of the group that reads it first, or of one of its own."""
        views = [line for line in self.loose if "home=view" in line]
        if not views:
            return
        view = rng.choice(views)
        name, bare = view.split()[0], view.partition("  home=")[0]
        for k, g in enumerate(self.groups):
            for i, m in enumerate(g.members):
                if name not in re.findall(r"%\w+", m.partition("=")[2]):
                    continue
                span = re.search(r"    (row|free).*?(?=  home|$)", m)
                self.loose.remove(view)
                if span and rng.random() < 0.7:
                    g.members.insert(i, bare + span[0])
                    g.without_columns()
                else:
                    head = re.sub(r"rows=\d+ outer=\d+", "rows=1 outer=1", g.head)
                    head = re.sub(r"per_tile=\d+", "per_tile=1", head)
                    self.groups.insert(k, Group(head, [f"{bare}    move  home=hbm"]))
                    self.groups[k].without_columns()
                self.give_homes()
                return

    def change_span(self, rng: Random) -> None:
        g = rng.choice(self.groups)
        k = rng.randrange(len(g.members))
        lo = rng.randrange(3)
        span = f"[{lo},{lo + rng.choice([1, 1, 2])})"
        old = re.compile(r"\[\d+,\d+\)")
        if rng.random() < 0.5:
            g.members[k] = old.sub(span, g.members[k], count=1)
        else:
            g.members[k] = re.sub(
                r"    (row|free|acc)\b",
                f"    {rng.choice(['row', 'free', 'acc'])}",
                g.members[k],
            )

    def drop_columns(self, rng: Random) -> None:
        rng.choice(self.groups).without_columns()

    def drop_numbers(self, rng: Random) -> None:
        for g in self.groups:
            g.without_columns()
            g.head = re.sub(r" per_tile=.* \{", " {", g.head)

    def change_numbers(self, rng: Random) -> None:
        g = rng.choice(self.groups)
        for name in rng.sample(sorted(NUMBERS), 3):
            value = rng.choice(NUMBERS[name])
            if name == "per_tile":
                value = min(value, max(g.number("rows") // 128, 1))
            g.head = re.sub(rf"\b{name}=\d+", f"{name}={value}", g.head)


EDITS = [
    *(Text.split, Text.split, Text.split, Text.merge, Text.merge, Text.swap_groups),
    *(Text.move_member, Text.swap_members, Text.move_home, Text.compute_view),
    *(Text.change_span, Text.change_numbers, Text.change_numbers, Text.drop_columns),
    Text.drop_numbers,
]


def edited(plan: str, rng: Random) -> tuple[str, list[str]]:
    """The text after one to three edits, and their names."""
    text, names = Text(plan), []
    for _ in range(rng.choice([1, 1, 2, 3]) if text.groups else 0):
        edit = rng.choice(EDITS)
        names.append(edit.__name__)
        edit(text, rng)
        text.groups = [g for g in text.groups if g.members]
    return str(text), names


def quiet(fn, *args, **options):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return fn(*args, **options)


def compute_the_same(kernel, arrays) -> None:
    """The simulator agrees with the traced program within what rounding explains."""
    got = quiet(kernel.tile_ir.run, *arrays)
    wanted = quiet(bounds, kernel.tensor_ir, arrays)
    for a, bound in zip(got if isinstance(got, tuple) else (got,), wanted, strict=True):
        problem = explain(bound, a)
        assert not problem, problem


def try_edit(fn, args, arrays, target, plan, rng) -> str:
    """Compile with an edited plan; "refused", "too large" or "obeyed", and by what edits."""
    text, names = edited(plan, rng)
    try:
        kernel = quiet(
            nkigen.compile,
            fn,
            *args,
            target=target,
            plan=text,
            cache=False,
            optimize="fast",
        )
    except nkigen.ParseError as e:
        assert e.lineno and e.offset, f"{e}\n{text}"
        assert e.lineno <= text.count("\n") + 1
        return "refused"
    except nkigen.errors.HardwareLimitError as e:
        assert "drop_numbers" in names or e.lineno, f"{e}\n{text}"
        return "too large"
    try:
        if "per_tile=" in text:
            assert kernel.plan == text
        assert kernel.verify() == []
        compute_the_same(kernel, arrays)
    except AssertionError as e:
        raise AssertionError(f"{names}: {e}\n{text}") from None
    return f"obeyed{'' if text != plan else ' unchanged'}"


def try_program(seed: int, edits: int = 4) -> Counter:
    """Edits of the plan of a random program."""
    rng = Random(seed)
    program = fuzz_programs.random_program(
        rng, rng.choice([3, 8, 8, 20]), rng.choice([0, 0.4, 0.7])
    )
    fn, arrays, target = program.function(), program.arrays(), TARGETS[seed % 3]
    args = program.arguments(arrays)
    kernel = quiet(nkigen.compile, fn, *args, target=target, cache=False)
    given = [np.asarray(a) for a in kernel._call.arrays(args, {})]
    return Counter(
        try_edit(fn, args, given, target, kernel.plan, rng) for _ in range(edits)
    )


def main(count: int, seed: int) -> int:
    """Run programs and report; 1 when any failed."""
    failed, total = 0, Counter()
    for s in range(seed, seed + count):
        try:
            total += try_program(s)
        except Exception as error:
            failed += 1
            print(f"seed {s}: {type(error).__name__}: {error}\n")
    print(f"{count} programs, {failed} failed: {dict(total)}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(*(int(a) for a in sys.argv[1:])))
