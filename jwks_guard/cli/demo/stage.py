"""Where the demo plays: a local tenant, a guarded API in a real uvicorn, and its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from jwks_guard import KeysUnavailableError, TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import listen

LONGEST_SECONDS = 60.0
"""The bound on the whole story, and on each thing that is waited for in it."""
_IDLE_SECONDS = 3600
"""The client drops an idle connection after 5 s. A server that does so at the same moment breaks
the request that is just being sent."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said: its status and, for a refusal, the error's code; times in seconds."""

    status: int
    code: str
    sent: float
    received: float

    @property
    def milliseconds(self) -> float:
        """How long the client waited."""
        return (self.received - self.sent) * 1000

    @property
    def verdict(self) -> str:
        """Status and code in one."""
        return f"{self.status} {self.code}".rstrip()


@dataclass(frozen=True, slots=True)
class Stage:
    """A tenant, the address of an API that `verifier` guards for it, and a client of that API."""

    tenant: LocalTenant
    verifier: TokenVerifier
    api: str
    _client: httpx.AsyncClient

    async def call(self, token: str | None = None) -> Answer:
        """Ask the API for something, with `token` as the bearer token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        sent = perf_counter()
        response = await self._client.get(self.api, headers=headers)
        return Answer(response.status_code, _code(response), sent, perf_counter())

    async def call_at_once(self, tokens: Iterable[str]) -> list[Answer]:
        """Ask with all of `tokens` at the same time, one request each."""
        return await asyncio.gather(*map(self.call, tokens))

    async def call_in_turn(self, tokens: Iterable[str]) -> list[Answer]:
        """Ask with each of `tokens`, one after the other."""
        return [await self.call(token) for token in tokens]

    @asynccontextmanager
    async def hammered(self, clients: int, token: str) -> AsyncIterator[list[Answer]]:
        """As many clients that go on with `token` while the block runs; what they are answered."""
        answers: list[Answer] = []
        enough = asyncio.Event()

        async def keep_calling() -> None:
            while not enough.is_set():
                answers.append(await self.call(token))

        tasks = [asyncio.create_task(keep_calling()) for _ in range(clients)]
        try:
            yield answers
        finally:
            enough.set()
            await asyncio.gather(*tasks)

    async def counting(self, doing: Awaitable[_T]) -> tuple[_T, int]:
        """What `doing` gives, and how often the tenant was asked for its keys meanwhile."""
        before = self.tenant.requests.count()
        return await doing, self.tenant.requests.count() - before

    async def refresh(self) -> bool:
        """Have the API ask for the keys again; whether that confirmed a set."""
        try:
            await self.verifier.keys.refresh()
        except KeysUnavailableError:
            return False
        return True

    async def published(self) -> set[str]:
        """The kids that the tenant's JWK Set lists at this moment."""
        response = await self._client.get(self.tenant.jwks_uri)
        return {key["kid"] for key in response.json()["keys"]}


def direct_client() -> httpx.AsyncClient:
    """A client for this machine: past any proxy, and without connections left to be closed."""
    return httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


@asynccontextmanager
async def opened(tenant: LocalTenant, verifier: TokenVerifier) -> AsyncIterator[Stage]:
    """Serve an API that `verifier` guards on a free port of this machine."""
    config = uvicorn.Config(
        _guarded_api(verifier),
        lifespan="on",  # the middleware starts and closes the verifier with the server
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    with listen("127.0.0.1", 0) as listener:  # connections queue on it until the server is ready
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/things"
        serving = asyncio.create_task(server.serve([listener]))
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=LONGEST_SECONDS) as client:
                yield Stage(tenant, verifier, url, client)
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave Ctrl-C to the command."""
        yield


def _code(response: httpx.Response) -> str:
    """The code of a refusal; nothing in any other answer."""
    is_json = response.headers.get("Content-Type") == "application/json"
    return str(response.json().get("code", "")) if is_json else ""


def _guarded_api(verifier: TokenVerifier) -> Starlette:
    async def things(request: Request) -> JSONResponse:
        return JSONResponse({"things": [], "for": request.user.identity})

    # debug_errors, so that the demo can tell one refusal from another
    guard = Middleware(JWKSGuardMiddleware, verifier=verifier, debug_errors=True)
    return Starlette(routes=[Route("/things", things)], middleware=[guard])
