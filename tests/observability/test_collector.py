"""An application's own registry shows what its verifiers have done, and the state of their keys."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from jwks_guard import (
    ConfigurationError,
    InvalidClaimError,
    InvalidTokenError,
    JWKSGuardError,
    KeyStore,
    KeysUnavailableError,
    LookUpThrottledError,
    MultiIssuerVerifier,
    Register,
    SyncTokenVerifier,
    TokenVerifier,
    errors,
)
from jwks_guard.fleet import HTTPFleet
from jwks_guard.observability import VerifierCollector
from jwks_guard.observability.reading import MOST_KIDS, REFUSALS
from jwks_guard.readiness.usage import TIMED_EVERY
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import listen
from tests.observability.samples import registry_of
from tests.support import JWKS, HandClock, tenant_of, verifier_of

VERIFICATIONS = "jwks_guard_verifications_total"
FETCHES = "jwks_guard_fetches_total"
VERIFICATION_TIMES = "jwks_guard_verification_duration_seconds"
ACCEPTED, REJECTED = "jwks_guard_tokens_accepted_total", "jwks_guard_tokens_rejected_total"
OTHERS = "jwks_guard_tokens_rejected_others_total"
TRUSTED = "jwks_guard_key_trusted"


async def refuse(verifier: TokenVerifier | MultiIssuerVerifier, token: str) -> None:
    with pytest.raises(JWKSGuardError):
        await verifier.verify(token)


# --- what is counted ---


async def test_verifications_are_counted_by_how_they_ended(
    tenant: LocalTenant, clock: HandClock
) -> None:
    class TooYoungError(InvalidClaimError):
        code = "too_young"

    def grown_up(claims: Mapping[str, Any]) -> None:
        if claims.get("age") == 7:
            raise TooYoungError("too young", "age")

    async with verifier_of(tenant, clock, claim_checks=[grown_up]) as verifier:
        registry = registry_of(verifier)
        assert set(registry.values(VERIFICATIONS).values()) == {0.0}
        token = tenant.token()
        for _ in range(3):  # two of them from the cache
            await verifier.verify(token)
        await refuse(verifier, "a.b.c")
        await refuse(verifier, tenant.token(kid="forged"))
        await refuse(verifier, tenant.forged_token())
        await refuse(verifier, tenant.token(claims={"exp": 1}))
        await refuse(verifier, tenant.token(claims={"age": 7}))
        counts = registry.values(VERIFICATIONS, issuer=tenant.issuer)
        assert {outcome: n for (outcome,), n in counts.items() if n} == {
            "accepted": 3,
            "malformed_token": 1,
            "unknown_key": 1,
            "invalid_signature": 1,
            "token_expired": 1,
            "other": 1,
        }
        kid = tenant.key().kid
        assert registry.value(ACCEPTED, kid=kid) == 3
        assert registry.value(REJECTED, kid=kid) == 3
        assert registry.value(OTHERS) == 2


async def test_one_of_sixteen_verifications_that_the_cache_did_not_answer_is_timed(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        registry = registry_of(verifier)
        for number in range(2 * TIMED_EVERY + 1):
            token = tenant.token(sub=f"auth0|{number}")
            await verifier.verify(token)
            await verifier.verify(token)
        assert registry.value(f"{VERIFICATION_TIMES}_count") == 3
        assert registry.value(f"{VERIFICATION_TIMES}_bucket", le="+Inf") == 3
        sum_ = registry.value(f"{VERIFICATION_TIMES}_sum")
        assert sum_ is not None
        assert sum_ > 0


def test_outcomes_are_the_codes_of_the_errors_of_verify() -> None:
    raised = (errors.InvalidTokenError, errors.KeysUnavailableError, errors.ConfigurationError)
    known = [each for each in vars(errors).values() if isinstance(each, type)]
    codes = {each.code for each in known if issubclass(each, raised)}
    assert set(REFUSALS) == codes - {errors.EnvironmentVariableError.code}


async def test_fetches_are_counted_by_what_became_of_them(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        registry = registry_of(verifier)
        assert registry.value(FETCHES, outcome="confirmed") == 1
        assert registry.value(FETCHES, outcome="failed") == 0
        tenant.faults.status(500, path=JWKS)
        with suppress(KeysUnavailableError):
            await verifier.keys.refresh()
        assert registry.value(FETCHES, outcome="failed") == 1
        assert registry.value("jwks_guard_status", status="degraded") == 1
        confirmed = registry.value("jwks_guard_confirmed_timestamp_seconds")
        assert confirmed == verifier.health().confirmed_at
        until = registry.value("jwks_guard_trusted_until_timestamp_seconds")
        assert until == verifier.health().trusted_until


async def test_exchanges_of_a_fleet_of_two_issuers_are_counted_once(
    tenant: LocalTenant, clock: HandClock
) -> None:
    fleet = HTTPFleet([closed_port()], secret="s" * 16)
    with tenant_of(clock, issuer="https://staff.test/") as other:
        verifiers = [verifier_of(each, clock, fleet=fleet) for each in (tenant, other)]
        async with MultiIssuerVerifier(verifiers) as multi:
            registry = registry_of(multi)
            failed = registry.value("jwks_guard_fleet_exchanges_total", outcome="failed")
            assert failed == fleet.exchange_counts["failed"] > 0
            complete = registry.values("jwks_guard_fleet_complete")
            assert complete == {(tenant.issuer,): 0, (other.issuer,): 0}


def closed_port() -> str:
    """Where nothing listens."""
    with listen("127.0.0.1", 0) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/ops"


# --- which verifiers ---


def test_sync_verifier_is_shown_as_well() -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        verifier = SyncTokenVerifier(tenant.issuer, tenant.audience)
        registry = registry_of(verifier)
        with verifier:
            verifier.verify(tenant.token())
            assert registry.value(VERIFICATIONS, outcome="accepted") == 1


async def test_verifiers_of_one_issuer_are_shown_together(
    tenant: LocalTenant, clock: HandClock
) -> None:
    keys = KeyStore(
        tenant.issuer,
        clock=clock,
        http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
    )
    async with keys, verifier_of(tenant, clock) as apart:
        sharing = [TokenVerifier(tenant.issuer, tenant.audience, keys=keys) for _ in range(2)]
        registry = registry_of(apart, *sharing)
        for verifier in (apart, *sharing):
            await verifier.verify(tenant.token())
        assert registry.value(VERIFICATIONS, outcome="accepted") == 3
        assert registry.value(FETCHES, outcome="confirmed") == 2
        await apart.aclose()
        assert registry.value("jwks_guard_status", status="unavailable") == 1
        assert set(registry.values(TRUSTED).values()) == {0.0}
        assert registry.value("jwks_guard_trusted_until_timestamp_seconds") is None


async def test_second_collector_in_a_registry_is_refused(
    tenant: LocalTenant, clock: HandClock
) -> None:
    registry = registry_of(verifier_of(tenant, clock))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(VerifierCollector(verifier_of(tenant, clock)))


@pytest.mark.parametrize("given", [(), ("https://acme.eu.auth0.com/",), (None,)])
def test_collector_of_anything_else_is_a_configuration_error(given: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError, match="takes one or more of TokenVerifier"):
        VerifierCollector(*given)


async def test_instances_in_one_process_are_told_apart_by_the_process_label(
    tenant: LocalTenant, clock: HandClock
) -> None:
    one, other = (verifier_of(tenant, clock, register=Register()) for _ in range(2))
    async with one, other:
        await one.verify(tenant.token())
        families = registry_of(one, other).families()
        counts = {
            sample.labels["process"]: sample.value
            for sample in families["jwks_guard_verifications"].samples
            if sample.labels["outcome"] == "accepted"
        }
        assert counts == {
            one.keys.register.instance[:8]: 1,
            other.keys.register.instance[:8]: 0,
        }


async def test_forked_child_counts_from_0_under_a_name_of_its_own(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        registry = registry_of(verifier)
        await verifier.verify(tenant.token())
        await refuse(verifier, "junk")
        parent = verifier.keys.register.instance
        verifier.keys.register.after_fork()
        (process,) = {
            sample.labels["process"]
            for metric in registry.collect()
            for sample in metric.samples
            if "process" in sample.labels
        }
        assert process != parent[:8]
        for counter in (VERIFICATIONS, FETCHES, ACCEPTED, REJECTED, OTHERS):
            assert set(registry.values(counter).values()) == {0.0}


# --- series that end ---


async def test_series_of_a_removed_key_end_and_its_tokens_stay_in_the_sum(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        registry = registry_of(verifier)
        await verifier.verify(tenant.token())
        old = tenant.key().kid
        assert registry.value(ACCEPTED, kid=old) == 1
        tenant.rotate()
        tenant.revoke(old)
        await verifier.keys.refresh()
        kids = {
            sample.labels["kid"]
            for metric in registry.collect()
            for sample in metric.samples
            if "kid" in sample.labels
        }
        assert old not in kids
        assert tenant.key().kid in kids
        assert registry.value(VERIFICATIONS, outcome="accepted") == 1


async def test_series_of_keys_go_on_when_trust_has_run_out(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        registry = registry_of(verifier)
        await verifier.verify(tenant.token())
        tenant.faults.status(500, path="*")
        clock.advance(7200)
        assert registry.value("jwks_guard_status", status="unavailable") == 1
        assert registry.value(ACCEPTED, kid=tenant.key().kid) == 1
        assert set(registry.values(TRUSTED).values()) == {0.0}


async def test_issuer_that_resolve_added_has_no_kids_and_is_gone_once_it_is_forgotten(
    tenant: LocalTenant, clock: HandClock
) -> None:
    with tenant_of(clock, issuer="https://customer.test/") as customer:

        async def resolve(issuer: str) -> TokenVerifier | None:
            return verifier_of(customer, clock)

        listed = [verifier_of(tenant, clock)]
        async with MultiIssuerVerifier(listed, resolve=resolve, clock=clock) as multi:
            registry = registry_of(multi)
            await multi.verify(tenant.token())
            await multi.verify(customer.token())
            accepted = registry.values(VERIFICATIONS, outcome="accepted")
            assert accepted == {(tenant.issuer,): 1, (customer.issuer,): 1}
            assert {issuer for issuer, _ in registry.values(ACCEPTED)} == {tenant.issuer}
            await multi.forget(customer.issuer)
            accepted = registry.values(VERIFICATIONS, outcome="accepted")
            assert accepted == {(tenant.issuer,): 1}


# --- hostile text ---


@pytest.mark.parametrize("kid", ['a"} 1\njwks_guard_status 9\n', "\\", "k\u2028\r\x00\u202e"])
async def test_kid_of_a_published_key_can_not_write_other_series(
    clock: HandClock, kid: str
) -> None:
    with tenant_of(clock) as tenant:
        async with published_as(tenant, clock, [kid]) as verifier:
            text = generate_latest(registry_of(verifier)).decode()
            found = [
                sample.labels["kid"]
                for metric in text_string_to_metric_families(text)
                for sample in metric.samples
                if sample.name == TRUSTED
            ]
            assert found == [kid]


async def test_lone_surrogate_in_a_kid_does_not_end_the_scrape(clock: HandClock) -> None:
    with tenant_of(clock) as tenant:
        async with published_as(tenant, clock, ["\ud800", "good"]) as verifier:
            assert generate_latest(registry_of(verifier))


async def test_issuer_with_very_many_keys_has_series_for_some_of_them(clock: HandClock) -> None:
    kids = [f"key-{number}" for number in range(MOST_KIDS + 50)]
    with tenant_of(clock) as tenant:
        async with published_as(tenant, clock, kids) as verifier:
            assert len(verifier.health().kids) == len(kids)
            assert len(registry_of(verifier).values(TRUSTED)) == MOST_KIDS


async def test_flood_of_forged_tokens_makes_no_series(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        registry = registry_of(verifier)

        def size() -> int:
            return sum(len(metric.samples) for metric in registry.collect())

        before = size()
        for number in range(50):
            with pytest.raises((InvalidTokenError, LookUpThrottledError)):
                await verifier.verify(tenant.token(kid=f"forged-{number}"))
        assert size() == before


def published_as(tenant: LocalTenant, clock: HandClock, kids: list[str]) -> TokenVerifier:
    """A verifier to which the tenant's key is published under all of these kids."""

    def answer(request: httpx.Request) -> httpx.Response:
        jwk = tenant.jwks()["keys"][0]
        return httpx.Response(200, json={"keys": [{**jwk, "kid": kid} for kid in kids]})

    return verifier_of(
        tenant,
        clock,
        jwks_uri="https://keys.test/jwks",
        http_client=lambda: httpx.AsyncClient(transport=httpx.MockTransport(answer)),
    )


# --- from other threads ---


async def test_registry_may_be_read_in_another_thread(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        await verifier.verify(tenant.token())
        registry = registry_of(verifier)
        count = await asyncio.to_thread(registry.value, VERIFICATIONS, outcome="accepted")
        assert count == 1
