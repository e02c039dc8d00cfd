"""A tenant on a socket, and a real Redis with whatever instances a test puts into it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.fleet_running import ShownFleet
from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def running_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(running_redis: RedisServer) -> RedisServer:
    """Running and empty, whatever the test before did to it."""
    running_redis.start()
    with running_redis.client() as client:
        client.flushall()
    return running_redis


@pytest.fixture
def fleet(redis: RedisServer) -> Iterator[ShownFleet]:
    """In that Redis; to begin with it shows nothing."""
    shown = ShownFleet(redis)
    with shown.reporting():
        yield shown
