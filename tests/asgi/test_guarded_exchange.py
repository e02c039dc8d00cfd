"""Requests and responses that last longer than the trust in their token, in a real uvicorn."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.asgi.exchange import LateBodyError
from jwks_guard.errors import RequestRefusedError, RevokedKeyError
from jwks_guard.testing import LocalTenant
from jwks_guard.verify.token import VerifiedToken
from tests.asgi.test_guarded_server import Server, credentials
from tests.support import PATIENCE, HandClock, tenant_of, verifier_of


class Looking:
    """A verifier that notes when it refused a token that it had accepted."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier
        self.start, self.aclose = verifier.start, verifier.aclose
        self.verify, self.subscribe = verifier.verify, verifier.subscribe
        self.refused = asyncio.Event()

    def remaining(self, token: VerifiedToken) -> float:
        try:
            return self._verifier.remaining(token)
        except RequestRefusedError:
            self.refused.set()
            raise


@dataclass
class Service:
    """A served app and what it saw; `begun` is set once it has read, or sent, a first part."""

    tenant: LocalTenant
    verifier: TokenVerifier
    looking: Looking
    clock: HandClock
    port: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    reached: list[bytes] = field(default_factory=list)

    async def distrust(self) -> None:
        await self.verifier.distrust(self.tenant.key().kid, reason="leaked", force=True)

    async def withdraw(self) -> None:
        old = self.tenant.key().kid
        self.tenant.rotate()
        self.tenant.revoke(old)
        await self.verifier.keys.refresh()

    async def expire(self) -> None:
        self.clock.advance(601)

    async def lose_trust(self) -> None:
        await self.verifier.aclose()

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=PATIENCE
        )

    @asynccontextmanager
    async def sending(
        self, head: str, token: str | None, method: str = "POST"
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection on which the head of a request was sent, and nothing of its body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            lines = [f"{name}: {value}" for name, value in credentials(token).items()]
            lines = [f"{method} / HTTP/1.1", "Host: api", *lines, head, "", ""]
            writer.write("\r\n".join(lines).encode())
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()

    async def post(
        self, parts: list[bytes], end: Callable[[], Any] | None, method: str = "POST"
    ) -> bytes:
        """The answer to a request of these parts; before the last, `end` ends the trust."""
        chunked = "Transfer-Encoding: chunked"
        async with self.sending(chunked, self.token(), method) as (reader, writer):
            for part in parts[:-1]:
                writer.write(chunk(part))
            async with asyncio.timeout(PATIENCE):
                await self.begun.wait()
                if end is not None:
                    await end()
                writer.write(chunk(parts[-1]))
                writer.write(chunk(b""))
                return await answer(reader)

    def token(self) -> str:
        return self.tenant.token(lifetime=600)


def chunk(part: bytes) -> bytes:
    """A chunk as RFC 9112 section 7.1 has it."""
    return f"{len(part):x}\r\n".encode() + part + b"\r\n"


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The head of an answer."""
    return await reader.readuntil(b"\r\n\r\n")


Make = Callable[[Service], ASGIApp]


@asynccontextmanager
async def served(make: Make, **options: Any) -> AsyncIterator[Service]:
    clock = HandClock()
    with tenant_of(clock) as tenant:
        verifier = verifier_of(tenant, clock, max_stale=100_000.0, leeway=0.0)
        service = Service(tenant, verifier, Looking(verifier), clock)
        app = JWKSGuardMiddleware(make(service), verifier=service.looking, **options)
        server = Server(app)
        service.port = server.socket.getsockname()[1]
        serving = asyncio.create_task(server.serve([server.socket]))
        await server.up.wait()
        try:
            yield service
        finally:
            service.go_on.set()
            server.should_exit = True
            await serving


# --- a body that is sent slowly ---


def reading(read: Callable[[Request], Any], **options: Any) -> Make:
    """A Starlette app that reads with `read`, and notes that its route went on after that."""

    def make(service: Service) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async def noting() -> Message:
                service.begun.set()
                return await receive()

            async def route(request: Request) -> Response:
                service.reached.append(await read(request))
                return PlainTextResponse("done")

            inner = Starlette(**options)
            inner.add_route("/", route, methods=["POST"])
            await inner(scope, noting, send)

        return without_lifespan(app)

    return make


async def whole(request: Request) -> bytes:
    return await request.body()


async def in_parts(request: Request) -> bytes:
    return b"".join([part async for part in request.stream()])


async def in_a_task(request: Request) -> bytes:
    return await asyncio.create_task(request.body())


async def in_a_group(request: Request) -> bytes:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(request.body())
    return task.result()


async def heedless(request: Request) -> bytes:
    """Takes whatever goes wrong for a bad request."""
    try:
        return await request.body()
    except Exception:  # noqa: BLE001 - as careless code does
        return b"nothing"


def any_error(request: Request, error: Exception) -> Response:
    return PlainTextResponse("something went wrong", 500)


class Between(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response


def by_hand(service: Service) -> ASGIApp:
    """Reads in the loop of many examples, which takes any other message for the last one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        service.begun.set()
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        service.reached.append(body)
        await PlainTextResponse("done")(scope, receive, send)

    return without_lifespan(app)


def without_lifespan(app: ASGIApp) -> ASGIApp:
    async def http(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await app(scope, receive, send)

    return http


READERS = {
    "whole": reading(whole),
    "in parts": reading(in_parts),
    "in a task": reading(in_a_task),
    "in a group": reading(in_a_group),
    "heedless": reading(heedless),
    "handler of any error": reading(whole, exception_handlers={Exception: any_error}),
    "by hand": by_hand,
}


def between(make: Make) -> Make:
    return lambda service: Between(make(service))


def by_a_pump(service: Service) -> ASGIApp:
    """One task reads, and the other waits for what that one hands over."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        messages: asyncio.Queue[Message] = asyncio.Queue()

        async def pump() -> None:
            while True:
                await messages.put(await receive())

        service.begun.set()
        pumping = asyncio.create_task(pump())
        try:
            body, more = b"", True
            while more:
                message = await messages.get()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            service.reached.append(body)
            await PlainTextResponse("done")(scope, receive, send)
        finally:
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)
            service.ended.set()

    return without_lifespan(app)


READERS["by a pump"] = by_a_pump
READERS |= {f"{name}, behind BaseHTTPMiddleware": between(make) for name, make in READERS.items()}


@pytest.mark.parametrize("make", READERS.values(), ids=[name.replace(" ", "-") for name in READERS])
@pytest.mark.parametrize("parts", [[b"now"], [b"before", b"after"], [b"all of it", b""]])
async def test_body_that_comes_after_its_key_was_distrusted_reaches_no_route(
    make: Make, parts: list[bytes]
) -> None:
    """With a leaked key, any number of requests can be held ready before it is distrusted."""
    async with served(make) as service:
        refused = await service.post(parts, service.distrust)
        assert refused.startswith(b"HTTP/1.1 401 ")
        assert b'error="invalid_token"' in refused
        assert service.reached == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "OPTIONS", "QUERY"])
@pytest.mark.parametrize("parts", [[b"now"], [b"before", b"after"]])
async def test_body_of_any_method_is_refused_after_its_key_was_distrusted(
    method: str, parts: list[bytes]
) -> None:
    async with served(by_hand) as service:
        refused = await service.post(parts, service.distrust, method)
        assert refused.startswith(b"HTTP/1.1 401 ")
        assert service.reached == []


@pytest.mark.parametrize("make", READERS.values(), ids=[name.replace(" ", "-") for name in READERS])
async def test_body_that_is_sent_slowly_reaches_the_route_while_its_token_is_good(
    make: Make,
) -> None:
    async with served(make) as service:
        accepted = await service.post([b"be", b"fore", b"after"], None)
        assert accepted.startswith(b"HTTP/1.1 200 ")
        assert service.reached == [b"beforeafter"]


@pytest.mark.parametrize(
    ("end", "status"),
    [(Service.withdraw, b"401"), (Service.expire, b"401"), (Service.lose_trust, b"503")],
)
async def test_body_is_refused_for_every_end_of_trust(
    end: Callable[[Service], Awaitable[None]], status: bytes
) -> None:
    async with served(reading(whole)) as service:
        refused = await service.post([b"before", b"after"], lambda: end(service))
        assert refused.startswith(b"HTTP/1.1 %s " % status)
        assert service.reached == []


async def test_anonymous_body_may_take_its_time() -> None:
    async with served(reading(whole), optional=True) as service:
        async with service.sending("Content-Length: 3", None) as (reader, writer):
            writer.write(b"ab")
            async with asyncio.timeout(PATIENCE):
                await service.begun.wait()
                await service.distrust()
                writer.write(b"c")
                assert (await answer(reader)).startswith(b"HTTP/1.1 200 ")
        assert service.reached == [b"abc"]


async def test_app_that_answers_while_it_reads_is_ended_too() -> None:
    """It has sent a part of its answer, and would act on what it has of the body."""

    def make(service: Service) -> ASGIApp:
        read = by_hand(service)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"wait", "more_body": True})
            await read(scope, receive, send)

        return without_lifespan(app)

    for parts in ([b"late"], [b"before", b"late"]):
        async with served(make) as service:
            accepted = await service.post(parts, service.distrust)
            assert accepted.startswith(b"HTTP/1.1 200 ")
        assert service.reached == []


def request_of(token: str) -> Scope:
    """What a server calls an app with for a POST with this token."""
    fields = [(k.lower().encode(), v.encode()) for k, v in credentials(token).items()]
    return {"type": "http", "method": "POST", "path": "/", "headers": fields}


async def late() -> Message:
    """A part of a body, as a server gives it."""
    return {"type": "http.request", "body": b"late", "more_body": True}


async def test_app_that_returns_when_it_is_cancelled_leaves_no_cancelling_behind() -> None:
    async with served(by_hand) as service:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await service.distrust()
            reading = asyncio.ensure_future(receive())
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.gather(reading, return_exceptions=True)

        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        task = asyncio.current_task()
        assert task is not None
        guard = JWKSGuardMiddleware(app, verifier=service.looking)
        async with asyncio.timeout(PATIENCE):
            await guard(request_of(service.token()), late, send)
        assert sent[0]["status"] == 401
        assert task.cancelling() == 0


async def test_end_of_the_program_is_not_taken_for_the_end_of_a_request() -> None:
    """asyncio.run cancels all tasks that are left, those of the guard too."""
    reading, sent = asyncio.Event(), []
    async with served(by_hand) as service:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await service.distrust()
            part = asyncio.ensure_future(receive())
            await asyncio.wait([part])
            reading.set()
            await asyncio.Event().wait()

        async def send(message: Message) -> None:
            sent.append(message)

        others = asyncio.all_tasks()
        guard = JWKSGuardMiddleware(app, verifier=service.looking)
        running = asyncio.create_task(guard(request_of(service.token()), late, send))
        await reading.wait()
        left = asyncio.all_tasks() - others - {running}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert sent == []


async def test_refused_request_keeps_nothing_alive(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)  # or what is kept of the log keeps it alive

    class Large:
        """Stands for what a request holds."""

        async def receive(self) -> Message:
            return await late()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    async def send(_: Message) -> None:
        pass

    def refuse(token: VerifiedToken) -> float:
        raise RevokedKeyError("The key that signed this token is distrusted.")

    alive: weakref.WeakSet[Large] = weakref.WeakSet()
    async with served(by_hand) as service:
        service.looking.remaining = refuse  # type: ignore[method-assign]
        guard = JWKSGuardMiddleware(app, verifier=service.looking)
        others = asyncio.all_tasks()
        gc.disable()
        try:
            for _ in range(5):
                large = Large()
                alive.add(large)
                await guard(request_of(service.token()), large.receive, send)
                del large
            await asyncio.gather(*asyncio.all_tasks() - others, return_exceptions=True)
            assert len(alive) == 0
        finally:
            gc.enable()


async def test_task_that_reads_on_after_its_app_ends_no_other_work() -> None:
    """What called the guard may go on: a middleware, or the next request of the same task."""
    async with served(by_hand) as service:
        reading: list[asyncio.Future[Message]] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            reading.append(asyncio.ensure_future(receive()))

        async def send(_: Message) -> None:
            raise NotImplementedError

        caller, others = asyncio.current_task(), asyncio.all_tasks()
        assert caller is not None
        guard = JWKSGuardMiddleware(app, verifier=service.looking)
        await guard(request_of(service.token()), late, send)
        await service.distrust()
        await asyncio.wait(reading)
        assert isinstance(reading[0].exception(), LateBodyError)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*asyncio.all_tasks() - others, return_exceptions=True)
        assert caller.cancelling() == 0


# --- a response that goes on ---


def streaming(content_type: str, headers: dict[str, str] | None = None) -> Make:
    """An app that sends a part, and is idle until `go_on` is set."""

    def make(service: Service) -> ASGIApp:
        async def parts() -> AsyncIterator[bytes]:
            try:
                yield b"data: one\n\n"
                await service.go_on.wait()
                yield b"data: two\n\n"
            finally:
                service.ended.set()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = StreamingResponse(parts(), headers=headers, media_type=content_type)
            await response(scope, receive, send)

        return without_lifespan(app)

    return make


def deaf(content_type: str) -> Make:
    """The same of an app that never looks whether its client is still there."""

    def make(service: Service) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            start = {"status": 200, "headers": [(b"content-type", content_type.encode())]}
            part = {"type": "http.response.body", "body": b"data: one\n\n", "more_body": True}
            await send({"type": "http.response.start", **start})
            await send(part)
            await service.go_on.wait()
            try:
                await send(part)
            finally:
                service.ended.set()

        return without_lifespan(app)

    return make


@asynccontextmanager
async def open_stream(make: Make) -> AsyncIterator[tuple[Service, AsyncIterator[bytes]]]:
    """A response of which the first part is here."""
    async with (
        served(make) as service,
        service.client() as client,
        asyncio.timeout(PATIENCE),
        client.stream("GET", "/", headers=credentials(service.token())) as stream,
    ):
        parts = stream.aiter_bytes()
        assert await anext(parts) == b"data: one\n\n"
        yield service, parts


ENDS = [Service.distrust, Service.withdraw, Service.lose_trust, Service.expire]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("make", [streaming, deaf])
async def test_idle_event_stream_ends_with_the_trust(
    make: Callable[[str], Make], end: Callable[[Service], Awaitable[None]]
) -> None:
    async with open_stream(make("text/event-stream; charset=utf-8")) as (service, parts):
        await end(service)
        assert [part async for part in parts] == []
        service.go_on.set()
        await service.ended.wait()


@pytest.mark.parametrize("end", ENDS[:3])
async def test_other_response_is_broken_off_with_the_trust(
    end: Callable[[Service], Awaitable[None]],
) -> None:
    async with open_stream(streaming("application/json")) as (service, parts):
        await end(service)
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(parts)
        await service.ended.wait()


async def test_response_of_known_length_is_broken_off_with_the_trust() -> None:
    length = {"Content-Length": "22"}
    async with open_stream(streaming("video/mp4", length)) as (service, parts):
        await service.distrust()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(parts)


async def test_nothing_is_sent_for_an_app_that_does_not_look_for_its_client() -> None:
    async with open_stream(deaf("application/json")) as (service, parts):
        await service.distrust()
        await service.looking.refused.wait()
        service.go_on.set()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(parts)


async def test_download_outlives_its_token_but_not_the_trust_in_its_key() -> None:
    async with open_stream(streaming("video/mp4")) as (service, parts):
        await service.expire()
        await service.looking.refused.wait()
        service.looking.refused.clear()
        await service.looking.refused.wait()
        await service.distrust()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(parts)


async def test_error_of_the_app_goes_through() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async with served(lambda service: without_lifespan(broken)) as service:
        async with service.client() as client:
            answered = await client.get("/", headers=credentials(service.token()))
        assert answered.status_code == 500


async def test_error_of_the_app_keeps_nothing_of_its_request_alive() -> None:
    class Large:
        """Stands for what a request holds."""

    alive: weakref.WeakSet[Large] = weakref.WeakSet()

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        large = Large()
        alive.add(large)
        raise ZeroDivisionError

    async def receive() -> Message:
        raise NotImplementedError

    async def send(_: Message) -> None:
        raise NotImplementedError

    with tenant_of(HandClock()) as tenant:
        verifier = verifier_of(tenant, HandClock())
        guard = JWKSGuardMiddleware(broken, verifier=verifier)
        gc.disable()
        try:
            for _ in range(5):
                with suppress(ZeroDivisionError):
                    await guard(request_of(tenant.token()), receive, send)
            assert len(alive) == 0
        finally:
            gc.enable()
            await verifier.aclose()


async def test_event_stream_without_an_event_yet_ends_with_the_trust() -> None:
    def make(service: Service) -> ASGIApp:
        async def events() -> AsyncIterator[str]:
            service.begun.set()
            await service.go_on.wait()
            yield "data: secret\n\n"

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await StreamingResponse(events(), media_type="text/event-stream")(scope, receive, send)

        return without_lifespan(app)

    async with (
        served(make) as service,
        service.client() as client,
        asyncio.timeout(PATIENCE),
        client.stream("GET", "/", headers=credentials(service.token())) as stream,
    ):
        await service.begun.wait()
        await service.distrust()
        assert await stream.aread() == b""


PART = {"type": "http.response.body", "body": b"secret", "more_body": True}
EVENTS = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream")],
}


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("part", [PART, PART | {"type": "http.response.zerocopysend"}])
@pytest.mark.parametrize("before", [0, 1])
async def test_no_part_of_a_response_is_sent_once_the_key_is_distrusted(
    content_type: str, part: Message, before: int
) -> None:
    """Else all of an export could be fetched in the second after."""
    sent: list[bytes] = []

    async def receive() -> Message:
        raise NotImplementedError

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async with served(by_hand) as service:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"content-type", content_type.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for _ in range(before):
                await send(part)
            await service.distrust()
            for _ in range(3):
                await send(part)

        guard = JWKSGuardMiddleware(app, verifier=service.looking)
        await guard(request_of(service.token()), receive, send)
    assert sent.count(b"secret") == before


async def test_response_in_parts_that_begins_too_late_is_broken_off() -> None:
    def make(service: Service) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await service.distrust()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(3):
                await send(PART)

        return without_lifespan(app)

    async with served(make) as service, service.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/", headers=credentials(service.token()))


async def test_message_of_another_type_between_the_parts_changes_nothing() -> None:
    """A push, an early hint and trailers are such messages."""

    def make(service: Service) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            start = {"status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            part = {"type": "http.response.body", "body": b"data: one\n\n", "more_body": True}
            await send({"type": "http.response.start", **start})
            await send(part)
            await send({"type": "http.response.push", "path": "/style.css", "headers": []})
            await service.go_on.wait()
            await send(part)

        return without_lifespan(app)

    sent: list[str] = []
    async with served(make) as service:
        guard = JWKSGuardMiddleware(make(service), verifier=service.looking)

        async def receive() -> Message:
            await service.go_on.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message["type"])
            if message["type"] == "http.response.push":
                await service.distrust()

        async with asyncio.timeout(PATIENCE):
            running = asyncio.create_task(guard(request_of(service.token()), receive, send))
            await service.looking.refused.wait()
            service.go_on.set()
            await running
    assert sent.count("http.response.body") == 2, "the event, and the end of the stream"


async def starts_again(send: Send) -> None:
    """As a handler of errors does that does not ask whether the response has begun."""
    for _ in range(2):
        await send(EVENTS)


async def sends_on(send: Send) -> None:
    """A task of the app goes on after the app."""

    async def sending() -> None:
        await asyncio.sleep(0)
        await send(EVENTS)

    asyncio.create_task(sending())  # noqa: RUF006 - as careless code does


@pytest.mark.parametrize("respond", [starts_again, sends_on])
async def test_response_without_an_end_keeps_nothing_alive(
    respond: Callable[[Send], Awaitable[None]],
) -> None:
    class Large:
        """Stands for what a request holds."""

        async def receive(self) -> Message:
            raise NotImplementedError

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send)

    async def send(_: Message) -> None:
        pass

    with tenant_of(HandClock()) as tenant:
        verifier = verifier_of(tenant, HandClock())
        guard = JWKSGuardMiddleware(app, verifier=verifier)
        others = asyncio.all_tasks()
        large = Large()
        alive = weakref.ref(large)
        await guard(request_of(tenant.token()), large.receive, send)
        del large
        await verifier.aclose()
        await asyncio.gather(*asyncio.all_tasks() - others)
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("respond", [StreamingResponse, PlainTextResponse])
async def test_response_to_a_request_without_body_outlives_its_token(
    respond: Callable[[Any], Response],
) -> None:
    def make(service: Service) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await service.expire()
            content = iter([b"done"]) if respond is StreamingResponse else "done"
            await respond(content)(scope, receive, send)

        return without_lifespan(app)

    async with served(make) as service, service.client() as client:
        answered = await client.get("/", headers=credentials(service.token()))
        assert (answered.status_code, answered.text) == (200, "done")


async def test_parts_may_be_sent_from_another_thread() -> None:
    def make(service: Service) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            loop = asyncio.get_running_loop()

            def sending() -> None:
                parts = [
                    {"type": "http.response.start", "status": 200, "headers": []},
                    {"type": "http.response.body", "body": b"one", "more_body": True},
                    {"type": "http.response.body", "body": b"two"},
                ]
                for part in parts:  # as asgiref and a2wsgi do for applications of WSGI
                    asyncio.run_coroutine_threadsafe(send(part), loop).result()  # type: ignore[arg-type]

            await asyncio.to_thread(sending)

        return without_lifespan(app)

    async with served(make) as service, service.client() as client:
        assert (await client.get("/", headers=credentials(service.token()))).text == "onetwo"


async def test_body_is_refused_where_the_verifier_fails() -> None:
    async with served(reading(heedless)) as service:

        def broken(_: VerifiedToken) -> float:
            raise ZeroDivisionError

        service.looking.remaining = broken  # type: ignore[method-assign, assignment]
        assert (await service.post([b"a", b"b"], None)).startswith(b"HTTP/1.1 503 ")
    assert service.reached == []


async def test_cancelling_the_app_from_outside_is_not_taken_for_the_end_of_its_trust() -> None:
    async with served(lambda service: without_lifespan(by_a_pump(service))) as service:
        guard = JWKSGuardMiddleware(by_a_pump(service), verifier=service.looking)
        sent: list[Message] = []

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise NotImplementedError

        async def send(message: Message) -> None:
            sent.append(message)

        running = asyncio.create_task(guard(request_of(service.token()), receive, send))
        await service.begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert sent == []
