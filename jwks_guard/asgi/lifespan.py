"""The verifier's life inside the application's."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from jwks_guard.keys.home import running_loop

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from jwks_guard.asgi.protocol import RequestVerifier

_log = logging.getLogger(__name__)
_ANSWERS = frozenset(
    f"lifespan.{phase}.{result}"
    for phase in ("startup", "shutdown")
    for result in ("complete", "failed")
)


async def run_lifespan(
    app: ASGIApp, verifier: RequestVerifier, scope: Scope, receive: Receive, send: Send
) -> None:
    """Start `verifier` before `app` starts up and close it after `app` has shut down.

    An app that takes no part in lifespan (it raises on the scope, returns without an answer, or
    answers something else, as to a request) is answered for. If the verifier can't start, neither
    does the server: `lifespan.startup.failed`.
    """
    startup = await receive()
    async with AsyncExitStack() as running:
        try:
            running_loop()  # elsewhere the verifier could not even be closed
            running.push_async_callback(verifier.aclose)
            await verifier.start()
        except Exception as error:
            await running.aclose()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        exchange = _Exchange(startup, receive, send, running)
        await exchange.with_app(app, scope)
        await exchange.finish()


class _Exchange:
    """The lifespan messages of one run, answered by the app or, where it does not, by the guard."""

    def __init__(
        self, startup: Message, receive: Receive, send: Send, running: AsyncExitStack
    ) -> None:
        self._unread = [startup]
        self._receive = receive
        self._send = send
        self._running = running
        self._answers: set[str] = set()
        self._stopping = False

    async def with_app(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._app_receive, self._app_send)
        except Exception as error:
            if self._answers:
                raise
            _log.info("the application takes no part in lifespan (%s)", type(error).__name__)

    async def finish(self) -> None:
        """Give the answers that the app has left out."""
        if "lifespan.startup.failed" in self._answers:
            return
        if "lifespan.startup.complete" not in self._answers:
            await self._send({"type": "lifespan.startup.complete"})
        if not self._stopping:
            await self._receive()
        if not self._answers & {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
            await self._app_send({"type": "lifespan.shutdown.complete"})

    async def _app_receive(self) -> Message:
        if self._unread:
            return self._unread.pop()
        message = await self._receive()
        self._stopping = True
        return message

    async def _app_send(self, message: Message) -> None:
        if message["type"] not in _ANSWERS:  # the app did not look at the scope's type
            raise RuntimeError(f"{message['type']} does not answer lifespan")
        self._answers.add(message["type"])
        if message["type"] != "lifespan.startup.complete":
            # Before the last answer: the server may end the loop as soon as it has it.
            await self._running.aclose()
        await self._send(message)
