"""A dependency of FastAPI that gives the verified token: `Security(Guard(verifier))`.

`pip install 'jwks-guard[fastapi]'`. FastAPI reads annotations of an object's `__call__`, where it
can't resolve strings: no `from __future__ import annotations` here.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, NoReturn, Unpack, cast

from fastapi import Depends, HTTPException, WebSocket, WebSocketException
from fastapi.openapi import models
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from fastapi.websockets import WebSocketState
from starlette.types import Message, Receive, Scope

from jwks_guard.asgi import RequestVerifier
from jwks_guard.asgi.connection import (
    REMEMBERED,
    ConnectionRequest,
    admission,
    remembered,
)
from jwks_guard.asgi.refusals import close_code, takes_response
from jwks_guard.asgi.websocket import GuardedSocket
from jwks_guard.errors import ConfigurationError, RequestRefusedError, TokenExpiredError
from jwks_guard.verify.request import GuardOptions, RequestGuard
from jwks_guard.verify.sources import FromCookie, FromHeader, TokenSource
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verifier import TokenVerifier

__all__ = ["CurrentToken", "Guard", "RefusedException", "current_token"]


_REFUSED = "jwks_guard.refused"
"""The key in an ASGI scope of the error by which its body was refused."""
_OF_THE_BODY = frozenset({"content-type", "content-length", "content-encoding"})


class RefusedException(HTTPException):
    """A refusal, for the application's exception handlers.

    `error` is the RequestRefusedError; `detail` is the body of its `refusal`, as parsed, and
    `headers` are its headers, such as the challenge.
    """

    def __init__(self, error: RequestRefusedError) -> None:
        refusal = error.refusal
        # Of the body that the handler makes, FastAPI says type and length itself.
        headers = {k: v for k, v in refusal.fields.items() if k not in _OF_THE_BODY}
        super().__init__(refusal.status, _parsed(refusal.body), headers)
        self.error = error


class Guard(SecurityBase):
    """Lets in requests whose bearer token `verifier` accepts; a dependency that gives the token.

    `Annotated[VerifiedToken, Security(guard, scopes=["read:things"])]` requires these scopes, all
    of them, and those of the dependencies that lead to it; `Depends(guard)` requires none. With
    `optional`, `Depends(guard)` gives None for an anonymous request.

    Refusals are raised as RefusedException. A WebSocket is refused before it is accepted, by
    WebSocketException where the server can't answer it by HTTP. An open one is closed within a
    second once its token is refused, as by JWKSGuardMiddleware. A route that reads the body itself
    gets RefusedException from that once the token is refused.

    The token of a JWKSGuardMiddleware or Guard that ran before is taken if it is of the same
    verifier and the same `token_from`; then only what it grants is looked at, and that neither its
    time nor the trust in its key has ended meanwhile.

    Arguments:
        verifier: a TokenVerifier or MultiIssuerVerifier.
        scheme_name: the name in OpenAPI; two guards of one app need two names.
        description: what OpenAPI says about it.
        model: the scheme in OpenAPI; needed where `token_from` is functions alone. By default it is
            that of the first FromHeader or FromCookie, and for the Authorization header
            `openIdConnect`, or a bearer token where the verifier has no `discovery_url`.
        options: those of RequestGuard.

    Raises ConfigurationError for an argument that can't be used.

    """

    def __init__(
        self,
        verifier: RequestVerifier,
        *,
        scheme_name: str | None = None,
        description: str | None = None,
        model: models.SecurityBase | None = None,
        **options: Unpack[GuardOptions],
    ) -> None:
        self.verifier = verifier
        self._guard = guard = RequestGuard(verifier, **options)
        self._guards: dict[tuple[str, ...], RequestGuard] = {}
        self.scheme_name = scheme_name or type(self).__name__
        self.model = model or _model(verifier, guard.sources, description)

    async def __call__(
        self, connection: HTTPConnection, scopes: SecurityScopes
    ) -> VerifiedToken | None:
        """The token of a Request or WebSocket; raises RefusedException, WebSocketException."""
        required, scope = scopes.scopes, connection.scope
        guard = self._requiring(tuple(required)) if required else self._guard
        before = scope.get(REMEMBERED, ())
        try:
            if before and (token := remembered(scope, guard)) is not None:
                _check_again(guard, token)
                return token
            token = await guard.admit(ConnectionRequest(scope, scope["headers"]))
            if required and token is None:  # scopes are asked of somebody
                guard.check(token)
        except RequestRefusedError as error:
            _refuse(connection, error)
        if token is not None:
            scope[REMEMBERED] = (*before, (guard, token)) if before else ((guard, token),)
            if scope["type"] == "websocket":  # isinstance of an ABC takes longer than all of this
                _watch(cast("WebSocket", connection), guard, self.verifier, token)
            else:
                request: Any = connection  # `cast` would be a call for each request
                # A Starlette without these attributes raises here, and the request is refused.
                if not request._stream_consumed:
                    request._receive = partial(_next_message, request._receive, scope, guard, token)
        return token

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Run the verifier as long as the app: `FastAPI(lifespan=guard.lifespan)`.

        In a lifespan of your own: `async with guard.lifespan(app): yield`. Without it the verifier
        starts with the first request, and ends with the process.
        """
        try:
            await self.verifier.start()
            yield
        finally:
            await self.verifier.aclose()

    def _requiring(self, scopes: tuple[str, ...]) -> RequestGuard:
        guard = self._guards.get(scopes)
        if guard is None:
            guard = self._guards[scopes] = self._guard.requiring(required_scopes=scopes)
        return guard


async def current_token(connection: HTTPConnection, scopes: SecurityScopes) -> VerifiedToken:
    """The token that a guard of the app or router, or the middleware, has let this request in with.

    `Security(current_token, scopes=[...])` requires these scopes, as a Guard does.

    Raises RefusedException, WebSocketException, and ConfigurationError, a fault of the app and HTTP
    500: no guard has let the request in, one has as anonymous, or two have with different tokens.
    """
    guard, token = admission(connection.scope)
    try:
        if scopes.scopes:
            guard = guard.requiring(required_scopes=scopes.scopes)
        _check_again(guard, token)
    except RequestRefusedError as error:
        _refuse(connection, error)
    return token


CurrentToken = Annotated[VerifiedToken, Depends(current_token)]
"""For routes that a guard has let a request in to before: `async def me(token: CurrentToken)`."""


def _check_again(guard: RequestGuard, token: VerifiedToken) -> None:
    """Raise what refuses `token` now, or for what `guard` requires.

    FastAPI has read the body since the middleware let the request in, as slowly as it was sent.
    """
    try:
        cast("RequestVerifier", guard.verifier).remaining(token)
    except RequestRefusedError as error:
        error.refusal = guard.refusal(error)
        raise
    guard.check(token)


def _refuse(connection: HTTPConnection, error: RequestRefusedError) -> NoReturn:
    if isinstance(connection, WebSocket) and (
        _is_accepted(connection) or not takes_response(connection.scope)
    ):
        raise WebSocketException(close_code(error.refusal)) from error
    raise RefusedException(error) from error


def _watch(
    websocket: WebSocket, guard: RequestGuard, verifier: RequestVerifier, token: VerifiedToken
) -> None:
    """Put a GuardedSocket between `websocket` and the server, as long as the endpoint runs."""
    # A Starlette without these two attributes raises here, and the connection is refused.
    receive, send = websocket._receive, websocket._send

    async def refuse(error: RequestRefusedError) -> None:  # by `accept`, which sets the state first
        websocket._receive, websocket._send = receive, send
        websocket.application_state = WebSocketState.CONNECTING
        error.refusal = guard.refusal(error)
        _refuse(websocket, error)

    socket = GuardedSocket(token, verifier, refuse, receive, send)
    websocket._receive, websocket._send = socket.receive, socket.send
    endpoint = cast("asyncio.Task[Any]", asyncio.current_task())
    endpoint.add_done_callback(lambda _: socket.stop())
    if _is_accepted(websocket):
        socket.watch()


async def _next_message(
    receive: Receive, scope: Scope, guard: RequestGuard, token: VerifiedToken
) -> Message:
    """The next message of a request; raises RefusedException for a body that comes too late."""
    refused: RequestRefusedError | None = scope.get(_REFUSED)
    if refused is None:
        message = await receive()
        if message["type"] != "http.request":
            return message
        try:
            cast("RequestVerifier", guard.verifier).remaining(token)
        except RequestRefusedError as error:
            # All of the body came in time, or there is none.
            if isinstance(error, TokenExpiredError) and not (
                message.get("body") or message.get("more_body")
            ):
                return message
            error.refusal = guard.refusal(error)
            # Kept, as a route that goes on would take the rest of the body for all of it.
            scope[_REFUSED] = refused = error
        else:
            return message
    raise RefusedException(refused) from refused


def _is_accepted(websocket: WebSocket) -> bool:
    """Whether a dependency that ran before has accepted `websocket`."""
    return websocket.application_state is WebSocketState.CONNECTED


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:  # of an `on_refusal` that answers otherwise
        return body.decode(errors="replace")


def _model(
    verifier: RequestVerifier, sources: tuple[TokenSource, ...], description: str | None
) -> models.SecurityBase:
    """The OpenAPI scheme of the first source that OpenAPI can describe (version 3.1, 4.8.27)."""
    for source in sources:
        if isinstance(source, FromCookie):
            return _api_key(models.APIKeyIn.cookie, source.name, description)
        if isinstance(source, FromHeader) and source == FromHeader():
            url = verifier.discovery_url if isinstance(verifier, TokenVerifier) else None
            if url is not None:
                return models.OpenIdConnect(openIdConnectUrl=url, description=description)
            return models.HTTPBearer(bearerFormat="JWT", description=description)
        if isinstance(source, FromHeader):
            return _api_key(models.APIKeyIn.header, source.name, description)
    raise ConfigurationError(
        "OpenAPI can't describe a token_from of functions alone; give the Guard its model=, such "
        "as fastapi.openapi.models.HTTPBearer()."
    )


def _api_key(place: models.APIKeyIn, name: str, description: str | None) -> models.SecurityBase:
    return models.APIKey.model_validate({"in": place, "name": name, "description": description})
