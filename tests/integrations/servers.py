"""Real servers in threads of this process: uvicorn for ASGI apps, wsgiref for WSGI apps."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import uvicorn

from jwks_guard.testing.server import listen
from tests.support import PATIENCE


@contextmanager
def served_asgi(app: Any, *, at_end: Iterable[Callable[[], Awaitable[None]]] = ()) -> Iterator[str]:
    """Serve `app` with uvicorn; gives its address. `at_end` is awaited on the server's loop."""

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for close in at_end:
            await close()
        await send({"type": "lifespan.shutdown.complete"})

    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(closing, loop="asyncio", lifespan="on", log_config=None, log_level=None)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield _address(listener)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
    assert not thread.is_alive()


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: what the app prints is what a failing test shows."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = False  # joined at the end


@contextmanager
def served_wsgi(app: Any) -> Iterator[str]:
    """Serve `app` with wsgiref, a thread for each connection; gives its address."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.set_app(app)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield _address(server.socket)
        finally:
            server.shutdown()
            thread.join(PATIENCE)


def _address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
