"""A Litestar app whose requests need a verified token: `Litestar(on_app_init=[guard.on_app_init])`.

`pip install 'jwks-guard[litestar]'`.
"""

from __future__ import annotations

from asyncio import current_task
from contextlib import asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Unpack, cast

from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException, WebSocketException
from litestar.openapi.spec import Components, SecurityScheme

from jwks_guard.asgi.connection import ConnectionRequest, remember, remembered
from jwks_guard.asgi.exchange import GuardedExchange
from jwks_guard.asgi.middleware import TokenUser
from jwks_guard.asgi.refusals import POLICY_VIOLATION, send_refusal
from jwks_guard.asgi.websocket import GuardedSocket
from jwks_guard.errors import RequestRefusedError
from jwks_guard.verify.request import GuardOptions, RequestGuard, Requirements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from litestar.config.app import AppConfig
    from litestar.connection import ASGIConnection
    from litestar.types import Guard as LitestarGuard
    from litestar.types import Middleware
    from starlette.types import ASGIApp, Receive, Scope, Send

    from jwks_guard.asgi.protocol import RequestVerifier
    from jwks_guard.verify.token import VerifiedToken

__all__ = ["Guard", "RefusedException", "refused_response"]


_OF_THE_BODY = frozenset({"content-type", "content-length", "content-encoding"})


class RefusedException(HTTPException):
    """A refusal, for the application's exception handlers; `error` is the RequestRefusedError."""

    def __init__(self, error: RequestRefusedError) -> None:
        fields = error.refusal.fields
        kept = {name: fields[name] for name in fields if name not in _OF_THE_BODY}
        super().__init__(status_code=error.refusal.status, headers=kept)
        self.error = error


def refused_response(_: Request[Any, Any, Any], refused: RefusedException) -> Response[bytes]:
    """The answer of `refused` as RequestGuard words it: an exception handler."""
    refusal = refused.error.refusal
    return Response(refusal.body, status_code=refusal.status, headers=refusal.fields)


class Guard:
    """Lets in only requests whose bearer token `verifier` accepts, in an app or a part of it.

    `on_app_init` guards all routes of the app; `Router(middleware=[guard.middleware])` those of a
    router, a controller or a handler. A route with `opt={"exclude_from_auth": True}` needs no
    token, and none is looked at there. `guards=[guard.requiring(required_scopes=["write:things"])]`
    asks for more, and lets no anonymous request in, whatever `optional` and `opt` say.

    A request that was let in has `request.auth`, the VerifiedToken, and `request.user`, a
    TokenUser; an anonymous one has None for both. A refusal is raised as RefusedException.
    Exception handlers for it, or for its status, take the place of `refused_response`.

    A WebSocket is refused before it is accepted: with the same answer where the server has the
    extension `websocket.http.response`, else, and by `requiring`, with 403. An open one is closed
    within a second once its token is not accepted any more, as by JWKSGuardMiddleware. So are a
    request whose body is still to come, which is refused, and a response in several parts.

    Arguments:
        verifier: a TokenVerifier or MultiIssuerVerifier; started before the app and closed after
            it by `on_app_init`.
        scheme_name: the name of the security scheme in OpenAPI.
        scheme: the scheme as OpenAPI has it; by default a bearer token.
        exclude_opt_key: the key in `opt`.
        options: those of RequestGuard.

    Raises ConfigurationError for an argument that can't be used.

    """

    def __init__(
        self,
        verifier: RequestVerifier,
        *,
        scheme_name: str = "BearerToken",
        scheme: SecurityScheme | None = None,
        exclude_opt_key: str = "exclude_from_auth",
        **options: Unpack[GuardOptions],
    ) -> None:
        self.verifier = verifier
        self._guard = RequestGuard(verifier, **options)
        self._scheme_name = scheme_name
        self._scheme = scheme or SecurityScheme("http", scheme="bearer", bearer_format="JWT")

        # A closure: Litestar makes deep copies of what a router has, but not of functions.
        def middleware(app: ASGIApp) -> ASGIApp:
            return _Middleware(app, self._guard, verifier, exclude_opt_key)

        self.middleware: Middleware = cast("Any", middleware)

    def requiring(self, **more: Unpack[Requirements]) -> LitestarGuard:
        """What `guards=[...]` takes: lets in only tokens that grant and pass all that, too.

        Its arguments are those of RequestGuard: `required_scopes`, `any_scopes`,
        `required_permissions` and `claim_checks`.
        """
        guard = self._guard.requiring(**more)

        async def require(connection: ASGIConnection[Any, Any, Any, Any], _: Any) -> None:
            scope = cast("Scope", connection.scope)
            try:
                guard.check(remembered(scope, guard))
            except RequestRefusedError as error:
                if scope["type"] == "websocket":
                    raise WebSocketException(detail="", code=POLICY_VIOLATION) from None
                raise RefusedException(error) from None

        return require

    def on_app_init(self, config: AppConfig) -> AppConfig:
        """Guard the whole app, answer as RequestGuard does, and describe it all in OpenAPI."""
        config.middleware.insert(0, self.middleware)
        config.lifespan.insert(0, self.lifespan)
        config.exception_handlers.setdefault(RefusedException, refused_response)
        if config.openapi_config is not None:
            described = config.openapi_config = copy(config.openapi_config)
            ours = Components(security_schemes={self._scheme_name: self._scheme})
            others = described.components
            described.components = [*(others if isinstance(others, list) else [others]), ours]
            described.security = [*(described.security or ()), {self._scheme_name: []}]
        return config

    @asynccontextmanager
    async def lifespan(self, _: Litestar) -> AsyncIterator[None]:
        """Keep the verifier running while the app does."""
        try:
            await self.verifier.start()
            yield
        finally:
            await self.verifier.aclose()


class _Middleware:
    """Looks for the token of each connection to the routes behind it."""

    def __init__(
        self, app: ASGIApp, guard: RequestGuard, verifier: RequestVerifier, exclude_opt_key: str
    ) -> None:
        self._app = app
        self._guard = guard
        self._verifier = verifier
        self._exclude_opt_key = exclude_opt_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        try:
            token = await self._let_in(scope)
        except RequestRefusedError as error:
            raise RefusedException(error) from None
        if token is None:
            await self._app(scope, receive, send)
            return
        exchange = GuardedExchange(token, self._verifier, receive, send, current_task())
        refused = await exchange.run(self._app, scope)
        if refused is not None:
            refused.refusal = self._guard.refusal(refused)
            raise RefusedException(refused)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def refuse(error: RequestRefusedError) -> None:
            await send_refusal(self._guard.refusal(error), scope, send)

        try:
            token = await self._let_in(scope)
        except RequestRefusedError as error:
            await refuse(error)
            return
        if token is None:
            await self._app(scope, receive, send)
        else:
            socket = GuardedSocket(token, self._verifier, refuse, receive, send)
            await socket.run(self._app, scope)

    async def _let_in(self, scope: Scope) -> VerifiedToken | None:
        token = None
        if not scope["route_handler"].opt.get(self._exclude_opt_key):
            token = await self._guard.admit(ConnectionRequest(scope, scope["headers"]))
        scope["user"], scope["auth"] = None if token is None else TokenUser(token), token
        remember(scope, self._guard, token)
        return token
