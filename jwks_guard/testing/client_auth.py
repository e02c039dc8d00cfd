"""How the tenant's one client proves who it is: by its secret or by a signed assertion."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

import jwt

from jwks_guard.testing.oauth_form import OAuthError
from jwks_guard.testing.tokens import signed_claims

if TYPE_CHECKING:
    from starlette.requests import Request

    from jwks_guard.testing.settings import Settings

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_ALGORITHMS = ["RS256", "RS384", "PS256"]
_ASSERTION_LIFETIME = 300.0  # s


class ClientAuthentication:
    """Checks the tenant's one client, and remembers the assertions it saw."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._used: set[str] = set()

    def is_attempted(self, request: Request, parameters: Mapping[str, str]) -> bool:
        """Whether the client sends more than its name."""
        proofs = {"client_secret", "client_assertion"}
        return bool(proofs & parameters.keys()) or "Authorization" in request.headers

    def check(self, request: Request, parameters: Mapping[str, str]) -> None:
        """Raise OAuthError unless the client proves who it is."""
        if "client_assertion" in parameters:
            self._check_assertion(parameters)
            return
        given = _basic(request.headers.get("Authorization", "")) or (
            parameters.get("client_id", ""),
            parameters.get("client_secret", ""),
        )
        settings = self._settings
        expected = (settings.client_id, settings.client_secret)
        if not all(map(_equal, given, expected)):
            raise OAuthError(401, "access_denied", "Unauthorized")

    def _check_assertion(self, parameters: Mapping[str, str]) -> None:
        settings = self._settings
        if parameters.get("client_assertion_type") != ASSERTION_TYPE:
            raise OAuthError(400, "invalid_request", "Unsupported client_assertion_type.")
        if settings.client_public_key is None:
            raise OAuthError(401, "invalid_client", "The client has no public key.")
        try:
            claims = signed_claims(
                parameters["client_assertion"],
                settings.client_public_key,
                algorithms=ASSERTION_ALGORITHMS,
                audience=settings.issuer,
                issuer=settings.client_id,
            )
        except jwt.InvalidTokenError:
            raise OAuthError(401, "invalid_client", "Failed to verify client_assertion.") from None
        if claims.get("sub") != settings.client_id or not claims.get("jti"):
            raise OAuthError(401, "invalid_client", "The assertion needs sub and jti.")
        if not 0 < claims["exp"] - settings.clock.time() <= _ASSERTION_LIFETIME:
            raise OAuthError(401, "invalid_client", "The assertion must end within 5 minutes.")
        self._use_once(claims["jti"])

    def _use_once(self, jti: str) -> None:
        with self._lock:
            if jti in self._used:
                raise OAuthError(401, "invalid_client", "The assertion was used before.")
            self._used.add(jti)


def _basic(authorization: str) -> tuple[str, str] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return unquote_plus(client_id), unquote_plus(secret)


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
