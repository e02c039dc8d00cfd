from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jwks_guard.testing import LocalTenant, ManualClock

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def form(tenant: LocalTenant, **changes: str) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_id": tenant.client_id,
        "client_secret": tenant.client_secret,
        "audience": tenant.audience,
        **changes,
    }


async def test_client_gets_a_token_for_the_api_that_lasts_a_day(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    response = await client.post("/oauth/token", data=form(tenant))
    grant = response.json()
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert (grant["token_type"], grant["expires_in"]) == ("Bearer", 86_400)
    claims = jwt.decode(grant["access_token"], options={"verify_signature": False})
    assert claims == {
        "iss": tenant.issuer,
        "sub": f"{tenant.client_id}@clients",
        "aud": tenant.audience,
        "iat": 1_750_000_000,
        "exp": 1_750_086_400,
        "scope": grant["scope"],
        "gty": "client-credentials",
        "azp": tenant.client_id,
    }


async def test_management_token_carries_the_signing_key_scopes(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    asked = form(tenant, audience=tenant.management_audience)
    grant = (await client.post("/oauth/token", json=asked)).json()
    assert grant["scope"] == "read:signing_keys create:signing_keys update:signing_keys"


async def test_secret_may_come_in_the_authorization_header(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    response = await client.post(
        "/oauth/token",
        data={"grant_type": "client_credentials", "audience": tenant.audience},
        auth=(tenant.client_id, tenant.client_secret),
    )
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_secret": "guess"}, 401, "access_denied"),
        ({"client_secret": ""}, 401, "access_denied"),
        ({"client_id": "other"}, 401, "access_denied"),
        ({"audience": "https://unknown.test"}, 403, "access_denied"),
        ({"grant_type": "password"}, 403, "unauthorized_client"),
        ({"client_assertion": "x"}, 400, "invalid_request"),
        (
            {"client_assertion": "x", "client_assertion_type": JWT_BEARER},
            401,
            "invalid_client",
        ),
    ],
)
async def test_wrong_request_is_refused_with_an_oauth_error(
    tenant: LocalTenant,
    client: httpx.AsyncClient,
    changes: dict[str, str],
    status: int,
    error: str,
) -> None:
    response = await client.post("/oauth/token", data=form(tenant, **changes))
    assert response.status_code == status
    assert response.json()["error"] == error
    assert sorted(response.json()) == ["error", "error_description"]


@pytest.mark.parametrize("credentials", ["%%%", base64.b64encode(b"\xff:\xff").decode()])
async def test_unreadable_basic_credentials_are_refused(
    client: httpx.AsyncClient, credentials: str
) -> None:
    response = await client.post(
        "/oauth/token",
        data={"grant_type": "client_credentials"},
        headers={"Authorization": f"Basic {credentials}"},
    )
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"[1]", 403),
        ("application/json", b'{"grant_type": 7}', 403),
        ("application/x-www-form-urlencoded", b"\xff", 400),
    ],
)
async def test_body_that_is_no_set_of_parameters_is_refused(
    client: httpx.AsyncClient, content_type: str, content: bytes, status: int
) -> None:
    response = await client.post(
        "/oauth/token", content=content, headers={"Content-Type": content_type}
    )
    assert response.status_code == status


@pytest.fixture(scope="module")
def client_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
async def keyed(client_key: rsa.RSAPrivateKey, clock: ManualClock) -> AsyncIterator[LocalTenant]:
    """A tenant whose client has registered a public key."""
    pem = client_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    async with LocalTenant(
        in_process=True, algorithm="ES256", clock=clock, client_public_key=pem.decode()
    ) as local:
        yield local


async def assert_grant(
    tenant: LocalTenant,
    key: rsa.RSAPrivateKey | str,
    changes: dict[str, Any] | None = None,
    algorithm: str = "RS256",
) -> httpx.Response:
    """What the tenant answers to a good assertion with `changes`; None drops a claim."""
    claims = {
        "iss": tenant.client_id,
        "sub": tenant.client_id,
        "aud": tenant.issuer,
        "jti": "once",
        "exp": 1_750_000_300,
        **(changes or {}),
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    parameters = {
        "grant_type": "client_credentials",
        "client_assertion_type": JWT_BEARER,
        "client_assertion": jwt.encode(claims, key, algorithm),
        "audience": tenant.management_audience,
    }
    async with httpx.AsyncClient(transport=tenant.transport) as http:
        return await http.post(tenant.issuer + "oauth/token", data=parameters)


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "PS256"])
async def test_private_key_jwt_gets_a_token(
    keyed: LocalTenant, client_key: rsa.RSAPrivateKey, algorithm: str
) -> None:
    response = await assert_grant(keyed, client_key, algorithm=algorithm)
    assert response.status_code == 200
    assert response.json()["token_type"] == "Bearer"


async def test_assertion_is_good_once(keyed: LocalTenant, client_key: rsa.RSAPrivateKey) -> None:
    statuses = [
        (await assert_grant(keyed, client_key, {"jti": jti})).status_code for jti in ("a", "a", "b")
    ]
    assert statuses == [200, 401, 200]


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1_750_000_301},
        {"exp": 1_750_000_000},
        {"exp": None},
        {"exp": "soon"},
        {"jti": None},
        {"sub": "someone else"},
        {"iss": "someone else"},
        {"aud": "https://elsewhere.test/"},
    ],
)
async def test_assertion_that_breaks_a_documented_rule_is_refused(
    keyed: LocalTenant, client_key: rsa.RSAPrivateKey, changes: dict[str, Any]
) -> None:
    response = await assert_grant(keyed, client_key, changes)
    assert response.status_code == 401
    assert response.json()["error"] == "invalid_client"


async def test_assertion_by_another_key_or_algorithm_is_refused(
    keyed: LocalTenant, client_key: rsa.RSAPrivateKey
) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert (await assert_grant(keyed, stranger)).status_code == 401
    assert (await assert_grant(keyed, client_key, algorithm="RS512")).status_code == 401
    assert (await assert_grant(keyed, "x" * 32, algorithm="HS256")).status_code == 401
