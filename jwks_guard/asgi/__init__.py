"""Guard an ASGI application: HTTP, WebSocket and lifespan."""

from jwks_guard.asgi.middleware import JWKSGuardMiddleware, TokenUser
from jwks_guard.asgi.protocol import RequestVerifier

__all__ = ["JWKSGuardMiddleware", "RequestVerifier", "TokenUser"]
