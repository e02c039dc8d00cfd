"""RSA signatures verified by AWS-LC, by its binding awscrt, where that is installed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jwks_guard.jose.jwk import VerificationKey

_log = logging.getLogger(__name__)

# Given a signature and what it is of, it returns or raises InvalidSignature.
Verify = Callable[[bytes, bytes], None]

MAX_FAILURES = 1000
_LONGEST_REASON = 200
_SCHEMES: Final = {"RS256": "PKCS1_5_SHA256", "PS256": "PSS_SHA256"}
"""What awscrt has, both with SHA-256 and PSS with a salt of its length; all else stays as it is."""


class RSAEngine:
    """What verifies the RSA signatures of one key store: awscrt where it can, else `cryptography`.

    It only says whether a signature verifies: which key is trusted, for which algorithm, and the
    signature's length are decided before. Any thread may call it, and a forked child goes on with
    what its parent loaded: every call of awscrt holds the interpreter's lock.

    wanted: False leaves everything to `cryptography`.
    """

    __slots__ = ("_awscrt", "_broken", "_failures", "_pending", "name")

    def __init__(self, *, wanted: bool = True) -> None:
        self.name = "cryptography"
        self._pending = wanted
        self._awscrt: Any = None
        self._broken: str | None = None
        self._failures: dict[str, str] = {}

    def is_ready_for(self, keys: Iterable[VerificationKey]) -> bool:
        """Whether `load` has nothing to do before `keys` are used."""
        return not self._pending or all(key.kty != "RSA" for key in keys)

    def load(self) -> None:
        """Import awscrt unless that was tried: 12 MB, a quarter of a second from a cold disk."""
        if not self._pending:
            return
        try:
            import awscrt
            from awscrt import crypto

            self.name, self._awscrt = f"awscrt {awscrt.__version__}", crypto
        except Exception as error:  # noqa: BLE001 - a broken installation can raise anything
            if not isinstance(error, ModuleNotFoundError) or error.name != "awscrt":
                self._broken = _reason(error)
                _log.warning("RSA signatures are left to cryptography: %s", self._broken)
        self._pending = False

    def verify_with(self, key: VerificationKey, alg: str, otherwise: Verify) -> Verify:
        """What verifies `alg` signatures of `key`; `otherwise` does it by `cryptography`.

        A key that awscrt does not load, or at which it raises once, is verified by `otherwise`.
        """
        scheme = _SCHEMES.get(alg)
        if self._awscrt is None or scheme is None or key.thumbprint in self._failures:
            return otherwise
        try:
            number = self._awscrt.RSASignatureAlgorithm[scheme]
            der = key.public_key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
            verifies = self._awscrt.RSA.new_public_key_from_der_data(der).verify
        except Exception as error:  # noqa: BLE001 - whatever it is, there is another engine
            self._failed(key, error)
            return otherwise

        def verify(signature: bytes, signing_input: bytes) -> None:
            if key.thumbprint in self._failures:
                return otherwise(signature, signing_input)
            try:
                verified = verifies(number, sha256(signing_input).digest(), signature)
            except Exception as error:  # noqa: BLE001 - as above
                self._failed(key, error)
                return otherwise(signature, signing_input)
            if verified is not True:
                raise InvalidSignature
            return None

        return verify

    def fallbacks(self, keys: Iterable[VerificationKey]) -> dict[str, str]:
        """Those of `keys`, by kid, that awscrt should verify and can't, and why."""
        return {
            key.kid: reason
            for key in keys
            if key.kty == "RSA"
            and (reason := self._broken or self._failures.get(key.thumbprint)) is not None
        }

    def _failed(self, key: VerificationKey, error: Exception) -> None:
        if len(self._failures) < MAX_FAILURES:
            self._failures[key.thumbprint] = reason = _reason(error)
            _log.warning("signatures of %r are left to cryptography: %s", key.kid, reason)


def _reason(error: Exception) -> str:
    return f"awscrt: {type(error).__name__}: {error}"[:_LONGEST_REASON]
