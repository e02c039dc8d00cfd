"""What `health()` reports, and that both bounds in it are those that hold."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import httpx
import pytest

from jwks_guard import HealthReport, KeyStore, KeysUnavailableError
from jwks_guard.distrust.state import Distrusted
from jwks_guard.jose.jwk import SkippedKey
from jwks_guard.keys.health import Bounds
from jwks_guard.testing import LocalTenant
from tests.support import HandClock


def store_of(tenant: LocalTenant, clock: HandClock, **options: float) -> KeyStore:
    client = httpx.AsyncClient(transport=tenant.transport)
    return KeyStore(
        tenant.issuer,
        http_client=client,
        clock=clock,
        background=False,
        refresh_interval=options.get("refresh_interval", 60.0),
        max_stale=options.get("max_stale", 3600.0),
    )


def test_store_that_never_fetched_is_unavailable_and_says_why(
    tenant: LocalTenant, clock: HandClock
) -> None:
    assert store_of(tenant, clock).health() == HealthReport(
        status="unavailable",
        issuer=tenant.issuer,
        confirmed_at=None,
        trusted_until=None,
        trust_bound=3600.0,
        detection_bound=90.0,
        bounds=Bounds(60.0, 30.0, 3600.0, 86_400.0),
        upstream_age=None,
        warning=None,
        last_error="no key set was fetched yet",
        kids=(),
        skipped=(),
        distrusted={},
        rsa_engine="cryptography",
        rsa_fallbacks={},
    )


async def test_fetched_store_is_ok_and_reports_both_bounds(
    tenant: LocalTenant, clock: HandClock
) -> None:
    tenant.publish({"kid": "odd", "kty": "oct"})
    tenant.faults.age(12)
    store = store_of(tenant, clock)
    await store.refresh()
    health = store.health()
    assert (health.status, health.last_error) == ("ok", None)
    assert health.kids == tuple(key.kid for key in tenant.signing_keys)
    assert health.upstream_age == 12.0
    assert health.confirmed_at == clock.wall, "max-age is 15"
    assert health.trusted_until == clock.wall + 3600
    assert health.trust_bound == 3600 + 15
    assert health.detection_bound == 60 + 30 + 30, "interval, timeout, what a CDN may serve"
    assert health.bounds == Bounds(60.0, 30.0, 3600.0, 86_400.0, 15.0, 15.0, 12.0)
    assert health.warning is None
    assert health.skipped == (SkippedKey("odd", "`kty` is not RSA, EC or OKP"),)


async def test_detection_never_takes_longer_than_trust_lasts(
    tenant: LocalTenant, clock: HandClock
) -> None:
    store = store_of(tenant, clock, refresh_interval=50, max_stale=70)
    await store.refresh()
    assert store.health().detection_bound == 70 + 15 == store.health().trust_bound


async def test_failing_store_is_degraded_until_trust_runs_out(
    tenant: LocalTenant, clock: HandClock
) -> None:
    store = store_of(tenant, clock)
    await store.refresh()
    tenant.faults.status(503)
    clock.advance(60)
    await store.tick()
    degraded = store.health()
    assert (degraded.status, degraded.last_error) == ("degraded", "the server answered 503")
    assert len(degraded.kids) == 2
    clock.advance(3540)
    expired = store.health()
    assert (expired.status, expired.kids) == ("unavailable", ())
    assert expired.trusted_until == clock.wall
    tenant.faults.clear()
    await store.refresh()
    assert store.health().status == "ok"


async def test_failed_lookup_of_an_unknown_kid_degrades_until_the_next_success(
    tenant: LocalTenant, clock: HandClock
) -> None:
    store = store_of(tenant, clock)
    await store.refresh()
    tenant.faults.reset(times=1)
    with pytest.raises(KeysUnavailableError, match="looking it up at the issuer failed"):
        await store.resolve("bogus")
    assert store.health().status == "degraded"
    clock.advance(60)
    await store.tick()
    assert store.health().status == "ok"


async def test_distrusted_kids_are_reported_with_their_reason(
    tenant: LocalTenant, clock: HandClock
) -> None:
    store = store_of(tenant, clock)
    await store.refresh()
    kid, thumbprint = next((key.kid, key.thumbprint) for key in store.trust.published.keys)
    await store.decisions.distrust(kid, reason="leaked")
    health = store.health()
    assert kid not in health.kids
    by, covered = store.register.by, frozenset({thumbprint})
    key = Distrusted(tenant.issuer, kid, "leaked", clock.wall, by, covered)
    assert dict(health.distrusted) == {kid: key}


async def test_report_is_a_value_that_json_can_carry(tenant: LocalTenant, clock: HandClock) -> None:
    tenant.publish({"kid": "odd", "kty": "oct"})
    store = store_of(tenant, clock)
    await store.refresh()
    await store.decisions.distrust(tenant.key().kid, reason="leaked")
    health = store.health()
    data = json.loads(json.dumps(health.to_dict()))
    assert data.keys() == set(HealthReport.__slots__)
    assert data["skipped"] == [{"kid": "odd", "reason": "`kty` is not RSA, EC or OKP"}]
    distrusted = data["distrusted"][tenant.key().kid]
    assert distrusted.keys() == {"issuer", "kid", "reason", "at", "by", "thumbprints"}
    assert distrusted["reason"] == "leaked"
    assert data["kids"] == [tenant.key("next").kid]
    with pytest.raises(FrozenInstanceError):
        health.status = "ok"  # type: ignore[misc]  # it is frozen
