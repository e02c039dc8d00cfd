"""A real Redis for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
