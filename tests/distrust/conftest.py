"""A real Redis for the tests of a module."""

from tests.redis_server import redis as redis
from tests.redis_server import running_redis as running_redis
