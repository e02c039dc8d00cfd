from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from jwks_guard.testing import LocalTenant, ManualClock

as_a_real_tenant = pytest.mark.parametrize("algorithm", ["RS256"])


async def test_jwks_comes_with_the_headers_of_the_real_one(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    response = await client.get(tenant.jwks_uri)
    assert response.headers["Cache-Control"] == (
        "public, max-age=15, stale-while-revalidate=15, stale-if-error=86400"
    )
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.headers["Date"] == "Sun, 15 Jun 2025 15:06:40 GMT"
    assert response.headers["Last-Modified"] == "Sun, 15 Jun 2025 15:06:40 GMT"
    assert "ETag" not in response.headers
    assert "Age" not in response.headers
    assert response.json() == tenant.jwks()


async def test_dates_are_those_of_the_last_change_and_of_now(
    tenant: LocalTenant, client: httpx.AsyncClient, clock: ManualClock
) -> None:
    clock.advance(60)
    tenant.rotate()
    clock.advance(60)
    response = await client.get(tenant.jwks_uri)
    assert response.headers["Last-Modified"] == "Sun, 15 Jun 2025 15:07:40 GMT"
    assert response.headers["Date"] == "Sun, 15 Jun 2025 15:08:40 GMT"


async def test_change_that_changes_nothing_does_not_touch_last_modified(
    tenant: LocalTenant, client: httpx.AsyncClient, clock: ManualClock
) -> None:
    clock.advance(60)
    tenant.remove("unknown")
    response = await client.get(tenant.jwks_uri)
    assert response.headers["Last-Modified"] == "Sun, 15 Jun 2025 15:06:40 GMT"


@as_a_real_tenant
async def test_jwk_has_the_members_of_the_real_one_and_fits_its_certificate(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    jwk = (await client.get(tenant.jwks_uri)).json()["keys"][0]
    assert sorted(jwk) == ["alg", "e", "kid", "kty", "n", "use", "x5c", "x5t"]
    assert (jwk["alg"], jwk["use"], jwk["kty"]) == ("RS256", "sig", "RSA")
    assert len(jwk["kid"]) == 21
    certificate = x509.load_der_x509_certificate(base64.b64decode(jwk["x5c"][0]))
    public_key = certificate.public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    modulus = int.from_bytes(base64.urlsafe_b64decode(jwk["n"] + "=="))
    assert public_key.public_numbers() == rsa.RSAPublicNumbers(65537, modulus)
    sha1 = base64.urlsafe_b64decode(jwk["x5t"] + "=")
    assert sha1 == certificate.fingerprint(hashes.SHA1())


@as_a_real_tenant
async def test_certificate_is_self_signed_and_older_than_the_test(
    tenant: LocalTenant, client: httpx.AsyncClient, clock: ManualClock
) -> None:
    response = await client.get("/cer")
    certificate = x509.load_der_x509_certificate(response.content)
    certificate.verify_directly_issued_by(certificate)
    assert certificate.not_valid_before_utc.timestamp() < clock.time()
    assert certificate.not_valid_after_utc.timestamp() > clock.time() + 10 * 365 * 86_400
    assert certificate == tenant.key("current").certificate


@pytest.mark.parametrize("path", ["/pem", "/rawpem"])
async def test_pem_is_the_certificate_of_the_current_key(
    tenant: LocalTenant, client: httpx.AsyncClient, path: str
) -> None:
    tenant.rotate()
    response = await client.get(path)
    assert b"-----BEGIN CERTIFICATE-----\r\n" in response.content
    certificate = x509.load_pem_x509_certificate(response.content)
    assert certificate == tenant.key("current").certificate


@as_a_real_tenant
async def test_discovery_document_leads_to_the_other_endpoints(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    document = (await client.get("/.well-known/openid-configuration")).json()
    assert document["issuer"] == tenant.issuer
    assert document["jwks_uri"] == tenant.jwks_uri
    assert document["token_endpoint"] == tenant.issuer + "oauth/token"
    assert document["id_token_signing_alg_values_supported"] == ["RS256"]


async def test_unknown_path_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/samlp/metadata/1")).status_code == 404


@pytest.fixture
async def conditional(clock: ManualClock) -> AsyncIterator[LocalTenant]:
    async with LocalTenant(conditional_requests=True, algorithm="ES256", clock=clock) as local:
        yield local


async def fetch(tenant: LocalTenant, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(tenant.jwks_uri, headers=named)


async def test_validators_of_an_unchanged_set_get_304(conditional: LocalTenant) -> None:
    first = await fetch(conditional)
    tag, date = first.headers["ETag"], first.headers["Last-Modified"]
    for headers in (
        {"If_None_Match": tag},
        {"If_None_Match": f'"other", W/{tag}'},
        {"If_Modified_Since": date},
        {"If_None_Match": tag, "If_Modified_Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
    ):
        answer = await fetch(conditional, **headers)
        assert answer.status_code == 304
        assert answer.content == b""
        assert answer.headers["ETag"] == tag
        assert answer.headers["Last-Modified"] == date


async def test_validators_of_an_older_set_get_the_new_one(
    conditional: LocalTenant, clock: ManualClock
) -> None:
    first = await fetch(conditional)
    clock.advance(1)
    conditional.rotate()
    for headers in (
        {"If_None_Match": first.headers["ETag"]},
        {"If_Modified_Since": first.headers["Last-Modified"]},
        {"If_None_Match": '"other"', "If_Modified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"If_Modified_Since": "the day before yesterday"},
    ):
        answer = await fetch(conditional, **headers)
        assert answer.status_code == 200
        assert answer.json() == conditional.jwks()


async def test_without_the_option_a_condition_is_ignored(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    headers = {"If-None-Match": "*", "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
    assert (await client.get(tenant.jwks_uri, headers=headers)).status_code == 200
