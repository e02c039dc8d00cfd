"""A tenant without a socket: an httpx transport that behaves as a connection to it would."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

from jwks_guard.testing.delivery import HANG_UP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Message, Scope

_END: Message = {"type": "end"}


class InProcessTransport(httpx.AsyncBaseTransport):
    """Runs `app` on the caller's event loop for each request, with httpx's own errors.

    The read timeout of the request is kept. Where `httpx.ASGITransport` waits for the whole answer,
    this one hands the body on as it comes, so that slow and broken answers are what they are.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` to the application and give its answer, with the body still to read."""
        exchange = _Exchange(request, await request.aread())
        try:
            start = await exchange.start(self._app)
        except BaseException:
            await exchange.aclose()
            raise
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)


class _Exchange(httpx.AsyncByteStream):
    """One request, and the body of its answer as a stream."""

    def __init__(self, request: httpx.Request, body: bytes) -> None:
        self._request = request
        self._body = body
        self._timeout: float | None = request.extensions.get("timeout", {}).get("read")
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._asked = False
        self._reset = False
        self._gone = asyncio.Event()
        self._expected = 0

    async def start(self, app: ASGIApp) -> Message:
        """Run `app` and give its http.response.start message."""
        self._task = asyncio.create_task(self._run(app))
        start = await self._next()
        self._expected = int(httpx.Headers(start["headers"]).get("Content-Length", "0"))
        return start

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        while (message := await self._next()) is not _END:
            received += len(message["body"])
            yield message["body"]
        if received < self._expected:
            raise httpx.RemoteProtocolError(
                "peer closed connection without sending complete message body "
                f"(received {received} bytes, expected {self._expected})"
            )

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope(), self._receive, self._messages.put)
        finally:
            self._messages.put_nowait(_END)

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(self._timeout):
                message = await self._messages.get()
        except TimeoutError:
            raise httpx.ReadTimeout("") from None
        if message is _END:
            await self._task  # a fault of the application itself comes out here
            if self._reset:
                raise httpx.ReadError("")
        return message

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._body}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    def _hang_up(self, reset: bool) -> None:
        self._reset = reset
        self._gone.set()

    def _scope(self) -> Scope:
        url = self._request.url
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self._request.method,
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in self._request.headers.raw],
            "server": (url.host, url.port),
            "client": ("127.0.0.1", 1),
            "extensions": {HANG_UP: self._hang_up},
        }
