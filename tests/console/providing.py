"""A provider for the console's log-in: a local tenant, whose answers can be changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from jwks_guard.base.clock import Clock
from jwks_guard.console import OpenIDConnect
from jwks_guard.testing import LocalTenant
from tests.console.visiting import Browser, Stage, in_process, staged

LOOPBACK = "http://127.0.0.1:8000"
ROLES = {"email": {"alice@users.test": "operator", "bob@users.test": "viewer"}}
Change = Callable[[dict[str, Any]], object]


@dataclass
class Meddling(httpx.AsyncBaseTransport):
    """Passes requests to `tenant` and has `changes` edit the JSON that it answers, by path."""

    tenant: LocalTenant
    changes: dict[str, Change]
    asked: list[httpx.Request]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = await self.tenant.transport.handle_async_request(request)
        change = self.changes.get(request.url.path)
        if change is None:
            return answer
        document = json.loads(await answer.aread())
        replaced = change(document)
        if isinstance(replaced, httpx.Response):
            return replaced
        return httpx.Response(answer.status_code, json=document)


@dataclass
class Provided:
    """A console whose people log in at `provider`."""

    stage: Stage
    provider: LocalTenant
    meddling: Meddling
    login: OpenIDConnect

    async def begun(self, browser: Browser, path: str = "/login/provider") -> dict[str, str]:
        """Begin a log-in; gives what the browser is sent to the provider with."""
        answer = await browser.get(path)
        assert answer.status_code == 303, answer.text
        url = answer.headers["location"]
        assert url.startswith(f"{self.provider.issuer}authorize?")
        return dict(parse_qsl(urlsplit(url).query))

    async def agreed(self, parameters: dict[str, str], sub: str = "auth0|alice") -> str:
        """Log in at the provider; gives where it sends the browser back to."""
        async with in_process(self.provider) as client:
            url = f"{self.provider.issuer}authorize"
            answer = await client.post(url, data={**parameters, "sub": sub})
        assert answer.status_code == 303, answer.text
        location: str = answer.headers["location"]
        return location

    async def log_in(
        self, browser: Browser, sub: str = "auth0|alice", path: str = "/login/provider"
    ) -> httpx.Response:
        back = await self.agreed(await self.begun(browser, path), sub)
        return await browser.get(back)

    async def refreshed(self) -> None:
        """Have the console's verifier of ID tokens look at the provider's keys."""
        await self.login.verifier.keys.refresh()

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        async with self.stage.browser(base_url=LOOPBACK) as browser:
            yield browser


@asynccontextmanager
async def provided(*, guarded: bool = False, **options: Any) -> AsyncIterator[Provided]:
    """`guarded`: the provider is the tenant whose keys the console is about."""
    made: list[tuple[LocalTenant, Meddling, OpenIDConnect]] = []

    def login(tenant: LocalTenant, staff: LocalTenant, clock: Clock) -> OpenIDConnect:
        provider = tenant if guarded else staff
        meddling = Meddling(provider, {}, [])
        given: dict[str, Any] = {
            "client_secret": provider.client_secret,
            "roles": ROLES,
            "http_client": lambda: httpx.AsyncClient(transport=meddling),
            "clock": clock,
            **options,
        }
        connect = OpenIDConnect(provider.issuer, provider.client_id, **given)
        made.append((provider, meddling, connect))
        return connect

    async with staged(login) as stage:
        yield Provided(stage, *made[0])
