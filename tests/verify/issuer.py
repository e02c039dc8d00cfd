"""An issuer that publishes what a test writes, in whatever spelling, and signs what it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from jwks_guard import TokenVerifier
from jwks_guard.jose.compact import b64url_encode
from jwks_guard.testing.keys import SigningKey, generate_signing_key
from tests.support import HandClock

ISSUER, AUDIENCE = "https://issuer.test/", "https://api.test"
JWKS = "https://issuer.test/jwks"


def new_key(kid: str = "k1", algorithm: str = "ES256") -> SigningKey:
    return generate_signing_key(algorithm, now=0, common_name="issuer.test", kid=kid)


def jwk_of(key: SigningKey, **members: Any) -> dict[str, Any]:
    """Its JWK; a member that is given as an ellipsis is left out."""
    jwk = {**key.jwk, **members}
    return {name: value for name, value in jwk.items() if value is not ...}


@dataclass
class Issuer:
    """Publishes `keys`, in a document that may be replaced, and keeps count of its requests."""

    clock: HandClock
    keys: list[Mapping[str, Any]] = field(default_factory=list)
    issuer: str = ISSUER
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path.endswith("/.well-known/openid-configuration"):
            return httpx.Response(200, json={"issuer": self.issuer, "jwks_uri": JWKS})
        return httpx.Response(200, json={"keys": self.keys})

    def verifier(self, audience: Any = AUDIENCE, **options: Any) -> TokenVerifier:
        client = httpx.AsyncClient(transport=httpx.MockTransport(self))
        given = {"http_client": client, "background": False, "clock": self.clock, **options}
        if "keys" in given:
            given = options
        return TokenVerifier(self.issuer, audience, **given)

    def token(self, key: SigningKey, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A token; a member or claim that is given as an ellipsis is left out."""
        now = int(self.clock.time())
        named = {"alg": key.algorithm, "typ": "JWT", "kid": key.kid, **(header or {})}
        said = {"iss": self.issuer, "aud": AUDIENCE, "sub": "alice", "exp": now + 600, **claims}
        parts = [
            b64url_encode(
                json.dumps({name: v for name, v in part.items() if v is not ...}).encode()
            )
            for part in (named, said)
        ]
        signing_input = ".".join(parts)
        return f"{signing_input}.{b64url_encode(key.sign(signing_input.encode()))}"


WITHOUT_KID: dict[str, Any] = {"kid": ...}
