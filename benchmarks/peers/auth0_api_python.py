"""auth0-api-python.

It asks https://{domain}/ only, so the issuer must be an https one, and its `custom_fetch` option
asks the same paths of the server that holds `jwks_uri`. It takes RS256 and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit

import httpx
from auth0_api_python import ApiClient, ApiClientOptions

from benchmarks.peers.consumer import Consumer

PACKAGES = ("auth0-api-python", "authlib", "cryptography")


@asynccontextmanager
async def consumer(
    issuer: str, jwks_uri: str, audience: str, algorithms: list[str]
) -> AsyncIterator[Consumer]:
    async def fetch(url: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            response = await client.get(urljoin(jwks_uri, urlsplit(url).path))
        return response.raise_for_status()

    options = ApiClientOptions(
        domain=urlsplit(issuer).netloc, audience=audience, custom_fetch=fetch
    )
    yield Consumer(ApiClient(options).verify_access_token)
