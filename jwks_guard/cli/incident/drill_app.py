"""One guarded instance of the drill, for uvicorn in a process of its own."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, operations
from jwks_guard.cli.demo.stage import direct_client

ISSUER, AUDIENCE, SECRET = "DRILL_ISSUER", "DRILL_AUDIENCE", "DRILL_SECRET"


def app() -> Starlette:
    """The API that the variables of the environment describe."""
    verifier = TokenVerifier(
        os.environ[ISSUER], os.environ[AUDIENCE], http_client=direct_client, refresh_interval=5.0
    )

    async def things(request: Request) -> JSONResponse:
        return JSONResponse({"things": [], "for": request.user.identity})

    routes = operations(verifier, operations_auth=os.environ[SECRET])
    return Starlette(
        routes=[Route("/things", things), Mount("/ops", routes)],
        middleware=[Middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/ops/*"])],
    )
