"""A guarded API that shares what is distrusted through Redis; the environment says whose and where.

`/distrust/KID` is for the test to tell one of several.
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from jwks_guard import DistrustNotSharedError, TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.fleet import RedisFleet

verifier = TokenVerifier(
    os.environ["ISSUER"],
    os.environ["AUDIENCE"],
    algorithms=["ES256"],
    fleet=RedisFleet(os.environ["REDIS"]),
)


def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.user.identity)


async def distrust(request: Request) -> PlainTextResponse:
    try:
        await verifier.distrust(request.path_params["kid"], reason="leaked")
    except DistrustNotSharedError as error:
        return PlainTextResponse(str(error), 503)
    return PlainTextResponse("shared")


def health(request: Request) -> JSONResponse:
    return JSONResponse(verifier.health().to_dict() | {"pid": os.getpid()})


app = Starlette(
    routes=[
        Route("/", hello),
        Route("/distrust/{kid}", distrust, methods=["POST"]),
        Route("/health", health),
    ]
)
app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/distrust/*", "/health"])
