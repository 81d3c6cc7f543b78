"""Arrays made inside of a kernel take traced elements; NumPy is untouched elsewhere."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import nkigen
from nkigen.buffers import Buffer
from nkigen.errors import TraceError

f = np.float32
X = np.arange(12, dtype=f).reshape(3, 4)


def as_tuple(r):
    return r if isinstance(r, tuple) else (r,)


@pytest.mark.filterwarnings("ignore")
def agree(fn, *arrays):
    expected = as_tuple(fn(*[a.copy() for a in arrays]))
    kernel = nkigen.compile(fn, *arrays, check="every-pass", cache=False)
    for run in (kernel.reference, kernel):
        for a, e in zip(as_tuple(run(*[a.copy() for a in arrays])), expected, strict=True):
            assert a.shape == np.shape(e)
            np.testing.assert_allclose(a, e, rtol=1e-6)
    return kernel


def accumulated(x):
    acc = np.zeros((4,), f)
    for row in x:
        acc += row
    return acc


def elements(x):
    total = np.zeros(3)
    total[0] = x[0].sum()
    total[1] += x[1, 1]
    total[2] = 5
    return total


def rows(x):
    buf = np.empty((3, 4), f)
    for i in range(3):
        buf[i] = x[i] * i
    return buf


def views_before(x):
    buf = np.ones((3, 4), f)
    row, column, flat, back = buf[1], buf.T[2], buf.reshape(-1), buf[::-1, ::-2]
    deep = buf.reshape(3, 2, 2)[1:, :, 1].T
    buf += x
    row *= 2
    flat[3] = 7
    return buf, row + 0, column + 0, flat + 0, back * 1, deep * 1


def written_through_views(x):
    buf = np.zeros((4, 6), f)
    a = buf[1:3, ::2]
    a[:, :] = x[:2, :3]
    b = buf.T
    b[5] += x[0]
    c = buf.ravel()[20:]
    c -= x[2]
    buf.reshape(2, 2, 6)[1, 0, 4] = x[0, 0]
    return buf


def fortran(x):
    buf = np.zeros((3, 4), f, order="F")
    part = buf[1:, 2]
    buf[...] = x
    return buf, part * 2


def functions(x):
    buf = np.full((3, 4), 2, f)
    other = np.zeros_like(buf)
    buf[0] = x[0]
    other[:] = buf
    return buf.sum(), np.sum(buf, axis=0), np.concatenate([buf, x]), np.where(buf > 2, buf, other), buf @ buf.T, other.T


def minus_infinity(x):
    best = np.zeros(4, f) - f(3)
    best = np.maximum(best, x[0])
    run = np.zeros(4, f) + 1
    run[1:] = x[1, 1:]
    return best, run


def constants_stay(x):
    table = np.arange(4).astype(f)
    table[1] = 9
    table += 1
    return x * table


def arrays_of_traced(x):
    y = np.array([x[0, 0], x[1, 1], 2.0], f)
    z = np.array(x)
    z += 1
    w = np.asarray(x)
    return y, z, w * 1, np.array([[x[0, 0] * 1, 1], [2, x[0, 1]]], f)


def scalar(x):
    total = np.zeros((), f)
    for row in x:
        total += row.sum()
    return total


def loops(x):
    out = np.zeros((3, 4), f)
    for i in range(3):
        for j in range(4):
            out[i][j] = x[i, j] * (i + j)
    for row in out:
        row += x[0]
    return out


def out_argument(x):
    out = np.empty((3, 4), f)
    np.multiply(x, 3, out=out)
    np.add(out[0], 1, out=out[1])
    return out


FUNCTIONS = [accumulated, elements, rows, views_before, written_through_views, fortran, functions, minus_infinity,
             constants_stay, arrays_of_traced, scalar, loops, out_argument]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_buffers(fn):
    agree(fn, X)


def test_many_rows():
    def stacked(x):
        buf = np.zeros((2000, 2), f)
        for i in range(2000):
            buf[i] = x[i] * f(i)
        return buf

    program = nkigen.trace(stacked).graph(np.ones((2000, 2), f))
    text = nkigen._core.run_pass("canonicalize", str(program), "trn2")
    assert text.count("concat") == 1
    assert "update" not in text


@pytest.mark.parametrize("kind", ["written", "added", "read"])
def test_tracing_is_linear(kind):
    """Ops per row do not grow with the rows: nothing looks back over all writes."""

    def program(n):
        def fn(x):
            buf = np.zeros((n, 2), f)
            for i in range(n):
                if kind == "written":
                    buf[i] = x[i] * f(3)
                elif kind == "added":
                    buf[i] += x[i]
                else:
                    buf[i] = x[i] + buf[i // 2]
            return buf

        start = time.process_time()
        graph = nkigen.trace(fn).graph(((n, 2), "f32"))
        return len(graph.ops) / n, time.process_time() - start

    small, large = program(300), program(3000)
    assert large[0] <= small[0] + 1
    assert large[1] <= 10 * 5 * small[1] + 0.1


# ---- NumPy is untouched ----


def test_numpy_is_its_own_again():
    before = {n: getattr(np, n) for n in ("zeros", "ones", "empty", "full", "array", "asarray")}
    seen = []

    def fn(x):
        seen.append((type(np.zeros(2)), type(np.ones_like(np.zeros(2)))))
        return x + 1

    nkigen.trace(fn).graph(X)
    assert seen == [(Buffer, Buffer)]

    def failing(x):
        raise KeyError("stop")

    with pytest.raises(KeyError):
        nkigen.trace(failing).graph(X)
    assert {n: getattr(np, n) for n in before} == before
    assert type(np.zeros(2)) is np.ndarray


def test_other_threads_are_untouched():
    started, seen, stop = threading.Event(), [], threading.Event()

    def other():
        started.wait(10)
        for _ in range(50):
            seen.append({type(np.zeros(2)), type(np.array([1.0])), type(np.full(2, 1)), type(np.asarray([1]))})
        stop.set()

    def fn(x):
        acc = np.zeros(4, f)
        started.set()
        assert stop.wait(10)
        acc += x[0]
        return acc

    thread = threading.Thread(target=other)
    thread.start()
    nkigen.trace(fn).graph(X)
    thread.join()
    assert seen == [{np.ndarray}] * 50


def test_two_traces_at_once():
    barrier = threading.Barrier(2, timeout=10)
    results = {}

    def run(name, factor):
        def fn(x):
            acc = np.zeros(4, f)
            barrier.wait()
            acc += x[0] * f(factor)
            barrier.wait()
            return acc

        results[name] = nkigen.trace(fn).graph(X).run(X)

    threads = [threading.Thread(target=run, args=(n, n + 2)) for n in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for n in range(2):
        assert np.array_equal(results[n], X[0] * (n + 2))
    assert type(np.zeros(1)) is np.ndarray


# ---- arrays made elsewhere ----


def test_constants_from_outside_are_refused():
    table = np.zeros(4, f)

    def added(x):
        acc = table
        acc += x[0]
        return acc

    def assigned(x):
        table[0] = x[0, 0]
        return x

    for fn, text in ((added, "made outside of the kernel"), (assigned, "make that inside of the kernel")):
        with pytest.raises(TraceError, match=text):
            nkigen.trace(fn).graph(X)
    assert not table.any()


def test_a_buffer_of_another_trace_is_a_constant():
    kept = []

    def first(x):
        kept.append(np.zeros(4, f))
        return x + 1

    def second(x):
        kept[0][0] = x[0, 0]
        return x

    nkigen.trace(first).graph(X)
    with pytest.raises(TraceError):
        nkigen.trace(second).graph(X)
    assert np.array_equal(nkigen.trace(lambda x: x[0] + kept[0]).graph(X).run(X), X[0])


# ---- any view ----


@st.composite
def view_programs(draw):
    """An expression that makes a view of `b`, of shape (4, 6)."""
    steps = ["[1:]", "[::2]", "[::-1]", "[..., 1:4]", "[..., ::-2]", ".T", "[None]", ".reshape(-1)", "[..., 0]"]
    steps += [".reshape(2, -1)", ".swapaxes(0, -1)", ".squeeze()", "[1:, ..., :2]", ".reshape(2, 3, -1)"]
    return "b" + "".join(draw(st.lists(st.sampled_from(steps), max_size=4)))


@settings(max_examples=100)
@given(view_programs(), st.sampled_from("CF"), st.booleans())
def test_views_of_buffers(view, order, write):
    def fn(x):
        b = np.zeros((4, 6), f, order=order)
        b[...] = np.arange(24, dtype=f).reshape(4, 6)
        try:
            v = eval(view)  # noqa: S307
        except (ValueError, IndexError):
            v = b
        b[1:3] += x
        b[0, 2] = x[0, 0]
        if write and isinstance(v, np.ndarray) and v.ndim and v.size:
            v *= 2
            v[0] = x[1, 1]
        return b, v + f(0)

    note(view)
    x = -np.arange(6, dtype=f) + np.array([[100], [200]], f)
    expected = fn(x.copy())
    for a, e in zip(nkigen.trace(fn).graph(x).run(x), expected, strict=True):
        assert np.array_equal(a, e)


@pytest.mark.parametrize("key", ["[::-1]", "[:, ::-1]", ".T", ".T[::-1]", "[::-1, ::-1]", ".transpose(1, 0)", ".swapaxes(0, 1)[:, ::-1]"])
@pytest.mark.parametrize("make", ["zeros((3, 3), np.float32)", "full((3, 3), 7, np.int32)", "ones_like(x)"])
def test_a_view_of_equal_elements_keeps_its_order(make, key):
    """Reversed or transposed, a constant of equal elements has the same value, but its places are others."""
    scope = {"np": np}
    exec(f"def kernel(x):\n    t = np.{make}\n    t{key}[...] = x\n    return t", scope)  # noqa: S102
    x = np.arange(9, dtype=np.float32).reshape(3, 3)
    k = nkigen.compile(scope["kernel"], x)
    for run in (k, k.reference):
        assert np.array_equal(run(x), scope["kernel"](x))


@pytest.mark.parametrize("dtype", [np.float16, np.int8, bool])
def test_asarray_of_a_buffer_with_another_dtype(dtype):
    def kernel(x):
        a = np.asarray(np.zeros(x.shape, np.float32)[..., 1:], dtype)
        a += x[:-1].astype(dtype)
        return np.asarray(np.ones(3, np.float32), dtype), a

    x = np.float32([0, 1, 2, 3])
    k = nkigen.compile(kernel, x)
    for got, want in zip(k(x), kernel(x), strict=True):
        assert got.dtype == want.dtype and np.array_equal(got, want)


@pytest.mark.parametrize("how", ["std", "var", "mean", "sum", "max", "cumsum"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_statistics_of_constants(how, shape):
    """Constants made in the kernel go through every step of NumPy's own methods."""

    def f(x):
        b = np.full(shape, 3, np.float32)
        return x + getattr(b, how)() + getattr(np, how)(b)

    x = np.ones(6 if how == "cumsum" and shape else 3, np.float32)
    x = x[: max(1, np.size(getattr(np.ones(shape), how)()))]
    np.testing.assert_array_equal(nkigen.compile(f, x)(x), f(x))


MADE = [
    "np.roll(np.float32(2), 1)", "np.repeat([1, 2, 3], 2)", "np.tile([1, 2], 3)",
    "np.concatenate([[1, 2], [3]])", "np.stack([[1, 2], [3, 4]])", "np.outer([1, 2], [3, 4])",
    "np.vstack([[1, 2], [3, 4]])", "np.hstack([[1, 2], [3, 4]])",
]  # fmt: skip


@pytest.mark.parametrize("made", MADE)
def test_what_numpy_makes_of_numbers_takes_traced_elements(made):
    """Also functions without an array among their arguments give arrays of the kernel."""

    def f(x):
        b = eval(made).astype(np.float32)
        b[...] = b + x[0]
        return b * 2

    x = np.array([1.5, 2.5], np.float32)
    np.testing.assert_array_equal(nkigen.compile(f, x)(x), f(x))


@pytest.mark.parametrize("traced", [False, True])
def test_out_is_what_comes_back(traced):
    """A function or method with `out=` returns that very array, as NumPy does."""

    def f(x):
        b = np.ones((2, 3), np.float32)
        if traced:
            b[0, 0] = x[0]
        o, m = np.zeros(3, np.float32), np.zeros(2, np.float32)
        assert np.sum(b, axis=0, out=o) is o
        assert b.max(axis=1, out=m) is m
        o[0] = x[1]
        return o, m

    x = np.array([1.5, 2.5], np.float32)
    for a, b in zip(nkigen.compile(f, x)(x), f(x), strict=True):
        np.testing.assert_array_equal(a, b)
