"""An HTTP request and its response that last no longer than the trust in the token."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from jwks_guard.asgi.interrupts import Interrupts
from jwks_guard.errors import KeysUnavailableError, RequestRefusedError, TokenExpiredError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from jwks_guard.asgi.protocol import RequestVerifier
    from jwks_guard.verify.token import VerifiedToken

_log = logging.getLogger(__name__)

_INTERVAL = 0.9  # so that a response ends within a second
_CLOSE_GRACE = 1.0


class LateBodyError(BaseException):
    """A part of the body came after the token was refused with `error`; it ends the app.

    Not an Exception: code that catches any of these would go on without the body.
    """

    def __init__(self, error: RequestRefusedError) -> None:
        super().__init__("the access token is no longer valid")
        self.error = error


class ExchangeEndedError(OSError):
    """The guard has ended this response; `send` raises an OSError then, as ASGI asks."""


class GuardedExchange(msgspec.Struct, eq=False):
    """One HTTP request, which was let in with `token`, and its response.

    `verifier` is asked at each part of the body. If it refuses the token, the app's `receive`
    raises LateBodyError, and the app hears nothing more of the body.

    A response in several parts has the token looked at until its last one. If it is refused, the
    app's `receive` returns `http.disconnect`, also where the app waits in it, and `send` raises
    OSError. An event stream then ends in good order, also where the app waits for the next event.
    Any other response is broken off, by which its client sees that this is not all, once the app
    has returned. A token that only expires ends event streams and nothing else: a large file goes
    on.
    """

    _token: VerifiedToken
    _verifier: RequestVerifier
    _server_receive: Receive
    _server_send: Send
    watched: bool = False
    """Whether `finish` has to be called, although the app has returned."""
    _begun: Message | None = None
    _timer: asyncio.TimerHandle | None = None
    _body_read: bool = False
    _error: RequestRefusedError | None = None
    _interrupts: Interrupts | None = None
    _closing: asyncio.Task[None] | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> RequestRefusedError | None:
        """Run `app`; gives the error to answer with if it was ended before its response began."""
        failure: BaseException | None = None
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001 - `finish` raises it again
            failure = error
        return await self.finish(failure)

    async def finish(self, failure: BaseException | None) -> RequestRefusedError | None:
        """End with the app; what it raised goes through, unless this is how it was ended.

        Gives the error to answer with, as `run` does.
        """
        if self._timer is not None:
            self._timer.cancel()
        if failure is not None:
            if self._error is None or not _may_be_of_the_end(failure):
                raise failure
            _log.debug("the application ended with its request", exc_info=failure)
        if self._closing is not None:
            with suppress(TimeoutError):  # a client that does not read can't be told
                async with asyncio.timeout(_CLOSE_GRACE):
                    await self._closing
        return self._error if self._begun is None else None

    async def receive(self) -> Message:
        """What the app receives: the next message, but no part of a body that comes too late."""
        message = await self._next()
        if message["type"] == "http.request":
            self._look_at_body()
        if self._error is None:
            self._body_read = not message.get("more_body")
            return message
        if self._body_read:
            return {"type": "http.disconnect"}
        raise LateBodyError(self._error)  # an app may take what it has for the whole body

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message of the app; raises ExchangeEndedError once the guard has ended it."""
        if self._error is not None:
            raise ExchangeEndedError("the access token is no longer valid")
        if message["type"] == "http.response.start":
            self._begun = message
        elif message.get("more_body"):
            if self._timer is None:
                self.watched = True
                self._look_later()
        elif self._timer is not None:
            self._timer.cancel()
        return self._server_send(message)  # no coroutine of its own: each response comes by here

    async def _next(self) -> Message:
        """The server's next message, or that the client is gone once the guard ends the request."""
        if self._interrupts is None:
            self._interrupts = Interrupts()
        try:
            if self._error is None:
                return await self._interrupts.wait_for(self._server_receive)
        except TimeoutError:
            if self._error is None:
                raise
        return {"type": "http.disconnect"}

    def _look_at_body(self) -> None:
        try:
            self._verifier.remaining(self._token)
        except RequestRefusedError as error:
            self._end(error)

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._look)

    def _look(self) -> None:
        """End the response if the token is refused, or look again later."""
        try:
            self._verifier.remaining(self._token)
        except TokenExpiredError as error:
            if self._is_event_stream:
                self._end(error)
        except RequestRefusedError as error:
            self._end(error)
        except Exception:
            self._end(KeysUnavailableError("The verifier failed."))
            raise
        if self._error is None:
            self._look_later()

    def _end(self, error: RequestRefusedError) -> None:
        self._error = error
        self.watched = True
        if self._interrupts is not None:
            self._interrupts.interrupt()
        under_way = self._timer is not None and not self._timer.cancelled()
        if under_way and self._is_event_stream:
            self._closing = asyncio.ensure_future(self._close())

    async def _close(self) -> None:
        # The client may be gone already; before ASGI 2.4 servers raise a RuntimeError for that.
        with suppress(OSError, RuntimeError):
            await self._server_send({"type": "http.response.body", "body": b""})

    @property
    def _is_event_stream(self) -> bool:
        headers = () if self._begun is None else self._begun.get("headers", ())
        return any(
            name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in headers
        )


def _may_be_of_the_end(failure: BaseException) -> bool:
    """Whether an app may have raised this because its request was ended."""
    if isinstance(failure, BaseExceptionGroup):
        return all(map(_may_be_of_the_end, failure.exceptions))
    return isinstance(failure, Exception | LateBodyError)
