"""Compact JWS of any shape (RFC 7515 section 3.1), also shapes that no honest tenant makes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jwt
from jwt.utils import base64url_encode

from jwks_guard.testing import profile

if TYPE_CHECKING:
    from jwt.types import Options

    from jwks_guard.testing.keyring import Keyring
    from jwks_guard.testing.keys import PublicKey, SigningKey
    from jwks_guard.testing.settings import Settings

# The tenant's clock decides about time, not the one that PyJWT reads.
_TIMELESS: Options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}


def sign(key: SigningKey, *, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """A compact JWS by `key`; `header` and `claims` go in as they are, right or wrong."""
    signing_input = _segment(header) + b"." + _segment(claims)
    return (signing_input + b"." + base64url_encode(key.sign(signing_input))).decode()


def access_token_header(key: SigningKey) -> dict[str, Any]:
    """The JOSE header of an access token in Auth0's profile."""
    return {"alg": key.algorithm, "typ": "JWT", "kid": key.kid}


def access_token_claims(
    settings: Settings,
    *,
    sub: str,
    audience: str | Sequence[str],
    scope: str | None,
    lifetime: float | None = None,
) -> dict[str, Any]:
    """The claims of an access token in Auth0's profile; `lifetime` is in seconds."""
    return profile.access_token_claims(
        issuer=settings.issuer,
        sub=sub,
        audience=audience,
        scope=scope,
        client_id=settings.client_id,
        now=settings.clock.time(),
        lifetime=settings.token_lifetime if lifetime is None else lifetime,
    )


def api_token_claims(
    settings: Settings,
    *,
    sub: str,
    scope: str | None,
    permissions: Sequence[str] | None,
    audience: str | Sequence[str] | None,
    lifetime: float | None = None,
) -> dict[str, Any]:
    """The claims of a user's access token, for the first API of the tenant if none is named.

    An `audience` that is a string is joined by the userinfo endpoint, as is usual.
    """
    audience = settings.audience if audience is None else audience
    claims = access_token_claims(
        settings,
        sub=sub,
        audience=profile.with_userinfo(settings.issuer, audience),
        scope=scope,
        lifetime=lifetime,
    )
    return {**claims, "permissions": permissions}


def own_claims(
    compact: str, *, settings: Settings, keyring: Keyring, audience: str
) -> dict[str, Any]:
    """The claims of a token for `audience` that this tenant signed, whether expired or not.

    Raises `jwt.InvalidTokenError`; a token by a revoked key is invalid.
    """
    try:
        key = keyring.key(jwt.get_unverified_header(compact).get("kid", ""))
    except LookupError:
        raise jwt.InvalidTokenError("unknown key") from None
    if key.revoked:
        raise jwt.InvalidTokenError("revoked key")
    return signed_claims(
        compact,
        key.private_key.public_key(),
        algorithms=[key.algorithm],
        audience=audience,
        issuer=settings.issuer,
    )


def signed_claims(
    compact: str, key: PublicKey | str, *, algorithms: list[str], audience: str, issuer: str
) -> dict[str, Any]:
    """The claims signed by `key` (PEM or the key itself); its `exp` is a number, past or not.

    Raises `jwt.InvalidTokenError`.
    """
    claims: dict[str, Any] = jwt.decode(
        compact, key, algorithms=algorithms, audience=audience, issuer=issuer, options=_TIMELESS
    )
    if not isinstance(claims.get("exp"), int | float):
        raise jwt.InvalidTokenError("no expiry")
    return claims


def _segment(document: Mapping[str, Any]) -> bytes:
    return base64url_encode(json.dumps(document, separators=(",", ":")).encode())
