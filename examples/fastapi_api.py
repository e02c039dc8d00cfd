"""A FastAPI app: set JWKS_GUARD_ISSUER and _AUDIENCE, then `uvicorn examples.fastapi_api:app`.

With CLIENT_ID, that of an application at the issuer, the Authorize button of /docs gets a token.
"""

import os
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Response, Security, WebSocket

from jwks_guard import TokenVerifier, VerifiedToken
from jwks_guard.integrations.fastapi import CurrentToken, Guard

verifier = TokenVerifier.from_env()
guard = Guard(verifier)
optional_guard = Guard(verifier, optional=True)

Reader = Annotated[VerifiedToken, Security(guard, scopes=["read:things"])]
Visitor = Annotated[VerifiedToken | None, Depends(optional_guard)]

app = FastAPI(
    lifespan=guard.lifespan,
    swagger_ui_init_oauth={
        "clientId": os.environ.get("CLIENT_ID", ""),
        "usePkceWithAuthorizationCodeGrant": True,
        "scopes": "read:things",
        "additionalQueryStringParams": {"audience": os.environ.get("JWKS_GUARD_AUDIENCE", "")},
    },
)
account = APIRouter(prefix="/account", dependencies=[Depends(guard)])


@app.get("/health")
async def health(response: Response) -> dict[str, str]:
    status = verifier.health().status
    response.status_code = 503 if status == "unavailable" else 200
    return {"status": status}


@app.get("/")
async def greet(visitor: Visitor) -> str:
    return "hello" if visitor is None else f"hello {visitor.subject}"


@app.get("/things")
async def things(token: Reader) -> dict[str, str | None]:
    return {"owner": token.subject}


@account.get("/scopes")
async def scopes(token: CurrentToken) -> list[str]:
    return sorted(token.scopes)


@app.websocket("/echo")
async def echo(websocket: WebSocket, token: Reader) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{token.subject}: {text}")


app.include_router(account)
