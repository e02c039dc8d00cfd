"""The tenant behind its address: state, switches and the ASGI application that shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders

from jwks_guard.testing.delivery import Wire, collect
from jwks_guard.testing.faults import Faults
from jwks_guard.testing.keyring import Keyring
from jwks_guard.testing.management import management_routes
from jwks_guard.testing.metadata import metadata_routes
from jwks_guard.testing.oauth import TokenEndpoint
from jwks_guard.testing.request_log import RequestLog
from jwks_guard.testing.settings import http_date

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from jwks_guard.testing.settings import Settings


@dataclass(frozen=True, slots=True)
class Site:
    """What a tenant keeps from its first start on."""

    settings: Settings
    keyring: Keyring
    faults: Faults
    requests: RequestLog
    app: ASGIApp


def open_site(settings: Settings) -> Site:
    """A site with keys of its own; blocks for as long as they take to make."""
    keyring, requests = Keyring(settings), RequestLog()
    faults = Faults(keyring)
    routes = [
        *metadata_routes(settings, keyring),
        TokenEndpoint(settings, keyring).route,
        *management_routes(settings, keyring),
    ]
    app = _FaultyApp(Starlette(routes=routes), settings, faults, requests)
    return Site(settings, keyring, faults, requests, app)


@dataclass(frozen=True, slots=True)
class _FaultyApp:
    app: ASGIApp
    settings: Settings
    faults: Faults
    requests: RequestLog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.requests.record(scope["method"], path)
        plan = self.faults.take(path)
        answer = plan.answer() if plan.answer else self.app
        start, body = await collect(answer, scope, receive)
        MutableHeaders(scope=start)["Date"] = http_date(self.settings.clock.time())
        if plan.pause:
            await plan.pause()
        await plan.deliver(start, body, Wire(scope, receive, send))
