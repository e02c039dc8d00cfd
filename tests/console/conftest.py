from __future__ import annotations

from tests.redis_server import redis, running_redis

__all__ = ["redis", "running_redis"]
