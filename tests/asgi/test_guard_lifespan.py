from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.errors import ConfigurationError
from jwks_guard.testing import LocalTenant
from jwks_guard.verify.token import VerifiedToken
from tests.support import HandClock, verifier_of

STARTUP = {"type": "lifespan.startup"}
SHUTDOWN = {"type": "lifespan.shutdown"}


class RecordingVerifier:
    """Writes down when it is started and closed."""

    def __init__(self, record: list[str], failure: Exception | None = None) -> None:
        self.record = record
        self.failure = failure

    async def start(self) -> None:
        self.record.append("verifier starts")
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> None:
        self.record.append("verifier closes")

    async def verify(self, compact: str | bytes) -> VerifiedToken:
        raise NotImplementedError

    def remaining(self, token: VerifiedToken) -> float:
        raise NotImplementedError

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        raise NotImplementedError


class Server:
    """Speaks the server's side of lifespan, and writes down what it is told."""

    def __init__(self, app: ASGIApp, record: list[str], failure: Exception | None = None) -> None:
        self.app = JWKSGuardMiddleware(app, verifier=RecordingVerifier(record, failure))
        self.record = record
        self.requests = asyncio.Queue[Message]()
        self.answers = asyncio.Queue[Message]()
        self.requests.put_nowait(STARTUP)
        self.run = asyncio.ensure_future(
            self.app({"type": "lifespan", "state": {}}, self.requests.get, self.answer)
        )

    async def answer(self, message: Message) -> None:
        self.record.append(message["type"])
        self.answers.put_nowait(message)

    async def stop(self) -> None:
        self.requests.put_nowait(SHUTDOWN)
        await self.run


async def startup_to_shutdown(app: ASGIApp, record: list[str]) -> None:
    server = Server(app, record)
    assert (await server.answers.get())["type"] == "lifespan.startup.complete"
    await server.stop()


WHOLE_LIFE = [
    "verifier starts",
    "lifespan.startup.complete",
    "verifier closes",
    "lifespan.shutdown.complete",
]


async def test_verifier_starts_before_the_app_and_closes_after_it() -> None:
    record: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        record.append("app starts")
        yield {"pool": "open"}
        record.append("app closes")

    await startup_to_shutdown(Starlette(lifespan=lifespan), record)
    assert record == [
        "verifier starts",
        "app starts",
        "lifespan.startup.complete",
        "app closes",
        "verifier closes",
        "lifespan.shutdown.complete",
    ]


async def test_an_app_that_asserts_another_scope_type_is_answered_for() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"

    record: list[str] = []
    await startup_to_shutdown(app, record)
    assert record == WHOLE_LIFE


async def test_an_app_that_returns_on_the_scope_is_answered_for() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return

    record: list[str] = []
    await startup_to_shutdown(app, record)
    assert record == WHOLE_LIFE


@pytest.mark.parametrize("kind", ["http.response.start", "lifespan.startup.progress"])
async def test_an_app_that_answers_something_else_is_answered_for(kind: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": kind, "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    record: list[str] = []
    await startup_to_shutdown(app, record)
    assert record == WHOLE_LIFE


async def test_an_app_that_reads_and_says_nothing_is_answered_for() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == STARTUP

    record: list[str] = []
    await startup_to_shutdown(app, record)
    assert record == WHOLE_LIFE


async def test_an_app_that_returns_after_its_startup_is_answered_for_at_shutdown() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    record: list[str] = []
    await startup_to_shutdown(app, record)
    assert record == WHOLE_LIFE


async def test_an_app_that_returns_at_shutdown_without_an_answer_is_answered_for() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        assert await receive() == SHUTDOWN

    record: list[str] = []
    await startup_to_shutdown(app, record)
    assert record == WHOLE_LIFE


async def test_a_verifier_that_can_not_start_fails_the_startup_with_its_message() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the app is not reached")

    record: list[str] = []
    server = Server(app, record, ConfigurationError("write the issuer with a slash"))
    with pytest.raises(ConfigurationError):
        await server.run
    assert server.answers.get_nowait()["message"] == "write the issuer with a slash"
    assert record == ["verifier starts", "verifier closes", "lifespan.startup.failed"]


async def test_a_startup_that_fails_in_the_app_closes_the_verifier_first() -> None:
    class Broken:
        async def __aenter__(self) -> NoReturn:
            raise ZeroDivisionError

        async def __aexit__(self, *_: object) -> None: ...

    def lifespan(app: Starlette) -> Broken:
        return Broken()

    record: list[str] = []
    server = Server(Starlette(lifespan=lifespan), record)
    with pytest.raises(ZeroDivisionError):
        await server.run
    assert record == ["verifier starts", "verifier closes", "lifespan.startup.failed"]


async def test_an_app_that_declares_its_startup_failed_and_returns_ends_the_lifespan() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    record: list[str] = []
    await Server(app, record).run
    assert record == ["verifier starts", "verifier closes", "lifespan.startup.failed"]


async def test_a_shutdown_that_fails_in_the_app_closes_the_verifier_first() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        raise ZeroDivisionError

    record: list[str] = []
    server = Server(Starlette(lifespan=lifespan), record)
    await server.answers.get()
    with pytest.raises(ZeroDivisionError):
        await server.stop()
    assert record[-2:] == ["verifier closes", "lifespan.shutdown.failed"]


async def test_a_lifespan_that_crashes_or_is_cancelled_closes_the_verifier() -> None:
    async def crash(scope: Scope, receive: Receive, send: Send) -> NoReturn:
        await send({"type": "lifespan.startup.complete"})
        raise ZeroDivisionError

    record: list[str] = []
    with pytest.raises(ZeroDivisionError):
        await Server(crash, record).run
    assert record == ["verifier starts", "lifespan.startup.complete", "verifier closes"]

    record.clear()
    server = Server(Starlette(), record)
    await server.answers.get()
    server.run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await server.run
    # Starlette says that its shutdown failed, after the verifier is closed
    assert record[:3] == ["verifier starts", "lifespan.startup.complete", "verifier closes"]


async def unreachable(scope: Scope, receive: Receive, send: Send) -> NoReturn:
    raise AssertionError("nothing reaches the application")


def without_asyncio(app: ASGIApp, scope: Scope, *messages: Message) -> list[Message]:
    """What `app` sends where another async library, and no asyncio, runs it."""
    incoming, sent = list(messages), list[Message]()

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await app(scope, receive, send)

    with pytest.raises((StopIteration, ConfigurationError)):
        run().send(None)
    return sent


def test_on_another_async_library_the_server_is_told_why_it_can_not_start(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    verifier = verifier_of(tenant, clock, snapshot_path=tmp_path / "keys")
    guard = JWKSGuardMiddleware(unreachable, verifier=verifier)
    (failed,) = without_asyncio(guard, {"type": "lifespan"}, STARTUP)
    assert failed["type"] == "lifespan.startup.failed"
    assert "hypercorn -k asyncio" in failed["message"]


def request_with(token: str) -> dict[str, Any]:
    headers = [(b"authorization", f"Bearer {token}".encode())]
    return {"type": "http", "method": "GET", "path": "/", "headers": headers}


def test_on_another_async_library_without_lifespan_requests_are_503_and_one_line_says_why(
    tenant: LocalTenant, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    guard = JWKSGuardMiddleware(unreachable, verifier=verifier_of(tenant, clock))
    for _ in range(2):
        start, _ = without_asyncio(guard, request_with(tenant.token()))
        assert start["status"] == 503
    (logged,) = caplog.messages
    assert "hypercorn -k asyncio" in logged


async def test_an_unreadable_journal_without_lifespan_is_503_until_it_can_be_read(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = tmp_path / "keys.tombstones"
    journal.mkdir()
    verifier = verifier_of(tenant, clock, snapshot_path=tmp_path / "keys")
    status: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def send(message: Message) -> None:
        status.extend([message["status"]] if "status" in message else [])

    guard = JWKSGuardMiddleware(app, verifier=verifier)
    for _ in range(2):
        await guard(request_with(tenant.token()), asyncio.Queue[Message]().get, send)
    (logged,) = (each for each in caplog.messages if "refused with 503" in each)
    assert "journal can't be read" in logged
    journal.rmdir()
    await guard(request_with(tenant.token()), asyncio.Queue[Message]().get, send)
    assert status == [503, 503, 204]
    await verifier.aclose()
