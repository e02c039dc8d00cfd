"""Signature verification with the algorithm bound to the key (RFC 7515 section 5.2, RFC 8725)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from jwks_guard.errors import AlgorithmNotAllowedError, InvalidSignatureError
from jwks_guard.jose.jwk import ALGORITHMS_BY_KEY_TYPE, VerificationKey

SUPPORTED_ALGORITHMS: Final = frozenset[str]().union(*ALGORITHMS_BY_KEY_TYPE.values())
"""Every `alg` that can be put on an allow-list: asymmetric signatures only."""

# Given the public key, the signing input and the signature, it raises InvalidSignature or returns.
_Verify = Callable[[Any, bytes, bytes], None]


def _pkcs1v15(hash_name: str, digest_info: str) -> _Verify:
    """How RSASSA-PKCS1-v1_5 is verified with one hash (RFC 8017 section 8.2.2).

    digest_info: the DER that stands before the hash (section 9.2, note 1), in hexadecimal.

    OpenSSL recovers what was signed and sees to its padding; the rest has to be the one encoding of
    the hash. Nothing in it is parsed, which is how such signatures came to be forged. To name the
    hash to OpenSSL instead makes it look that up for every signature, a tenth of the whole check.
    """
    new_hash, prefix = getattr(hashlib, hash_name), bytes.fromhex(digest_info)
    padding, whole = PKCS1v15(), NoDigestInfo()

    def verify(key: RSAPublicKey, signing_input: bytes, signature: bytes) -> None:
        signed = key.recover_data_from_signature(signature, padding, whole)
        if signed != prefix + new_hash(signing_input).digest():
            raise InvalidSignature

    return verify


def _pss(algorithm: HashAlgorithm) -> _Verify:
    """How RSASSA-PSS is verified: MGF1 with the same hash, and a salt of its length (RFC 7518)."""
    padding = PSS(MGF1(algorithm), algorithm.digest_size)

    def verify(key: RSAPublicKey, signing_input: bytes, signature: bytes) -> None:
        key.verify(signature, signing_input, padding, algorithm)

    return verify


def _ecdsa(algorithm: HashAlgorithm) -> _Verify:
    """How ECDSA is verified: r || s become the DER that OpenSSL takes (RFC 7518 section 3.4)."""
    ecdsa = ECDSA(algorithm)

    def verify(key: EllipticCurvePublicKey, signing_input: bytes, signature: bytes) -> None:
        size = len(signature) // 2
        r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
        key.verify(encode_dss_signature(r, s), signing_input, ecdsa)

    return verify


def _eddsa(key: Ed25519PublicKey | Ed448PublicKey, signing_input: bytes, signature: bytes) -> None:
    key.verify(signature, signing_input)


_VERIFY: Final[dict[str, _Verify]] = {
    "RS256": _pkcs1v15("sha256", "3031300d060960864801650304020105000420"),
    "RS384": _pkcs1v15("sha384", "3041300d060960864801650304020205000430"),
    "RS512": _pkcs1v15("sha512", "3051300d060960864801650304020305000440"),
    "PS256": _pss(SHA256()),
    "PS384": _pss(SHA384()),
    "PS512": _pss(SHA512()),
    "ES256": _ecdsa(SHA256()),
    "ES384": _ecdsa(SHA384()),
    "ES512": _ecdsa(SHA512()),
    # RFC 9864: EdDSA on the one curve of that name, which `VerificationKey.algorithms` has seen to.
    **dict.fromkeys(("EdDSA", "Ed25519", "Ed448"), _eddsa),
}


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
    try:
        # OpenSSL also takes RSA signatures without their leading zeros, against RFC 8017 section 8.
        if len(signature) != key.signature_octets:
            raise InvalidSignature
        _VERIFY[alg](key.public_key, signing_input, signature)
    except InvalidSignature:
        raise InvalidSignatureError(
            "The signature does not verify under the key of its `kid`."
        ) from None
