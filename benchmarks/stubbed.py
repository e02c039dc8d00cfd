"""A verifier whose keys take made-up signatures, and what it is given to verify.

For what is measured without the signature check, and with more tokens than could be signed. Keys
and tokens come from fixed numbers, so that two runs are given the same.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Any, cast

import httpx
from cryptography.exceptions import InvalidSignature

from jwks_guard import InvalidSignatureError, TokenVerifier
from jwks_guard.base.clock import Instant
from jwks_guard.distrust.state import Decision, Distrust, Flags
from jwks_guard.jose.compact import b64url_encode
from jwks_guard.jose.jwk import PublicKey, load_jwk_set

ISSUER, AUDIENCE = "https://acme.eu.auth0.com/", "https://api.acme.com"
DAY = 86_400.0  # s
# What RSASSA-PKCS1-v1_5 signs for RS256: this before the hash, 256 bytes in all (RFC 8017, 9.2).
PADDING = b"\0\1" + b"\xff" * 202 + b"\0"
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


class StubKey:
    """An RSA key with the exponent 1: the signature is the encoded message itself."""

    def recover_data_from_signature(self, signature: bytes, *_: object) -> bytes:
        """Give what was signed, after its padding; raises InvalidSignature if that is not there."""
        if not signature.startswith(PADDING):
            raise InvalidSignature
        return signature.removeprefix(PADDING)


def jwk(number: int) -> dict[str, str]:
    """A published RSA key of 2048 bits, to which nobody has the private one."""
    modulus = random.Random(number).getrandbits(2048) | 1 << 2047 | 1
    n = b64url_encode(modulus.to_bytes(256, "big"))
    return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid_of(number), "n": n, "e": "AQAB"}


def kid_of(key: int) -> str:
    """The kid of the key of that number."""
    return f"{key:021}"


def token(number: int = 0, *, key: int = 0, issuer: str = ISSUER, padding: bytes = PADDING) -> str:
    """An access token of Auth0's profile, of about 800 bytes, that only a stub of a key takes.

    It is of the user of that `number`, and names that `key`.
    """
    now = int(time.time())
    header = {"alg": "RS256", "typ": "JWT", "kid": kid_of(key)}
    claims = {
        "iss": issuer,
        "sub": f"auth0|{number:024}",
        "aud": [AUDIENCE, f"{issuer}userinfo"],
        "iat": now,
        "exp": now + int(DAY),
        "scope": "openid profile read:things",
        "azp": "q2hnj2iu5vK0zTfVZ3hXG0yZJbWd1cEx",
        "permissions": ["read:things", "write:things"],
    }
    segments = [json.dumps(each, separators=(",", ":")).encode() for each in (header, claims)]
    signing_input = ".".join(map(b64url_encode, segments))
    signature = padding + DIGEST_INFO + sha256(signing_input.encode()).digest()
    return f"{signing_input}.{b64url_encode(signature)}"


def http_scope(compact: str) -> dict[str, Any]:
    """What a server calls an ASGI application with, for one request with this token."""
    usual = [(b"host", b"api.acme.com"), (b"accept", b"*/*"), (b"connection", b"keep-alive")]
    headers = [*usual, (b"authorization", b"Bearer " + compact.encode())]
    line = {"type": "http", "method": "GET", "path": "/things", "raw_path": b"/things"}
    return {**line, "headers": headers}


def distrusted_keys(count: int) -> Flags:
    """Decisions about keys that are not published any more."""
    flags = {}
    for number in range(count):
        thumbprint = b64url_encode(sha256(b"%d" % number).digest())
        made = {"somebody": Decision(1, "leaked", 0.0, "ops")}
        flags[ISSUER, f"gone-{number}"] = Distrust(made, {}, frozenset({thumbprint}))
    return flags


@asynccontextmanager
async def opened(
    *, keys: int = 3, stubbed: bool = True, **options: Any
) -> AsyncIterator[TokenVerifier]:
    """A started verifier of so many keys, which fetches nothing more for as long as this runs.

    It is seen to refuse what is not signed, and to accept `token()` only if the keys are stubs.
    """
    document = {"keys": [jwk(number) for number in range(keys)]}
    tenant = httpx.MockTransport(lambda _: httpx.Response(200, json=document))
    verifier = TokenVerifier(
        ISSUER,
        AUDIENCE,
        jwks_uri=f"{ISSUER}.well-known/jwks.json",
        refresh_interval=DAY,
        max_stale=DAY,
        max_wait=60.0,  # valgrind on a busy machine takes its time
        http_client=lambda: httpx.AsyncClient(transport=tenant),
        on_event=lambda _: None,
        fast_rsa=False,  # awscrt takes no stub
        **options,
    )
    if stubbed:  # a refresh keeps the objects of keys that it finds unchanged
        loaded, _ = load_jwk_set(document)
        stubs = tuple(replace(key, public_key=cast("PublicKey", StubKey())) for key in loaded)
        verifier.keys.trust.publish(stubs, (), Instant.now(time))
    async with verifier:
        assert verifier.health().status == "ok", verifier.health()
        assert await _refuses(verifier, token(padding=bytes(len(PADDING))))
        assert await _refuses(verifier, token()) is not stubbed
        yield verifier


async def _refuses(verifier: TokenVerifier, compact: str) -> bool:
    """Whether it refuses the signature; any other error comes out."""
    try:
        await verifier.verify(compact)
    except InvalidSignatureError:
        return True
    return False
