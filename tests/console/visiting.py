"""A browser without a window: cookies, the origin of each form, and the token in the page."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
from starlette.types import ASGIApp

from jwks_guard import TokenVerifier
from jwks_guard.admin import KeyRotation
from jwks_guard.console import OperatorSecrets, console
from jwks_guard.testing import LocalTenant
from tests.admin.rotating import Scene, SleepingClock, client_of

OPERATOR = "the-operators-own-secret"
VIEWER = "a-secret-for-viewers-only"
SECRETS = OperatorSecrets(operator=OPERATOR, viewer=VIEWER)
HERE = "https://ops.test"
_FIELD = re.compile(r'name="(?P<name>csrf|subject|decision)" value="(?P<value>[^"]*)"')


@dataclass
class Browser:
    """One browser: `client` keeps its cookies. Forms are sent from a page of `origin`."""

    client: httpx.AsyncClient
    origin: str = HERE
    fields: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Open a page, and remember the hidden fields of its forms."""
        answer = await self.client.get(path, headers={"sec-fetch-mode": "navigate", **headers})
        self.fields = {
            each["name"]: html.unescape(each["value"]) for each in _FIELD.finditer(answer.text)
        }
        return answer

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> httpx.Response:
        """Send exactly these fields, as a page of our own does."""
        own = {"origin": self.origin, "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
        return await self.client.post(path, data=dict(fields), headers={**own, **headers})

    async def submit(self, path: str, **fields: str) -> httpx.Response:
        """Open the page at `path`, and send its form with these fields filled in."""
        opened = await self.get(path)
        assert opened.status_code == 200, opened.text
        return await self.post(path, {**self.fields, **fields})

    async def log_in(
        self, secret: str = OPERATOR, name: str = "Ada", **more: str
    ) -> httpx.Response:
        return await self.post("/login", {"name": name, "secret": secret, **more})

    def session(self) -> str | None:
        """The value of the session's cookie."""
        found = [each.value for each in self.client.cookies.jar if each.name.endswith("_session")]
        return found[0] if found else None


@dataclass
class Stage:
    """A console, and what it is about: `scene` has the tenant, the clock and what was told."""

    app: ASGIApp
    scene: Scene
    verifier: TokenVerifier
    rotation: KeyRotation | None

    @asynccontextmanager
    async def browser(
        self, app: ASGIApp | None = None, base_url: str = HERE, **options: Any
    ) -> AsyncIterator[Browser]:
        transport = httpx.ASGITransport(app or self.app, **options)
        async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
            yield Browser(client, origin=base_url)

    @asynccontextmanager
    async def operator(self, **options: Any) -> AsyncIterator[Browser]:
        async with self.browser(**options) as browser:
            assert (await browser.log_in()).status_code == 303
            yield browser


def in_process(tenant: LocalTenant) -> httpx.AsyncClient:
    """A client whose requests `tenant` answers without a socket."""
    return httpx.AsyncClient(transport=tenant.transport)


def ending(kid: str) -> str:
    return kid[-4:]


def dialog(kid: str, action: str) -> str:
    return f"/keys/{quote(kid, safe='')}/{action}"


@asynccontextmanager
async def staged(
    login: Any = SECRETS, *, with_tenant: bool = True, **options: Any
) -> AsyncIterator[Stage]:
    """A console for one verifier, with the Management API of its tenant or without one.

    `login` may be a callable of that tenant, another one and the clock.
    """
    clock = SleepingClock()
    async with AsyncExitStack() as closing:
        tenant, other = [
            await closing.enter_async_context(
                LocalTenant(in_process=True, algorithm="ES256", clock=clock, issuer=issuer)
            )
            for issuer in ("https://tenant.test/", "https://staff.test/")
        ]
        http = await closing.enter_async_context(in_process(tenant))
        keys = await closing.enter_async_context(client_of(tenant, clock, http_client=http))
        scene = Scene(tenant, keys, clock, closing)
        verifier = await scene.verifier(http_client=lambda: in_process(tenant))
        rotation = scene.rotation(verifier) if with_tenant else None
        chosen = login(tenant, other, clock) if callable(login) else login
        app = console(rotation, verifier, login=chosen, **{"clock": clock, **options})
        async with running(app):
            yield Stage(app, scene, verifier, rotation)


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[None]:
    """The lifespan of `app`, as a server runs it."""

    async def run() -> None:
        await app({"type": "lifespan"}, to_app.get, from_app.put)

    to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    from_app: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(run())
    await to_app.put({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
        await task
