"""A guarded API with its metrics at /ops/metrics; the environment says whose tokens it accepts.

Its answers say which process they come from.
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, StaticSecrets, operations

verifier = TokenVerifier(os.environ["ISSUER"], os.environ["AUDIENCE"])


def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello", headers={"X-Worker": str(os.getpid())})


operated = operations(verifier, operations_auth=StaticSecrets.from_environment("SECRET"))
app = Starlette(routes=[Mount("/ops", operated), Route("/", hello)])
app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/ops/*"])
