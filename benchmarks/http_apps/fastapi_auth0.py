"""FastAPI behind auth0-fastapi-api, as its own README shows."""

# mypy: disable-error-code=import-not-found
# auth0-fastapi-api is in an environment of its own.

import os
from urllib.parse import urlsplit

import httpx
from fastapi import Depends, FastAPI
from fastapi_plugin import Auth0FastAPI

from benchmarks.http_apps.fastapi_plain import hello


async def without_tls(url: str) -> httpx.Response:
    """What the package's own fetch does, for a tenant on loopback.

    The package builds https addresses only, and takes no other issuer. So its tenant names itself
    by https, and this documented hook asks for the same address by http.
    """
    async with httpx.AsyncClient() as client:
        response = await client.get(url.replace("https://", "http://", 1))
        return response.raise_for_status()


auth0 = Auth0FastAPI(
    domain=urlsplit(os.environ["ISSUER"]).netloc,
    audience=os.environ["AUDIENCE"],
    custom_fetch=without_tls,
)
app = FastAPI()
app.add_api_route("/", hello, dependencies=[Depends(auth0.require_auth())])
