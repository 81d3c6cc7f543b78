"""The text of a plan: every line of it is obeyed or refused where it begins to differ."""

import re
import warnings
from random import Random

import numpy as np
import pytest

import nkigen
from nkigen import fuzz_programs, workloads

F32 = np.float32
X, W, BIAS = ((256, 256), "f32"), ((256, 1536), "f32"), ((1536,), "f32")


def linear(x, w, bias):
    return np.tanh(x @ w + bias)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def halves(x):
    """A view, two groups, and parts written into a value in HBM."""
    y = np.exp(x).sum(0)
    return np.concatenate([x * y, x[::2] + 1]), y.reshape(16, 16)


KERNELS = [(linear, (X, W, BIAS)), (softmax, (X,)), (halves, (X,))]


def compiled(fn, specs, plan=None, target="trn2"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nkigen.compile(fn, *specs, target=target, plan=plan, cache=False)


def refused(fn, specs, plan):
    with pytest.raises(nkigen.ParseError) as e:
        compiled(fn, specs, plan)
    assert e.value.lineno and e.value.offset
    return e.value


def test_text():
    k = compiled(linear, (X, W, BIAS))
    program = str(k.stages["tilable"])
    assert k.plan.startswith(program) and type(k.plan) is str
    lines = [" ".join(line.split()) for line in k.plan[len(program) :].splitlines()]
    assert lines[0] == "plan trn2 {" and lines[-2:] == ["}", "}"]
    assert re.match(r"group 0 rows=256 outer=1 cols=1536 per_tile=\d+ .* panel=1536 \{", lines[1])
    assert lines[2:-2] == [
        "%1 = matmul %x, %w row [0,1) cols [1,2)",
        "%2 = add %bias, %1 row [0,1) cols [1,2)",
        "%3 = tanh %2 row [0,1) cols [1,2) home=hbm",
    ]


@pytest.mark.parametrize("fn, specs", KERNELS)
def test_a_line_that_is_missing_or_doubled_is_refused(fn, specs):
    lines = compiled(fn, specs).plan.splitlines(keepends=True)
    for at in range(len(lines)):
        refused(fn, specs, "".join([*lines[:at], *lines[at + 1 :]]))
        refused(fn, specs, "".join([*lines[: at + 1], *lines[at:]]))


@pytest.mark.parametrize("fn, specs", KERNELS)
def test_lines_in_another_order_are_another_plan_or_none(fn, specs):
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(shape).astype(F32) for shape, _ in specs]
    one = isinstance(fn(*xs), np.ndarray)
    lines = compiled(fn, specs).plan.splitlines(keepends=True)
    for at in range(len(lines) - 1):
        changed = "".join([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])
        try:
            k = compiled(fn, specs, changed)
        except nkigen.ParseError as e:
            assert e.lineno and e.offset
            continue
        assert k.plan.split() == changed.split()
        for got, want in zip(*((f(*xs),) if one else f(*xs) for f in (k, fn))):
            assert np.allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fn, specs", KERNELS)
def test_a_changed_token_is_refused_where_it_stands(fn, specs):
    plan = compiled(fn, specs).plan
    first = plan.splitlines().index("plan trn2 {") + 1
    for number, line in enumerate(plan.splitlines(), 1):
        for m in re.finditer(r"\w+|[^\w\s]", line.split(" per_tile=")[0]):
            if number == first:
                continue  # it names what it expects as a whole
            lines = plan.splitlines(keepends=True)
            lines[number - 1] = f"{line[: m.start()]} zz {line[m.end() :]}\n"
            error = refused(fn, specs, "".join(lines))
            if number > first:
                assert (error.lineno, error.offset) == (number, m.start() + 2), lines[number - 1]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("per_tile=2", "per_tile=3", "per_tile is 3, expected a multiple of 1 from 1 to 2"),
        ("per_tile=2", "per_tile=0", "per_tile is 0"),
        ("in_place=0", "in_place=2", "in_place is 2, expected a multiple of 1 from 0 to 1"),
        ("bufs=2 psum_w", "bufs=9 psum_w", "bufs is 9"),
        ("psum_bufs=2", "psum_bufs=0", "psum_bufs is 0"),
        ("psum_width=1024", "psum_width=1000", "psum_width is 1000, expected a multiple of 512 from 512 to 4096"),
        ("psum_width=1024", "psum_width=1024.5", "expected an integer"),
        ("psum_width", "psum_widths", "expected psum_width="),
        ("resident=4096", "resident=-1", "resident is -1"),
        ("panel=1536", "panel=700", "a panel is all 1536 columns or a multiple of psum_width=1024, not 700"),
        ("panel=1536", "", "expected panel="),
        ("plan trn2", "plan trn2 max_ops=3", "expected row_bytes"),
        ("plan trn2", "plan trn3", "expected `plan trn2 {`"),
        ("  }\n}\n", "  }\n}\n}\n", "expected the end of the text"),
    ],
)
def test_a_decision_out_of_range_is_refused(old, new, message):
    plan = compiled(linear, (X, W, BIAS)).plan
    fixed = "per_tile=2 in_place=0 scalar_sums=0 bufs=2 psum_width=1024 psum_bufs=2 resident=4096 panel=1536"
    plan = re.sub(r"per_tile=.*panel=\d+", fixed, plan)
    assert old in plan
    assert message in str(refused(linear, (X, W, BIAS), plan.replace(old, new)))


def test_blanks_and_comments_do_not_matter():
    k = compiled(linear, (X, W, BIAS))
    text = "# as it was\n\n" + k.plan.replace("  ", " \t ").replace("\n", "  # so\n\n")
    assert compiled(linear, (X, W, BIAS), text).plan == k.plan


DECISIONS = {
    "per_tile": (1, 2),
    "in_place": (0, 1),
    "bufs": (1, 2, 3),
    "psum_width": (512, 1024, 2048),
    "psum_bufs": (1, 2),
    "resident": (0, 1000, 20000),
    "panel": (512, 1024, 1536),
}


def test_decisions_are_obeyed_as_they_are_written():
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(F32) for s in ((256, 256), (256, 1536), (1536,)))
    plan, refusals, programs = compiled(linear, (X, W, BIAS)).plan, 0, set()
    for _ in range(24):
        values = {name: int(rng.choice(options)) for name, options in DECISIONS.items()}
        text = re.sub(r"(\w+)=\d+", lambda m, v=values: f"{m[1]}={v.get(m[1], m[0].split('=')[1])}", plan)
        try:
            k = compiled(linear, (X, W, BIAS), text)
        except nkigen.ParseError as e:
            assert values["panel"] % values["psum_width"] and values["panel"] != 1536, str(e)
            refusals += 1
            continue
        assert k.plan == text and k.verify() == []
        programs.add(str(k.tile_ir))
        assert np.allclose(k(x, w, b), linear(x, w, b), atol=1e-4)
    assert refusals < 12 and len(programs) > 8


def two_groups(x, y, w):
    return np.exp(y), x @ w


def test_a_plan_that_does_not_fit_is_refused_with_its_group_and_line():
    specs = ((4096, 1024), "f32"), ((100, 7), "f32"), ((1024, 4096), "f32")
    plan = compiled(two_groups, specs).plan
    assert plan.count("group ") == 2
    at = next(n for n, line in enumerate(plan.splitlines(), 1) if " cols=" in line)
    group = re.search(r"group (\d)", plan.splitlines()[at - 1])[1]
    lines = plan.splitlines(keepends=True)
    lines[at - 1] = re.sub(r"\bbufs=\d", "bufs=8", re.sub("per_tile=.", "per_tile=32", lines[at - 1]))
    with pytest.raises(nkigen.HardwareLimitError, match=rf"group {group} does not fit: .* no room for \d+") as e:
        compiled(two_groups, specs, "".join(lines))
    assert (e.value.lineno, e.value.offset) == (at, 3)


def same_again(fn, specs, target="trn2"):
    k = compiled(fn, specs, target=target)
    again = compiled(fn, specs, k.plan, target)
    assert again.plan == k.plan == str(nkigen.parse(k.plan))
    assert nkigen._core.run_pass("lower", k.plan, target) == str(k.stages["lower"])
    assert str(again.stages["allocate"]) == str(k.stages["allocate"])
    return k


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_workloads_come_out_of_their_plans(name):
    w = workloads.WORKLOADS[name]
    same_again(w.fn, w.specs("f32", w.small[0] if w.small else w.shapes))


def test_random_programs_come_out_of_their_plans():
    for seed in range(60):
        p = fuzz_programs.random_program(Random(seed))
        same_again(p.function(), p.arguments(p.arrays()), ("trn1", "trn2", "trn3")[seed % 3])


def test_limits_alone_leave_the_decisions_to_the_compiler():
    limited = compiled(softmax, (X,), "plan trn2 row_bytes=4096 max_ops=1 {\n}\n")
    head, *rest = limited.plan[limited.plan.index("plan trn2") :].splitlines()
    assert head == "plan trn2 row_bytes=4096 max_ops=1 {"
    assert sum(line.startswith("  group ") for line in rest) == 6
    assert compiled(softmax, (X,), limited.plan).plan == limited.plan


def test_planning_takes_any_tensor_program():
    text = str(nkigen.trace(halves).graph(np.zeros((256, 256), F32)))
    k = compiled(halves, (X,))
    assert nkigen._core.run_pass("plan", text, "trn2") == k.plan
    assert nkigen._core.run_pass("lower", text, "trn2") == str(k.stages["lower"])
    groups = re.sub(r" per_tile=.* \{", " {", k.plan)
    assert nkigen._core.run_pass("fuse", text, "trn2") == groups


@pytest.mark.parametrize("row_bytes", [1, 7, 63])
def test_limits_that_leave_no_tiling_are_refused(row_bytes):
    error = refused(softmax, (X,), f"plan trn2 row_bytes={row_bytes} max_ops=1 {{\n}}\n")
    assert f"row_bytes is {row_bytes}, expected 0 for no limit, or at least 64" in str(error)
    assert (error.lineno, error.offset) == (1, 21)
