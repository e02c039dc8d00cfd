"""What a Redis that forgets, or that somebody fills, can't do to a decision."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jwks_guard import DistrustNotSharedError
from jwks_guard.testing import LocalTenant
from tests.fleet.instances import POLL, eventually, fleet_of, instance, outcome, verifier_of
from tests.redis_server import RedisServer

DECISIONS = "jwks-guard:decisions"


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    """It has rotated: the previous key can be distrusted."""
    with LocalTenant(in_process=True, algorithm="ES256") as tenant:
        tenant.rotate()
        yield tenant


@pytest.mark.parametrize("decider", ["instance", "program"])
async def test_a_decision_stands_above_an_earlier_lift_that_redis_has_forgotten(
    tenant: LocalTenant, redis: RedisServer, decider: str
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with instance(tenant, fleet_of(redis)) as knowing:
        await knowing.distrust(old, reason="an old case")
        await knowing.reinstate(old, reason="false alarm")
        redis.kill()
        redis.start()
        if decider == "program":
            async with fleet_of(redis, issuer=tenant.issuer) as fleet:
                await fleet.distrust(old, reason="leaked")
        else:
            async with instance(tenant, fleet_of(redis)) as late:
                await late.distrust(old, reason="leaked")
        await eventually(lambda: old in knowing.distrusted)
        await asyncio.sleep(3 * POLL)
        assert await outcome(knowing, token) == "revoked_key"


async def test_a_decision_made_while_cut_off_and_restarted_stands_above_a_lift_unheard_of(
    tenant: LocalTenant, redis: RedisServer, tmp_path: Path
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    kept = {"snapshot_path": tmp_path / "keys.json"}
    away = fleet_of(redis, url="redis://127.0.0.1:1")
    async with instance(tenant, fleet_of(redis)) as other:
        await other.distrust(old, reason="an old case")
        await other.reinstate(old, reason="false alarm")
        async with instance(tenant, away, **kept) as one:
            with pytest.raises(DistrustNotSharedError):
                await one.distrust(old, reason="leaked")
        async with instance(tenant, fleet_of(redis), **kept) as again:
            await eventually(lambda: old in other.distrusted)
            assert await outcome(again, token) == await outcome(other, token) == "revoked_key"


async def test_what_the_fleet_is_told_is_in_the_snapshot_of_who_told_it(
    tenant: LocalTenant, redis: RedisServer, tmp_path: Path
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    kept = {"snapshot_path": tmp_path / "keys.json"}
    fleet = fleet_of(redis)
    async with instance(tenant, fleet, **kept):
        (refusal,) = await fleet.distrust(old, reason="leaked")
        assert refusal.error is None
    redis.kill()
    async with instance(tenant, fleet_of(redis), **kept) as again:
        assert await outcome(again, token) == "revoked_key"


async def test_decision_made_while_the_last_verifier_closes_is_shared_or_an_error(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    async def told(kid: str) -> bool:
        try:
            await one.distrust(kid, reason="leaked")
        except DistrustNotSharedError:
            return False
        return True

    outcomes = set()
    for number in range(20):
        one = verifier_of(tenant, fleet_of(redis))
        await one.start()
        telling = asyncio.create_task(told(f"k{number}"))
        await asyncio.sleep(number * 0.0001)
        await one.aclose()
        with redis.client() as client:
            known = any(f'"k{number}"'.encode() in each for each in client.hkeys(DECISIONS))
        assert known or not await telling
        outcomes.add(await telling)
    assert False in outcomes


async def test_an_old_state_acknowledges_no_new_decision(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old = tenant.key("previous").kid
    async with instance(tenant, fleet_of(redis)) as one:
        await one.distrust(old, reason="an old case")
        with redis.client() as client:
            (name,) = client.keys("jwks-guard:state:*")
            state = json.loads(client.get(name))
            assert old in state["refused"]
            stale = state | {"instance": "f" * 32, "host": "stale:1"}
            lies = f"jwks-guard:state:{'f' * 32}:00000000:{tenant.issuer}"
            client.set(lies, json.dumps(stale))
            client.zadd("jwks-guard:instances", {lies: time.time()})
        async with fleet_of(redis, issuer=tenant.issuer) as fleet:
            refusals = await fleet.distrust(old, reason="leaked")
    assert {each.who: each.since is not None for each in refusals} == {
        "stale:1 (ffffffff)": False,
        f"{state['host']} ({state['instance'][:8]})": True,
    }


async def test_what_was_accepted_last_is_remembered_when_an_instance_ends(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    async with instance(tenant, fleet_of(redis, poll_interval=5.0)) as one:
        await asyncio.sleep(2 * POLL)  # past its first exchanges
        token = await one.verify(tenant.token(lifetime=7_000.0))
    async with fleet_of(redis, issuer=tenant.issuer) as fleet:
        observed = await fleet.observe(token.kid)
    assert observed.states == ()
    assert (observed.latest_expiry, observed.longest_lifetime) == (token.expires_at, 7_000.0)


async def test_made_up_decisions_do_not_pile_up_beyond_the_limit(
    tenant: LocalTenant, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 500
    monkeypatch.setattr("jwks_guard.fleet.redis_exchange.MAX_FACTS", limit)

    def made_up(part: int) -> dict[str, str]:
        kids = (f"{part}-{number}" for number in range(limit - 100))
        return {json.dumps(["distrust", tenant.issuer, kid, 1]): "{}" for kid in kids}

    async with instance(tenant, fleet_of(redis)) as one:
        with redis.client() as client:
            client.hset(DECISIONS, mapping=made_up(1))
            await eventually(lambda: len(one.distrusted) == limit - 100)
            client.delete(DECISIONS)
            client.hset(DECISIONS, mapping=made_up(2))
            await eventually(lambda: one.health().status == "degraded")
            assert "more than" in str(one.health().last_error)
            assert len(one.distrusted) == limit - 100
            client.flushall()
        await eventually(lambda: one.health().status == "ok")
        await one.distrust("leaked", reason="found")
