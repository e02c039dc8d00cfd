"""What every test has at hand: a clock turned by hand and a tenant that goes by it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jwks_guard.testing import LocalTenant
from tests.support import HandClock, tenant_of


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def tenant(clock: HandClock) -> Iterator[LocalTenant]:
    with tenant_of(clock) as local:
        yield local
