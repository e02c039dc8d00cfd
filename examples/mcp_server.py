"""A guarded MCP server: set JWKS_GUARD_ISSUER and JWKS_GUARD_AUDIENCE, which is its URL.

Then `uvicorn examples.mcp_server:app`. With JWKS_GUARD_AUDIENCE=http://127.0.0.1:8000/mcp it runs
on this machine, where the path of the URL is that of the endpoint.
"""

import os
from urllib.parse import urlsplit

from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.transport_security import TransportSecuritySettings

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, protected_resource_metadata
from jwks_guard.integrations.mcp import MCPTokenVerifier, auth_settings

resource = os.environ["JWKS_GUARD_AUDIENCE"]
address = urlsplit(resource)
verifier = TokenVerifier.from_env()
metadata = protected_resource_metadata(
    resource, verifier=verifier, scopes_supported=["read:things"], resource_name="Things"
)
server = MCPServer(
    "things",
    token_verifier=MCPTokenVerifier(verifier, resource=resource),
    auth=auth_settings(metadata),
)


@server.tool()
def my_things() -> list[str]:
    """List the things of the user who asks."""
    token = get_access_token()
    return [] if token is None else [f"a thing of {token.subject}"]


app = server.streamable_http_app(
    streamable_http_path=address.path or "/",
    transport_security=TransportSecuritySettings(allowed_hosts=[address.netloc]),
)
app.add_middleware(
    JWKSGuardMiddleware,
    verifier=verifier,
    resource_metadata=metadata,
    required_scopes=["read:things"],
)
