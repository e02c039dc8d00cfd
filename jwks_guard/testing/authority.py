"""A certificate authority of the tenant's own, for clients that insist on https."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jwks_guard.testing.keys import private_pem

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LIFETIME = timedelta(days=3650)
_LEAF_LIFETIME = timedelta(days=90)  # a new one is made at every start
_TOLERANCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Authority:
    """A key that issues server certificates, for certain hosts alone (RFC 5280 4.2.1.10)."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        """The certificate that clients have to trust."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def covers(self, hosts: Sequence[str]) -> bool:
        """Whether it may issue certificates for exactly `hosts` and is not about to end."""
        constraints = self.certificate.extensions.get_extension_for_class(x509.NameConstraints)
        ends = self.certificate.not_valid_after_utc
        return constraints.value == _constraints(hosts) and ends > _now() + _LEAF_LIFETIME

    def server_context(self, hosts: Sequence[str]) -> ssl.SSLContext:
        """TLS for a server that is called by any of `hosts`, with a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(hosts, key.public_key())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:  # of mode 0700; `ssl` takes nothing but files
            chain = Path(folder) / "server.pem"
            chain.write_text(certificate.public_bytes(Encoding.PEM).decode() + private_pem(key))
            context.load_cert_chain(chain)
        return context

    def _issue(self, hosts: Sequence[str], key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        issuer_key = self.private_key.public_key()
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
        return (
            _builder("localhost", self.certificate.subject, key, _LEAF_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .add_extension(usage, critical=False)
            .add_extension(authority_id, critical=False)
            .sign(self.private_key, hashes.SHA256())
        )


def new_authority(hosts: Sequence[str]) -> Authority:
    """An authority that is believed for `hosts` and for nothing else, should its key leak."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("jwks-guard local tenant")
    usage = {name: name in ("key_cert_sign", "crl_sign") for name in _KEY_USAGES}
    certificate = (
        _builder("jwks-guard local tenant", subject, key.public_key(), _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(_constraints(hosts), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def load_authority(certificate: str, private_key: str) -> Authority:
    """The authority of both PEM texts; raises what `cryptography` does if they are none."""
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    loaded.extensions.get_extension_for_class(x509.NameConstraints)  # `covers` reads it
    key = load_pem_private_key(private_key.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the authority's key is of another type")
    if key.public_key() != loaded.public_key():
        raise ValueError("the authority's key is not that of its certificate")
    return Authority(loaded, key)


_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - _TOLERANCE)
        .not_valid_after(_now() + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _constraints(hosts: Sequence[str]) -> x509.NameConstraints:
    return x509.NameConstraints([_general_name(host, subtree=True) for host in hosts], None)


def _general_name(host: str, *, subtree: bool = False) -> x509.GeneralName:
    try:
        address = ip_address(host)
    except ValueError:
        return x509.DNSName(host)
    return x509.IPAddress(ip_network(address) if subtree else address)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _now() -> datetime:
    # By the machine's clock, as TLS clients read that one; the tenant's may stand still.
    return datetime.now(UTC)
