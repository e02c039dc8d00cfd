"""Serves the console by uvicorn until Ctrl-C or SIGTERM, also while pages are open."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_GRACE_SECONDS = 1
"""For what is being answered when it stops. The streams of open pages never end by themselves."""


@dataclass(frozen=True, slots=True)
class Front:
    """What lies between a browser and the console.

    Arguments:
        certificate, key: PEM files, for https.
        root_path: the path at which a proxy serves the console.
        proxies: addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto count.

    """

    certificate: Path | None = None
    key: Path | None = None
    root_path: str = ""
    proxies: tuple[str, ...] = ()


class Server(uvicorn.Server):
    """uvicorn that ends by Ctrl-C and SIGTERM without an error."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop by a signal; it is not raised again afterwards, as uvicorn itself does."""
        if threading.current_thread() is not threading.main_thread():  # which alone has signals
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is being answered; that streams of open pages are cut off is no error."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def server_of(app: ASGIApp, front: Front) -> Server:
    """The server of `app`; `serve` it on a listening socket."""
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        root_path=front.root_path,
        proxy_headers=bool(front.proxies),
        forwarded_allow_ips=list(front.proxies),
        ssl_certfile=front.certificate,
        ssl_keyfile=front.key,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return Server(config)
