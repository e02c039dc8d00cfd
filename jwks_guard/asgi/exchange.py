"""An HTTP request and its response that last no longer than the trust in the token."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from jwks_guard.asgi.interrupts import Interrupts
from jwks_guard.errors import KeysUnavailableError, RequestRefusedError, TokenExpiredError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from jwks_guard.asgi.protocol import RequestVerifier
    from jwks_guard.verify.token import VerifiedToken

_log = logging.getLogger(__name__)

_INTERVAL = 0.9  # so that a response ends within a second
_GRACE = 1.0
_CONTENT_TYPE = b"content-type"
_LENGTH = len(_CONTENT_TYPE)


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
    raises LateBodyError, and the app hears nothing more of the body. An app whose other task reads
    is cancelled if it has not ended a second later.

    A response in several parts has the token looked at with each of them, and within a second,
    until its last one. If it is refused, the app's `receive` returns `http.disconnect`, also where
    the app waits in it, and `send` raises OSError. An event stream then ends in good order, also
    where the app waits for the next event. Any other response is broken off, by which its client
    sees that this is not all, once the app has returned. A token that only expires ends event
    streams and nothing else: a large file goes on.

    The last argument is the task that runs the app; without it none is cancelled.
    """

    _token: VerifiedToken
    _verifier: RequestVerifier
    _server_receive: Receive
    _server_send: Send
    _app: asyncio.Task[Any] | None
    error: RequestRefusedError | None = None
    """Why the guard has ended the exchange."""
    next_look: asyncio.TimerHandle | None = None
    """Of a response in several parts, until its last one."""
    app_ended: bool = False
    """Then tasks that it has left behind start nothing here that would outlive them."""
    _more_body: bool | None = None
    """Whether more of the body is to come; None before the app has received anything."""
    _event_stream: bool | None = None
    """Whether the response is an event stream; None before it has begun."""
    _interrupts: Interrupts | None = None
    _closing: asyncio.Task[None] | None = None
    _cancelling: asyncio.Task[None] | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> RequestRefusedError | None:
        """Run `app`; gives the error to answer with if it was ended before its response began."""
        try:
            await app(scope, self.receive, self.send)
        except BaseException as failure:
            if not self.has_caused(failure):
                raise
        return await self.finish()

    def has_caused(self, failure: BaseException) -> bool:
        """Whether `failure`, with which the app has ended, is how this has ended it."""
        usual: tuple[type[BaseException], ...] = (OSError, LateBodyError)
        if self._stop():
            usual = (*usual, asyncio.CancelledError)
        if self.error is None or not _only(failure, Exception, *usual):
            return False
        level = logging.DEBUG if _only(failure, *usual) else logging.WARNING
        _log.log(level, "the application ended with its request", exc_info=failure)
        return True

    async def finish(self) -> RequestRefusedError | None:
        """End with the app; gives the error to answer with, as `run` does."""
        self._stop()
        if self._closing is not None:
            with suppress(TimeoutError):  # a client that does not read can't be told
                async with asyncio.timeout(_GRACE):
                    await self._closing
        return self.error if self._event_stream is None else None

    async def receive(self) -> Message:
        """What the app receives: the next message, but no part of a body that comes too late."""
        message = await self._next()
        if self.error is None and message["type"] == "http.request":
            # Nothing of a request without a body can have come after its token expired.
            part = message.get("body") or message.get("more_body")
            self._look(expiry=part or self._more_body is not None)
        if self.error is None:
            self._more_body = bool(message.get("more_body"))
            return message
        if self._more_body is False:
            return {"type": "http.disconnect"}
        if self._app is not None and self._cancelling is None and not self.app_ended:
            self._cancelling = asyncio.create_task(_cancel_later(self._app))
        raise LateBodyError(self.error)  # an app may take what it has for the whole body

    __call__ = receive  # so that an app is given it without one object more for each request

    async def send(self, message: Message) -> None:
        """Send a message of the app; raises ExchangeEndedError once the guard has ended it."""
        if self.error is None:
            kind = message["type"]
            if kind == "http.response.start":
                self._event_stream = _is_event_stream(message)
                if self._event_stream:  # its first event may be long in coming
                    self._begin_looking()
            elif message.get("more_body"):
                self._begin_looking()
                self._look(expiry=self._event_stream)
            elif self.next_look is not None and kind == "http.response.body":
                self.next_look.cancel()
                self.next_look = None
        if self.error is not None:
            raise ExchangeEndedError("the access token is no longer valid")
        await self._server_send(message)

    async def _next(self) -> Message:
        """The server's next message, or that the client is gone once the guard ends the request."""
        if self._interrupts is None:
            self._interrupts = Interrupts()
        try:
            if self.error is None:
                return await self._interrupts.wait_for(self._server_receive)
        except TimeoutError:
            if self.error is None:
                raise
        return {"type": "http.disconnect"}

    def _begin_looking(self) -> None:
        if self.next_look is None and not self.app_ended:
            self._look_later()

    def _look_later(self) -> None:
        self.next_look = asyncio.get_running_loop().call_later(_INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self._look_later()
        self._look(expiry=self._event_stream)

    def _look(self, *, expiry: bool | None) -> None:
        """End the exchange if the token is refused; if it only expired, then only with `expiry`."""
        try:
            self._verifier.remaining(self._token)
        except TokenExpiredError as error:
            if expiry:
                self._end(error)
        except RequestRefusedError as error:
            self._end(error)
        except Exception:  # noqa: BLE001 - then it is not known whether it is accepted
            _log.exception("the verifier failed")
            self._end(KeysUnavailableError("The verifier failed."))

    def _end(self, error: RequestRefusedError) -> None:
        self.error = error.with_traceback(None)  # which leads back to here: both would stay alive
        if self._interrupts is not None:
            self._interrupts.interrupt()
        if self.next_look is not None:
            self.next_look.cancel()
            if self._event_stream:
                self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        # The client may be gone already; before ASGI 2.4 servers raise a RuntimeError for that.
        with suppress(OSError, RuntimeError):
            await self._server_send({"type": "http.response.body", "body": b""})

    def _stop(self) -> bool:
        """The app has ended; gives whether this has cancelled it, and nobody else."""
        self.app_ended = True
        if self.next_look is not None:
            self.next_look.cancel()
            self.next_look = None
        app, self._app = self._app, None
        # One that was cancelled has not come to its end, and so has cancelled nothing.
        if app is None or self._cancelling is None or self._cancelling.cancel():
            return False
        return not self._cancelling.cancelled() and app.uncancel() == 0


async def _cancel_later(app: asyncio.Task[Any]) -> None:
    """End an app that goes on, as only another task of its own was told to end."""
    await asyncio.sleep(_GRACE)
    app.cancel()


def _is_event_stream(start: Message) -> bool:
    for name, value in start.get("headers", ()):  # most names are told apart by their length
        if len(name) == _LENGTH and name.lower() == _CONTENT_TYPE:
            return bool(value.lower().startswith(b"text/event-stream"))
    return False


def _only(failure: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether `failure` is of these kinds, or a group of such."""
    if isinstance(failure, BaseExceptionGroup):
        return all(_only(each, *kinds) for each in failure.exceptions)
    return isinstance(failure, kinds)
