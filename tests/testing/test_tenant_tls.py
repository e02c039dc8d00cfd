"""A tenant over https, with an authority of its own."""

from __future__ import annotations

import json
import socket
import ssl
import time
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from jwks_guard import TokenVerifier
from jwks_guard.errors import ConfigurationError
from jwks_guard.testing import JWKS_PATH, LocalTenant
from jwks_guard.testing.authority import LOOPBACK, new_authority
from jwks_guard.testing.keys import generate_signing_key, private_pem
from tests.support import PATIENCE


def https_tenant(**options: object) -> LocalTenant:
    return LocalTenant(tls=True, algorithm="ES256", **options)  # type: ignore[arg-type]  # of the test


def trusting(certificate: str) -> ssl.SSLContext:
    """Trusts that authority alone, as strictly as OpenSSL can."""
    context = ssl.create_default_context(cadata=certificate)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def fetched(url: str, certificate: str) -> object:
    return httpx.get(url, verify=trusting(certificate), trust_env=False, timeout=PATIENCE).json()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tenant_is_reached_by_https_by_the_names_of_loopback(host: str) -> None:
    with https_tenant() as tenant:
        assert tenant.issuer.startswith("https://127.0.0.1:")
        uri = tenant.jwks_uri.replace("127.0.0.1", host)
        assert fetched(uri, tenant.ca_certificate) == tenant.jwks()


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="needs ::1: sysctl net.ipv6.conf.lo.disable_ipv6=0")
@pytest.mark.parametrize("tls", [True, False])
def test_tenant_is_reached_over_ipv6(tls: bool) -> None:
    with LocalTenant(host="::1", tls=tls, algorithm="ES256") as tenant:
        assert "://[::1]:" in tenant.issuer
        certificate = tenant.ca_certificate if tls else new_authority(LOOPBACK).pem
        assert fetched(tenant.jwks_uri, certificate) == tenant.jwks()


async def test_verifier_accepts_its_tokens_with_the_authority_in_the_client() -> None:
    async with (
        https_tenant() as tenant,
        httpx.AsyncClient(verify=trusting(tenant.ca_certificate), trust_env=False) as client,
        TokenVerifier(
            tenant.issuer, tenant.audience, algorithms=["ES256"], http_client=lambda: client
        ) as verifier,
    ):
        assert (await verifier.verify(tenant.token())).subject == "auth0|alice"


def test_client_without_the_authority_refuses() -> None:
    with https_tenant() as tenant, pytest.raises(httpx.ConnectError, match="VERIFY_FAILED"):
        fetched(tenant.jwks_uri, new_authority(LOOPBACK).pem)


def test_authority_is_kept_in_the_state_for_clients_that_trust_it(tmp_path: Path) -> None:
    path = tmp_path / "tenant.json"
    with LocalTenant(state=path, algorithm="ES256"):
        pass  # over http, before
    with https_tenant(state=path) as first:
        certificate = first.ca_certificate
    with https_tenant(state=path) as second:
        assert second.ca_certificate == certificate
        assert fetched(second.jwks_uri, certificate) == second.jwks() == first.jwks()


def test_authority_for_other_hosts_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "tenant.json"
    with https_tenant(state=path) as first:
        pass
    with https_tenant(state=path, issuer="https://tenant.acme.test/") as second:
        assert second.ca_certificate != first.ca_certificate


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("certificate", new_authority(LOOPBACK).pem),
        ("certificate", generate_signing_key("ES256", now=0, common_name="other").cert),
        ("private_key", "x"),
        ("private_key", private_pem(ed25519.Ed25519PrivateKey.generate())),
    ],
)
def test_damaged_authority_stops_the_start(tmp_path: Path, member: str, text: str) -> None:
    path = tmp_path / "tenant.json"
    with https_tenant(state=path):
        pass
    document = json.loads(path.read_bytes())
    document["authority"][member] = text
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match="is not the state"):
        https_tenant(state=path)


def test_authority_is_believed_for_its_hosts_only() -> None:
    """Its certificate may end up in a trust store; what it signs for others counts nowhere."""
    authority = new_authority(LOOPBACK)
    stranger = authority.server_context(("bank.test",))
    server, client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = stranger.wrap_bio(client, server, server_side=True)
    ours = trusting(authority.pem).wrap_bio(server, client, server_hostname="bank.test")
    for side in (ours, theirs):
        with pytest.raises(ssl.SSLWantReadError):
            side.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        ours.do_handshake()


def test_certificate_cannot_issue_others() -> None:
    certificate = x509.load_pem_x509_certificate(new_authority(LOOPBACK).pem.encode())
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)


def test_tenant_without_tls_has_no_authority_to_trust() -> None:
    with (
        LocalTenant(in_process=True, algorithm="ES256") as tenant,
        pytest.raises(LookupError, match="not served https"),
    ):
        _ = tenant.ca_certificate


def test_faults_work_over_https_too() -> None:
    with https_tenant() as tenant:
        context = trusting(tenant.ca_certificate)
        with httpx.Client(verify=context, trust_env=False, timeout=PATIENCE) as client:
            tenant.faults.reset(times=1)
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                client.get(tenant.jwks_uri)
            tenant.faults.truncated(times=1)
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                client.get(tenant.jwks_uri)
            assert client.get(tenant.jwks_uri).status_code == 200
        assert tenant.requests.count(JWKS_PATH) == 3


def test_client_that_does_not_say_goodbye_does_not_delay_the_stop() -> None:
    """asyncio waits 30 s for a client's close_notify, and a second close hides it from abort."""
    tenant = https_tenant()
    tenant.start()
    address = ("127.0.0.1", int(tenant.issuer.rstrip("/").rpartition(":")[2]))
    with (
        socket.create_connection(address) as raw,
        trusting(tenant.ca_certificate).wrap_socket(raw, server_hostname="localhost") as client,
    ):
        client.sendall(
            f"GET {JWKS_PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        while client.recv(65_536):
            pass
        begun = time.monotonic()
        tenant.stop()
        assert time.monotonic() - begun < 20
