"""The two bounds, the budgets, and answers that must change nothing (invariants 2 to 5 and 9)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from jwks_guard import (
    InvalidSignatureError,
    KeysUnavailableError,
    LookUpThrottledError,
    MalformedTokenError,
    RemovedKeyError,
    TokenVerifier,
    UnknownKeyError,
    UnusableKeyError,
)
from jwks_guard.testing import LocalTenant
from tests.support import DISCOVERY, JWKS, HandClock, tenant_of, verifier_of


def bogus(tenant: LocalTenant, count: int, prefix: str = "bogus") -> list[str]:
    return [tenant.forged_token(kid=f"{prefix}-{number}") for number in range(count)]


async def outcomes(verifier: TokenVerifier, tokens: list[str]) -> list[type[BaseException] | None]:
    results = await asyncio.gather(*map(verifier.verify, tokens), return_exceptions=True)
    return [type(result) if isinstance(result, BaseException) else None for result in results]


# --- the trust bound ---


async def test_outage_past_max_stale_answers_503_and_not_before(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock, max_stale=600) as verifier:
        token = tenant.token()
        await verifier.verify(token)
        tenant.faults.status(503)
        clock.advance(599)
        await verifier.keys.tick()
        await verifier.verify(token)
        await verifier.verify(tenant.token(sub="someone else"))
        assert verifier.health().status == "degraded"
        clock.advance(1)
        for late in (token, tenant.token(sub="a third")):
            with pytest.raises(KeysUnavailableError) as refusal:
                await verifier.verify(late)
            assert refusal.value.retry_after >= 1
        assert verifier.health().status == "unavailable"
        tenant.faults.clear()
        clock.advance(60)
        await verifier.verify(token)


async def test_confirmation_dates_from_the_start_of_the_request(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        hold = tenant.faults.hold()
        clock.advance(10)
        began = clock.time()
        refresh = asyncio.create_task(verifier.keys.refresh())
        await hold.arrived.wait()
        clock.advance(4)
        hold.release()
        await refresh
        assert verifier.health().confirmed_at == began
        assert verifier.health().trusted_until == began + 3600


async def test_age_of_the_answer_is_subtracted(tenant: LocalTenant, clock: HandClock) -> None:
    tenant.faults.age(300)
    async with verifier_of(tenant, clock) as verifier:
        health = verifier.health()
        assert health.confirmed_at == clock.time() - 300
        assert health.upstream_age == 300


async def test_day_old_answer_confirms_nothing(tenant: LocalTenant, clock: HandClock) -> None:
    tenant.faults.age(86_400)
    async with verifier_of(tenant, clock) as verifier:
        assert verifier.health().status == "unavailable"
        assert "Age" in (verifier.health().last_error or "")
        with pytest.raises(KeysUnavailableError):
            await verifier.verify(tenant.token())


async def test_aged_answer_never_shortens_or_restamps_a_confirmation(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        confirmed = verifier.health().confirmed_at
        tenant.faults.age(200)
        clock.advance(100)
        await verifier.keys.refresh()
        assert verifier.health().confirmed_at == confirmed


async def test_clock_set_back_does_not_prolong_trust(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock, max_stale=600) as verifier:
        token = tenant.token()
        await verifier.verify(token)
        tenant.faults.status(500)
        clock.advance(300)
        clock.set_back(200)
        clock.advance(300)
        with pytest.raises(KeysUnavailableError):
            await verifier.verify(token)


async def test_suspended_machine_does_not_prolong_trust(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock, max_stale=600) as verifier:
        token = tenant.token()
        await verifier.verify(token)
        tenant.faults.status(500)
        clock.suspend(600)
        with pytest.raises(KeysUnavailableError):
            await verifier.verify(token)


async def test_not_modified_confirms(clock: HandClock) -> None:
    with tenant_of(clock, conditional_requests=True) as tenant:
        async with verifier_of(tenant, clock) as verifier:
            token = tenant.token()
            key = await verifier.verify(token)
            clock.advance(60)
            await verifier.keys.tick()
            assert verifier.health().confirmed_at == clock.time()
            assert await verifier.verify(token) is key


# --- the detection bound ---


async def test_withdrawn_key_is_refused_within_the_detection_bound(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        token = tenant.token()
        kid = (await verifier.verify(token)).kid
        tenant.rotate()
        tenant.revoke(kid)
        bound = verifier.health().detection_bound
        assert bound == 60 + 30 + 15 + 15
        clock.advance(60)
        await verifier.keys.tick()
        with pytest.raises(RemovedKeyError):
            await verifier.verify(token)


async def test_next_refresh_is_due_within_the_interval_and_spread(
    tenant: LocalTenant, clock: HandClock
) -> None:
    waits = []
    async with verifier_of(tenant, clock) as verifier:
        for _ in range(50):
            before = tenant.requests.count(JWKS)
            waited = 0
            while tenant.requests.count(JWKS) == before:
                clock.advance(1)
                waited += 1
                await verifier.keys.tick()
            waits.append(waited)
    assert 48 <= min(waits) < max(waits) <= 60


# --- a key inside its bound never waits ---


async def test_known_keys_go_on_while_a_refresh_hangs(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        hold = tenant.faults.hold()
        clock.advance(60)
        tick = asyncio.create_task(verifier.keys.tick())
        await hold.arrived.wait()
        await verifier.verify(tenant.token())
        assert not tick.done()
        hold.release()
        await tick


async def test_thousand_bogus_kids_cost_the_burst_and_delay_nobody(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        before = tenant.requests.count(JWKS)
        hold = tenant.faults.hold()
        flood = asyncio.create_task(outcomes(verifier, bogus(tenant, 500, "at once")))
        await hold.arrived.wait()
        for number in range(20):
            await verifier.verify(tenant.token(sub=str(number)))
        assert not flood.done()
        hold.release()
        assert set(await flood) == {UnknownKeyError}
        for token in bogus(tenant, 500, "in turn"):
            with pytest.raises((UnknownKeyError, LookUpThrottledError)):
                await verifier.verify(token)
        assert tenant.requests.count(JWKS) - before <= 5
        spent = tenant.requests.count(JWKS)
        clock.advance(60)
        await verifier.keys.tick()
        assert tenant.requests.count(JWKS) == spent + 1
        assert verifier.health().confirmed_at == clock.time()


async def test_failed_lookup_does_not_put_the_next_refresh_off(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        tenant.faults.status(503)
        clock.advance(60)
        await verifier.keys.tick()  # fails; the next one is due within a second
        for number in range(4):
            clock.advance(0.1)
            await outcomes(verifier, bogus(tenant, 1, f"number {number}"))
        before = tenant.requests.count(JWKS)
        clock.advance(0.6)
        await verifier.keys.tick()
        assert tenant.requests.count(JWKS) == before + 1


async def test_flood_during_an_outage_does_not_put_off_the_refresh(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        tenant.faults.status(503)
        for second in range(90):
            clock.advance(1)
            await outcomes(verifier, bogus(tenant, 1, f"second {second}"))
            await verifier.keys.tick()
        tenant.faults.clear()
        for _ in range(60):
            clock.advance(1)
            await verifier.keys.tick()
        assert clock.time() - (verifier.health().confirmed_at or 0) < 60


# --- fetches are bounded ---


async def test_hundred_cold_verifications_fetch_once(tenant: LocalTenant, clock: HandClock) -> None:
    verifier = verifier_of(tenant, clock)
    tokens = [tenant.token(sub=str(number)) for number in range(100)]
    assert set(await outcomes(verifier, tokens)) == {None}
    assert tenant.requests.count(JWKS) == 1
    assert tenant.requests.count(DISCOVERY) == 1
    await verifier.aclose()


async def test_unknown_kids_during_an_outage_stay_inside_the_budget(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        tenant.faults.status(503)
        before = tenant.requests.count(JWKS)
        await outcomes(verifier, bogus(tenant, 20))
        for token in bogus(tenant, 20, "later"):
            await outcomes(verifier, [token])
        assert tenant.requests.count(JWKS) - before <= 5


async def test_outage_from_the_start_is_not_one_fetch_per_request(
    tenant: LocalTenant, clock: HandClock
) -> None:
    tenant.faults.status(503)
    verifier = verifier_of(tenant, clock)
    for _ in range(20):
        assert await outcomes(verifier, [tenant.token()]) == [KeysUnavailableError]
    assert tenant.requests.count(JWKS) == 1
    tenant.faults.clear()
    clock.advance(1)
    assert await outcomes(verifier, [tenant.token()]) == [None]
    await verifier.aclose()


async def test_failures_back_off_up_to_the_interval(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        tenant.faults.status(500)
        clock.advance(60)
        fetched_at: list[float] = []
        for _ in range(600):
            before = tenant.requests.count(JWKS)
            await verifier.keys.tick()
            if tenant.requests.count(JWKS) > before:
                fetched_at.append(clock.time())
            clock.advance(0.5)
        pauses = [after - before for before, after in itertools.pairwise(fetched_at)]
        assert pauses[0] <= 1
        assert all(pause <= 60.5 for pause in pauses)
        assert len(fetched_at) <= 20
        assert max(pauses) >= 30


async def test_retry_after_is_honoured_by_refresh_and_lookups(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        tenant.faults.status(429, retry_after=30)
        clock.advance(60)
        await verifier.keys.tick()
        tenant.faults.clear()
        tenant.rotate()
        tenant.rotate()
        spent = tenant.requests.count(JWKS)
        clock.advance(29)
        await verifier.keys.tick()
        assert await outcomes(verifier, [tenant.token()]) == [KeysUnavailableError]
        assert tenant.requests.count(JWKS) == spent
        clock.advance(1)
        assert await outcomes(verifier, [tenant.token()]) == [None]


async def test_kid_just_looked_up_is_not_looked_up_again_for_five_seconds(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        (token,) = bogus(tenant, 1)
        before = tenant.requests.count(JWKS)
        for _ in range(4):
            await outcomes(verifier, [token])
            clock.advance(1)
        assert tenant.requests.count(JWKS) == before + 1
        clock.advance(1)
        await outcomes(verifier, [token])
        assert tenant.requests.count(JWKS) == before + 2


async def test_kid_looked_up_in_vain_is_looked_up_again_once_the_set_changed(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        late = tenant.new_key(kid="late")
        assert await outcomes(verifier, [tenant.token(key=late)]) == [UnknownKeyError]
        tenant.publish(tenant.new_key(kid="other"))
        await verifier.keys.refresh()
        tenant.publish(late)
        assert await outcomes(verifier, [tenant.token(key=late)]) == [None]


async def test_new_key_is_accepted_by_its_first_request(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        before = tenant.requests.count(JWKS)
        tenant.rotate()
        await verifier.verify(tenant.token())
        assert tenant.requests.count(JWKS) == before
        tenant.rotate()
        tenant.rotate()
        await verifier.verify(tenant.token())
        assert tenant.requests.count(JWKS) == before + 1


async def test_request_that_joins_an_earlier_fetch_gets_one_of_its_own(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        hold = tenant.faults.hold(times=1)
        refresh = asyncio.create_task(verifier.keys.refresh())
        await hold.arrived.wait()
        tenant.rotate()
        tenant.rotate()
        first = asyncio.create_task(verifier.verify(tenant.token()))
        await asyncio.sleep(0)
        hold.release()
        assert (await first).kid == tenant.key().kid
        await refresh


async def test_new_key_is_accepted_within_twelve_seconds_of_a_flood(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        await outcomes(verifier, bogus(tenant, 50))
        for token in bogus(tenant, 50, "in turn"):
            await outcomes(verifier, [token])
        tenant.rotate()
        tenant.rotate()
        new = tenant.token()
        with pytest.raises(LookUpThrottledError) as refusal:
            await verifier.verify(new)
        assert (refusal.value.http_status, refusal.value.retry_after) == (429, 12.0)
        for second in range(12):
            clock.advance(1)
            await outcomes(verifier, bogus(tenant, 3, f"second {second}"))
        assert await outcomes(verifier, [new]) == [None]


async def test_cancelled_waiter_does_not_cancel_the_fetch(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    hold = tenant.faults.hold()
    first = asyncio.create_task(verifier.verify(tenant.token()))
    await hold.arrived.wait()
    second = asyncio.create_task(verifier.verify(tenant.token()))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    hold.release()
    await second
    assert tenant.requests.count(JWKS) == 1
    await verifier.aclose()


async def test_bad_signature_never_causes_a_fetch(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        before = tenant.requests.count(JWKS)
        for _ in range(20):
            with pytest.raises(InvalidSignatureError):
                await verifier.verify(tenant.forged_token())
        assert tenant.requests.count(JWKS) == before


# --- a bad answer changes nothing ---

BAD_ANSWERS: dict[str, Callable[[LocalTenant], object]] = {
    "server error": lambda tenant: tenant.faults.status(500),
    "not found": lambda tenant: tenant.faults.status(404),
    "redirect": lambda tenant: tenant.faults.redirect(),
    "HTML with 200": lambda tenant: tenant.faults.garbage(),
    "a JSON array": lambda tenant: tenant.faults.garbage(b"[]"),
    "keys that are no array": lambda tenant: tenant.faults.garbage(b'{"keys": {}}'),
    "no usable key": lambda tenant: tenant.faults.garbage(b'{"keys": [{"kty": "oct"}, 7]}'),
    "an empty set": lambda tenant: tenant.faults.empty(),
    "truncated": lambda tenant: tenant.faults.truncated(),
    "oversized": lambda tenant: tenant.faults.oversized(),
    "a gzip bomb": lambda tenant: tenant.faults.gzip_bomb(),
    "a connection reset": lambda tenant: tenant.faults.reset(),
    "204": lambda tenant: tenant.faults.status(204),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_bad_answer_changes_nothing(tenant: LocalTenant, clock: HandClock, name: str) -> None:
    async with verifier_of(tenant, clock) as verifier:
        token = tenant.token()
        await verifier.verify(token)
        before = verifier.health()
        BAD_ANSWERS[name](tenant)
        clock.advance(60)
        await verifier.keys.tick()
        after = verifier.health()
        assert (after.kids, after.confirmed_at) == (before.kids, before.confirmed_at)
        assert after.status == "degraded"
        assert after.last_error
        await verifier.verify(token)
        await verifier.verify(tenant.token(sub="someone else"))


async def test_304_that_nobody_asked_for_confirms_nothing(
    tenant: LocalTenant, clock: HandClock
) -> None:
    tenant.faults.status(304)
    async with verifier_of(tenant, clock) as verifier:
        assert verifier.health().last_error == "the server answered 304"
        assert verifier.health().status == "unavailable"


async def test_one_unusable_key_is_skipped_and_shown(tenant: LocalTenant, clock: HandClock) -> None:
    tenant.publish({"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"})
    tenant.publish({"kty": "oct", "kid": "symmetric", "k": "c2VjcmV0"})
    async with verifier_of(tenant, clock) as verifier:
        await verifier.verify(tenant.token())
        assert {key.kid for key in verifier.health().skipped} == {"broken", "symmetric"}
        assert all(key.reason for key in verifier.health().skipped)
        assert verifier.health().status == "ok"


async def test_older_answer_neither_adds_nor_confirms_nor_removes(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        clock.advance(10)
        tenant.rotate()
        tenant.rotate()
        await verifier.keys.refresh()
        held = verifier.health()
        new = tenant.token()
        before = tenant.requests.count(JWKS)
        tenant.faults.rollback(versions=2, age=61)
        clock.advance(60)
        await verifier.keys.tick()
        after = verifier.health()
        assert (after.kids, after.confirmed_at) == (held.kids, held.confirmed_at)
        assert tenant.requests.count(JWKS) == before + 2, "one more request, past the cache"
        assert after.last_error == "the answer is older than the key set held"
        await verifier.verify(new)


async def test_slow_answer_that_was_overtaken_loses(tenant: LocalTenant, clock: HandClock) -> None:
    """The set of before the rotation arrives after the set of after it was taken."""
    async with verifier_of(tenant, clock) as verifier:
        clock.advance(10)
        tenant.rotate()
        tenant.rotate()
        new = tenant.token()
        await verifier.verify(new)
        tenant.faults.rollback(versions=2, age=5, times=1)
        await verifier.keys.refresh()
        assert await outcomes(verifier, [new]) == [None]


async def test_cached_answer_does_not_make_a_new_key_unknown(
    tenant: LocalTenant, clock: HandClock
) -> None:
    """The edge's copy is younger than the set held, and older than the rotation."""
    async with verifier_of(tenant, clock) as verifier:
        clock.advance(40)
        tenant.rotate()
        tenant.rotate()
        tenant.faults.rollback(versions=2, age=10, times=1)
        assert (await verifier.verify(tenant.token())).kid == tenant.key().kid


async def test_flapping_edge_costs_no_valid_token_during_a_rotation(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        old = tenant.token()
        await verifier.verify(old)
        clock.advance(10)
        tenant.rotate()
        tenant.rotate()
        tenant.faults.flap(versions=2, age=20)
        for step in range(60):
            for token in (old, tenant.token(), tenant.token(sub=f"user {step}")):
                await verifier.verify(token)
            clock.advance(5)
            await verifier.keys.tick()
        assert verifier.health().kids == tuple(key["kid"] for key in tenant.jwks()["keys"])


async def test_key_no_longer_listed_goes_at_once(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        token = tenant.token()
        kid = (await verifier.verify(token)).kid
        tenant.rotate()
        tenant.revoke(kid)
        await verifier.keys.refresh()
        assert kid not in verifier.keys.kids
        with pytest.raises(RemovedKeyError):
            await verifier.verify(token)


async def test_two_keys_for_one_kid_are_not_chosen_from(
    tenant: LocalTenant, clock: HandClock
) -> None:
    tenant.publish(tenant.new_key(kid=tenant.key().kid))
    async with verifier_of(tenant, clock) as verifier:
        before = tenant.requests.count(JWKS)
        with pytest.raises(UnusableKeyError, match="different keys"):
            await verifier.verify(tenant.token())
        assert tenant.requests.count(JWKS) == before
        tenant.rotate()
        await verifier.verify(tenant.token())


async def test_exact_duplicate_is_no_ambiguity(tenant: LocalTenant, clock: HandClock) -> None:
    tenant.publish(tenant.key())
    async with verifier_of(tenant, clock) as verifier:
        await verifier.verify(tenant.token())


# --- 401 is the token's fault, 503 is ours ---


async def test_unknown_kid_is_401_only_when_the_issuer_said_so(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        tenant.faults.status(500)
        assert await outcomes(verifier, bogus(tenant, 1)) == [KeysUnavailableError]
        tenant.faults.clear()
        assert await outcomes(verifier, bogus(tenant, 1)) == [KeysUnavailableError], "not again yet"
        clock.advance(5)
        assert await outcomes(verifier, bogus(tenant, 1)) == [UnknownKeyError]
        tenant.faults.status(500)
        assert await outcomes(verifier, bogus(tenant, 1)) == [UnknownKeyError], (
            "it said so just now"
        )


async def test_lazy_verifier_serves_then_refreshes_then_waits(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    token = tenant.token()
    await verifier.verify(token)
    kid = tenant.key().kid
    tenant.rotate()
    tenant.revoke(kid)
    hold = tenant.faults.hold()
    clock.advance(61)
    await verifier.verify(token)
    await hold.arrived.wait()
    clock.advance(60)
    waiting = asyncio.create_task(verifier.verify(token))
    await asyncio.sleep(0)
    assert not waiting.done()
    hold.release()
    with pytest.raises(RemovedKeyError):
        await waiting
    await verifier.aclose()


async def test_closed_verifier_trusts_nothing_until_it_is_started(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock)
    token = tenant.token()
    async with verifier:
        accepted = await verifier.verify(token)
    with pytest.raises(KeysUnavailableError, match="closed"):
        await verifier.verify(token)
    with pytest.raises(KeysUnavailableError):
        verifier.remaining(accepted)
    assert verifier.health().status == "unavailable"
    await verifier.start()
    await verifier.verify(token)
    await verifier.aclose()


async def test_required_keys_that_cannot_be_had_stop_the_start(
    tenant: LocalTenant, clock: HandClock
) -> None:
    tenant.faults.status(500)
    verifier = verifier_of(tenant, clock)
    with pytest.raises(KeysUnavailableError, match="500"):
        await verifier.start(require_keys=True)
    await verifier.start()
    assert verifier.health().status == "unavailable"
    await verifier.aclose()


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("junk", [None, "x" * 20_000, "é.é.é", b"\xff.a.b"])
async def test_what_can_be_no_token_causes_no_fetch_and_is_never_our_fault(
    tenant: LocalTenant, clock: HandClock, junk: Any, background: bool
) -> None:
    verifier = verifier_of(tenant, clock, background=background)
    with pytest.raises(MalformedTokenError):
        await verifier.verify(junk)
    assert tenant.requests.count(JWKS) + tenant.requests.count(DISCOVERY) == 0
    await verifier.start()
    await verifier.aclose()
    with pytest.raises(MalformedTokenError):
        await verifier.verify(junk)


async def test_lazy_verifier_serves_what_is_cached_on_another_loop(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock, background=False) as verifier:
        token = tenant.token()
        first = await verifier.verify(token)
        clock.advance(61)  # a refresh is due, and this loop is where it may be made
        assert await asyncio.to_thread(asyncio.run, verifier.verify(token)) is first
