"""The tenant behind its address: state, switches and the ASGI application that shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware

from jwks_guard.testing.authorize import authorize_routes
from jwks_guard.testing.codes import Codes
from jwks_guard.testing.delivery import Wire, collect
from jwks_guard.testing.faults import Faults
from jwks_guard.testing.issue import issue_route
from jwks_guard.testing.keyring import Keyring
from jwks_guard.testing.management import management_routes
from jwks_guard.testing.metadata import metadata_routes
from jwks_guard.testing.oauth import TokenEndpoint
from jwks_guard.testing.request_log import RequestLog
from jwks_guard.testing.settings import (
    DISCOVERY_PATH,
    JWKS_PATH,
    TOKEN_PATH,
    USERINFO_PATH,
    http_date,
)
from jwks_guard.testing.users import userinfo_route

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from jwks_guard.testing.memory import Memory
    from jwks_guard.testing.settings import Settings

# What pages of any origin may call, such as Swagger UI. Neither the login page nor what issues a
# token without one is among them.
_SHARED = frozenset({DISCOVERY_PATH, JWKS_PATH, TOKEN_PATH, USERINFO_PATH})


@dataclass(frozen=True, slots=True)
class Site:
    """What a tenant keeps from its first start on."""

    settings: Settings
    keyring: Keyring
    faults: Faults
    requests: RequestLog
    app: ASGIApp


def open_site(settings: Settings, memory: Memory) -> Site:
    """A site with the keys of `memory`; without any, blocks for as long as they take to make.

    Raises ConfigurationError if the memory can't be written.
    """
    keyring = Keyring(settings, memory.contents, memory.keep_contents)
    requests, faults, codes = RequestLog(), Faults(keyring), Codes(settings.clock)
    routes = [
        *metadata_routes(settings, keyring),
        *authorize_routes(settings, codes),
        TokenEndpoint(settings, keyring, codes).route,
        userinfo_route(settings, keyring),
        issue_route(settings, keyring),
        *management_routes(settings, keyring),
    ]
    app = _FaultyApp(_shared_with_pages(Starlette(routes=routes)), settings, faults, requests)
    return Site(settings, keyring, faults, requests, app)


def _shared_with_pages(app: ASGIApp) -> ASGIApp:
    """CORS for the paths that pages of other origins may call."""
    shared = CORSMiddleware(
        app, allow_origins=["*"], allow_methods=["GET", "POST"], allow_headers=["*"]
    )

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        await (shared if scope["path"] in _SHARED else app)(scope, receive, send)

    return dispatch


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
