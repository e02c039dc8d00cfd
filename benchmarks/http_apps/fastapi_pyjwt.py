"""FastAPI with a dependency on PyJWT, which brings no integration of its own.

Both forms that guides show: `async def`, which Auth0's guide to FastAPI has and which blocks the
event loop while PyJWKClient fetches; and `def` (THREADS is set), which FastAPI runs in a thread.
"""

# mypy: disable-error-code=import-not-found
# FastAPI is in the environments of those that are measured with it.

import os
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from benchmarks.http_apps.fastapi_plain import hello

jwks_client = jwt.PyJWKClient(os.environ["JWKS_URI"])
Credentials = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


def verified(token: str) -> dict[str, Any]:
    try:
        key = jwks_client.get_signing_key_from_jwt(token)
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            audience=os.environ["AUDIENCE"],
            issuer=os.environ["ISSUER"],
        )
    except jwt.PyJWTError as error:
        raise HTTPException(status_code=401, detail="invalid token") from error
    return claims


async def claims_in_the_loop(credentials: Credentials) -> dict[str, Any]:
    return verified(credentials.credentials)


def claims_in_a_thread(credentials: Credentials) -> dict[str, Any]:
    return verified(credentials.credentials)


claims = claims_in_a_thread if "THREADS" in os.environ else claims_in_the_loop
app = FastAPI()
app.add_api_route("/", hello, dependencies=[Depends(claims)])
