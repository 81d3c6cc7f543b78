"""`%` and divmod of floats: NumPy's to the last bit while the quotient is below 2**46; beyond it nan, never a wrong number."""

import numpy as np
import pytest

import nkigen

f = np.float32
LARGEST = 2.0**46


def pairs(seed):
    """Quotients from 2**-20 to 2**90, both signs; moduli that are powers of two, short, and full ones."""
    rng = np.random.default_rng(seed)
    n = 4096
    b = np.ldexp(rng.uniform(0.5, 1, n), rng.integers(-12, 14, n)).astype(f)
    b[::3] = np.ldexp(1.0, rng.integers(-12, 14, b[::3].size)).astype(f)
    b[1::3] = b[1::3].astype(np.float16)  # short ones
    a = (b.astype(float) * np.ldexp(rng.uniform(0.5, 1, n), rng.integers(-20, 90, n))).astype(f)
    return a * rng.choice([-1, 1], n).astype(f), b * rng.choice([-1, 1], n).astype(f)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_quotients_of_any_size(target):
    a, b = pairs(1)
    got = nkigen.compile(lambda a, b: a % b, a, b, target=target)(a, b)
    want, quotient = np.remainder(a, b), np.abs(a.astype(float) / b)
    right = (got == want) & (np.signbit(got) == np.signbit(want))
    assert right[quotient < LARGEST * (1 - 2.0**-20)].all()
    assert np.isnan(got[quotient > LARGEST * (1 + 2.0**-20)]).all()
    assert (right | np.isnan(got)).all()
    assert (quotient < LARGEST).sum() > 1000 and (quotient > LARGEST).sum() > 1000


def test_a_constant_modulus():
    a, _ = pairs(2)
    for m in (f(1), f(3), f(0.1), f(-7.5)):
        got = nkigen.compile(lambda a: a % m, a)(a)
        want, quotient = np.remainder(a, m), np.abs(a.astype(float) / m)
        assert np.array_equal(got[quotient < LARGEST / 2], want[quotient < LARGEST / 2])
        assert np.isnan(got[quotient > LARGEST * 2]).all()


def test_the_reference_has_them_all():
    a, b = pairs(3)
    k = nkigen.compile(lambda a, b: a % b, a, b)
    assert np.array_equal(k.reference(a, b), np.remainder(a, b))
