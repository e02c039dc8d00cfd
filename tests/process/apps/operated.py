"""A guarded API with operations routes, of a fleet over HTTP; the environment says of which."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, StaticSecrets, operations
from jwks_guard.fleet import HTTPFleet

verifier = TokenVerifier(
    os.environ["ISSUER"],
    os.environ["AUDIENCE"],
    algorithms=["ES256"],
    fleet=HTTPFleet(os.environ["URLS"].split(), secret=os.environ["SECRET"], poll_interval=0.2),
)


def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {request.user.display_name}")


operated = operations(verifier, operations_auth=StaticSecrets.from_environment("SECRET"))
app = Starlette(routes=[Mount("/ops", operated), Route("/", hello)])
app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/ops/*"])
