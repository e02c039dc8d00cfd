"""Where the client of an exchange comes from, and how long it is kept."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from jwks_guard import ConfigurationError
from jwks_guard.net import clients
from jwks_guard.net.clients import Clients, HTTPClient, new_client, require_http_client
from jwks_guard.net.exchange import Client, ExchangeError


async def opened(source: Clients) -> Client:
    async with source.opened() as client:
        return client


async def test_given_client_is_used_and_left_open() -> None:
    given = httpx.AsyncClient(verify=False)
    assert await opened(Clients(given)) is given
    assert not given.is_closed


def test_callable_makes_one_client_for_each_event_loop_and_none_is_closed() -> None:
    made: list[httpx.AsyncClient] = []

    def make() -> httpx.AsyncClient:
        made.append(httpx.AsyncClient(verify=False))
        return made[-1]

    async def twice() -> list[Client]:
        return [await opened(source), await opened(source)]

    source = Clients(make)
    used = asyncio.run(twice()) + asyncio.run(twice())
    assert used == [made[0], made[0], made[1], made[1]]
    assert not any(client.is_closed for client in made)


async def test_callable_that_raises_is_an_exchange_that_sent_nothing() -> None:
    def make() -> httpx.AsyncClient:
        raise KeyError("secret")

    with pytest.raises(ExchangeError, match=r"can't be made \(KeyError in .*make\)$") as failed:
        await opened(Clients(make))
    assert not failed.value.sent


async def test_client_of_our_own_is_closed_after_use() -> None:
    source = Clients(None)
    async with source.opened() as client:
        states = [client.is_closed]
    states.append(client.is_closed)
    assert states == [False, True]
    assert await opened(source) is not client


async def test_what_fails_while_a_client_is_open_is_passed_on_and_closes_our_own() -> None:
    used: list[Client] = []

    async def fail() -> None:
        async with Clients(None).opened() as client:
            used.append(client)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert used[0].is_closed


async def test_certificates_are_loaded_once_and_in_a_thread() -> None:
    class Noting(ThreadPoolExecutor):
        calls = 0

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return super().submit(*args, **kwargs)

    threads = Noting()
    asyncio.get_running_loop().set_default_executor(threads)
    clients._tls_context.cache_clear()
    for source in (Clients(None), Clients(None)):
        await opened(source)
    await new_client().aclose()
    assert threads.calls == 1


async def test_certificates_that_can_not_be_loaded_are_an_exchange_that_sent_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Clients(None)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ExchangeError, match=r"SSL_CERT_FILE.*none\.pem") as failed:
        await opened(source)
    assert not failed.value.sent


async def test_plain_http_of_our_own_client_goes_past_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with new_client() as client:
        plain = client._transport_for_url(httpx.URL("http://127.0.0.1/"))
        tls = client._transport_for_url(httpx.URL("https://issuer.test/"))
    assert plain is client._transport
    assert tls is not client._transport


@pytest.mark.parametrize(
    "client", [httpx.Client(), "https://proxy.test", 5, {"verify": False}, object()]
)
def test_what_is_no_async_client_is_refused(client: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^http_client must be an httpx\.AsyncClient"):
        require_http_client(client)


@pytest.mark.parametrize("client", [None, httpx.AsyncClient(), httpx.AsyncClient])
def test_async_client_or_what_makes_one_is_taken(client: HTTPClient | None) -> None:
    require_http_client(client)
