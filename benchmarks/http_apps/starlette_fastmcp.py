"""Starlette behind FastMCP's bearer authentication, in the order its own HTTP server puts it."""

# mypy: disable-error-code=import-not-found
# FastMCP is in an environment of its own.

import os

from fastmcp.server.auth.middleware import RequireAuthMiddleware
from fastmcp.server.auth.providers.jwt import JWTVerifier
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from benchmarks.http_apps.starlette_plain import hello

verifier = JWTVerifier(
    jwks_uri=os.environ["JWKS_URI"],
    issuer=os.environ["ISSUER"],
    audience=os.environ["AUDIENCE"],
)
app = Starlette(
    routes=[Route("/", hello)],
    middleware=[
        *verifier.get_middleware(),
        Middleware(RequireAuthMiddleware, required_scopes=[]),
    ],
)
