"""A guarded API: `uvicorn examples.starlette_api:app`.

Set JWKS_GUARD_ISSUER and JWKS_GUARD_AUDIENCE first, as `jwks-guard tenant` prints them.
"""

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware

verifier = TokenVerifier.from_env()


@requires("read:things")
async def things(request: Request) -> JSONResponse:
    return JSONResponse({"owner": request.state.token.subject, "things": []})


async def health(request: Request) -> JSONResponse:
    report = verifier.health()
    return JSONResponse(report.to_dict(), 503 if report.status == "unavailable" else 200)


app = Starlette(routes=[Route("/things", things), Route("/health", health)])
app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/health"])
