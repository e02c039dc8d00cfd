"""The key that a token names, and whether the token's signature is that key's."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from jwks_guard.cli.words import Line, shown
from jwks_guard.errors import InvalidTokenError, UnusableKeyError
from jwks_guard.jose.algorithms import ALL, AllowList
from jwks_guard.jose.compact import decode_object, decode_segment
from jwks_guard.jose.header import is_kid
from jwks_guard.jose.jwk import VerificationKey
from jwks_guard.jose.jws import verify_signature
from jwks_guard.keys.health import HealthReport
from jwks_guard.keys.store import KeyStore


@dataclass(frozen=True, slots=True)
class NamedKey:
    """What a header says about the key that signed."""

    alg: str
    kid: str | None


def named_key(segment: bytes) -> NamedKey | None:
    """Give what the header in `segment` says about its key; None if that can name no key."""
    try:
        header = decode_object(segment, "header")
    except InvalidTokenError:
        return None
    alg, kid = header.get("alg"), header.get("kid", "")
    if not isinstance(alg, str) or not (kid == "" or is_kid(kid)):
        return None
    return NamedKey(alg, kid or None)


def explain_key(
    named: NamedKey | None, keys: KeyStore, allowed: AllowList
) -> tuple[VerificationKey | None, list[Line]]:
    """Give the key, if `keys` has one to verify with, and the statements about it."""
    health = keys.health()
    if named is None:
        return None, [Line("??", "key", "the header names none")]
    if named.alg not in allowed.names:  # said of the header already
        allowed = ALL
    if not health.kids:
        why = f"The issuer's keys can't be had: {health.last_error}."
        return None, [Line("??", "key", "not looked up", why)]
    try:
        key = keys.trust.view.find(named.kid, named.alg, allowed)
    except UnusableKeyError as error:
        return None, [Line("NO", "key", "can't be used", str(error))]
    except InvalidTokenError as error:
        return None, [Line("NO", "key", "published", str(error))]
    if key is None:
        return None, [_unpublished(named.kid, health)]
    return key, _description(key, allowed)


def explain_signature(
    named: NamedKey | None, key: VerificationKey | None, signing_input: bytes, signature: bytes
) -> Line:
    """Give the statement about a signature, as far as it can be made without a key."""
    try:
        decoded = decode_segment(signature, "signature")
        if named is None or key is None:
            return Line("??", "signature", "not checked: there is no key to check it with")
        verify_signature(key, named.alg, signing_input, decoded)
    except InvalidTokenError as error:
        return Line("NO", "signature", "not valid", str(error))
    return Line("ok", "signature", "this key made it, over this header and these claims")


def _unpublished(kid: str | None, health: HealthReport) -> Line:
    return Line("NO", "key", "not published", f"The issuer's keys: {shown(health.kids)}.")


def _description(key: VerificationKey, allowed: AllowList) -> list[Line]:
    public = key.public_key
    algorithms = sorted(alg for alg in key.algorithms if key.may_verify(alg, allowed))
    kind = f"RSA, {public.key_size} bits" if isinstance(public, RSAPublicKey) else key.crv
    return [
        Line("ok", "key", f"published by the issuer: {kind}, for {', '.join(algorithms)}"),
        Line("  ", "thumbprint", key.thumbprint),
    ]
