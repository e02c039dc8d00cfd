"""A guarded API whose logging the environment sets up: a file that is run first, if any.

What is below /public/ needs no token.
"""

from __future__ import annotations

import os
import runpy

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from jwks_guard import KeysUnavailableError, TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware

if "LOGGING" in os.environ:
    runpy.run_path(os.environ["LOGGING"])

verifier = TokenVerifier(os.environ["ISSUER"], os.environ["AUDIENCE"])


def hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def refresh(_: Request) -> PlainTextResponse:
    try:
        await verifier.keys.refresh()
    except KeysUnavailableError:
        return PlainTextResponse("failed")
    return PlainTextResponse("refreshed")


async def distrust(request: Request) -> PlainTextResponse:
    await verifier.distrust(request.path_params["kid"], reason="leaked")
    await verifier.reinstate(request.path_params["kid"], reason="a rehearsal")
    return PlainTextResponse("done")


app = Starlette(
    routes=[
        Route("/", hello),
        Route("/public/refresh", refresh),
        Route("/public/distrust/{kid}", distrust),
    ]
)
app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/public/*"])
