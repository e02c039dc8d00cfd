"""A tenant on a socket: uvicorn in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import socket
import struct
from threading import Thread
from typing import TYPE_CHECKING, TypeAlias

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from jwks_guard.testing.delivery import HANG_UP

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

Connections: TypeAlias = dict[tuple[str, int] | None, asyncio.Transport]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds


class ServerThread:
    """Serves `app` on a listening socket until `stop`.

    The caller's loop may block or close meanwhile. Connections queue on the socket from the start,
    so that there is nothing to wait for.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
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
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = Thread(target=self._server.run, args=([listener],), name="local tenant")
        self._thread.daemon = True
        self._thread.start()

    def stop(self) -> None:
        """Close the socket and every connection, and wait for the thread to end."""
        self._server.should_exit = True
        self._thread.join()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError."""
    # With its protocol named, as asyncio looks for that before it turns Nagle's algorithm off,
    # which costs every answer 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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
            transport.close()

        scope["extensions"] = {**scope.get("extensions", {}), HANG_UP: hang_up}
        await app(scope, receive, send)

    return offering
