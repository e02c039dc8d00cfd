"""A tenant on a socket, and a real Redis with whatever instances a test puts into it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.fleet_running import ShownFleet
from tests.redis_server import RedisServer
from tests.redis_server import redis as redis
from tests.redis_server import running_redis as running_redis


@pytest.fixture
def fleet(redis: RedisServer) -> Iterator[ShownFleet]:
    """In that Redis; to begin with it shows nothing."""
    shown = ShownFleet(redis)
    with shown.reporting():
        yield shown
