"""Instances of a fleet as the commands find them in Redis: real ones, and what one would show."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from jwks_guard.fleet.records import encoded_state
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.testing import LocalTenant
from tests.process.programs import PATIENCE, server
from tests.redis_server import RedisServer

UVICORN = ("-m", "uvicorn", "--log-level=warning", "tests.process.apps.reporting:app")
HOUR = 3600.0


def state(issuer: str, *kids: str, **members: Any) -> InstanceState:
    """A healthy instance that trusts `kids` and was watched for an hour."""
    now = time.time()
    healthy = {
        "instance": "a1b2c3d4" * 4,
        "host": "web-1:17",
        "issuer": issuer,
        "started_at": now - HOUR,
        "reported_at": now,
        "status": "ok",
        "confirmed_at": now,
        "trusted_until": now + HOUR,
        "kids": kids,
    }
    return InstanceState(**{**healthy, **members})


def used(seconds_ago: float, recent: int = 1, expires_in: float = HOUR) -> KeyUsage:
    """Usage of a key that accepted a token then."""
    now = time.time()
    return KeyUsage(recent, 0, recent, now - seconds_ago, now + expires_in)


def show(redis: RedisServer, *states: InstanceState, prefix: str = "jwks-guard") -> None:
    """Put `states` into the fleet, as the instances themselves do."""
    with redis.client() as client:
        for each in states:
            name = f"{prefix}:state:{each.instance}:00000000:{each.issuer}"
            client.set(name, encoded_state(each))
            client.zadd(f"{prefix}:instances", {name: each.reported_at})


@contextmanager
def instance(tenant: LocalTenant, redis: RedisServer) -> Iterator[httpx.Client]:
    """A uvicorn process that guards an API and takes part in the fleet."""
    environ = {"ISSUER": tenant.issuer, "AUDIENCE": tenant.audience, "FLEET": redis.url}
    with server(*UVICORN, bind="--fd={}", **environ) as client:
        given_up = time.monotonic() + PATIENCE
        while client.get("/").status_code != 401:  # it waits on the socket until it is up
            assert time.monotonic() < given_up
        yield client


def called(client: httpx.Client, token: str) -> int:
    """The status with which an instance answers."""
    return client.get("/", headers={"Authorization": f"Bearer {token}"}).status_code
