"""A fleet of which a test says what its instances show, and pages for somebody who is logged in."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from jwks_guard.admin.revocable import KeyView
from jwks_guard.console import pages
from jwks_guard.console.gathering import Gatherer
from jwks_guard.console.rendering import Role, Visitor
from jwks_guard.distrust.state import Distrusted
from jwks_guard.errors import DistrustNotSharedError
from jwks_guard.readiness.state import InstanceState, Observed, Refusal
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.testing.server import listen
from tests.support import HandClock

ISSUER = "https://fake.test/"


class FakeFleet:
    """Shows `states` and `decisions`; does not answer while there is a `failure`."""

    issuer = ISSUER

    def __init__(self, *states: InstanceState) -> None:
        self.states = states
        self.kids: set[str] = set()
        self.decisions: dict[str, Distrusted] = {}
        self.reach: Mapping[str, tuple[float, float]] = {}
        self.failure: Exception | None = None
        self.asked: list[str] = []

    @property
    def keys(self) -> KeyView:
        return self

    async def refresh(self) -> None:
        pass

    async def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> Sequence[Refusal] | None:
        self.decisions[kid] = Distrusted(self.issuer, kid, reason, at=0.0, by=actor or "")
        return None

    async def is_distrusted(self, kid: str) -> bool:
        return kid in self.decisions

    async def reinstate(self, kid: str, *, reason: str, actor: str | None = None) -> None:
        del self.decisions[kid]

    async def observe(self, kid: str) -> Observed:
        self.asked.append(kid)
        if self.failure is not None:
            raise self.failure
        expiry, lifetime = self.reach.get(kid, (None, None))
        return Observed(self.states, expiry, lifetime)

    async def distrusted(self) -> Mapping[str, Distrusted]:
        return self.decisions

    async def dismiss(self, instance: str) -> int:
        kept = tuple(state for state in self.states if state.instance != instance)
        gone, self.states = len(self.states) - len(kept), kept
        return gone

    def cut_off(self) -> None:
        self.failure = DistrustNotSharedError("The fleet's Redis can't be reached.")


def instance(name: str, clock: HandClock, **members: Any) -> InstanceState:
    """An instance that has just reported; `accepted` is how many tokens by kid."""
    accepted: Mapping[str, int] = members.pop("accepted", {})
    now = clock.time()
    usage = {kid: KeyUsage(accepted=n, last_seen=now) for kid, n in accepted.items()}
    members = {"kids": tuple(accepted), "usage": usage, **members}
    return InstanceState(
        **{
            "instance": name * 32,
            "host": f"host-{name}",
            "issuer": ISSUER,
            "started_at": now - 3600.0,
            "reported_at": now,
            "status": "ok",
            "confirmed_at": now,
            "trusted_until": now + 3600.0,
            **members,
        }
    )


def decision(kid: str, clock: HandClock, **members: Any) -> Distrusted:
    return Distrusted(
        **{
            "issuer": ISSUER,
            "kid": kid,
            "reason": "leaked",
            "at": clock.time(),
            "by": "ops",
            **members,
        }
    )


@dataclass
class Pages:
    """The pages of `gatherer` alone, mounted at `root`, for somebody with `role`.

    `ended` is why the session has ended, once it has.
    """

    gatherer: Gatherer
    role: Role = "operator"
    root: str = ""
    ended: list[str] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        shown = pages.routes(self.gatherer, lambda *_: self.ended[0] if self.ended else None)
        inside = Starlette(routes=shown, middleware=[Middleware(_Admitted, role=self.role)])
        static = StaticFiles(packages=[("jwks_guard.console", "static")])
        routes = [Mount(f"{self.root}/static", static), Mount(self.root or "/", inside)]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with self.gatherer:
            yield


class _Admitted:
    def __init__(self, app: ASGIApp, role: Role) -> None:
        self._app = app
        self._visitor = Visitor(name="Maria", role=role, csrf="csrf-token")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"nonce": "the-nonce", "visitor": self._visitor}
        await self._app(scope, receive, send)


class Server:
    """A real uvicorn in a thread of its own, with the application's lifespan; then `closing`."""

    def __init__(
        self,
        app: ASGIApp,
        port: int = 0,
        closing: Sequence[Callable[[], Awaitable[object]]] = (),
    ) -> None:
        listener = listen("127.0.0.1", port)
        self.port: int = listener.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, lifespan="on", ws="none", log_config=None, timeout_graceful_shutdown=1
            )
        )
        run = self._run(listener, closing)
        self._thread = threading.Thread(target=asyncio.run, args=(run,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _run(
        self, listener: socket.socket, closing: Sequence[Callable[[], Awaitable[object]]]
    ) -> None:
        await self._server.serve([listener])
        for close in closing:
            await close()
