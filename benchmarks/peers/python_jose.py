"""python-jose. It leaves fetching to the application, so its key set is fetched once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jose import jwt

from benchmarks.peers.consumer import Consumer
from benchmarks.peers.key_set import fetched

PACKAGES = ("python-jose", "cryptography")


@asynccontextmanager
async def consumer(
    issuer: str, jwks_uri: str, audience: str, algorithms: list[str]
) -> AsyncIterator[Consumer]:
    keys = {jwk["kid"]: jwk for jwk in fetched(jwks_uri)["keys"]}

    def verify(token: str) -> object:
        # Given the whole set it would try every key, so the key is chosen by its kid, as Auth0's
        # own example for this library does.
        key = keys[jwt.get_unverified_header(token)["kid"]]
        return jwt.decode(token, key, algorithms=algorithms, audience=audience, issuer=issuer)

    yield Consumer(verify)
