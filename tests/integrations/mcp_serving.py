"""MCP servers on uvicorn, with the keys of a real tenant, and the tool that says who calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx
import uvicorn
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_access_token as get_fastmcp_token
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from starlette.types import ASGIApp

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, ResourceMetadata, protected_resource_metadata
from jwks_guard.integrations.fastmcp import FastMCPGuard
from jwks_guard.integrations.mcp import MCPTokenVerifier, auth_settings
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import listen
from jwks_guard.verify.request import GuardOptions
from tests.support import PATIENCE

Make: TypeAlias = Callable[[TokenVerifier, ResourceMetadata, GuardOptions], ASGIApp]


def seen(token: Any) -> dict[str, Any]:
    """What a tool knows of the party that calls it."""
    assert token is not None
    return {
        "subject": token.subject,
        "client": token.client_id,
        "scopes": token.scopes,
        "resource": token.resource,
        "issuer": token.claims["iss"],
        "department": token.claims.get("https://acme.com/department"),
    }


def sdk_server(verifier: TokenVerifier, metadata: ResourceMetadata) -> MCPServer[Any]:
    tokens = MCPTokenVerifier(verifier, resource=metadata.resource)
    server: MCPServer[Any] = MCPServer("acme", token_verifier=tokens, auth=auth_settings(metadata))

    @server.tool()
    def whoami() -> dict[str, Any]:
        return seen(get_access_token())

    return server


def sdk_app(verifier: TokenVerifier, metadata: ResourceMetadata, options: GuardOptions) -> ASGIApp:
    app = sdk_server(verifier, metadata).streamable_http_app()
    app.add_middleware(JWKSGuardMiddleware, verifier=verifier, **options)
    return app


def fastmcp_app(
    verifier: TokenVerifier, metadata: ResourceMetadata, options: GuardOptions
) -> ASGIApp:
    guard = FastMCPGuard(verifier, **options)
    server: FastMCP[Any] = FastMCP("acme", auth=guard)

    @server.tool
    def whoami() -> dict[str, Any]:
        return seen(get_fastmcp_token())

    return server.http_app()


def bare_sdk_app(
    verifier: TokenVerifier, metadata: ResourceMetadata, options: GuardOptions
) -> ASGIApp:
    """The SDK's app with nothing around it."""
    return sdk_server(verifier, metadata).streamable_http_app()


def principal_free_app(
    verifier: TokenVerifier, metadata: ResourceMetadata, options: GuardOptions
) -> ASGIApp:
    """A guarded app to which nothing tells whose request it is."""
    app = MCPServer("acme").streamable_http_app()
    app.add_middleware(JWKSGuardMiddleware, verifier=verifier, **options)
    return app


@dataclass
class Served:
    """An MCP server, and what guards it."""

    origin: str
    tenant: LocalTenant
    verifier: TokenVerifier
    http: httpx.AsyncClient

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"

    async def leak(self) -> None:
        """Have the tenant sign with another key, and the server refuse the one it had."""
        self.tenant.rotate()
        await self.verifier.distrust(self.tenant.key("previous").kid, reason="leaked")

    async def post(
        self, token: str | None, method: str, session: str | None = None, **params: Any
    ) -> httpx.Response:
        """Send one message of the protocol that has sessions."""
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2025-11-25",
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if session is not None:
            headers["Mcp-Session-Id"] = session
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if not method.startswith("notifications/"):
            message["id"] = 1
        return await self.http.post(self.url, json=message, headers=headers)

    async def open_session(self, token: str | None) -> httpx.Response:
        """Send what begins a session."""
        return await self.post(
            token,
            "initialize",
            protocolVersion="2025-11-25",
            capabilities={},
            clientInfo={"name": "test", "version": "1"},
        )


@asynccontextmanager
async def served(
    make: Make, *, down: bool = False, verifier: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Served]:
    """Serve what `make` makes with these options; with `down` the tenant never answers."""
    listener = listen("127.0.0.1", 0)
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    resource = f"{origin}/mcp"
    async with LocalTenant(algorithm="ES256", audience=resource) as tenant:
        if down:
            tenant.faults.status(503, path="*")
        verifies = TokenVerifier(tenant.issuer, resource, **(verifier or {}))
        metadata = protected_resource_metadata(
            resource, verifier=verifies, scopes_supported=["read:things"]
        )
        guarding = GuardOptions(resource_metadata=metadata, **options)  # type: ignore[typeddict-item]
        app = make(verifies, metadata, guarding)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve([listener]))
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
                yield Served(origin, tenant, verifies, http)
        finally:
            server.should_exit = True
            await serving
            await verifies.aclose()
