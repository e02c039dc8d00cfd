"""joserfc. It leaves fetching to the application, so its key set is fetched once, at the start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet

from benchmarks.peers.consumer import Consumer
from benchmarks.peers.key_set import fetched

PACKAGES = ("joserfc", "cryptography")


@asynccontextmanager
async def consumer(
    issuer: str, jwks_uri: str, audience: str, algorithms: list[str]
) -> AsyncIterator[Consumer]:
    document: Any = fetched(jwks_uri)
    keys = KeySet.import_key_set(document)
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": audience},
        exp={"essential": True},
    )

    def verify(token: str) -> object:
        decoded = jwt.decode(token, keys, algorithms=algorithms)
        registry.validate(decoded.claims)
        return decoded

    yield Consumer(verify)
