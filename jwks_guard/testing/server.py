"""A tenant on a socket: uvicorn in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, TypeAlias

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from jwks_guard.testing.delivery import HANG_UP
from jwks_guard.testing.waiting import Signal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

Connections: TypeAlias = dict[tuple[str, int] | None, asyncio.Transport]

_IDLE_SECONDS = 3600
"""Most clients drop an idle connection after some seconds. A server that does so at the same moment
breaks the request that is just being sent."""
_GRACE_SECONDS = 1.0
"""What is being answered when the tenant stops may take this long to end."""
_TICK_SECONDS = 0.001
_TURNS_OF_ACCEPTING = 10
"""More turns than an event loop takes from accepting a socket to a connection that it knows."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds


class ServerThread:
    """Serves `app` on a listening socket until `stop`, over TLS if `tls` is given.

    The caller's loop may block or close meanwhile. Connections queue on the socket from the start,
    so that there is nothing to wait for.
    """

    def __init__(
        self, app: ASGIApp, listener: socket.socket, tls: ssl.SSLContext | None = None
    ) -> None:
        connections: Connections = {}
        config = uvicorn.Config(
            _offering_hang_up(app, connections),
            http=_protocol(connections),
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=None,
            date_header=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_IDLE_SECONDS,
        )
        config.load()
        config.ssl = tls  # uvicorn itself would make it of files that stay
        self._server = _Server(config)
        self._thread = Thread(target=self._server.run, args=([listener],), name="local tenant")
        self._thread.daemon = True
        self._thread.start()

    def stop(self) -> None:
        """Close the socket and every connection, and wait for the thread to end."""
        self._server.ended.set()
        self._thread.join()


class _Server(uvicorn.Server):
    """uvicorn that serves until `ended` is set, and then ends at once.

    uvicorn itself looks every 0.1 s whether it should end, and naps at least once more for 0.1 s
    while it does: most of the time that a short test takes.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ended = Signal()

    async def main_loop(self) -> None:
        await self.ended.wait(timeout=None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # First: of a connection that was accepted, and is not attached yet when the server closes,
        # asyncio leaves the socket open.
        for listener in sockets or ():
            asyncio.get_running_loop().remove_reader(listener)
        for _ in range(_TURNS_OF_ACCEPTING):
            await asyncio.sleep(0)
        for server in (*self.servers, *(sockets or ())):
            server.close()
        state = self.server_state
        for connection in list(state.connections):
            if not connection.transport.is_closing():  # closed twice, TLS can't be aborted any more
                connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                while state.connections or state.tasks:  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(_TICK_SECONDS)
        for task in list(state.tasks):
            task.cancel()
        for connection in list(state.connections):
            connection.transport.abort()
        while state.connections or state.tasks:  # noqa: ASYNC110 - the loop ends them in a few turns
            await asyncio.sleep(_TICK_SECONDS)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError."""
    # With its protocol named, as asyncio looks for that before it turns Nagle's algorithm off,
    # which costs every answer 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _protocol(connections: Connections) -> type[H11Protocol]:
    class Protocol(H11Protocol):
        """HTTP/1.1 that knows its connections by the address of the client."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in H11Protocol
            super().connection_made(transport)
            self.access_log = False  # the tenant keeps a log of its own
            connections[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            connections.pop(self.client, None)

    return Protocol


def _offering_hang_up(app: ASGIApp, connections: Connections) -> ASGIApp:
    async def offering(scope: Scope, receive: Receive, send: Send) -> None:
        def hang_up(reset: bool) -> None:
            transport = connections.get(scope["client"])
            if transport is None:
                return  # the client was faster
            if reset:
                connection = transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                transport.abort()  # over TLS, closing would say goodbye first
            else:
                transport.close()

        scope["extensions"] = {**scope.get("extensions", {}), HANG_UP: hang_up}
        await app(scope, receive, send)

    return offering
