"""Instances of a fleet as the commands find them in Redis: real ones, and what one would show."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx
from redis.exceptions import RedisError

from jwks_guard.fleet.soundness import encoded_state
from jwks_guard.readiness.state import LIVE_SECONDS, InstanceState
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.testing import LocalTenant
from tests.process.programs import server, wait_until
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


class ShownFleet:
    """States in Redis, as if instances showed them: what reports now goes on reporting.

    A command may take as long as it likes: no instance falls silent meanwhile.
    """

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis
        self._shown: dict[tuple[str, str], tuple[InstanceState, float]] = {}
        self._change = threading.Lock()

    def show(self, *states: InstanceState, prefix: str = "jwks-guard") -> None:
        """Put `states` into the fleet, each in place of what its instance has shown before."""
        now = time.time()
        with self._change:
            for each in states:
                name = f"{{{prefix}}}:state:{each.instance}:00000000:{each.issuer}"
                if now - each.reported_at < LIVE_SECONDS:
                    self._shown[prefix, name] = each, now
                self._write(prefix, name, each)

    def fall_silent(self) -> None:
        """Leave what is shown by now as it is: nobody reports it again."""
        with self._change:
            self._shown.clear()

    def clear(self) -> None:
        """Leave nothing in Redis."""
        with self._change, self._redis.client() as client:
            self._shown.clear()
            client.flushall()

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Report once a second while the block runs."""
        over = threading.Event()

        def report() -> None:
            while not over.wait(1.0):
                with self._change, suppress(RedisError):
                    for (prefix, name), (state, since) in self._shown.items():
                        self._write(prefix, name, later(state, time.time() - since))

        thread = threading.Thread(target=report)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _write(self, prefix: str, name: str, state: InstanceState) -> None:
        with self._redis.client() as client:
            client.set(name, encoded_state(state))
            client.zadd(f"{{{prefix}}}:instances", {name: state.reported_at})


def later(state: InstanceState, seconds: float) -> InstanceState:
    """What an instance shows so many seconds after `state`, if nothing else has happened."""
    confirmed, until = state.confirmed_at, state.trusted_until
    return replace(
        state,
        reported_at=state.reported_at + seconds,
        confirmed_at=None if confirmed is None else confirmed + seconds,
        trusted_until=None if until is None else until + seconds,
    )


@contextmanager
def instance(tenant: LocalTenant, redis: RedisServer) -> Iterator[httpx.Client]:
    """A uvicorn process that guards an API and takes part in the fleet."""
    environ = {"ISSUER": tenant.issuer, "AUDIENCE": tenant.audience, "FLEET": redis.url}
    with server(*UVICORN, bind="--fd={}", **environ) as client:
        # It waits on the socket until it is up.
        wait_until(lambda: client.get("/").status_code == httpx.codes.UNAUTHORIZED)
        yield client


def called(client: httpx.Client, token: str) -> int:
    """The status with which an instance answers."""
    return client.get("/", headers={"Authorization": f"Bearer {token}"}).status_code
