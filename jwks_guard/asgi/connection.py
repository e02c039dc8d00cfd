"""An ASGI connection as token sources see it, and the token that it was let in with."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from starlette.datastructures import URL

from jwks_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import HTTPConnection
    from starlette.types import Scope

    from jwks_guard.net.bearer import Header
    from jwks_guard.verify.request import RequestGuard
    from jwks_guard.verify.token import VerifiedToken

REMEMBERED = "jwks_guard"
"""The key in an ASGI scope of the guards that have let the connection in: (guard, token) each."""
_ASCII = bytes(range(0x80))


class ConnectionRequest(msgspec.Struct, frozen=True):
    """The request of an HTTP or WebSocket connection: its ASGI scope, and the headers in that."""

    native: Scope
    headers: Iterable[Header]

    def __repr__(self) -> str:
        return f"<ConnectionRequest {self.method!r}>"  # the headers carry the token

    def __rich_repr__(self) -> list[tuple[str, str]]:
        """What Rich shows, as in a traceback."""
        return [("method", self.method)]

    @property
    def method(self) -> str:
        """The method; GET for a WebSocket."""
        method: str = self.native.get("method", "GET")
        return method

    @property
    def url(self) -> str:
        """The URL."""
        query: bytes = self.native.get("query_string", b"")
        if query.isascii():
            return str(URL(scope=self.native))
        # Some servers pass on any bytes, and Starlette decodes them as UTF-8.
        return str(URL(scope={**self.native, "query_string": quote(query, _ASCII).encode()}))

    @property
    def websocket(self) -> bool:
        """Whether it is a WebSocket."""
        return bool(self.native["type"] == "websocket")


def remember(scope: Scope, guard: RequestGuard, token: VerifiedToken | None) -> None:
    """Note in `scope` that `guard` let the connection in, and with which token; no other counts."""
    scope[REMEMBERED] = ((guard, token),)


def remembered(scope: Scope, guard: RequestGuard) -> VerifiedToken | None:
    """The token that another guard took from the same place, and the same verifier accepted."""
    token: VerifiedToken | None
    for other, token in scope.get(REMEMBERED, ()):
        same = other.verifier is guard.verifier and other.sources == guard.sources
        if same and token is not None:
            return token
    return None


def get_token(connection: HTTPConnection) -> VerifiedToken:
    """The token of a Starlette Request or WebSocket that a guard has let in.

    Raises ConfigurationError for an anonymous one (`exclude_paths`, `optional` and
    `preflight="pass"` let these in), where no guard is, and where guards of one request took
    different tokens: a fault of the application.
    """
    return admission(connection.scope)[1]


def admission(scope: Scope) -> tuple[RequestGuard, VerifiedToken]:
    """The guard that let the connection in last, and its token; raises as `get_token` does."""
    entries: tuple[tuple[RequestGuard, VerifiedToken | None], ...] = scope.get(REMEMBERED, ())
    admitted = [(guard, token) for guard, token in entries if token is not None]
    if not admitted:
        raise ConfigurationError(
            "This request has no verified token. Guard its route with JWKSGuardMiddleware or a "
            "Guard, without exclude_paths, optional and preflight='pass'; where requests may be "
            "anonymous, look at request.state.token, which is None then."
        )
    # Else the client would choose which one counts, by sending what an optional guard looks for.
    if any(token != admitted[0][1] for _, token in admitted[1:]):
        raise ConfigurationError(
            "This request was let in with two different tokens, by two guards. Take the token of "
            "the guard that is meant: Annotated[VerifiedToken, Depends(guard)]."
        )
    return admitted[-1]
