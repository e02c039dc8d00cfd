"""The ASGI middleware: only requests with a token that the verifier accepts reach the app."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from starlette.authentication import AuthCredentials, BaseUser, UnauthenticatedUser

from jwks_guard.asgi.lifespan import run_lifespan
from jwks_guard.asgi.paths import excluded_paths
from jwks_guard.asgi.refusals import send_refusal
from jwks_guard.asgi.subprotocol import answering_bearer, hide_token, read_offer
from jwks_guard.asgi.websocket import GuardedSocket
from jwks_guard.errors import InvalidRequestError
from jwks_guard.net import bearer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from jwks_guard.asgi.protocol import RequestVerifier
    from jwks_guard.verify.token import VerifiedToken

_log = logging.getLogger(__name__)


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
    """`request.auth`: `authenticated`, and the token's scopes and permissions, once asked for."""

    def __init__(self, token: VerifiedToken) -> None:
        self._token = token

    @cached_property
    def scopes(self) -> list[str]:  # type: ignore[override] # can be set, like what it overrides
        """A list of this request's own."""
        return ["authenticated", *self._token.scopes, *self._token.permissions]


class JWKSGuardMiddleware:
    """Lets through only requests whose bearer token `verifier` accepts (RFC 6750).

    A request that passes has `request.user` (TokenUser), `request.auth` (`authenticated` and the
    token's scopes and permissions, so that Starlette's `@requires` works) and
    `request.state.token` (VerifiedToken). An anonymous one, which only `exclude_paths`, a CORS
    preflight and `optional` let pass, has Starlette's UnauthenticatedUser, no scopes and None.

    Refusals are 400, 401, 403 and, with Retry-After, 503 where no key may be trusted. A WebSocket
    is refused before it is accepted; an open one is closed within a second, with 1008 once its
    token has expired or its key is distrusted or removed, with 1013 once trust in the keys ran
    out. An HTTP response that has begun, streaming or not, is not cut short.

    Through ASGI lifespan the verifier is started before the app and closed after it. Lifespan
    does not reach a mounted app: a guard in one relies on the verifier starting by itself.

    Put CORSMiddleware outside of this one, or browsers can't read the refusals; in Starlette that
    is the middleware added last.

    Arguments:
        app: the ASGI application to guard.
        verifier: a TokenVerifier or MultiIssuerVerifier.
        exclude_paths: HTTP paths below `root_path` that need no token and where none is looked
            at: whole paths, or `/public/*` for everything below `/public/`.
        required_scopes: the scopes that every token must have, all of them, in `scope` or in
            Auth0's RBAC claim `permissions`.
        optional: lets a request without any Authorization header pass as anonymous. A bad token
            is refused all the same.
        debug_errors: tells clients the error's code and message. Not for production.
        bearer_subprotocol: takes the token of a WebSocket also from the offered subprotocols
            `bearer, <token>`, for browsers. The app sees neither of the two.
        realm: the challenge's `realm`; without one a request without credentials is answered
            with `WWW-Authenticate: Bearer` and nothing else.

    Raises:
        ConfigurationError: `exclude_paths`, `required_scopes` or `realm` can't be meant so.

    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        verifier: RequestVerifier,
        exclude_paths: Iterable[str] = (),
        required_scopes: Iterable[str] = (),
        optional: bool = False,
        debug_errors: bool = False,
        bearer_subprotocol: bool = False,
        realm: str | None = None,
    ) -> None:
        self.app = app
        self._verifier = verifier
        self._excluded = excluded_paths(exclude_paths)
        self._required = bearer.scope_tokens(required_scopes)
        self._optional = optional
        self._bearer_subprotocol = bearer_subprotocol
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
            except bearer.REFUSED as error:
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
        except bearer.REFUSED as error:
            await refuse(error)
            return
        if token is None:
            await self.app(scope, receive, send)
        else:
            socket = GuardedSocket(token, self._verifier, refuse, receive, send)
            await socket.run(self.app, scope)

    def _http_token(self, scope: Scope) -> bytes | None:
        """The token that a request came with; None for one that may be anonymous."""
        if _is_preflight(scope) or self._excluded.cover(scope):
            return None
        return self._unless_missing(bearer.bearer_token(scope["headers"]))

    def _socket_token(self, scope: Scope, send: Send) -> tuple[bytes | None, Send]:
        """The token that a WebSocket came with, and the `send` that accepts it fittingly."""
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
            if self._required:
                bearer.require_scopes(self._required, token.scopes | token.permissions)
            scope["user"], scope["auth"] = TokenUser(token), TokenCredentials(token)
        scope.setdefault("state", {})["token"] = token

    async def _refuse(self, scope: Scope, send: Send, error: bearer.Refused) -> None:
        _log.debug("refused with %d: %s", error.http_status, error.code)
        await send_refusal(self._refusal(error), scope, send)


def _is_preflight(scope: Scope) -> bool:
    """Tell a CORS preflight, which never has credentials (Fetch standard section 4.8)."""
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names
