"""A fleet over a primary and its replica that something else than Sentinel exchanges."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jwks_guard.testing import LocalTenant
from tests.fleet.cable import Cable, cable_to
from tests.fleet.instances import (
    eventually,
    exchanged,
    fleet_of,
    instance,
    outcome,
    shared,
    two_instances,
)
from tests.redis_server import RedisServer
from tests.redis_sets import pair

pytestmark = pytest.mark.outside


@pytest.fixture
def nodes() -> Iterator[list[RedisServer]]:
    """A primary and its replica."""
    with pair() as started:
        yield started


class Address:
    """What the fleet is given as its Redis, and how it follows a failover."""

    def __init__(self, url: str, cable: Cable | None = None) -> None:
        self.url = url
        self._cable = cable

    def leads_to(self, node: RedisServer) -> None:
        if self._cable is not None:
            self._cable.port = node.port


@asynccontextmanager
async def one_name(nodes: list[RedisServer]) -> AsyncIterator[Address]:
    """A name that leads to the primary, as a DNS record or a service does."""
    async with cable_to(nodes[0].port) as cable:
        yield Address(cable.url, cable)


@asynccontextmanager
async def all_nodes(nodes: list[RedisServer]) -> AsyncIterator[Address]:
    yield Address("redis://" + ",".join(f"127.0.0.1:{each.port}" for each in nodes))


def promote(node: RedisServer) -> None:
    with node.client() as client:
        client.replicaof("NO", "ONE")


def killed(old: RedisServer, new: RedisServer) -> None:
    old.kill()
    promote(new)


def demoted_with_open_connections(old: RedisServer, new: RedisServer) -> None:
    """The old primary keeps its clients, whom it answers from now on as a replica."""
    promote(new)
    with old.client() as client:
        client.replicaof("127.0.0.1", new.port)


@pytest.mark.parametrize("address", [one_name, all_nodes])
@pytest.mark.parametrize("failover", [killed, demoted_with_open_connections])
async def test_after_a_failover_a_decision_reaches_everyone_with_the_next_exchange(
    tenant: LocalTenant, nodes: list[RedisServer], failover: Any, address: Any
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with (
        address(nodes) as there,
        two_instances(tenant, there.url) as (one, other),
    ):
        failover(*nodes)
        there.leads_to(nodes[1])
        await shared(lambda: one.distrust(old, reason="leaked"))
        await exchanged(nodes[1], number=2)
        assert await outcome(one, token) == await outcome(other, token) == "revoked_key"


async def test_a_replica_is_named_as_one_and_followed_once_it_is_the_primary(
    tenant: LocalTenant, nodes: list[RedisServer]
) -> None:
    async with instance(tenant, fleet_of(nodes[1])) as one:
        assert "is a replica, which takes no writes" in str(one.health().last_error)
        promote(nodes[1])
        await eventually(lambda: one.health().status == "ok")
