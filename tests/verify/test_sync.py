from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from jwks_guard import (
    ConfigurationError,
    InvalidSignatureError,
    KeyStore,
    KeysUnavailableError,
    MalformedTokenError,
    RemovedKeyError,
    RevocationRefusedError,
    RevokedKeyError,
    SyncTokenVerifier,
    UnknownKeyError,
)
from jwks_guard.base.portal import process_portal
from jwks_guard.fleet import HTTPFleet
from jwks_guard.testing import LocalTenant
from tests.support import DISCOVERY, JWKS, HandClock, tenant_of
from tests.support import verifier_of as app_verifier_of


def verifier_of(tenant: LocalTenant, clock: HandClock, **options: Any) -> SyncTokenVerifier:
    options.setdefault("algorithms", ["ES256"])
    options.setdefault("http_client", lambda: httpx.AsyncClient(transport=tenant.transport))
    return SyncTokenVerifier(tenant.issuer, tenant.audience, clock=clock, **options)


@pytest.fixture
def verifier(tenant: LocalTenant, clock: HandClock) -> Iterator[SyncTokenVerifier]:
    with verifier_of(tenant, clock) as verifier:
        yield verifier


def test_a_token_is_verified_to_what_it_says(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    token = verifier.verify(tenant.token(sub="auth0|alice", scope="read:things"))
    assert token.subject == "auth0|alice"
    assert token.scopes == {"read:things"}
    assert token.kid == tenant.key().kid
    assert verifier.verify(tenant.token().encode()).issuer == verifier.issuer == tenant.issuer


def test_a_token_without_kid_is_verified_by_the_only_key(
    tenant: LocalTenant, clock: HandClock
) -> None:
    tenant.remove(tenant.key("next").kid)
    with verifier_of(tenant, clock, background=False) as verifier:
        token = verifier.verify(tenant.token(header={"kid": None}))
        assert token.kid == next(iter(verifier.keys.trust.view.live)).thumbprint
        verifier.distrust(token.kid, reason="leaked", force=True)
        with pytest.raises(RevokedKeyError):
            verifier.verify(tenant.token(header={"kid": None}))


def test_a_second_look_at_a_token_is_answered_from_the_cache(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    token = tenant.token()
    assert verifier.verify(token) is verifier.verify(token)


def test_refusals_are_those_of_the_async_verifier(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    with pytest.raises(MalformedTokenError):
        verifier.verify("a.b.c")
    with pytest.raises(InvalidSignatureError) as refusal:
        verifier.verify(tenant.forged_token())
    assert refusal.value.kid == tenant.key().kid
    with pytest.raises(UnknownKeyError):
        verifier.verify(tenant.token(kid="bogus"))


def test_an_unstarted_verifier_fetches_for_its_first_token(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock)
    assert verifier.verify(tenant.token()).kid == tenant.key().kid
    assert (tenant.requests.count(DISCOVERY), tenant.requests.count(JWKS)) == (1, 1)
    verifier.close()


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("junk", [None, "x" * 20_000, "\u00e9.a.b", b"\xff.a.b"])
def test_what_can_be_no_token_causes_no_fetch(
    tenant: LocalTenant, clock: HandClock, junk: Any, background: bool
) -> None:
    verifier = verifier_of(tenant, clock, background=background)
    with pytest.raises(MalformedTokenError):
        verifier.verify(junk)
    assert tenant.requests.count(DISCOVERY) + tenant.requests.count(JWKS) == 0


@pytest.mark.parametrize("token_cache_size", [0, 10])
@pytest.mark.parametrize("spelling", [str, str.encode])
def test_characters_outside_ascii_are_refused_after_the_header_too(
    tenant: LocalTenant, clock: HandClock, token_cache_size: int, spelling: Any
) -> None:
    with verifier_of(tenant, clock, token_cache_size=token_cache_size) as verifier:
        token = tenant.token()
        verifier.verify(token)
        with pytest.raises(MalformedTokenError, match="outside ASCII"):
            verifier.verify(spelling(f"{token}\u00e9"))


def test_an_unstarted_verifier_refreshes_in_the_background(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock)
    hold = tenant.faults.hold()
    refreshed = threading.Event()
    unsubscribe = verifier.keys.trust.subscribe(refreshed.set)
    process_portal.get().call(verifier.keys.ensure_bound)
    hold.arrived.wait_blocking()
    hold.release()
    assert refreshed.wait(10)
    assert verifier.health().status == "ok"
    unsubscribe()
    verifier.close()


def test_a_new_key_is_accepted_by_its_first_token(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    tenant.rotate()
    tenant.rotate()
    assert verifier.verify(tenant.token()).kid == tenant.key().kid
    assert tenant.requests.count() == 2


def test_distrust_holds_at_once_and_until_it_is_lifted(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    old, token = tenant.key().kid, tenant.token()
    verifier.verify(token)
    verifier.distrust(old, reason="leaked")
    with pytest.raises(RevokedKeyError):
        verifier.verify(token)
    assert verifier.distrusted[old].reason == "leaked"
    assert old in verifier.health().distrusted
    verifier.reinstate(old, reason="a mistake")
    assert verifier.verify(token).kid == old
    assert old not in verifier.distrusted


def test_the_only_key_is_given_up_only_by_force(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    verifier.distrust(tenant.key("next").kid, reason="leaked")
    with pytest.raises(RevocationRefusedError):
        verifier.distrust(tenant.key().kid, reason="leaked")
    verifier.distrust(tenant.key().kid, reason="leaked", force=True)
    with pytest.raises(RevokedKeyError):
        verifier.verify(tenant.token())


def test_an_outage_is_told_with_the_time_to_wait(tenant: LocalTenant, clock: HandClock) -> None:
    tenant.faults.status(500, path="*")
    with verifier_of(tenant, clock) as verifier:
        with pytest.raises(KeysUnavailableError) as refusal:
            verifier.verify(tenant.token())
        assert refusal.value.retry_after >= 1
        assert verifier.health().status == "unavailable"


def test_keys_required_at_the_start_stop_it_when_there_are_none(
    tenant: LocalTenant, clock: HandClock
) -> None:
    tenant.faults.status(500, path="*")
    with pytest.raises(KeysUnavailableError):
        verifier_of(tenant, clock).start(require_keys=True)


def test_a_closed_verifier_trusts_no_key_until_it_is_started(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier, token = verifier_of(tenant, clock), tenant.token()
    with verifier:
        verifier.verify(token)
    with pytest.raises(KeysUnavailableError):
        verifier.verify(token)
    verifier.start()
    assert verifier.verify(token)
    verifier.close()


def test_a_verifier_whose_portal_was_stopped_goes_on_with_the_next_one(
    tenant: LocalTenant, clock: HandClock
) -> None:
    with verifier_of(tenant, clock) as verifier:
        token = tenant.token()
        verifier.verify(token)
        process_portal.stop()
        assert verifier.verify(token)
        tenant.rotate()
        tenant.rotate()
        assert verifier.verify(tenant.token()).kid == tenant.key().kid


def test_a_lazy_verifier_serves_then_refreshes_then_waits(
    tenant: LocalTenant, clock: HandClock
) -> None:
    with verifier_of(tenant, clock, background=False) as verifier:
        old, token = tenant.key().kid, tenant.token()
        tenant.rotate()
        tenant.revoke(old)
        assert verifier.verify(token).kid == old
        clock.advance(120)
        with pytest.raises(RemovedKeyError):
            verifier.verify(token)


class LaterForThreads(HandClock):
    """Shows the portal one time, and every other thread one `ahead` seconds later."""

    ahead = 0.0

    def time(self) -> float:
        at_home = threading.current_thread().name == "jwks-guard"
        return self.wall if at_home else self.wall + self.ahead


def test_trust_that_runs_out_between_fetch_and_verification_is_not_used(
    tenant: LocalTenant, clock: HandClock
) -> None:
    clock = LaterForThreads(wall=clock.wall)
    verifier = verifier_of(tenant, clock)
    clock.ahead = 3600.0
    with pytest.raises(KeysUnavailableError):
        verifier.verify(tenant.token(lifetime=86_400))
    assert tenant.requests.count(JWKS) == 1
    verifier.close()


def test_verifiers_of_several_audiences_share_one_store(
    tenant: LocalTenant, clock: HandClock
) -> None:
    store = KeyStore(
        tenant.issuer,
        http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
        clock=clock,
    )
    first, second = (
        SyncTokenVerifier(tenant.issuer, audience, algorithms=["ES256"], keys=store)
        for audience in (tenant.audience, "https://other.test")
    )
    assert first.verify(tenant.token())
    assert second.verify(tenant.token(audience="https://other.test"))
    assert tenant.requests.count() == 1
    assert first.keys is second.keys is store
    process_portal.get().call(store.aclose)


def test_an_auth0_domain_becomes_the_issuer_and_the_address_of_its_keys() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(503)

    verifier = SyncTokenVerifier.for_auth0(
        "acme.eu.auth0.com",
        audience="https://api.acme.com",
        http_client=lambda: httpx.AsyncClient(transport=httpx.MockTransport(answer)),
    )
    with verifier:
        assert verifier.issuer == "https://acme.eu.auth0.com/"
        assert asked == ["https://acme.eu.auth0.com/.well-known/jwks.json"]
    with pytest.raises(ConfigurationError, match="domain"):
        SyncTokenVerifier.for_auth0("https://acme.eu.auth0.com/login", audience="a")


def test_an_auth0_verifier_takes_a_store_as_it_is() -> None:
    store = KeyStore("https://acme.eu.auth0.com/")
    verifier = SyncTokenVerifier.for_auth0("acme.eu.auth0.com", audience="a", keys=store)
    assert verifier.keys is store


async def test_store_of_an_app_serves_its_threads_too(clock: HandClock) -> None:
    with tenant_of(clock) as tenant:
        for lazy in (False, True):
            async with app_verifier_of(tenant, clock, background=not lazy) as app:
                threads = SyncTokenVerifier(
                    tenant.issuer, tenant.audience, algorithms=["ES256"], keys=app.keys
                )
                clock.advance(61)
                tenant.rotate()
                tenant.rotate()
                token = tenant.token(sub=f"lazy {lazy}")
                assert (await asyncio.to_thread(threads.verify, token)).kid == tenant.key().kid


async def test_sync_verifier_does_not_wait_for_the_loop_that_it_blocks(clock: HandClock) -> None:
    with tenant_of(clock) as tenant:
        async with app_verifier_of(tenant, clock) as app:
            sync = SyncTokenVerifier(
                tenant.issuer, tenant.audience, algorithms=["ES256"], keys=app.keys
            )
            assert sync.verify(tenant.token()).kid == tenant.key().kid
            with pytest.raises(ConfigurationError, match="would block the event loop"):
                sync.verify(tenant.forged_token(kid="unknown"))


async def test_sync_verifier_does_not_wait_for_a_fleet_on_the_loop_that_it_blocks(
    clock: HandClock,
) -> None:
    """It has no fleet itself: what it decides is shared with that of another verifier."""
    fleet = HTTPFleet(["http://127.0.0.1:1/ops"], secret="s" * 32)  # nobody listens there
    with tenant_of(clock, issuer="https://one.test/") as one, tenant_of(clock) as two:
        async with app_verifier_of(one, clock, fleet=fleet):
            sync = SyncTokenVerifier(two.issuer, two.audience)
            with pytest.raises(ConfigurationError, match="would block the event loop"):
                sync.distrust("leaked", reason="leaked", force=True)
            assert list(sync.distrusted) == ["leaked"], "in effect here all the same"
