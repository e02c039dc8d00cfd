"""Which HTTP client carries an exchange: the caller's, one that the caller makes, or our own."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import httpx

from jwks_guard.errors import ConfigurationError, EnvironmentVariableError
from jwks_guard.net.environment import require_environment, unreadable_certificates
from jwks_guard.net.exchange import Client, ExchangeError, kind_of

HTTPClient: TypeAlias = Client | Callable[[], Client]


class Clients:
    """Opens the client to use: `given`, what `given` makes once per event loop, or a new one.

    Raises EnvironmentVariableError where no new one could be made.
    """

    def __init__(self, given: HTTPClient | None) -> None:
        if given is None:
            require_environment()
        self._given = given
        self._made: tuple[int, asyncio.AbstractEventLoop, Client] | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Client]:
        """A client for this process and event loop; a new one is closed in the end.

        Raises ExchangeError when it can't be made.
        """
        try:
            client = await self._client()
        except EnvironmentVariableError as error:
            raise ExchangeError(str(error).removesuffix("."), sent=False) from None
        except Exception as error:  # noqa: BLE001 - a callable of the caller may raise anything
            raise ExchangeError(
                f"the HTTP client can't be made ({kind_of(error)})", sent=False
            ) from None
        try:
            yield client
        finally:
            if self._given is None:
                with suppress(Exception):  # it takes nothing from what was exchanged
                    await client.aclose()

    async def _client(self) -> Client:
        if isinstance(self._given, Client):
            return self._given
        if self._given is not None:
            return self._made_by(self._given)
        if not _tls_context.cache_info().currsize:  # it takes tens of milliseconds: not on the loop
            await asyncio.to_thread(_tls_context)
        return new_client()

    def _made_by(self, make: Callable[[], Client]) -> Client:
        here = os.getpid(), asyncio.get_running_loop()
        if self._made is None or self._made[:2] != here:
            self._made = *here, make()
        return self._made[2]


def new_client() -> Client:
    """A client of our own, for the caller to close; raises EnvironmentVariableError."""
    require_environment()
    # Plain http is spoken on loopback, where it stays on the machine, and with the hosts that
    # allow_http names: past any proxy.
    return Client(verify=_tls_context(), mounts={"http://": None})


def headers_of(client: Client) -> dict[str, str]:
    """The headers that the caller gave `client`, by lower-case name: not those of httpx itself."""
    ours = _default_headers()
    return {name: value for name, value in client.headers.items() if ours.get(name) != value}


@functools.cache
def _default_headers() -> httpx.Headers:
    nowhere = httpx.MockTransport(lambda _: httpx.Response(500))
    return httpx.AsyncClient(transport=nowhere, trust_env=False).headers


@functools.cache
def _tls_context() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # of which ssl.SSLError is one
        require_environment()
        raise unreadable_certificates(error) from None


def require_http_client(client: Any) -> None:
    """Raise ConfigurationError unless `client` is an httpx.AsyncClient, callable, or None."""
    if client is not None and not isinstance(client, Client) and not callable(client):
        raise ConfigurationError(
            "http_client must be an httpx.AsyncClient or a callable that returns one."
        )
