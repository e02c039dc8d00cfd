"""What sharing costs: commands to Redis, and what lies there for good."""

from __future__ import annotations

from typing import Any

from jwks_guard.testing import LocalTenant
from tests.fleet.instances import (
    eventually,
    exchanged,
    fleet_of,
    instance,
    outcome,
)
from tests.redis_server import RedisServer


async def test_a_poll_of_unchanged_decisions_reads_their_version_and_number_alone(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    async with instance(tenant, fleet_of(redis)) as one:
        await one.distrust("k", reason="leaked")
        await exchanged(redis)
        with redis.client() as client:
            client.config_resetstat()
            await eventually(lambda: calls(client)["zremrangebyscore"] >= 3)
            made = calls(client)
    assert made["get"] - made["zremrangebyscore"] in (0, 1)  # one may be on its way
    assert made["hlen"] == made["get"]
    assert made.keys().isdisjoint({"hscan", "hgetall", "hget", "eval", "hset", "multi"})


async def test_without_decisions_a_poll_reads_no_more_either(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    async with instance(tenant, fleet_of(redis)):
        await exchanged(redis)
        with redis.client() as client:
            client.config_resetstat()
            await exchanged(redis)
            assert calls(client).keys().isdisjoint({"hscan", "eval"})
            client.delete("{jwks-guard}:version")  # as by an eviction
            await exchanged(redis)
            client.config_resetstat()
            await exchanged(redis)
            assert calls(client).keys().isdisjoint({"hscan", "eval"})


def calls(client: Any) -> dict[str, int]:
    stats = client.info("commandstats")
    made = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {"zremrangebyscore": 0, **made}


async def test_what_lies_in_redis_does_not_grow_with_kids_or_tokens(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    async with instance(tenant, fleet_of(redis)) as one:
        await one.verify(tenant.token())
        await exchanged(redis)
        with redis.client() as client:
            before = {name: client.memory_usage(name) for name in client.keys("*")}
            for number in range(500):
                await outcome(one, tenant.token(kid=f"forged {number}"))
                await outcome(one, tenant.forged_token(sub=str(number)))
            await exchanged(redis)
            after = {name: client.memory_usage(name) for name in client.keys("*")}
        assert after.keys() == before.keys()
        assert all(after[name] <= before[name] + 64 for name in after)
