"""Verifiers with as many keys, issuers or decisions as wanted, and tokens for them.

Their keys are stubs that take made-up signatures, so that our own cost is seen.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any, cast

import httpx

from benchmarks.stubbed import AUDIENCE, DAY, ISSUER, StubKey, jwk, token
from jwks_guard import TokenVerifier
from jwks_guard.base.clock import Instant
from jwks_guard.distrust.register import Register
from jwks_guard.jose.jwk import MAX_KEYS, PublicKey, VerificationKey, load_jwk_set

TOKENS = 500
"""As many at every size, so that the tokens' own memory is the same everywhere."""
_FREE_JWKS_BYTES = 2**25


def issuer_of(number: int) -> str:
    """The issuer of that number; the first one is that of all other benchmarks."""
    return ISSUER if number == 0 else f"https://tenant-{number}.eu.auth0.com/"


def tokens_by_keys(keys: int) -> list[bytes]:
    """TOKENS of them, spread evenly over so many keys of one issuer, in an order by chance."""
    return [token(n, key=n * keys // TOKENS).encode() for n in _shuffled()]


def tokens_of_issuers(issuers: int) -> list[bytes]:
    """TOKENS of them, spread evenly over so many issuers, each of which has one key."""
    chosen = ((n, n * issuers // TOKENS) for n in _shuffled())
    return [token(n, key=issuer, issuer=issuer_of(issuer)).encode() for n, issuer in chosen]


def _shuffled() -> list[int]:
    return random.Random(0).sample(range(TOKENS), TOKENS)


def document(keys: int, *, first: int = 0) -> dict[str, Any]:
    """A JWK Set of so many keys, with the members alone that a key can't do without."""
    members = ("kty", "kid", "n", "e")
    numbers = range(first, first + keys)
    return {"keys": [{name: jwk(number)[name] for name in members} for number in numbers]}


def loaded(keys: int, *, first: int = 0) -> tuple[VerificationKey, ...]:
    """So many keys as they come out of JWK Sets: of several, as one gives MAX_KEYS at the most."""
    found: list[VerificationKey] = []
    while len(found) < keys:
        count = min(MAX_KEYS, keys - len(found))
        found.extend(load_jwk_set(document(count, first=first + len(found)))[0])
    return tuple(found)


def stubs(keys: int, *, first: int = 0) -> tuple[VerificationKey, ...]:
    """The same with a stub instead of each public key."""
    stub = cast("PublicKey", StubKey())
    return tuple(replace(key, public_key=stub) for key in loaded(keys, first=first))


def published(verifier: TokenVerifier, keys: Sequence[VerificationKey]) -> None:
    """Have the view of `verifier` hold these keys."""
    verifier.keys.trust.publish(tuple(keys), (), Instant.now(time))


def verifier_of(
    *answers: dict[str, Any], issuer: int = 0, register: Register | None = None, **options: Any
) -> TokenVerifier:
    """One whose issuer answers with these JWK Sets in turn; it fetches nothing more by itself."""
    bodies = cycle([json.dumps(each).encode() for each in answers])
    tenant = httpx.MockTransport(lambda _: httpx.Response(200, content=next(bodies)))
    name = issuer_of(issuer)
    return TokenVerifier(
        name,
        AUDIENCE,
        jwks_uri=f"{name}.well-known/jwks.json",
        refresh_interval=DAY,
        max_stale=DAY,
        max_wait=60.0,
        max_jwks_bytes=_FREE_JWKS_BYTES,
        http_client=lambda: httpx.AsyncClient(transport=tenant, trust_env=False),
        on_event=lambda _: None,
        register=Register() if register is None else register,
        **options,
    )


def uncached(verifier: TokenVerifier) -> TokenVerifier:
    """One with the same keys that remembers no result."""
    return TokenVerifier(verifier.issuer, AUDIENCE, keys=verifier.keys, token_cache_size=0)
