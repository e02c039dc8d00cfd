"""The one line of the log that says what a store was started with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from jwks_guard.keys.introduction import MOST_KIDS
from jwks_guard.testing import LocalTenant
from tests.support import DISCOVERY, HandClock, verifier_of


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="jwks_guard")


def started(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if getattr(record, "kind", "") == "started"]


async def test_start_logs_the_keys_and_both_bounds_once(
    tenant: LocalTenant, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    kids = tuple(key.kid for key in tenant.signing_keys)
    async with verifier_of(tenant, clock) as verifier:
        (line,) = started(caplog)
        for _ in range(3):
            clock.advance(60)
            await verifier.keys.tick()
        await verifier.keys.refresh()
        await verifier.verify(tenant.token())
        assert len(started(caplog)) == 1
        health = verifier.health()
    shown = ", ".join(map(repr, health.kids))
    assert line.getMessage() == (
        f"started issuer={tenant.issuer} {len(kids)} keys: {shown}; trust bound "
        f"{health.trust_bound:g} s, detection bound {health.detection_bound:g} s"
    )
    assert set(line.kids) == set(kids)
    assert (line.keys, line.trust_bound) == (len(kids), health.trust_bound)
    assert line.detection_bound == health.detection_bound
    assert not hasattr(line, "fleet")


async def test_each_start_is_logged(
    tenant: LocalTenant, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    verifier = verifier_of(tenant, clock)
    for _ in range(2):
        await verifier.start()
        await verifier.start()
        await verifier.aclose()
    assert len(started(caplog)) == 2


async def test_verifier_that_the_first_request_starts_logs_it_too(
    tenant: LocalTenant, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    assert started(caplog) == []
    for _ in range(3):
        await verifier.verify(tenant.token())
        clock.advance(100)
    (line,) = started(caplog)
    assert line.keys == len(tenant.signing_keys)
    assert line.getMessage().endswith("; requests refresh the keys")
    await verifier.aclose()


async def test_start_without_keys_says_why(
    tenant: LocalTenant, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    tenant.faults.status(503, path=DISCOVERY)
    tenant.faults.status(503)
    async with verifier_of(tenant, clock):
        (line,) = started(caplog)
    assert (line.keys, line.kids) == (0, [])
    assert "no keys yet: discovery: the server answered 503" in line.detail


async def test_recovery_of_a_verifier_that_started_without_keys_is_logged(
    tenant: LocalTenant, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="jwks_guard")
    tenant.faults.status(503)
    async with verifier_of(tenant, clock) as verifier:
        tenant.faults.clear()
        await verifier.keys.refresh()
    kinds = [vars(record)["kind"] for record in caplog.records]
    assert kinds == ["refresh_failed", "refresh_recovered"]


async def test_journal_and_what_can_not_be_used_are_shown(
    tenant: LocalTenant, clock: HandClock, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    tenant.publish({"kid": "odd", "kty": "oct"})
    async with verifier_of(tenant, clock, snapshot_path=tmp_path / "keys") as verifier:
        await verifier.distrust(tenant.signing_keys[0].kid, reason="leaked", force=True)
    (line,) = started(caplog)
    assert line.journal == str(tmp_path / "keys.tombstones")
    assert line.getMessage().endswith(f"; journal {line.journal}")
    assert ", 1 more can't be used;" in line.getMessage()


async def test_refusals_are_summed_up_by_the_background_tick(
    tenant: LocalTenant, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        for _ in range(3):
            with pytest.raises(Exception, match="expired"):
                await verifier.verify(tenant.token(claims={"exp": 1}))
        clock.advance(60)
        await verifier.keys.tick()
        assert caplog.messages[-1] == (
            f"refusal_summary issuer={tenant.issuer} refused 3 tokens in the last 60 s: "
            "token_expired 3"
        )


async def test_start_that_the_issuer_keeps_waiting_is_logged_all_the_same(
    tenant: LocalTenant, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    tenant.faults.hold()
    async with verifier_of(tenant, clock, max_wait=0.05):
        (line,) = started(caplog)
    assert line.detail.startswith("no keys yet: no key set was fetched yet;")


async def test_of_many_kids_some_are_shown_and_all_counted(
    tenant: LocalTenant, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    (*_, key) = tenant.signing_keys
    for number in range(MOST_KIDS):
        tenant.publish({**key.jwk, "kid": f"extra-{number}"})
    async with verifier_of(tenant, clock) as verifier:
        count = len(verifier.health().kids)
    (line,) = started(caplog)
    assert (line.keys, len(line.kids)) == (count, MOST_KIDS)
    assert f" and {count - MOST_KIDS} more; trust bound " in line.detail
