"""Constants of many megabytes: looking at a kernel and finding it in the cache stay cheap."""

import time
import tracemalloc

import numpy as np
import pytest

import nkigen

MIB = 1 << 20
BIG = np.random.default_rng(0).standard_normal((1024, 2048), dtype=np.float32)  # 8 MiB
X = np.ones((4, 1024), np.float32)


@pytest.fixture(scope="module")
def kernel():
    return nkigen.compile(lambda x: x @ BIG, X, check="off")


def peak(call):
    """The result, and the most bytes of Python objects at once."""
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_views_leave_the_bytes_out(kernel):
    for view in (kernel._repr_html_, kernel.__repr__, kernel.tensor_ir._repr_html_, kernel.tile_ir.brief, kernel.verify):
        begin = time.perf_counter()
        out, most = peak(view)
        assert most < MIB and time.perf_counter() - begin < 2
        assert not isinstance(out, str) or len(out) < MIB
    assert f"... {BIG.nbytes} bytes" in kernel.tensor_ir.brief()
    assert f"... {BIG.nbytes} bytes" in kernel._repr_html_()


def test_the_text_is_the_program(kernel):
    text = str(kernel.tensor_ir)
    assert BIG.tobytes().hex() in text
    assert nkigen.parse(text) == kernel.tensor_ir


def test_a_violation_does_not_print_the_bytes():
    text = str(nkigen.compile(lambda x: x * np.arange(4096, dtype=np.float32), ((4096,), "f32")).tile_ir)
    broken = text.replace("kind=constant", "kind=tile", 1)
    assert broken != text
    found = nkigen.parse(broken).verify()
    assert found and all(len(str(v)) < 2000 for v in found)


def test_the_cache_key_holds_no_text():
    nkigen.clear_cache()
    fn = lambda x: x @ BIG  # noqa: E731
    _, most = peak(lambda: nkigen.compile(fn, X, check="off"))
    assert most < 2 * MIB
    _, most = peak(lambda: nkigen.compile(fn, X, check="off"))
    assert most < MIB


def test_the_cache_tells_constants_apart():
    nkigen.clear_cache()
    x = np.ones(2048, np.float32)
    constants = [np.zeros(2048, np.float32) for _ in range(4)]
    constants[1][1024] = 1
    constants[2][1025] = 1
    constants[3][:] = -0.0
    for c in (*constants, *constants):
        assert np.array_equal(nkigen.compile(lambda x, c=c: x * c, x)(x), x * c)
    digests = {nkigen.compile(lambda x, c=c: x * c, x).tensor_ir.digest() for c in constants}
    assert len(digests) == 4 and all(len(d) == 32 for d in digests)
    # the same bytes, split in another way
    a, b = np.arange(64, dtype=np.float32), np.arange(64, 128, dtype=np.float32)
    two = [nkigen.compile(lambda x, p=p: np.concatenate([x, *p]) * 2, x).tensor_ir for p in ((a, b), (np.r_[a, b],))]
    assert two[0] != two[1] and two[0].digest() != two[1].digest()


def test_programs_compare_as_their_texts():
    k = nkigen.compile(lambda x: np.exp(x) * 2, X, cache=False)
    again = nkigen.compile(lambda x: np.exp(x) * 2, X, cache=False)
    for name, program in k.stages.items():
        other = again.stages[name]
        assert program == other and hash(program) == hash(other) and str(program) == str(other)
        assert program.digest() == other.digest()
        assert nkigen.parse(str(program)) == program
    assert k.tensor_ir != k.tile_ir
    assert (k.tensor_ir == 3) is False


def test_views_of_long_programs_are_bounded():
    def fn(x):
        for i in range(3000):
            x = np.tanh(x + i)
        return x

    k = nkigen.compile(fn, ((8, 8), "f32"), check="off")
    count = len(k.tensor_ir.ops)
    assert f"... {count - 2000} more ops" in k.tensor_ir._repr_html_() and len(k._repr_html_()) < 2 * MIB
    brief = k.tensor_ir.brief(5).splitlines()
    assert len(brief) == 9 and brief[6] == f"  ... {count - 5} more ops" and brief[5] == str(k.tensor_ir).splitlines()[5]
    assert k.tensor_ir.brief() == str(k.tensor_ir)
    plan = k.stages["plan"]
    assert plan.brief() == str(plan) and plan.brief(5).splitlines()[:9] == k.stages["tilable"].brief(5).splitlines()
    assert plan.brief(5).splitlines()[9:11] == [x for x in str(plan).splitlines() if x[:5] in ("plan ", "  gro")][:2]
    assert plan.brief(5).splitlines()[-2:] == ["    ...", "}"] and len(plan.brief(5).splitlines()) == 18


def test_a_kernel_of_many_parameters_has_a_short_repr():
    k = nkigen.compile(lambda *xs: sum(xs[1:], xs[0]), *[((4,), "f32")] * 30)
    assert "x" in repr(k) and "... 22 more" in repr(k)
