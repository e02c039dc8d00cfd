"""PyJWT: `PyJWKClient` and `jwt.decode`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jwt

from benchmarks.peers.consumer import Consumer

PACKAGES = ("pyjwt", "cryptography")


@asynccontextmanager
async def consumer(
    issuer: str, jwks_uri: str, audience: str, algorithms: list[str]
) -> AsyncIterator[Consumer]:
    client = jwt.PyJWKClient(jwks_uri)

    def verify(token: str) -> object:
        key = client.get_signing_key_from_jwt(token)
        return jwt.decode(token, key, algorithms=algorithms, audience=audience, issuer=issuer)

    yield Consumer(verify)
