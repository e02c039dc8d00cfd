"""A fleet over a Redis with a replica and a Sentinel: what failovers of each kind can't do."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from jwks_guard import DistrustNotSharedError
from jwks_guard.fleet import RedisFleet
from jwks_guard.testing import LocalTenant
from tests.bounds import shorten_redis
from tests.fleet.instances import (
    POLL,
    eventually,
    exchanged,
    instance,
    outcome,
    shared,
    two_instances,
)
from tests.redis_server import RedisServer
from tests.redis_sets import Replicated, replicated

pytestmark = pytest.mark.outside


@pytest.fixture(scope="module")
def running_pair() -> Iterator[Replicated]:
    with replicated() as pair:
        yield pair


@pytest.fixture
def pair(running_pair: Replicated) -> Replicated:
    running_pair.ready()
    return running_pair


def killed(pair: Replicated, primary: RedisServer) -> None:
    """It is gone, with all connections to it."""
    primary.kill()
    pair.await_another_than(primary)


def demoted(pair: Replicated, primary: RedisServer) -> None:
    """Sentinel makes it a replica, and closes its clients' connections."""
    pair.fail_over()


def replaced_while_frozen(pair: Replicated, primary: RedisServer) -> None:
    """It comes back as a primary, and takes writes until Sentinel looks at it again."""
    os.kill(primary.pid, signal.SIGSTOP)
    try:
        pair.await_another_than(primary)
    finally:
        os.kill(primary.pid, signal.SIGCONT)


FAILOVERS = [killed, demoted, replaced_while_frozen]


@pytest.mark.parametrize("failover", FAILOVERS)
async def test_after_a_failover_a_decision_reaches_everyone_with_the_next_exchange(
    tenant: LocalTenant, pair: Replicated, failover: Any
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with two_instances(tenant, pair.url) as (one, other):
        assert await outcome(other, token) == old
        await asyncio.to_thread(failover, pair, pair.primary)
        await shared(lambda: one.distrust(old, reason="leaked"))
        await exchanged(pair.primary, number=2)
        assert await outcome(one, token) == await outcome(other, token) == "revoked_key"


async def test_a_decision_made_during_a_failover_is_shared_once_it_is_over(
    tenant: LocalTenant, pair: Replicated
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with two_instances(tenant, pair.url) as (one, other):
        primary = pair.primary
        primary.kill()
        with suppress(DistrustNotSharedError):
            await one.distrust(old, reason="leaked")
        assert await outcome(one, token) == "revoked_key"
        await asyncio.to_thread(pair.await_another_than, primary)
        await eventually(lambda: other.health().status == "ok")
        await exchanged(pair.primary, number=2)
        assert await outcome(other, token) == "revoked_key"


async def test_a_decision_that_the_failover_loses_is_written_again(
    tenant: LocalTenant, pair: Replicated
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    primary, replica = pair.primary, pair.replica
    async with instance(tenant, RedisFleet(pair.url, poll_interval=POLL)) as one:
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            with primary.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "replica")
            await one.distrust(old, reason="leaked")  # which the replica does not hear of
            primary.kill()
        finally:
            os.kill(replica.pid, signal.SIGCONT)
        await asyncio.to_thread(pair.await_another_than, primary)
        with pair.primary.client() as client:
            await eventually(lambda: client.hlen("{jwks-guard}:decisions") > 0)
        late = RedisFleet(pair.url, poll_interval=POLL)
        async with instance(tenant, late) as other:
            await eventually(lambda: other.health().status == "ok")
            assert await outcome(other, token) == "revoked_key"


async def test_sentinels_that_fall_away_stop_nothing_while_the_primary_answers(
    tenant: LocalTenant, pair: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_redis(monkeypatch, 2.0)  # which it waits for the frozen one
    old = tenant.key("previous").kid
    async with two_instances(tenant, pair.url) as (one, other):
        with pair.sentinel_frozen():
            await shared(lambda: one.distrust(old, reason="leaked"))
            await eventually(lambda: old in other.distrusted)


async def test_a_service_that_no_sentinel_knows_is_named(
    tenant: LocalTenant, pair: Replicated
) -> None:
    fleet = RedisFleet(pair.url.replace("mymaster", "another"), poll_interval=POLL)
    async with instance(tenant, fleet) as one:
        error = str(one.health().last_error)
        assert "not known to any Sentinel" in error
        assert "'another'" in error
