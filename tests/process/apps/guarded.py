"""A guarded API; the environment says whose tokens it accepts."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware


def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {request.user.display_name}")


app = Starlette(routes=[Route("/", hello), Route("/health", hello)])
app.add_middleware(
    JWKSGuardMiddleware,
    verifier=TokenVerifier(os.environ["ISSUER"], os.environ["AUDIENCE"]),
    exclude_paths=["/health"],
)
