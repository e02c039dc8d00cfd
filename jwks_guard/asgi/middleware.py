"""The ASGI middleware: only requests with a token that the verifier accepts reach the app."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from starlette.authentication import AuthCredentials, BaseUser, UnauthenticatedUser

from jwks_guard.asgi.lifespan import run_lifespan
from jwks_guard.asgi.paths import excluded_paths
from jwks_guard.asgi.preflight import (
    REFUSED_PREFLIGHT,
    Preflight,
    is_preflight,
    passes_preflight,
)
from jwks_guard.asgi.refusals import send_refusal
from jwks_guard.asgi.subprotocol import answering_bearer, hide_token, read_offer
from jwks_guard.asgi.websocket import GuardedSocket
from jwks_guard.errors import ConfigurationError, InvalidRequestError, KeysUnavailableError
from jwks_guard.net import bearer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from jwks_guard.asgi.protocol import RequestVerifier
    from jwks_guard.verify.token import VerifiedToken

_log = logging.getLogger(__name__)

_REFUSED = (*bearer.REFUSED, ConfigurationError)


@dataclass(frozen=True, slots=True)
class TokenUser(BaseUser):
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
    takes application codes only, as daphne does, with 3000 and 4013. An HTTP response that has
    begun, streaming or not, is not cut short.

    Through ASGI lifespan the verifier is started before the app and closed after it. Lifespan
    does not reach a mounted app: a guard in one relies on the verifier starting by itself.

    Put CORSMiddleware outside of this one, or preflights are refused and browsers can't read the
    refusals; in Starlette that is the middleware added last.

    Arguments:
        app: the ASGI application to guard.
        verifier: a TokenVerifier or MultiIssuerVerifier.
        exclude_paths: paths below `root_path` that need no token and where none is looked at, for
            HTTP and WebSocket: whole paths, or `/public/*` for everything below `/public/`.
        required_scopes: the scopes that every token must have, all of them, in `scope` or `scp`:
            what its client was granted.
        any_scopes: scopes of which every token must have one. A refusal names the first of them.
        required_permissions: the permissions that every token must have, all of them, in Auth0's
            RBAC claim `permissions`: what its user may do, whatever the client was granted.
        optional: lets a request without any Authorization header pass as anonymous. A bad token
            is refused all the same.
        debug_errors: tells clients the error's code and message. Not for production.
        bearer_subprotocol: takes the token of a WebSocket also from the offered subprotocols
            `bearer, <token>`, for browsers. The app sees neither of the two.
        realm: the challenge's `realm`; without one a request without credentials is answered
            with `WWW-Authenticate: Bearer` and nothing else.
        preflight: "refuse" treats a CORS preflight as any other request without credentials, and
            warns once. "pass" lets what has its shape reach the app as anonymous: an app that does
            not look at the method answers it with its content.

    Raises:
        ConfigurationError: `exclude_paths`, `realm`, `preflight`, or what is required can't be
            meant so.

    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        verifier: RequestVerifier,
        exclude_paths: Iterable[str] = (),
        required_scopes: Iterable[str] = (),
        any_scopes: Iterable[str] = (),
        required_permissions: Iterable[str] = (),
        optional: bool = False,
        debug_errors: bool = False,
        bearer_subprotocol: bool = False,
        realm: str | None = None,
        preflight: Preflight = "refuse",
    ) -> None:
        self.app = app
        self._verifier = verifier
        self._excluded = excluded_paths(exclude_paths)
        required = bearer.requirement(required_scopes, any_scopes, required_permissions)
        self._required = required or None
        self._optional = optional
        self._bearer_subprotocol = bearer_subprotocol
        self._passes_preflight = passes_preflight(preflight)
        self._logged: set[str] = set()
        self._refusal = partial(
            bearer.refusal,
            realm=None if realm is None else bearer.quotable_realm(realm),
            debug=debug_errors,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one connection, or run the lifespan."""
        if scope["type"] == "http":
            try:
                compact = self._http_token(scope)
                token = None if compact is None else await self._verifier.verify(compact)
                self._introduce(token, scope)
            except _REFUSED as error:
                await self._refuse(scope, send, error)
                return
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await run_lifespan(self.app, self._verifier, scope, receive, send)
        else:
            raise RuntimeError("a connection of unknown type can't be guarded")

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        refuse = partial(self._refuse, scope, send)
        try:
            compact, send = self._socket_token(scope, send)
            token = None if compact is None else await self._verifier.verify(compact)
            self._introduce(token, scope)
        except _REFUSED as error:
            await refuse(error)
            return
        if token is None:
            await self.app(scope, receive, send)
        else:
            socket = GuardedSocket(token, self._verifier, refuse, receive, send)
            await socket.run(self.app, scope)

    def _http_token(self, scope: Scope) -> bytes | None:
        """The token that a request came with; None for one that may be anonymous."""
        if self._excluded.cover(scope) or (self._passes_preflight and is_preflight(scope)):
            return None
        return self._unless_missing(bearer.bearer_token(scope["headers"]))

    def _socket_token(self, scope: Scope, send: Send) -> tuple[bytes | None, Send]:
        """The token that a WebSocket came with, and the `send` that accepts it fittingly."""
        if self._excluded.cover(scope):
            return None, send
        compact = bearer.bearer_token(scope["headers"])
        if not self._bearer_subprotocol:
            return self._unless_missing(compact), send
        offer = read_offer(scope.get("subprotocols") or ())
        if offer.token is None:
            return self._unless_missing(compact), send
        if compact is not None:
            raise InvalidRequestError("one token in the Authorization header, one in a subprotocol")
        hide_token(scope, offer)
        return offer.token, answering_bearer(send, offer)

    def _unless_missing(self, compact: bytes | None) -> bytes | None:
        if compact is None and not self._optional:
            raise bearer.MissingCredentialsError("the request has no Authorization header")
        return compact

    def _introduce(self, token: VerifiedToken | None, scope: Scope) -> None:
        """Tell the app who is asking, where Starlette looks for it, if the token is enough."""
        if token is None:
            scope["user"], scope["auth"] = UnauthenticatedUser(), AuthCredentials()
        else:
            if self._required is not None:
                self._required.check(token)
            scope["user"], scope["auth"] = TokenUser(token), TokenCredentials(token)
        scope.setdefault("state", {})["token"] = token

    async def _refuse(
        self, scope: Scope, send: Send, error: bearer.Refused | ConfigurationError
    ) -> None:
        if isinstance(error, ConfigurationError):  # of the verifier: no client's fault
            self._log_once(logging.ERROR, f"tokens are refused with 503: {error}")
            error = KeysUnavailableError(str(error))
        elif isinstance(error, bearer.MissingCredentialsError) and is_preflight(scope):
            self._log_once(logging.WARNING, REFUSED_PREFLIGHT)
        _log.debug("refused with %d: %s", error.http_status, error.code)
        await send_refusal(self._refusal(error), scope, send)

    def _log_once(self, level: int, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            _log.log(level, "%s", text)
