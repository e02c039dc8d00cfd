"""Verifiers that share through a fleet alone, as if each were in a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from jwks_guard import JWKSGuardError, TokenVerifier
from jwks_guard.fleet import RedisFleet
from jwks_guard.keys.peers import open_stores
from jwks_guard.testing import LocalTenant
from tests.redis_server import RedisServer

PATIENCE = 10.0
POLL = 0.2


def fleet_of(redis: RedisServer, **options: Any) -> RedisFleet:
    options.setdefault("poll_interval", POLL)
    return RedisFleet(options.pop("url", redis.url), **options)


def verifier_of(tenant: LocalTenant, fleet: RedisFleet, **options: Any) -> TokenVerifier:
    options.setdefault("http_client", lambda: httpx.AsyncClient(transport=tenant.transport))
    options.setdefault("algorithms", ["ES256"])
    return TokenVerifier(tenant.issuer, tenant.audience, fleet=fleet, **options)


@asynccontextmanager
async def instance(
    tenant: LocalTenant, fleet: RedisFleet, **options: Any
) -> AsyncIterator[TokenVerifier]:
    """One that is started, and that the other stores of this process do not know."""
    async with verifier_of(tenant, fleet, **options) as verifier:
        open_stores.discard(verifier.keys)
        yield verifier


async def outcome(verifier: TokenVerifier, token: str) -> str:
    """The kid of an accepted token, or the code of the refusal."""
    try:
        return (await verifier.verify(token)).kid
    except JWKSGuardError as error:
        return error.code


async def eventually(condition: Callable[[], bool]) -> float:
    """Seconds until it holds; fails after a while."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE
        await asyncio.sleep(0.005)
    return time.monotonic() - began
