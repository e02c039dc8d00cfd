"""Protected resource metadata (RFC 9728): tells clients which issuer's tokens an API takes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.routing import Route

from jwks_guard.base.arguments import url_refusal
from jwks_guard.errors import ConfigurationError
from jwks_guard.net import urls
from jwks_guard.verify.requirement import scope_tokens
from jwks_guard.verify.stores import Stores, Verifier

if TYPE_CHECKING:
    from starlette.requests import Request

_WELL_KNOWN = "/.well-known/oauth-protected-resource"
_METHODS = ("GET", "HEAD", "OPTIONS")
_SECONDS = 3600
# One path for a proxy, a router and the guard: no encodings, no dot segments, no empty segments.
_PATH = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._~-]+)*/?")
_PUBLIC = {"Access-Control-Allow-Origin": "*"}
_PREFLIGHT = {
    **_PUBLIC,
    "Access-Control-Allow-Methods": ", ".join(_METHODS),
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": str(_SECONDS),
}


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """The metadata of one protected resource, and where clients look for it.

    As `resource_metadata` of a JWKSGuardMiddleware it is served by the middleware and named in
    every challenge. Where the guarded app is mounted, its requests begin with the mount's path:
    there add `route` to the outer app.
    """

    resource: str
    """The resource identifier (RFC 8707), which is the URL that clients call."""
    authorization_servers: tuple[str, ...]
    """The issuers whose tokens are accepted."""
    url: str
    """Where the metadata is (section 3.1)."""
    path: str
    """The path of `url`, which is at the root of the origin."""
    body: bytes
    """The document as JSON."""

    @property
    def document(self) -> dict[str, Any]:
        """The members of the document (section 2)."""
        members: dict[str, Any] = json.loads(self.body)
        return members

    @property
    def route(self) -> Route:
        """A route that serves it, for the app at the root of the origin."""

        async def endpoint(request: Request) -> Response:
            return self.response(request.method)

        return Route(self.path, endpoint, methods=list(_METHODS), name="resource_metadata")

    def response(self, method: str) -> Response:
        """The answer to a request for it; pages of every origin may read it."""
        if method == "OPTIONS":
            return Response(status_code=204, headers=_PREFLIGHT)
        if method not in _METHODS:
            return Response(status_code=405, headers=_PUBLIC | {"Allow": ", ".join(_METHODS)})
        headers = _PUBLIC | {
            "Cache-Control": f"public, max-age={_SECONDS}",
            "Content-Length": str(len(self.body)),
        }
        content = b"" if method == "HEAD" else self.body
        return Response(content, headers=headers, media_type="application/json")


def protected_resource_metadata(
    resource: str,
    *,
    verifier: Verifier,
    authorization_servers: Sequence[str] | None = None,
    scopes_supported: Collection[str] = (),
    resource_name: str | None = None,
    resource_documentation: str | None = None,
    resource_policy_uri: str | None = None,
    resource_tos_uri: str | None = None,
) -> ResourceMetadata:
    """The metadata of the API at `resource`, by which a client without a token finds the issuer.

    Arguments:
        resource: the URL of the API as clients call it, like "https://api.acme.com/mcp": https, or
            http on loopback, without query and fragment (RFC 9728 section 1.2). Tokens for it
            should have it as their audience (RFC 8707).
        verifier: of the API; a TokenVerifier, MultiIssuerVerifier or SyncTokenVerifier. Its issuers
            are the authorization servers; those that `resolve` adds at run time are not.
        authorization_servers: issuer identifiers (RFC 8414) to name instead.
        scopes_supported: the scopes that a client may ask for.
        resource_name: the API's name, for people.
        resource_documentation: the address of a page for developers.
        resource_policy_uri: the address of a page on how clients may use its data.
        resource_tos_uri: the address of its terms of service.

    Raises:
        ConfigurationError: an address or a scope can't be used, or there is no issuer to name.

    """
    parts = urlsplit(_resource(resource))
    pages = {
        "resource_documentation": resource_documentation,
        "resource_policy_uri": resource_policy_uri,
        "resource_tos_uri": resource_tos_uri,
    }
    servers = _servers(verifier, authorization_servers)
    members = {
        "resource": resource,
        "authorization_servers": servers,
        "scopes_supported": scope_tokens(scopes_supported, "scopes_supported"),
        "bearer_methods_supported": ["header"],
        "resource_name": resource_name,
        **{name: _page(name, address) for name, address in pages.items()},
    }
    path = _WELL_KNOWN + ("" if parts.path == "/" else parts.path)
    return ResourceMetadata(
        resource=resource,
        authorization_servers=servers,
        url=f"{parts.scheme}://{parts.netloc}{path}",
        path=path,
        # Section 3.2: what has no value, and an empty array, is left out.
        body=json.dumps({name: value for name, value in members.items() if value}).encode(),
    )


def _resource(resource: str) -> str:
    why = url_refusal(resource, query=False)
    if why is None and _PATH.fullmatch(urlsplit(resource).path) is None:
        why = "its path has empty or dot segments, or more than letters, digits and -._~"
    if why is not None:
        raise ConfigurationError(
            f"resource is {resource!r}, which can't be used: {why}. Write the URL of the API as "
            "clients call it, for example 'https://api.acme.com/mcp'."
        )
    return resource


def _servers(verifier: Verifier, named: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(named, str):
        raise ConfigurationError("authorization_servers is a string; write a list.")
    servers = tuple(store.issuer for store in Stores(verifier).configured)
    servers = servers if named is None else tuple(named)
    if not servers:
        raise ConfigurationError(
            "There is no issuer to name: the verifier lists none. Give authorization_servers=[...]."
        )
    for server in servers:
        if (why := url_refusal(server, query=False)) is not None:
            raise ConfigurationError(
                f"{server!r} can't be named as an authorization server: {why}. Give the issuer "
                "identifiers that clients can ask in authorization_servers=[...]."
            )
    return servers


def _page(name: str, address: str | None) -> str | None:
    if address is not None and urls.origin(address) is None:
        raise ConfigurationError(f"{name} is {address!r}; write an https URL.")
    return address
