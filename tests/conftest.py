"""What every test has at hand: a clock turned by hand and a tenant that goes by it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from jwks_guard import KeyStore
from jwks_guard.keys.peers import open_stores
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, tenant_of

# The first text that Hypothesis draws on a fresh checkout builds its table of Unicode: seconds.
settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,  # a change is judged by what it changes
)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def no_store_outlives_its_test() -> Iterator[None]:
    """One that is left open would hand what it distrusts to the stores of later tests."""
    yield
    ours = KeyStore("https://nobody.test/")
    for store in (ours, *open_stores.besides(ours)):
        open_stores.discard(store)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def tenant(clock: HandClock) -> Iterator[LocalTenant]:
    with tenant_of(clock) as local:
        yield local
