"""fake_token: what a handler gets of a verified request, without a key, an issuer or a request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jwks_guard.testing.profile import (
    DEFAULT_AUDIENCE,
    DEFAULT_LIFETIME,
    DEFAULT_SCOPE,
    DEFAULT_SUBJECT,
    IN_PROCESS_ISSUER,
    access_token_claims,
    edited,
    with_userinfo,
)
from jwks_guard.verify.token import VerifiedToken


class FakeToken(VerifiedToken):
    """A VerifiedToken that nobody verified; `fake_token` makes it.

    No key has signed it. So every verifier's `remaining` refuses it, and with that a guarded
    WebSocket does. It stays a FakeToken when it is copied or pickled.
    """

    __slots__ = ()

    def __init__(self, header: dict[str, Any], claims: dict[str, Any]) -> None:
        super().__init__(header, claims, key=None, valid_until=0.0)

    def __reduce__(self) -> tuple[Callable[..., FakeToken], tuple[Any, ...]]:
        return FakeToken, (self._header, self._claims)

    def __repr__(self) -> str:
        return f"<FakeToken kid={self.kid!r}, not verified>"


def fake_token(
    *,
    sub: str | None = DEFAULT_SUBJECT,
    scope: str | None = DEFAULT_SCOPE,
    permissions: Sequence[str] | None = None,
    lifetime: float = DEFAULT_LIFETIME,
    kid: str = "fake-key",
    claims: Mapping[str, Any] | None = None,
    header: Mapping[str, Any] | None = None,
    **named: Any,
) -> FakeToken:
    """A token of Auth0's profile for unit tests, which nobody signed and nobody verified.

    `scope` separates its values by spaces. `lifetime` is in seconds from now, by the real clock; a
    negative one has ended. Any other claim is given by its name (`org_id="org_1"`), or in `claims`
    if it is no Python name (`claims={"https://acme.com/roles": ["admin"]}`). `claims` and `header`
    add and replace members; a value of None drops one. The token holds what JSON makes of the
    values: tuples become arrays. What JSON can't hold, such as a set, raises TypeError or
    ValueError.

    It can't be mistaken for a verified token: it has no compact form that a client could send, a
    verifier's `remaining` raises RemovedKeyError for it (RevokedKeyError if its `kid` is
    distrusted), a guarded WebSocket is not accepted with it, and its repr says that it is fake.
    """
    usual = access_token_claims(
        issuer=IN_PROCESS_ISSUER,
        sub=sub,
        audience=with_userinfo(IN_PROCESS_ISSUER, DEFAULT_AUDIENCE),
        scope=scope,
        client_id="local-client",
        now=time.time(),
        lifetime=lifetime,
    )
    usual |= {"permissions": permissions, **(claims or {})}
    parameters = {"alg": "RS256", "typ": "JWT", "kid": kid}
    return FakeToken(_as_parsed(edited(parameters, header)), _as_parsed(edited(usual, named)))


def _as_parsed(members: dict[str, Any]) -> dict[str, Any]:
    """A copy that holds the types that a parsed token has, and that the caller can't change."""
    parsed: dict[str, Any] = json.loads(json.dumps(members, allow_nan=False))
    return parsed
