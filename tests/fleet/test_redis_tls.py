"""A fleet over a Redis that speaks TLS."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jwks_guard.testing import LocalTenant
from tests.fleet.instances import eventually, fleet_of, instance
from tests.redis_server import redis_server


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path / "redis.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


async def test_decisions_are_shared_over_tls(certificate: Path) -> None:
    with (
        redis_server(certificate) as redis,
        LocalTenant(in_process=True, algorithm="ES256") as tenant,
    ):
        tenant.rotate()
        old = tenant.key("previous").kid
        async with (
            instance(tenant, fleet_of(redis)) as one,
            instance(tenant, fleet_of(redis)) as other,
        ):
            assert one.health().status == "ok"
            await one.distrust(old, reason="leaked")
            await eventually(lambda: old in other.distrusted)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("rediss://127.0.0.1:{port}", "certificate that is not trusted"),
        ("redis://127.0.0.1:{port}", "can't be reached"),
    ],
)
async def test_a_server_that_can_not_be_verified_is_not_talked_to(
    certificate: Path, url: str, told: str
) -> None:
    with (
        redis_server(certificate) as redis,
        LocalTenant(in_process=True, algorithm="ES256") as tenant,
    ):
        fleet = fleet_of(redis, url=url.format(port=redis.port))
        async with instance(tenant, fleet) as one:
            assert one.health().status == "degraded"
            assert told in str(one.health().last_error)
            await one.verify(tenant.token())
