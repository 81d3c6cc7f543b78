"""NumPy's own signatures, walked: every parameter is taken, or refused with its reason; the page of names is current."""

import inspect
from pathlib import Path

import numpy as np
import pytest

import nkigen
from nkigen import _core, names, ops

pytestmark = pytest.mark.filterwarnings("ignore")
PAGE = Path(__file__).parents[2] / "docs" / "numpy.md"
ENTRIES = {e.name: e for e in names.entries()}
#: arguments in front that a function may be called with; the first form that NumPy takes is the one
FORMS = {
    "x": lambda f, x, **k: f(x, **k),
    "x y": lambda f, x, **k: f(x, x, **k),
    "list": lambda f, x, **k: f([x, x], **k),
    "x 1": lambda f, x, **k: f(x, 1, **k),
    "x 0 1": lambda f, x, **k: f(x, 0, 1, **k),
    "x int": lambda f, x, **k: f(x, np.int32, **k),
    "x shape": lambda f, x, **k: f(x, (2, 8), **k),
    "x broadcast": lambda f, x, **k: f(x, (4, 4), **k),
    "where": lambda f, x, **k: f(x > 0, x, x, **k),
    "select": lambda f, x, **k: f([x > 0], [x], **k),
    "along": lambda f, x, **k: f(x, np.zeros((4, 1), int), -1, **k),
    "put": lambda f, x, **k: f(x, np.zeros((4, 1), int), x[:, :1] * 2, -1, **k),
    "einsum": lambda f, x, **k: f("ij->ji", x, **k),
    "one": lambda f, x, **k: f(x[:1, :1], **k),
    "vector": lambda f, x, **k: f(x[0], **k),
}
#: where NumPy takes more than is traced: a condition alone, an array on a diagonal
OWN_FORM = {"where": "where", "fill_diagonal": "x 1"}
#: section by section what models use
UFUNCS = """add subtract multiply divide true_divide floor_divide remainder mod fmod power float_power maximum minimum fmax fmin
negative positive absolute abs fabs sign square sqrt cbrt reciprocal exp exp2 expm1 log log2 log10 log1p logaddexp sin cos tan
arcsin arccos arctan arctan2 sinh cosh tanh hypot floor ceil rint trunc equal not_equal less less_equal greater greater_equal
logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor invert left_shift right_shift isnan isinf
isfinite signbit copysign matmul""".split()
FUNCTIONS = """sum prod mean var std max min argmax argmin any all count_nonzero cumsum cumprod diff dot vdot inner outer tensordot
einsum linalg.norm where select clip round around transpose swapaxes moveaxis permute_dims reshape ravel squeeze
expand_dims broadcast_to broadcast_arrays concatenate stack vstack hstack split array_split repeat tile pad roll flip flipud
fliplr rot90 tril triu diag trace take take_along_axis put_along_axis sort argsort copy copyto astype
zeros_like ones_like full_like empty_like meshgrid iscomplexobj shape ndim size""".split()
METHODS = """astype reshape transpose sum mean std var min max prod argmin argmax squeeze ravel flatten copy clip swapaxes dot
round cumsum take repeat any all""".split()


def traced(fn):
    return nkigen.trace(fn).graph(((4, 4), "f32"))


def is_taken(form, f, **keywords):
    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    try:
        form(f, x, **keywords)
    except Exception:
        return False
    return True


def kernel_of(form, f, **keywords):
    def kernel(x):
        y = x * 1
        form(f, y, **keywords)
        return y

    return kernel


def form_of(entry):
    if entry.name in OWN_FORM:
        return FORMS[OWN_FORM[entry.name]]
    return next(form for form in FORMS.values() if is_taken(form, entry.function))


def test_every_name_that_models_use():
    assert [n for n in FUNCTIONS if n not in ENTRIES] == []
    ufuncs = names.ufuncs()
    assert [n for n in UFUNCS if getattr(np, n) not in ufuncs] == []
    rows = {name for kind, name, _ in _core.name_table() if kind in ("method", "composed method")}
    assert [n for n in METHODS if n not in rows] == []


@pytest.mark.parametrize("name", ENTRIES)
def test_parameters_are_taken_or_refused_with_a_reason(name):
    entry = ENTRIES[name]
    assert [p for p in entry.refused if p not in names.REFUSED] == []
    assert [p for p, values in entry.taken if values and p not in names.REFUSED] == []


def test_every_reason_is_of_a_parameter():
    used = {p for e in ENTRIES.values() for p in (*e.refused, *(p for p, values in e.taken if values))}
    assert set(names.REFUSED) == used


@pytest.mark.parametrize("name", ENTRIES)
def test_defaults_may_be_written_out(name):
    """Each parameter by its name with NumPy's own default, and all positional ones in NumPy's order."""
    entry = ENTRIES[name]
    form, parameters = form_of(entry), inspect.signature(entry.function).parameters
    traced(kernel_of(form, entry.function))
    for p, _ in entry.taken:
        default = parameters[p].default
        keywords = {p: default}
        if default is inspect.Parameter.empty or not is_taken(form, entry.function, **keywords):
            continue
        traced(kernel_of(form, entry.function, **keywords))


@pytest.mark.parametrize("name", [n for n, e in ENTRIES.items() if e.how == "ops"])
def test_rows_have_numpys_order(name):
    signature = dict((n, t) for k, n, t in _core.name_table() if k == "function")[name]
    ours = [w.partition("!")[0].strip("*?") for w in signature.split() if w != "*"]
    theirs = [p for p in inspect.signature(ENTRIES[name].function).parameters if p in ours]
    extra = set(ours) - set(theirs)
    assert [p for p in ours if p not in extra] == theirs and extra <= {"min", "max"}  # clip, whose NumPy name is either


@pytest.mark.parametrize("name", [n for n, e in ENTRIES.items() if e.how == "composition"])
def test_compositions_have_numpys_names(name):
    function = ENTRIES[name].function
    compose = ops.COMPOSITIONS[function]
    ours = inspect.signature(getattr(compose, "args", (None, compose))[1]).parameters.values()
    theirs = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in theirs.values()):
        return
    assert [p.name for p in ours if p.name not in theirs] == []
    both = [p for p in ours if p.default is not p.empty and theirs[p.name].default is not np._NoValue]
    assert [p.name for p in both if p.default is not theirs[p.name].default and p.default != theirs[p.name].default] == []


@pytest.mark.parametrize(
    "name, parameter", [(n, p) for n, e in ENTRIES.items() for p, values in e.taken if values], ids=str
)
def test_other_values_are_refused_at_the_users_line(name, parameter):
    entry = ENTRIES[name]
    with pytest.raises(nkigen.UnsupportedError, match=f"the argument '{parameter}' is not supported") as e:
        traced(kernel_of(form_of(entry), entry.function, **{parameter: 17}))
    assert e.value.filename == __file__ and e.value.lineno


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == names.page(), "python -m nkigen names --write docs/numpy.md"


def test_the_command_prints_the_page(capsys):
    from nkigen.cli import main

    assert main(["names"]) == 0 and capsys.readouterr().out == names.page()
