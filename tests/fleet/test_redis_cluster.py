"""A fleet over a Redis Cluster: its keys lie in one slot, and any node leads to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from jwks_guard import DistrustNotSharedError
from jwks_guard.fleet import RedisFleet
from jwks_guard.testing import LocalTenant
from tests.fleet.instances import (
    DECISIONS,
    POLL,
    eventually,
    exchanged,
    instance,
    outcome,
    shared,
    two_instances,
)
from tests.redis_server import RedisServer
from tests.redis_sets import Sharded, sharded

pytestmark = pytest.mark.outside


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[Sharded]:
    with sharded(DECISIONS) as cluster:
        yield cluster


@pytest.fixture
def cluster(running_cluster: Sharded) -> Sharded:
    """Whole and empty."""
    running_cluster.ready()
    return running_cluster


def url_of(*nodes: RedisServer) -> str:
    return "redis://" + ",".join(f"127.0.0.1:{each.port}" for each in nodes)


async def test_any_node_of_a_cluster_leads_to_the_one_with_the_fleets_keys(
    tenant: LocalTenant, cluster: Sharded
) -> None:
    old = tenant.key("previous").kid
    for node in cluster.members:
        fleet = RedisFleet(url_of(node), poll_interval=POLL, require_fleet=True)
        async with instance(tenant, fleet) as one:
            assert one.health().status == "ok"
    async with two_instances(tenant, url_of(cluster.nodes[0])) as (one, other):
        await one.distrust(old, reason="leaked")
        await eventually(lambda: old in other.distrusted)
        async with RedisFleet(url_of(cluster.nodes[1]), issuer=tenant.issuer) as fleet:
            assert len((await fleet.observe(old)).states) == 2
            await fleet.reinstate(old, reason="a mistake")
        await eventually(lambda: old not in one.distrusted and old not in other.distrusted)


@pytest.mark.parametrize("prefix", ["jwks-guard", "{jwks-guard}", "a{b", "{}"])
async def test_with_any_prefix_all_keys_lie_in_one_slot(
    tenant: LocalTenant, cluster: Sharded, prefix: str
) -> None:
    fleet = RedisFleet(url_of(cluster.nodes[2]), prefix=prefix, require_fleet=True)
    async with instance(tenant, fleet) as one:
        await one.distrust(tenant.key("previous").kid, reason="leaked")
        assert one.health().status == "ok"


async def test_messages_reach_instances_that_listen_at_different_nodes(
    tenant: LocalTenant, cluster: Sharded
) -> None:
    old = tenant.key("previous").kid
    slow = RedisFleet(url_of(cluster.nodes[1]), poll_interval=5.0)
    fleet = RedisFleet(url_of(cluster.nodes[2]), poll_interval=5.0)
    async with instance(tenant, slow) as one, instance(tenant, fleet) as other:
        await one.distrust(old, reason="leaked")
        await eventually(lambda: old in other.distrusted)


async def test_a_failover_that_keeps_connections_open_is_followed(
    tenant: LocalTenant, cluster: Sharded
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with two_instances(tenant, url_of(*cluster.nodes)) as (one, other):
        await asyncio.to_thread(cluster.fail_over)
        await shared(lambda: one.distrust(old, reason="leaked"))
        await exchanged(cluster.owner, number=2)
        assert await outcome(one, token) == await outcome(other, token) == "revoked_key"


async def test_a_failover_that_kills_the_node_is_followed(
    tenant: LocalTenant, cluster: Sharded
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with two_instances(tenant, url_of(*cluster.members)) as (one, other):
        cluster.owner.kill()
        with suppress(DistrustNotSharedError):
            await one.distrust(old, reason="leaked")
        assert await outcome(one, token) == "revoked_key"
        await asyncio.to_thread(cluster.await_new_owner)
        await shared(lambda: one.distrust(old, reason="leaked"))
        await exchanged(cluster.owner, number=2)
        assert await outcome(other, token) == "revoked_key"


async def test_a_slot_that_moves_to_another_node_is_followed(
    tenant: LocalTenant, cluster: Sharded
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with two_instances(tenant, url_of(cluster.nodes[0])) as (one, other):
        await one.distrust("k", reason="leaked")
        with cluster.slot_moved():
            await shared(lambda: one.distrust(old, reason="leaked"))
            await eventually(lambda: old in other.distrusted)
            assert await outcome(other, token) == "revoked_key"
            assert one.health().status == "ok"


async def test_a_database_that_a_cluster_does_not_have_is_named(
    tenant: LocalTenant, cluster: Sharded
) -> None:
    fleet = RedisFleet(url_of(cluster.nodes[0]) + "/1", poll_interval=POLL)
    async with instance(tenant, fleet) as one:
        assert "database 0 alone" in str(one.health().last_error)
