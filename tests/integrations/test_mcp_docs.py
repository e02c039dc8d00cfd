"""docs/mcp.md, that of docs/frameworks.md and the example do what they say, on a real server."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp

from jwks_guard import TokenVerifier
from jwks_guard.asgi import (
    JWKSGuardMiddleware,
    ResourceMetadata,
    protected_resource_metadata,
)
from jwks_guard.errors import (
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    KeysUnavailableError,
    LookUpThrottledError,
    RequestRefusedError,
)
from jwks_guard.testing import LocalTenant
from jwks_guard.verify.request import GuardOptions
from tests.integrations.mcp_clients import REFUSED, authorized, failure, identity, sdk_client
from tests.integrations.mcp_serving import Make, Served, served

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "mcp.md").read_text()
BLOCKS = r"```python\n(.*?)```"
OF_SDK, OF_FASTMCP, CLIENT, OUTER, CORS, TESTS = re.findall(BLOCKS, PAGE, re.DOTALL)


def run(code: str, verifier: TokenVerifier, metadata: ResourceMetadata) -> dict[str, Any]:
    """What `code` defines, with a tenant in place of Auth0 and this machine in place of Acme."""
    code = code.replace("https://acme.eu.auth0.com/", verifier.issuer)
    code = code.replace("https://api.acme.com/mcp", metadata.resource)
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(code, "mcp.md", "exec"), names)
    return names


def page(*blocks: str, name: str = "app") -> Make:
    """The app that is called `name` in a file of these blocks."""

    def make(verifier: TokenVerifier, metadata: ResourceMetadata, _: GuardOptions) -> ASGIApp:
        app: ASGIApp = run("\n".join(blocks), verifier, metadata)[name]
        return app

    return make


def short(verifier: TokenVerifier, metadata: ResourceMetadata, _: GuardOptions) -> ASGIApp:
    (code,) = re.findall(
        rf"<!-- mcp -->\s*{BLOCKS}", (ROOT / "docs/frameworks.md").read_text(), re.DOTALL
    )
    assert code.count("\n") <= 10
    names = run(code, verifier, metadata)

    def whoami() -> dict[str, Any]:
        return {"found": True}

    names["server"].add_tool(whoami)
    app: ASGIApp = names["app"]
    return app


async def test_server_of_the_short_version_runs() -> None:
    async with served(short) as server:
        assert (await server.post(None, "tools/list")).status_code == 401
        provider, _ = authorized(server)
        assert await identity(server, provider) == {"found": True}


@pytest.mark.parametrize("of_one", [OF_SDK, OF_FASTMCP])
async def test_server_on_the_page_runs_also_for_pages_of_another_origin(of_one: str) -> None:
    async with served(page(of_one, CORS)) as server:
        metadata = protected_resource_metadata(server.url, verifier=server.verifier)
        whoami = run(CLIENT, server.verifier, metadata)["whoami"]
        token = server.tenant.token(scope="read:things")
        assert await whoami(token, server.url) == "auth0|alice"
        answer = await server.http.options(
            server.url,
            headers={
                "Origin": "https://client.acme.com",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, mcp-protocol-version",
            },
        )
        assert answer.status_code == 200
        refused = await server.http.post(server.url, headers={"Origin": "https://client.acme.com"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://client.acme.com"
        assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]


async def test_server_of_fastmcp_on_the_page_needs_a_token_and_its_scope() -> None:
    async with served(page(OF_FASTMCP)) as server:
        for token, status in (
            (None, 401),
            (server.tenant.token(scope="openid"), 403),
            (server.tenant.token(scope="read:things"), 200),
        ):
            assert (await server.open_session(token)).status_code == status


def test_test_on_the_page_passes() -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        verifier = TokenVerifier(tenant.issuer, tenant.audience)
        metadata = protected_resource_metadata(tenant.audience, verifier=verifier)
        run(TESTS, verifier, metadata)["test_server_needs_a_scope"](tenant)


async def test_server_inside_another_app_has_its_metadata_at_the_root_of_the_origin() -> None:
    async with served(page(OF_FASTMCP, OUTER, name="outer")) as server:
        refused = await server.http.post(server.url)
        (url,) = re.findall('resource_metadata="(.*?)"', refused.headers["www-authenticate"])
        found = (await server.http.get(url)).json()
        assert found["authorization_servers"] == [server.tenant.issuer]
        async with sdk_client(server, server.tenant.token(scope="read:things")) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["whoami"]


# --- the table ---


class Raising(TokenVerifier):
    """Refuses every token for a reason that is set."""

    reason: RequestRefusedError

    async def verify(self, compact: str | bytes) -> Any:
        raise self.reason


REASONS: dict[str, Callable[[], RequestRefusedError]] = {
    "400": lambda: InvalidRequestError("malformed"),
    "401": lambda: InvalidTokenError("bad"),
    "403": lambda: InsufficientScopeError("poor", ("read:things",)),
    "429": lambda: LookUpThrottledError("throttled", 12),
    "503": lambda: KeysUnavailableError("down", 3),
}


async def test_table_is_what_a_client_makes_of_each_status() -> None:
    made: list[Raising] = []

    def refusing(verifier: TokenVerifier, metadata: ResourceMetadata, _: GuardOptions) -> ASGIApp:
        made.append(Raising(verifier.issuer, metadata.resource))
        return JWKSGuardMiddleware(Starlette(), verifier=made[0], resource_metadata=metadata)

    rows = re.findall(r"(?m)^\| (\d{3}) \| (.*?) \| (.*?) \|$", PAGE)
    assert [status for status, _, _ in rows] == list(REASONS)
    async with served(refusing) as server:
        for status, when, done in rows:
            made[0].reason = REASONS[status]()
            answer = await server.post("token", "tools/list")
            assert answer.status_code == int(status)
            assert ("Retry-After" in when) is ("retry-after" in answer.headers)
            assert done.startswith("asks the issuer") is (await asks_the_issuer(server))


async def asks_the_issuer(server: Served) -> bool:
    """Whether a client whose token is refused gets another one; if not, it still has the old."""
    provider, storage = authorized(server, "token")
    server.tenant.requests.clear()
    assert await failure(server, provider) == REFUSED
    assert storage.tokens is not None
    asked = server.tenant.requests.count("/oauth/token") > 0
    assert (storage.tokens.access_token != "token") is asked
    return asked


# --- the example ---


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Make:
    def make(verifier: TokenVerifier, metadata: ResourceMetadata, _: GuardOptions) -> ASGIApp:
        monkeypatch.setenv("JWKS_GUARD_ISSUER", verifier.issuer)
        monkeypatch.setenv("JWKS_GUARD_AUDIENCE", metadata.resource)
        monkeypatch.delitem(sys.modules, "examples.mcp_server", raising=False)
        app: ASGIApp = importlib.import_module("examples.mcp_server").app
        return app

    return make


def test_example_serves_a_resource_at_the_root_of_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWKS_GUARD_ISSUER", "https://acme.eu.auth0.com/")
    monkeypatch.setenv("JWKS_GUARD_AUDIENCE", "https://api.local.test")
    monkeypatch.delitem(sys.modules, "examples.mcp_server", raising=False)
    assert importlib.import_module("examples.mcp_server").app


async def test_example_guards_its_tool(example: Make) -> None:
    async with served(example, down=True) as server:
        tenant = server.tenant
        verifier: TokenVerifier = sys.modules["examples.mcp_server"].verifier
        leaked = tenant.token(scope="read:things")
        down = await server.post(leaked, "tools/list")
        assert (down.status_code, int(down.headers["retry-after"]) >= 1) == (503, True)
        tenant.faults.clear()
        await verifier.keys.refresh()
        assert (await server.open_session(leaked)).status_code == 200
        tenant.rotate()
        await verifier.distrust(tenant.key("previous").kid, reason="leaked")
        expired = tenant.token(scope="read:things", lifetime=-60)
        for bad in (None, leaked, expired, tenant.forged_token()):
            refused = await server.post(bad, "tools/list")
            assert refused.status_code == 401
            assert "resource_metadata=" in refused.headers["www-authenticate"]
        poor = await server.post(tenant.token(scope="openid"), "tools/list")
        assert poor.status_code == 403
        assert 'scope="read:things"' in poor.headers["www-authenticate"]
        found = await identity(server, tenant.token(scope="read:things"), tool="my_things")
        assert found == {"result": ["a thing of auth0|alice"]}
