"""Instances in threads of this process, as a command finds them over Redis and over HTTP."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from jwks_guard import JWKSGuardError, Register, SyncTokenVerifier
from jwks_guard.asgi import operations
from jwks_guard.fleet import RedisFleet
from jwks_guard.keys.fleet import Fleet
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import ServerThread, listen
from tests.process.programs import wait_until
from tests.redis_server import RedisServer

SECRET = "correct-horse-battery"
POLL = 0.05  # s


def verifier_of(tenant: LocalTenant, fleet: Fleet | None = None) -> SyncTokenVerifier:
    """An instance with a register of its own."""
    return SyncTokenVerifier(
        tenant.issuer,
        tenant.audience,
        algorithms=["ES256"],
        fleet=fleet,
        register=Register(),
        http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
    )


@contextmanager
def over_redis(
    tenant: LocalTenant, redis: RedisServer, secret: str | None = None
) -> Iterator[SyncTokenVerifier]:
    """An instance that shares through Redis."""
    fleet = RedisFleet(redis.url, secret=secret, poll_interval=POLL)
    with verifier_of(tenant, fleet) as verifier:
        verifier.verify(tenant.token())
        wait_until(lambda: _shows_keys(redis, verifier.keys.register.instance))
        yield verifier


def _shows_keys(redis: RedisServer, instance: str) -> bool:
    with redis.client() as client:
        names = client.keys(f"{{jwks-guard}}:state:{instance}:*")
        return any(json.loads(value)["kids"] for value in client.mget(names)) if names else False


@dataclass(slots=True)
class HTTPInstance:
    """An instance with operations routes at `url`."""

    verifier: SyncTokenVerifier
    url: str
    _server: ServerThread

    def stop(self) -> None:
        """Answer no longer."""
        self._server.stop()


@contextmanager
def over_http(tenant: LocalTenant) -> Iterator[HTTPInstance]:
    """An instance that is asked at its operations routes."""
    listener = listen("127.0.0.1", 0)
    with verifier_of(tenant) as verifier:
        verifier.verify(tenant.token())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/ops"
        running = HTTPInstance(verifier, url, ServerThread(_operated(verifier), listener))
        try:
            yield running
        finally:
            running.stop()


def _operated(verifier: SyncTokenVerifier) -> ASGIApp:
    return Starlette(routes=[Mount("/ops", operations(verifier, operations_auth=SECRET))])


def answer(verifier: SyncTokenVerifier, token: str) -> str:
    """The kid of an accepted token, or the code of the refusal."""
    try:
        return verifier.verify(token).kid
    except JWKSGuardError as error:
        return error.code


@contextmanager
def balanced(*instances: HTTPInstance) -> Iterator[str]:
    """One URL, behind which the instances answer in turn."""
    apps = itertools.cycle([_operated(each.verifier) for each in instances])

    async def in_turn(scope: Scope, receive: Receive, send: Send) -> None:
        await next(apps)(scope, receive, send)

    listener = listen("127.0.0.1", 0)
    server = ServerThread(in_turn, listener)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/ops"
    finally:
        server.stop()
