"""A fleet object that is used as a job before, or while, a verifier with another register joins."""

from __future__ import annotations

import asyncio

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from jwks_guard import Register
from jwks_guard.asgi import operations
from jwks_guard.distrust.state import NOTHING
from jwks_guard.fleet.http_endpoint import Endpoint
from jwks_guard.fleet.http_peer import Ours, Peer
from jwks_guard.net.clients import Clients
from jwks_guard.testing import LocalTenant
from tests.fleet.clusters import SECRET
from tests.fleet.instances import eventually, fleet_of, instance, outcome, verifier_of
from tests.redis_server import RedisServer


async def test_verifier_that_joins_redis_while_its_fleet_is_asked_knows_what_that_read(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with fleet_of(redis, issuer=tenant.issuer) as job:
        await job.distrust(old, reason="leaked")
    fleet = fleet_of(redis, issuer=tenant.issuer)
    verifier = verifier_of(tenant, fleet, register=Register())
    await asyncio.gather(fleet.is_distrusted(old), verifier.start())
    try:
        assert await outcome(verifier, token) == "revoked_key"
    finally:
        await verifier.aclose()


async def test_decision_of_a_fleet_that_a_verifier_joins_meanwhile_is_shared(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old = tenant.key("previous").kid
    fleet = fleet_of(redis, issuer=tenant.issuer)
    verifier = verifier_of(tenant, fleet, register=Register())
    async with instance(tenant, fleet_of(redis)) as other:
        try:
            await asyncio.gather(fleet.distrust(old, reason="leaked"), verifier.start())
            assert old in verifier.distrusted
            await eventually(lambda: old in other.distrusted)
        finally:
            await verifier.aclose()


async def test_what_an_instance_holds_is_read_anew_for_another_register(
    tenant: LocalTenant,
) -> None:
    holding = verifier_of(tenant, register=Register())
    holding.keys.decisions.decide("k", reason="leaked")
    routes = operations(holding, operations_auth=SECRET)
    app = Starlette(routes=[Mount("/ops", routes)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        peer = Peer(Endpoint("https://one.test/ops", SECRET, 30.0, Clients(client)))
        issuers = frozenset([tenant.issuer])
        for _ in range(2):
            register = Register()
            ours = Ours(register, register.state, issuers, NOTHING, asyncio.Lock())
            assert (await peer.exchange(ours)).error is None
            assert "k" in register.state.of(tenant.issuer)
