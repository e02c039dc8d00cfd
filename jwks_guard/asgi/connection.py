"""An ASGI connection as token sources see it, and the token that it was let in with."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import URL

from jwks_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import HTTPConnection
    from starlette.types import Scope

    from jwks_guard.net.bearer import Header
    from jwks_guard.verify.request import RequestGuard
    from jwks_guard.verify.token import VerifiedToken

_KEY = "jwks_guard"
_ASCII = bytes(range(0x80))


class ConnectionRequest:
    """The request of an HTTP or WebSocket connection; `native` is its ASGI scope."""

    __slots__ = ("headers", "native")

    def __init__(self, scope: Scope) -> None:
        self.native = scope
        self.headers: Iterable[Header] = scope["headers"]

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
    """Note in `scope` which guard let the connection in, and with which token."""
    scope[_KEY] = (guard, token)


def remembered(scope: Scope, guard: RequestGuard) -> VerifiedToken | None:
    """The token that another guard took from the same place, and the same verifier accepted."""
    other, token = scope.get(_KEY, (None, None))
    if other is None or other.verifier is not guard.verifier or other.sources != guard.sources:
        return None
    accepted: VerifiedToken | None = token
    return accepted


def get_token(connection: HTTPConnection) -> VerifiedToken:
    """The token of a Starlette Request or WebSocket that a guard has let in.

    Raises ConfigurationError for an anonymous one (`exclude_paths`, `optional` and
    `preflight="pass"` let these in), and where no guard is: a fault of the application.
    """
    token: VerifiedToken | None = connection.scope.get(_KEY, (None, None))[1]
    if token is None:
        raise ConfigurationError(
            "This request has no verified token. Guard its route with JWKSGuardMiddleware or a "
            "Guard, without exclude_paths, optional and preflight='pass'; where requests may be "
            "anonymous, look at request.state.token, which is None then."
        )
    return token
