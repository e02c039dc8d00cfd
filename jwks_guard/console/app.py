"""The console as one ASGI application: who may see what, and which parts it is made of."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from jwks_guard.admin import KeyRotation
from jwks_guard.asgi.operations_auth import StaticSecrets
from jwks_guard.base.arguments import require_seconds
from jwks_guard.base.clock import Clock
from jwks_guard.console import pages, timeline
from jwks_guard.console.access import NOT_AN_OPERATOR, Access, refused
from jwks_guard.console.actions import Actions
from jwks_guard.console.forms import RefusedError
from jwks_guard.console.gathering import Fleet, Gatherer
from jwks_guard.console.headers import SecurityHeaders
from jwks_guard.console.incidents import Incidents
from jwks_guard.console.login import Attempts, OperatorSecrets
from jwks_guard.console.login_pages import LoginPages
from jwks_guard.console.oidc import OpenIDConnect
from jwks_guard.console.operations import Deciding, FleetOperations
from jwks_guard.console.rendering import Role
from jwks_guard.console.sessions import Identity, Sessions
from jwks_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from jwks_guard.admin import AdminEvent

Login: TypeAlias = OperatorSecrets | OpenIDConnect


def console(
    rotation: KeyRotation | None,
    fleet: Fleet,
    *,
    login: Login,
    session_idle: float = 1800.0,
    session_lifetime: float = 28_800.0,
    action_wait: float = 20.0,
    clock: Clock = time,
) -> Console:
    """The operator's web page, to serve alone or to mount, for example at `/console`.

    Run it in one process: sessions and the history of tokens are in its memory. See
    docs/console.md.

    Arguments:
        rotation: the tenant's keys; made with `fleet` among its own. None without a Management API:
            then keys are those that instances show, and can be distrusted and reinstated.
        fleet: a RedisFleet, an HTTPFleet or a TokenVerifier.
        login: OperatorSecrets, or OpenIDConnect at a provider.
        session_idle: how long a log-in lasts without a request, in seconds.
        session_lifetime: how long it lasts at most, in seconds.
        action_wait: for how many seconds a page waits for an action, which then goes on without it;
            below the time-out of a proxy in front.
        clock: anything with time() and monotonic().

    Raises ConfigurationError for an argument that can't be used.

    """
    require_seconds("action_wait", action_wait)
    if not isinstance(login, OperatorSecrets | OpenIDConnect):
        raise ConfigurationError("login must be OperatorSecrets or OpenIDConnect.")
    if rotation is not None and not any(each is fleet for each in rotation.fleet):
        raise ConfigurationError(
            "rotation does not refuse keys on this fleet: make it with the same one, as in "
            "KeyRotation(keys, fleet)."
        )

    def record(event: AdminEvent) -> None:
        for entry in timeline.of_journal([event]):
            gatherer.record(entry)

    incidents = Incidents(rotation, fleet, clock, record)
    gatherer = Gatherer(rotation, fleet, clock=clock, incidents=incidents.shown)
    trust = LoginTrust(login, gatherer)
    sessions = Sessions(
        clock,
        idle=session_idle,
        longest=session_lifetime,
        withdrawn=trust.withdrawn,
        key=secrets.token_bytes(32),
    )
    deciding: Deciding = rotation or FleetOperations(fleet, clock, record)
    seconds, attempts = trust.second_secret, Attempts(clock)
    actions = Actions(
        gatherer, rotation, deciding, incidents, seconds, attempts, clock, action_wait
    )
    log_in = LoginPages(login, sessions, Attempts(clock))
    inside = _application(
        [
            *pages.routes(gatherer, lambda request, _: request.state.why_ended()),
            *actions.routes(),
            *incidents.routes(),
            log_in.logout_route,
        ]
    )

    @asynccontextmanager
    async def lifespan(_: object = None) -> AsyncIterator[None]:
        gatherer.ensure_running()
        yield
        await actions.aclose()
        await gatherer.aclose()
        if isinstance(login, OpenIDConnect):
            await login.verifier.aclose()

    outside = _application(
        [
            *log_in.routes(),
            Mount("/static", StaticFiles(packages=[("jwks_guard.console", "static")])),
            Mount("/", Access(inside, sessions, trust.role_of)),
        ],
        lifespan,
    )
    return Console(SecurityHeaders(outside), lifespan)


class Console:
    """The console as an ASGI application, whose lifespan a server runs.

    Nobody runs that of an application that is mounted: use the console with `async with` in the
    lifespan of the application around. Otherwise it looks from the first page on, until its event
    loop ends.
    """

    def __init__(
        self, app: ASGIApp, lifespan: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        self._app = app
        self._lifespan = lifespan
        self._entered = AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or take part in a server's lifespan."""
        await self._app(scope, receive, send)

    async def __aenter__(self) -> Self:
        await self._entered.enter_async_context(self._lifespan())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._entered.aclose()


class LoginTrust:
    """Which log-ins count, and for what, by the keys that are shown at this moment.

    The key that has leaked can sign ID tokens as well. So a log-in at the issuer whose keys are
    shown, or by a key that is shown (a custom domain publishes the same ones), needs a secret
    beside it to act, and ends once its key is refused.
    """

    def __init__(self, login: Login, gatherer: Gatherer) -> None:
        self._login = login
        self._gatherer = gatherer

    def role_of(self, identity: Identity) -> Role:
        """What the log-in allows now."""
        return "viewer" if self._lacks_secret(identity) else identity.role

    def second_secret(self, identity: Identity) -> StaticSecrets | None:
        """The secret that an action takes beside the log-in, if it does; raises RefusedError."""
        if self._lacks_secret(identity):
            raise RefusedError(403, NOT_AN_OPERATOR)
        return self._secret if self._is_guarded(identity) else None

    def withdrawn(self, identity: Identity) -> str | None:
        """Why the log-in does not count any more; None while it does."""
        token, login = identity.token, self._login
        if token is None or not isinstance(login, OpenIDConnect):
            return None
        if token.kid in self._gatherer.picture.refused_kids:
            return "The key that signed your ID token is refused."
        return login.withdrawn(token)

    def _lacks_secret(self, identity: Identity) -> bool:
        return self._secret is None and self._is_guarded(identity)

    @property
    def _secret(self) -> StaticSecrets | None:
        return self._login.operator_secret if isinstance(self._login, OpenIDConnect) else None

    def _is_guarded(self, identity: Identity) -> bool:
        token, picture = identity.token, self._gatherer.picture
        if token is None:
            return False
        unknown = picture.fleet_at is None and picture.tenant_at is None
        return unknown or token.issuer == picture.issuer or picture.knows(token.kid)


def _application(routes: Sequence[BaseRoute], lifespan: Any = None) -> Starlette:
    """An application whose refusals are pages."""

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            known = {404: "There is no such page.", 405: "This page does not take that."}
            error = RefusedError(error.status_code, known.get(error.status_code, error.detail))
        assert isinstance(error, RefusedError)  # noqa: S101
        return refused(request, error)

    handlers = {RefusedError: answer, HTTPException: answer}
    application = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    # A redirect to the same path with a slash would be made of the Host header.
    application.router.redirect_slashes = False
    return application
