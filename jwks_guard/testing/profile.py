"""The claims of access tokens in Auth0's profile (pure), and the defaults of every token here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

IN_PROCESS_ISSUER = "https://tenant.test/"
DEFAULT_AUDIENCE = "https://api.local.test"
DEFAULT_SUBJECT = "auth0|alice"
DEFAULT_SCOPE = "read:things"
DEFAULT_LIFETIME = 86_400.0  # s


def access_token_claims(
    *,
    issuer: str,
    sub: str | None,
    audience: str | Sequence[str],
    scope: str | None,
    client_id: str,
    now: float,
    lifetime: float,
) -> dict[str, Any]:
    """The claims of a client's token, made at `now` (seconds since 1970) for `lifetime` seconds."""
    issued_at = int(now)
    return {
        "iss": issuer,
        "sub": sub,
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + int(lifetime),
        "scope": scope,
        "azp": client_id,
    }


def with_userinfo(issuer: str, audience: str | Sequence[str]) -> str | Sequence[str]:
    """The audience of a user's token: one that is a string is joined by the userinfo endpoint."""
    return [audience, f"{issuer}userinfo"] if isinstance(audience, str) else audience


def edited(base: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """`base` with `changes` laid over it; a change to None drops the member."""
    merged = {**base, **(changes or {})}
    return {name: value for name, value in merged.items() if value is not None}
