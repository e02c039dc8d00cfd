"""The rows of the page's tables that are one token each, sent to both sides as they stand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from tests.migration.sides import WEEK, Outcome, Pair, Row

_THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def token(**shape: Any) -> Row:
    """Ask both for a token of that shape."""
    return lambda pair: pair.ask(pair.token(**shape))


def expired(seconds: float) -> Row:
    """Ask both for a token that expired so many seconds ago."""
    return token(lifetime=-seconds)


def of_issuer_without_slash(pair: Pair) -> Outcome:
    return pair.ask(pair.token(claims={"iss": pair.tenant.issuer.rstrip("/")}))


def ahead(claim: str, seconds: float) -> Row:
    """Ask both for a token with a date so many seconds ahead, as an issuer's fast clock has it."""
    return lambda pair: pair.ask(pair.token(claims={claim: int(pair.clock.time() + seconds)}))


def forged(kid: str | None = None) -> Row:
    """Ask both for a token by a key that was never published."""
    return lambda pair: pair.ask(pair.forged(kid=kid))


def unsigned(pair: Pair) -> Outcome:
    """`alg` none (RFC 8725 section 3.2)."""
    header, payload, _ = pair.token(header={"alg": "none"}).split(".")
    return pair.ask(f"{header}.{payload}.")


def signed_with_public_key(pair: Pair) -> Outcome:
    """HS256 with the public key's PEM as the secret (RFC 8725 section 2.1)."""
    header, payload, _ = pair.token(header={"alg": "HS256"}).split(".")
    public = pair.tenant.key().private_key.public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mac = hmac.digest(secret, f"{header}.{payload}".encode(), hashlib.sha256)
    return pair.ask(f"{header}.{payload}.{_base64url(mac)}")


def at(path: str, **shape: Any) -> Row:
    """Ask both for a token of that shape at another path."""
    return lambda pair: pair.ask(pair.token(**shape), path=path)


def without_token(pair: Pair) -> Outcome:
    return pair.ask(None)


def in_query(pair: Pair) -> Outcome:
    """RFC 6750 section 2.3, which RFC 9700 section 4.3.2 forbids."""
    return pair.ask(None, path=f"/things?access_token={pair.token()}")


def forged_and_under_scoped(pair: Pair) -> Outcome:
    claims = {**pair.claims, "scope": "other", "scp": "other"}
    return pair.ask(pair.tenant.forged_token(claims=claims, lifetime=WEEK))


def with_dpop_proof(pair: Pair) -> Outcome:
    """A token bound to a key, and the proof that its sender has that key (RFC 9449)."""
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    public = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    thumbprint = _sha256(json.dumps(public, separators=(",", ":"), sort_keys=True))  # RFC 7638
    bound = pair.token(claims={"cnf": {"jkt": thumbprint}})
    claims = {
        "htm": "GET",
        "htu": "http://api.test/things",
        "iat": int(pair.clock.time()),
        "jti": "b7e1",
        "ath": _sha256(bound),
    }
    header = {"typ": "dpop+jwt", "jwk": public}
    proof = jwt.encode(claims, key, algorithm="ES256", headers=header)
    return pair.ask(bound, proof=proof)


def _sha256(text: str) -> str:
    return _base64url(hashlib.sha256(text.encode()).digest())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


SIGNED: dict[str, Row] = {
    "a good token": token(),
    "expired an hour ago": expired(3_600),
    "expired 3 seconds ago": expired(3),
    "without `exp`": token(claims={"exp": None}),
    "`nbf` an hour ahead": ahead("nbf", 3_600),
    "`iat` 10 seconds ahead": ahead("iat", 10),
    "for another audience": token(claims={"aud": "https://other.test"}),
    "without `aud`": token(claims={"aud": None}),
    "of another issuer": token(claims={"iss": "https://other.test/"}),
    "without `iss`": token(claims={"iss": None}),
    "`iss` without its last slash": of_issuer_without_slash,
    "`typ` is `logout+jwt`": token(header={"typ": "logout+jwt"}),
    "bound to a key by `cnf`, and no proof": token(claims={"cnf": {"jkt": _THUMBPRINT}}),
    "a bad signature": forged(),
    "an unknown `kid`": forged("never-published"),
    "`alg` none": unsigned,
    "HS256, the public key is the secret": signed_with_public_key,
    "an opaque token": lambda pair: pair.ask("c2VjcmV0"),
    "three parts, and none is JSON": lambda pair: pair.ask("bm8.bm8.bm8"),
}
"""One token each, to both as they stand."""

WEB: dict[str, Row] = {
    "no token": without_token,
    "a good token in the query string": in_query,
    "`read:things` is not granted": token(claims={"scope": "other", "scp": "other"}),
    "not granted, and a bad signature": forged_and_under_scoped,
}
"""For those that answer requests."""

AUTH0: dict[str, Row] = {
    "granted by the array `scp` alone": token(claims={"scope": None, "scp": ["read:things"]}),
    "listed in `permissions` alone": token(
        claims={"scope": "other", "permissions": ["read:things"]}
    ),
    "bound by DPoP, with its proof": with_dpop_proof,
}

ENTRA: dict[str, Row] = {
    "granted by `scope` alone": token(claims={"scope": "read:things", "scp": None}),
    "`aud` is an array": lambda pair: pair.ask(pair.token(claims={"aud": [pair.tenant.audience]})),
    "without `nbf`": token(claims={"nbf": None}),
    "of a guest (`acct` is 1)": token(claims={"acct": 1}),
}

BOTH = {"scope": "read:things write:things"}
PLAN, ROLES = "https://acme.com/plan", "https://acme.com/roles"
PROFILE = {"client_id": "web", "azp": "web", "jti": "1"}
HELPERS: dict[str, Row] = {
    "`requiredScopes`: both are in `scope`": at("/required", claims=BOTH),
    "`requiredScopes`: one is": at("/required", claims={"scope": "read:things"}),
    "`requiredScopes`: both are in the array `scp`": at(
        "/required", claims={"scope": None, "scp": ["read:things", "write:things"]}
    ),
    "`requiredScopes`: no scope at all": at("/required", claims={"scope": None}),
    "`scopeIncludesAny`: the second is in `scope`": at("/any", claims={"scope": "admin"}),
    "`scopeIncludesAny`: neither is": at("/any", claims={"scope": "other"}),
    "`claimEquals`: equal": at("/equals", claims={PLAN: "pro"}),
    "`claimEquals`: another value": at("/equals", claims={PLAN: "free"}),
    "`claimEquals`: missing": at("/equals"),
    "`claimIncludes`: an array with both": at("/includes", claims={ROLES: ["author", "editor"]}),
    "`claimIncludes`: an array with one": at("/includes", claims={ROLES: ["author"]}),
    "`claimIncludes`: one string, both words in it": at(
        "/includes", claims={ROLES: "author editor"}
    ),
    "`claimCheck`: it passes": at("/check", claims={"email": "bob@acme.com"}),
    "`claimCheck`: it fails": at("/check", claims={"email": "eve@example.com"}),
    "`claimCheck`: it throws, as the claim is a number": at("/check", claims={"email": 1}),
    "`strict`: a token of RFC 9068": at("/strict", header={"typ": "at+jwt"}, claims=PROFILE),
    "`strict`: its `typ` is `JWT`": at("/strict", claims=PROFILE),
    "`strict`: no `jti`": at("/strict", header={"typ": "at+jwt"}, claims={**PROFILE, "jti": None}),
}
"""The helpers of express-oauth2-jwt-bearer, each at a path of its own."""
