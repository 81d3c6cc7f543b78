"""Random programs: NumPy == reference == each stage == simulator; text is the program."""

import warnings

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import nkigen
from nkigen.fuzz_check import check_program
from nkigen.fuzz_programs import random_program


@st.composite
def programs(draw, max_steps=8):
    """A random program of up to `max_steps` lines, that hypothesis can shrink."""
    return random_program(draw(st.randoms(use_true_random=False)), max_steps)


def noted(program):
    note(f"{program.inputs}\n{program.source}")
    return program


@given(programs(), st.sampled_from(["trn1", "trn2", "trn3"]))
def test_random_program(program, target):
    check_program(noted(program), target)


@pytest.mark.slow
@given(programs(max_steps=20), st.just("trn2"))
def test_longer_random_program(program, target):
    check_program(noted(program), target)


@given(programs())
def test_print_parse_identity(program):
    fn, args = noted(program).function(), program.arguments(program.arrays())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = nkigen.compile(fn, *args, cache=False)
    for name, stage in kernel.stages.items():
        text = str(stage)
        assert str(nkigen.parse(text)) == text, name
