"""A guarded API with its operations routes, for a container: `uvicorn api:app`.

Settings come from JWKS_GUARD_* variables, and the operations secret from the file that
OPS_SECRET_FILE names. compose.yaml beside this file sets all of them.
"""

import os

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, StaticSecrets, operations

verifier = TokenVerifier.from_env()
secret = StaticSecrets.from_file(os.environ["OPS_SECRET_FILE"])


@requires("read:things")
async def things(request: Request) -> JSONResponse:
    return JSONResponse({"owner": request.state.token.subject, "things": []})


app = Starlette(
    routes=[
        Route("/things", things),
        Mount("/ops", operations(verifier, operations_auth=secret)),
    ]
)
app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/ops/*"])
