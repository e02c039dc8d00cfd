from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from jwks_guard import MultiIssuerVerifier, SyncTokenVerifier, TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, ResourceMetadata, protected_resource_metadata
from jwks_guard.errors import ConfigurationError
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, verifier_of

RESOURCE = "https://api.acme.com/mcp"
PATH = "/.well-known/oauth-protected-resource/mcp"


def issuer(url: str = "https://acme.eu.auth0.com/") -> TokenVerifier:
    return TokenVerifier(url, RESOURCE)


def metadata_of(resource: str = RESOURCE, **members: Any) -> ResourceMetadata:
    return protected_resource_metadata(resource, verifier=issuer(), **members)


@asynccontextmanager
async def client_of(app: ASGIApp, root_path: str = "") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="https://api.acme.com") as client:
        yield client


async def reached(request: Request) -> PlainTextResponse:
    return PlainTextResponse("reached")


INNER = Starlette(routes=[Route("/{path:path}", reached)])


# --- the document and its address ---


@pytest.mark.parametrize(
    ("resource", "url"),
    [
        (RESOURCE, f"https://api.acme.com{PATH}"),
        ("https://api.acme.com", "https://api.acme.com/.well-known/oauth-protected-resource"),
        ("https://api.acme.com/", "https://api.acme.com/.well-known/oauth-protected-resource"),
        ("https://api.acme.com/mcp/", f"https://api.acme.com{PATH}/"),
        (
            "https://api.acme.com:8443/v1/a.b~c_d-e",
            "https://api.acme.com:8443/.well-known/oauth-protected-resource/v1/a.b~c_d-e",
        ),
        ("http://127.0.0.1:8000/mcp", f"http://127.0.0.1:8000{PATH}"),
        ("http://[::1]:8000/mcp", f"http://[::1]:8000{PATH}"),
    ],
)
def test_well_known_path_is_put_between_host_and_path(resource: str, url: str) -> None:
    metadata = metadata_of(resource)
    assert metadata.url == url
    assert metadata.url.endswith(metadata.path)
    assert metadata.document["resource"] == metadata.resource == resource


def test_document_names_the_issuer_and_leaves_out_what_has_no_value() -> None:
    assert metadata_of().document == {
        "resource": RESOURCE,
        "authorization_servers": ["https://acme.eu.auth0.com/"],
        "bearer_methods_supported": ["header"],
    }


def test_document_has_what_is_given() -> None:
    members: dict[str, Any] = {
        "scopes_supported": ["read:things", "write:things"],
        "resource_name": "Things of Acme",
        "resource_documentation": "https://acme.com/docs#things",
        "resource_policy_uri": "https://acme.com/policy",
        "resource_tos_uri": "https://acme.com/terms",
    }
    assert metadata_of(**members).document == metadata_of().document | members


def test_every_configured_issuer_is_named_or_those_that_are_given() -> None:
    first, second = issuer(), issuer("https://login.acme.com/")
    several = MultiIssuerVerifier([first, second])
    both = protected_resource_metadata(RESOURCE, verifier=several)
    assert both.authorization_servers == (first.issuer, second.issuer)
    synchronous = SyncTokenVerifier(second.issuer, RESOURCE)
    assert protected_resource_metadata(RESOURCE, verifier=synchronous).authorization_servers == (
        second.issuer,
    )
    given = metadata_of(authorization_servers=["https://login.acme.com/"])
    assert given.document["authorization_servers"] == ["https://login.acme.com/"]


@pytest.mark.parametrize(
    ("resource", "why"),
    [
        ("http://api.acme.com/mcp", "it is not https"),
        ("https://api.acme.com/mcp#a", "it has a fragment"),
        ("https://api.acme.com/mcp?tenant=1", "it has a query"),
        ("https://user@api.acme.com/mcp", "user name"),
        ("https:///mcp", "it has no host"),
        ("api.acme.com", "it has no host"),
        ("urn:acme:api", "it has no host"),
        ("https://api.acme.com/a b", "characters"),
        ("https://api.acme.com/a//b", "segments"),
        ("https://api.acme.com//", "segments"),
        ("https://api.acme.com/a/../b", "segments"),
        ("https://api.acme.com/.", "segments"),
        ("https://api.acme.com/%2e%2e/b", "more than letters"),
        ("https://api.acme.com/{tenant}", "more than letters"),
        ("https://api.acme.com/*", "more than letters"),
        (None, "it is no URL"),
    ],
)
def test_resource_that_is_no_plain_url_is_refused(resource: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        metadata_of(resource)


@pytest.mark.parametrize(
    "members",
    [
        {"scopes_supported": "read:things"},
        {"scopes_supported": ["read things"]},
        {"resource_documentation": "docs/things.html"},
        {"resource_policy_uri": "javascript:alert(1)"},
        {"authorization_servers": "https://acme.eu.auth0.com/"},
        {"authorization_servers": ["acme.eu.auth0.com"]},
        {"authorization_servers": ["http://keycloak:8080/realms/acme"]},
        {"authorization_servers": []},
    ],
)
def test_member_that_can_not_be_meant_so_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        metadata_of(**members)


def test_issuer_that_is_no_url_has_to_be_named_otherwise() -> None:
    verifier = TokenVerifier("acme", RESOURCE, jwks_uri="https://acme.com/keys")
    with pytest.raises(ConfigurationError, match="authorization_servers"):
        protected_resource_metadata(RESOURCE, verifier=verifier)


# --- served by the guard ---


@pytest.fixture
async def guarded(
    tenant: LocalTenant, clock: HandClock
) -> AsyncIterator[tuple[JWKSGuardMiddleware, ResourceMetadata]]:
    async with verifier_of(tenant, clock) as verifier:
        metadata = protected_resource_metadata(RESOURCE, verifier=verifier)
        yield (
            JWKSGuardMiddleware(INNER, verifier=verifier, resource_metadata=metadata),
            metadata,
        )


async def test_client_without_a_token_follows_the_challenge_to_the_issuer(
    guarded: tuple[JWKSGuardMiddleware, ResourceMetadata], tenant: LocalTenant
) -> None:
    app, metadata = guarded
    async with client_of(app) as client:
        refused = await client.get("/mcp")
        assert refused.status_code == 401
        challenge = refused.headers["www-authenticate"]
        assert challenge == f'Bearer resource_metadata="{metadata.url}"'
        found = await client.get(metadata.url)
        assert found.json()["authorization_servers"] == [tenant.issuer]


async def test_document_is_public_cacheable_and_readable_by_pages_of_every_origin(
    guarded: tuple[JWKSGuardMiddleware, ResourceMetadata],
) -> None:
    app, metadata = guarded
    async with client_of(app) as client:
        answer = await client.get(PATH, headers={"Origin": "https://client.test"})
        assert answer.content == metadata.body
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "public, max-age=3600"
        assert answer.headers["access-control-allow-origin"] == "*"
        head = await client.head(PATH)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(metadata.body))
        preflight = await client.options(
            PATH,
            headers={
                "Origin": "https://client.test",
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "mcp-protocol-version",
            },
        )
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert preflight.headers["access-control-allow-headers"] == "*"
        assert "GET" in preflight.headers["access-control-allow-methods"]
        refused = await client.post(PATH)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_document_is_the_same_whatever_credentials_come_along(
    guarded: tuple[JWKSGuardMiddleware, ResourceMetadata],
) -> None:
    app, metadata = guarded
    async with client_of(app) as client:
        answer = await client.get(PATH, headers={"Authorization": "Bearer a b"})
        assert answer.content == metadata.body


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-protected-resource",
        f"{PATH}/",
        f"{PATH}/admin",
        f"/mcp{PATH}",
        "/.well-known/oauth-protected-resource/MCP",
        "/.well-known/oauth-protected-resource%2fmcp",
        "/.well-known/oauth-protected-resource/mcp%2f..%2f..%2fadmin",
        "/.well-known/x/%2e%2e/oauth-protected-resource/mcp",
    ],
)
async def test_nothing_but_the_document_is_open(
    path: str, guarded: tuple[JWKSGuardMiddleware, ResourceMetadata]
) -> None:
    async with client_of(guarded[0]) as client:
        assert (await client.get(path)).status_code == 401


async def test_document_never_reaches_the_app(
    guarded: tuple[JWKSGuardMiddleware, ResourceMetadata],
) -> None:
    async with client_of(guarded[0]) as client:
        for method in ("GET", "POST", "PUT", "DELETE", "TRACE"):
            assert b"reached" not in (await client.request(method, PATH)).content


async def test_path_counts_below_the_root_path_of_a_proxy(
    guarded: tuple[JWKSGuardMiddleware, ResourceMetadata],
) -> None:
    app, metadata = guarded
    async with client_of(app, root_path="/v1") as client:
        assert (await client.get(f"/v1{PATH}")).content == metadata.body
        assert (await client.get("/v1/mcp")).status_code == 401


async def test_app_that_is_mounted_has_its_document_at_the_root_of_the_origin_by_the_route(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        metadata = protected_resource_metadata(RESOURCE, verifier=verifier)
        guarded = JWKSGuardMiddleware(INNER, verifier=verifier, resource_metadata=metadata)
        alone = Starlette(routes=[Mount("/mcp", guarded)])
        async with client_of(alone) as client:
            refused = await client.get("/mcp/")
            assert metadata.url in refused.headers["www-authenticate"]
            assert (await client.get(metadata.url)).status_code == 404
        outer = Starlette(routes=[metadata.route, Mount("/mcp", guarded)])
        async with client_of(outer) as client:
            assert (await client.get(metadata.url)).content == metadata.body
            assert (await client.head(metadata.url)).content == b""
            assert (await client.options(metadata.url)).status_code == 204
            assert (await client.post(metadata.url)).status_code == 405


async def test_url_alone_is_named_and_its_path_stays_guarded(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        url = f"https://api.acme.com{PATH}"
        app = JWKSGuardMiddleware(INNER, verifier=verifier, resource_metadata=url)
        async with client_of(app) as client:
            refused = await client.get(PATH)
            assert refused.headers["www-authenticate"] == f'Bearer resource_metadata="{url}"'


async def test_two_guards_name_their_own_resource(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        parts = {
            name: protected_resource_metadata(f"https://api.acme.com/{name}", verifier=verifier)
            for name in ("orders", "stock")
        }
        app = Starlette(
            routes=[each.route for each in parts.values()]
            + [
                Mount(
                    f"/{name}",
                    JWKSGuardMiddleware(INNER, verifier=verifier, resource_metadata=each),
                )
                for name, each in parts.items()
            ]
        )
        async with client_of(app) as client:
            for name, each in parts.items():
                refused = await client.get(f"/{name}/")
                assert each.url in refused.headers["www-authenticate"]
                assert (await client.get(each.url)).json()["resource"] == each.resource
