"""What no plan may say: each rule of csrc/plan/check.c and of the reader, with the line that breaks it."""

import re
from pathlib import Path

import numpy as np
import pytest

import nkigen
from nkigen import _core

NUMBERS = r" per_tile=.*(?= \{)"
ROWS = """
  %x = input {index=0} : f32[256, 64]
  %1 = exp %x : f32[256, 64]
  %2 = reduce_sum %1 {axes=[1], keepdims=true} : f32[256, 1]
  %3 = mul %1, %2 : f32[256, 64]
  %4 = reduce_max %3 {axes=[0], keepdims=false} : f32[64]
  return %3, %4
plan
  group 0 rows=256 outer=1 {
    %1 = exp %x    row [0,1)  home=hbm
    %2 = reduce_sum %1    row [0,1)  home=hbm
  }
  group 1 rows=256 outer=1 {
    %3 = mul %1, %2    row [0,1)  home=hbm
    %4 = reduce_max %3    acc [0,1)  home=hbm
  }
"""
OUTER = """
  %x = input {index=0} : f32[4, 256, 64]
  %b = input {index=1} : f32[64]
  %1 = full {shape=[], dtype=f32, value=2.0} : f32[]
  %2 = mul %b, %1 : f32[64]
  %3 = add %x, %2 : f32[4, 256, 64]
  return %3
plan
  group 0 rows=256 outer=4 {
    %2 = mul %b, %1    free
    %3 = add %x, %2    row [1,2) outer [0,1)  home=hbm
  }
"""
PRODUCT = """
  %x = input {index=0} : f32[256, 64]
  %w = input {index=1} : f32[64, 2048]
  %b = input {index=2} : f32[2048]
  %1 = matmul %x, %w : f32[256, 2048]
  %2 = add %1, %b : f32[256, 2048]
  return %2
plan
  group 0 rows=256 outer=1 {
    %1 = matmul %x, %w    row [0,1)
    %2 = add %1, %b    row [0,1)  home=hbm
  }
"""
CHAIN = """
  %x = input {index=0} : f32[64, 64]
  %w = input {index=1} : f32[64, 64]
  %1 = exp %w : f32[64, 64]
  %2 = matmul %x, %1 : f32[64, 64]
  return %2
plan
  group 0 rows=64 outer=1 {
    %1 = exp %w    row [0,1)
    %2 = matmul %x, %1    row [0,1)  home=hbm
  }
"""
PARTS = """
  %x = input {index=0} : f32[64, 4096]
  %y = input {index=1} : f32[64, 4096]
  %1 = exp %x : f32[64, 4096]
  %2 = tanh %y : f32[64, 4096]
  %3 = concat %1, %2 {axis=1} : f32[64, 8192]
  return %3
plan
  %3 = concat %1, %2  home=hbm
  group 0 rows=64 outer=1 {
    %1 = exp %x    row [0,1)  home=part %3 + 0
  }
  group 1 rows=64 outer=1 {
    %2 = tanh %y    row [0,1)  home=part %3 + 4096
  }
"""
VIEWS = """
  %x = input {index=0} : f32[64, 96]
  %1 = slice %x {start=[0, 0], step=[2, 1], size=[32, 96]} : f32[32, 96]
  %2 = transpose %1 {perm=[1, 0]} : f32[96, 32]
  %3 = exp %2 : f32[96, 32]
  %4 = reshape %3 {shape=[3072]} : f32[3072]
  %5 = slice %x {start=[63, 0], step=[-1, 1], size=[64, 96]} : f32[64, 96]
  %6 = copy %4 : f32[3072]
  return %5, %6
plan
  %2 = transpose %1  home=view %x
  %4 = reshape %3  home=view %3
  group 0 rows=96 outer=1 {
    %3 = exp %2    row [0,1)  home=hbm
  }
  group 1 rows=1 outer=1 {
    %5 = slice %x    move  home=hbm
  }
  group 2 rows=3072 outer=1 {
    %6 = copy %4    row [0,1)  home=hbm
  }
"""
#: name -> ops and the plan's lines, to which the compiler adds the numbers
PROGRAMS = {
    "rows": ROWS,
    "outer": OUTER,
    "product": PRODUCT,
    "chain": CHAIN,
    "parts": PARTS,
    "views": VIEWS,
}


def text_of(name):
    program, _, plan = PROGRAMS[name].strip("\n").partition("\nplan\n")
    bare = f"tensor @f {{\n{program}\n}}\nplan trn2 {{\n{plan}\n}}\n"
    return re.sub(r"per_tile=\d+", "per_tile=1", _core.run_pass("plan", bare, "trn2"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_they_stand_they_are_plans(name):
    text = text_of(name)
    program = nkigen.parse(text)
    assert str(program) == text and program.kind == "plan" and program.verify() == []
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal(shape).astype(np.float32) for _, _, shape in program.inputs
    ]
    tile = text
    for step in ("lower", "schedule", "allocate"):
        tile = _core.run_pass(step, tile, "trn2")
    tile = nkigen.parse(tile)
    assert tile.verify() == []
    want, got = (
        r if isinstance(r, tuple) else (r,)
        for r in (program.run(*arrays), tile.run(*arrays))
    )
    for a, b in zip(want, got, strict=True):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-4)


#: program, what is replaced (a pattern) by what, the message, and a pattern of the line it is at
EDITS = [
    # the reader
    ("rows", r"%2 = reduce_sum %1 ", "%7 = reduce_sum %1 ", "its program has no value %7", "%7 = "),
    ("rows", r"    %2 = reduce_sum .*hbm", "    %x = input", "nothing computes a parameter or a constant", "%x = input$"),
    ("rows", r"    %2 = reduce_sum .*hbm", "    %1 = exp %x    row [0,1)", "this value is in line 11 already", None),
    ("rows", r"%2 = reduce_sum %1  ", "%2 = reduce_sum %x  ", "expected `%2 = reduce_sum %1`, found 'x'", "sum %x  "),
    ("rows", r"row \[0,1\)", "row [0,3)", r"expected [lo,hi) with 0 <= lo < hi <= 2", r"\[0,3"),
    ("rows", r"row \[0,1\)", "row [1,1)", r"expected [lo,hi) with 0 <= lo", r"\[1,1"),
    ("rows", r"row \[0,1\)", "mat [0,1)", "expected row, free, acc or move, found 'mat'", "mat "),
    ("rows", r"row \[0,1\)", "row [0,1) outer", "expected '['", "outer "),
    ("rows", r"home=hbm", "home=sram", "expected hbm, sbuf, view or part, found 'sram'", "sram"),
    ("rows", r"home=hbm", "hbm", "expected home=, found 'hbm'", "hbm$"),
    ("rows", r"group 1", "group 2", "groups are numbered in the order in which they run, this is group 1", "group 2"),
    ("rows", r"outer=1", "cols=1", "expected outer=, found 'cols'", "group 0"),
    ("rows", r"outer=1", "outer=1 cols=0", "a group without columns has no cols=", "group 0"),
    ("rows", r"outer=1", "outer=1 cols=64", "expected panel=", "group 0"),
    ("rows", r"  group 1", "  grp 1", "expected 'group' or '}', found 'grp'", "grp"),
    ("views", r"(  %2 = t.*x\n)(  %4 .*\n)", r"\2\1", "stand in the order of the program", "%2 = .*view"),
    ("views", r"home=view %3", "home=view %12", "its program has no value %12", "%12"),
    # the program
    ("rows", r"return %3, %4", "return %3, %3", "output 1, %3, is not computed for itself", "^plan"),
    ("rows", r"return %3, %4", "return %3, %x", "output 1, %x, is not computed for itself", "^plan"),
    ("rows", r"= exp", "= sin", "sin: no instructions are known for it", r"sin.*: f32"),
    ("rows", r"f32", "f64", "input: the hardware has no 64-bit dtypes", "input"),
    ("rows", r"exp %x : f32\[256, 64\]", "exp %x : f32[256, 32]", "the graph says f32 (256, 32)", "exp.*: f32"),
    # homes
    ("views", r"return %5, %6", "return %5, %6, %4", "%4 is an output, which has a buffer of its own", "home=view %3"),
    ("views", r"home=view %x", "home=view %1", "%2 is no view of %1, which does not lie in HBM by itself", "home=view %1"),
    ("views", r"home=view %3", "home=view %x", "%4 is no view of %x: the ops between them", "home=view %x"),
    ("parts", r"part %3 \+ 0", "part %2 + 0", "%1 is written into %2 only when that is a concat or a reshape of it", "part %2"),
    ("parts", r"\+ 4096", "+ 4095", "%2 begins 4096 elements into %3, not 4095", "4095"),
    ("parts", r"  %3 = concat %1, %2  home=hbm\n", "", "%3 is not put together in HBM, so %1", "part %3 . 0"),
    ("parts", r"home=part %3 \+ 4096", "home=hbm", "no group moves %3, and %2 is not written into it", "  %3 = concat.*home"),
    ("parts", r"rows=64(.*\n.*)row \[0,1\)", r"rows=262144\1row [0,2)", "its rows do not lie evenly in the concat", r"row \[0,2"),
    ("views", r"  %4 = reshape %3  home=view %3", "  %4 = reshape %3  home=hbm", "%4 is computed by no group", "%4 = reshape %3  home"),
    ("views", r"home=hbm", "home=view %x", "no group computes a view", "%3 = exp.*home"),
    ("outer", r"free", "free  home=hbm", "%2 is the same for all rows: it lives on chip only", "free"),
    ("rows", r"(acc \[0,1\))  home=hbm", r"\1", "%4 needs a home: it is an output", "acc"),
    ("parts", r"(?s)  %3 = concat %1, %2  home=hbm\n.*", "}\n", "output 0, %3, is not written to HBM", "^plan"),
    # spans
    ("rows", r"rows=256", "rows=255", "%1 has 256 rows there, its group has 255", "%1 = exp.*row"),
    ("rows", r"row \[0,1\)", "row [0,2)", "%1 has 16384 rows there, its group has 256", "%1 = exp.*row"),
    ("rows", r"row \[0,1\)", "row [0,1) outer [0,1)", "are different ones", "outer .0"),
    ("outer", r"row \[1,2\) outer \[0,1\)", "row [1,2) outer [2,3)", "has 64 iterations, that of its group 4", "outer .2"),
    ("rows", r"%1 = exp %x    row \[0,1\)", "%1 = exp %x    acc [0,1)", "only a reduction is summed up", "acc"),
    ("rows", r"%2 = reduce_sum %1    row", "%2 = reduce_sum %1    acc", "dims of its operand that it reduces", "acc"),
    ("rows", r"outer=1", "outer=2", "no member of this group has its outer loop", "group 0"),
    ("outer", r"    %3 = add.*\n", "", "output 0, %3, is not written to HBM", "^plan"),
    ("product", r"row \[0,1\)", "free", "a product or a concat has rows", "%1 = matmul.*free"),
    ("product", r"rows=256(.*\n.*)row \[0,1\)", r"rows=1\1row", "the rows of a group are the rows or", "row cols"),
    ("rows", r"%2 = reduce_sum %1    row \[0,1\)", "%2 = reduce_sum %1    row", "%2 has 1 rows there", "%2 = r.*row"),
    ("views", r"%5 = slice %x    move", "%5 = slice %x    row", "a slice that goes backwards moves", "%5 = .*row"),
    ("views", r"move  home", "move [0,1)  home", "has rows=1 outer=1, and no dims", "move"),
    ("views", r"%3 = exp %2    row \[0,1\)", "%3 = exp %2    move", "a layout op, a copy or a concat moves", "%3 = .*move"),
    ("rows", r"(?s)(group 0.*?\{)\n.*?\n  \}", r"\1\n  }", "a group computes something", "group 0"),
    ("rows", NUMBERS, "", "all groups have numbers", "group 1"),
    ("rows", r"(group 1 rows=256) outer=1", r"\1 outer=2", "%4 is summed up over all rows", "%4 = .*acc"),
    ("parts", r"rows=64(.*\n.*)row \[0,1\)", r"rows=1\1row", "takes 1048576 bytes in a partition, at most 98304", "%1 = e.*row"),
    # operands
    ("views", r"rows=96(.*\n.*)row \[0,1\)", r"rows=3072\1row [0,2)", "the rows of %2 do not lie evenly in %x", "%3 = .*row"),
    ("rows", r"(    %1 = .*\n)(    %2 = .*\n)", r"\2\1", "%2 reads %1, which its group computes further down", "%2 = reduce.*row"),
    ("rows", r"(    %1 = exp.*row \[0,1\))  home=hbm", r"\1", "%3 reads %1, which has no home: group 0 keeps it", "%3 = mul.*row"),
    ("rows", r"    %1 = exp.*hbm\n", "", "%2 reads %1, which no group computes", "%2 = reduce.*row"),
    ("outer", r"free", "row", "%2 has 1 rows there", "row$"),
    ("chain", r"%1 = exp %w    row \[0,1\)", "%1 = exp %w    free", "all of %1 is needed for any row of the product", "%2 = m.*row"),
    ("views", r"  %2 = transpose %1  home=view %x\n", "", "%3 reads %2, which no group computes", "%3 = exp.*row"),
    ("views", r"%4 = reshape %3  home=view %3\n", "", "%6 reads %4, which no group computes", "%6 = copy.*row"),
    # columns
    ("product", r"cols=2048 (.*) panel=2048", r"\1", "the columns of %1 are [0,0)", "%1 = m.*row"),
    ("product", r"add %1, %b    row \[0,1\) cols \[1,2\)", "add %1, %b    row [0,1)", "the columns of %2 are [1,2)", "%2 = add.*row"),
    ("product", r"cols=2048 (.*) panel=2048", r"cols=1024 \1 panel=1024", "cols=1024, but this group has 2048 columns", "group 0"),
    ("rows", r"(group 0.*outer=1)(.*) \{", r"\1 cols=64\2 panel=64 {", "cols=64, but this group has 0 columns", "group 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    "name, old, new, message, line", EDITS, ids=[f"{e[0]}-{e[2][:40]}" for e in EDITS]
)
def test_refused(name, old, new, message, line):
    text = text_of(name)
    everywhere = old == r"f32"
    plan = text.index("plan trn2")
    head = bool(re.search(old, text[:plan])) and (
        everywhere or old.startswith(("return", "= exp", "exp %x : "))
    )
    at = 0 if head or everywhere else plan
    edited = text[:at] + re.sub(old, new, text[at:], count=0 if everywhere else 1)
    if old == r"= exp":
        edited = edited.replace("%1 = exp", "%1 = sin")
    assert edited != text
    with pytest.raises(nkigen.ParseError) as e:
        nkigen.parse(edited)
    assert message in str(e.value), e.value
    assert e.value.lineno and e.value.offset
    if line:
        assert re.search(line, edited.splitlines()[e.value.lineno - 1]), e.value


def test_groups_in_another_order():
    text = text_of("rows")
    head, a, b, end = re.split(r"(?=^  group|^\}\n\Z)", text, flags=re.M)
    swapped = (
        head + b.replace("group 1", "group 0") + a.replace("group 0", "group 1") + end
    )
    with pytest.raises(
        nkigen.ParseError,
        match="%3 reads %1, which is complete only when group 1 is done",
    ) as e:
        nkigen.parse(swapped)
    assert "%3 = mul" in swapped.splitlines()[e.value.lineno - 1]


def test_an_accumulator_is_read_in_a_later_group():
    text = text_of("rows").replace(
        "return %3, %4", "%5 = add %3, %4 : f32[256, 64]\n  return %5, %4"
    )
    inside = text.replace(
        "acc [0,1)  home=hbm",
        "acc [0,1)  home=hbm\n    %5 = add %3, %4    row [0,1)  home=hbm",
    )
    with pytest.raises(
        nkigen.ParseError, match="%4 is complete only when this group is done"
    ):
        nkigen.parse(inside)
    numbers = re.search(NUMBERS, text)[0]
    group = f"  group 2 rows=256 outer=1{numbers} {{\n    %5 = add %3, %4    row [0,1)  home=hbm\n  }}\n}}\n"
    later = text[: text.rindex("}\n")] + group
    assert str(nkigen.parse(later)) == later


@pytest.mark.parametrize(
    "ops, plan, message",
    [
        (
            ["%1 = exp %x : f32[0, 4]"],
            "group 0 rows=0 outer=1 {\n%1 = exp %x    row [0,1)  home=hbm\n}",
            "%1 has no elements, so no group computes it",
        ),
        (
            ["%1 = reduce_sum %x {axes=[0], keepdims=false} : f32[4]"],
            "group 0 rows=4 outer=1 {\n%1 = reduce_sum %x    row [0,1)  home=hbm\n}",
            "reduce_sum: an operand without elements is no operand",
        ),
        (
            [
                "%2 = full {shape=[6], dtype=f32, value=1.0} : f32[6]",
                "%1 = reshape %2 {shape=[2, 3]} : f32[2, 3]",
            ],
            "group 0 rows=1 outer=1 {\n%1 = reshape %2    move  home=hbm\n}",
            "%2 is a number everywhere and is not moved",
        ),
        (
            [
                "%2 = full {shape=[4], dtype=f32, value=1.0} : f32[4]",
                "%1 = matmul %2, %2 : f32[]",
            ],
            "group 0 rows=1 outer=1 {\n%1 = matmul %2, %2    row  home=hbm\n}",
            "matmul: operands of products have rows and columns",
        ),
    ],
)
def test_what_the_tensor_passes_leave_out(ops, plan, message):
    lines = [
        "tensor @f {",
        "%x = input {index=0} : f32[0, 4]",
        *ops,
        "return %1",
        "}",
        "plan trn2 {",
        plan,
        "}",
    ]
    with pytest.raises(nkigen.ParseError, match=message) as e:
        nkigen.parse("\n".join(lines))
    assert e.value.lineno and e.value.offset


# ---- compiled


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


X = ((256, 256), "f32")


def refused(plan, fn=softmax, spec=X):
    with pytest.raises(nkigen.ParseError) as e:
        nkigen.compile(fn, spec, plan=plan, cache=False)
    assert e.value.lineno and e.value.offset
    return e.value


def test_a_plan_is_of_the_program_that_is_compiled():
    plan = nkigen.compile(softmax, X, cache=False).plan
    other = refused(plan, spec=((256, 128), "f32"))
    assert (
        "this line is not of the program that is compiled, which has `%x = input"
        in str(other)
    )
    assert other.lineno == 2

    def softmax2(x):
        return softmax(x)

    renamed = refused(plan, softmax2)
    assert (
        "it is of @softmax, what is compiled is @softmax2" in str(renamed)
        and renamed.lineno == 1
    )
    changed = refused(
        plan.replace("reduce_max", "reduce_min", 1).replace(
            "    %1 = reduce_max", "    %1 = reduce_min"
        )
    )
    assert "which has `%1 = reduce_max %x {" in str(changed) and changed.lineno == 3
    longer = refused(
        plan.replace("  return", "  %9 = exp %x : f32[256, 256]\n  return")
    )
    assert "which has `return` here" in str(longer)
    lines = plan.splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if "return" in line)
    lines[at] = lines[at].replace(lines[at].split()[-1], "%3")
    assert "which has `return of other values` here" in str(refused("".join(lines)))
    assert refused("".join(lines)).lineno == at + 1


def test_a_plan_with_groups_begins_with_its_program():
    plan = nkigen.compile(softmax, X, cache=False).plan
    error = refused(plan[plan.index("plan trn2") :])
    assert (
        "a plan with groups begins with its tensor program" in str(error)
        and error.lineno == 2
    )


def test_an_error_shows_the_line_of_the_plan():
    plan = nkigen.compile(softmax, X, cache=False).plan
    error = refused(plan.replace("home=hbm", "home=ram"))
    assert error.text in plan.replace("home=hbm", "home=ram").splitlines() and "home=ram" in str(error)


def test_a_plan_is_for_its_target():
    plan = nkigen.compile(softmax, X, cache=False).plan.replace(
        "plan trn2", "plan trn1"
    )
    assert "expected `plan trn2 {`, the target that is compiled for, not trn1" in str(
        refused(plan)
    )


def test_groups_without_numbers_get_them_from_the_compiler():
    k = nkigen.compile(softmax, X, cache=False)
    bare = re.sub(NUMBERS, "", k.plan)
    assert str(nkigen.parse(bare)) == bare
    assert nkigen.compile(softmax, X, plan=bare, cache=False).plan == k.plan
    assert _core.run_pass("plan", bare, "trn2") == k.plan
    with pytest.raises(nkigen.ParseError, match="this group has no numbers") as e:
        _core.run_pass("lower", bare, "trn2")
    assert e.value.lineno == bare[: bare.index("  group")].count("\n") + 1


def test_a_plan_runs_like_every_stage():
    k = nkigen.compile(softmax, X, check="every-pass", cache=False)
    x = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    stage, parsed = k.stages["plan"], nkigen.parse(k.plan)
    assert (
        parsed == stage
        and hash(parsed) == hash(stage)
        and repr(parsed) == "<Program 'parsed', plan>"
    )
    assert parsed.inputs == k.tile_ir.inputs and parsed.ops == k.stages["tilable"].ops
    for got in (k.run_stage("plan", x), stage.run(x), parsed.run(x)):
        assert np.allclose(got, softmax(x), rtol=1e-5)
    assert parsed != k.stages["tilable"]


@pytest.mark.parametrize("name", ["canonicalize", "schedule", "nothing"])
def test_a_plan_goes_through_passes_of_plans(name):
    plan = nkigen.compile(softmax, X, cache=False).plan
    with pytest.raises(nkigen.NkigenError, match=f"a plan has no pass '{name}'"):
        _core.run_pass(name, plan, "trn2")


def test_a_plan_names_values_as_its_program_does():
    """Printing numbers them anew; a text that somebody wrote need not be in that order."""
    text = text_of("rows")
    renamed = re.sub(r"%([1-4])", lambda m: f"%{m[1]}7", text).replace("%17", "%first")
    assert (
        str(nkigen.parse(renamed))
        == str(nkigen.parse(text.replace("%1", "%first")))
        != text
    )
    with pytest.raises(nkigen.ParseError, match="%37 reads %first, which has no home"):
        nkigen.parse(
            renamed.replace(
                "%first = exp %x    row [0,1)  home=hbm", "%first = exp %x    row [0,1)"
            )
        )


def test_the_plan_in_the_docs_is_one():
    """Its numbers aside, which are what the compiler finds."""
    page = (Path(__file__).parents[1] / "docs" / "plans.md").read_text(encoding="utf-8")
    plan = re.sub(NUMBERS, "", re.search(r"```\n(tensor .*?)```", page, re.S)[1])
    assert str(nkigen.parse(plan)) == plan
    assert (
        nkigen.parse(
            _core.run_pass("lower", _core.run_pass("plan", plan, "trn2"), "trn2")
        ).kind
        == "tile"
    )
