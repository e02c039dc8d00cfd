"""Signature verification with the algorithm bound to the key (RFC 7515 section 5.2, RFC 8725)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo
from jwt.algorithms import Algorithm, OKPAlgorithm, get_default_algorithms

from jwks_guard.errors import AlgorithmNotAllowedError, InvalidSignatureError
from jwks_guard.jose.jwk import ALGORITHMS_BY_KEY_TYPE, VerificationKey

SUPPORTED_ALGORITHMS: Final = frozenset[str]().union(*ALGORITHMS_BY_KEY_TYPE.values())
"""Every `alg` that can be put on an allow-list: asymmetric signatures only."""

_Verify = Callable[[bytes, Any, bytes], bool]


def _pkcs1v15(hash_name: str, digest_info: str) -> _Verify:
    """How RSASSA-PKCS1-v1_5 is verified with one hash (RFC 8017 section 8.2.2).

    digest_info: the DER that stands before the hash (section 9.2, note 1), in hexadecimal.

    OpenSSL recovers what was signed and sees to its padding; the rest has to be the one encoding of
    the hash. Nothing in it is parsed, which is how such signatures came to be forged. To name the
    hash to OpenSSL instead makes it look that up for every signature, a tenth of the whole check.
    """
    new_hash, prefix = getattr(hashlib, hash_name), bytes.fromhex(digest_info)
    padding, whole = PKCS1v15(), NoDigestInfo()

    def verify(signing_input: bytes, key: RSAPublicKey, signature: bytes) -> bool:
        try:
            signed = key.recover_data_from_signature(signature, padding, whole)
        except InvalidSignature:
            return False
        return bool(signed == prefix + new_hash(signing_input).digest())

    return verify


_ALGORITHMS: Final[dict[str, Algorithm]] = {
    **get_default_algorithms(),
    # RFC 9864: EdDSA on the one curve of that name, which `VerificationKey.algorithms` has seen to.
    "Ed25519": OKPAlgorithm(),
    "Ed448": OKPAlgorithm(),
}
_VERIFY: Final[dict[str, _Verify]] = {
    **{alg: _ALGORITHMS[alg].verify for alg in SUPPORTED_ALGORITHMS},
    "RS256": _pkcs1v15("sha256", "3031300d060960864801650304020105000420"),
    "RS384": _pkcs1v15("sha384", "3041300d060960864801650304020205000430"),
    "RS512": _pkcs1v15("sha512", "3051300d060960864801650304020305000440"),
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
    # OpenSSL also takes RSA signatures without their leading zeros, against RFC 8017 section 8.
    exact = len(signature) == key.signature_octets
    if not (exact and _VERIFY[alg](signing_input, key.public_key, signature)):
        raise InvalidSignatureError("The signature does not verify under the key of its `kid`.")
