"""Text from anyone: mutants of real programs, and each fault that fuzzing has found.

`python -m nkigen fuzz text N` does the same with as many as one likes.
"""

import os
import signal
import time
from random import Random

import numpy as np
import pytest

import nkigen
from nkigen import fuzz

TEXTS = fuzz.corpus()


@pytest.mark.parametrize("seed", range(4))
def test_mutants(seed):
    """Typed errors and legal programs, nothing else."""
    rng = Random(seed)
    ends = {fuzz.exercise(fuzz.mutate(rng, TEXTS), thorough=i % 8 == 0) for i in range(150)}
    assert {"accepted", "ParseError", "VerifyError"} <= ends


def test_the_corpus_is_legal():
    for text in TEXTS:
        assert fuzz.exercise(text) == "accepted"


def tile(*lines, returns="%y", target="trn2"):
    return "\n".join([f"tile @f {target} {{", *lines, f"return {returns}", "}"])


X = "%x = buffer {kind=input, index=0} : hbm f32[4, 8]"
Y = "%y = buffer {kind=output, index=0} : hbm f32[4, 8]"
A = "%a = buffer : sbuf f32[4, 8]"
LOAD = "dma_copy %a[0+4, 0: 8*1], %x[0: 4*8, 8*1]"
STORE = "dma_copy %y[0: 4*8, 8*1], %a[0+4, 0: 8*1]"
ARRAY = np.ones((4, 8), np.float32)


def loops(n, *body):
    return [*(f"%i{k} = loop {{count=2}}" for k in range(n)), *body, *["end"] * n]


@pytest.mark.parametrize(
    "text, message",
    [
        (tile(X, Y, Y.replace("%y", "%z"), A, LOAD, STORE), "a second output with index=0"),
        (tile(X, Y.replace("index=0", "index=1"), A, LOAD, STORE), "expected index=0 to index=0 for an output"),
        (tile(X, X.replace("%x", "%z"), Y, A, LOAD, STORE), "a second input with index=0"),
        (tile(X, Y.replace("index=0", "index=9223372036854775807"), A, LOAD, STORE), "found 9223372036854775807"),
        (tile(X, Y.replace(", index=0", ""), A, LOAD, STORE), "found no index"),
        (tile(X, Y, A, *loops(17, LOAD), STORE), "nested more than 16 deep"),
        (tile(X, Y, A, LOAD, STORE, returns="%y aliases=[1]"), "updates input 1, there are 1"),
        (tile(X, Y.replace("f32[4, 8]", "f32[4]"), A, LOAD, returns="%y aliases=[0]"), "has another type"),
        (tile(X, Y, A, LOAD, STORE, returns="%x aliases=[0]"), "is not the buffer with index=0"),
        ("tensor @f {\n%x = input {index=0} : f32[2]\n%y = exp %x : f32[2]\nreturn %x, %y aliases=[-1, 7]\n}", "input 7"),
        ("tensor @f\udc80 {\nreturn\n}", "surrogate"),
        ("tensor @f {\0\nreturn\n}", "x00"),
    ],
)
def test_parse_refuses(text, message):
    with pytest.raises(nkigen.ParseError, match=message) as e:
        nkigen.parse(text)
    assert e.value.lineno or "surrogate" in message


@pytest.mark.parametrize(
    "lines, rule",
    [
        ([X, Y, A.replace("buffer", "buffer {bufs=0}"), LOAD, STORE], "buffer-shape"),
        ([X, Y, A.replace("buffer", "buffer {bufs=4294967296}"), LOAD, STORE], "sbuf-capacity"),
        ([X.replace("index=0", "index=0, bufs=65536"), Y, A, LOAD, STORE], "buffer-shape"),
        ([X, Y.replace("4, 8", "4, 0"), A, LOAD, STORE], "out-of-bounds"),
        ([X, Y, A, LOAD, STORE, "%c = buffer {kind=constant, data=i32:0x00000000} : hbm f32[1]"], "constant-data"),
        ([X, Y, A, LOAD, STORE, "%c = buffer {kind=constant, data=f32:0x00000000} : hbm f32[2]"], "constant-data"),
    ],
)
def test_illegal_programs_are_neither_priced_nor_emitted(lines, rule):
    program = nkigen.parse(tile(*lines))
    assert rule in [v.rule for v in program.verify()]
    for use in (program.cost, program.nki):
        with pytest.raises(nkigen.VerifyError, match=rule):
            use()


def tensor(*lines):
    return "\n".join(["tensor @f {", "%x = input {index=0} : f32[4, 8]", *lines, "return %y", "}"])


@pytest.mark.parametrize(
    "line, message",
    [
        ("%y = slice %x {start=[0, 0], step=[0, 1], size=[1, 8]} : f32[1, 8]", "step of axis 0 is 0"),
        ("%y = slice %x {start=[0, 0], step=[0, 1], size=[0, 8]} : f32[0, 8]", "step of axis 0 is 0"),
        ("%y = full {shape=[2], dtype=i32, ivalue=4294967296} : i32[2]", "i32 cannot hold 4294967296"),
        ("%y = full {shape=[2], dtype=u8, ivalue=-1} : u8[2]", "u8 cannot hold -1"),
        ("%y = const {shape=[2], dtype=f32, data=f32:0x00000000} : f32[2]", "do not fill its type"),
        ("%y = transpose %x {perm=[0, 0]} : f32[4, 4]", "repeated axis"),
        ("%y = exp %x : f32[4]", "the graph says"),
    ],
)
def test_illegal_tensor_programs_do_not_run(line, message):
    program = nkigen.parse(tensor(line))
    assert len(program.verify()) == 1
    with pytest.raises(nkigen.VerifyError, match=message):
        program.run(ARRAY)


@pytest.mark.parametrize(
    "line, shape",
    [
        ("%y = slice %x {start=[9, 0], step=[1, 1], size=[0, 8]} : f32[0, 8]", (0, 8)),
        ("%y = slice %x {start=[-3, 0], step=[-1, 1], size=[0, 8]} : f32[0, 8]", (0, 8)),
        ("%y = slice %x {start=[3, 0], step=[9223372036854775807, 1], size=[1, 8]} : f32[1, 8]", (1, 8)),
    ],
)
def test_odd_slices_run(line, shape):
    assert nkigen.parse(tensor(line)).run(ARRAY).shape == shape


def test_names_may_be_long():
    name = "n" * 20_000
    program = nkigen.parse(tile(X, Y, A, LOAD, STORE).replace("%a", f"%{name}").replace("@f", f"@{name}"))
    assert str(nkigen.parse(str(program))) == str(program)
    compile(program.nki(), "<kernel>", "exec")
    assert np.array_equal(program.run(ARRAY), ARRAY)


def test_names_that_other_names_are_made_of():
    names = ["a", *(f"a_{i}" for i in range(1, 9)), *("a_3" + "_" * k for k in range(1, 60))]
    lines = [f'%{i} = buffer {{name="{n}"}} : sbuf f32[4, 8]' for i, n in enumerate(["a", *names])]
    source = nkigen.parse(tile(X, Y, A, *lines, LOAD, STORE)).nki()
    declared = [line.split()[0] for line in source.splitlines() if " = nl.ndarray(" in line]
    assert len(set(declared)) == len(declared) == len(lines) + 2


@pytest.mark.parametrize("plan", ["plan trn2 {\0", "plan trn2 \udc80{", "plan trn2 {\xff"])
def test_plans_are_text(plan):
    message = "plan: expected `plan trn2 {`|expected the end of the line, found"
    with pytest.raises(nkigen.ParseError, match=message):
        nkigen.compile(lambda x: x + 1, ARRAY, plan=plan)


# ---- work

LONG = tile(X, Y, A, LOAD, "%i = loop {count=2147483647}", "tensor_copy %a[0+4, 0: 8*1], %a[0+4, 0: 8*1]", "end", STORE)


def test_endless_programs_are_refused_unless_asked_for():
    program = nkigen.parse(LONG)
    with pytest.raises(nkigen.HardwareLimitError, match="units of work .* max_work"):
        program.run(ARRAY)
    short = nkigen.parse(LONG.replace("2147483647", "1000"))
    assert np.array_equal(short.run(ARRAY), ARRAY)
    with pytest.raises(nkigen.HardwareLimitError, match="1000 are allowed"):
        short.run(ARRAY, max_work=1000)
    assert np.array_equal(short.run(ARRAY, max_work=1e9), ARRAY)
    assert np.array_equal(short.run(ARRAY, max_work=float("inf")), ARRAY)
    with pytest.raises(TypeError, match="max_work"):
        short.run(ARRAY, limit=3)


def test_large_results_are_refused_before_they_are_allocated():
    program = nkigen.parse(tile(X, Y.replace("4, 8", "1099511627776"), A, LOAD))
    with pytest.raises(nkigen.HardwareLimitError, match="max_work"):
        program.run(ARRAY)
    y = "%z = full {shape=[1099511627776], dtype=f32, value=1.0} : f32[1099511627776]"
    with pytest.raises(nkigen.HardwareLimitError, match="max_work"):
        nkigen.parse(tensor(y, "%y = exp %z : f32[1099511627776]")).run(ARRAY)


def test_length_alone_is_no_reason():
    """A straight line of many instructions on small arrays runs, as tensor and as tile program."""
    x = np.ones((128, 512), np.float32)
    lines = [f"%{i} = neg %{i - 1 if i > 1 else 'x'} : f32[128, 512]" for i in range(1, 3001)]
    text = tensor(*lines, "%y = neg %3000 : f32[128, 512]").replace("f32[4, 8]", "f32[128, 512]")
    assert np.array_equal(nkigen.parse(text).run(x), -x)
    copy = "tensor_copy %b[0+4, 0: 8*1], %a[0+4, 0: 8*1]"
    text = tile(X, Y, A, A.replace("%a", "%b"), LOAD, *[copy] * 1200, STORE)
    for small, large in (("4, 8", "128, 512"), ("0+4, 0: 8*1", "0+128, 0: 512*1"), ("4*8, 8*1", "128*512, 512*1")):
        text = text.replace(small, large)
    assert np.array_equal(nkigen.parse(text).run(x), x)


def test_products_run_as_text():
    a = np.ones((4096, 32), np.float32)
    lines = ["%t = transpose %x {perm=[1, 0]} : f32[32, 4096]", "%y = matmul %x, %t : f32[4096, 4096]"]
    assert nkigen.parse(tensor(*lines).replace("f32[4, 8]", "f32[4096, 32]")).run(a).max() == 32


def test_compiled_programs_have_no_limit():
    kernel = nkigen.compile(lambda x: x + 1, ARRAY)
    assert np.array_equal(kernel.tile_ir.run(ARRAY), ARRAY + 1)


# ---- the fuzzer itself


class Cases:
    """Cases that end in every way."""

    def text(self, i):
        return f"text {i}"

    def run(self, i):
        if i == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if i == 5:
            time.sleep(60)
        if i == 7:
            raise OverflowError("raw")
        return "fine"


def test_crashes_hangs_and_raw_errors_are_found():
    found = []
    counts = fuzz.fuzz(Cases(), 0, 10, hang_s=0.3, report=lambda *a: found.append(a[:3]))
    assert found == [("crash", 3, "text 3"), ("hang", 5, "text 5"), ("internal", 7, "text 7")]
    assert counts["crash"] == counts["hang"] == counts["internal"] == 1


def test_command(capsys):
    from nkigen.cli import main

    assert main(["fuzz", "text", "64", "--seed", "3"]) == 0
    assert "64 text" in capsys.readouterr().out
    assert main(["fuzz", "programs", "2"]) == 0
    assert "2 agreed" in capsys.readouterr().out


def nest(depth, count):
    body = ["tensor_copy %b[0+4, 0: 8*1], %a[0+4, 0: 8*1]", "tensor_copy %a[0+4, 0: 8*1], %b[0+4, 0: 8*1]"]
    head = [f"%i{k} = loop {{count={count}}}" for k in range(depth)]
    return tile(X, Y, A, A.replace("%a", "%b"), LOAD, *head, *body, *["end"] * depth, STORE)


def test_deep_nests_are_priced_at_once():
    begin = time.process_time()
    cost = nkigen.parse(nest(16, 3)).cost()
    assert time.process_time() - begin < 5
    assert cost.instruction_count == 2 * 3**16 + 2
    one = nkigen.parse(nest(1, 3**10)).cost().time_us
    assert nkigen.parse(nest(16, 3)).cost().time_us == pytest.approx(3**6 * one, rel=0.5)


def test_counts_that_do_not_fit_are_no_cost():
    with pytest.raises(nkigen.HardwareLimitError, match="more often than can be counted"):
        nkigen.parse(nest(16, 100)).cost()
