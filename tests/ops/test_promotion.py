"""The dtype of every op on every pair of dtypes is NumPy's, and so is the refusal."""

import itertools
import warnings

import numpy as np
import pytest
from tile_program import DTYPES, WIDE

import nkigen
from nkigen import _core
from nkigen.errors import NkigenError

ALL = DTYPES | WIDE
BINARY = {
    "add": np.add,
    "divide": np.true_divide,
    "floor_divide": np.floor_divide,
    "power": np.power,
    "maximum": np.maximum,
    "less": np.less,
    "hypot": np.hypot,
    "logaddexp": np.logaddexp,
    "logical_and": np.logical_and,
    "subtract": np.subtract,
    "remainder": np.remainder,
}
UNARY = {
    "sqrt": np.sqrt,
    "exp": np.exp,
    "negative": np.negative,
    "rint": np.rint,
    "square": np.square,
}
SCALARS = {"int": 2, "float": 1.5, "bool": True}


def dtype_of(fn, *arrays):
    """The result's dtype, in NumPy and traced; None where it is refused."""
    found = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for run in (lambda: fn(*arrays), lambda: nkigen.trace(fn).graph(*arrays).outputs[0]):
            try:
                result = run()
            except (TypeError, ValueError, NkigenError):
                found.append(None)
                continue
            found.append(result.dtype if hasattr(result, "dtype") else _core.np_dtype(result[1]))
    return found


@pytest.mark.parametrize("op", BINARY)
def test_pairs(op):
    wrong = []
    for a, b in itertools.product(ALL, repeat=2):
        x, y = np.ones(2, ALL[a]), np.ones(2, ALL[b])
        want, got = dtype_of(BINARY[op], x, y)
        if want != got and not (got is None and want is not None and str(want) == "complex"):
            wrong.append((a, b, want, got))
    assert wrong == []


@pytest.mark.parametrize("op", [*BINARY])
def test_python_numbers(op):
    wrong = []
    for a, (name, k), left in itertools.product(ALL, SCALARS.items(), (False, True)):
        x = np.ones(2, ALL[a])
        want, got = dtype_of(
            (lambda x, k=k: BINARY[op](k, x)) if left else (lambda x, k=k: BINARY[op](x, k)), x
        )
        if want != got:
            wrong.append((a, name, left, want, got))
    assert wrong == []


@pytest.mark.parametrize("op", UNARY)
def test_one_operand(op):
    wrong = []
    for a in ALL:
        want, got = dtype_of(UNARY[op], np.ones(2, ALL[a]))
        if want != got:
            wrong.append((a, want, got))
    assert wrong == []
