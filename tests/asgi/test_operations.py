from __future__ import annotations

import asyncio
import fcntl
import hmac
import importlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message

from jwks_guard import MultiIssuerVerifier, SyncTokenVerifier, TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, StaticSecrets, operations
from jwks_guard.asgi.bodies import BodyRefusedError, read_body
from jwks_guard.errors import (
    ConfigurationError,
    InvalidTokenError,
    KeysUnavailableError,
    LookUpThrottledError,
    NotFoundError,
)
from jwks_guard.fleet.http_messages import MAX_MESSAGE_BYTES
from jwks_guard.fleet.soundness import MAX_DECISIONS
from jwks_guard.keys.hints import PAUSE_SECONDS
from jwks_guard.readiness.verdict import RevocationReadiness
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import ServerThread, listen
from tests.fleet.instances import eventually
from tests.support import JWKS, HandClock, tenant_of, verifier_of

SECRET = "correct-horse-battery"
OLD_SECRET = "staple-correct-horse"
GUARDED = [
    ("GET", "/state"),
    ("GET", "/metrics"),
    ("GET", "/revocation-readiness/k1"),
    ("POST", "/distrust"),
    ("POST", "/reinstate"),
    ("POST", "/fleet/exchange"),
    ("POST", "/fleet/refresh"),
]


@pytest.fixture
def other(clock: HandClock) -> Iterator[LocalTenant]:
    """The issuer of those who operate the API."""
    with tenant_of(clock, issuer="https://staff.test/") as local:
        yield local


@pytest.fixture
async def verifier(tenant: LocalTenant, clock: HandClock) -> AsyncIterator[TokenVerifier]:
    async with verifier_of(tenant, clock) as verifier:
        yield verifier


@asynccontextmanager
async def served(
    app: ASGIApp, credentials: str | None = SECRET
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    headers = {} if credentials is None else {"Authorization": f"Bearer {credentials}"}
    url = "http://api.test"
    async with httpx.AsyncClient(transport=transport, base_url=url, headers=headers) as client:
        yield client


@contextmanager
def on_a_socket(app: ASGIApp) -> Iterator[httpx.Client]:
    """Served by uvicorn in a thread with an event loop of its own."""
    listener = listen("127.0.0.1", 0)
    server = ServerThread(app, listener)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    headers = {"Authorization": f"Bearer {SECRET}"}
    try:
        with httpx.Client(base_url=address, headers=headers, trust_env=False) as client:
            yield client
    finally:
        server.stop()


REPLICA = "f" * 32


def message(*parts: Any, known: str | None = None) -> bytes:
    return json.dumps({"known": known, "parts": parts}).encode()


def distrusting(issuer: str, kid: str, number: int = 1) -> bytes:
    made = {REPLICA: {"number": number, "reason": "leaked", "at": 1.0}}
    return message([issuer, kid, {"made": made}])


def lifting(issuer: str, kid: str, number: int = 1, replica: str = REPLICA) -> bytes:
    lifted = {replica: {"number": number, "reason": "a mistake", "at": 2.0}}
    return message([issuer, kid, {"lifted": lifted}])


class Judge:
    """In place of a KeyRotation."""

    async def revocation_readiness(self, kid: str) -> RevocationReadiness:
        if kid == "unknown":
            raise NotFoundError("The tenant has no signing key of that kid.", status=404)
        return RevocationReadiness(
            kid=kid,
            verdict="unknown",
            assessed_at=1.0,
            earliest_safe_time=None,
            blockers=(),
            instances=(),
        )


def operated(verifier: Any, **options: Any) -> Starlette:
    options.setdefault("operations_auth", SECRET)
    options.setdefault("readiness", Judge())
    return operations(verifier, **options)


# --- open routes ---


async def test_livez_answers_whatever_the_jwks_does(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    tenant.faults.status(500, path="*")
    clock.advance(1e6)
    async with served(operations(verifier), None) as client:
        answer = await client.get("/livez")
    assert (answer.status_code, answer.text) == (200, "ok\n")
    assert answer.headers["cache-control"] == "no-store"


async def test_readyz_is_200_while_a_key_is_trusted_though_degraded_and_503_after(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    async with served(operations(verifier), None) as client:
        assert (await client.get("/readyz")).text == "ok\n"
        tenant.faults.status(500, path="*")
        clock.advance(120)
        await verifier.keys.tick()
        degraded = await client.get("/readyz")
        assert (degraded.status_code, degraded.text) == (200, "degraded\n")
        clock.advance(3600)
        gone = await client.get("/readyz")
        assert (gone.status_code, gone.text) == (503, "unavailable\n")


async def test_an_instance_without_traffic_becomes_ready_by_being_asked_whether_it_is(
    tenant: LocalTenant, clock: HandClock
) -> None:
    unstarted, lazy = verifier_of(tenant, clock), verifier_of(tenant, clock, background=False)
    async with served(operations(lazy), None) as client:
        assert (await client.get("/readyz")).status_code == 200
    async with served(operations(unstarted), None) as client:
        await client.get("/readyz")
        await eventually(lambda: unstarted.health().status == "ok")
        assert (await client.get("/readyz")).status_code == 200
    await unstarted.aclose()
    await lazy.aclose()


async def test_a_closed_verifier_is_not_ready_and_stays_closed(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock)
    await verifier.start()
    await verifier.aclose()
    async with served(operated(verifier)) as client:
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/state")).json()["states"][0]["status"] == "unavailable"
    assert verifier.keys.home.loop is None


async def test_with_several_issuers_one_that_is_down_degrades(
    tenant: LocalTenant, other: LocalTenant, clock: HandClock
) -> None:
    other.faults.status(500, path="*")
    both = MultiIssuerVerifier([verifier_of(tenant, clock), verifier_of(other, clock)])
    async with both, served(operated(both)) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (200, "degraded\n")
        states = (await client.get("/state")).json()["states"]
        assert {state["issuer"]: state["status"] for state in states} == {
            tenant.issuer: "ok",
            other.issuer: "unavailable",
        }
        tenant.faults.status(500, path="*")
        clock.advance(4000)
        assert (await client.get("/readyz")).status_code == 503


async def test_issuers_that_resolve_knows_show_as_they_come_and_go(
    tenant: LocalTenant, other: LocalTenant, clock: HandClock
) -> None:
    async def resolve(issuer: str) -> TokenVerifier | None:
        return verifier_of(other, clock)

    multi = MultiIssuerVerifier([verifier_of(tenant, clock)], resolve=resolve)
    async with multi, served(operated(multi)) as client:

        async def issuers() -> set[str]:
            states = (await client.get("/state")).json()["states"]
            return {state["issuer"] for state in states}

        assert await issuers() == {tenant.issuer}
        await multi.verify(other.token())
        assert await issuers() == {tenant.issuer, other.issuer}
        assert other.issuer in (await client.get("/metrics")).text
        body = distrusting(other.issuer, other.key().kid)
        answer = (await client.post("/fleet/exchange", content=body)).json()
        assert answer["issuers"] == sorted([tenant.issuer, other.issuer])
        assert set(multi.distrusted[other.issuer]) == {other.key().kid}
        before = other.requests.count(JWKS)
        await client.post("/fleet/refresh")
        assert other.requests.count(JWKS) == before + 1
        await multi.forget(other.issuer)
        assert await issuers() == {tenant.issuer}


@pytest.mark.parametrize("listed", [True, False])
async def test_instance_is_ready_although_an_issuer_that_resolve_knows_is_down(
    tenant: LocalTenant, other: LocalTenant, clock: HandClock, listed: bool
) -> None:
    async def resolve(issuer: str) -> TokenVerifier | None:
        return verifier_of(other, clock)

    verifiers = [verifier_of(tenant, clock)] if listed else []
    multi = MultiIssuerVerifier(verifiers, resolve=resolve, clock=clock)
    async with multi, served(operated(multi)) as client:
        other.faults.status(500, path="*")
        with pytest.raises(KeysUnavailableError):
            await multi.verify(other.token())
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (200, "ok\n")
        states = (await client.get("/state")).json()["states"]
        assert "unavailable" in {state["status"] for state in states}


async def test_open_routes_show_neither_kids_nor_the_instance(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    await verifier.distrust("leaked-kid", reason="leaked")
    async with served(operated(verifier), None) as client:
        for path in ("/livez", "/readyz"):
            answer = await client.get(path)
            shown = f"{answer.text}{answer.headers}"
            for secret in (*verifier.keys.kids, "leaked-kid", verifier.keys.register.instance):
                assert secret not in shown


# --- who is let in ---


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_without_operations_auth_nothing_else_is_there(
    verifier: TokenVerifier, method: str, path: str
) -> None:
    async with served(operations(verifier, readiness=Judge())) as client:
        assert (await client.request(method, path)).status_code == 404


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 401),
        ([("Authorization", "Bearer wrong-horse-battery")], 401),
        ([("Authorization", f"Bearer {SECRET}x")], 401),
        ([("Authorization", f"Bearer {SECRET[:-1]}")], 401),
        ([("Authorization", f"Basic {SECRET}")], 401),
        ([("Authorization", SECRET)], 401),
        ([("Authorization", "Bearer")], 400),
        ([("Authorization", f"Bearer {SECRET}")] * 2, 400),
        ([("Cookie", f"Authorization=Bearer {SECRET}")], 401),
    ],
)
async def test_who_has_no_secret_is_told_and_changes_nothing(
    tenant: LocalTenant,
    verifier: TokenVerifier,
    method: str,
    path: str,
    headers: list[tuple[str, str]],
    status: int,
) -> None:
    body = distrusting(tenant.issuer, "k1")
    fetched = len(tenant.requests)
    async with served(operated(verifier), None) as client:
        answer = await client.request(method, path, headers=headers, content=body)
    assert answer.status_code == status
    assert "JWKS-Guard-Instance" not in answer.headers
    assert SECRET not in answer.text
    assert dict(verifier.distrusted) == {}
    assert len(tenant.requests) == fetched


async def test_two_secrets_are_valid_at_once_so_that_one_can_be_replaced(
    verifier: TokenVerifier,
) -> None:
    app = operated(verifier, operations_auth=[SECRET, OLD_SECRET])
    for secret, status in ((SECRET, 200), (OLD_SECRET, 200), ("neither-of-the-two", 401)):
        async with served(app, secret) as client:
            assert (await client.get("/state")).status_code == status


@pytest.mark.parametrize("given", [SECRET, OLD_SECRET, "neither-of-the-two", "", SECRET * 100])
def test_every_secret_is_compared_whichever_matches_and_never_by_its_length(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    secrets = StaticSecrets(SECRET, OLD_SECRET)
    monkeypatch.setattr(hmac, "compare_digest", watched)
    if given in (SECRET, OLD_SECRET):
        secrets.require(given.encode())
    else:
        with pytest.raises(InvalidTokenError) as refusal:
            secrets.require(given.encode())
        assert SECRET not in str(refusal.value)
    assert compared == [(32, 32), (32, 32)]


@pytest.mark.parametrize(
    "auth",
    ["", "short", "x" * 15, " " * 20, "sixteen or more é", [], [SECRET] * 3, [SECRET, ""], 7, [7]],
)
def test_a_secret_that_protects_nothing_is_refused_without_being_shown(
    tenant: LocalTenant, clock: HandClock, auth: Any
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        operations(verifier_of(tenant, clock), operations_auth=auth)
    assert "sixteen or" not in str(refusal.value)


def test_a_verifier_that_would_block_the_event_loop_is_refused_as_operations_auth(
    tenant: LocalTenant, other: LocalTenant, clock: HandClock
) -> None:
    blocking: Any = SyncTokenVerifier(other.issuer, other.audience)
    with pytest.raises(ConfigurationError, match="SyncTokenVerifier"):
        operations(verifier_of(tenant, clock), operations_auth=blocking)


def test_secrets_come_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n{OLD_SECRET}\n\n")
    monkeypatch.setenv("OPS", SECRET)
    monkeypatch.setenv("OPS_OLD", "")
    from_file, from_environment = (
        StaticSecrets.from_file(path),
        StaticSecrets.from_environment("OPS", "OPS_OLD"),
    )
    from_file.require(OLD_SECRET.encode())
    for secrets in (from_file, from_environment):
        secrets.require(SECRET.encode())
        assert SECRET not in repr(secrets)
    with pytest.raises(InvalidTokenError):
        from_environment.require(OLD_SECRET.encode())
    with pytest.raises(ConfigurationError, match="MISSING"):
        StaticSecrets.from_environment("MISSING")
    with pytest.raises(ConfigurationError, match="FileNotFoundError"):
        StaticSecrets.from_file(tmp_path / "missing")
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigurationError):
        StaticSecrets.from_file(tmp_path / "empty")


async def test_tokens_of_another_issuer_need_the_scope_for_what_they_do(
    tenant: LocalTenant, other: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    async with verifier_of(other, clock) as staff:
        app = operated(verifier, operations_auth=staff)
        cases = [
            (other.token(scope="operations:read"), 200, 403),
            (other.token(scope="operations:distrust"), 403, 200),
            (other.token(scope=None, permissions=["operations:read"]), 403, 403),
            (other.token(scope="read:things"), 403, 403),
            (other.forged_token(scope="operations:read operations:distrust"), 401, 401),
            (SECRET, 401, 401),
        ]
        for number, (token, reading, distrusted) in enumerate(cases):
            async with served(app, token) as client:
                kid = f"k{number}"
                assert (await client.get("/state")).status_code == reading
                body = distrusting(tenant.issuer, kid)
                answer = await client.post("/fleet/exchange", content=body)
                assert answer.status_code == distrusted
                assert (kid in verifier.distrusted) is (distrusted == 200)


async def test_scopes_are_configurable(
    tenant: LocalTenant, other: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    scopes = {"read_scope": "look", "distrust_scope": "act"}
    async with verifier_of(other, clock) as staff:
        app = operated(verifier, operations_auth=staff, **scopes)
        async with served(app, other.token(scope="look")) as client:
            assert (await client.get("/state")).status_code == 200
        async with served(app, other.token(scope="operations:read")) as client:
            assert 'scope="look"' in (await client.get("/state")).headers["www-authenticate"]
    with pytest.raises(ConfigurationError):
        operated(verifier, read_scope="two words")


ALL = "operations:read operations:distrust"


async def test_the_guarded_tenants_tokens_look_and_never_distrust(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    old = tenant.key().kid
    leaked = tenant.token(scope=ALL)
    tenant.rotate()
    await verifier.distrust(old, reason="leaked")
    await verifier.distrust("another", reason="leaked")
    app = operated(verifier, operations_auth=verifier)
    lift = lifting(tenant.issuer, old)
    async with served(app, tenant.token(scope=ALL)) as client:
        assert (await client.get("/state")).status_code == 200
        for body in (distrusting(tenant.issuer, "k"), lift):
            assert (await client.post("/fleet/exchange", content=body)).status_code == 403
        assert (await client.post("/fleet/refresh")).status_code == 403
    async with served(app, leaked) as client:
        assert (await client.get("/state")).status_code == 401
        assert (await client.post("/fleet/exchange", content=lift)).status_code == 401
    assert sorted(verifier.distrusted) == sorted([old, "another"])


async def test_a_guarded_key_distrusts_under_no_other_name_of_its_issuer(
    tenant: LocalTenant, other: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    """As a custom domain, which publishes the tenant's keys under another issuer."""
    shared = tenant.key()
    other.publish(shared)
    token = other.token(scope=ALL, key=shared)
    async with verifier_of(other, clock) as staff:
        async with served(operated(verifier, operations_auth=staff), token) as client:
            assert (await client.get("/state")).status_code == 200
            body = distrusting(tenant.issuer, "k1")
            assert (await client.post("/fleet/exchange", content=body)).status_code == 403
        tenant.rotate()
        tenant.revoke(shared.kid)
        await verifier.keys.refresh()
        async with served(operated(verifier, operations_auth=staff), token) as client:
            assert (await client.post("/fleet/exchange", content=body)).status_code == 403
    assert dict(verifier.distrusted) == {}


@pytest.mark.parametrize("attack", ["publish the key of the operators", "never answer"])
async def test_issuer_that_resolve_knows_can_not_keep_operators_from_distrusting(
    tenant: LocalTenant, other: LocalTenant, clock: HandClock, attack: str
) -> None:
    with tenant_of(clock, issuer="https://hostile.test/") as hostile:

        async def resolve(issuer: str) -> TokenVerifier | None:
            return verifier_of(hostile, clock)

        multi = MultiIssuerVerifier([verifier_of(tenant, clock)], resolve=resolve)
        async with multi, verifier_of(other, clock) as staff:
            if attack == "never answer":
                hostile.faults.status(500, path="*")
                with pytest.raises(KeysUnavailableError):
                    await multi.verify(hostile.token())
            else:
                hostile.publish({**other.key().jwk, "kid": "mine"})
                await multi.verify(hostile.token())
            app = operated(multi, operations_auth=staff)
            body = distrusting(tenant.issuer, "k1")
            async with served(app, other.token(scope=ALL)) as client:
                assert (await client.post("/fleet/exchange", content=body)).status_code == 200
            assert set(multi.distrusted[tenant.issuer]) == {"k1"}
            async with served(
                operated(multi, operations_auth=multi), hostile.token(scope=ALL)
            ) as client:
                assert (await client.post("/fleet/exchange", content=body)).status_code in (
                    403,
                    503,
                )


async def test_a_guarded_key_distrusts_nothing_although_only_its_other_name_has_shown_it_yet(
    tenant: LocalTenant, other: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    tenant.rotate()
    tenant.rotate()  # to a key that the guarding verifier has not fetched
    fresh = tenant.key()
    other.publish(fresh)
    async with verifier_of(other, clock) as staff:
        app = operated(verifier, operations_auth=staff)
        async with served(app, other.token(scope=ALL, key=fresh)) as client:
            body = distrusting(tenant.issuer, "k1")
            assert (await client.post("/fleet/exchange", content=body)).status_code == 403
    assert dict(verifier.distrusted) == {}


async def test_refused_tokens_of_the_guarded_tenant_fetch_nothing(
    tenant: LocalTenant, other: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    async with verifier_of(other, clock) as staff:
        both = MultiIssuerVerifier([verifier, staff])
        before = tenant.requests.count(JWKS)
        async with served(
            operated(verifier, operations_auth=both), tenant.token(scope=ALL)
        ) as client:
            for _ in range(20):
                assert (await client.post("/fleet/exchange", content=b"{}")).status_code == 403
        assert tenant.requests.count(JWKS) == before


async def test_however_often_foreign_tokens_come_the_guarded_keys_are_fetched_once_in_a_while(
    tenant: LocalTenant, other: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    before = tenant.requests.count(JWKS)
    body = distrusting(tenant.issuer, "k1")
    async with verifier_of(other, clock) as staff:
        app = operated(verifier, operations_auth=staff)
        async with served(app, other.token(scope=ALL)) as client:
            posts = (client.post("/fleet/exchange", content=body) for _ in range(20))
            assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}
            assert tenant.requests.count(JWKS) == before + 1
            clock.advance(PAUSE_SECONDS)
            tenant.faults.status(500, path="*")
            for _ in range(20):  # who was not looked for is not let in, nor is a new attempt made
                assert (await client.post("/fleet/exchange", content=body)).status_code == 503
            assert tenant.requests.count(JWKS) == before + 2


async def test_as_long_as_the_guarded_keys_are_not_known_no_token_distrusts(
    tenant: LocalTenant, other: LocalTenant, clock: HandClock
) -> None:
    tenant.faults.status(500, path="*")
    async with verifier_of(tenant, clock) as verifier, verifier_of(other, clock) as staff:
        app = operated(verifier, operations_auth=staff)
        async with served(app, other.token(scope=ALL)) as client:
            body = distrusting(tenant.issuer, "k1")
            assert (await client.post("/fleet/exchange", content=body)).status_code == 503
        both = MultiIssuerVerifier([verifier, staff])
        app = operated(verifier, operations_auth=both)
        async with served(app, other.token(scope="operations:read")) as client:
            assert (await client.get("/state")).status_code == 200


# --- what is shown ---


async def test_state_shows_keys_usage_and_refusals_and_which_process_answers(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    await verifier.verify(tenant.token())
    await verifier.distrust("leaked", reason="leaked")
    async with served(operated(verifier)) as client:
        answer = await client.get("/state")
        again = await client.get("/state")
    document = answer.json()
    (state,) = document["states"]
    assert answer.headers["JWKS-Guard-Instance"] == document["instance"] == state["instance"]
    assert document["instance"] == verifier.keys.register.instance == again.json()["instance"]
    assert answer.headers["cache-control"] == "no-store"
    assert state["issuer"] == tenant.issuer
    assert set(state["kids"]) == set(verifier.keys.kids)
    assert state["refused"] == {"leaked": clock.time()}
    assert state["usage"][tenant.key().kid]["accepted"] == 1


async def test_an_exchange_tells_what_is_held_and_how_far_tokens_reach(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    token = await verifier.verify(tenant.token())
    await verifier.distrust("leaked", reason="why")
    await verifier.distrust("mistake", reason="why")
    await verifier.reinstate("mistake", reason="a mistake")
    async with served(operated(verifier)) as client:
        document = (await client.post("/fleet/exchange", content=message())).json()
    instance = verifier.keys.register.instance
    held = {kid: flag for _, kid, flag in document["parts"]}
    assert set(held) == {"leaked", "mistake"}
    assert {issuer for issuer, _, _ in document["parts"]} == {tenant.issuer}
    assert held["leaked"]["made"][instance]["reason"] == "why"
    assert held["leaked"]["lifted"] == {}
    assert held["mistake"]["lifted"][instance]["reason"] == "a mistake"
    assert document["instance"] == instance
    assert document["issuers"] == [tenant.issuer]
    assert document["error"] is None
    lifetime = token.claims["exp"] - token.claims["iat"]
    reach = [token.expires_at, lifetime]
    assert document["reaches"] == [[tenant.issuer, tenant.key().kid, *reach]]


async def test_what_is_held_is_sent_only_as_far_as_it_is_not_known(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    await verifier.distrust("leaked", reason="why")
    async with served(operated(verifier)) as client:

        async def asked(known: str | None) -> tuple[str, str | None, list[str]]:
            answer = (await client.post("/fleet/exchange", content=message(known=known))).json()
            kids = [kid for _, kid, _ in answer["parts"]]
            return answer["version"], answer["since"], kids

        version, since, kids = await asked(None)
        assert (since, kids) == (None, ["leaked"])
        assert await asked(version) == (version, version, [])
        assert await asked("another") == (version, None, ["leaked"])
        await verifier.distrust("second", reason="why")
        changed, since, kids = await asked(version)
        assert changed != version
        assert (since, kids) == (version, ["second"])
        assert await asked(changed) == (changed, changed, [])
        assert await asked(None) == (changed, None, ["leaked", "second"])
        for number in range(20):
            await verifier.distrust(f"more {number}", reason="why")
            await asked(None)
        _, since, kids = await asked(version)  # too old to be remembered
        assert (since, len(kids)) == (None, 22)


async def test_readiness_is_what_a_rotation_says(verifier: TokenVerifier) -> None:
    async with served(operated(verifier)) as client:
        answer = await client.get("/revocation-readiness/a/kid%20of%3Fsorts")
        assert (answer.status_code, answer.json()["verdict"]) == (200, "unknown")
        assert answer.json()["kid"] == "a/kid of?sorts"
        missing = await client.get("/revocation-readiness/unknown")
        assert (missing.status_code, missing.json()["error"]) == (404, "management_not_found")
        assert (await client.get(f"/revocation-readiness/{'k' * 600}")).status_code == 404
    async with served(operations(verifier, operations_auth=SECRET)) as client:
        assert (await client.get("/revocation-readiness/k1")).status_code == 404
    with pytest.raises(ConfigurationError, match="KeyRotation"):
        operations(verifier, operations_auth=SECRET, readiness="yes")  # type: ignore[arg-type]


def need_prometheus() -> None:
    if "CI" in os.environ:
        importlib.import_module("prometheus_client")
    else:
        pytest.importorskip("prometheus_client", reason="pip install prometheus_client")


async def test_metrics_have_only_kids_that_are_trusted_or_distrusted(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    need_prometheus()
    await verifier.verify(tenant.token())
    old = tenant.key().kid
    tenant.rotate()
    await verifier.keys.refresh()
    await verifier.distrust(old, reason="leaked")
    for number in range(50):
        with pytest.raises((InvalidTokenError, LookUpThrottledError)):
            await verifier.verify(tenant.token(kid=f"forged-{number}"))
    async with served(operated(verifier)) as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "forged" not in answer.text
    issuer, process = tenant.issuer, f'process="{verifier.keys.register.instance[:8]}"'
    for line in (
        f'jwks_guard_tokens_accepted_total{{issuer="{issuer}",kid="{old}",{process}}} 1.0',
        f'jwks_guard_tokens_rejected_others_total{{issuer="{issuer}",{process}}} 50.0',
        f'jwks_guard_status{{issuer="{issuer}",{process},status="ok"}} 1.0',
        f'jwks_guard_key_trusted{{issuer="{issuer}",kid="{tenant.key().kid}",{process}}} 1.0',
        f'jwks_guard_key_trusted{{issuer="{issuer}",kid="{old}",{process}}} 0.0',
        f'jwks_guard_distrusted_keys{{issuer="{issuer}",{process}}} 1.0',
    ):
        assert line in answer.text.splitlines()


async def test_metrics_forget_the_kids_of_keys_that_are_gone(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    need_prometheus()
    await verifier.verify(tenant.token())
    old = tenant.key().kid
    tenant.rotate()
    tenant.revoke(old)
    await verifier.keys.refresh()
    async with served(operated(verifier)) as client:
        assert old not in (await client.get("/metrics")).text


async def test_metrics_without_the_extra_say_how_to_install_it(
    verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jwks_guard.observability.metrics", None)
    async with served(operated(verifier)) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 501
    assert "pip install 'jwks-guard[prometheus]'" in answer.text


# --- what is to be refused ---


async def test_decisions_and_lifts_are_in_effect_when_they_are_answered(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    old, token = tenant.key().kid, tenant.token()
    tenant.rotate()
    await verifier.verify(token)
    async with served(operated(verifier)) as client:
        answer = await client.post("/fleet/exchange", content=distrusting(tenant.issuer, old))
        assert answer.json()["states"][0]["refused"] == {old: clock.time()}
        with pytest.raises(InvalidTokenError, match="distrusted"):
            await verifier.verify(token)
        answer = await client.post("/fleet/exchange", content=lifting(tenant.issuer, old))
        assert answer.json()["states"][0]["refused"] == {}
        await verifier.verify(token)


async def test_a_decision_is_stored_when_it_is_answered_or_the_answer_says_why_not(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    snapshot = tmp_path / "keys.json"
    async with (
        verifier_of(tenant, clock, snapshot_path=snapshot) as verifier,
        served(operated(verifier)) as client,
    ):
        answer = await client.post("/fleet/exchange", content=distrusting(tenant.issuer, "k1"))
        assert answer.json()["error"] is None
        journal = tmp_path / "keys.json.tombstones"
        assert "k1" in journal.read_text()
        journal.chmod(0o644)
        answer = await client.post("/fleet/exchange", content=distrusting(tenant.issuer, "k2"))
        assert "0600" in answer.json()["error"]
        assert "k2" in verifier.distrusted
        journal.chmod(0o600)


async def test_a_journal_that_hangs_holds_up_no_decision_and_no_answer(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("jwks_guard.asgi.operations"), "STORED_SECONDS", 0.75)
    async with (
        verifier_of(tenant, clock, snapshot_path=tmp_path / "keys.json") as verifier,
        served(operated(verifier)) as client,
    ):
        await verifier.distrust("first", reason="leaked")
        with (tmp_path / "keys.json.tombstones").open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            answer = await client.post("/fleet/exchange", content=distrusting(tenant.issuer, "k"))
        assert "was not written within 0.75 s" in answer.json()["error"]
        assert "k" in verifier.distrusted


def forged(**fields: Any) -> dict[str, Any]:
    return {"issuer": "ISSUER", "kid": "KID", **fields}


FORGED = [
    (b"", 400),
    (b"null", 400),
    (b"[]", 400),
    (b"\xff" * 100, 400),
    (b"[" * 100_000, 400),
    (b'{"parts": 1}', 400),
    (b'{"parts": {"lift": 9}}', 400),
    (b'{"known": 7}', 400),
    (b"{}", 200),
    (message(None, 7, [], {}, "x"), 200),
    (message(forged()), 200),
    (message(forged(reinstate={"REPLICA": {"number": 9}})), 200),
    (message(forged(lifted={"REPLICA": {"number": "9"}})), 200),
    (message(forged(lifted={"REPLICA": {"number": True}})), 200),
    (message(forged(lifted={"REPLICA": {"number": 0}})), 200),
    (message(forged(lifted={"REPLICA": {"number": 2**53}})), 200),
    (message(forged(lifted={"REPLICA": {}})), 200),
    (message(forged(lifted={"no replica": {"number": 9}})), 200),
    (message(forged(kid="", made={"REPLICA": {"number": 1}})), 200),
    (message(forged(issuer="", made={"REPLICA": {"number": 1}})), 200),
    (message(forged(issuer="https://other.test/", made={"REPLICA": {"number": 1}})), 200),
    (message(forged(kid="k" * 513, made={"REPLICA": {"number": 1}})), 200),
    (message(forged(kid="k", made={"REPLICA": {"number": -1}})), 200),
    (message(forged(kid="k", made={"no replica": {"number": 1}})), 200),
    (message(forged(kid="k", thumbprints=["no thumbprint"])), 200),
]


@pytest.mark.parametrize(("body", "status"), FORGED)
async def test_what_is_malformed_lifts_nothing_and_adds_nothing(
    tenant: LocalTenant, verifier: TokenVerifier, body: bytes, status: int
) -> None:
    await verifier.distrust("leaked", reason="leaked")
    kids, register = verifier.keys.kids, verifier.keys.register
    for name, value in (("ISSUER", tenant.issuer), ("KID", "leaked")):
        body = body.replace(name.encode(), value.encode())
    body = body.replace(b"REPLICA", register.instance.encode())
    async with served(operated(verifier)) as client:
        assert (await client.post("/fleet/exchange", content=body)).status_code == status
    assert set(verifier.distrusted) == {"leaked"}
    assert verifier.keys.kids == kids
    assert set(register.state.flags) == {(tenant.issuer, "leaked")}


async def test_lift_undoes_only_decisions_that_its_maker_knew(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    await verifier.distrust("leaked", reason="leaked")
    await verifier.distrust("leaked", reason="leaked indeed")
    own = verifier.keys.register.instance
    async with served(operated(verifier)) as client:
        for number, refused in ((1, ["leaked"]), (2, [])):
            body = lifting(tenant.issuer, "leaked", number, own)
            answer = await client.post("/fleet/exchange", content=body)
            assert list(answer.json()["states"][0]["refused"]) == refused


async def test_decisions_do_not_pile_up_without_end(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    made = {REPLICA: {"number": 1}}
    statuses = []
    async with served(operated(verifier)) as client:
        for start, end in ((0, 6000), (6000, 12_000), (0, MAX_DECISIONS + 1), (6000, 6001)):
            kids = (f"{number:05}" for number in range(start, end))
            parts = ([tenant.issuer, kid, {"made": made}] for kid in kids)
            answer = await client.post("/fleet/exchange", content=message(*parts))
            statuses.append(answer.status_code)
    assert statuses == [200, 413, 413, 200]
    assert len(verifier.keys.register.state.flags) == 6001


async def test_a_huge_body_is_refused_before_it_is_read(verifier: TokenVerifier) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536

    app = operated(verifier)
    scope_messages: list[Message] = []

    async def send(message: Message) -> None:
        scope_messages.append(message)

    body = endless()

    async def receive() -> Message:
        return {"type": "http.request", "body": await anext(body), "more_body": True}

    for headers, status in (
        ([(b"authorization", f"Bearer {SECRET}".encode())], 413),
        ([(b"authorization", b"Bearer wrong-horse-battery")], 401),
    ):
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/fleet/exchange"}
        scope |= {"headers": headers, "query_string": b"", "root_path": ""}
        before = sent
        await app(scope, receive, send)
        assert scope_messages[0]["status"] == status
        assert sent - before <= (MAX_MESSAGE_BYTES + 131_072 if status == 413 else 0)
        scope_messages.clear()


async def test_a_body_that_does_not_end_is_waited_for_no_longer_than_said() -> None:
    async def receive() -> Message:
        return await asyncio.Future()

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(BodyRefusedError) as refusal:
        await read_body(request, 100, seconds=0.01)
    assert refusal.value.status == 408

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "method": "POST", "headers": []}, gone)
    with pytest.raises(BodyRefusedError) as refusal:
        await read_body(request, 100)
    assert refusal.value.status == 400


async def test_refresh_fetches_once_for_many_who_ask(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    fetched = tenant.requests.count(JWKS)
    tenant.rotate()
    async with served(operated(verifier)) as client:
        answers = await asyncio.gather(*(client.post("/fleet/refresh") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        kids = (await client.post("/fleet/refresh")).json()["states"][0]["kids"]
        assert tenant.key("next").kid in kids
        assert tenant.requests.count(JWKS) == fetched + 1
        clock.advance(5.0)
        await client.post("/fleet/refresh")
        assert tenant.requests.count(JWKS) == fetched + 2
        tenant.faults.status(500, path="*")
        clock.advance(5.0)
        assert (await client.post("/fleet/refresh")).status_code == 200


# --- where they are ---


def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def test_they_work_behind_the_middleware_and_beside_it(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    routes = [Mount("/ops", operated(verifier)), Route("/", hello)]
    inside = Starlette(routes=routes)
    inside.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/ops/*"])
    guarded = Starlette(routes=[Route("/", hello)])
    guarded.add_middleware(JWKSGuardMiddleware, verifier=verifier)
    beside = Starlette(routes=[Mount("/ops", operated(verifier)), Mount("/", guarded)])
    not_excluded = Starlette(routes=routes)
    not_excluded.add_middleware(JWKSGuardMiddleware, verifier=verifier)
    for app in (inside, beside):
        async with served(app) as client:
            assert (await client.get("/ops/readyz")).status_code == 200
            assert (await client.get("/ops/state")).status_code == 200
            assert (await client.get("/")).status_code == 401
        async with served(app, tenant.token()) as client:
            assert (await client.get("/ops/state")).status_code == 401
            assert (await client.get("/")).text == "hello"
    async with served(not_excluded) as client:
        assert (await client.get("/ops/state")).status_code == 401


def test_over_real_http_a_sync_verifier_is_operated_too(
    tenant: LocalTenant, clock: HandClock
) -> None:
    with (
        SyncTokenVerifier(
            tenant.issuer,
            tenant.audience,
            algorithms=["ES256"],
            clock=clock,
            http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
        ) as verifier,
        on_a_socket(Starlette(routes=[Mount("/ops", operated(verifier))])) as client,
    ):
        assert client.get("/ops/livez").status_code == 200
        assert client.get("/ops/readyz").text == "ok\n"
        assert client.head("/ops/state").content == b""
        old, token = tenant.key().kid, tenant.token()
        tenant.rotate()
        assert client.post("/ops/fleet/refresh").status_code == 200
        verifier.verify(token)
        answer = client.post("/ops/fleet/exchange", content=distrusting(tenant.issuer, old))
        assert old in answer.json()["states"][0]["refused"]
        with pytest.raises(InvalidTokenError):
            verifier.verify(token)
        body = b" " * (MAX_MESSAGE_BYTES + 1)
        assert client.post("/ops/fleet/exchange", content=body).status_code == 413
        assert client.get("/ops/fleet/exchange").status_code == 405
        client.headers.clear()
        assert client.get("/ops/state").status_code == 401
