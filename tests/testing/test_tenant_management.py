from __future__ import annotations

from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs7

from jwks_guard.testing import LocalTenant, ManualClock

KEYS = "/api/v2/keys/signing"
ALL = "read:signing_keys create:signing_keys update:signing_keys"


def bearer(tenant: LocalTenant, scope: str = ALL, **shape: Any) -> dict[str, str]:
    token = tenant.token(audience=tenant.management_audience, scope=scope, **shape)
    return {"Authorization": f"Bearer {token}"}


async def test_list_is_a_bare_array_in_which_an_absent_flag_means_false(
    tenant: LocalTenant, client: httpx.AsyncClient, clock: ManualClock
) -> None:
    first = tenant.key().kid
    tenant.rotate()
    second = tenant.key().kid
    clock.advance(60.5)
    tenant.rotate()
    tenant.revoke(first)
    response = await client.get(KEYS, headers=bearer(tenant))
    assert response.status_code == 200
    current, following, previous, revoked = response.json()
    always = {"kid", "cert", "pkcs7", "fingerprint", "thumbprint"}
    assert set(current) == always | {"current", "current_since"}
    assert set(following) == always | {"next"}
    assert set(previous) == always | {"previous", "current_since", "current_until"}
    assert set(revoked) == always | {"revoked", "current_since", "current_until", "revoked_at"}
    assert (previous["kid"], revoked["kid"]) == (second, first)
    assert current["current"] is following["next"] is previous["previous"] is True
    assert previous["current_since"] == "2025-06-15T15:06:40.000Z"
    assert revoked["revoked_at"] == "2025-06-15T15:07:40.500Z"


async def test_certificate_of_a_key_has_the_fingerprints_it_is_listed_with(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    kid = tenant.key("next").kid
    key = (await client.get(f"{KEYS}/{kid}", headers=bearer(tenant))).json()
    assert key["kid"] == kid
    assert key["cert"].startswith("-----BEGIN CERTIFICATE-----\r\n")
    assert "\n" not in key["cert"].replace("\r\n", "")
    certificate = x509.load_pem_x509_certificate(key["cert"].encode())
    sha1 = certificate.fingerprint(hashes.SHA1())
    assert key["thumbprint"] == sha1.hex().upper()
    assert key["fingerprint"] == sha1.hex(":").upper()
    assert pkcs7.load_pem_pkcs7_certificates(key["pkcs7"].encode()) == [certificate]


async def test_rotate_answers_201_with_the_new_next_key(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    response = await client.post(KEYS + "/rotate", headers=bearer(tenant))
    assert response.status_code == 201
    following = tenant.key("next")
    assert response.json() == {"kid": following.kid, "cert": following.cert}


async def test_revoke_answers_200_with_the_revoked_key(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    old = tenant.key()
    tenant.rotate()
    response = await client.put(f"{KEYS}/{old.kid}/revoke", headers=bearer(tenant))
    assert response.status_code == 200
    assert response.json() == {"kid": old.kid, "cert": old.cert}
    assert tenant.key(old.kid).revoked


async def test_current_next_and_revoked_keys_are_not_revoked(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    old = tenant.key().kid
    tenant.rotate()
    tenant.revoke(old)
    published = tenant.jwks()
    for kid in (tenant.key("current").kid, tenant.key("next").kid, old):
        response = await client.put(f"{KEYS}/{kid}/revoke", headers=bearer(tenant))
        assert response.status_code == 400
        assert response.json()["error"] == "Bad Request"
    assert tenant.jwks() == published


@pytest.mark.parametrize(("method", "path"), [("GET", "/nobody"), ("PUT", "/nobody/revoke")])
async def test_unknown_kid_is_404_in_the_documented_shape(
    tenant: LocalTenant, client: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await client.request(method, KEYS + path, headers=bearer(tenant))
    assert response.status_code == 404
    assert response.json() == {
        "statusCode": 404,
        "error": "Not Found",
        "message": "The signing key does not exist",
    }


@pytest.mark.parametrize(
    ("method", "path", "scope", "expected"),
    [
        ("GET", "", "update:signing_keys", "read:signing_keys"),
        ("GET", "/x", "create:signing_keys", "read:signing_keys"),
        ("PUT", "/x/revoke", "read:signing_keys create:signing_keys", "update:signing_keys"),
        ("POST", "/rotate", "create:signing_keys", "create:signing_keys,update:signing_keys"),
        ("POST", "/rotate", "update:signing_keys", "create:signing_keys,update:signing_keys"),
    ],
)
async def test_missing_scope_is_403_and_names_what_is_expected(
    tenant: LocalTenant,
    client: httpx.AsyncClient,
    method: str,
    path: str,
    scope: str,
    expected: str,
) -> None:
    response = await client.request(method, KEYS + path, headers=bearer(tenant, scope))
    assert response.status_code == 403
    assert response.json() == {
        "statusCode": 403,
        "error": "Forbidden",
        "message": f"Insufficient scope, expected any of: {expected}",
        "errorCode": "insufficient_scope",
    }


async def test_request_without_a_management_token_is_401(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    other = LocalTenant(in_process=True, issuer=tenant.issuer)
    other.start()
    forged = tenant.forged_token(audience=tenant.management_audience, scope=ALL)
    for headers in (
        {},
        {"Authorization": "Basic eDp5"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {forged}"},
        {"Authorization": f"Bearer {tenant.token(scope=ALL)}"},
        bearer(other),
        bearer(tenant, claims={"iss": "https://elsewhere.test/"}),
        bearer(tenant, claims={"exp": None}),
        bearer(tenant, kid="current"),
    ):
        response = await client.get(KEYS, headers=headers)
        assert response.status_code == 401
        assert response.json()["error"] == "Unauthorized"
        assert "X-RateLimit-Limit" not in response.headers


async def test_expired_management_token_is_401_by_the_clock_of_the_tenant(
    tenant: LocalTenant, client: httpx.AsyncClient, clock: ManualClock
) -> None:
    headers = bearer(tenant)
    clock.advance(86_399)
    assert (await client.get(KEYS, headers=headers)).status_code == 200
    clock.advance(1)
    response = await client.get(KEYS, headers=headers)
    assert response.status_code == 401
    assert response.json()["message"].startswith("Expired token")


async def test_revoking_a_key_kills_the_management_tokens_that_it_signed(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    headers = bearer(tenant)
    old = tenant.key().kid
    tenant.rotate()
    assert (await client.get(KEYS, headers=headers)).status_code == 200
    tenant.revoke(old)
    assert (await client.get(KEYS, headers=headers)).status_code == 401
    assert (await client.get(KEYS, headers=bearer(tenant))).status_code == 200


async def test_rotate_allows_five_at_once_and_then_five_a_day(clock: ManualClock) -> None:
    async with (
        LocalTenant(in_process=True, algorithm="ES256", clock=clock) as tenant,
        httpx.AsyncClient(transport=tenant.transport, base_url=tenant.issuer) as client,
    ):
        headers = bearer(tenant, lifetime=7 * 86_400)
        answers = [await client.post(KEYS + "/rotate", headers=headers) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [201] * 5 + [429]
        remaining = [answer.headers["X-RateLimit-Remaining"] for answer in answers]
        assert remaining == ["4", "3", "2", "1", "0", "0"]
        assert answers[-1].json() == {
            "statusCode": 429,
            "error": "Too Many Requests",
            "message": "Global limit has been reached",
            "errorCode": "too_many_requests",
        }
        assert answers[-1].headers["X-RateLimit-Limit"] == "5"
        next_one = int(answers[-1].headers["X-RateLimit-Reset"])
        assert next_one == clock.time() + 86_400 / 5
        assert len(tenant.signing_keys) == 7
        clock.advance(next_one - clock.time())
        again = [await client.post(KEYS + "/rotate", headers=headers) for _ in range(2)]
        assert [answer.status_code for answer in again] == [201, 429]


async def test_refused_request_spends_no_rotation(clock: ManualClock) -> None:
    async with (
        LocalTenant(in_process=True, algorithm="ES256", clock=clock) as tenant,
        httpx.AsyncClient(transport=tenant.transport, base_url=tenant.issuer) as client,
    ):
        for _ in range(10):
            assert (await client.post(KEYS + "/rotate")).status_code == 401
        response = await client.post(KEYS + "/rotate", headers=bearer(tenant))
        assert response.headers["X-RateLimit-Remaining"] == "4"


async def test_reading_is_limited_by_the_second_and_says_so(
    tenant: LocalTenant, client: httpx.AsyncClient, clock: ManualClock
) -> None:
    headers = bearer(tenant)
    answers = [await client.get(KEYS, headers=headers) for _ in range(51)]
    assert [answer.status_code for answer in answers] == [200] * 50 + [429]
    assert answers[0].headers["X-RateLimit-Remaining"] == "49"
    clock.advance(1)
    assert (await client.get(KEYS, headers=headers)).status_code == 200


async def test_management_token_from_the_token_endpoint_is_accepted(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    grant = await client.post(
        "/oauth/token",
        data={
            "grant_type": "client_credentials",
            "client_id": tenant.client_id,
            "client_secret": tenant.client_secret,
            "audience": tenant.management_audience,
        },
    )
    token = grant.json()["access_token"]
    assert jwt.get_unverified_header(token)["kid"] == tenant.key("current").kid
    headers = {"Authorization": f"Bearer {token}"}
    assert (await client.get(KEYS, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v2/clients"),
        ("GET", "/api/v2/"),
        ("POST", "/api/v2/keys/signing/x/rotate"),
        ("PATCH", "/api/v2/keys/signing"),
        ("DELETE", "/api/v2/keys/signing/x"),
        ("GET", "/api/v2/keys/signing/x/revoke"),
        ("GET", "/api/v2/keys/encryption/../signing/"),
    ],
)
async def test_path_that_is_not_there_is_answered_in_the_form_of_the_management_api(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"statusCode": 404, "error": "Not Found", "message": "Not Found"}
