"""The endpoint behind `jwks-guard tenant token`, for programs on this machine."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jwt
import pytest

from jwks_guard.testing import LocalTenant, ManualClock


async def asked(client: httpx.AsyncClient, wish: Any, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/testing/token", json=wish, headers=named)


def claims_of(answer: httpx.Response) -> dict[str, Any]:
    options = {"verify_signature": False}
    claims: dict[str, Any] = jwt.decode(answer.json()["token"], options=options)  # type: ignore[arg-type]  # PyJWT's own
    return claims


async def test_token_is_that_of_the_tenant_object(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    answer = await asked(client, {})
    assert answer.status_code == 200
    assert claims_of(answer) == jwt.decode(tenant.token(), options={"verify_signature": False})
    wish = {"sub": "auth0|bob", "scope": "a b", "permissions": ["c"], "audience": tenant.audience}
    claims = claims_of(await asked(client, wish))
    assert (claims["sub"], claims["scope"], claims["permissions"]) == ("auth0|bob", "a b", ["c"])


async def test_expired_token_was_valid_for_an_hour_and_ended_an_hour_ago(
    client: httpx.AsyncClient, clock: ManualClock
) -> None:
    claims = claims_of(await asked(client, {"expired": True}))
    assert (claims["iat"], claims["exp"]) == (clock.time() - 7200, clock.time() - 3600)


@pytest.mark.parametrize(
    "wish", [[], "x", {"sub": 1}, {"scope": None}, {"permissions": "a"}, {"more": 1}]
)
async def test_wish_of_another_form_is_refused(client: httpx.AsyncClient, wish: Any) -> None:
    assert (await asked(client, wish)).status_code == 400


async def test_audience_that_the_tenant_does_not_have_is_refused_with_those_it_has(
    tenant: LocalTenant, client: httpx.AsyncClient
) -> None:
    for audience in ("https://unknown.test", tenant.management_audience):
        answer = await asked(client, {"audience": audience})
        assert (answer.status_code, tenant.audience in answer.json()["message"]) == (400, True)


async def test_page_in_a_browser_gets_no_token(client: httpx.AsyncClient) -> None:
    """Without a preflight it can't send JSON; by a name of its own it could read the answer."""
    plain = await client.post(
        "/testing/token", content=json.dumps({}), headers={"Content-Type": "text/plain"}
    )
    assert (plain.status_code, "token" in plain.json()) == (415, False)
    for host in ("evil.test", "127.0.0.1.evil.test", "localhost.evil.test:8765"):
        assert (await asked(client, {}, Host=host)).status_code == 403
    for host in ("localhost", "127.0.0.1:8765", "[::1]:8765", "192.0.2.1"):
        assert (await asked(client, {}, Host=host)).status_code == 200


async def test_tenant_with_several_apis_grants_tokens_for_each(clock: ManualClock) -> None:
    apis = ["https://one.test", "https://two.test"]
    async with (
        LocalTenant(audience=apis, in_process=True, algorithm="ES256", clock=clock) as tenant,
        httpx.AsyncClient(transport=tenant.transport, base_url=tenant.issuer) as client,
    ):
        assert (tenant.audience, tenant.audiences) == (apis[0], tuple(apis))
        for api in apis:
            assert api in claims_of(await asked(client, {"audience": api}))["aud"]
            form = {
                "grant_type": "client_credentials",
                "client_id": tenant.client_id,
                "client_secret": tenant.client_secret,
                "audience": api,
            }
            answer = await client.post("/oauth/token", data=form)
            assert answer.status_code == 200
