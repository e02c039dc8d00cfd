"""A verdict that is asked of one instance speaks for all of its fleet, or is not given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest

from jwks_guard import TokenVerifier
from jwks_guard.admin import ClientCredentials, KeyRotation, SigningKeysClient
from jwks_guard.errors import DistrustNotSharedError
from jwks_guard.fleet import HTTPFleet, RedisFleet
from jwks_guard.keys.fleet import Fleet
from jwks_guard.readiness.verdict import RevocationReadiness
from jwks_guard.testing import LocalTenant
from tests.process.programs import server, wait_until
from tests.redis_server import redis_server
from tests.support import PATIENCE

SECRET = "correct-horse-battery"
UVICORN = ("-m", "uvicorn", "--log-level=warning")
QUIET = 0.3  # s


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256", token_lifetime=3600.0) as local:
        yield local


@asynccontextmanager
async def asked(tenant: LocalTenant, fleet: Fleet) -> AsyncIterator[KeyRotation]:
    """In a process that verifies tokens itself, and has seen none."""
    auth = ClientCredentials(tenant.client_id, tenant.client_secret)
    async with (
        TokenVerifier(
            tenant.issuer, tenant.audience, algorithms=["ES256"], fleet=fleet
        ) as verifier,
        SigningKeysClient(tenant.issuer, auth=auth) as keys,
    ):
        yield KeyRotation(
            keys,
            verifier,
            token_lifetime=timedelta(seconds=0.1),
            quiet_period=timedelta(seconds=QUIET),
        )


async def judged(
    tenant: LocalTenant, other: httpx.Client, rotation: KeyRotation
) -> RevocationReadiness:
    """The verdict on a key of which only the other process has accepted a token, an hour's."""
    kid, headers = tenant.key().kid, {"Authorization": f"Bearer {tenant.token()}"}
    await asyncio.to_thread(wait_until, lambda: other.get("/", headers=headers).is_success)
    await rotation.rotate()
    async with asyncio.timeout(PATIENCE):
        while True:  # the quiet period has to pass, and the other process to show itself
            readiness = await rotation.revocation_readiness(kid)
            codes = {blocker.code for blocker in readiness.blockers}
            if len(readiness.instances) == 2 and not codes & {"key_in_use", "keys_stale"}:
                assert "tokens_unexpired" in codes
                return readiness
            await asyncio.sleep(0.05)


async def test_over_redis_it_counts_what_another_process_has_accepted(tenant: LocalTenant) -> None:
    with redis_server() as redis:
        app = (*UVICORN, "tests.process.apps.reporting:app")
        environment = {"ISSUER": tenant.issuer, "AUDIENCE": tenant.audience, "FLEET": redis.url}
        with server(*app, bind="--fd={}", **environment) as other:
            async with asked(tenant, RedisFleet(redis.url, poll_interval=0.2)) as rotation:
                readiness = await judged(tenant, other, rotation)
                assert readiness.verdict == "no"
                redis.kill()
                with pytest.raises(DistrustNotSharedError):
                    await rotation.revocation_readiness(readiness.kid)


async def test_over_http_it_counts_what_another_process_has_accepted(tenant: LocalTenant) -> None:
    app = (*UVICORN, "tests.process.apps.operated:app")
    environment = {"ISSUER": tenant.issuer, "AUDIENCE": tenant.audience, "SECRET": SECRET}
    with server(*app, bind="--fd={}", URLS="http://127.0.0.1:1/ops", **environment) as other:
        urls = [f"{str(other.base_url).rstrip('/')}/ops"]
        fleet = HTTPFleet(urls, secret=SECRET, poll_interval=0.2)
        async with asked(tenant, fleet) as rotation:
            readiness = await judged(tenant, other, rotation)
            assert readiness.verdict == "no"
    async with asked(tenant, fleet) as rotation:
        with pytest.raises(DistrustNotSharedError):
            await rotation.revocation_readiness(readiness.kid)
