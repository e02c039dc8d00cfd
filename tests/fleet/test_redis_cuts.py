"""Decisions that are made while the line to Redis is cut, or an answer of Redis is lost."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from jwks_guard import DistrustNotSharedError, Register
from jwks_guard.testing import LocalTenant
from tests.fleet.cable import cable_to
from tests.fleet.instances import (
    DECISIONS,
    eventually,
    exchanged,
    fleet_of,
    instance,
    outcome,
    verifier_of,
)
from tests.redis_server import RedisServer, redis_server


async def test_decision_repeated_before_a_restart_stands_above_a_lift_that_was_not_heard(
    tenant: LocalTenant, redis: RedisServer, tmp_path: Path
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    kept = {"snapshot_path": tmp_path / "keys.json"}
    async with cable_to(redis.port) as cable, instance(tenant, fleet_of(redis)) as other:
        away = verifier_of(tenant, fleet_of(redis, url=cable.url), register=Register(), **kept)
        await away.start()
        await other.distrust(old, reason="an old case")
        await eventually(lambda: old in away.distrusted)
        cable.cut()
        await other.reinstate(old, reason="false alarm")
        assert await outcome(other, token) == old
        with pytest.raises(DistrustNotSharedError):
            await away.distrust(old, reason="leaked")
        await away.aclose()
        away = verifier_of(tenant, fleet_of(redis, url=cable.url), register=Register(), **kept)
        await away.start()
        assert await outcome(away, token) == "revoked_key"
        cable.mend()
        await eventually(lambda: away.health().status == "ok" and old in other.distrusted)
        assert await outcome(away, token) == await outcome(other, token) == "revoked_key"
        await away.aclose()


async def test_decision_at_a_verifier_without_a_fleet_reaches_the_fleet_of_its_process(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    register = Register()
    fleetless = verifier_of(tenant, None, register=register)
    async with (
        cable_to(redis.port) as cable,
        instance(tenant, fleet_of(redis)) as other,
        instance(tenant, fleet_of(redis, url=cable.url), register=register) as beside,
        fleetless,
    ):
        await other.distrust(old, reason="an old case")
        await eventually(lambda: old in fleetless.distrusted)
        cable.cut()
        await other.reinstate(old, reason="false alarm")
        with pytest.raises(DistrustNotSharedError):
            await fleetless.distrust(old, reason="leaked")
        cable.mend()
        await eventually(lambda: old in other.distrusted)
        await exchanged(redis)
        for verifier in (fleetless, beside, other):
            assert await outcome(verifier, token) == "revoked_key"


async def test_an_instance_whose_answers_are_lost_shares_what_it_decided(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    async with (
        cable_to(redis.port) as cable,
        instance(tenant, fleet_of(redis)) as other,
        instance(tenant, fleet_of(redis, url=cable.url)) as one,
    ):
        for lost in (b"EVAL", b"MULTI", b"PUBLISH", b"SET", b"HLEN"):
            cable.losing = lost
            with suppress(DistrustNotSharedError):  # unless it was the watch that was not answered
                await one.distrust(lost.decode(), reason="leaked")
            assert lost.decode() in one.distrusted
            await eventually(lambda: list(one.distrusted) == list(other.distrusted))
            await eventually(lambda: one.health().status == "ok")


async def test_fifty_repeats_while_cut_off_are_one_entry_when_redis_is_back(
    tenant: LocalTenant, redis: RedisServer, tmp_path: Path
) -> None:
    old = tenant.key("previous").kid
    async with (
        cable_to(redis.port) as cable,
        instance(
            tenant, fleet_of(redis, url=cable.url), snapshot_path=tmp_path / "keys.json"
        ) as one,
    ):
        await one.distrust(old, reason="leaked")
        journal = tmp_path / "keys.json.tombstones"
        with redis.client() as client:
            entries, size = client.hlen(DECISIONS), journal.stat().st_size
            cable.cut()
            for _ in range(50):
                with pytest.raises(DistrustNotSharedError):
                    await one.distrust(old, reason="leaked")
            cable.mend()
            await eventually(lambda: one.health().status == "ok")
            assert client.hlen(DECISIONS) == entries
            assert journal.stat().st_size < 4 * size


async def test_after_a_failover_decisions_go_to_the_node_that_takes_them(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    """The old node goes on to answer: connections that were open before still lead there."""
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    with redis_server() as promoted:
        async with (
            cable_to(redis.port) as cable,
            instance(tenant, fleet_of(redis, url=cable.url)) as one,
            fleet_of(redis, url=cable.url, issuer=tenant.issuer) as fleet,
        ):
            await fleet.observe(old)
            cable.port = promoted.port
            with redis.client() as client:
                client.replicaof("127.0.0.1", promoted.port)
            try:
                for _ in range(2):
                    try:
                        await one.distrust(old, reason="leaked")
                    except DistrustNotSharedError as error:
                        assert "read only" in str(error)  # noqa: PT017
                async with instance(tenant, fleet_of(promoted)) as late:
                    await eventually(lambda: old in late.distrusted)
                    assert await outcome(late, token) == "revoked_key"
                await eventually(lambda: one.health().status == "ok")
            finally:
                with redis.client() as client:
                    client.replicaof("NO", "ONE")
