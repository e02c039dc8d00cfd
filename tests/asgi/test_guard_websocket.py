from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Container
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn
from urllib.parse import unquote

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jwks_guard import FromCookie
from jwks_guard.asgi import JWKSGuardMiddleware, websocket
from jwks_guard.errors import (
    ConfigurationError,
    JWKSGuardError,
    KeysUnavailableError,
    LookUpThrottledError,
    RemovedKeyError,
    RevokedKeyError,
    TokenExpiredError,
)
from jwks_guard.verify.token import VerifiedToken
from tests.support import PATIENCE

GOOD = [(b"authorization", b"Bearer good")]
CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}
GONE = {"type": "websocket.disconnect", "code": 1001}


class SwitchedVerifier:
    """Says of every token what it is told to say, and wakes who has subscribed to changes."""

    def __init__(self) -> None:
        self.verdict: float | Exception = math.inf
        self.listeners: list[Callable[[], None]] = []
        self.asked: list[str | bytes] = []

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    async def verify(self, compact: str | bytes) -> VerifiedToken:
        self.asked.append(compact)
        token = VerifiedToken({"kid": "k1"}, {"sub": "alice"}, None, math.inf)
        self.remaining(token)
        return token

    def remaining(self, token: VerifiedToken) -> float:
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def change(self, verdict: float | Exception) -> None:
        self.verdict = verdict
        for listener in list(self.listeners):
            listener()


class Connection:
    """The server's side of one WebSocket, guarded by `verifier`."""

    def __init__(
        self,
        app: ASGIApp,
        verifier: SwitchedVerifier,
        *,
        headers: list[tuple[bytes, bytes]] = GOOD,
        subprotocols: tuple[str, ...] = (),
        extensions: dict[str, Any] | None = None,
        path: str = "/",
        scheme: str | None = None,
        **options: Any,
    ) -> None:
        self.scope: Scope = {
            "type": "websocket",
            "path": unquote(path),
            "raw_path": path.encode(),
            "headers": headers,
            "subprotocols": list(subprotocols),
            "extensions": extensions,
        }
        if scheme is not None:
            self.scope["scheme"] = scheme
        self.incoming = asyncio.Queue[Message]()
        self.incoming.put_nowait(CONNECT)
        self.sent = asyncio.Queue[Message]()
        self.writable = asyncio.Event()
        self.writable.set()
        self.stuck = asyncio.Event()
        self.failure: Exception | None = None
        self.codes: Container[int] = range(1000, 5000)  # that the server takes
        self.app = app
        self.app_ended = asyncio.Event()
        guard = JWKSGuardMiddleware(self.run_app, verifier=verifier, **options)
        self.run = asyncio.ensure_future(guard(self.scope, self.incoming.get, self.send))

    async def run_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            self.app_ended.set()

    async def send(self, message: Message) -> None:
        if not self.writable.is_set():
            self.stuck.set()
            await self.writable.wait()
        if self.failure is not None:
            raise self.failure
        if message["type"] == "websocket.close" and message["code"] not in self.codes:
            raise Exception("invalid close code")  # of no other class: so does daphne
        self.sent.put_nowait(message)

    def say(self, text: str) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    async def told(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            return await self.sent.get()

    async def ended(self) -> None:
        """Wait for the application's end, and see that it left nothing behind."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait({self.run})
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left
        self.run.result()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, send back what comes, and end with the client."""
    assert await receive() == CONNECT
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
    scope["last"] = message


async def unreachable(scope: Scope, receive: Receive, send: Send) -> NoReturn:
    raise AssertionError("a refused connection does not reach the application")


def accepting(then: Callable[[Receive, Send], Awaitable[None]]) -> ASGIApp:
    """An application that accepts every connection and goes on with `then`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await then(receive, send)

    return app


DENIAL: dict[str, Any] = {"websocket.http.response": {}}


@pytest.mark.parametrize(
    ("headers", "verdict", "status"),
    [
        ([], 60.0, 401),
        ([(b"authorization", b"Basic dTpw")], 60.0, 401),
        ([(b"authorization", b"Bearer")], 60.0, 400),
        (GOOD, RevokedKeyError("distrusted"), 401),
        (GOOD, KeysUnavailableError("down", 3.0), 503),
        (GOOD, LookUpThrottledError("too many", 3.0), 429),
        (GOOD, ConfigurationError("the journal can't be read"), 503),
    ],
)
async def test_a_refused_connection_gets_the_http_answer_where_the_server_can_send_it(
    headers: list[tuple[bytes, bytes]], verdict: float | Exception, status: int
) -> None:
    verifier = SwitchedVerifier()
    verifier.verdict = verdict
    connection = Connection(unreachable, verifier, headers=headers, extensions=DENIAL)
    start, body = await connection.told(), await connection.told()
    assert start["type"] == "websocket.http.response.start"
    assert start["status"] == status
    names = {name for name, _ in start["headers"]}
    assert (b"retry-after" if status in (429, 503) else b"www-authenticate") in names
    assert body["type"] == "websocket.http.response.body"
    assert json.loads(body["body"]).keys() == {"error", "error_description"}
    await connection.ended()
    assert verifier.listeners == []


@pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}])
@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (RevokedKeyError("distrusted"), 1008),
        (KeysUnavailableError("down"), 1013),
        (LookUpThrottledError("too many"), 1013),
    ],
)
async def test_without_that_extension_a_refused_connection_is_closed(
    verdict: Exception, code: int, extensions: dict[str, Any] | None
) -> None:
    verifier = SwitchedVerifier()
    verifier.verdict = verdict
    connection = Connection(unreachable, verifier, extensions=extensions)
    assert await connection.told() == {"type": "websocket.close", "code": code, "reason": ""}
    await connection.ended()


async def test_a_required_scope_is_required_of_websockets_too() -> None:
    connection = Connection(
        unreachable, SwitchedVerifier(), extensions=DENIAL, required_scopes=["read:things"]
    )
    assert (await connection.told())["status"] == 403


@pytest.mark.parametrize("headers", [[], GOOD, [(b"authorization", b"Bearer")]])
async def test_a_socket_on_an_excluded_path_is_left_to_the_app(
    headers: list[tuple[bytes, bytes]],
) -> None:
    verifier = SwitchedVerifier()
    connection = Connection(
        echo,
        verifier,
        headers=headers,
        subprotocols=("bearer", "good"),
        path="/ws/public",
        exclude_paths=["/ws/*"],
        bearer_subprotocol=True,
    )
    assert await connection.told() == ACCEPT
    assert connection.scope["subprotocols"] == ["bearer", "good"]
    assert connection.scope["state"] == {"token": None}
    assert not connection.scope["user"].is_authenticated
    connection.incoming.put_nowait(GONE)
    await connection.ended()
    assert (verifier.asked, verifier.listeners) == ([], [])


@pytest.mark.parametrize("path", ["/ws", "/wss/a", "/ws/%2e%2e/admin", "/ws/..%2fadmin", "/ws//a"])
async def test_a_socket_on_a_path_that_may_be_read_otherwise_is_not_excluded(path: str) -> None:
    connection = Connection(
        unreachable,
        SwitchedVerifier(),
        headers=[],
        extensions=DENIAL,
        path=path,
        exclude_paths=["/ws/*"],
    )
    assert (await connection.told())["status"] == 401
    await connection.told()
    await connection.ended()


async def test_frames_pass_both_ways_until_the_client_goes() -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier)
    assert await connection.told() == ACCEPT
    assert connection.scope["user"].identity == "alice"
    assert connection.scope["auth"].scopes == ["authenticated"]
    connection.say("hello")
    assert (await connection.told())["text"] == "hello"
    connection.incoming.put_nowait(GONE)
    await connection.ended()
    assert connection.scope["last"] == GONE
    assert verifier.listeners == []


async def test_an_anonymous_connection_passes_only_with_optional_and_is_not_watched() -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier, headers=[], optional=True)
    assert await connection.told() == ACCEPT
    assert connection.scope["state"] == {"token": None}
    assert verifier.listeners == []
    verifier.change(RevokedKeyError("distrusted"))
    connection.say("hello")
    assert (await connection.told())["text"] == "hello"
    connection.incoming.put_nowait(GONE)
    await connection.ended()
    assert verifier.asked == []


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (RevokedKeyError("distrusted"), 1008),
        (RemovedKeyError("withdrawn"), 1008),
        (TokenExpiredError("expired"), 1008),
        (KeysUnavailableError("trust ran out"), 1013),
    ],
)
async def test_an_idle_connection_is_closed_when_the_verifier_refuses_its_token(
    verdict: JWKSGuardError, code: int
) -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier)
    await connection.told()
    verifier.change(verdict)
    close = await connection.told()
    assert (close["type"], close["code"]) == ("websocket.close", code)
    assert str(verdict) not in close["reason"]
    await connection.ended()
    assert connection.scope["last"] == {**close, "type": "websocket.disconnect"}
    assert verifier.listeners == []


@pytest.mark.parametrize(
    ("verdict", "code"),
    [(RevokedKeyError("distrusted"), 3000), (KeysUnavailableError("trust ran out"), 4013)],
)
async def test_a_server_of_application_codes_only_sends_one(
    verdict: JWKSGuardError, code: int
) -> None:
    connection = Connection(echo, verifier := SwitchedVerifier())
    connection.codes = {1000, *range(3000, 5000)}
    await connection.told()
    verifier.change(verdict)
    assert (await connection.told())["code"] == code
    await connection.ended()


async def test_a_server_that_can_close_with_no_code_reports_what_it_raised() -> None:
    connection = Connection(echo, verifier := SwitchedVerifier())
    connection.codes = ()
    await connection.told()
    verifier.change(RevokedKeyError("distrusted"))
    with pytest.raises(Exception, match="invalid close code"):
        await connection.ended()


async def test_a_change_is_noticed_from_any_thread() -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier)
    await connection.told()
    with ThreadPoolExecutor(1) as other:
        other.submit(verifier.change, RevokedKeyError("distrusted")).result()
    assert (await connection.told())["code"] == 1008
    await connection.ended()


async def test_a_change_that_spares_the_token_spares_the_connection() -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier)
    await connection.told()
    for seconds in (3600.0, 0.0, 60.0):
        verifier.change(seconds)
    connection.say("hello")
    assert (await connection.told())["text"] == "hello"
    connection.incoming.put_nowait(GONE)
    await connection.ended()


async def test_a_connection_is_closed_when_the_time_of_its_token_is_over() -> None:
    class Expiring(SwitchedVerifier):
        def remaining(self, token: VerifiedToken) -> float:
            if len(self.asked) == 5:
                raise TokenExpiredError("expired")
            self.asked.append("looked")
            return 0.001

    verifier = Expiring()
    connection = Connection(echo, verifier)
    await connection.told()
    assert (await connection.told())["code"] == 1008
    await connection.ended()
    assert verifier.listeners == []


async def test_a_connection_is_looked_at_every_second_as_the_loops_clock_stands_in_a_suspend() -> (
    None
):
    verifier = SwitchedVerifier()
    verifier.verdict = 86_400.0
    connection = Connection(echo, verifier)
    await connection.told()
    verifier.verdict = TokenExpiredError("expired while the machine slept")
    assert (await connection.told())["code"] == 1008
    await connection.ended()


async def test_no_frame_is_delivered_after_the_token_is_refused_though_no_change_was_told() -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier)
    await connection.told()
    verifier.verdict = RevokedKeyError("distrusted")
    connection.say("too late")
    assert (await connection.told())["code"] == 1008
    await connection.ended()
    assert connection.scope["last"]["code"] == 1008


async def test_no_frame_is_sent_after_the_token_is_refused_though_no_change_was_told() -> None:
    verifier = SwitchedVerifier()

    async def refused(receive: Receive, send: Send) -> None:
        verifier.verdict = TokenExpiredError("expired")
        with pytest.raises(OSError, match="no longer valid"):
            await send({"type": "websocket.send", "text": "too late"})

    connection = Connection(accepting(refused), verifier)
    assert await connection.told() == ACCEPT
    assert (await connection.told())["type"] == "websocket.close"
    await connection.ended()
    assert connection.sent.empty()


async def test_an_app_that_goes_on_is_told_again_and_again() -> None:
    verifier = SwitchedVerifier()

    async def stubborn(receive: Receive, send: Send) -> None:
        for _ in range(2):
            assert (await receive())["code"] == 1008
            for late in ("websocket.send", "websocket.close", "websocket.accept"):
                with pytest.raises(OSError, match="no longer valid"):
                    await send({"type": late})

    connection = Connection(accepting(stubborn), verifier)
    await connection.told()
    verifier.change(RevokedKeyError("distrusted"))
    assert (await connection.told())["type"] == "websocket.close"
    await connection.ended()
    assert connection.sent.empty()


async def test_an_app_that_neither_reads_nor_writes_loses_its_connection_all_the_same() -> None:
    verifier = SwitchedVerifier()
    awake = asyncio.Event()

    async def busy(receive: Receive, send: Send) -> None:
        await awake.wait()
        await send({"type": "websocket.send", "text": "too late"})

    connection = Connection(accepting(busy), verifier)
    await connection.told()
    verifier.change(RevokedKeyError("distrusted"))
    assert (await connection.told())["code"] == 1008
    awake.set()
    await connection.ended()  # the OSError of that send is the guard's own, and stays here


async def test_an_app_that_waits_for_a_slow_client_is_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "_CLOSE_GRACE", 0.0)
    verifier = SwitchedVerifier()

    async def flood(receive: Receive, send: Send) -> None:
        connection.writable.clear()
        with pytest.raises(OSError, match="no longer valid"):
            await send({"type": "websocket.send", "text": "much"})

    connection = Connection(accepting(flood), verifier)
    await connection.told()
    await connection.stuck.wait()
    verifier.change(RevokedKeyError("distrusted"))
    async with asyncio.timeout(PATIENCE):
        await connection.app_ended.wait()
    await connection.ended()
    assert connection.sent.empty()  # a client that reads nothing can't be told


async def test_a_close_that_the_client_takes_late_is_still_sent() -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier)
    await connection.told()
    connection.writable.clear()
    verifier.change(RevokedKeyError("distrusted"))
    await connection.app_ended.wait()
    connection.writable.set()
    assert (await connection.told())["code"] == 1008
    await connection.ended()


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("already closed")])
async def test_a_client_that_is_gone_at_the_close_is_no_error(failure: Exception) -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier)
    await connection.told()
    connection.failure = failure
    verifier.change(RevokedKeyError("distrusted"))
    await connection.ended()


@pytest.mark.parametrize("extensions", [DENIAL, None])
@pytest.mark.parametrize(
    ("verdict", "code", "status"),
    [(RevokedKeyError("distrusted"), 1008, 401), (KeysUnavailableError("down"), 1013, 503)],
)
async def test_a_token_revoked_between_connect_and_accept_is_refused(
    verdict: Exception, code: int, status: int, extensions: dict[str, Any] | None
) -> None:
    verifier = SwitchedVerifier()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        verifier.change(verdict)
        with pytest.raises(OSError, match=r"."):
            await send(ACCEPT)
        scope["last"] = await receive()

    connection = Connection(app, verifier, extensions=extensions)
    answer = await connection.told()
    assert answer.get("status", answer.get("code")) == (status if extensions else code)
    await connection.ended()
    assert connection.scope["last"]["code"] == code
    assert verifier.listeners == []


async def test_a_token_revoked_while_the_accept_is_sent_ends_the_connection() -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier)
    connection.writable.clear()
    await connection.stuck.wait()
    verifier.change(RevokedKeyError("distrusted"))
    connection.writable.set()
    assert await connection.told() == ACCEPT
    assert (await connection.told())["code"] == 1008
    await connection.ended()


async def test_a_token_revoked_while_the_guard_subscribes_ends_the_connection() -> None:
    class Changing(SwitchedVerifier):
        def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
            self.change(RevokedKeyError("distrusted"))
            return super().subscribe(listener)

    connection = Connection(echo, verifier := Changing())
    assert await connection.told() == ACCEPT
    assert (await connection.told())["code"] == 1008
    await connection.ended()
    assert verifier.listeners == []


async def test_a_fault_of_the_verifier_closes_the_connection_and_is_reported() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier)
    await connection.told()
    fault = ZeroDivisionError("bug")
    verifier.change(fault)
    assert (await connection.told())["code"] == 1011
    await connection.ended()
    assert [context["exception"] for context in reported] == [fault]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.close", "code": 1000},
        {"type": "websocket.http.response.start", "status": 404, "headers": []},
    ],
)
async def test_a_connection_that_the_app_ends_is_no_longer_watched(message: Message) -> None:
    verifier = SwitchedVerifier()
    over = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if message["type"] == "websocket.close":
            await send(ACCEPT)
        await send(message)
        await over.wait()

    connection = Connection(app, verifier)
    while (await connection.told()) != message:
        pass
    assert verifier.listeners == []
    verifier.change(RevokedKeyError("distrusted"))
    over.set()
    await connection.ended()
    assert connection.sent.empty()


async def test_a_change_told_just_before_the_client_goes_does_no_harm() -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier)
    await connection.told()
    connection.incoming.put_nowait(GONE)
    listener = verifier.listeners[0]
    await connection.ended()
    verifier.verdict = RevokedKeyError("distrusted")
    listener()
    await asyncio.sleep(0)
    await connection.ended()
    assert connection.sent.empty()


async def test_what_the_app_raises_goes_through() -> None:
    verifier = SwitchedVerifier()

    async def crash(receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    connection = Connection(accepting(crash), verifier)
    with pytest.raises(ZeroDivisionError):
        await connection.ended()
    assert verifier.listeners == []


@pytest.mark.parametrize("failure", [TimeoutError("server"), OSError("gone")])
async def test_what_the_server_raises_goes_through(failure: OSError) -> None:
    verifier = SwitchedVerifier()

    async def talk(receive: Receive, send: Send) -> None:
        connection.failure = failure
        await send({"type": "websocket.send", "text": "hello"})

    connection = Connection(accepting(talk), verifier)
    with pytest.raises(type(failure)) as caught:
        await connection.ended()
    assert caught.value is failure
    assert verifier.listeners == []


async def test_a_frame_out_of_turn_is_left_to_the_server_to_refuse() -> None:
    frame = {"type": "websocket.send", "text": "too early"}

    async def hasty(scope: Scope, receive: Receive, send: Send) -> None:
        await send(frame)

    connection = Connection(hasty, SwitchedVerifier())
    assert await connection.told() == frame
    await connection.ended()


@pytest.mark.parametrize("revoked", [False, True])
async def test_cancelling_leaves_nothing_behind(revoked: bool) -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier)
    await connection.told()
    if revoked:
        connection.writable.clear()
        verifier.change(RevokedKeyError("distrusted"))
        await connection.app_ended.wait()
    connection.run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connection.ended()
    assert verifier.listeners == []


async def test_several_tasks_of_the_app_are_woken_together() -> None:
    verifier = SwitchedVerifier()
    codes: list[int] = []

    async def parallel(receive: Receive, send: Send) -> None:
        async def wait() -> None:
            codes.append((await receive())["code"])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait())
            tasks.create_task(wait())

    connection = Connection(accepting(parallel), verifier)
    await connection.told()
    verifier.change(RevokedKeyError("distrusted"))
    await connection.ended()
    assert codes == [1008, 1008]


def test_a_change_told_after_the_loop_has_closed_does_no_harm() -> None:
    verifier = SwitchedVerifier()

    async def abandon() -> Callable[[], None]:
        connection = Connection(echo, verifier)
        await connection.told()
        return verifier.listeners[0]

    listener = asyncio.run(abandon())
    listener()
    assert verifier.listeners == []


async def test_the_token_may_come_as_a_subprotocol_when_switched_on() -> None:
    verifier = SwitchedVerifier()
    offered = ("bearer", "good", "chat")
    header = [(b"sec-websocket-protocol", b"bearer, good, chat")]
    connection = Connection(
        echo, verifier, headers=header, subprotocols=offered, bearer_subprotocol=True
    )
    assert await connection.told() == {**ACCEPT, "subprotocol": "bearer"}
    assert verifier.asked == [b"good"]
    assert connection.scope["subprotocols"] == ["chat"]
    assert "good" not in repr(connection.scope["headers"])
    verifier.change(RevokedKeyError("distrusted"))
    assert (await connection.told())["code"] == 1008
    await connection.ended()


async def test_with_the_subprotocol_switched_on_a_header_does_as_well() -> None:
    verifier = SwitchedVerifier()
    connection = Connection(echo, verifier, subprotocols=("chat",), bearer_subprotocol=True)
    assert await connection.told() == ACCEPT
    connection.incoming.put_nowait(GONE)
    await connection.ended()


@pytest.mark.parametrize(
    ("headers", "subprotocols", "options", "status"),
    [
        ([], ("bearer", "good"), {}, 401),
        ([], ("bearer", "good"), {"optional": True, "bearer_subprotocol": False}, 101),
        ([], ("bearer",), {"bearer_subprotocol": True, "optional": True}, 400),
        ([], ("chat",), {"bearer_subprotocol": True}, 401),
        (GOOD, ("bearer", "good"), {"bearer_subprotocol": True}, 400),
        (
            [(b"authorization", b"Basic dTpw")],
            ("bearer", "good"),
            {"bearer_subprotocol": True},
            401,
        ),
    ],
)
async def test_a_subprotocol_is_a_credential_only_where_it_is_the_only_one_and_switched_on(
    headers: list[tuple[bytes, bytes]],
    subprotocols: tuple[str, ...],
    options: dict[str, Any],
    status: int,
) -> None:
    verifier = SwitchedVerifier()
    connection = Connection(
        echo, verifier, headers=headers, subprotocols=subprotocols, extensions=DENIAL, **options
    )
    assert (await connection.told()).get("status", 101) == status
    assert verifier.asked == []
    connection.incoming.put_nowait(GONE)
    await connection.ended()


async def test_refusals_are_logged_by_code_at_debug_and_without_the_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    verifier = SwitchedVerifier()
    verifier.verdict = RevokedKeyError("distrusted")
    with caplog.at_level(logging.DEBUG, "jwks_guard"):
        await Connection(unreachable, verifier).ended()
    assert [record.levelname for record in caplog.records if "revoked_key" in record.message]
    assert "good" not in caplog.text


@pytest.mark.parametrize(
    ("origin", "status"), [(b"https://app.test", 101), (b"https://evil.test", 403), (None, 403)]
)
@pytest.mark.parametrize("scheme", [None, "ws", "wss", "http", "https"])
async def test_cookie_opens_a_websocket_for_pages_of_the_named_origins_only(
    origin: bytes | None, status: int, scheme: str | None
) -> None:
    """Cross-site WebSocket hijacking: browsers send cookies with handshakes of every page."""
    headers = [(b"cookie", b"token=good")] + ([] if origin is None else [(b"origin", origin)])
    source = FromCookie("token", origins=["https://app.test"])
    connection = Connection(
        echo,
        SwitchedVerifier(),
        headers=headers,
        extensions=DENIAL,
        scheme=scheme,
        token_from=source,
    )
    assert (await connection.told()).get("status", 101) == status
    connection.incoming.put_nowait(GONE)
    await connection.ended()
