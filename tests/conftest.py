"""What all tests share: options, markers, hypothesis profiles."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("long", parent=settings.get_profile("default"), max_examples=2500, derandomize=False)
settings.load_profile(os.environ.get("NKIGEN_HYPOTHESIS", "default"))


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write the expected texts anew"
    )


@pytest.fixture
def update_golden(request):
    return request.config.getoption("--update-golden")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: left out of the sanitizer run")
