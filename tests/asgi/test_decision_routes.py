"""`POST /distrust` and `/reinstate`: decisions of people and their tools over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from jwks_guard import MultiIssuerVerifier, TokenVerifier
from jwks_guard.asgi import operations
from jwks_guard.errors import InvalidTokenError
from jwks_guard.fleet.soundness import MAX_REASON_CHARS
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, tenant_of, verifier_of

SECRET = "correct-horse-battery"


@pytest.fixture
def other(clock: HandClock) -> Iterator[LocalTenant]:
    with tenant_of(clock, issuer="https://staff.test/") as local:
        yield local


@pytest.fixture
async def verifier(tenant: LocalTenant, clock: HandClock) -> AsyncIterator[TokenVerifier]:
    async with verifier_of(tenant, clock) as verifier:
        yield verifier


@asynccontextmanager
async def operated(
    verifier: Any, credentials: str = SECRET, auth: Any = SECRET
) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=[Mount("/ops", operations(verifier, operations_auth=auth))])
    headers = {"Authorization": f"Bearer {credentials}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://api.test/ops", headers=headers
    ) as client:
        yield client


async def test_key_is_refused_when_the_answer_comes_and_trusted_again_after_a_lift(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    kid, token = tenant.key().kid, tenant.token()
    await verifier.verify(token)
    async with operated(verifier) as client:
        answer = await client.post("/distrust", json={"kid": kid, "reason": "leaked"})
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json() == {
            "instance": verifier.keys.register.instance,
            "issuer": tenant.issuer,
            "kid": kid,
            "distrusted": True,
            "since": clock.time(),
        }
        with pytest.raises(InvalidTokenError, match="distrusted"):
            await verifier.verify(token)
        assert verifier.distrusted[kid].reason == "leaked"
        answer = await client.post("/reinstate", json={"kid": kid, "reason": "a mistake"})
        assert (answer.status_code, answer.json()["distrusted"]) == (200, False)
        assert (await verifier.verify(token)).kid == kid


async def test_decision_is_stored_when_it_is_answered_or_the_answer_says_why_not(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    snapshot = tmp_path / "keys.json"
    async with (
        verifier_of(tenant, clock, snapshot_path=snapshot) as verifier,
        operated(verifier) as client,
    ):
        answer = await client.post("/distrust", json={"kid": "k1", "reason": "leaked"})
        assert answer.status_code == 200
        journal = tmp_path / "keys.json.tombstones"
        assert "k1" in journal.read_text()
        journal.chmod(0o644)
        answer = await client.post("/distrust", json={"kid": "k2", "reason": "leaked"})
        assert (answer.status_code, answer.json()["error"]) == (503, "distrust_not_shared")
        assert "k2" in verifier.distrusted
        journal.chmod(0o600)


async def test_the_only_trusted_key_is_distrusted_by_force_alone(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    first, *others = verifier.keys.kids
    async with operated(verifier) as client:
        for kid in others:
            await client.post("/distrust", json={"kid": kid, "reason": "leaked"})
        decision: dict[str, Any] = {"kid": first, "reason": "leaked"}
        answer = await client.post("/distrust", json=decision)
        assert (answer.status_code, answer.json()["error"]) == (409, "revocation_refused")
        assert first not in verifier.distrusted
        answer = await client.post("/distrust", json={**decision, "force": True})
        assert answer.status_code == 200
        assert first in verifier.distrusted


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 10_000,
        b'{"kid": "k1"}',
        b'{"kid": "", "reason": "leaked"}',
        b'{"kid": "k1", "reason": " "}',
        b'{"kid": 1, "reason": "leaked"}',
        b'{"kid": "k1", "reason": "leaked", "isuer": "https://a.test/"}',
        b'{"kid": "k1", "reason": "leaked", "issuer": "https://a.test/"}',
        b'{"kid": "k1", "reason": "leaked", "force": "yes"}',
        b'{"kid": "\\ud800", "reason": "leaked"}',
        b'{"kid": "%s", "reason": "leaked"}' % (b"k" * 513),
        b'{"kid": "k1", "reason": "%s"}' % (b"r" * (MAX_REASON_CHARS + 1)),
    ],
)
async def test_what_is_malformed_changes_nothing(verifier: TokenVerifier, body: bytes) -> None:
    async with operated(verifier) as client:
        for path in ("/distrust", "/reinstate"):
            answer = await client.post(path, content=body)
            assert (answer.status_code, answer.json()["error"]) == (400, "malformed_decision")
            assert "Nothing was changed" in answer.json()["error_description"]
    assert dict(verifier.distrusted) == {}


async def test_kid_that_was_never_distrusted_can_not_be_reinstated(
    verifier: TokenVerifier,
) -> None:
    async with operated(verifier) as client:
        answer = await client.post("/reinstate", json={"kid": "k1", "reason": "a mistake"})
    assert answer.status_code == 400
    assert "never distrusted" in answer.json()["error_description"]


async def test_huge_body_and_other_methods_are_refused(verifier: TokenVerifier) -> None:
    async with operated(verifier) as client:
        assert (await client.post("/distrust", content=b" " * 20_000)).status_code == 413
        assert (await client.get("/distrust")).status_code == 405


async def test_with_several_issuers_the_body_names_one(
    tenant: LocalTenant, other: LocalTenant, clock: HandClock
) -> None:
    one, two = verifier_of(tenant, clock), verifier_of(other, clock)
    async with MultiIssuerVerifier([one, two]) as verifiers, operated(verifiers) as client:
        decision = {"kid": "k1", "reason": "leaked"}
        answer = await client.post("/distrust", json=decision)
        assert answer.status_code == 400
        assert other.issuer in answer.json()["error_description"]
        answer = await client.post("/distrust", json={**decision, "issuer": other.issuer})
        assert answer.status_code == 200
        assert ("k1" in one.distrusted, "k1" in two.distrusted) == (False, True)


async def test_token_of_the_guarded_tenant_decides_nothing(
    tenant: LocalTenant, other: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    scopes = {"scope": "operations:read operations:distrust"}
    decision = {"kid": "k1", "reason": "leaked"}
    own = tenant.token(claims=scopes)
    async with operated(verifier, own, verifier_of(tenant, clock)) as client:
        assert (await client.post("/distrust", json=decision)).status_code == 403
    staff = verifier_of(other, clock)
    async with staff, operated(verifier, other.token(claims=scopes), staff) as client:
        assert (await client.post("/distrust", json=decision)).status_code == 200
    assert set(verifier.distrusted) == {"k1"}
