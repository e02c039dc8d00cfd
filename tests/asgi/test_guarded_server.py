"""The guard in a real uvicorn, in front of real clients, with the keys of a real tenant."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from jwks_guard import MultiIssuerVerifier, TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, RequestVerifier
from jwks_guard.errors import KeysUnavailableError
from jwks_guard.testing import LocalTenant
from tests.support import PATIENCE, HandClock, tenant_of, verifier_of


def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {request.user.identity or 'anonymous'}")


async def upload(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


ROUTES = [
    Route("/", hello),
    Route("/health", hello),
    Route("/public/{name}", hello),
    Route("/upload", upload, methods=["POST"]),
    WebSocketRoute("/echo", echo),
]


class Server(uvicorn.Server):
    """uvicorn on a free port of this test's loop."""

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        config = uvicorn.Config(
            app, ws="websockets-sansio", log_config=None, access_log=False, **options
        )
        super().__init__(config)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.socket.getsockname()[1]}"


@dataclass
class API:
    """A served API, and clients of it."""

    app: Starlette
    http: httpx.AsyncClient
    address: str
    tenant: LocalTenant
    verifier: TokenVerifier

    async def get(self, token: str | None = None, path: str = "/") -> httpx.Response:
        return await self.http.get(path, headers=credentials(token))

    def dial(self, token: str | None = None, **options: Any) -> connect:
        headers = credentials(token)
        return connect(
            f"ws://{self.address}/echo", additional_headers=headers, proxy=None, **options
        )


def credentials(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def served(
    verifier: TokenVerifier,
    tenant: LocalTenant,
    *,
    guard: RequestVerifier | None = None,
    server: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[API]:
    app = Starlette(routes=ROUTES)
    app.add_middleware(JWKSGuardMiddleware, verifier=guard or verifier, **options)
    uvicorn_server = Server(app, **(server or {}))
    serving = asyncio.create_task(uvicorn_server.serve([uvicorn_server.socket]))
    await uvicorn_server.up.wait()
    address = uvicorn_server.address
    limits = httpx.Limits(max_connections=None)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://{address}", trust_env=False, limits=limits, timeout=PATIENCE
        ) as http:
            yield API(app, http, address, tenant, verifier)
    finally:
        uvicorn_server.should_exit = True
        await serving


@pytest.fixture
async def tenant() -> AsyncIterator[LocalTenant]:
    async with LocalTenant() as tenant:
        yield tenant


@pytest.fixture
async def api(tenant: LocalTenant) -> AsyncIterator[API]:
    async with served(TokenVerifier(tenant.issuer, tenant.audience), tenant) as api:
        yield api


async def close_code(websocket: ClientConnection) -> int:
    """Wait for the close that the server sends."""
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionClosed) as caught:
            await websocket.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


async def refusal_of(dialling: connect) -> Any:
    with pytest.raises(InvalidStatus) as caught:
        await dialling
    return caught.value.response


async def test_a_real_token_is_accepted_and_every_refusal_has_its_status(api: API) -> None:
    accepted = await api.get(api.tenant.token(sub="auth0|alice"))
    assert (accepted.status_code, accepted.text) == (200, "hello auth0|alice")
    assert (await api.get()).status_code == 401
    assert (await api.get("a b")).status_code == 400
    assert (await api.get(api.tenant.forged_token())).status_code == 401
    assert (await api.get(api.tenant.token(lifetime=-60))).status_code == 401


async def test_lifespan_starts_the_verifier_before_the_first_request_and_closes_it(
    tenant: LocalTenant,
) -> None:
    verifier = TokenVerifier(tenant.issuer, tenant.audience)
    async with served(verifier, tenant) as api:
        assert tenant.key().kid in verifier.keys.kids
        assert (await api.get(tenant.token())).status_code == 200
    with pytest.raises(KeysUnavailableError):
        await verifier.verify(tenant.token())
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def test_an_api_whose_tenant_is_down_starts_answers_503_and_recovers(
    tenant: LocalTenant,
) -> None:
    tenant.faults.status(503, path="*")
    async with served(TokenVerifier(tenant.issuer, tenant.audience), tenant) as api:
        answer = await api.get(tenant.token())
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert (await refusal_of(api.dial(tenant.token()))).status_code == 503
        tenant.faults.clear()
        await api.verifier.keys.refresh()
        assert (await api.get(tenant.token())).status_code == 200


async def test_a_refused_upload_does_not_break_the_connection(api: API) -> None:
    body = b"x" * 1_000_000
    for token, status in ((None, 401), (api.tenant.token(), 200), (None, 401)):
        answer = await api.http.post("/upload", content=body, headers=credentials(token))
        assert answer.status_code == status


async def test_head_is_refused_without_a_body(api: API) -> None:
    refused = await api.http.head("/")
    assert (refused.status_code, refused.content) == (401, b"")
    assert (await api.http.head("/", headers=credentials(api.tenant.token()))).status_code == 200


async def test_excluded_paths_hold_on_the_wire_and_below_a_root_path(tenant: LocalTenant) -> None:
    verifier = TokenVerifier(tenant.issuer, tenant.audience)
    paths = ["/health", "/public/*"]
    async with served(verifier, tenant, exclude_paths=paths, server={"root_path": "/v1"}) as api:
        for path in ("/health", "/public/logo", "/public/%C3%A9t%C3%A9", "/health?a=//"):
            assert (await api.get(path=path)).text == "hello anonymous"
        for path in ("/", "/publicity", "/public/..%2f", "/public/a;b", "/public//a", "//health"):
            assert await status_line(api, path) == b"HTTP/1.1 401 Unauthorized"
        for path in ("/public/../", "/public/%2e%2e/", "/public/..\\", "/x/../health"):
            assert await status_line(api, path) == b"HTTP/1.1 401 Unauthorized"


async def status_line(api: API, path: str) -> bytes:
    """What `path` is answered with, sent as it is: HTTP clients tidy paths up."""
    host, port = api.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n".encode())
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line.strip()


@dataclass
class Load:
    """Clients that never pause, and what they saw."""

    api: API
    tokens: dict[str, str] = field(default_factory=dict)
    distrusted: set[str] = field(default_factory=set)
    distrusting: set[str] = field(default_factory=set)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[tuple[str, int, str]] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    def add_current(self) -> str:
        """Have the clients use a token of the key that is current now too."""
        kid = self.api.tenant.key().kid
        self.tokens[kid] = self.api.tenant.token()
        return kid

    async def client(self, first: int) -> None:
        for turn in count(first):
            if self.over:
                return
            kid = list(self.tokens)[turn % len(self.tokens)]
            refused_before = kid in self.distrusted
            status = (await self.api.get(self.tokens[kid])).status_code
            self.answers[kid, status] += 1
            self.answered.set()
            if refused_before and status != 401:
                self.wrong.append((kid, status, "its key was distrusted before"))
            if kid not in self.distrusting and status != 200:
                self.wrong.append((kid, status, "its key was never distrusted"))

    async def rounds(self, kid: str, status: int, count: int = 20) -> None:
        """Wait until `count` more answers about `kid` had that status."""
        goal = self.answers[kid, status] + count
        async with asyncio.timeout(PATIENCE):
            while self.answers[kid, status] < goal:
                self.answered.clear()
                await self.answered.wait()

    async def distrust(self, kid: str) -> None:
        self.distrusting.add(kid)
        await self.api.verifier.distrust(kid, reason="rehearsal")
        self.distrusted.add(kid)


async def test_under_load_rotations_cost_no_valid_token_and_distrust_is_at_once(api: API) -> None:
    load = Load(api)
    kid = load.add_current()
    clients = [asyncio.create_task(load.client(number)) for number in range(16)]
    await load.rounds(kid, 200)
    for _ in range(3):
        previous = kid
        api.tenant.rotate()
        kid = load.add_current()
        await load.rounds(kid, 200)
        await load.rounds(previous, 200)
        await load.distrust(previous)
        await load.rounds(previous, 401)
        await load.rounds(kid, 200)
    load.over = True
    await asyncio.gather(*clients)
    assert load.wrong == []
    assert len(load.distrusted) == 3


async def test_a_socket_talks_until_its_key_is_distrusted(api: API) -> None:
    old, token = api.tenant.key().kid, api.tenant.token()
    api.tenant.rotate()
    async with api.dial(token) as doomed, api.dial(api.tenant.token()) as spared:
        for websocket in (doomed, spared):
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        await api.verifier.distrust(old, reason="rehearsal")
        assert await close_code(doomed) == 1008
        await spared.send("still here")
        assert await spared.recv() == "still here"
    refused = await refusal_of(api.dial(token))
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


async def test_a_hundred_idle_sockets_are_closed_within_the_second(api: API) -> None:
    old, token = api.tenant.key().kid, api.tenant.token()
    api.tenant.rotate()
    websockets = await asyncio.gather(*(api.dial(token) for _ in range(100)))
    await asyncio.to_thread(api.verifier.keys.decisions.decide, old, reason="from a thread")
    codes = await asyncio.gather(*(close_code(websocket) for websocket in websockets))
    assert codes == [1008] * 100


async def test_a_socket_is_closed_when_its_key_is_withdrawn(api: API) -> None:
    old, token = api.tenant.key().kid, api.tenant.token()
    api.tenant.rotate()
    await api.verifier.keys.refresh()
    async with api.dial(token) as websocket:
        api.tenant.revoke(old)
        await api.verifier.keys.refresh()
        assert await close_code(websocket) == 1008


async def test_a_socket_without_a_token_is_refused_over_http(api: API) -> None:
    refused = await refusal_of(api.dial())
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["content-type"] == "application/json"
    assert b"unauthorized" in (refused.body or b"")


async def test_a_browser_can_send_its_token_as_a_subprotocol(tenant: LocalTenant) -> None:
    verifier = TokenVerifier(tenant.issuer, tenant.audience)
    async with served(verifier, tenant, bearer_subprotocol=True) as api:
        offer = [Subprotocol("bearer"), Subprotocol(tenant.token())]
        async with api.dial(subprotocols=offer) as websocket:
            assert websocket.subprotocol == "bearer"
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        forged = [Subprotocol("bearer"), Subprotocol(tenant.forged_token())]
        assert (await refusal_of(api.dial(subprotocols=forged))).status_code == 401


@pytest.fixture
async def timed() -> AsyncIterator[tuple[API, HandClock]]:
    """An API of a minute of trust, on a clock that is turned by hand."""
    clock = HandClock()
    with tenant_of(clock) as tenant:
        verifier = verifier_of(tenant, clock, max_stale=100.0, leeway=0.0)
        async with served(verifier, tenant) as api:
            yield api, clock


async def test_a_socket_is_closed_when_its_token_expires(timed: tuple[API, HandClock]) -> None:
    api, clock = timed
    token = api.tenant.token(lifetime=20)
    clock.advance(19.9)
    async with api.dial(token) as websocket:
        clock.advance(0.1)
        assert await close_code(websocket) == 1008


async def test_a_socket_is_closed_when_trust_runs_out(timed: tuple[API, HandClock]) -> None:
    api, clock = timed
    clock.advance(99.9)
    async with api.dial(api.tenant.token()) as websocket:
        clock.advance(0.1)
        assert await close_code(websocket) == 1013


async def test_a_frame_that_comes_after_the_machine_slept_past_the_expiry_is_not_delivered(
    timed: tuple[API, HandClock],
) -> None:
    api, clock = timed
    async with api.dial(api.tenant.token(lifetime=20)) as websocket:
        clock.suspend(20)
        await websocket.send("too late")
        assert await close_code(websocket) == 1008


async def test_a_socket_outlives_distrust_in_another_issuer() -> None:
    clock = HandClock()
    with tenant_of(clock) as mine, tenant_of(clock, issuer="https://other.test/") as theirs:
        own, other = verifier_of(mine, clock), verifier_of(theirs, clock)
        async with served(own, mine, guard=MultiIssuerVerifier([own, other])) as api:
            kept, lost = await api.dial(mine.token()), await api.dial(theirs.token())
            await other.distrust(theirs.key().kid, reason="rehearsal")
            assert await close_code(lost) == 1008
            await kept.send("hello")
            assert await kept.recv() == "hello"
            await kept.close()


async def test_a_socket_of_an_issuer_that_resolve_knows_ends_with_key_and_issuer() -> None:
    clock = HandClock()
    with tenant_of(clock) as mine, tenant_of(clock, issuer="https://customer.test/") as theirs:
        served_now = True

        async def resolve(issuer: str) -> TokenVerifier | None:
            return verifier_of(theirs, clock) if served_now else None

        own = verifier_of(mine, clock)
        multi = MultiIssuerVerifier([own], resolve=resolve, resolve_ttl=100)
        async with served(own, mine, guard=multi) as api:
            kept = await api.dial(mine.token())
            old = theirs.key()
            theirs.rotate()
            lost = await api.dial(theirs.token(key=old))
            await multi.verifiers[theirs.issuer].distrust(old.kid, reason="rehearsal")
            assert await close_code(lost) == 1008
            forgotten = await api.dial(theirs.token())
            await multi.forget(theirs.issuer)
            assert await close_code(forgotten) == 1008
            ended = await api.dial(theirs.token())
            served_now = False
            clock.advance(100)
            await ended.send("has the issuer asked for again")
            assert await ended.recv(), "nothing waits for the answer"
            assert await close_code(ended) == 1008
            await kept.send("hello")
            assert await kept.recv() == "hello"
            await kept.close()


class CountingVerifier(TokenVerifier):
    """Counts who is subscribed to it."""

    subscribed = 0

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        unsubscribe = super().subscribe(listener)
        self.subscribed += 1

        def end() -> None:
            self.subscribed -= 1
            unsubscribe()

        return end


async def test_clients_that_go_leave_no_subscription_and_no_task(tenant: LocalTenant) -> None:
    verifier = CountingVerifier(tenant.issuer, tenant.audience)
    async with served(verifier, tenant) as api:
        before = asyncio.all_tasks()
        async with api.dial(tenant.token()) as websocket:
            await websocket.send("hello")
            await websocket.recv()
            assert verifier.subscribed == 1
        await asyncio.gather(*(asyncio.all_tasks() - before))
        assert verifier.subscribed == 0
