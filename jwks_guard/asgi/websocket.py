"""An open WebSocket that lasts no longer than the trust in its token."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from jwks_guard.asgi.interrupts import Interrupts
from jwks_guard.asgi.refusals import (
    APPLICATION_CODES,
    INTERNAL_ERROR,
    POLICY_VIOLATION,
    TRY_AGAIN_LATER,
)
from jwks_guard.errors import KeysUnavailableError, RequestRefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from jwks_guard.asgi.protocol import RequestVerifier
    from jwks_guard.verify.token import VerifiedToken

T = TypeVar("T")

_log = logging.getLogger(__name__)

_LONGEST_WAIT = 0.9  # the loop's clock follows neither a wall clock that is set nor a suspend
_SHORTEST_WAIT = 0.01  # timers fire a little early
_CLOSE_GRACE = 1.0
_REASONS = {
    POLICY_VIOLATION: "the access token is no longer valid",
    INTERNAL_ERROR: "internal error",
    TRY_AGAIN_LATER: "access tokens can't be verified at the moment",
}


class SocketEndedError(OSError):
    """The guard has closed this WebSocket; `send` raises an OSError then, as ASGI asks."""


class GuardedSocket:
    """One WebSocket connection and the token it was opened with.

    It passes messages between server and app, and closes the connection once `verifier` refuses
    `token`: with 1008 if that is the token's fault, with 1013 if no key may be trusted, or with
    3000 and 4013 where the server refuses to send those. From then on the app's `receive` returns
    `websocket.disconnect` and its `send` raises OSError, also where the app waits in one of them.
    Frames that were sent are not recalled.

    The verifier is asked before the connection is accepted, at every frame, when it says that
    trust may have changed, and when the time that it named is over. A connection that is not
    accepted yet is answered by `refuse`.

    `run` runs an ASGI app on it. Where the app runs already, give it `receive` and `send`, call
    `watch` if it has accepted the connection, and `stop` at its end.
    """

    def __init__(
        self,
        token: VerifiedToken,
        verifier: RequestVerifier,
        refuse: Callable[[RequestRefusedError], Awaitable[None]],
        receive: Receive,
        send: Send,
    ) -> None:
        self._token = token
        self._verifier = verifier
        self._refuse = refuse
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._open = False
        self._code: int | None = None  # of the close that the guard decided on
        self._timer: asyncio.TimerHandle | None = None
        self._subscription = ExitStack()
        self._interrupts = Interrupts()
        self._closing: asyncio.Task[None] | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run `app` on the connection; what it raises goes through."""
        try:
            await app(scope, self.receive, self.send)
        except SocketEndedError:
            _log.debug("the application ended with its WebSocket")
        finally:
            self.stop()
            if self._closing is not None:
                with suppress(TimeoutError):  # a client that does not read can't be told
                    async with asyncio.timeout(_CLOSE_GRACE):
                        await self._closing

    async def receive(self) -> Message:
        """What the app receives: the next message, or that the connection has ended."""
        try:
            message = await self._until_ended(self._receive)
            if message["type"] == "websocket.disconnect":
                self.stop()
            elif self._open:
                self._look()
            self._raise_if_ended()
        except SocketEndedError:
            return self._farewell("websocket.disconnect")
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the app; raises SocketEndedError once the guard has closed."""
        self._raise_if_ended()
        if message["type"] == "websocket.accept":
            await self._accept(message)
            return
        if message["type"] != "websocket.send":  # the app itself ends the connection
            self.stop()
        elif self._open:
            self._look()
        await self._until_ended(partial(self._send, message))

    async def _accept(self, message: Message) -> None:
        try:
            self._verifier.remaining(self._token)
        except RequestRefusedError as error:
            self._code = _close_code(error)
            await self._refuse(error)
        self._raise_if_ended()
        await self._send(message)
        self.watch()

    def watch(self) -> None:
        """Look at the token from now on: the connection is accepted."""
        self._open = True
        # Subscribed first, asked then: no change in between goes unseen.
        self._subscription.callback(self._verifier.subscribe(self._trust_may_have_changed))
        self._wake()

    def _trust_may_have_changed(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and its sockets with it
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        """Look at the token and set the time of the next look."""
        if self._timer is not None:
            self._timer.cancel()
        if self._open:
            delay = max(_SHORTEST_WAIT, min(self._look(), _LONGEST_WAIT))
            if self._open:
                self._timer = self._loop.call_later(delay, self._wake)

    def _look(self) -> float:
        """Seconds for which the token is good; ends the connection if it is not."""
        try:
            return self._verifier.remaining(self._token)
        except Exception as error:
            self._end(_close_code(error))
            if not isinstance(error, RequestRefusedError):
                raise
            return 0.0

    def _end(self, code: int) -> None:
        self._code = code
        self.stop()
        self._interrupts.interrupt()
        self._closing = self._loop.create_task(self._close())

    def stop(self) -> None:
        """Look at the token no more: the app has ended, or the connection."""
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        self._subscription.close()

    async def _close(self) -> None:
        message = self._farewell("websocket.close")
        # The client may be gone already; before ASGI 2.4 servers raise a RuntimeError for that.
        with suppress(OSError, RuntimeError):
            try:
                await self._send(message)
            except (OSError, RuntimeError):
                raise
            except Exception:  # noqa: BLE001 - daphne raises no other for a code below 3000
                await self._send({**message, "code": APPLICATION_CODES[message["code"]]})

    async def _until_ended(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Await `operation`, but no longer than until the guard ends the connection."""
        self._raise_if_ended()
        try:
            return await self._interrupts.wait_for(operation)
        except TimeoutError:
            self._raise_if_ended()
            raise

    def _raise_if_ended(self) -> None:
        if self._code is not None:
            raise SocketEndedError(_REASONS[self._code])

    def _farewell(self, kind: str) -> Message:
        code = INTERNAL_ERROR if self._code is None else self._code
        return {"type": kind, "code": code, "reason": _REASONS[code]}


def _close_code(error: Exception) -> int:
    if isinstance(error, KeysUnavailableError):
        return TRY_AGAIN_LATER
    return POLICY_VIOLATION if isinstance(error, RequestRefusedError) else INTERNAL_ERROR
