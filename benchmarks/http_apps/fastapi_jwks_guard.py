"""FastAPI behind JWKSGuardMiddleware."""

import os

from benchmarks.http_apps.fastapi_plain import app
from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware

verifier = TokenVerifier(os.environ["ISSUER"], os.environ["AUDIENCE"])
app.add_middleware(JWKSGuardMiddleware, verifier=verifier)
