"""A tenant's signing keys: private key, self-signed certificate, and how both look on the wire."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from jwt.algorithms import get_default_algorithms
from jwt.utils import base64url_encode

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
Status: TypeAlias = Literal["next", "current", "previous", "revoked"]

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "ES256": ec.SECP256R1,
    "ES384": ec.SECP384R1,
    "ES512": ec.SECP521R1,
}
ALGORITHMS = (*_RSA, *_CURVES, "EdDSA")
_SIGNERS = get_default_algorithms()
RSA_EXPONENT = 65537
_RSA_BITS = 2048
_CERTIFICATE_LIFETIME = timedelta(days=5000)
_KID_ALPHABET = string.ascii_letters + string.digits  # no '-': a kid is also typed into shells


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One signing key and its place in the rotation; times are seconds since 1970."""

    kid: str
    algorithm: str
    private_key: PrivateKey = field(repr=False)
    certificate: x509.Certificate = field(repr=False)
    status: Status = "next"
    current_since: float | None = None
    current_until: float | None = None
    revoked_at: float | None = None

    @property
    def current(self) -> bool:
        """Whether new tokens are signed with it."""
        return self.status == "current"

    @property
    def next(self) -> bool:
        """Whether the next rotation makes it the current key."""
        return self.status == "next"

    @property
    def previous(self) -> bool:
        """Whether it was the current key before and is still published."""
        return self.status == "previous"

    @property
    def revoked(self) -> bool:
        """Whether it was withdrawn for good."""
        return self.status == "revoked"

    @property
    def cert(self) -> str:
        """The certificate in PEM, with the line ends of the Management API."""
        return self.certificate.public_bytes(Encoding.PEM).decode().replace("\n", "\r\n")

    @property
    def thumbprint(self) -> str:
        """The SHA-1 of the certificate in hexadecimal."""
        return self._sha1().hex().upper()

    @property
    def fingerprint(self) -> str:
        """The SHA-1 of the certificate in colon-separated hexadecimal."""
        return self._sha1().hex(":").upper()

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as the JWKS lists it (RFC 7517 section 4)."""
        public = _SIGNERS[self.algorithm].to_jwk(self.private_key.public_key(), as_dict=True)
        public.pop("key_ops", None)
        der = self.certificate.public_bytes(Encoding.DER)
        return {
            "alg": self.algorithm,
            "use": "sig",
            **public,
            "kid": self.kid,
            "x5t": base64url_encode(self._sha1()).decode(),
            "x5c": [base64.b64encode(der).decode()],
        }

    def sign(self, signing_input: bytes) -> bytes:
        """The JWS signature of `signing_input` (RFC 7518 section 3)."""
        return _SIGNERS[self.algorithm].sign(signing_input, self.private_key)

    def _sha1(self) -> bytes:
        # What the tenant publishes, by its own definition; nothing is decided by it.
        return self.certificate.fingerprint(hashes.SHA1())  # noqa: S303 - what Auth0 names a key by


def new_rsa_key() -> rsa.RSAPrivateKey:
    """A new RSA key of 2,048 bits; takes tens of milliseconds."""
    return rsa.generate_private_key(public_exponent=RSA_EXPONENT, key_size=_RSA_BITS)


def generate_signing_key(
    algorithm: str,
    *,
    now: float,
    common_name: str,
    kid: str | None = None,
    make_rsa_key: Callable[[], rsa.RSAPrivateKey] = new_rsa_key,
) -> SigningKey:
    """A fresh key for one of `ALGORITHMS`, its certificate from `now` (seconds since 1970) on."""
    private_key = make_rsa_key() if algorithm in _RSA else _generate_private_key(algorithm)
    return SigningKey(
        kid=kid if kid is not None else new_kid(),
        algorithm=algorithm,
        private_key=private_key,
        certificate=_self_signed(private_key, now, common_name),
    )


def load_signing_key(private_key: str, certificate: str, **place: Any) -> SigningKey:
    """The key of both PEM texts, at the place that `SigningKey`'s other fields tell.

    Raises ValueError or TypeError if the two don't fit each other and the algorithm.
    """
    key = load_pem_private_key(private_key.encode(), None)
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    if not _fits(place["algorithm"], key):
        raise ValueError("a key is not of its algorithm")
    if loaded.public_key() != key.public_key():
        raise ValueError("a key is not that of its certificate")
    return SigningKey(private_key=cast("PrivateKey", key), certificate=loaded, **place)


def private_pem(key: PrivateKey) -> str:
    """The private key in PEM (PKCS #8), not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def new_kid() -> str:
    """A random key ID of the form that Auth0 uses today: 21 characters."""
    return "".join(secrets.choice(_KID_ALPHABET) for _ in range(21))


def _generate_private_key(algorithm: str) -> PrivateKey:
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm]())
    return ed25519.Ed25519PrivateKey.generate()


def _fits(algorithm: str, key: object) -> bool:
    if algorithm in _RSA:
        return isinstance(key, rsa.RSAPrivateKey)
    if algorithm in _CURVES:
        curve = _CURVES[algorithm]
        return isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, curve)
    return algorithm == "EdDSA" and isinstance(key, ed25519.Ed25519PrivateKey)


def _self_signed(private_key: PrivateKey, now: float, common_name: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    begin = datetime.fromtimestamp(int(now), UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + _CERTIFICATE_LIFETIME)
    )
    digest = None if isinstance(private_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(private_key, digest)
