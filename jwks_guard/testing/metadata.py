"""What a tenant publishes to everyone: the JWK Set, its discovery document, its certificate."""

from __future__ import annotations

import hashlib
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jwks_guard.testing.client_auth import ASSERTION_ALGORITHMS
from jwks_guard.testing.settings import (
    AUTHORIZE_PATH,
    DISCOVERY_PATH,
    JWKS_PATH,
    TOKEN_PATH,
    USERINFO_PATH,
    http_date,
)

if TYPE_CHECKING:
    from starlette.requests import Request

    from jwks_guard.testing.keyring import Keyring, PublishedSet
    from jwks_guard.testing.settings import Settings

# As captured from a tenant in 2022; a client that obeys the last one keeps a revoked key for a day.
CACHE_CONTROL = "public, max-age=15, stale-while-revalidate=15, stale-if-error=86400"
_JSON = "application/json; charset=utf-8"


def jwks_response(published: PublishedSet, *, age: int | None = None) -> Response:
    """The set as an edge serves it, `age` seconds after it was fetched from the origin."""
    headers = {
        "Cache-Control": CACHE_CONTROL,
        "Last-Modified": http_date(published.changed_at),
        **({} if age is None else {"Age": str(age)}),
    }
    return Response(published.body, media_type=_JSON, headers=headers)


def metadata_routes(settings: Settings, keyring: Keyring) -> list[Route]:
    """The public endpoints of the tenant."""

    async def jwks(request: Request) -> Response:
        published = keyring.published
        response = jwks_response(published)
        if settings.conditional_requests:
            response.headers["ETag"] = _entity_tag(published)
            if _not_modified(request, response):
                response.status_code, response.body = 304, b""
                del response.headers["Content-Length"]
        return response

    async def discovery(_: Request) -> Response:
        algorithm = keyring.by_status("current").algorithm
        return JSONResponse(discovery_document(settings, algorithm))

    async def pem(_: Request) -> Response:
        certificate = keyring.by_status("current").cert
        return Response(certificate, media_type="application/x-pem-file")

    async def cer(_: Request) -> Response:
        certificate = keyring.by_status("current").certificate.public_bytes(Encoding.DER)
        return Response(certificate, media_type="application/pkix-cert")

    return [
        Route(JWKS_PATH, jwks),
        Route(DISCOVERY_PATH, discovery),
        Route("/pem", pem),
        Route("/rawpem", pem),
        Route("/cer", cer),
    ]


def discovery_document(settings: Settings, algorithm: str) -> dict[str, Any]:
    """The tenant's OpenID configuration (OpenID Connect Discovery 1.0 section 3)."""
    return {
        "issuer": settings.issuer,
        "authorization_endpoint": settings.url(AUTHORIZE_PATH),
        "token_endpoint": settings.url(TOKEN_PATH),
        "userinfo_endpoint": settings.url(USERINFO_PATH),
        "jwks_uri": settings.url(JWKS_PATH),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [algorithm],
        "token_endpoint_auth_methods_supported": [
            "client_secret_basic",
            "client_secret_post",
            "private_key_jwt",
            "none",
        ],
        "token_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "scopes_supported": ["openid", "profile", "email"],
        "claims_supported": ["aud", "email", "exp", "iat", "iss", "name", "nickname", "sub"],
    }


def _entity_tag(published: PublishedSet) -> str:
    return f'"{hashlib.sha256(published.body).hexdigest()[:32]}"'


def _not_modified(request: Request, response: Response) -> bool:
    # RFC 9110 section 13.2.2: If-None-Match, where present, decides alone.
    tags = request.headers.get("If-None-Match")
    if tags is not None:
        return response.headers["ETag"] in [
            tag.strip().removeprefix("W/") for tag in tags.split(",")
        ]
    since = request.headers.get("If-Modified-Since")
    return since is not None and _date(response.headers["Last-Modified"]) <= _date(since)


def _date(value: str) -> float:
    try:
        return parsedate_to_datetime(value).timestamp()
    except ValueError:
        return float("-inf")  # a date that can't be read is ignored (RFC 9110 section 13.1.3)
