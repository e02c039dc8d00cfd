"""The HTTP client that instances are asked with."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx


class InstanceClient:
    """`given` as in HTTPKeyFetcher; without it one is opened each time and closed again."""

    def __init__(self, given: httpx.AsyncClient | Callable[[], httpx.AsyncClient] | None) -> None:
        self._given = given
        self._made: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None
        self._context: ssl.SSLContext | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client for the running event loop."""
        if isinstance(self._given, httpx.AsyncClient):
            yield self._given
        elif self._given is not None:
            yield self._made_by(self._given)
        else:
            if self._context is None:  # it takes tens of milliseconds, so not on the loop
                self._context = await asyncio.to_thread(httpx.create_ssl_context)
            # Plain http is only ever spoken on loopback: past any proxy, it stays on the machine.
            async with httpx.AsyncClient(verify=self._context, mounts={"http://": None}) as client:
                yield client

    def _made_by(self, make: Callable[[], httpx.AsyncClient]) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._made is None or self._made[0] is not loop:
            self._made = loop, make()
        return self._made[1]
