"""A guarded API that takes part in a fleet; the environment says whose tokens, and which Redis."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.fleet import RedisFleet


def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.state.token.kid)


verifier = TokenVerifier(
    os.environ["ISSUER"],
    os.environ["AUDIENCE"],
    algorithms=["ES256"],
    refresh_interval=1.0,
    fleet=RedisFleet(os.environ["FLEET"], poll_interval=0.2, require_fleet=True),
)
app = Starlette(routes=[Route("/", hello)])
app.add_middleware(JWKSGuardMiddleware, verifier=verifier)
