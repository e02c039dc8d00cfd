"""The signing-key endpoints of the Management API v2."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio.to_thread
import jwt
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from jwks_guard.errors import ConfigurationError
from jwks_guard.testing.keyring import KeyInUseError
from jwks_guard.testing.rate_limit import RateLimit
from jwks_guard.testing.settings import MANAGEMENT_PATH, SIGNING_KEYS_PATH
from jwks_guard.testing.tokens import own_claims

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from jwks_guard.testing.keyring import Keyring
    from jwks_guard.testing.keys import SigningKey
    from jwks_guard.testing.settings import Settings

# Unconfirmed: what Auth0 answers when the key to revoke is current, next or revoked already.
REVOKE_REFUSED = HTTPStatus.BAD_REQUEST
_REQUESTS_PER_SECOND = 50
_ROTATIONS = 5  # at once, and then as many a day, on every plan
_DAY = 86_400.0

Handler: TypeAlias = Callable[["Request"], Awaitable[Response]]


class APIError(Exception):
    """An error of the Management API; `code` becomes its `errorCode`."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        error = HTTPStatus(status).phrase
        body = {"statusCode": status, "error": error, "message": message, "errorCode": code}
        self.response = JSONResponse({k: v for k, v in body.items() if v is not None}, status)


def management_routes(settings: Settings, keyring: Keyring) -> list[BaseRoute]:
    """List, get, rotate and revoke, each behind its scopes and its rate limit.

    The rest of the Management API is not there: 404, as the tenant words it.
    """
    general = RateLimit(_REQUESTS_PER_SECOND, _REQUESTS_PER_SECOND, settings.clock)
    rotations = RateLimit(_ROTATIONS, _ROTATIONS / _DAY, settings.clock)

    async def list_keys(_: Request) -> Response:
        return JSONResponse([key_document(key) for key in keyring.keys])

    async def get_key(request: Request) -> Response:
        return JSONResponse(key_document(_found(keyring, request)))

    async def rotate(_: Request) -> Response:
        new = await anyio.to_thread.run_sync(keyring.rotate)
        return JSONResponse({"kid": new.kid, "cert": new.cert}, 201)

    async def revoke(request: Request) -> Response:
        kid = _found(keyring, request).kid
        try:
            key = keyring.revoke(kid)
        except KeyInUseError as error:
            raise APIError(REVOKE_REFUSED, str(error)) from None
        return JSONResponse({"kid": key.kid, "cert": key.cert})

    def guarded(handler: Handler, limit: RateLimit, *scopes: str) -> Handler:
        async def endpoint(request: Request) -> Response:
            _authorize(request, settings, keyring, scopes)
            return await _limited(handler, limit, request)

        return _answering(endpoint)

    one = SIGNING_KEYS_PATH + "/{kid}"
    create, read, update = (f"{action}:signing_keys" for action in ("create", "read", "update"))
    return [
        Route(SIGNING_KEYS_PATH, guarded(list_keys, general, read)),
        Route(
            SIGNING_KEYS_PATH + "/rotate",
            guarded(rotate, rotations, create, update),
            methods=["POST"],
        ),
        Route(one, guarded(get_key, general, read)),
        Route(one + "/revoke", guarded(revoke, general, update), methods=["PUT"]),
        Mount(MANAGEMENT_PATH, _not_found),
    ]


def _answering(endpoint: Handler) -> Handler:
    async def answering(request: Request) -> Response:
        try:
            return await endpoint(request)
        except APIError as error:
            return error.response

    return answering


async def _limited(handler: Handler, limit: RateLimit, request: Request) -> Response:
    allowance = limit.take()
    try:
        if not allowance.granted:
            raise APIError(429, "Global limit has been reached", "too_many_requests")
        response = await handler(request)
    except APIError as error:
        response = error.response
    except ConfigurationError:
        response = APIError(500, "The state can't be written; nothing was changed").response
    response.headers.update(allowance.headers)
    return response


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await APIError(404, "Not Found").response(scope, receive, send)


def key_document(key: SigningKey) -> dict[str, Any]:
    """A key as the Management API lists it; a flag that is false and a time not set are absent."""
    bundle = pkcs7.serialize_certificates([key.certificate], Encoding.PEM)
    times = {
        "current_since": key.current_since,
        "current_until": key.current_until,
        "revoked_at": key.revoked_at,
    }
    return {
        "kid": key.kid,
        "cert": key.cert,
        "pkcs7": bundle.decode().replace("\n", "\r\n"),
        "fingerprint": key.fingerprint,
        "thumbprint": key.thumbprint,
        key.status: True,
        **{name: _iso(time) for name, time in times.items() if time is not None},
    }


def _iso(timestamp: float) -> str:
    moment = datetime.fromtimestamp(timestamp, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _found(keyring: Keyring, request: Request) -> SigningKey:
    try:
        return keyring.key(request.path_params["kid"])
    except LookupError as error:
        raise APIError(404, "The signing key does not exist") from error


def _authorize(
    request: Request, settings: Settings, keyring: Keyring, scopes: tuple[str, ...]
) -> None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise APIError(401, "Missing authentication")
    try:
        claims = own_claims(
            token, settings=settings, keyring=keyring, audience=settings.management_audience
        )
    except jwt.InvalidTokenError:
        raise APIError(401, "Invalid token") from None
    if claims["exp"] <= settings.clock.time():
        raise APIError(401, "Expired token received for JSON Web Token validation")
    if not set(scopes) <= set(claims.get("scope", "").split()):
        expected = f"Insufficient scope, expected any of: {','.join(scopes)}"
        raise APIError(403, expected, "insufficient_scope")
