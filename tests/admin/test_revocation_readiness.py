"""A planned revocation waits until the key is ready; what speaks against it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jwks_guard import TokenVerifier
from jwks_guard.admin import RevocationReadiness
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.verdict import facts_of
from jwks_guard.errors import (
    ConfigurationError,
    DistrustNotSharedError,
    NotFoundError,
    RevocationRefusedError,
)
from jwks_guard.readiness.state import InstanceState, Observed
from tests.admin.rotating import FakeRevocable, Scene, opened, verdict

LIFETIME = timedelta(hours=1)
QUIET = timedelta(minutes=10)
REASON = "the audit is tomorrow"


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened(token_lifetime=LIFETIME.total_seconds()) as scene:
        yield scene


class Showing(FakeRevocable):
    """A fleet of `states`; with a failure it can't be asked what it shows either."""

    def __init__(self, *states: InstanceState, latest_expiry: float | None = None) -> None:
        super().__init__()
        self.observed = Observed(states, latest_expiry)

    async def observe(self, kid: str) -> Observed:
        if self.failure is not None:
            raise self.failure
        return self.observed


def healthy(scene: Scene, instance: str, **members: Any) -> InstanceState:
    """An instance that was watched for a day and trusts every key of the tenant."""
    now = scene.clock.time()
    state = {
        "host": instance,
        "issuer": scene.tenant.issuer,
        "started_at": now - 86_400,
        "reported_at": now,
        "status": "ok",
        "confirmed_at": now,
        "trusted_until": now + 3600,
        "kids": (scene.tenant.key().kid, scene.tenant.key("next").kid),
    }
    return InstanceState(instance=instance, **{**state, **members})


def codes(readiness: RevocationReadiness) -> set[str]:
    return {blocker.code for blocker in readiness.blockers}


async def later(scene: Scene, passed: timedelta, *verifiers: TokenVerifier) -> None:
    """Let time pass, in which the verifiers go on refreshing."""
    scene.clock.advance(passed.total_seconds())
    for verifier in verifiers:
        await verifier.keys.refresh()


# --- the way from no to yes ---


async def test_verdict_follows_the_key_through_its_rotation(scene: Scene) -> None:
    verifier = await scene.verifier()
    rotation = scene.rotation(verifier, token_lifetime=LIFETIME, quiet_period=QUIET)
    kid, token = scene.tenant.key().kid, scene.tenant.token()
    await later(scene, QUIET, verifier)
    assert codes(await rotation.revocation_readiness(kid)) == {"key_is_current"}
    following = scene.tenant.key("next").kid
    assert codes(await rotation.revocation_readiness(following)) == {"key_is_next"}

    await rotation.rotate()
    assert await verdict(verifier, token) == "accepted"
    just_rotated = await rotation.revocation_readiness(kid)
    assert just_rotated.verdict == "no"
    assert codes(just_rotated) == {"tokens_unexpired", "key_in_use"}
    assert just_rotated.earliest_safe_time == scene.clock.time() + LIFETIME.total_seconds()

    await later(scene, QUIET, verifier)
    assert codes(await rotation.revocation_readiness(kid)) == {"tokens_unexpired"}
    await later(scene, LIFETIME - QUIET - timedelta(seconds=1), verifier)
    assert codes(await rotation.revocation_readiness(kid)) == {"tokens_unexpired"}
    await later(scene, timedelta(seconds=1), verifier)
    ready = await rotation.revocation_readiness(kid)
    assert (ready.verdict, ready.blockers) == ("yes", ())


async def test_key_that_is_ready_is_revoked_without_force_and_the_receipt_says_so(
    scene: Scene,
) -> None:
    old, token = scene.used_key()
    verifier = await scene.verifier()
    await later(scene, LIFETIME, verifier)
    rotation = scene.rotation(verifier, token_lifetime=LIFETIME, quiet_period=QUIET)
    receipt = await rotation.revoke(old)
    assert receipt.complete
    assert receipt.warnings == ()
    assert receipt.readiness is not None
    assert receipt.readiness.verdict == "yes"
    assert receipt.to_dict()["readiness"]["verdict"] == "yes"
    assert scene.steps == ["intended", "acknowledged", "refused_by", "left_jwks", "finished"]
    assert await verdict(verifier, token) == "revoked_key"
    assert await verdict(verifier, scene.tenant.token()) == "accepted"


async def test_restarted_instance_blocks_until_it_was_watched_for_the_quiet_period(
    scene: Scene,
) -> None:
    old, _ = scene.used_key()
    await later(scene, LIFETIME)
    verifier = await scene.verifier()
    rotation = scene.rotation(verifier, token_lifetime=LIFETIME, quiet_period=QUIET)
    restarted = await rotation.revocation_readiness(old)
    assert (restarted.verdict, codes(restarted)) == ("unknown", {"instance_watched_too_short"})
    with pytest.raises(RevocationRefusedError):
        await rotation.revoke(old)
    await later(scene, QUIET, verifier)
    assert (await rotation.revoke(old)).complete


async def test_token_that_lives_longer_than_was_said_is_waited_for(scene: Scene) -> None:
    verifier = await scene.verifier()
    kid, token = scene.tenant.key().kid, scene.tenant.token()
    assert await verdict(verifier, token) == "accepted"
    scene.tenant.rotate()
    short = timedelta(minutes=1)
    rotation = scene.rotation(verifier, token_lifetime=short, quiet_period=QUIET)
    assert "key_in_use" in codes(await rotation.revocation_readiness(kid))
    await later(scene, LIFETIME - timedelta(seconds=1), verifier)
    assert codes(await rotation.revocation_readiness(kid)) == {"tokens_unexpired"}
    await later(scene, timedelta(seconds=1), verifier)
    assert (await rotation.revocation_readiness(kid)).verdict == "yes"


async def test_expiry_that_only_a_fleet_remembers_is_waited_for(scene: Scene) -> None:
    old, _ = scene.used_key()
    await later(scene, LIFETIME)
    idle = Showing(healthy(scene, "a"), latest_expiry=scene.clock.time() + 60)
    rotation = scene.rotation(idle, token_lifetime=LIFETIME)
    assert codes(await rotation.revocation_readiness(old)) == {"tokens_unexpired"}
    idle.observed = Observed(idle.observed.states, scene.clock.time())
    assert (await rotation.revocation_readiness(old)).verdict == "yes"


# --- what is refused ---


async def test_key_that_is_not_ready_is_refused_before_anything_is_done(
    scene: Scene, tmp_path: Path
) -> None:
    old, token = scene.used_key()
    verifier = await scene.verifier()
    rotation = scene.rotation(verifier, token_lifetime=LIFETIME, journal_path=tmp_path / "journal")
    with pytest.raises(RevocationRefusedError, match=f"{old} is not ready") as refused:
        await rotation.revoke(old, reason="retired")
    assert refused.value.kid == old
    report = refused.value.report
    assert isinstance(report, RevocationReadiness)
    assert codes(report) >= {"tokens_unexpired", "instance_watched_too_short"}
    assert all(blocker.message in str(refused.value) for blocker in report.blockers)
    assert scene.events == []
    assert scene.sent("PUT") == []
    assert not (tmp_path / "journal").exists()
    assert not verifier.distrusted
    assert await verdict(verifier, token) == "accepted"


async def test_without_the_lifetime_of_tokens_nothing_is_ever_ready(scene: Scene) -> None:
    old, _ = scene.used_key()
    verifier = await scene.verifier()
    await later(scene, timedelta(days=365), verifier)
    readiness = await scene.rotation(verifier).revocation_readiness(old)
    assert (readiness.verdict, codes(readiness)) == ("unknown", {"token_lifetime_unknown"})
    assert readiness.earliest_safe_time is None


async def test_without_anybody_to_ask_nothing_is_ever_ready(scene: Scene) -> None:
    old, _ = scene.used_key()
    await later(scene, LIFETIME)
    readiness = await scene.rotation(token_lifetime=LIFETIME).revocation_readiness(old)
    assert (readiness.verdict, codes(readiness)) == ("unknown", {"no_fleet"})
    assert "JWKS_GUARD_FLEET" in readiness.blockers[0].message
    assert readiness.blockers[0].lasts


async def test_fleet_that_shows_nothing_is_not_outvoted_by_one_that_does(scene: Scene) -> None:
    old, _ = scene.used_key()
    await later(scene, LIFETIME)
    many = Showing(*(healthy(scene, str(number)) for number in range(3)))
    rotation = scene.rotation(many, Showing(), token_lifetime=LIFETIME)
    assert codes(await rotation.revocation_readiness(old)) == {"instances_missing"}
    alone = await scene.rotation(many, token_lifetime=LIFETIME).revocation_readiness(old)
    assert alone.verdict == "yes"
    more = scene.rotation(many, token_lifetime=LIFETIME, expected_instances=4)
    assert codes(await more.revocation_readiness(old)) == {"instances_missing"}


async def test_verifiers_of_one_process_hide_nothing_of_each_other(scene: Scene) -> None:
    busy, idle = await scene.verifier(), await scene.verifier()
    for order in ((busy, idle), (idle, busy)):
        kid, token = scene.tenant.key().kid, scene.tenant.token()
        await later(scene, QUIET, busy, idle)
        scene.tenant.rotate()
        await later(scene, timedelta(seconds=1), busy, idle)
        assert await verdict(busy, token) == "accepted"
        rotation = scene.rotation(*order, token_lifetime=timedelta(seconds=1), quiet_period=QUIET)
        assert "key_in_use" in codes(await rotation.revocation_readiness(kid))
        await later(scene, LIFETIME, busy, idle)
        readiness = await rotation.revocation_readiness(kid)
        assert (readiness.verdict, readiness.blockers) == ("yes", ())
        assert {state.instance for state in readiness.instances} == {busy.keys.register.instance}


async def test_fleet_that_can_not_be_asked_lets_nothing_planned_begin(scene: Scene) -> None:
    old, _ = scene.used_key()
    fleet = Showing()
    fleet.failure = gone = DistrustNotSharedError("Redis is gone")
    rotation = scene.rotation(fleet, token_lifetime=LIFETIME)
    with pytest.raises(DistrustNotSharedError) as refused:
        await rotation.revoke(old, reason=REASON)
    assert "nothing was done" in refused.value.__notes__[0]
    assert scene.sent("PUT") == []
    assert scene.events == []
    gone.here = False
    receipt = await rotation.revoke(old, emergency=True)
    assert not receipt.refused_everywhere
    assert [(each.since, each.error) for each in receipt.refusals] == [(None, "Redis is gone")]
    assert "not_told" in scene.steps
    assert scene.tenant.key(old).status == "revoked"


async def test_force_revokes_although_the_fleet_can_not_be_asked(scene: Scene) -> None:
    old, _ = scene.used_key()
    fleet = Showing()
    fleet.failure = DistrustNotSharedError("Redis is gone")
    rotation = scene.rotation(fleet, token_lifetime=LIFETIME)
    receipt = await rotation.revoke(old, force=True, reason=REASON)
    assert receipt.readiness is not None
    assert [blocker.code for blocker in receipt.readiness.blockers] == ["fleet_unreachable"]
    assert "forced" in scene.steps
    assert scene.tenant.key(old).status == "revoked"


async def test_receipt_tells_the_expiry_that_was_seen(scene: Scene) -> None:
    old, _ = scene.used_key()
    seen = scene.clock.time() + 5 * LIFETIME.total_seconds()
    fleet = Showing(healthy(scene, "a"), latest_expiry=seen)
    rotation = scene.rotation(fleet, token_lifetime=LIFETIME)
    receipt = await rotation.revoke(old, force=True, reason=REASON)
    assert receipt.tokens_expire_by is not None
    assert receipt.tokens_expire_by.timestamp() == seen
    assert len(receipt.warnings) == 1


async def test_silent_instance_is_not_counted_as_missing_as_well(scene: Scene) -> None:
    old, _ = scene.used_key()
    gone = replace(healthy(scene, "b"), reported_at=scene.clock.time() - 60)
    rotation = scene.rotation(Showing(healthy(scene, "a"), gone), token_lifetime=LIFETIME)
    readiness = await rotation.revocation_readiness(old)
    unknown = [blocker.code for blocker in readiness.blockers if blocker.verdict == "unknown"]
    assert unknown == ["instance_silent"]


async def test_each_instance_that_was_never_heard_of_is_named(scene: Scene) -> None:
    old, _ = scene.used_key()
    unheard = replace(healthy(scene, "silent"), reported_at=0.0, started_at=0.0)
    fleet = Showing(healthy(scene, "a"), replace(unheard, host="b"), replace(unheard, host="c"))
    rotation = scene.rotation(fleet, token_lifetime=LIFETIME)
    readiness = await rotation.revocation_readiness(old)
    told = [each.message for each in readiness.blockers if each.code == "instance_silent"]
    assert [message.partition(" was never heard of")[0] for message in told] == [
        "b (silent)",
        "c (silent)",
    ]


async def test_without_current_until_the_present_key_tells_since_when(scene: Scene) -> None:
    old, _ = scene.used_key()
    keys = SigningKeys(await scene.keys.list())
    key = next(key for key in keys if key.kid == old)
    facts = facts_of(replace(key, current_until=None), keys)
    assert facts.current_until == facts.current_since is not None


async def test_unknown_key_has_no_verdict(scene: Scene) -> None:
    with pytest.raises(NotFoundError):
        await scene.rotation().revocation_readiness("nobody")


# --- force ---


async def test_forced_revocation_is_written_down_with_what_spoke_against_it(
    scene: Scene,
) -> None:
    old, token = scene.used_key()
    verifier = await scene.verifier()
    rotation = scene.rotation(verifier, token_lifetime=LIFETIME)
    receipt = await rotation.revoke(old, force=True, reason=REASON)
    assert receipt.complete
    assert receipt.readiness is not None
    assert receipt.readiness.verdict == "no"
    (forced,) = [event for event in scene.events if event.step == "forced"]
    assert (forced.result, forced.intent.reason) == ("warning", REASON)
    assert all(blocker.message in forced.detail for blocker in receipt.readiness.blockers)
    assert scene.steps.index("forced") < scene.steps.index("acknowledged")
    assert await verdict(verifier, token) == "revoked_key"


@pytest.mark.parametrize("emergency", [False, True])
async def test_force_takes_a_reason(scene: Scene, *, emergency: bool) -> None:
    old, _ = scene.used_key()
    with pytest.raises(ConfigurationError, match="reason"):
        await scene.rotation().revoke(old, force=True, emergency=emergency)
    assert scene.sent("PUT") == []


async def test_force_of_a_key_that_is_ready_is_nothing_to_write_down(scene: Scene) -> None:
    old, _ = scene.used_key()
    await later(scene, LIFETIME)
    rotation = scene.rotation(Showing(healthy(scene, "a")), token_lifetime=LIFETIME)
    receipt = await rotation.revoke(old, force=True, reason=REASON)
    assert receipt.readiness is not None
    assert receipt.readiness.verdict == "yes"
    assert "forced" not in scene.steps


@pytest.mark.parametrize("which", ["current", "next"])
@pytest.mark.parametrize("options", [{}, {"force": True}, {"force": True, "emergency": True}])
async def test_nothing_forces_a_key_that_is_needed(
    scene: Scene, which: str, options: dict[str, bool]
) -> None:
    verifier = await scene.verifier()
    kid = scene.tenant.key(which).kid
    with pytest.raises(RevocationRefusedError, match="Rotate first"):
        await scene.rotation(verifier).revoke(kid, reason=REASON, **options)
    assert scene.sent("PUT") == []
    assert scene.events == []
    assert not verifier.distrusted


async def test_key_that_is_revoked_already_needs_no_verdict(scene: Scene) -> None:
    old, _ = scene.used_key()
    scene.tenant.revoke(old)
    fleet = Showing()
    receipt = await scene.rotation(fleet).revoke(old)
    assert receipt.complete
    assert receipt.readiness is None
    assert receipt.to_dict()["readiness"] is None
    assert fleet.distrusted == {old: receipt.reason}


@pytest.mark.parametrize(
    "options",
    [
        {"token_lifetime": timedelta(0)},
        {"token_lifetime": 3600},
        {"quiet_period": timedelta(seconds=-1)},
        {"quiet_period": None},
        {"expected_instances": 0},
        {"expected_instances": True},
        {"expected_instances": 1.5},
    ],
)
async def test_setting_that_can_not_be_one_is_refused(
    scene: Scene, options: dict[str, object]
) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=name):
        scene.rotation(**options)
