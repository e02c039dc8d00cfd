"""A tenant, and a real Redis for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jwks_guard.testing import LocalTenant
from tests.redis_server import redis as redis
from tests.redis_server import running_redis as running_redis


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    """It has rotated: the previous key can be distrusted."""
    with LocalTenant(in_process=True, algorithm="ES256") as tenant:
        tenant.rotate()
        yield tenant
