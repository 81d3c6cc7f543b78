"""The surface of NumPy, walked by name: whatever a kernel calls works or raises an error of nkigen's.

NumPy is the oracle of what may be raised besides: what it raises itself for plain arrays, before it hands over.
"""

import copy
import operator
import warnings

import numpy as np
import pytest

import nkigen
from nkigen import _core
from nkigen.errors import NkigenError

pytestmark = pytest.mark.filterwarnings("ignore")

OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow, "@": operator.matmul, "&": operator.and_, "|": operator.or_,
    "^": operator.xor, "<<": operator.lshift, ">>": operator.rshift, "divmod": divmod, "<": operator.lt,
    "==": operator.eq,
}
OTHERS = {
    "array": np.ones((2, 2), np.float32), "bools": np.ones((2, 2), bool), "ints": np.ones((2, 2), np.int32),
    "scalar": np.float32(1), "bool_": np.bool_(True), "int32": np.int32(1), "0-d": np.array(1, np.int32),
    "big-endian": np.ones((2, 2), ">f4"), "list": [[1, 2], [3, 4]], "list of bool": [[True, False]], "tuple": (1, 2),
    "int": 1, "float": 1.5, "True": True, "huge": 2**70,
    "complex": 1j, "object": object(), "objects": np.array([[object()] * 2] * 2), "None": None, "text": "a",
    "ragged": [[1], [1, 2]], "texts": np.array(["a", "b"]), "complexes": np.ones((2, 2), np.complex64),
    "dates": np.array(["2020"], "M8[D]"), "matrix": np.ones((2, 2)).view(np.matrix), "masked": np.ma.array([1.0, 2]),
}  # fmt: skip
UFUNCS = {n: u for n, u in vars(np).items() if isinstance(u, np.ufunc)}


def typed(fn, dtype=np.float32, shape=(2, 2)):
    """Trace fn: its result's dtype, or the error; fails for errors that are neither nkigen's nor NumPy's own."""
    try:
        return nkigen.trace(fn).graph((shape, np.dtype(dtype))).outputs
    except NkigenError as e:
        return e
    except Exception as e:
        assert not isinstance(e, (RecursionError, SystemError, MemoryError))
        with pytest.raises((TypeError, ValueError, RuntimeError, AttributeError)):
            fn(np.ones(shape, dtype))
        return e


@pytest.mark.parametrize("symbol", OPERATORS)
def test_operators(symbol):
    op = OPERATORS[symbol]
    for name, other in OTHERS.items():
        for dtype in (np.float32, np.int32, bool):
            for fn in (lambda x: op(x, other), lambda x: op(other, x)):
                result = typed(fn if symbol != "divmod" else lambda x: fn(x)[1], dtype)
                if name in ("matrix", "masked"):
                    assert isinstance(result, NkigenError)
                elif isinstance(result, tuple) and name != "huge":  # there NumPy fails in C
                    assert fn(np.ones((2, 2), dtype)) is not None


@pytest.mark.parametrize("other", ["bools", "bool_", "list of bool", "True"])
@pytest.mark.parametrize("symbol", ["&", "|", "^"])
def test_bool_operators_work_on_both_sides(symbol, other):
    x = np.array([[1.0, -1], [0, 2]], np.float32)
    op, y = OPERATORS[symbol], OTHERS[other]
    for fn in (lambda x: op(x > 0, y), lambda x: op(y, x > 0)):
        expected = fn(x)
        k = nkigen.compile(fn, x)
        assert np.array_equal(k(x), expected) and np.array_equal(k.reference(x), expected)


def test_divmod():
    x = np.array([-7, 7, 5, -5], np.int32)
    for fn in (lambda x: divmod(x, 3), lambda x: np.divmod(x, 3), lambda x: divmod(np.int32(3), x)):
        for got, want in zip(nkigen.compile(fn, x)(x), fn(x), strict=True):
            assert got.dtype == want.dtype and np.array_equal(got, want)


@pytest.mark.parametrize("name", sorted(UFUNCS))
def test_ufunc(name):
    u = UFUNCS[name]
    for dtype in (np.float32, np.int32, bool):
        typed(lambda x: u(*[x] * u.nin), dtype)
        if u.nin == 2:
            for other in OTHERS.values():
                typed(lambda x: u(x, other), dtype)
                typed(lambda x: u(other, x), dtype)
    for method in ("reduce", "accumulate", "outer", "at", "reduceat"):
        for args in ((), ([0],)):
            typed(lambda x: getattr(u, method)(x, *args))
        typed(lambda x: getattr(u, method)(x, x))
    keywords = [
        {"dtype": np.float32}, {"dtype": "f8"}, {"out": np.ones(2)}, {"where": np.ones(2, bool)}, {"casting": "no"},
        {"order": "F"}, {"subok": False}, {"signature": "ff->f"}, {"bogus": 1}, {"axis": 0}, {"dtype": "bogus"},
        {"out": (None,)},
    ]  # fmt: skip
    for kw in keywords:
        typed(lambda x: u(*[x] * u.nin, **kw))


MODULES = {
    "numpy": np, "linalg": np.linalg, "fft": np.fft, "strings": np.strings, "emath": np.emath,
    "stride_tricks": np.lib.stride_tricks,
}  # fmt: skip
NOT_CALLED = {"save", "savez", "savetxt", "savez_compressed", "fromfile", "load", "loadtxt", "genfromtxt", "info"}
NOT_CALLED |= {"show_config", "show_runtime", "get_include", "test", "memmap"}
#: they take text, bytes or an iterable, never an array, and do not ask the argument
NOT_ARRAYS = {"bmat", "frombuffer", "fromiter", "fromstring"}
FORMS = [
    lambda f, x: f(x), lambda f, x: f(x, x), lambda f, x: f(x, 2), lambda f, x: f(2, x), lambda f, x: f([x, x]),
    lambda f, x: f(x, x, x), lambda f, x: f(x, [0, 1]), lambda f, x: f([x], [x]), lambda f, x: f("ij", x),
]  # fmt: skip


def functions(module):
    names = [n for n in dir(MODULES[module]) if not n.startswith("_") and n not in NOT_CALLED | NOT_ARRAYS]
    found = {n: getattr(MODULES[module], n) for n in names}
    return {n: f for n, f in found.items() if callable(f) and not isinstance(f, (type, np.ufunc))}


@pytest.mark.parametrize("module", MODULES)
def test_functions(module, capsys):
    """What is not supported names itself and a way."""
    for name, f in functions(module).items():
        for form in FORMS:

            def kernel(x):
                form(f, x)
                return x

            error = typed(kernel)
            if isinstance(error, nkigen.UnsupportedError) and " is not supported; " in error.message:
                assert error.message.startswith((f"{f.__module__}.{f.__name__} ", "numpy.")), name
                assert len(error.message.split("; ", 1)[1]) > 5, name


@pytest.mark.parametrize(
    "fn, way",
    [
        (lambda x: np.nanargmax(x), "numpy.max"),
        (lambda x: np.lexsort(x), "before the kernel"),
        (lambda x: x.sort(), r"numpy.sort\(x"),
        (lambda x: np.linalg.inv(x), "solve before the kernel"),
        (lambda x: np.fft.fft(x), "matrix of its factors"),
        (lambda x: np.power.accumulate(x), "accumulate"),
        (lambda x: x.flat, "ravel"),
        (lambda x: np.interp(x, [0.0], [1.0]), "compose it"),
    ],
)
def test_the_way_is_named(fn, way):
    with pytest.raises(nkigen.UnsupportedError, match=way) as e:
        nkigen.trace(fn).graph(((4,), "i32"))
    assert e.value.lineno and e.value.filename == __file__


#: what NumPy's C code asks of foreign objects; a traced array must not have them, or is no subclass that needs them
HOOKS = {
    "__array_finalize__", "__array_interface__", "__array_priority__", "__array_struct__", "__array_wrap__",
    "__class_getitem__", "__setstate__",
}  # fmt: skip
IN_PLACE = {n for n in dir(np.ndarray) if n.startswith("__i") and n not in ("__init__", "__int__", "__index__")}
ARGUMENTS = [(), (0,), (0, 1), (np.float32,), ([0],), (1.0,), ("C",), ((4,),)]


def test_every_name_of_ndarray_is_there():
    missing = set(dir(np.ndarray)) - set(dir(_core.TracedArray)) - HOOKS - IN_PLACE - {"__init_subclass__"}
    assert missing == set()


@pytest.mark.parametrize("name", sorted(n for n in dir(np.ndarray) if not n.startswith("__")))
def test_member(name):
    for args in ARGUMENTS:

        def kernel(x):
            member = getattr(x, name)
            if callable(member):
                member(*args)
            return x

        typed(kernel)


def test_unknown_attributes():
    def attribute(name):
        return lambda x: getattr(x, name)

    for name, message in (("summ", "did you mean 'sum'"), ("relu_six", "neither has numpy.ndarray")):
        with pytest.raises(AttributeError, match=message):
            nkigen.trace(attribute(name)).graph(((4,), "f32"))
    with pytest.raises(AttributeError):
        nkigen.trace(attribute("__array_interface__")).graph(((4,), "f32"))
    nkigen.trace(lambda x: x + hasattr(x, "nonsense")).graph(((4,), "f32"))


@pytest.mark.parametrize("name", ["shape", "dtype", "strides", "real", "imag", "flat", "data", "flags"])
def test_members_that_are_not_set(name):
    with pytest.raises((nkigen.UnsupportedError, nkigen.TraceError), match="; ") as e:
        nkigen.trace(lambda x: (setattr(x, name, x), x)[1]).graph(((4,), "f32"))
    assert e.value.lineno


ARRAYS = {
    "plain": lambda x: x, "transposed": lambda x: x.T, "swapped": lambda x: np.swapaxes(x, 1, 2), "moved": lambda x: np.moveaxis(x, 0, 1),
    "result of transposed": lambda x: x.T + 1, "mixed": lambda x: x.T * x.T.copy(), "row": lambda x: x[1], "column": lambda x: x[:, :, 1],
    "stepped": lambda x: x[:, ::2].T, "broadcast": lambda x: np.broadcast_to(x[:, :1], (2, 3, 4)), "one axis": lambda x: x[0, 0],
    "copy": lambda x: x.T.copy(order="K"), "reshaped": lambda x: x.T.reshape(6, 4), "fortran": lambda x: x.reshape(4, 6, order="F"),
}  # fmt: skip


@pytest.mark.parametrize("order", "CFAK")
@pytest.mark.parametrize("name", ARRAYS)
def test_orders(name, order):
    """The order of elements is that of the memory NumPy would have given the array."""
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    fns = [
        lambda x: ARRAYS[name](x).ravel(order), lambda x: ARRAYS[name](x).flatten(order), lambda x: np.ravel(ARRAYS[name](x), order=order),
        lambda x: ARRAYS[name](x).copy(order=order).ravel("K"), lambda x: ARRAYS[name](x).astype(np.int32, order=order).ravel("K"),
    ]  # fmt: skip
    if order != "K":
        fns += [lambda x: ARRAYS[name](x).reshape(-1, 2, order=order), lambda x: np.reshape(ARRAYS[name](x), (2, -1), order=order)]
    for fn in fns:
        program = nkigen.trace(fn).graph((x.shape, x.dtype))
        assert np.array_equal(program.run(x), fn(x))


def test_members_that_work():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    fns = [
        lambda x: x.conj() + x.conjugate(), lambda x: x.imag + x.real, lambda x: copy.copy(x) * 2,
        lambda x: copy.deepcopy(x) * 2, lambda x: np.stack(list(reversed(x))), lambda x: x.__array_namespace__().exp(x), lambda x: x + len(x.device),
    ]  # fmt: skip
    for fn in fns:
        assert np.allclose(nkigen.compile(fn, x)(x), fn(x))


def test_lists_as_operands_of_composed_ufuncs():
    x = np.array([1.0, np.nan], np.float32)
    for fn in (lambda x: np.fmax(x, [1.0, 2.0]), lambda x: np.fmin((1.0, 2.0), x), lambda x: np.hypot(x, [1.0, 2.0])):
        assert nkigen.compile(fn, x).reference(x).dtype == fn(x).dtype
        assert np.allclose(nkigen.compile(fn, x)(x), fn(x), equal_nan=True)


def test_errors_do_not_hide_what_they_come_from():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(nkigen.ShapeError, match="inhomogeneous"):
            nkigen.trace(lambda x: x + [[1], [1, 2]]).graph(((2,), "f32"))
        with pytest.raises(nkigen.TraceError, match="not known while tracing"):
            nkigen.trace(lambda x: x + [x, x]).graph(((2,), "f32"))
