"""What the tenant says of a user: in ID tokens (OpenID Connect Core 1.0) and at /userinfo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jwt
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jwks_guard.testing.profile import edited
from jwks_guard.testing.settings import USERINFO_PATH
from jwks_guard.testing.tokens import own_claims

if TYPE_CHECKING:
    from starlette.requests import Request

    from jwks_guard.testing.codes import Login
    from jwks_guard.testing.keyring import Keyring
    from jwks_guard.testing.settings import Settings


def user_audience(settings: Settings, login: Login) -> str | list[str]:
    """The audience of a user's access token: with `openid`, /userinfo takes it too."""
    if "openid" in login.scopes:
        return [login.audience, settings.url(USERINFO_PATH)]
    return login.audience


def user_claims(sub: str, scopes: Sequence[str]) -> dict[str, Any]:
    """What the scopes give of a user whose only datum is its `sub` (section 5.4)."""
    name = sub.rpartition("|")[2]
    claims: dict[str, Any] = {"sub": sub}
    if "profile" in scopes:
        claims |= {"name": name, "nickname": name}
    if "email" in scopes:
        claims |= {"email": f"{name}@users.test", "email_verified": True}
    return claims


def id_token_claims(settings: Settings, login: Login) -> dict[str, Any]:
    """The claims of an ID token for the tenant's client (section 2)."""
    now = int(settings.clock.time())
    claims = {
        "iss": settings.issuer,
        "aud": settings.client_id,
        "iat": now,
        "exp": now + int(settings.token_lifetime),
        "nonce": login.nonce,
        **user_claims(login.sub, login.scopes),
    }
    return edited(claims, None)


def userinfo_route(settings: Settings, keyring: Keyring) -> Route:
    """Where an access token gets the claims of its user (section 5.3)."""

    async def userinfo(request: Request) -> Response:
        _, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            claims = own_claims(
                token, settings=settings, keyring=keyring, audience=settings.url(USERINFO_PATH)
            )
        except jwt.InvalidTokenError:
            claims = {"exp": 0}
        if claims["exp"] <= settings.clock.time():
            refusal = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            return Response("Unauthorized", 401, refusal, "text/plain")
        return JSONResponse(user_claims(claims.get("sub", ""), claims.get("scope", "").split()))

    return Route(USERINFO_PATH, userinfo, methods=["GET", "POST"])
