"""OxyJWT: its `PyJWKClient` and `decode`, as its README shows for Auth0."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import oxyjwt

from benchmarks.peers.consumer import Consumer

PACKAGES = ("oxyjwt", "orjson")


@asynccontextmanager
async def consumer(
    issuer: str, jwks_uri: str, audience: str, algorithms: list[str]
) -> AsyncIterator[Consumer]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", oxyjwt.InsecureJWKSUriWarning)  # it is on loopback
        client = oxyjwt.PyJWKClient(jwks_uri, cache_keys=True)

    def verify(token: str) -> object:
        key = client.get_signing_key_from_jwt(token).key
        return oxyjwt.decode(token, key, algorithms=algorithms, audience=audience, issuer=issuer)

    yield Consumer(verify)
