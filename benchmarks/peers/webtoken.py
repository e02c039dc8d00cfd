"""webtoken. It fetches nothing, so its key is handed over: no `kid` is looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import webtoken

from benchmarks.peers.consumer import Consumer
from benchmarks.peers.key_set import fetched

PACKAGES = ("webtoken",)


@asynccontextmanager
async def consumer(
    issuer: str, jwks_uri: str, audience: str, algorithms: list[str]
) -> AsyncIterator[Consumer]:
    key = webtoken.PyJWK(fetched(jwks_uri)["keys"][0])

    def verify(token: str) -> object:
        return webtoken.decode(token, key, algorithms=algorithms, audience=audience, issuer=issuer)

    yield Consumer(verify)
