"""What a user reads when something is wrong: class, text, line and caret."""

import textwrap
import warnings

import numpy as np
import pytest

import nkigen
from nkigen import errors

X = np.ones((4, 8), np.float32)

#: name -> (source, shapes of the arguments, exception, part of the message, marked text)
CASES = {
    "if": (
        """
        def f(x):
            if -x:
                return x
            return x + 1
        """,
        [(4, 8)], errors.TraceError, "truth value", "if -x",
    ),
    "if_compare": (
        """
        def f(x):
            y = x + 1
            if y > 0:
                return y
            return x
        """,
        [(4, 8)], errors.TraceError, "numpy.where", "y > 0",
    ),
    "float": (
        """
        def f(x):
            return x * float(x)
        """,
        [()], errors.TraceError, "float", "float(x)",
    ),
    "matmul_shapes": (
        """
        def f(x, y):
            return x @ y
        """,
        [(4, 8), (9, 3)], errors.ShapeError, "8", "x @ y",
    ),
    "broadcast": (
        """
        def f(x, y):
            z = x * 2
            return z + y
        """,
        [(4, 8), (5, 8)], errors.ShapeError, "(4, 8)", "z + y",
    ),
    "axis": (
        """
        def f(x):
            return np.sum(x, axis=2)
        """,
        [(4, 8)], errors.ShapeError, "axis 2", "np.sum(x, axis=2)",
    ),
    "reshape": (
        """
        def f(x):
            return np.reshape(x, (5, 7))
        """,
        [(4, 8)], errors.ShapeError, "32", "np.reshape(x, (5, 7))",
    ),
    "index": (
        """
        def f(x):
            return x[9]
        """,
        [(4, 8)], errors.IndexingError, "9", "x[9]",
    ),
    "too_many_indices": (
        """
        def f(x):
            return x[0, 0, 0]
        """,
        [(4, 8)], errors.IndexingError, "indices", "x[0, 0, 0]",
    ),
    "unsupported_function": (
        """
        def f(x):
            return np.linalg.inv(x)
        """,
        [(4, 4)], errors.UnsupportedError, "inv", "np.linalg.inv(x)",
    ),
    "out": (
        """
        OUT = np.linspace(0, 1, 32, dtype=np.float32).reshape(4, 8)
        def f(x):
            return np.add(x, 1, out=OUT)
        """,
        [(4, 8)], errors.TraceError, "cannot be written to a NumPy array that was made outside", "np.add(",
    ),
    "where": (
        """
        def f(x):
            return np.exp(x, where=x > 0)
        """,
        [(4, 8)], errors.UnsupportedError, "where", "np.exp(x, where=x > 0)",
    ),
    "keyword": (
        """
        def f(x):
            return np.sum(x, axes=1)
        """,
        [(4, 8)], TypeError, "axes", "np.sum(x, axes=1)",
    ),
    "dtype": (
        """
        def f(x):
            return x.astype("complex64")
        """,
        [(4, 8)], errors.DTypeError, "complex64", 'x.astype("complex64")',
    ),
    "concat": (
        """
        def f(x, y):
            return np.concatenate([x, y], axis=0)
        """,
        [(4, 8), (4, 7)], errors.ShapeError, "7", "np.concatenate([x, y], axis=0)",
    ),
}  # fmt: skip


def function_of(tmp_path, source):
    """The function of a source file of its own, so that it has lines to show."""
    path = tmp_path / "kernel.py"
    path.write_text("import numpy as np\n" + textwrap.dedent(source))
    scope = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    return scope["f"], path


@pytest.mark.parametrize("name", sorted(CASES))
def test_kernel_error(name, tmp_path):
    source, shapes, cls, part, marked = CASES[name]
    fn, path = function_of(tmp_path, source)
    specs = [(s, "f32") for s in shapes]
    with pytest.raises(cls) as info:
        nkigen.compile(fn, *specs, cache=False)
    e = info.value
    assert part in str(e)
    if isinstance(e, errors.NkigenError):
        line = next(i for i, s in enumerate(path.read_text().splitlines(), 1) if marked in s)
        assert (e.filename, e.lineno) == (str(path), line)
        text = path.read_text().splitlines()[line - 1]
        assert e.text.strip() == text.strip()
        if e.offset is not None:
            # of an `if` Python 3.11 marks the whole statement, 3.12 the condition
            assert e.offset - 1 in (text.index(marked), text.index(marked.removeprefix("if ")))
            assert f"\n    {'^':>{e.offset - (len(text) - len(text.lstrip()))}}" in str(e)


@pytest.mark.parametrize(
    "fn, part",
    [
        (lambda x: None, "returned None"),
        (lambda x: (), "an empty tuple"),
        (lambda x: 3, "an int"),
        (lambda x: {"n": [3]}, "a dict without arrays"),
        (lambda x: {"y": [x, {1, 2}]}, r"a set \(result\['y'\]\[1\]\)"),
        (lambda x: (x for _ in range(2)), "a generator"),
        (lambda x: (x, object()), r"an object \(result\[1\]\)"),
    ],
    ids=["none", "empty", "number", "statics", "set", "generator", "object"],
)
def test_result_without_arrays_or_of_other_things(fn, part):
    with pytest.raises(errors.TraceError, match=part):
        nkigen.compile(fn, X, cache=False)


def test_target():
    with pytest.raises((ValueError, errors.NkigenError), match="trn9.*trn1.*trn2.*trn3"):
        nkigen.compile(np.exp, X, target="trn9")


def test_check():
    with pytest.raises((ValueError, errors.NkigenError), match="every-pass"):
        nkigen.compile(lambda x: x + 1, X, check="sometimes")


def test_unknown_option():
    with pytest.raises(TypeError, match="colour"):
        nkigen.compile(lambda x: x + 1, X, colour="red")


def test_number_of_arguments():
    with pytest.raises(TypeError):
        nkigen.compile(lambda x, y: x + y, X)
    k = nkigen.compile(lambda x, y: x + y, X, X)
    with pytest.raises(TypeError, match="2"):
        k(X)


@pytest.mark.parametrize("run", ["__call__", "reference"])
def test_call_with_wrong_shape_or_dtype(run):
    k = nkigen.compile(lambda x: x + 1, X)
    with pytest.raises(errors.ShapeError, match=r"\(4, 8\).*\(4, 9\)|\(4, 9\).*\(4, 8\)"):
        getattr(k, run)(np.ones((4, 9), np.float32))
    with pytest.raises(errors.DTypeError, match="f32|float32"):
        getattr(k, run)(X.astype(np.int32))
    assert np.array_equal(getattr(k, run)(X), X + 1)  # nothing is lost


@pytest.mark.parametrize("layout", ["F", "strided", "readonly"])
def test_arrays_of_any_layout(layout):
    x = np.arange(32, dtype=np.float32).reshape(4, 8)
    k = nkigen.compile(lambda x: x * 2, x)
    if layout == "F":
        given = np.asfortranarray(x)
    elif layout == "strided":
        given = np.repeat(x, 2, axis=1)[:, ::2]
    else:
        given = x.copy()
        given.flags.writeable = False
    assert np.array_equal(k(given), x * 2)
    assert np.array_equal(given, x)


def test_dtype_the_target_lacks():
    spec = ((128, 128), "fp8_e3m4")
    try:
        k = nkigen.compile(lambda x: x + x, spec, target="trn2")
    except (errors.NkigenError, ValueError) as e:
        assert "fp8_e3m4" in str(e)
    else:
        assert k.verify() == []


def test_spec_dtype():
    with pytest.raises((TypeError, errors.NkigenError), match="f33"):
        nkigen.compile(lambda x: x, ((2, 2), "f33"))


def test_f64_is_narrowed_and_says_so(tmp_path):
    fn, _ = function_of(tmp_path, "def f(x):\n    return x * 2.0\n")
    x = np.ones((3, 4))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        k = nkigen.compile(fn, x, cache=False)
    texts = [str(w.message) for w in seen if issubclass(w.category, errors.NarrowingWarning)]
    assert len(texts) == 1 and "float64 is computed as float32" in texts[0]
    assert np.array_equal(k(x), np.full((3, 4), 2.0))
    with pytest.raises(errors.NkigenError, match="f64|float64"):
        nkigen.compile(fn, x, narrow="error", cache=False)


def test_narrowing_shows_the_line_that_widens(tmp_path):
    fn, path = function_of(tmp_path, "def f(x):\n    return x * np.float64(2.5)\n")
    with pytest.warns(errors.NarrowingWarning, match="np.float64") as seen:
        nkigen.compile(fn, X, cache=False)
    assert len(seen) == 1 and f'File "{path}", line 3' in str(seen[0].message)


def test_constant_that_does_not_fit():
    big = np.array([2**40, 1], np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(errors.NkigenError, match="1099511627776|fit"):
            nkigen.compile(lambda x: x + big, ((2,), "i64"), cache=False)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5)])
def test_zero_size(shape):
    x = np.ones(shape, np.float32)
    for fn in (lambda x: x * 2 + 1, lambda x: np.sum(x, axis=0), lambda x: x.T):
        k = nkigen.compile(fn, x)
        assert k.verify() == []
        assert np.array_equal(k(x), fn(x)) and k(x).shape == fn(x).shape


def test_zero_size_on_the_way():
    for fn in (lambda x: np.concatenate([x[:0], x + 1]), lambda x: x[:0] + 1):
        k = nkigen.compile(fn, X)
        assert np.array_equal(k(X), fn(X))


def test_maximum_of_nothing():
    with pytest.raises(errors.NkigenError, match="zero-size|empty|identity"):
        nkigen.compile(lambda x: np.max(x, axis=0), ((0, 4), "f32"))


TEXTS = {
    "no_header": ("%1 = add %a, %b\n", 1),
    "unknown_op": ("tensor @f {\n  %x = input {index=0} : f32[4]\n  %y = frobnicate %x : f32[4]\n  return %y\n}\n", 3),
    "undefined_value": ("tensor @f {\n  %x = input {index=0} : f32[4]\n  %y = exp %z : f32[4]\n  return %y\n}\n", 3),
    "unknown_attribute": ("tensor @f {\n  %x = input {indx=0} : f32[4]\n  return %x\n}\n", 2),
    "bad_dtype": ("tensor @f {\n  %x = input {index=0} : f99[4]\n  return %x\n}\n", 2),
    "unclosed": ("tensor @f {\n  %x = input {index=0} : f32[4]\n  return %x\n", 4),
    "empty": ("", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_program_text(name):
    text, line = TEXTS[name]
    with pytest.raises(errors.ParseError) as info:
        nkigen.parse(text)
    assert info.value.lineno in (line, max(line - 1, 1))
    assert info.value.offset >= 1
    assert f"line {info.value.lineno}" in str(info.value)


def test_truncated_texts_never_crash():
    text = str(nkigen.compile(lambda x: np.exp(x) @ x.T, X).tile_ir)
    for n in range(0, len(text) - 2, max(1, len(text) // 150)):
        with pytest.raises(errors.NkigenError):
            nkigen.parse(text[:n])


def test_int64_values_that_do_not_fit_are_refused():
    with pytest.warns(nkigen.NarrowingWarning):
        k = nkigen.compile(lambda x: x + 1, np.arange(5), cache=False)
    assert k(np.arange(5)).tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(nkigen.DTypeError, match="cannot hold its values"):
        k(np.arange(5) + 2**40)


def test_square_of_integers_wraps():
    x = np.array([50000, 70000, -46341], np.int32)
    k = nkigen.compile(lambda a: (np.square(a), a**2), x)
    for y in k(x):
        assert np.array_equal(y, x * x)


@pytest.mark.parametrize("text", ["", "plan trn1 {\n}\n", "plan trn2\n}\n"])
def test_plan_without_its_frame(text):
    x = np.ones((4, 4), np.float32)
    with pytest.raises(nkigen.ParseError, match="plan: expected `plan trn2 {`"):
        nkigen.compile(lambda a: a + 1, x, plan=text)


def test_every_pass_knows_the_roundings_inside():
    import ml_dtypes

    x = np.linspace(-2, 2, 900).reshape(30, 30).astype(ml_dtypes.bfloat16)
    nkigen.compile(lambda x: (x * x + x) * np.float32(1), x, check="every-pass")
