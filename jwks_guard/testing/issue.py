"""A token of any shape for the person at this machine: what `jwks-guard tenant token` asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jwks_guard.testing.origins import has_own_host
from jwks_guard.testing.profile import DEFAULT_SCOPE, DEFAULT_SUBJECT, edited
from jwks_guard.testing.settings import ISSUE_PATH
from jwks_guard.testing.tokens import access_token_header, api_token_claims, sign

if TYPE_CHECKING:
    from starlette.requests import Request

    from jwks_guard.testing.keyring import Keyring
    from jwks_guard.testing.settings import Settings

_HOUR = 3600


class _Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sub: str = DEFAULT_SUBJECT
    scope: str = DEFAULT_SCOPE
    audience: str | None = None
    permissions: tuple[str, ...] | None = None
    expired: bool = False


def issue_route(settings: Settings, keyring: Keyring) -> Route:
    """Sign what a program on this machine wishes; a page in a browser gets nothing.

    A page of another origin may send JSON only if a preflight allows it, which nothing here does.
    """

    async def issue(request: Request) -> Response:
        if not has_own_host(request, settings):
            return _refused(403, "Host has to be an address, localhost or the issuer's")
        if request.headers.get("Content-Type") != "application/json":
            return _refused(415, "Send JSON")
        try:
            wish = msgspec.json.decode(await request.body(), type=_Wish)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _refused(400, "sub, scope and audience are strings, permissions an array")
        if wish.audience not in (None, *settings.audiences):
            known = ", ".join(settings.audiences)
            return _refused(400, f"The tenant has no API of this audience. It has: {known}")
        return JSONResponse({"token": _signed(wish)}, headers={"Cache-Control": "no-store"})

    def _signed(wish: _Wish) -> str:
        claims = api_token_claims(
            settings,
            sub=wish.sub,
            scope=wish.scope,
            audience=wish.audience,
            permissions=wish.permissions,
        )
        if wish.expired:
            claims |= {"iat": claims["iat"] - 2 * _HOUR, "exp": claims["iat"] - _HOUR}
        key = keyring.by_status("current")
        return sign(key, header=access_token_header(key), claims=edited(claims, None))

    return Route(ISSUE_PATH, issue, methods=["POST"])


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status)
