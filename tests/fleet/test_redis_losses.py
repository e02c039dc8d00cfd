"""What a Redis that forgets, or that somebody fills, can't do to a decision."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from jwks_guard import DistrustNotSharedError, Register
from jwks_guard.distrust.state import Decision, Distrust
from jwks_guard.fleet import commands
from jwks_guard.fleet.redis_entries import Entries
from jwks_guard.testing import LocalTenant
from tests.fleet.instances import (
    DECISIONS,
    eventually,
    exchanged,
    fleet_of,
    instance,
    outcome,
    verifier_of,
)
from tests.redis_server import RedisServer


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
        await exchanged(redis)
        assert await outcome(knowing, token) == "revoked_key"


@pytest.mark.parametrize("loss", ["flush", "delete", "restart"])
async def test_what_redis_loses_nobody_forgets_and_somebody_writes_back(
    tenant: LocalTenant, redis: RedisServer, loss: str
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with instance(tenant, fleet_of(redis)) as one:
        await one.distrust(old, reason="leaked")
        if loss == "restart":
            redis.kill()
            redis.start()
        with redis.client() as client:
            client.flushall() if loss == "flush" else client.delete(DECISIONS)
            await eventually(lambda: client.hlen(DECISIONS) == 2)
        assert await outcome(one, token) == "revoked_key"
        async with instance(tenant, fleet_of(redis)) as late:
            assert await outcome(late, token) == "revoked_key"


async def test_a_lift_survives_a_loss_while_somebody_knows_it(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old = tenant.key("previous").kid
    async with (
        instance(tenant, fleet_of(redis)) as one,
        instance(tenant, fleet_of(redis)) as other,
    ):
        await one.distrust(old, reason="leaked")
        await eventually(lambda: old in other.distrusted)
        await one.reinstate(old, reason="a mistake")
        await eventually(lambda: old not in other.distrusted)
        with redis.client() as client:
            client.flushall()
            await eventually(lambda: any(b'"lifted"' in each for each in client.hkeys(DECISIONS)))
        await exchanged(redis)
        assert dict(one.distrusted) == dict(other.distrusted) == {}
        async with instance(tenant, fleet_of(redis)) as late:
            assert dict(late.distrusted) == {}


async def test_what_is_removed_while_it_is_read_is_written_back(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    leaked = Distrust({"0" * 32: Decision(1, "leaked", 1.0, "here:1")})
    entries = Entries([]).encoded({(tenant.issuer, f"k{i}"): leaked for i in range(600)})
    with redis.client() as client:
        client.hset(DECISIONS, mapping={field: value for field, _, value in entries})
        client.set("{jwks-guard}:version", "as it was")
        late = verifier_of(tenant, fleet_of(redis))
        late.keys.decisions.decide("own", reason="leaked")  # so that it has something to write
        starting = asyncio.create_task(late.start())
        while len(late.distrusted) < 2:  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(0)
        client.delete(DECISIONS)
        await starting
        assert 1 < len(late.distrusted) < 601
        await eventually(lambda: client.hlen(DECISIONS) == len(late.distrusted))
        await late.aclose()


async def test_redis_that_comes_back_with_older_data_is_given_what_it_lacks(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    """As after a failover to a replica that had not heard the last of it, or from a backup."""
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with instance(tenant, fleet_of(redis)) as one:
        await one.distrust("lifted", reason="a mistake")
        await one.distrust(old, reason="an old case")
        await one.reinstate(old, reason="false alarm")
        with redis.client() as client:
            entries, version = client.hgetall(DECISIONS), client.get("{jwks-guard}:version")
            await one.distrust(old, reason="leaked")
            await one.reinstate("lifted", reason="false alarm")
            now = client.hgetall(DECISIONS)
            with client.pipeline() as pipeline:
                pipeline.delete(DECISIONS).hset(DECISIONS, mapping=entries)
                pipeline.set("{jwks-guard}:version", version).execute()
            await eventually(lambda: client.hgetall(DECISIONS) == now)
        assert await outcome(one, token) == "revoked_key"
        async with instance(tenant, fleet_of(redis)) as late:
            assert await outcome(late, token) == "revoked_key"
            assert list(late.distrusted) == [old]


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

    with redis.client() as client:
        for number in range(20):
            one = verifier_of(tenant, fleet_of(redis), register=Register())
            await one.start()
            telling = asyncio.create_task(told(f"k{number}"))
            await asyncio.sleep(number * 0.0001)
            await one.aclose()
            known = any(f'"k{number}"'.encode() in each for each in client.hkeys(DECISIONS))
            assert known or not await telling
            await telling
            assert not await told("after its end")
        await eventually(lambda: len(client.client_list()) == 1)  # and nothing is left open


async def test_an_old_state_acknowledges_no_new_decision(
    tenant: LocalTenant, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "ACKNOWLEDGE_SECONDS", 0.5)
    old = tenant.key("previous").kid
    async with instance(tenant, fleet_of(redis)) as one:
        await one.distrust(old, reason="an old case")
        with redis.client() as client:
            (name,) = client.keys("{jwks-guard}:state:*")
            state = json.loads(client.get(name))
            assert old in state["refused"]
            stale = state | {"instance": "f" * 32, "host": "stale:1"}
            lies = f"{{jwks-guard}}:state:{'f' * 32}:00000000:{tenant.issuer}"
            client.set(lies, json.dumps(stale))
            client.zadd("{jwks-guard}:instances", {lies: time.time()})
        async with fleet_of(redis, issuer=tenant.issuer) as fleet:
            refusals = await fleet.distrust(old, reason="leaked")
    assert {each.who: each.since is not None for each in refusals} == {
        "stale:1 (ffffffff)": False,
        f"{state['host']} ({state['instance'][:8]})": True,
    }


async def test_what_was_accepted_last_is_remembered_when_an_instance_ends(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    async with instance(tenant, fleet_of(redis, poll_interval=1.0)) as one:
        await exchanged(redis)  # so that the next one is seconds away
        token = await one.verify(tenant.token(lifetime=7_000.0))
    async with fleet_of(redis, issuer=tenant.issuer) as fleet:
        observed = await fleet.observe(token.kid)
    assert observed.states == ()
    assert (observed.latest_expiry, observed.longest_lifetime) == (token.expires_at, 7_000.0)
