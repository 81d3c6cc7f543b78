"""Ufuncs that are compositions give scalars for operands without axes, as all ufuncs do."""

import numpy as np
import pytest

import nkigen

UFUNCS = (np.copysign, np.fmod, np.arctan2, np.heaviside, np.float_power, np.tanh, np.arcsin)


@pytest.mark.parametrize("ufunc", UFUNCS)
def test_in_place_operators_make_a_new_value(ufunc):
    def fn(x):
        t = ufunc(x, np.float32(1.5)) if ufunc.nin == 2 else ufunc(x)
        kept = t
        t += x.reshape(-1)
        return t, kept

    x = np.full((), 0.5, np.float32)
    got, want = nkigen.compile(fn, x, cache=False)(x), fn(x)
    for a, b in zip(got, want, strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=1e-6)
