"""What a user writes with the public names, and the types that are seen there.

It is checked, and run, against the wheel in an environment without this repository.
"""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, assert_type

import httpx
import pytest
from fastapi import FastAPI, Security

from jwks_guard import (
    Authenticated,
    Event,
    HealthReport,
    InsufficientScopeError,
    InvalidTokenError,
    JWKSGuardError,
    KeysUnavailableError,
    MultiIssuerVerifier,
    Refusal,
    RequestGuard,
    RequestRefusedError,
    RevokedKeyError,
    SyncRequestGuard,
    SyncTokenVerifier,
    TokenExpiredError,
    TokenVerifier,
    VerifiedToken,
)
from jwks_guard.asgi import JWKSGuardMiddleware, StaticSecrets, operations
from jwks_guard.fleet import RedisFleet
from jwks_guard.integrations.fastapi import CurrentToken, Guard
from jwks_guard.testing import FakeToken, LocalTenant, fake_token

ISSUER, AUDIENCE = "https://acme.eu.auth0.com/", "https://api.acme.com"


def note(event: Event) -> None:
    assert_type(event.kid, str | None)


def members_alone(claims: Mapping[str, Any]) -> None:
    if "org_id" not in claims:
        raise InvalidTokenError("no organization")


async def verified(compact: str, fleet: RedisFleet) -> str | None:
    first = TokenVerifier(
        ISSUER, AUDIENCE, claim_checks=[members_alone], fleet=fleet, on_event=note, max_stale=600
    )
    second = TokenVerifier.for_auth0("acme.eu.auth0.com", audience=[AUDIENCE])
    async with MultiIssuerVerifier([first, second]) as verifier:
        try:
            token = await verifier.verify(compact)
        except (TokenExpiredError, RevokedKeyError) as error:
            assert_type(error.kid, str | None)
            return error.code
        except KeysUnavailableError as error:
            return f"{error.http_status}, again in {error.retry_after} s"
        assert_type(token, VerifiedToken)
        assert_type(token.scopes, frozenset[str])
        assert_type(token.subject, str | None)
        await first.distrust(token.kid, reason="leaked")
        assert_type(first.health(), HealthReport)
        return token.subject


async def answered(guard: RequestGuard, headers: dict[str, str]) -> int:
    try:
        done = await guard.authenticate(method="GET", url=AUDIENCE, headers=headers)
    except RequestRefusedError as error:
        assert_type(error.refusal, Refusal)
        return error.refusal.status
    assert_type(done, Authenticated)
    return 200


def subject_of(guard: SyncRequestGuard, headers: dict[str, str]) -> str | None:
    done = guard.authenticate(method="GET", url=AUDIENCE, headers=headers)
    return None if done.token is None else done.token.subject


def app_of(verifier: TokenVerifier) -> FastAPI:
    guard = Guard(verifier, required_scopes=["read:things"])
    app = FastAPI(lifespan=guard.lifespan)

    @app.get("/things")
    async def things(token: Annotated[VerifiedToken, Security(guard)]) -> dict[str, str | None]:
        return {"owner": token.subject}

    @app.get("/me")
    async def me(token: CurrentToken) -> str | None:
        return token.subject

    assert [each.__name__ for each in (things, me)] == ["things", "me"]
    app.mount("/ops", operations(verifier, operations_auth=StaticSecrets("s" * 32)))
    app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/ops/*"])
    return app


# --- with the fixtures of its pytest plugin ---


async def answers(tenant: LocalTenant, path: str, *tokens: str) -> list[int]:
    async with TokenVerifier(tenant.issuer, tenant.audience) as verifier:
        transport = httpx.ASGITransport(app_of(verifier))
        async with httpx.AsyncClient(transport=transport, base_url=AUDIENCE) as client:
            headers = [{"Authorization": f"Bearer {token}"} for token in tokens]
            return [(await client.get(path, headers=each)).status_code for each in headers]


def test_guard_lets_in_and_refuses(local_tenant: LocalTenant) -> None:
    good, poor = local_tenant.token(scope="read:things"), local_tenant.token(scope="openid")
    assert asyncio.run(answers(local_tenant, "/things", good, poor, "bad")) == [200, 403, 401]
    assert asyncio.run(answers(local_tenant, "/me", good, poor, "bad")) == [200, 200, 401]
    assert asyncio.run(answers(local_tenant, "/ops/livez", "bad")) == [200]


def test_verifiers_and_guards_answer(local_tenant: LocalTenant) -> None:
    with SyncTokenVerifier(local_tenant.issuer, local_tenant.audience) as verifier:
        token = assert_type(verifier.verify(local_tenant.token()), VerifiedToken)
        headers = {"Authorization": f"Bearer {local_tenant.token()}"}
        assert subject_of(SyncRequestGuard(verifier), headers) == token.subject
        with pytest.raises(JWKSGuardError):
            verifier.verify("bad")
    guard = RequestGuard(TokenVerifier(local_tenant.issuer, local_tenant.audience))
    assert asyncio.run(answered(guard, {})) == 401


def test_fake_token_is_one_for_a_handler() -> None:
    fake = assert_type(fake_token(scope="read:things"), FakeToken)
    token: VerifiedToken = fake
    assert "read:things" in token.scopes
    assert issubclass(InsufficientScopeError, JWKSGuardError)
