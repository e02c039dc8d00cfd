"""No token signed by a distrusted key is accepted once `distrust` returned, whatever happens."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from jwks_guard import (
    ConfigurationError,
    DistrustNotSharedError,
    InvalidSignatureError,
    MultiIssuerVerifier,
    Register,
    RemovedKeyError,
    RevocationRefusedError,
    RevokedKeyError,
    TokenVerifier,
)
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, tenant_of, verifier_of


async def used_key(tenant: LocalTenant, verifier: TokenVerifier) -> tuple[str, str]:
    """The kid and an accepted, cached token of a key that was current until now."""
    token = tenant.token()
    kid = (await verifier.verify(token)).kid
    tenant.rotate()
    assert (await verifier.verify(token)).kid == kid
    return kid, token


async def test_cached_token_is_refused_at_once(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = await used_key(tenant, verifier)
        await verifier.distrust(kid, reason="leaked")
        with pytest.raises(RevokedKeyError) as refusal:
            await verifier.verify(token)
        assert refusal.value.kid == kid
        assert kid not in verifier.keys.kids
        assert verifier.distrusted[kid].reason == "leaked"
        assert (await verifier.verify(tenant.token())).kid == tenant.key().kid


@pytest.mark.parametrize("token_cache_size", [0, 100])
async def test_token_never_seen_is_refused_although_its_header_was_remembered(
    tenant: LocalTenant, clock: HandClock, token_cache_size: int
) -> None:
    async with verifier_of(tenant, clock, token_cache_size=token_cache_size) as verifier:
        unseen = tenant.token(sub="auth0|bob")
        kid, token = await used_key(tenant, verifier)
        assert unseen.partition(".")[0] == token.partition(".")[0]
        await verifier.distrust(kid, reason="leaked")
        for each in (unseen, unseen.encode()):
            with pytest.raises(RevokedKeyError):
                await verifier.verify(each)


async def test_decision_holds_before_the_first_await(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    async with verifier_of(tenant, clock, snapshot_path=tmp_path / "keys.json") as verifier:
        kid, token = await used_key(tenant, verifier)
        distrust = verifier.distrust(kid, reason="leaked")
        distrust.send(None)  # to the first suspension and no further
        with pytest.raises(RevokedKeyError):
            await verifier.verify(token)
        distrust.close()


async def test_refresh_that_still_lists_the_key_changes_nothing(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = await used_key(tenant, verifier)
        await verifier.distrust(kid, reason="leaked")
        clock.advance(60)
        await verifier.keys.tick()
        assert kid in {key["kid"] for key in tenant.jwks()["keys"]}
        with pytest.raises(RevokedKeyError):
            await verifier.verify(token)


async def test_refresh_that_began_before_changes_nothing(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = await used_key(tenant, verifier)
        hold = tenant.faults.hold()
        refresh = asyncio.create_task(verifier.keys.refresh())
        await hold.arrived.wait()
        await verifier.distrust(kid, reason="leaked")
        hold.release()
        await refresh
        with pytest.raises(RevokedKeyError):
            await verifier.verify(token)


async def test_cdn_rollback_brings_nothing_back(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = await used_key(tenant, verifier)
        clock.advance(5)
        await verifier.distrust(kid, reason="leaked")
        tenant.revoke(kid)
        clock.advance(5)
        await verifier.keys.refresh()
        tenant.faults.rollback(age=None)
        clock.advance(60)
        await verifier.keys.tick()
        with pytest.raises(RevokedKeyError):
            await verifier.verify(token)


async def test_same_key_under_another_kid_is_refused(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, _ = await used_key(tenant, verifier)
        await verifier.distrust(kid, reason="leaked")
        leaked = tenant.key(kid)
        tenant.publish({**leaked.jwk, "kid": "disguise"})
        with pytest.raises(RevokedKeyError):
            await verifier.verify(tenant.token(key=leaked, kid="disguise"))
        clock.advance(60)
        await verifier.keys.tick()
        with pytest.raises(RevokedKeyError):
            await verifier.verify(tenant.token(key=leaked, kid="disguise"))


async def test_new_key_under_a_distrusted_kid_is_refused(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, _ = await used_key(tenant, verifier)
        await verifier.distrust(kid, reason="leaked")
        new = tenant.swap_key(kid)
        clock.advance(60)
        await verifier.keys.tick()
        with pytest.raises(RevokedKeyError):
            await verifier.verify(tenant.token(key=new))


async def test_kid_never_seen_takes_its_key_along_when_it_first_appears(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        await verifier.distrust("upcoming", reason="stolen before it was published")
        stolen = tenant.new_key(kid="upcoming")
        tenant.publish(stolen)
        await verifier.keys.refresh()
        assert verifier.distrusted["upcoming"].thumbprints
        tenant.remove("upcoming")
        tenant.publish({**stolen.jwk, "kid": "disguise"})
        await verifier.keys.refresh()
        with pytest.raises(RevokedKeyError):
            await verifier.verify(tenant.token(key=stolen, kid="disguise"))


async def test_a_kid_means_nothing_at_another_issuer_but_a_key_does(clock: HandClock) -> None:
    with (
        tenant_of(clock, issuer="https://one.test/") as one,
        tenant_of(clock, issuer="https://two.test/") as two,
    ):
        first, second = verifier_of(one, clock), verifier_of(two, clock)
        async with MultiIssuerVerifier([first, second]) as both:
            kid, _ = await used_key(one, first)
            namesake = two.new_key(kid=kid)
            two.publish(namesake)
            two.publish({**one.key(kid).jwk, "kid": "shared"})
            await second.keys.refresh()
            twin = two.token(key=one.key(kid), kid="shared")
            assert (await both.verify(twin)).kid == "shared"
            await first.distrust(kid, reason="leaked")
            with pytest.raises(RevokedKeyError):
                await both.verify(twin)
            assert (await both.verify(two.token(key=namesake))).kid == kid
            await first.reinstate(kid, reason="false alarm")
            assert (await both.verify(twin)).kid == "shared"


async def test_verifier_made_later_takes_over_what_the_process_distrusts(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = await used_key(tenant, verifier)
        await verifier.distrust(kid, reason="leaked")
        async with verifier_of(tenant, clock) as later:
            with pytest.raises(RevokedKeyError):
                await later.verify(token)
            await later.reinstate(kid, reason="false alarm")
        assert (await verifier.verify(token)).kid == kid


async def test_closing_and_starting_again_forgets_nothing(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock)
    await verifier.start()
    kid, token = await used_key(tenant, verifier)
    await verifier.distrust(kid, reason="leaked")
    await verifier.aclose()
    await verifier.start()
    with pytest.raises(RevokedKeyError):
        await verifier.verify(token)
    await verifier.aclose()


async def test_decision_of_a_closed_verifier_holds_once_it_is_started(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock)
    await verifier.start()
    kid, token = await used_key(tenant, verifier)
    await verifier.aclose()
    await verifier.distrust(kid, reason="leaked")
    tenant.publish({**tenant.key(kid).jwk, "kid": "disguise"})
    twin = tenant.token(key=kid, kid="disguise")
    await verifier.start()
    for each in (token, twin):
        with pytest.raises(RevokedKeyError):
            await verifier.verify(each)
    await verifier.aclose()


async def test_outage_past_the_trust_bound_and_a_rollback_bring_nothing_back(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = await used_key(tenant, verifier)
        await verifier.distrust(kid, reason="leaked")
        clock.advance(7200)
        assert verifier.health().status == "unavailable"
        await verifier.keys.refresh()  # of a set that lists the key to this day
        assert kid in {each["kid"] for each in tenant.jwks()["keys"]}
        assert (await verifier.verify(tenant.token())).kid == tenant.key().kid
        with pytest.raises(RevokedKeyError):
            await verifier.verify(token)


async def test_only_reinstate_lifts_it(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = await used_key(tenant, verifier)
        await verifier.distrust(kid, reason="leaked")
        for _ in range(3):
            clock.advance(60)
            await verifier.keys.tick()
        with pytest.raises(RevokedKeyError):
            await verifier.verify(token)
        await verifier.reinstate(kid, reason="false alarm")
        assert (await verifier.verify(token)).kid == kid
        assert not verifier.distrusted


async def test_the_only_key_is_given_up_only_by_force(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        tenant.remove(tenant.key("next").kid)
        await verifier.keys.refresh()
        (kid,) = verifier.keys.kids
        with pytest.raises(RevocationRefusedError, match="force=True"):
            await verifier.distrust(kid, reason="leaked")
        assert verifier.keys.kids == (kid,)
        await verifier.distrust(kid, reason="leaked", force=True)
        assert verifier.health().status == "unavailable"


async def test_cached_token_of_a_removed_key_is_refused(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = await used_key(tenant, verifier)
        tenant.revoke(kid)
        clock.advance(60)
        await verifier.keys.tick()
        with pytest.raises(RemovedKeyError):
            await verifier.verify(token)


async def test_cached_token_of_a_swapped_key_is_refused(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = await used_key(tenant, verifier)
        new = tenant.swap_key(kid)
        await verifier.keys.refresh()
        with pytest.raises(InvalidSignatureError):
            await verifier.verify(token)
        assert (await verifier.verify(tenant.token(key=new))).kid == kid


async def test_distrust_outlives_a_restart(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    snapshot = tmp_path / "keys.json"
    async with verifier_of(tenant, clock, snapshot_path=snapshot) as verifier:
        kid, token = await used_key(tenant, verifier)
        await verifier.distrust(kid, reason="leaked")
    async with verifier_of(tenant, clock, snapshot_path=snapshot, register=Register()) as restarted:
        with pytest.raises(RevokedKeyError):
            await restarted.verify(token)
        assert restarted.distrusted[kid].reason == "leaked"
        await restarted.reinstate(kid, reason="false alarm")
    async with verifier_of(tenant, clock, snapshot_path=snapshot, register=Register()) as again:
        assert (await again.verify(token)).kid == kid


async def test_key_that_a_decision_covers_later_outlives_a_restart(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    snapshot = tmp_path / "keys.json"
    stolen = tenant.new_key(kid="upcoming")
    async with verifier_of(tenant, clock, snapshot_path=snapshot) as verifier:
        await verifier.distrust("upcoming", reason="stolen before it was published")
        tenant.publish(stolen)
        await verifier.keys.refresh()
    snapshot.unlink()  # the key set's file is only a cache; the journal must know by itself
    tenant.remove("upcoming")
    tenant.publish({**stolen.jwk, "kid": "disguise"})
    async with verifier_of(tenant, clock, snapshot_path=snapshot, register=Register()) as restarted:
        with pytest.raises(RevokedKeyError):
            await restarted.verify(tenant.token(key=stolen, kid="disguise"))


async def test_distrust_that_cannot_be_stored_is_said_and_still_holds(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    snapshot = tmp_path / "keys.json"
    async with verifier_of(tenant, clock, snapshot_path=snapshot) as verifier:
        kid, token = await used_key(tenant, verifier)
        journal = tmp_path / "keys.json.tombstones"
        journal.mkdir()
        with pytest.raises(DistrustNotSharedError, match="passed on with the next exchange"):
            await verifier.distrust(kid, reason="leaked")
        with pytest.raises(RevokedKeyError):
            await verifier.verify(token)
        health = verifier.health()
        assert health.status == "degraded"
        assert "journal" in (health.last_error or "")
        journal.rmdir()
        await verifier.distrust(kid, reason="leaked")
        assert verifier.health().status == "ok"
        assert journal.stat().st_mode & 0o777 == 0o600
    async with verifier_of(tenant, clock, snapshot_path=snapshot, register=Register()) as restarted:
        with pytest.raises(RevokedKeyError):
            await restarted.verify(token)


async def test_distrust_works_from_any_thread(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = await used_key(tenant, verifier)
        thread = threading.Thread(
            target=lambda: asyncio.run(verifier.distrust(kid, reason="leaked"))
        )
        thread.start()
        await asyncio.to_thread(thread.join)
        with pytest.raises(RevokedKeyError):
            await verifier.verify(token)


async def test_key_that_had_left_the_set_is_refused_wherever_it_comes_back(
    clock: HandClock,
) -> None:
    """The tenant revokes, we notice, and only then does the operator call distrust."""
    with (
        tenant_of(clock, issuer="https://one.test/") as one,
        tenant_of(clock, issuer="https://two.test/") as two,
    ):
        first, second = verifier_of(one, clock), verifier_of(two, clock)
        async with MultiIssuerVerifier([first, second]) as both:
            kid, _ = await used_key(one, first)
            leaked = one.key(kid)
            two.publish({**leaked.jwk, "kid": "twin"})
            await second.keys.refresh()
            one.revoke(kid)
            await first.keys.refresh()
            await first.distrust(kid, reason="leaked")
            one.publish({**leaked.jwk, "kid": "disguise"})
            await first.keys.refresh()
            for token in (
                one.token(key=leaked, kid="disguise"),
                two.token(key=leaked, kid="twin"),
            ):
                with pytest.raises(RevokedKeyError):
                    await both.verify(token)


@pytest.mark.parametrize("background", [True, False])
async def test_decision_of_another_process_in_a_shared_journal_needs_no_fetch(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path, background: bool
) -> None:
    """Two workers share one file. One does not fetch for a day; it must not accept for a day."""
    shared = {"snapshot_path": tmp_path / "keys.json", "refresh_interval": 86_400.0}
    shared["max_stale"] = 2 * 86_400.0
    async with (
        verifier_of(tenant, clock, **shared, register=Register()) as operator,
        verifier_of(tenant, clock, **shared, register=Register(), background=background) as other,
    ):
        kid, token = await used_key(tenant, other)
        await operator.distrust(kid, reason="leaked")
        assert not other.keys.waits_for_request()
        clock.advance(5.0)
        if background:
            await other.keys.tick()
            await other.keys.decisions.reread()
        with pytest.raises(RevokedKeyError):
            await other.verify(token)


def test_decision_of_another_process_holds_on_an_event_loop_that_may_not_fetch(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    """Nobody looks at the file for it there: a cached result must not pass."""
    shared = {"snapshot_path": tmp_path / "keys.json", "refresh_interval": 86_400.0}
    operator = verifier_of(tenant, clock, **shared, max_stale=172_800.0, register=Register())
    lazy = verifier_of(
        tenant, clock, **shared, max_stale=172_800.0, register=Register(), background=False
    )
    with asyncio.Runner() as home, asyncio.Runner() as elsewhere:
        kid, token = home.run(used_key(tenant, lazy))
        home.run(operator.start())
        home.run(operator.distrust(kid, reason="leaked", force=True))
        clock.advance(5.0)
        with pytest.raises(ConfigurationError, match="another event loop"):
            elsewhere.run(lazy.verify(token))
        with pytest.raises(RevokedKeyError):
            home.run(lazy.verify(token))
        home.run(operator.aclose())
        home.run(lazy.aclose())


async def test_every_journal_is_read_before_any_issuer_serves(
    clock: HandClock, tmp_path: Path
) -> None:
    with (
        tenant_of(clock, issuer="https://one.test/") as one,
        tenant_of(clock, issuer="https://two.test/") as two,
    ):
        snapshot = tmp_path / "one.json"
        async with verifier_of(one, clock, snapshot_path=snapshot) as first:
            kid, _ = await used_key(one, first)
            await first.distrust(kid, reason="leaked")
        two.publish({**one.key(kid).jwk, "kid": "twin"})
        restarted = Register()
        both = MultiIssuerVerifier(
            [
                verifier_of(one, clock, snapshot_path=snapshot, register=restarted),
                verifier_of(two, clock, register=restarted),
            ]
        )
        with pytest.raises(RevokedKeyError):
            await both.verify(two.token(key=one.key(kid), kid="twin"))
        await both.aclose()


async def test_reinstatement_lifts_what_another_process_wrote_into_the_same_journal(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    snapshot = tmp_path / "keys.json"
    async with verifier_of(tenant, clock, snapshot_path=snapshot) as verifier:
        kid, token = await used_key(tenant, verifier)
        async with verifier_of(
            tenant, clock, snapshot_path=snapshot, register=Register()
        ) as other_process:
            await other_process.distrust(kid, reason="leaked")
        await verifier.reinstate(kid, reason="false alarm")
        assert (await verifier.verify(token)).kid == kid
    async with verifier_of(tenant, clock, snapshot_path=snapshot, register=Register()) as restarted:
        assert not restarted.distrusted
        assert (await restarted.verify(token)).kid == kid
