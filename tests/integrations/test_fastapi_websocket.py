"""WebSocket routes of FastAPI with a Guard, in a real uvicorn and by hand."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request, Security, WebSocket
from fastapi.responses import JSONResponse
from starlette.types import Message
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from jwks_guard import TokenVerifier, VerifiedToken
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.integrations.fastapi import CurrentToken, Guard, RefusedException
from jwks_guard.testing import LocalTenant
from tests.integrations.servers import served_asgi
from tests.process.programs import wait_until
from tests.support import PATIENCE, HandClock


class Watched(TokenVerifier):
    """Knows how many listeners it has: one for each open WebSocket that is guarded once."""

    listeners = 0

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        cancel = super().subscribe(listener)
        self.listeners += 1

        def end() -> None:
            cancel()
            self.listeners -= 1

        return end


@dataclass
class API:
    """The served app, its verifier and tenant."""

    url: str
    verifier: Watched
    tenant: LocalTenant
    clock: HandClock

    def dial(self, path: str, token: str | None) -> ClientConnection:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return connect(self.url + path, additional_headers=headers, proxy=None)

    def refusal(self, path: str, token: str | None) -> Any:
        with pytest.raises(InvalidStatus) as caught:
            self.dial(path, token)
        return caught.value.response


async def accept(websocket: WebSocket) -> None:
    await websocket.accept()


async def answer(websocket: WebSocket) -> None:
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def echo(websocket: WebSocket) -> None:
    await accept(websocket)
    await answer(websocket)


def app_with(verifier: Watched) -> FastAPI:
    guard = Guard(verifier)
    app = FastAPI()

    @app.websocket("/echo")
    async def one(
        websocket: WebSocket,
        token: Annotated[VerifiedToken, Security(guard, scopes=["read:things"])],
    ) -> None:
        await echo(websocket)

    @app.websocket("/often", dependencies=[Depends(guard)])
    async def often(
        websocket: WebSocket,
        token: Annotated[VerifiedToken, Security(guard, scopes=["read:things"])],
        same: CurrentToken,
    ) -> None:
        assert token is same
        await echo(websocket)

    @app.websocket("/leaves", dependencies=[Depends(guard)])
    async def leaves(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()

    @app.websocket("/optional")
    async def optional(
        websocket: WebSocket,
        token: Annotated[VerifiedToken | None, Depends(Guard(verifier, optional=True))],
    ) -> None:
        await echo(websocket)

    @app.websocket("/accepted", dependencies=[Depends(accept), Depends(guard)])
    async def accepted(websocket: WebSocket) -> None:
        await answer(websocket)

    @app.websocket("/distrusts")
    async def distrusts(
        websocket: WebSocket, token: Annotated[VerifiedToken, Depends(guard)]
    ) -> None:
        await verifier.distrust(token.kid, reason="between connect and accept")
        await echo(websocket)

    return app


@pytest.fixture
def api(clock: HandClock) -> Iterator[API]:
    with LocalTenant(algorithm="ES256", clock=clock) as tenant:
        verifier = Watched(tenant.issuer, tenant.audience, clock=clock)
        with served_asgi(app_with(verifier), at_end=[verifier.aclose]) as address:
            yield API(address.replace("http", "ws"), verifier, tenant, clock)


def revoke(api: API) -> None:
    """Distrust the key of the tokens made so far; another one is trusted."""
    old = api.tenant.key().kid
    api.tenant.rotate()
    api.verifier.keys.decisions.decide(old, reason="leaked")


def close_code(websocket: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as caught:
        websocket.recv(timeout=PATIENCE)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


def test_handshake_is_refused_as_an_http_request_is(api: API) -> None:
    missing = api.refusal("/echo", None)
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, "Bearer")
    assert b'{"detail":{"error":"unauthorized"' in missing.body
    assert api.refusal("/echo", api.tenant.forged_token()).status_code == 401
    poor = api.refusal("/echo", api.tenant.token(scope=""))
    assert poor.status_code == 403
    assert 'scope="read:things"' in poor.headers["www-authenticate"]
    assert api.verifier.listeners == 0


@pytest.mark.parametrize("path", ["/echo", "/often", "/optional", "/accepted"])
def test_open_socket_is_closed_when_its_key_is_distrusted(api: API, path: str) -> None:
    with api.dial(path, api.tenant.token(scope="read:things")) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=PATIENCE) == "hello"
        assert api.verifier.listeners == 1
        revoke(api)
        assert close_code(websocket) == 1008
    wait_until(lambda: api.verifier.listeners == 0)


def test_open_socket_is_closed_when_its_token_expires(api: API) -> None:
    with api.dial("/echo", api.tenant.token(scope="read:things", lifetime=600)) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=PATIENCE) == "hello"
        api.clock.advance(700)
        assert close_code(websocket) == 1008


def test_socket_that_another_dependency_has_accepted_is_closed_when_refused(api: API) -> None:
    for token in (None, api.tenant.forged_token()):
        with api.dial("/accepted", token) as websocket:
            assert close_code(websocket) == 1008
    assert api.verifier.listeners == 0


@pytest.mark.parametrize("path", ["/echo", "/leaves"])
def test_socket_that_client_or_app_has_left_is_no_longer_watched(api: API, path: str) -> None:
    with api.dial(path, api.tenant.token(scope="read:things")) as websocket:
        wait_until(lambda: api.verifier.listeners == 1)
        websocket.send("hello")  # upon which the app leaves
        if path == "/leaves":
            wait_until(lambda: api.verifier.listeners == 0)
    wait_until(lambda: api.verifier.listeners == 0)


def test_anonymous_socket_is_not_watched(api: API) -> None:
    with api.dial("/optional", None) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=PATIENCE) == "hello"
        assert api.verifier.listeners == 0


def test_token_distrusted_between_connect_and_accept_is_refused(api: API) -> None:
    token = api.tenant.token()
    api.tenant.rotate()
    refused = api.refusal("/distrusts", token)
    assert refused.status_code == 401
    assert b'{"detail":{"error":"invalid_token"' in refused.body
    assert api.verifier.listeners == 0


# --- what a server without `websocket.http.response` is told ---


async def told(app: Any, token: str | None, extensions: dict[str, Any] | None) -> list[Message]:
    """The messages of `app` to the server of a WebSocket that it refuses, or that leaves."""
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    scope = {
        "type": "websocket",
        "path": "/distrusts",
        "query_string": b"",
        "headers": headers,
        "subprotocols": [],
        "extensions": extensions,
    }
    incoming: list[Message] = [{"type": "websocket.connect"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("extensions", [None, {}])
async def test_without_that_extension_the_connection_is_closed(
    tenant: LocalTenant, clock: HandClock, extensions: dict[str, Any] | None
) -> None:
    async with LocalTenant(algorithm="ES256", clock=clock) as tenant:
        async with Watched(tenant.issuer, tenant.audience, clock=clock) as verifier:
            app = app_with(verifier)
            closed = {"type": "websocket.close", "reason": ""}
            assert await told(app, None, extensions) == [closed | {"code": 1008}]
            token = tenant.token()
            tenant.rotate()
            assert await told(app, token, extensions) == [closed | {"code": 1008}]
            assert verifier.listeners == 0
        tenant.faults.status(503, path="*")
        async with Watched(tenant.issuer, tenant.audience, clock=clock) as verifier:
            app = app_with(verifier)
            assert await told(app, tenant.token(), extensions) == [closed | {"code": 1013}]


async def test_apps_own_handler_words_the_refusal_of_a_socket(
    tenant: LocalTenant, clock: HandClock
) -> None:
    app = app_with(Watched(tenant.issuer, tenant.audience, clock=clock))

    @app.exception_handler(RefusedException)
    async def handle(_: Request, refused: RefusedException) -> JSONResponse:
        return JSONResponse({"code": refused.error.code}, 418)

    start, body = await told(app, None, {"websocket.http.response": {}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 418)
    assert body["body"] == b'{"code":"missing_credentials"}'


# --- with the middleware ---


def test_socket_that_the_middleware_guards_is_guarded_once(clock: HandClock) -> None:
    with LocalTenant(algorithm="ES256", clock=clock) as tenant:
        verifier = Watched(tenant.issuer, tenant.audience, clock=clock)
        guarded = JWKSGuardMiddleware(app_with(verifier), verifier=verifier)
        with served_asgi(guarded, at_end=[verifier.aclose]) as address:
            api = API(address.replace("http", "ws"), verifier, tenant, clock)
            with api.dial("/often", tenant.token(scope="read:things")) as websocket:
                websocket.send("hello")
                assert websocket.recv(timeout=PATIENCE) == "hello"
                assert verifier.listeners == 1
                revoke(api)
                assert close_code(websocket) == 1008
