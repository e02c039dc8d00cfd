"""A guarded API in a fleet over Redis, which says when it accepted a token, and can be told."""

from __future__ import annotations

import logging
import os
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.fleet import RedisFleet

logging.getLogger("jwks_guard").setLevel(logging.ERROR)  # each revocation is a warning
verifier = TokenVerifier(
    os.environ["ISSUER"],
    os.environ["AUDIENCE"],
    fleet=RedisFleet(os.environ["REDIS"], require_fleet=True),
)


async def accepted(request: Request) -> JSONResponse:
    """This process, and when it was: on Linux all processes have one monotonic clock."""
    return JSONResponse({"process": os.getpid(), "at": time.monotonic()})


async def distrust(request: Request) -> JSONResponse:
    """When the call began."""
    began = time.monotonic()
    await verifier.distrust(request.path_params["kid"], reason="revoked by the benchmark")
    return JSONResponse({"at": began})


app = Starlette(
    routes=[Route("/", accepted), Route("/distrust/{kid}", distrust, methods=["POST"])],
)
app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/distrust/*"])
