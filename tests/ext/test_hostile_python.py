"""Objects, numbers and names that people did not mean: the user's exceptions come through, all else is typed."""

import builtins
import keyword

import numpy as np
import pytest

import nkigen
from nkigen import errors

X = np.ones((4, 8), np.float32)


class Mine(Exception):
    """Raised by the user's own code."""


def raises(name):
    def method(self, *args, **kwargs):
        raise Mine(name)

    return method


def hostile(*names, **more):
    return type("Hostile", (), {n: raises(n) for n in names} | more)()


I = hostile("__index__")  # noqa: E741
SEQ = hostile("__getitem__", "__len__")

MINE = {
    "index": lambda x: x[I],
    "slice": lambda x: x[I:],
    "slice step": lambda x: x[::I],
    "reshape": lambda x: x.reshape(I),
    "reshape 2": lambda x: x.reshape(4, I),
    "reshape function": lambda x: np.reshape(x, (I, 8)),
    "sum": lambda x: np.sum(x, axis=I),
    "sum tuple": lambda x: np.sum(x, axis=(I,)),
    "transpose": lambda x: x.transpose(I, 0),
    "expand_dims": lambda x: np.expand_dims(x, I),
    "broadcast_to": lambda x: np.broadcast_to(x, (I, 4, 8)),
    "zeros_like": lambda x: np.zeros_like(x, shape=I),
    "swapaxes": lambda x: x.swapaxes(I, 0),
    "roll": lambda x: np.roll(x, I),
    "repeat": lambda x: np.repeat(x, I),
    "tile": lambda x: np.tile(x, I),
    "round": lambda x: x.round(I),
    "split": lambda x: np.split(x, I),
    "split list": lambda x: np.split(x, [I]),
    "split iterable": lambda x: np.split(x, hostile("__iter__")),
    "iterable": lambda x: x.reshape(hostile("__iter__")),
    "sequence": lambda x: x.reshape(SEQ),
    "axis": lambda x: x.sum(axis=hostile("__iter__")),
    "concatenate": lambda x: np.concatenate(hostile("__iter__")),
    "keepdims": lambda x: np.sum(x, axis=0, keepdims=hostile("__bool__")),
    "ddof": lambda x: x.var(ddof=hostile("__float__")),
    "list": lambda x: x + [hostile("__array__")],
    "dtype text": lambda x: x.astype(hostile("__str__")),
}


@pytest.mark.parametrize("name", MINE)
def test_exceptions_of_the_users_objects_come_through(name):
    with pytest.raises(Mine):
        nkigen.compile(MINE[name], X, cache=False)


def test_an_exception_of_a_dtype_property_comes_through_where_numpy_lets_it():
    bad = hostile(dtype=property(raises("dtype")))
    try:
        X.astype(bad)
    except Mine:
        expected = Mine
    except TypeError:  # NumPy before 2.3
        expected = errors.DTypeError
    with pytest.raises(expected):
        nkigen.compile(lambda x: x.astype(bad), X, cache=False)


def test_exceptions_of_the_users_type_come_through():
    """Also those of classes that NumPy raises itself."""
    for cls in (TypeError, ValueError, OverflowError):

        class Index:
            def __index__(self, cls=cls):
                raise cls("mine")

        for fn in (lambda x: x[Index()], lambda x: x.reshape(Index(), 8), lambda x: x.sum(axis=Index())):
            with pytest.raises(cls, match="^mine$"):
                nkigen.compile(fn, X, cache=False)


def test_exceptions_at_the_edge_come_through():
    bad = hostile("__eq__", __hash__=object.__hash__)
    k = nkigen.compile(lambda x, s: x + 1, X, bad)
    assert k(X, bad).shape == X.shape
    for call in (
        lambda: k(X, hostile("__eq__", __hash__=object.__hash__, __class__=type(bad))),
        lambda: nkigen.compile(lambda x: x + 1, X)(hostile("__array__")),
        lambda: nkigen.compile(lambda x: x + 1, ((I,), "f32")),
        lambda: nkigen.compile(lambda x: {}[x], {hostile("__repr__"): X}),
    ):
        with pytest.raises((Mine, errors.StructureError)):
            call()


@pytest.mark.parametrize("n", [2**63, -(2**63) - 1, 2**200, 10**5000], ids=["63", "-63", "200", "5000 digits"])
@pytest.mark.parametrize(
    "fn",
    [
        lambda x, n: x[n],
        lambda x, n: x.reshape(n),
        lambda x, n: np.reshape(x, (4, n)),
        lambda x, n: x.sum(axis=n),
        lambda x, n: x.sum(axis=(n,)),
        lambda x, n: np.roll(x, n),
        lambda x, n: np.repeat(x, n),
        lambda x, n: np.tile(x, n),
        lambda x, n: np.split(x, n),
        lambda x, n: np.broadcast_to(x, (n, 4, 8)),
        lambda x, n: x.round(n),
    ],
    ids=range(11),
)
def test_integers_beyond_64_bits(fn, n):
    with pytest.raises(errors.NkigenError, match="out of (range|bounds)|64 bits"):
        nkigen.compile(lambda x: fn(x, n), X, cache=False)


@pytest.mark.parametrize("n", [10**400, -(10**5000)], ids=["400 digits", "5000 digits"])
@pytest.mark.parametrize("fn", [np.add, np.power, np.full_like, lambda x, n: x.var(ddof=n)], ids="add pow full ddof".split())
def test_integers_that_no_dtype_holds(fn, n):
    with pytest.raises(errors.DTypeError, match="the integer is too large"):
        nkigen.compile(lambda x: fn(x, n), X, cache=False)


@pytest.mark.parametrize("shape", [(2**63,), (2**62,), (2**31, 2**31), 2**63, (4, -1), (2**40, 2**40, 0)])
def test_shapes_that_no_array_has(shape):
    with pytest.raises(errors.NkigenError, match=r"2\*\*63|too large|non-negative"):
        nkigen.compile(lambda x: x + 1, (shape, "f32"))


SHAPE = (2880, 2048, 255, 0, 2047, 128)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x + 1,
        lambda x: np.exp(x).T,
        lambda x: x.reshape(0, 7),
        lambda x: x.reshape(2880 * 2048, 0),
        lambda x: x.sum(axis=(0, 1)),
        lambda x: np.concatenate([x, x], axis=2),
        lambda x: x[5:17, :, 3],
        lambda x: x[:, 0, 0] @ np.zeros((128, 3), np.float32),
    ],
    ids=range(8),
)
def test_no_elements_whatever_the_other_dims(fn):
    x = np.empty(SHAPE, np.float32)
    k = nkigen.compile(fn, x, check="every-pass", cache=False)
    expected = fn(x)
    assert k(x).shape == k.reference(x).shape == expected.shape and k(x).dtype == expected.dtype
    assert k.cost.instruction_count == 0
    with pytest.raises(errors.UnsupportedError, match="no result of this kernel has elements"):
        k.nki()


SUR = "\ud800"


def test_surrogates_are_typed_errors_or_escaped():
    with pytest.raises(errors.DTypeError, match=r"dtype \\ud800"):
        nkigen.compile(lambda x: x.astype(SUR), X)
    with pytest.raises(errors.DTypeError, match=r"dtype \\ud800"):
        nkigen.compile(lambda x: x, ((4,), SUR))
    with pytest.raises(errors.ParseError):
        nkigen.parse(SUR)
    for text in (SUR, "\0", "plan trn2 {\n\0}"):
        with pytest.raises(errors.ParseError):
            nkigen.compile(lambda x: x + 1, X, plan=text)
    with pytest.raises(errors.DTypeError, match="unexpected keyword"):
        nkigen.compile(lambda x: x + 1, X)(**{SUR: X})
    with pytest.raises(errors.OptionError):
        nkigen.compile(lambda x: x + 1, X, target=SUR)
    k = nkigen.compile(nkigen.trace(lambda **kw: kw[SUR] + kw["a"][SUR], name=SUR), params={SUR: X, "a": {SUR: X}})
    for text in (k.name, repr(k), k.nki(), str(k.tile_ir), *(i.name for i in k.inputs)):
        text.encode()
    assert [i.name for i in k.inputs] == ["\\ud800", "a['\\ud800']"]
    assert np.array_equal(k(**{SUR: X, "a": {SUR: X}}), X + X)
    with pytest.raises(errors.TraceError, match=r"in \\ud800|truth value"):
        nkigen.compile(nkigen.trace(lambda x: 1 if x else 2, name=SUR), X)


NAMES = sorted({*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "self", "nki", "nl", "nisa", "np", "i", "t4", "p5"})


def test_any_name_gives_valid_source():
    """Parameters and kernels; keywords and what the source uses are renamed."""
    for name in [*NAMES, "1st", "a b", "ä", "", "x\n", '"""', "__x__", "x" * 300]:
        fn = nkigen.trace(lambda **kw: list(kw.values())[0] + 1, name=name or None)
        k = nkigen.compile(fn, params={name: X}, check="off")
        scope = {}
        code = compile(k.nki().replace("import nki", "pass  #").replace("@nki.jit", ""), "kernel", "exec")
        exec(code, scope)  # noqa: S102 - the def alone
        (made,) = (v for n, v in scope.items() if callable(v))
        (parameter,) = made.__code__.co_varnames[: made.__code__.co_argcount]
        for n in (parameter, made.__name__):
            assert n.isidentifier() and not keyword.iskeyword(n) and n != "__debug__", name
        assert nkigen.parse(str(k.tile_ir)) == k.tile_ir


MASKED = np.ma.masked_array(X, X > 0)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x + MASKED,
        lambda x: MASKED + x,
        lambda x: np.where(MASKED > 0, x, 0),
        lambda x: np.concatenate([x, MASKED]),
        lambda x: (x, MASKED),
        lambda x: x > np.ma.masked,
        lambda x: x * X[:1].view(np.matrix),
        lambda x: (x, X.view(np.matrix)),
    ],
    ids=range(8),
)
def test_masks_are_not_dropped(fn):
    with pytest.raises(errors.NkigenError, match="no plain array|not known while tracing"):
        nkigen.compile(fn, X, cache=False)


def test_masked_arguments():
    k = nkigen.compile(lambda x: x + 1, X)
    for call in (lambda: k(MASKED), lambda: k.reference(MASKED), lambda: nkigen.compile(lambda x: x, MASKED)):
        with pytest.raises(errors.DTypeError, match="masked array"):
            call()
