"""Signature verification with the algorithm bound to the key (RFC 7515 section 5.2, RFC 8725)."""

from __future__ import annotations

from typing import Final

from jwt.algorithms import Algorithm, OKPAlgorithm, get_default_algorithms

from jwks_guard.errors import AlgorithmNotAllowedError, InvalidSignatureError
from jwks_guard.jose.jwk import ALGORITHMS_BY_KEY_TYPE, VerificationKey

SUPPORTED_ALGORITHMS: Final = frozenset[str]().union(*ALGORITHMS_BY_KEY_TYPE.values())
"""Every `alg` that can be put on an allow-list: asymmetric signatures only."""

_ALGORITHMS: Final[dict[str, Algorithm]] = {
    **get_default_algorithms(),
    # RFC 9864: EdDSA on the one curve of that name, which `VerificationKey.algorithms` has seen to.
    "Ed25519": OKPAlgorithm(),
    "Ed448": OKPAlgorithm(),
}
_VERIFY: Final = {alg: _ALGORITHMS[alg].verify for alg in SUPPORTED_ALGORITHMS}


def verify_signature(
    key: VerificationKey, alg: str, signing_input: bytes, signature: bytes
) -> None:
    """Return if `signature` over `signing_input` is the key's.

    signature: decoded; for ECDSA it is r || s in their full length (RFC 7518 section 3.4).

    Raises AlgorithmNotAllowedError if `alg` is not one the key is bound to, else
    InvalidSignatureError.
    """
    if alg not in key.algorithms:
        raise AlgorithmNotAllowedError("The header's `alg` is not one its key may verify.")
    # Against RFC 8017 section 8.1.2, OpenSSL takes a PSS signature without its leading zeros, too.
    exact = len(signature) == key.signature_octets
    if not (exact and _VERIFY[alg](signing_input, key.public_key, signature)):
        raise InvalidSignatureError("The signature does not verify under the key of its `kid`.")
