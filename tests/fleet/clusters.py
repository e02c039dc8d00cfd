"""Fleets of several instances in one process, of any kind, whose network a test can break."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from jwks_guard import Register, TokenVerifier
from jwks_guard.asgi import operations
from jwks_guard.fleet import HTTPFleet, RedisFleet
from jwks_guard.keys.fleet import Fleet
from jwks_guard.testing import LocalTenant
from tests.fleet.cable import Cable, laid
from tests.fleet.instances import POLL, verifier_of
from tests.redis_server import redis_server

SECRET = "correct-horse-battery"
NAMES = ("one", "two", "three")


class Cluster(ABC):
    """The instances `NAMES` of one fleet; each one that runs has a register of its own.

    `cut` holds the names of those that reach no other instance, and are reached by none.
    `answers_lost` holds those whose decisions arrive, while no answer comes back to them, or to
    what they ask next.
    `decision_bytes` counts the bytes of all messages in which there was a decision.
    `poll_interval` is that of instances which begin from now on, in seconds.
    """

    names_absent = True
    """Whether an instance that is away is noticed by one that shares a decision."""

    def __init__(self, tenant: LocalTenant) -> None:
        self.tenant = tenant
        self.cut: set[str] = set()
        self.answers_lost: set[str] = set()
        self.decision_bytes = 0
        self.poll_interval = POLL
        self._running: dict[str, AsyncExitStack] = {}

    @abstractmethod
    def fleet(self, name: str) -> Fleet:
        """A fleet object for the instance `name`."""

    async def start(self, name: str, **options: Any) -> TokenVerifier:
        """Begin an instance, as a new process of that name would."""
        options.setdefault("register", Register())
        options.setdefault("fleet", self.fleet(name))
        verifier = verifier_of(self.tenant, **options)
        self._running[name] = AsyncExitStack()
        await self._running[name].enter_async_context(self._served(name, verifier))
        return verifier

    @asynccontextmanager
    async def _served(self, name: str, verifier: TokenVerifier) -> AsyncIterator[None]:
        async with verifier:
            yield

    async def stop(self, name: str) -> None:
        """End an instance."""
        await self._running.pop(name).aclose()

    async def aclose(self) -> None:
        """End all instances."""
        for name in list(self._running):
            await self.stop(name)


# --- over HTTP ---


class HTTPCluster(Cluster):
    """Instances whose operations routes are asked in this process, past any socket."""

    def __init__(self, tenant: LocalTenant) -> None:
        super().__init__(tenant)
        self.apps: dict[str, ASGIApp] = {}

    def fleet(self, name: str) -> Fleet:
        return HTTPFleet(
            [f"https://{each}.test/ops" for each in NAMES],
            secret=SECRET,
            poll_interval=self.poll_interval,
            http_client=lambda: httpx.AsyncClient(transport=_Wire(self, name)),
        )

    @asynccontextmanager
    async def _served(self, name: str, verifier: TokenVerifier) -> AsyncIterator[None]:
        app = operations(verifier, operations_auth=SECRET)
        self.apps[f"{name}.test"] = Starlette(routes=[Mount("/ops", app)])
        async with verifier:
            yield
        del self.apps[f"{name}.test"]


class _Wire(httpx.AsyncBaseTransport):
    """The network as the instance `name` has it."""

    def __init__(self, cluster: HTTPCluster, name: str) -> None:
        self._cluster = cluster
        self._name = name

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        cluster, host = self._cluster, request.url.host
        here, there = self._name, host.removesuffix(".test")
        if (here != there and cluster.cut & {here, there}) or host not in cluster.apps:
            raise httpx.ConnectError("connection refused", request=request)
        response = await httpx.ASGITransport(cluster.apps[host]).handle_async_request(request)
        answer = await response.aread()
        cluster.decision_bytes += sum(len(b) for b in (request.content, answer) if b'"kid":' in b)
        if here != there and here in cluster.answers_lost:
            raise httpx.ReadError("connection reset", request=request)
        return response


# --- over Redis ---


class RedisCluster(Cluster):
    """Instances that each have a line of their own to one Redis, and sign what they write."""

    names_absent = False

    def __init__(self, tenant: LocalTenant, port: int) -> None:
        super().__init__(tenant)
        self.lines = {name: _Line(port, self, name) for name in NAMES}

    def fleet(self, name: str) -> Fleet:
        return RedisFleet(self.lines[name].url, secret=SECRET, poll_interval=self.poll_interval)


class _Line(Cable):
    """The line to Redis of the instance `name`."""

    def __init__(self, port: int, cluster: RedisCluster, name: str) -> None:
        super().__init__(port)
        self._cluster = cluster
        self._name = name
        self._wrote = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lost = self._wrote and self._name in self._cluster.answers_lost
        if self.passes(b"") and not lost:
            await super().serve(reader, writer)

    def loses(self, request: bytes) -> bool:
        loses = self._name in self._cluster.answers_lost and b"EVAL" in request  # what writes
        self._wrote = self._wrote or loses
        return loses

    def passes(self, data: bytes) -> bool:
        if any(kind in data for kind in (b'["made",', b'["lifted",', b'["key",')):
            self._cluster.decision_bytes += len(data)
        return self._name not in self._cluster.cut


# --- each kind of fleet that keeps the contract ---


@asynccontextmanager
async def over_http(tenant: LocalTenant) -> AsyncIterator[Cluster]:
    yield HTTPCluster(tenant)


@asynccontextmanager
async def over_redis(tenant: LocalTenant) -> AsyncIterator[Cluster]:
    with redis_server() as server:
        cluster = RedisCluster(tenant, server.port)
        async with AsyncExitStack() as lines:
            for line in cluster.lines.values():
                await lines.enter_async_context(laid(line))
            yield cluster


KINDS: dict[str, Callable[[LocalTenant], AbstractAsyncContextManager[Cluster]]] = {
    "http": over_http,
    "redis": over_redis,
}
