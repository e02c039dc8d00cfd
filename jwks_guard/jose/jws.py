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
from jwks_guard.jose.jwk import VerificationKey
from jwks_guard.jose.rsa_engine import RSAEngine, Verify

SignatureCheck = Callable[[bytes, bytes], None]
"""Given a signing input and a decoded signature, it returns or raises InvalidSignatureError."""


def signature_check(
    key: VerificationKey, alg: str, engine: RSAEngine | None = None
) -> SignatureCheck:
    """Give what checks `alg` signatures of `key`, and can do nothing else.

    It takes ECDSA signatures as r || s in their full length (RFC 7518 section 3.4). With `engine`
    that one verifies what it is faster at than `cryptography`.

    Raises AlgorithmNotAllowedError if `alg` is not one the key is bound to.
    """
    if alg not in key.algorithms:
        raise AlgorithmNotAllowedError("The header's `alg` is not one its key may verify.")
    verify, octets = _SCHEMES[alg](key.public_key), key.signature_octets
    if engine is not None:
        verify = engine.verify_with(key, alg, verify)

    def check(signing_input: bytes, signature: bytes) -> None:
        try:
            # OpenSSL takes RSA signatures without their leading zeros, against RFC 8017 section 8.
            if len(signature) != octets:
                raise InvalidSignature
            verify(signature, signing_input)
        except InvalidSignature:
            raise InvalidSignatureError(
                "The signature does not verify under the issuer's key for this token."
            ) from None

    return check


def verify_signature(
    key: VerificationKey, alg: str, signing_input: bytes, signature: bytes
) -> None:
    """Return if `signature`, decoded, is the key's over `signing_input`.

    Raises what `signature_check` and its check raise.
    """
    signature_check(key, alg)(signing_input, signature)


def _pkcs1v15(hash_name: str, digest_info: str) -> Callable[[RSAPublicKey], Verify]:
    """RSASSA-PKCS1-v1_5 with one hash (RFC 8017 section 8.2.2).

    digest_info: the DER that stands before the hash (section 9.2, note 1), in hexadecimal.

    OpenSSL recovers what was signed and sees to its padding; the rest has to be the one encoding of
    the hash. Nothing in it is parsed, which is how such signatures came to be forged. To name the
    hash to OpenSSL instead makes it look that up for every signature, a tenth of the whole check.
    """
    new_hash, prefix = getattr(hashlib, hash_name), bytes.fromhex(digest_info)
    padding, whole = PKCS1v15(), NoDigestInfo()

    def of(key: RSAPublicKey) -> Verify:
        recover = key.recover_data_from_signature

        def verify(signature: bytes, signing_input: bytes) -> None:
            if recover(signature, padding, whole) != prefix + new_hash(signing_input).digest():
                raise InvalidSignature

        return verify

    return of


def _pss(algorithm: HashAlgorithm) -> Callable[[RSAPublicKey], Verify]:
    """RSASSA-PSS, MGF1 with the same hash and a salt of its length (RFC 7518 section 3.5)."""
    padding = PSS(MGF1(algorithm), algorithm.digest_size)
    return lambda key: lambda signature, signed: key.verify(signature, signed, padding, algorithm)


def _ecdsa(algorithm: HashAlgorithm) -> Callable[[EllipticCurvePublicKey], Verify]:
    """ECDSA; OpenSSL takes r and s in DER (RFC 7518 section 3.4)."""
    ecdsa = ECDSA(algorithm)

    def of(key: EllipticCurvePublicKey) -> Verify:
        def verify(signature: bytes, signing_input: bytes) -> None:
            size = len(signature) // 2
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            key.verify(encode_dss_signature(r, s), signing_input, ecdsa)

        return verify

    return of


def _eddsa(key: Ed25519PublicKey | Ed448PublicKey) -> Verify:
    return key.verify


_SCHEMES: Final[dict[str, Callable[[Any], Verify]]] = {
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
