"""Starlette behind JWKSGuardMiddleware, as in the README's quick start."""

import os

from starlette.applications import Starlette
from starlette.routing import Route

from benchmarks.http_apps.starlette_plain import hello
from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware

verifier = TokenVerifier(
    os.environ["ISSUER"],
    os.environ["AUDIENCE"],
    token_cache_size=int(os.environ.get("TOKEN_CACHE_SIZE", "10000")),
)
app = Starlette(routes=[Route("/", hello)])
app.add_middleware(JWKSGuardMiddleware, verifier=verifier)
