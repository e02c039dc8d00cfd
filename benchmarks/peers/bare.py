"""The signature check alone, by this environment's `cryptography`: the floor for everybody."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

Check = Callable[[], None]


def bare_checks(tokens: Sequence[str], jwks: dict[str, Any]) -> list[Check]:
    """What verifies the signature of each token, anew with each call, and does nothing else.

    Everything is decoded before. The tokens are of one key and algorithm: RS256, PS256, ES256 or
    EdDSA with Ed25519.
    """
    header = json.loads(_decoded(tokens[0].partition(".")[0]))
    jwk = next(each for each in jwks["keys"] if each["kid"] == header["kid"])
    prepared = _PREPARED[header["alg"]](jwk)
    checks = []
    for token in tokens:
        signing_input, _, signature = token.rpartition(".")
        checks.append(prepared(_decoded(signature), signing_input.encode()))
    return checks


def _rsa(scheme: padding.AsymmetricPadding, jwk: dict[str, str]) -> Callable[[bytes, bytes], Check]:
    key = rsa.RSAPublicNumbers(_integer(jwk["e"]), _integer(jwk["n"])).public_key()
    sha256 = SHA256()
    return lambda signature, message: partial(key.verify, signature, message, scheme, sha256)


def _ecdsa(jwk: dict[str, str]) -> Callable[[bytes, bytes], Check]:
    x, y = _integer(jwk["x"]), _integer(jwk["y"])
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    ecdsa = ec.ECDSA(SHA256())

    def prepared(signature: bytes, message: bytes) -> Check:
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        return partial(key.verify, encode_dss_signature(r, s), message, ecdsa)

    return prepared


def _eddsa(jwk: dict[str, str]) -> Callable[[bytes, bytes], Check]:
    key = ed25519.Ed25519PublicKey.from_public_bytes(_decoded(jwk["x"]))
    return lambda signature, message: partial(key.verify, signature, message)


_PREPARED: dict[str, Callable[[dict[str, str]], Callable[[bytes, bytes], Check]]] = {
    "RS256": partial(_rsa, padding.PKCS1v15()),
    "PS256": partial(_rsa, padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)),
    "ES256": _ecdsa,
    "EdDSA": _eddsa,
}


def _decoded(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _integer(segment: str) -> int:
    return int.from_bytes(_decoded(segment))
