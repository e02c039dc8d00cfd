"""Clients of the SDK and of FastMCP talk to guarded servers of both, with a tenant's tokens."""

from __future__ import annotations

import time
from typing import Any

import fastmcp
import httpx
import pytest
from fastmcp import FastMCP
from fastmcp.server.auth import MultiAuth, RemoteAuthProvider, TokenVerificationError
from mcp.server.auth.provider import principal_components
from mcp.shared.exceptions import MCPError
from pydantic import AnyHttpUrl
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from jwks_guard import FromHeader, MultiIssuerVerifier, Register, TokenVerifier
from jwks_guard.claims import organization
from jwks_guard.errors import ConfigurationError, KeysUnavailableError, LookUpThrottledError
from jwks_guard.integrations.fastmcp import FastMCPGuard
from jwks_guard.integrations.mcp import MCPTokenVerifier
from jwks_guard.testing import LocalTenant
from tests.integrations.issuing import SPENT
from tests.integrations.mcp_clients import REFUSED, authorized, failure, identity
from tests.integrations.mcp_serving import (
    Make,
    Served,
    bare_sdk_app,
    fastmcp_app,
    principal_free_app,
    sdk_app,
    served,
)
from tests.support import DISCOVERY, HandClock, tenant_of, verifier_of

MAKERS = [sdk_app, fastmcp_app]
both = pytest.mark.parametrize("make", MAKERS)


# --- a client finds its way ---


@both
async def test_client_without_a_token_finds_the_issuer_and_gets_one(make: Make) -> None:
    async with served(make) as server:
        server.tenant.requests.clear()
        provider, storage = authorized(server)
        found = await identity(server, provider)
        assert found["issuer"] == server.tenant.issuer
        assert found["client"] == server.tenant.client_id
        assert found["resource"] == server.url
        assert ("GET", DISCOVERY) in list(server.tenant.requests)
        assert storage.tokens is not None


@both
async def test_tool_sees_who_calls_it(make: Make) -> None:
    async with served(make) as server:
        department = {"https://acme.com/department": "research"}
        token = server.tenant.token(
            sub="auth0|alice", scope="read:things write:things", claims=department
        )
        expected = {
            "subject": "auth0|alice",
            "client": server.tenant.client_id,
            "scopes": ["read:things", "write:things"],
            "resource": server.url,
            "issuer": server.tenant.issuer,
            "department": "research",
        }
        for mode in ("auto", "legacy"):
            assert await identity(server, token, mode) == expected
        async with fastmcp.Client(server.url, auth=token) as client:
            assert (await client.call_tool("whoami")).structured_content == expected
        await server.leak()
        assert await failure(server, token) == REFUSED
        with pytest.raises(MCPError, match=REFUSED):
            async with fastmcp.Client(server.url, auth=token):
                raise AssertionError("it was let in")


# --- what a client is answered, and what it makes of that ---


@both
async def test_refusals_are_the_guards_own(make: Make) -> None:
    async with served(make, required_scopes=["read:things"]) as server:
        tenant = server.tenant
        metadata = f'resource_metadata="{server.origin}/.well-known/oauth-protected-resource/mcp"'
        missing = await server.post(None, "tools/list")
        assert (missing.status_code, missing.headers["www-authenticate"]) == (
            401,
            f"Bearer {metadata}",
        )
        leaked = tenant.token()
        await server.leak()
        for bad in (
            leaked,
            tenant.forged_token(),
            tenant.token(lifetime=-60),
            tenant.token(audience="https://other.acme.com"),
        ):
            refused = await server.post(bad, "tools/list")
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith(
                f'Bearer {metadata}, error="invalid_token"'
            )
        malformed = await server.post("a b", "tools/list")
        assert malformed.status_code == 400
        poor = await server.post(tenant.token(scope="openid"), "tools/list")
        assert poor.status_code == 403
        assert poor.headers["www-authenticate"].startswith(
            f'Bearer {metadata}, error="insufficient_scope"'
        )
        assert poor.headers["www-authenticate"].endswith('scope="read:things"')


@both
async def test_outage_is_503_and_the_client_keeps_its_token(make: Make) -> None:
    async with served(make, down=True) as server:
        token = server.tenant.token()
        refused = await server.post(token, "tools/list")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "www-authenticate" not in refused.headers
        provider, storage = authorized(server, token)
        server.tenant.requests.clear()
        assert await failure(server, provider) == REFUSED
        assert server.tenant.requests.count("/oauth/token") == 0
        assert storage.tokens is not None
        assert storage.tokens.access_token == token
        server.tenant.faults.clear()
        await server.verifier.keys.refresh()
        assert (await identity(server, provider))["subject"] == "auth0|alice"


@both
async def test_throttled_look_up_is_429_and_the_client_keeps_its_token(make: Make) -> None:
    options = {"clock": HandClock(time.time()), "register": Register()}
    async with served(make, verifier=options) as server:
        await server.post(server.tenant.token(), "tools/list")
        for number in range(SPENT):
            await server.post(server.tenant.forged_token(kid=f"unknown-{number}"), "tools/list")
        unknown = server.tenant.forged_token(kid="unknown")
        refused = await server.post(unknown, "tools/list")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        provider, storage = authorized(server, unknown)
        server.tenant.requests.clear()
        assert await failure(server, provider) == REFUSED
        assert server.tenant.requests.count("/oauth/token") == 0
        assert storage.tokens is not None
        assert storage.tokens.access_token == unknown


@both
async def test_refused_token_has_the_client_get_another_one(make: Make) -> None:
    async with served(make) as server:
        stale = server.tenant.token(sub="auth0|alice")
        await server.leak()
        provider, storage = authorized(server, stale)
        server.tenant.requests.clear()
        assert (await identity(server, provider))["client"] == server.tenant.client_id
        assert server.tenant.requests.count("/oauth/token") == 1
        assert storage.tokens is not None
        assert storage.tokens.access_token != stale


@both
async def test_lacking_scope_has_the_client_ask_for_it(make: Make) -> None:
    async with served(make, required_scopes=["write:things"]) as server:
        poor = server.tenant.token(scope="read:things")
        provider, _ = authorized(server, poor)
        server.tenant.requests.clear()
        assert "write:things" in (await identity(server, provider))["scopes"]
        assert server.tenant.requests.count("/oauth/token") == 1


# --- sessions belong to the party that opened them ---


def other_parties(tenant: LocalTenant) -> list[str]:
    return [
        tenant.token(sub="auth0|mallory"),
        tenant.token(sub="auth0|alice", claims={"azp": "another-client"}),
        tenant.token(claims={"sub": None}),
        tenant.token(claims={"azp": None, "sub": None}),
    ]


async def can_use(server: Served, token: str, session: str) -> int:
    return (await server.post(token, "tools/list", session)).status_code


@both
async def test_session_can_not_be_used_with_the_token_of_another_party(make: Make) -> None:
    async with served(make) as server:
        alice = server.tenant.token(sub="auth0|alice")
        opened = await server.open_session(alice)
        session = opened.headers["mcp-session-id"]
        assert await can_use(server, alice, session) == 200
        for other in other_parties(server.tenant):
            assert await can_use(server, other, session) == 404
        await server.leak()
        renewed = server.tenant.token(sub="auth0|alice")
        assert await can_use(server, renewed, session) == 200
        assert await can_use(server, alice, session) == 401


@both
async def test_tokens_that_name_no_party_have_a_session_each(make: Make) -> None:
    async with served(make) as server:
        nobody = {"azp": None, "sub": None}
        first = server.tenant.token(claims={**nobody, "jti": "1"})
        second = server.tenant.token(claims={**nobody, "jti": "2"})
        opened = await server.open_session(first)
        session = opened.headers["mcp-session-id"]
        assert await can_use(server, first, session) == 200
        assert await can_use(server, second, session) == 404


async def test_without_a_token_verifier_a_session_is_everybodys() -> None:
    """Why the guard alone is not enough."""
    async with served(principal_free_app) as server:
        opened = await server.open_session(server.tenant.token(sub="auth0|alice"))
        session = opened.headers["mcp-session-id"]
        for other in other_parties(server.tenant):
            assert await can_use(server, other, session) == 200


# --- the token verifier without the guard ---


async def test_without_the_guard_a_bad_token_is_401_and_an_outage_500() -> None:
    async with served(bare_sdk_app, down=True) as server:
        assert (await server.post(None, "tools/list")).status_code == 401
        assert (await server.post("opaque", "tools/list")).status_code == 401
        token = server.tenant.token()
        assert (await server.post(token, "tools/list")).status_code == 500
        provider, storage = authorized(server, token)
        assert await failure(server, provider) == REFUSED
        assert storage.tokens is not None
        assert storage.tokens.access_token == token
        server.tenant.faults.clear()
        await server.verifier.keys.refresh()
        assert (await identity(server, token))["subject"] == "auth0|alice"


# --- FastMCP's own providers and routes ---


async def statuses(server: FastMCP[Any], path: str, *tokens: str | None) -> list[int]:
    """What a GET of `path` is answered with, for each token."""
    transport = httpx.ASGITransport(server.http_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://api.acme.com") as client:
        sent = [{} if token is None else {"Authorization": f"Bearer {token}"} for token in tokens]
        return [(await client.get(path, headers=each)).status_code for each in sent]


async def test_custom_routes_of_fastmcp_need_a_token_unless_they_are_excluded(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        server: FastMCP[Any] = FastMCP(
            "acme", auth=FastMCPGuard(verifier, exclude_paths=["/health"])
        )

        @server.custom_route("/health", ["GET"])
        @server.custom_route("/report", ["GET"])
        async def answer(request: Request) -> PlainTextResponse:
            return PlainTextResponse("reached")

        assert await statuses(server, "/health", None) == [200]
        assert await statuses(server, "/report", None, tenant.token()) == [401, 200]


async def test_anonymous_request_that_the_guard_lets_in_is_refused_by_fastmcp(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        for options in ({"optional": True}, {"exclude_paths": ["/mcp"]}):
            server: FastMCP[Any] = FastMCP("acme", auth=FastMCPGuard(verifier, **options))
            assert await statuses(server, "/mcp", None, "opaque") == [401, 401]


async def test_inside_other_providers_of_fastmcp_an_outage_is_500(
    tenant: LocalTenant, clock: HandClock
) -> None:
    tenant.faults.status(503, path="*")
    async with verifier_of(tenant, clock) as verifier:
        guard = FastMCPGuard(verifier)
        url = AnyHttpUrl(tenant.issuer)
        for provider in (
            RemoteAuthProvider(guard, [url], "https://api.acme.com"),
            MultiAuth(verifiers={"acme": guard}),
        ):
            server: FastMCP[Any] = FastMCP("acme", auth=provider)
            assert await statuses(server, "/mcp", "opaque", tenant.token()) == [401, 500]


# --- what the SDK is told of a token ---


async def test_access_token_has_all_that_the_sdk_looks_at(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        compact = tenant.token(
            sub="auth0|alice", scope="write:things read:things", lifetime=3600.75
        )
        token = await MCPTokenVerifier(verifier).verify_token(compact)
        assert token is not None
        assert token.token == compact
        assert token.client_id == tenant.client_id
        assert token.scopes == ["read:things", "write:things"]
        assert token.expires_at == int(clock.time() + 3600)
        assert token.subject == "auth0|alice"
        assert token.claims == (await verifier.verify(compact)).to_dict()


@pytest.mark.parametrize(
    ("resource", "audience", "seen"),
    [
        (None, ["https://api.local.test"], "https://api.local.test"),
        (None, ["https://api.local.test", "https://tenant.test/userinfo"], None),
        (
            "https://api.local.test",
            ["https://tenant.test/userinfo", "https://api.local.test"],
            "https://api.local.test",
        ),
        ("https://api.local.test/", "https://api.local.test", "https://api.local.test"),
        ("https://other.test", "https://api.local.test", None),
    ],
)
async def test_resource_is_the_audience_that_is_this_server(
    resource: str | None,
    audience: str | list[str],
    seen: str | None,
    tenant: LocalTenant,
    clock: HandClock,
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        tokens = MCPTokenVerifier(verifier, resource=resource)
        token = await tokens.verify_token(tenant.token(claims={"aud": audience}))
        assert token is not None
        assert token.resource == seen


async def test_token_without_audience_or_expiry_has_none(
    tenant: LocalTenant, clock: HandClock
) -> None:
    clients, algorithms = [tenant.client_id], ["ES256"]
    async with TokenVerifier(
        tenant.issuer,
        None,
        client_ids=clients,
        algorithms=algorithms,
        required_claims=["iat"],
        clock=clock,
        http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
    ) as verifier:
        compact = tenant.token(claims={"aud": None, "exp": None, "token_use": "access"})
        token = await MCPTokenVerifier(verifier).verify_token(compact)
        assert token is not None
        assert (token.resource, token.expires_at) == (None, None)


@pytest.mark.parametrize("hostile", ["", "opaque", "a b", "é", "Bearer", "\ud800", "a.b.c", "ey.."])
async def test_hostile_text_is_no_token(
    hostile: str, tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        assert await MCPTokenVerifier(verifier).verify_token(hostile) is None
        assert await FastMCPGuard(verifier).verify_token(hostile) is None


async def verified(tokens: MCPTokenVerifier, compacts: list[str]) -> None:
    for compact in compacts:
        assert await tokens.verify_token(compact) is None


async def test_outage_and_throttle_are_raised(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        tokens = MCPTokenVerifier(verifier)
        forged = [tenant.forged_token(kid=f"unknown-{number}") for number in range(SPENT)]
        with pytest.raises(LookUpThrottledError):
            await verified(tokens, forged)
    tenant.faults.status(503, path="*")
    async with verifier_of(tenant, clock) as verifier:
        with pytest.raises(KeysUnavailableError):
            await MCPTokenVerifier(verifier).verify_token(tenant.token())
        with pytest.raises(TokenVerificationError):
            await FastMCPGuard(verifier).verify_token(tenant.token())


async def test_parties_of_two_issuers_are_told_apart(tenant: LocalTenant, clock: HandClock) -> None:
    """Their subjects and clients may have the same names."""
    parties = []
    with tenant_of(clock, issuer="https://other.test/") as other:
        async with MultiIssuerVerifier(
            [verifier_of(each, clock) for each in (tenant, other)]
        ) as verifier:
            tokens = MCPTokenVerifier(verifier)
            for each in (tenant, other):
                token = await tokens.verify_token(each.token(claims={"azp": "client"}))
                assert token is not None
                parties.append(principal_components(token))
    (client, issuer, subject), (other_client, other_issuer, other_subject) = parties
    assert (client, subject) == (other_client, other_subject)
    assert issuer != other_issuer


# --- what is configured ---


@pytest.mark.parametrize("make", [MCPTokenVerifier, FastMCPGuard])
async def test_what_a_token_must_grant_holds_without_the_middleware_too(
    make: Any, tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        tokens = make(
            verifier, required_scopes=["read:things"], claim_checks=[organization("org_a")]
        )
        accepted = tenant.token(scope="read:things", claims={"org_id": "org_a"})
        assert (await tokens.verify_token(accepted)).subject == "auth0|alice"
        for refused in (
            tenant.token(scope="read:things", claims={"org_id": "org_b"}),
            tenant.token(scope="openid", claims={"org_id": "org_a"}),
        ):
            assert await tokens.verify_token(refused) is None


@pytest.mark.parametrize("make", [MCPTokenVerifier, FastMCPGuard])
@pytest.mark.parametrize(
    "options",
    [{"token_from": FromHeader("X-Token")}, {"required_scopes": "read:things"}],
)
def test_option_that_can_not_be_meant_so_is_refused(make: Any, options: dict[str, Any]) -> None:
    verifier = TokenVerifier("https://acme.eu.auth0.com/", "https://api.acme.com")
    with pytest.raises(ConfigurationError):
        make(verifier, **options)
