"""Guard an ASGI application: HTTP, WebSocket and lifespan; and operate it."""

from jwks_guard.asgi.connection import get_token
from jwks_guard.asgi.middleware import JWKSGuardMiddleware, TokenUser
from jwks_guard.asgi.operations import operations
from jwks_guard.asgi.operations_auth import StaticSecrets
from jwks_guard.asgi.protocol import RequestVerifier
from jwks_guard.asgi.resource_metadata import ResourceMetadata, protected_resource_metadata
from jwks_guard.asgi.webhook import log_stream_webhook

__all__ = [
    "JWKSGuardMiddleware",
    "RequestVerifier",
    "ResourceMetadata",
    "StaticSecrets",
    "TokenUser",
    "get_token",
    "log_stream_webhook",
    "operations",
    "protected_resource_metadata",
]
