"""Who hears of a revocation first, who hears of it at all, and how that is known afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVarTuple

import httpx
import pytest

from jwks_guard import (
    DistrustNotSharedError,
    ForbiddenError,
    ManagementAPIError,
    NotFoundError,
    RateLimitedError,
    RevocationRefusedError,
    TokenVerifier,
    UnavailableError,
)
from jwks_guard.admin import AdminEvent, KeyRotation
from jwks_guard.admin.journal import Intent, Journal
from jwks_guard.admin.refusals import distrust_everywhere
from tests.admin.rotating import (
    SIGNING_KEYS,
    FakeRevocable,
    Scene,
    client_of,
    opened,
    revoke_path,
    verdict,
    who_refuses,
)
from tests.support import JWKS, HandClock

Arguments = TypeVarTuple("Arguments")


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened() as scene:
        yield scene


def time_of(scene: Scene) -> datetime:
    return datetime.fromtimestamp(scene.clock.time(), UTC)


async def unwritable(scene: Scene, folder: Path) -> tuple[TokenVerifier, Path]:
    """A verifier that can't store what it is told, until the path that it comes with is gone."""
    verifier = await scene.verifier(snapshot_path=folder / "keys.json")
    in_the_way = folder / "keys.json.tombstones"
    in_the_way.mkdir()
    return verifier, in_the_way


# --- planned: the tenant first ---


async def test_planned_revocation_tells_verifiers_once_the_tenant_has_acknowledged(
    scene: Scene,
) -> None:
    old, token = scene.used_key()
    verifier = await scene.verifier()
    hold = scene.tenant.faults.hold(path=revoke_path(old))
    revoking = asyncio.create_task(
        scene.rotation(verifier).revoke(old, force=True, reason="retired")
    )
    await hold.arrived.wait()
    assert await verdict(verifier, token) == "accepted"
    hold.release()
    receipt = await revoking
    assert await verdict(verifier, token) == "revoked_key"
    assert scene.steps == [
        *("intended", "forced", "acknowledged", "refused_by", "left_jwks", "finished")
    ]
    assert not receipt.emergency
    assert receipt.complete
    assert not receipt.inferred


async def test_planned_revocation_that_the_tenant_refuses_touches_no_verifier(
    scene: Scene, tmp_path: Path
) -> None:
    old, token = scene.used_key()
    verifier = await scene.verifier()
    scene.tenant.faults.status(403, path=revoke_path(old))
    rotation = scene.rotation(verifier, journal_path=tmp_path / "journal")
    with pytest.raises(ForbiddenError) as raised:
        await rotation.revoke(old, force=True, reason="retired")
    assert raised.value.__notes__ == [
        f"The tenant refused to revoke {old}, so it is still published."
    ]
    assert await verdict(verifier, token) == "accepted"
    assert scene.steps == ["intended", "forced", "failed"]
    scene.tenant.faults.clear()
    assert await rotation.resume() == []


async def test_planned_revocation_without_an_answer_touches_no_verifier(scene: Scene) -> None:
    old, token = scene.used_key()
    verifier = await scene.verifier()
    scene.tenant.faults.status(503, path=revoke_path(old))
    with pytest.raises(UnavailableError) as raised:
        await scene.rotation(verifier).revoke(old, force=True, reason="retired")
    assert f"call `revoke({old!r})` until it is" in raised.value.__notes__[0]
    assert await verdict(verifier, token) == "accepted"
    assert scene.steps == ["intended", "forced", "unanswered"]


@pytest.mark.parametrize("selector", ["current", "next"])
@pytest.mark.parametrize("emergency", [False, True])
async def test_key_that_is_needed_is_revoked_and_distrusted_by_nobody(
    scene: Scene, selector: str, *, emergency: bool
) -> None:
    verifier = await scene.verifier()
    kid = scene.tenant.key(selector).kid
    with pytest.raises(RevocationRefusedError):
        await scene.rotation(verifier).revoke(kid, emergency=emergency)
    assert scene.sent("PUT") == []
    assert not verifier.distrusted
    assert scene.events == []


@pytest.mark.parametrize("emergency", [False, True])
async def test_key_that_the_tenant_never_had_is_not_found(scene: Scene, *, emergency: bool) -> None:
    verifier = await scene.verifier()
    with pytest.raises(NotFoundError):
        await scene.rotation(verifier).revoke("nobody", emergency=emergency)
    assert not verifier.distrusted
    assert scene.events == []


async def test_revoking_again_changes_nothing_and_is_success(scene: Scene) -> None:
    old, _ = scene.used_key()
    rotation = scene.rotation(await scene.verifier())
    first = await rotation.revoke(old, force=True, reason="retired")
    again = await rotation.revoke(old)
    assert first.complete
    assert again.complete
    assert (first.inferred, again.inferred) == (False, True)
    assert scene.sent("PUT") == [revoke_path(old)]


async def test_revocation_whose_answer_is_lost_is_marked_as_inferred(scene: Scene) -> None:
    old, token = scene.used_key()
    verifier = await scene.verifier()
    scene.tenant.faults.reset(path=revoke_path(old))
    receipt = await scene.rotation(verifier).revoke(old, force=True, reason="retired")
    assert receipt.inferred
    assert await verdict(verifier, token) == "revoked_key"


# --- emergency: verifiers first ---


async def test_emergency_tells_verifiers_before_the_tenant_is_asked(scene: Scene) -> None:
    leaked, stolen = scene.used_key()
    verifier = await scene.verifier()
    sent_when_told: list[list[str]] = []

    def listen(event: AdminEvent) -> None:
        if event.step == "refused_by":
            sent_when_told.append(scene.sent("PUT"))

    hold = scene.tenant.faults.hold(path=revoke_path(leaked))
    rotation = scene.rotation(verifier, on_event=listen)
    revoking = asyncio.create_task(rotation.revoke(leaked, emergency=True))
    await hold.arrived.wait()
    assert sent_when_told == [[]]
    assert await verdict(verifier, stolen) == "revoked_key"
    assert await verdict(verifier, scene.tenant.token()) == "accepted"
    hold.release()
    assert (await revoking).complete


@pytest.mark.parametrize(("status", "error"), [(403, ForbiddenError), (400, ManagementAPIError)])
async def test_emergency_that_the_tenant_refuses_for_good_is_loud_and_can_be_lifted(
    scene: Scene,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    status: int,
    error: type[ManagementAPIError],
) -> None:
    leaked, stolen = scene.used_key()
    verifier = await scene.verifier()
    scene.tenant.faults.status(status, path=revoke_path(leaked))
    rotation = scene.rotation(verifier, journal_path=tmp_path / "journal")
    with pytest.raises(error) as raised:
        await rotation.revoke(leaked, emergency=True)
    (note,) = raised.value.__notes__
    assert f"reinstate({leaked!r}" in note
    assert f"revoke({leaked!r}, emergency=True)" in note
    (loud,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "still published" in loud.getMessage()
    assert scene.events[-1].detail.endswith(note)
    assert await verdict(verifier, stolen) == "revoked_key"

    scene.tenant.faults.clear()
    assert await rotation.resume() == []
    assert await verdict(verifier, stolen) == "revoked_key"
    await rotation.reinstate(leaked, reason="a false alarm")
    assert await verdict(verifier, stolen) == "accepted"
    assert scene.steps == ["intended", "refused_by", "failed", "intended", "finished"]
    assert scene.tenant.key(leaked).status == "previous"


@pytest.mark.parametrize(("status", "error"), [(503, UnavailableError), (429, RateLimitedError)])
async def test_emergency_without_an_answer_stays_open_and_is_finished_by_the_next_run(
    scene: Scene, tmp_path: Path, status: int, error: type[ManagementAPIError]
) -> None:
    leaked, stolen = scene.used_key()
    verifier = await scene.verifier()
    scene.tenant.faults.status(status, path=revoke_path(leaked))
    rotation = scene.rotation(verifier, journal_path=tmp_path / "journal")
    with pytest.raises(error) as raised:
        await rotation.revoke(leaked, emergency=True)
    assert "Verifiers refuse the key already" in raised.value.__notes__[0]
    assert f"revoke({leaked!r}, emergency=True)" in raised.value.__notes__[0]
    assert scene.steps == ["intended", "refused_by", "unanswered"]
    assert await verdict(verifier, stolen) == "revoked_key"

    scene.tenant.faults.clear()
    (receipt,) = await rotation.resume()
    assert receipt.complete
    assert receipt.emergency
    assert scene.tenant.key(leaked).status == "revoked"
    assert await rotation.resume() == []


async def test_note_of_an_emergency_names_a_call_that_does_not_rotate_again(scene: Scene) -> None:
    leaked = scene.tenant.key().kid
    scene.tenant.faults.status(503, path=revoke_path(leaked))
    rotation = scene.rotation()  # no journal that would know of the rotation
    with pytest.raises(UnavailableError) as raised:
        await rotation.rotate_and_revoke()
    assert f"`revoke({leaked!r}, emergency=True)`" in raised.value.__notes__[0]
    scene.tenant.faults.clear()
    receipt = await rotation.revoke(leaked, emergency=True)
    assert receipt.complete
    assert len(scene.sent("POST")) == 1


async def test_decision_that_was_lifted_is_not_finished_by_a_later_run(
    scene: Scene, tmp_path: Path
) -> None:
    kid, token = scene.used_key()
    verifier = await scene.verifier()
    scene.tenant.faults.status(503, path=revoke_path(kid))
    rotation = scene.rotation(verifier, journal_path=tmp_path / "journal")
    with pytest.raises(UnavailableError):
        await rotation.revoke(kid, emergency=True)
    scene.tenant.faults.clear()
    await rotation.reinstate(kid, reason="a false alarm")
    await rotation.rotate()
    assert scene.tenant.key(kid).status == "previous"
    assert await verdict(verifier, token) == "accepted"


async def test_lifting_reaches_all_although_one_fails(scene: Scene) -> None:
    kid, _ = scene.used_key()
    broken, last = FakeRevocable(), FakeRevocable()
    rotation = scene.rotation(broken, last)
    await rotation.revoke(kid, force=True, reason="retired")
    broken.failure = RuntimeError("out of order")
    with pytest.raises(RuntimeError, match="out of order"):
        await rotation.reinstate(kid, reason="a false alarm")
    assert last.distrusted == {}
    assert scene.steps[-1] == "failed"


async def test_lifting_that_failed_is_no_decision_to_revoke(scene: Scene, tmp_path: Path) -> None:
    kid, _ = scene.used_key()
    fake = FakeRevocable()
    rotation = scene.rotation(fake, journal_path=tmp_path / "journal")
    await rotation.revoke(kid, force=True, reason="retired")
    fake.failure = DistrustNotSharedError("the disk is full")
    with pytest.raises(DistrustNotSharedError):
        await rotation.reinstate(kid, reason="a false alarm")
    fake.failure = None
    fake.distrusted.clear()
    assert await rotation.resume() == []
    assert fake.distrusted == {}


# --- right after a rotation, which the tenant may not have noticed everywhere ---


async def test_leaked_key_that_still_reads_as_current_is_asked_about_until_it_does_not(
    scene: Scene,
) -> None:
    leaked = scene.tenant.key().kid
    verifier = await scene.verifier()
    before = await listed(scene)

    def lag(event: AdminEvent) -> None:
        if event.step == "refused_by":
            scene.tenant.faults.garbage(
                before, content_type="application/json", path=SIGNING_KEYS, times=3
            )

    receipt = await scene.rotation(verifier, on_event=lag).rotate_and_revoke()
    assert receipt.complete
    assert scene.tenant.key(leaked).status == "revoked"
    assert scene.clock.naps == [0.5, 1.0, 2.0]
    assert len(scene.sent("POST")) == len(scene.sent("PUT")) == 1


@pytest.mark.parametrize("status", [400, 409])
async def test_tenant_that_says_no_to_a_key_just_rotated_out_is_asked_again(
    scene: Scene, status: int
) -> None:
    leaked = scene.tenant.key().kid
    scene.tenant.faults.status(status, path=revoke_path(leaked), times=2)
    assert (await scene.rotation().rotate_and_revoke()).complete
    assert len(scene.sent("PUT")) == 3


async def test_tenant_that_goes_on_saying_no_is_asked_for_half_a_minute(
    scene: Scene, tmp_path: Path
) -> None:
    leaked, stolen = scene.tenant.key().kid, scene.tenant.token()
    verifier = await scene.verifier()
    rotation = scene.rotation(verifier, journal_path=tmp_path / "journal")
    scene.tenant.faults.status(400, path=revoke_path(leaked))
    with pytest.raises(ManagementAPIError):
        await rotation.rotate_and_revoke()
    assert sum(scene.clock.naps) == 30.0
    assert await verdict(verifier, stolen) == "revoked_key"
    assert len(scene.sent("POST")) == 1


async def listed(scene: Scene) -> bytes:
    """The answer of the Management API to whoever lists the keys now."""
    audience = scene.tenant.management_audience
    token = scene.tenant.token(audience=audience, scope="read:signing_keys")
    async with httpx.AsyncClient(base_url=scene.tenant.issuer, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {token}"}
        return (await http.get(SIGNING_KEYS, headers=headers)).content


# --- several verifiers, of which one fails ---


@pytest.mark.parametrize("emergency", [False, True])
async def test_verifier_that_fails_keeps_no_other_from_being_told(
    scene: Scene, tmp_path: Path, *, emergency: bool
) -> None:
    old, token = scene.used_key()
    broken, last = FakeRevocable(failure=RuntimeError("out of order")), FakeRevocable()
    verifier = await scene.verifier()
    rotation = scene.rotation(verifier, broken, last, journal_path=tmp_path / "journal")
    receipt = await rotation.revoke(old, reason="leaked", emergency=emergency, force=not emergency)
    assert await verdict(verifier, token) == "revoked_key"
    assert last.distrusted == {old: "leaked"}
    assert who_refuses(receipt) == [True, False, True]
    assert [each.error for each in receipt.refusals] == [None, "RuntimeError: out of order", None]
    assert [each.who for each in receipt.refusals] == [
        f"{scene.tenant.issuer} #1",
        "https://fake.test/ #2",
        "https://fake.test/ #3",
    ]
    assert receipt.left_jwks_at is not None
    assert not receipt.refused_everywhere
    assert not receipt.complete
    assert receipt.to_dict()["complete"] is False
    assert receipt.to_dict()["refusals"][1] == {
        "who": "https://fake.test/ #2",
        "since": None,
        "error": "RuntimeError: out of order",
    }
    assert "finished" not in scene.steps
    (not_told,) = [event for event in scene.events if event.step == "not_told"]
    assert not_told.result == "failed"

    broken.failure = None
    (again,) = await rotation.resume()
    assert broken.distrusted == {old: "leaked"}
    assert again.complete
    assert scene.steps[-1] == "finished"
    assert await rotation.resume() == []


async def test_decision_that_a_verifier_could_not_store_is_in_force_and_told_again(
    scene: Scene, tmp_path: Path
) -> None:
    old, token = scene.used_key()
    verifier, in_the_way = await unwritable(scene, tmp_path)
    other = FakeRevocable()
    rotation = scene.rotation(verifier, other, journal_path=tmp_path / "journal")
    receipt = await rotation.revoke(old, reason="leaked", force=True)
    assert await verdict(verifier, token) == "revoked_key"
    assert other.distrusted == {old: "leaked"}
    assert who_refuses(receipt) == [True, True]
    unstored, told = receipt.refusals
    assert "can't be used" in (unstored.error or "")
    assert told.error is None
    assert not receipt.refused_everywhere
    assert not receipt.complete
    results = [event.result for event in scene.events if event.step == "refused_by"]
    assert sorted(results) == ["ok", "warning"]
    assert "finished" not in scene.steps

    in_the_way.rmdir()
    (again,) = await rotation.resume()
    assert again.complete
    assert in_the_way.read_text().count(old) >= 1
    assert await rotation.resume() == []


async def test_failed_verifier_does_not_keep_the_tenant_from_revoking(scene: Scene) -> None:
    leaked, _ = scene.used_key()
    broken = FakeRevocable(failure=RuntimeError("out of order"))
    receipt = await scene.rotation(broken).revoke(leaked, emergency=True)
    assert scene.tenant.key(leaked).status == "revoked"
    assert who_refuses(receipt) == [False]


async def test_verifier_that_holds_only_the_revoked_key_refuses_it_too(scene: Scene) -> None:
    verifier = await scene.verifier()
    old, token = scene.tenant.key().kid, scene.tenant.token()
    scene.tenant.remove(scene.tenant.key("next").kid)
    await verifier.keys.refresh()
    assert verifier.keys.kids == (old,)
    scene.tenant.rotate()
    await scene.rotation(verifier).revoke(old, emergency=True)
    assert await verdict(verifier, token) == "revoked_key"


async def test_without_verifiers_the_tenant_alone_is_told(scene: Scene) -> None:
    old, _ = scene.used_key()
    receipt = await scene.rotation().revoke(old, force=True, reason="retired")
    assert receipt.refusals == ()
    assert receipt.complete


class HurriedLoop(asyncio.SelectorEventLoop):
    """Whatever is to happen later happens now."""

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return super().call_at(0, callback, *args, context=context)


class Hanging(FakeRevocable):
    async def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> None:
        await asyncio.Event().wait()


class GivingUp(FakeRevocable):
    async def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> None:
        raise asyncio.CancelledError


INTENT = Intent(
    action="revoke", tenant="https://issuer.test/", actor="ops", kid="old", reason="leaked"
)


def test_verifier_that_hangs_holds_up_no_other_and_not_for_ever(
    clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jwks_guard.admin.refusals.LONGEST_SECONDS", 10.0)
    last = FakeRevocable()
    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        journal = Journal(None, None, clock)
        refusals = runner.run(distrust_everywhere([Hanging(), GivingUp(), last], INTENT, journal))
    assert [each.error for each in refusals] == [
        "it took longer than 10 s",
        "it was cancelled",
        None,
    ]
    assert [each.since is None for each in refusals] == [True, True, False]
    assert last.distrusted == {"old": "leaked"}


async def test_distrusting_everywhere_can_be_cancelled(clock: HandClock) -> None:
    journal = Journal(None, None, clock)
    distrusting = asyncio.create_task(distrust_everywhere([Hanging()], INTENT, journal))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    distrusting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await distrusting


# --- what the receipt says ---


async def test_receipt_says_since_when_who_knows(scene: Scene) -> None:
    old, _ = scene.used_key()
    began = time_of(scene)
    rotation = scene.rotation(await scene.verifier(), token_lifetime=timedelta(hours=1))
    scene.tenant.faults.rollback(0, times=2)
    receipt = await rotation.revoke(old, force=True, reason="retired")
    assert receipt.acknowledged_at == began
    assert [each.since for each in receipt.refusals] == [began]
    assert receipt.left_jwks_at == time_of(scene) > began
    assert receipt.tokens_expire_by == began + timedelta(hours=1)
    assert receipt.to_dict() == {
        "kid": old,
        "reason": "retired",
        "emergency": False,
        "complete": True,
        "acknowledged_at": began.isoformat(),
        "inferred": False,
        "left_jwks_at": time_of(scene).isoformat(),
        "refusals": [{"who": scene.tenant.issuer, "since": began.isoformat(), "error": None}],
        "rotation": None,
        "tokens_expire_by": (began + timedelta(hours=1)).isoformat(),
        "warnings": list(receipt.warnings),
        "readiness": receipt.readiness.to_dict() if receipt.readiness else None,
        "consequences": receipt.consequences,
    }


@pytest.mark.parametrize(("spent", "warned"), [(3599.0, True), (3600.0, False)])
async def test_planned_revocation_warns_of_tokens_that_are_still_valid(
    scene: Scene, spent: float, *, warned: bool
) -> None:
    old, _ = scene.used_key()
    expire = time_of(scene) + timedelta(hours=1)
    scene.clock.advance(spent)
    receipt = await scene.rotation(token_lifetime=timedelta(hours=1)).revoke(
        old, force=True, reason="retired"
    )
    assert receipt.complete
    assert ("warned" in scene.steps) is warned
    assert [f"{expire:%Y-%m-%d %H:%M:%S} UTC" in warning for warning in receipt.warnings] == (
        [True] if warned else []
    )


async def test_emergency_warns_of_nothing_that_it_is_meant_to_do(scene: Scene) -> None:
    leaked, _ = scene.used_key()
    rotation = scene.rotation(token_lifetime=timedelta(hours=1))
    receipt = await rotation.revoke(leaked, emergency=True)
    assert receipt.warnings == ()
    assert "warned" not in scene.steps


# --- until the key has left the JWK Set ---


async def test_key_that_a_cache_still_serves_is_looked_for_past_caches_until_it_is_gone(
    scene: Scene,
) -> None:
    old, _ = scene.used_key()
    asked: list[httpx.Request] = []
    scene.tenant.faults.rollback(0, times=4)

    async def note(request: httpx.Request) -> None:
        if request.url.path == JWKS:
            asked.append(request)

    began = time_of(scene)
    async with httpx.AsyncClient(event_hooks={"request": [note]}, trust_env=False) as http:
        receipt = await KeyRotation(client_of(scene.tenant, scene.clock, http_client=http)).revoke(
            old, force=True, reason="retired"
        )
    assert len(asked) == 5
    assert {request.headers["Cache-Control"] for request in asked} == {"no-cache"}
    assert scene.clock.naps == [0.5, 1.0, 2.0, 4.0]
    assert receipt.left_jwks_at == began + timedelta(seconds=7.5)
    assert receipt.acknowledged_at == began
    assert receipt.complete


async def test_key_that_stays_in_the_set_is_told_of_once_the_bound_is_reached(
    scene: Scene, tmp_path: Path
) -> None:
    old, token = scene.used_key()
    verifier = await scene.verifier()
    scene.tenant.faults.rollback(0)
    rotation = scene.rotation(verifier, confirm_within=30.0, journal_path=tmp_path / "journal")
    receipt = await rotation.revoke(old, force=True, reason="retired")
    assert sum(scene.clock.naps) == 30.0
    assert receipt.left_jwks_at is None
    assert receipt.refused_everywhere
    assert not receipt.complete
    assert receipt.to_dict()["left_jwks_at"] is None
    (still,) = [event for event in scene.events if event.step == "still_in_jwks"]
    assert still.result == "warning"
    assert still.detail == "the key set still lists the key"
    assert await verdict(verifier, token) == "revoked_key"
    assert await rotation.resume() == []


async def test_set_that_can_not_be_read_does_not_count_as_one_without_the_key(
    scene: Scene,
) -> None:
    old, _ = scene.used_key()
    scene.tenant.faults.status(503)
    receipt = await scene.rotation(confirm_within=10.0).revoke(old, force=True, reason="retired")
    assert receipt.left_jwks_at is None
    (still,) = [event for event in scene.events if event.step == "still_in_jwks"]
    assert "can't be read" in still.detail


@pytest.mark.parametrize("fault", ["empty", "garbage", "truncated", "reset"])
async def test_answer_that_is_no_set_of_keys_does_not_count_either(
    scene: Scene, fault: str
) -> None:
    old, _ = scene.used_key()
    getattr(scene.tenant.faults, fault)(times=2)
    receipt = await scene.rotation().revoke(old, force=True, reason="retired")
    assert scene.clock.naps == [0.5, 1.0]
    assert receipt.complete


async def test_keys_are_looked_for_where_they_are_published(scene: Scene) -> None:
    old, _ = scene.used_key()
    async with opened() as other:
        other.tenant.publish(scene.tenant.key(old))
        rotation = scene.rotation(jwks_uri=other.tenant.jwks_uri, confirm_within=5.0)
        assert (await rotation.revoke(old, force=True, reason="retired")).left_jwks_at is None
        other.tenant.remove(old)
        assert (await rotation.revoke(old)).left_jwks_at is not None


async def test_emergency_refuses_tokens_while_the_set_is_still_looked_at(scene: Scene) -> None:
    leaked, stolen = scene.used_key()
    verifier = await scene.verifier()
    hold = scene.tenant.faults.hold()
    revoking = asyncio.create_task(scene.rotation(verifier).revoke(leaked, emergency=True))
    await hold.arrived.wait()
    assert await verdict(verifier, stolen) == "revoked_key"
    hold.release()
    assert (await revoking).complete
