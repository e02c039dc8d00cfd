"""A guarded Litestar API: `uvicorn examples.litestar_api:app`.

Set JWKS_GUARD_ISSUER and JWKS_GUARD_AUDIENCE first, as `jwks-guard tenant` prints them.
"""

from typing import Any

from litestar import Litestar, Request, get, post
from litestar.datastructures import State

from jwks_guard import TokenVerifier, VerifiedToken
from jwks_guard.asgi import TokenUser
from jwks_guard.integrations.litestar import Guard

verifier = TokenVerifier.from_env()
guard = Guard(verifier)

TokenRequest = Request[TokenUser, VerifiedToken, State]


@get("/things")
async def things(request: TokenRequest) -> dict[str, Any]:
    return {"owner": request.auth.subject, "things": []}


@post("/things", guards=[guard.requiring(required_scopes=["write:things"])])
async def make_thing(request: TokenRequest) -> dict[str, Any]:
    return {"owner": request.user.identity}


@get("/health", opt={"exclude_from_auth": True}, security=[{}])
async def health() -> dict[str, str]:
    return {"status": verifier.health().status}


app = Litestar([things, make_thing, health], on_app_init=[guard.on_app_init])
