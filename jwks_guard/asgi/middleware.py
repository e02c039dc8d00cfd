"""The ASGI middleware: only requests with a token that the verifier accepts reach the app."""

from __future__ import annotations

import logging
from asyncio import current_task
from functools import cached_property
from typing import TYPE_CHECKING, Unpack

import msgspec
from starlette.authentication import AuthCredentials, BaseUser, UnauthenticatedUser

from jwks_guard.asgi.connection import REMEMBERED, ConnectionRequest
from jwks_guard.asgi.exchange import GuardedExchange
from jwks_guard.asgi.lifespan import run_lifespan
from jwks_guard.asgi.paths import excluded_paths
from jwks_guard.asgi.preflight import (
    REFUSED_PREFLIGHT,
    Preflight,
    is_preflight,
    passes_preflight,
)
from jwks_guard.asgi.refusals import send_refusal
from jwks_guard.asgi.resource_metadata import ResourceMetadata
from jwks_guard.asgi.subprotocol import hiding_token, offered_token
from jwks_guard.asgi.websocket import GuardedSocket
from jwks_guard.base.arguments import require_flag
from jwks_guard.errors import MissingCredentialsError, RequestRefusedError
from jwks_guard.verify.request import GuardOptions, RequestGuard
from jwks_guard.verify.sources import token_sources

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from jwks_guard.asgi.protocol import RequestVerifier
    from jwks_guard.verify.token import VerifiedToken

_log = logging.getLogger(__name__)


class TokenUser(BaseUser, msgspec.Struct, frozen=True):
    """`request.user` of a request with an accepted token; its identity is the token's subject."""

    token: VerifiedToken

    @property
    def is_authenticated(self) -> bool:
        """True: only an accepted token makes a TokenUser."""
        return True

    @property
    def identity(self) -> str:
        """The token's `sub`, or an empty string if it has none."""
        return self.token.subject or ""

    @property
    def display_name(self) -> str:
        """The same as `identity`: access tokens carry no name that was made for display."""
        return self.identity


class TokenCredentials(AuthCredentials):
    """`request.auth`: `authenticated`, and the token's scopes, once asked for."""

    def __init__(self, token: VerifiedToken) -> None:
        self._token = token

    @cached_property
    def scopes(self) -> list[str]:  # type: ignore[override] # can be set, like what it overrides
        """A list of this request's own."""
        return ["authenticated", *self._token.scopes]


class JWKSGuardMiddleware:
    """Lets through only requests whose bearer token `verifier` accepts (RFC 6750).

    A request that passes has `request.user` (TokenUser), `request.auth` (`authenticated` and the
    token's scopes, so that Starlette's `@requires` works) and `request.state.token`
    (VerifiedToken). An anonymous one, which only `exclude_paths`, `optional` and `preflight="pass"`
    let pass, has Starlette's UnauthenticatedUser, no scopes and None.

    Refusals are 400, 401, 403 and, with Retry-After, 503 where no key may be trusted, or the
    verifier raises ConfigurationError, which is logged once, and 429 where the token's key was not
    looked up, as too many were. A WebSocket is refused before it is
    accepted: with the same answer where the server has the extension `websocket.http.response`,
    else with 403. An open one is closed within a second, with 1008 once its token has expired or
    its key is distrusted or removed, with 1013 once trust in the keys ran out; where the server
    takes application codes only, as daphne does, with 3000 and 4013.

    The body of a request that comes after its token was refused does not reach the app: the client
    gets the refusal. Within a second a response in several parts ends then, too; a token that only
    expires ends event streams alone. See GuardedExchange.

    Through ASGI lifespan the verifier is started before the app and closed after it. Lifespan
    does not reach a mounted app: a guard in one relies on the verifier starting by itself.

    Put CORSMiddleware outside of this one, or preflights are refused and browsers can't read the
    refusals; in Starlette that is the middleware added last.

    Arguments:
        app: the ASGI application to guard.
        verifier: a TokenVerifier or MultiIssuerVerifier.
        exclude_paths: paths below `root_path` that need no token and where none is looked at, for
            HTTP and WebSocket: whole paths, or `/public/*` for everything below `/public/`.
        preflight: "refuse" treats a CORS preflight as any other request without credentials, and
            warns once. "pass" lets what has its shape reach the app as anonymous: an app that does
            not look at the method answers it with its content.
        bearer_subprotocol: takes the token of a WebSocket also from the offered subprotocols
            `bearer, <token>`, for browsers. The app sees neither of the two.
        resource_metadata: what `protected_resource_metadata` gives is served here at its path,
            below `root_path`, to everybody, and named in challenges. A URL is only named: add its
            path to `exclude_paths` where this app serves it.
        options: those of RequestGuard: `token_from`, `required_scopes`, `any_scopes`,
            `required_permissions`, `claim_checks`, `optional`, `realm`, `debug_errors` and
            `on_refusal`.

    Raises:
        ConfigurationError: an argument can't be used.

    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        verifier: RequestVerifier,
        exclude_paths: Iterable[str] = (),
        preflight: Preflight = "refuse",
        bearer_subprotocol: bool = False,
        **options: Unpack[GuardOptions],
    ) -> None:
        self.app = app
        self._verifier = verifier
        self._excluded = excluded_paths(exclude_paths)
        self._passes_preflight = passes_preflight(preflight)
        require_flag("bearer_subprotocol", bearer_subprotocol)
        self._bearer_subprotocol = bearer_subprotocol
        if bearer_subprotocol:
            options["token_from"] = (*token_sources(options.get("token_from")), offered_token)
        metadata = options.get("resource_metadata")
        self._metadata = metadata if isinstance(metadata, ResourceMetadata) else None
        self._metadata_path = excluded_paths([self._metadata.path] if self._metadata else ())
        self._guard = RequestGuard(verifier, **options)
        self._warned = False
        self._opens_some = self._passes_preflight or self._excluded.any

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one connection, or run the lifespan."""
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await self._lifespan(scope, receive, send)
            return
        if self._metadata is not None and kind == "http" and self._metadata_path.cover(scope):
            await self._metadata.response(scope["method"])(scope, receive, send)
            return
        if self._opens_some and self._opens(scope):
            token = None
        else:
            try:
                token = await self._guard.admit(ConnectionRequest(scope, scope["headers"]))
            except RequestRefusedError as error:
                self._warn_of_preflight(error, scope)
                await send_refusal(error.refusal, scope, send)
                return
        scope.setdefault("state", {})["token"] = token
        scope[REMEMBERED] = ((self._guard, token),)
        if token is None:
            scope["user"], scope["auth"] = UnauthenticatedUser(), AuthCredentials()
            await self.app(scope, receive, send)
            return
        scope["user"], scope["auth"] = TokenUser(token), TokenCredentials(token)
        if kind == "websocket":
            await self._websocket(token, scope, receive, send)
            return
        # As GuardedExchange.run, without one coroutine more for each request. To look up the task
        # takes long, and a body of a GET means nothing (RFC 9110 section 9.3.1).
        app = None if scope["method"] == "GET" else current_task()
        exchange = GuardedExchange(token, self._verifier, receive, send, app)
        try:
            await self.app(scope, exchange, exchange.send)
        except BaseException as failure:
            if not exchange.has_caused(failure):
                raise
        exchange.app_ended = True
        if exchange.error is not None or exchange.next_look is not None:
            await self._finish(exchange, scope, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            raise RuntimeError("a connection of unknown type can't be guarded")
        await run_lifespan(self.app, self._verifier, scope, receive, send)

    async def _finish(self, exchange: GuardedExchange, scope: Scope, send: Send) -> None:
        error = await exchange.finish()
        if error is not None:
            await send_refusal(self._guard.refusal(error), scope, send)

    async def _websocket(
        self, token: VerifiedToken, scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def refuse(error: RequestRefusedError) -> None:
            await send_refusal(self._guard.refusal(error), scope, send)

        answer = hiding_token(scope, send) if self._bearer_subprotocol else send
        socket = GuardedSocket(token, self._verifier, refuse, receive, answer)
        await socket.run(self.app, scope)

    def _opens(self, scope: Scope) -> bool:
        """Whether the app takes this connection from everybody."""
        return self._excluded.cover(scope) or (self._passes_preflight and is_preflight(scope))

    def _warn_of_preflight(self, error: RequestRefusedError, scope: Scope) -> None:
        missing = isinstance(error, MissingCredentialsError)
        if missing and not self._warned and is_preflight(scope):
            self._warned = True
            _log.warning("%s", REFUSED_PREFLIGHT)
