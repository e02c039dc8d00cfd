"""The token endpoint: client credentials by secret or by signed assertion."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_plus

import jwt
from starlette.responses import JSONResponse
from starlette.routing import Route

from jwks_guard.testing.settings import TOKEN_PATH
from jwks_guard.testing.tokens import access_token_claims, access_token_header, sign, signed_claims

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from jwks_guard.testing.keyring import Keyring
    from jwks_guard.testing.settings import Settings

MANAGEMENT_SCOPES = ("read:signing_keys", "create:signing_keys", "update:signing_keys")
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_ALGORITHMS = ["RS256", "RS384", "PS256"]
_ASSERTION_LIFETIME = 300.0  # s


class OAuthError(Exception):
    """A refusal of the token endpoint (RFC 6749 section 5.2); statuses as Auth0 chooses them."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.response = JSONResponse({"error": error, "error_description": description}, status)


class TokenEndpoint:
    """Grants access tokens to the tenant's one client, and remembers the assertions it saw."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._settings = settings
        self._keyring = keyring
        self._lock = Lock()
        self._used: set[str] = set()

    @property
    def route(self) -> Route:
        """Where clients ask for a token."""
        return Route(TOKEN_PATH, self.answer, methods=["POST"])

    async def answer(self, request: Request) -> Response:
        """A token, or the reason why there is none."""
        try:
            body = self._grant(request, await _parameters(request))
        except OAuthError as refusal:
            return refusal.response
        return JSONResponse(body, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    def _grant(self, request: Request, parameters: Mapping[str, str]) -> dict[str, Any]:
        if parameters.get("grant_type") != "client_credentials":
            raise OAuthError(403, "unauthorized_client", "Grant type not allowed for the client.")
        self._authenticate(request, parameters)
        claims = self._claims(parameters.get("audience"))
        key = self._keyring.by_status("current")
        return {
            "access_token": sign(key, header=access_token_header(key), claims=claims),
            "scope": claims["scope"],
            "expires_in": claims["exp"] - claims["iat"],
            "token_type": "Bearer",
        }

    def _claims(self, audience: str | None) -> dict[str, Any]:
        settings = self._settings
        scopes = {
            settings.management_audience: " ".join(MANAGEMENT_SCOPES),
            settings.audience: "read:things write:things",
        }
        if audience not in scopes:
            raise OAuthError(403, "access_denied", "Service not found.")
        subject = f"{settings.client_id}@clients"
        claims = access_token_claims(
            settings, sub=subject, audience=audience, scope=scopes[audience]
        )
        return {**claims, "gty": "client-credentials"}

    def _authenticate(self, request: Request, parameters: Mapping[str, str]) -> None:
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
                algorithms=_ASSERTION_ALGORITHMS,
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


async def _parameters(request: Request) -> dict[str, str]:
    body = await request.body()
    try:
        if not request.headers.get("Content-Type", "").startswith("application/json"):
            return dict(parse_qsl(body.decode()))
        document = json.loads(body)
    except ValueError:
        raise OAuthError(400, "invalid_request", "The body can't be read.") from None
    members = document.items() if isinstance(document, dict) else ()
    return {name: value for name, value in members if isinstance(value, str)}


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
