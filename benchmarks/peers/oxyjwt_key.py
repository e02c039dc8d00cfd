"""OxyJWT with its key handed over, as for a key that never changes: no `kid` is looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import oxyjwt

from benchmarks.peers.consumer import Consumer
from benchmarks.peers.key_set import fetched

PACKAGES = ("oxyjwt", "orjson")


@asynccontextmanager
async def consumer(
    issuer: str, jwks_uri: str, audience: str, algorithms: list[str]
) -> AsyncIterator[Consumer]:
    key = oxyjwt.DecodingKey.from_jwk(fetched(jwks_uri)["keys"][0])

    def verify(token: str) -> object:
        return oxyjwt.decode(token, key, algorithms=algorithms, audience=audience, issuer=issuer)

    yield Consumer(verify)
