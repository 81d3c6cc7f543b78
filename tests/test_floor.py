"""What no program can go below: bytes that must move, passes that must be made."""

import numpy as np
import pytest

import nkigen
from nkigen import ops, workloads

ROWS, COLS = 1000, 512
BYTES = 4 * ROWS * COLS


def cost(fn, *specs, target="trn2"):
    return nkigen.compile(fn, *specs, target=target).cost


def array(*shape):
    return shape, "f32"


def set_row(c, x):
    c[5] = x
    return c


def add_rows(c, x):
    c[5] += x
    c[7] += x
    return c


def add_all(c, x):
    c += x
    return c


def change_twice(c, x):
    c[:900] = x
    c[100:] = x + 1
    return c


def column(c, x):
    c[:, 3] = c[:, 5]
    return c


def sum_of_changed(c, x):
    c[5] = x
    return c, c.sum()


@pytest.mark.parametrize(
    "fn, expected",
    [
        (set_row, 2 * 4 * COLS),  # x in, one row out
        (add_rows, 5 * 4 * COLS),  # x and two rows in, two out
        (add_all, 2 * BYTES + 4 * COLS),
        (change_twice, BYTES + 4 * COLS),
        (column, 2 * 4 * ROWS),
        (
            sum_of_changed,
            BYTES + 4 + 4 * COLS,
        ),  # all but a row and x in; a row, the sum out
    ],
)
def test_updates_in_place_touch_what_they_change(fn, expected):
    c = cost(fn, array(ROWS, COLS), array(COLS))
    assert c.hbm_min_bytes == expected
    assert c.hbm_read_bytes + c.hbm_write_bytes >= c.hbm_min_bytes


def test_slices_of_inputs_and_whole_ones():
    rows = cost(lambda x: x[10:20] * 2, array(ROWS, COLS))
    assert rows.hbm_min_bytes == 2 * 10 * 4 * COLS
    both = cost(lambda x: x[1:] - x[:-1], array(ROWS, COLS))
    # what overlaps counts once, so the bound is a row short here
    assert both.hbm_min_bytes == 2 * (BYTES - 4 * COLS)
    assert cost(lambda x: (x + 1, x * 2), array(ROWS, COLS)).hbm_min_bytes == 3 * BYTES
    assert cost(lambda x: (x, x), array(ROWS, COLS)).hbm_min_bytes == 3 * BYTES


#: GHz, one element per lane and cycle
SCALAR = {"trn1": 1.4, "trn2": 1.2, "trn3": 1.2}
VECTOR = {"trn1": 1.12, "trn2": 0.96, "trn3": 1.2}
GPSIMD = {"trn1": 0.0, "trn2": 0.6, "trn3": 0.6}  # two operands, beside vector or not


def passes(n, rate):
    return n * ROWS * COLS / 128 / rate * 1e-3


@pytest.mark.parametrize("target", SCALAR)
def test_a_pass_for_what_cannot_ride(target):
    def deep(x):
        for _ in range(9):
            x = np.tanh(x * 0.5 + 0.1)
        return x

    c = cost(deep, array(ROWS, COLS), target=target)
    assert c.roofline_us == pytest.approx(passes(9, SCALAR[target]), rel=1e-6)

    def pairs(x, y):
        for _ in range(9):
            x = np.maximum(x * y, y - 1) * 2
        return x

    c = cost(pairs, array(ROWS, COLS), array(ROWS, COLS), target=target)
    both = passes(18, VECTOR[target] + GPSIMD[target])
    assert c.roofline_us == pytest.approx(both, rel=1e-6)


def test_what_rides_is_free():
    def scaled(x):
        for i in range(40):
            x = x * 1.5 + i
        return x

    c = cost(scaled, array(ROWS, COLS))
    assert c.roofline_us == pytest.approx(2 * BYTES / 362.5e3, rel=1e-6)


def test_a_product_leaves_psum_once():
    """Thin products: their way out is longer than they are."""
    a, b = ((4096, 1), "bf16"), ((1, 4096), "bf16")
    plain = cost(lambda a, b: (a @ b).max(), a, b)
    assert plain.roofline_us > 4096 * 4096 / 128 / (0.96 + 1.2) * 1e-3
    fused = cost(lambda a, b: ops.silu(a @ b).max(), a, b)
    assert fused.roofline_us < 1.01 * 4096 * 4096 / 128 / 1.2 * 1e-3


@pytest.mark.parametrize("target", SCALAR)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_no_program_goes_below(name, dtype, target):
    w = workloads.get(name)
    c = cost(w.fn, *w.specs(dtype), target=target)
    assert c.time_us >= 0.999 * c.roofline_us
    assert c.time_us >= 0.999 * max(c.engine_us.values())
