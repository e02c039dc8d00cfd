"""ryjwt's JWKSClient; it needs Python 3.12."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import ryjwt

from benchmarks.peers.consumer import Consumer

PACKAGES = ("ryjwt",)


@asynccontextmanager
async def consumer(
    issuer: str, jwks_uri: str, audience: str, algorithms: list[str]
) -> AsyncIterator[Consumer]:
    client = ryjwt.JWKSClient(jwks_uri, algorithms=algorithms, audience=audience, issuer=issuer)
    yield Consumer(client.decode)
