"""Verifiers that share through a fleet alone, as if each were in a process of its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import httpx

from jwks_guard import DistrustNotSharedError, JWKSGuardError, Register, TokenVerifier
from jwks_guard.fleet import RedisFleet
from jwks_guard.keys.fleet import Fleet
from jwks_guard.testing import LocalTenant
from tests.redis_server import RedisServer

PATIENCE = 60.0
POLL = 0.05
DECISIONS = "{jwks-guard}:decisions"


def fleet_of(redis: RedisServer, **options: Any) -> RedisFleet:
    options.setdefault("poll_interval", POLL)
    return RedisFleet(options.pop("url", redis.url), **options)


def verifier_of(tenant: LocalTenant, fleet: Fleet | None = None, **options: Any) -> TokenVerifier:
    options.setdefault("http_client", lambda: httpx.AsyncClient(transport=tenant.transport))
    options.setdefault("algorithms", ["ES256"])
    return TokenVerifier(tenant.issuer, tenant.audience, fleet=fleet, **options)


@asynccontextmanager
async def instance(
    tenant: LocalTenant, fleet: RedisFleet, **options: Any
) -> AsyncIterator[TokenVerifier]:
    """One that is started, with a register of its own unless it is given one."""
    options.setdefault("register", Register())
    async with verifier_of(tenant, fleet, **options) as verifier:
        yield verifier


@asynccontextmanager
async def two_instances(
    tenant: LocalTenant, url: str
) -> AsyncIterator[tuple[TokenVerifier, TokenVerifier]]:
    """Two that reach the Redis at `url`."""
    async with (
        instance(tenant, RedisFleet(url, poll_interval=POLL)) as one,
        instance(tenant, RedisFleet(url, poll_interval=POLL)) as other,
    ):
        assert one.health().status == other.health().status == "ok"
        yield one, other


async def shared(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat the call until it no longer says that the decision is not shared."""
    began = time.monotonic()
    while True:
        with suppress(DistrustNotSharedError):
            await call()
            return
        assert time.monotonic() - began < PATIENCE


async def outcome(verifier: TokenVerifier, token: str) -> str:
    """The kid of an accepted token, or the code of the refusal."""
    try:
        return (await verifier.verify(token)).kid
    except JWKSGuardError as error:
        return error.code


async def eventually(condition: Callable[[], bool], within: float = PATIENCE) -> float:
    """Seconds until it holds; fails when that takes longer than `within` seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def exchanged(redis: RedisServer, prefix: str = "jwks-guard", *, number: int = 0) -> None:
    """Return when each instance that Redis shows has made a whole exchange since this call.

    It waits until so many are shown.
    """
    with redis.client() as client:
        for _ in range(2):  # the first one may have begun before
            await eventually(partial(_all_shown_after, client, prefix, number, time.time()))


def _all_shown_after(client: Any, prefix: str, number: int, began: float) -> bool:
    names = client.keys(f"{{{prefix}}}:state:*")
    states = [json.loads(each) for each in client.mget(names) if each] if names else []
    return len(states) >= number and all(state["reported_at"] > began for state in states)
