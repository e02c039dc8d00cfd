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
_CLOSE_GRACE = 1.0
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

    A response in several parts has the token looked at until its last one. If it is refused, the
    app's `receive` returns `http.disconnect`, also where the app waits in it, and `send` raises
    OSError. An event stream then ends in good order, also where the app waits for the next event.
    Any other response is broken off, by which its client sees that this is not all, once the app
    has returned. A token that only expires ends event streams and nothing else: a large file goes
    on.

    The last argument is the task that runs the app; without it none is cancelled.
    """

    _token: VerifiedToken
    _verifier: RequestVerifier
    _server_receive: Receive
    _server_send: Send
    _app: asyncio.Task[Any] | None
    watched: bool = False
    """Whether `finish` has to be called once the app has ended."""
    _begun: Message | None = None
    _timer: asyncio.TimerHandle | None = None
    _body_begun: bool = False
    _body_read: bool = False
    _error: RequestRefusedError | None = None
    _interrupts: Interrupts | None = None
    _closing: asyncio.Task[None] | None = None
    _cancelling: asyncio.TimerHandle | None = None
    _cancelled: bool = False

    async def run(self, app: ASGIApp, scope: Scope) -> RequestRefusedError | None:
        """Run `app`; gives the error to answer with if it was ended before its response began."""
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:
            if not self.has_caused(error):
                raise
        return await self.finish() if self.watched else None

    def has_caused(self, failure: BaseException) -> bool:
        """Whether `failure`, with which the app has ended, is how this has ended it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._cancelling is not None:
            self._cancelling.cancel()
        if self._error is None or not self._may_have_caused(failure):
            return False
        usual = _only(failure, OSError, LateBodyError, asyncio.CancelledError)
        level = logging.DEBUG if usual else logging.WARNING
        _log.log(level, "the application ended with its request", exc_info=failure)
        return True

    async def finish(self) -> RequestRefusedError | None:
        """End with the app; gives the error to answer with, as `run` does."""
        for timer in (self._timer, self._cancelling):
            if timer is not None:
                timer.cancel()
        if self._closing is not None:
            with suppress(TimeoutError):  # a client that does not read can't be told
                async with asyncio.timeout(_CLOSE_GRACE):
                    await self._closing
        return self._error if self._begun is None else None

    async def receive(self) -> Message:
        """What the app receives: the next message, but no part of a body that comes too late."""
        message = await self._next()
        if message["type"] == "http.request":
            self._look_at_body(message)
        if self._error is None:
            self._body_begun = True
            self._body_read = not message.get("more_body")
            return message
        if self._body_read:
            return {"type": "http.disconnect"}
        self._cancel_later()
        raise LateBodyError(self._error)  # an app may take what it has for the whole body

    async def send(self, message: Message) -> None:
        """Send a message of the app; raises ExchangeEndedError once the guard has ended it."""
        if self._error is None:
            self._follow(message)
        if self._error is not None:
            raise ExchangeEndedError("the access token is no longer valid")
        await self._server_send(message)

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

    def _follow(self, message: Message) -> None:
        """Note how far the response is; watch one in several parts, until its last one."""
        if message["type"] == "http.response.start":
            self._begun = message
            if self._is_event_stream:  # its first event may be long in coming
                self._watch()
        elif message["type"] != "http.response.body":
            pass  # as a push may come in the middle
        elif not message.get("more_body"):
            if self._timer is not None:
                self._timer.cancel()
        elif self._timer is None:
            self._watch()
            self._look()

    def _look_at_body(self, message: Message) -> None:
        error = self._refusal()
        if error is None:
            return
        # A request without a body: nothing of it has come after its token expired.
        empty = not (self._body_begun or message.get("body") or message.get("more_body"))
        if not (empty and isinstance(error, TokenExpiredError)):
            self._end(error)

    def _cancel_later(self) -> None:
        """See to it that the app ends although only a task of its own was told."""
        if self._app is not None and self._cancelling is None:
            loop = asyncio.get_running_loop()
            self._cancelling = loop.call_later(_CLOSE_GRACE, self._cancel, self._app)

    def _cancel(self, app: asyncio.Task[Any]) -> None:
        self._cancelled = app.cancel()

    def _may_have_caused(self, failure: BaseException) -> bool:
        if (
            self._cancelled
            and isinstance(failure, asyncio.CancelledError)
            and self._app is not None
        ):
            return self._app.uncancel() == 0  # else somebody else has cancelled it, too
        return _only(failure, Exception, LateBodyError)

    def _watch(self) -> None:
        self.watched = True
        self._look_later()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self._look()
        if self._error is None:
            self._look_later()

    def _look(self) -> None:
        """End the response if the token is refused."""
        error = self._refusal()
        expired = isinstance(error, TokenExpiredError)
        if error is not None and (self._is_event_stream or not expired):
            self._end(error)

    def _refusal(self) -> RequestRefusedError | None:
        """Why the token is not accepted any more; None while it is."""
        try:
            self._verifier.remaining(self._token)
        except RequestRefusedError as error:
            return error
        except Exception:  # noqa: BLE001 - then it is not known whether it is accepted
            _log.exception("the verifier failed")
            return KeysUnavailableError("The verifier failed.")
        return None

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
        for name, value in headers:  # of each response: most names are told apart by their length
            if len(name) == _LENGTH and name.lower() == _CONTENT_TYPE:
                return bool(value.lower().startswith(b"text/event-stream"))
        return False


def _only(failure: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether `failure` is of these kinds, or a group of such."""
    if isinstance(failure, BaseExceptionGroup):
        return all(_only(each, *kinds) for each in failure.exceptions)
    return isinstance(failure, kinds)
