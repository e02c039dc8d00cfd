"""The first five minutes of a leak: what comes in which order, and what a failure keeps from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from jwks_guard import ConfigurationError, DistrustNotSharedError
from jwks_guard.admin import Incident, KeyRotation, Refusal
from jwks_guard.admin.incident_report import IncidentReport
from jwks_guard.readiness.clients import ClientUsage
from jwks_guard.readiness.state import InstanceState, Observed
from tests.admin.rotating import (
    ROTATE,
    SIGNING_KEYS,
    FakeRevocable,
    Scene,
    opened,
    revoke_path,
    verdict,
)
from tests.support import HandClock


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened() as scene:
        yield scene


async def ended(incident: Incident) -> IncidentReport:
    """Run it to its end; each step is told when it begins and when it ends."""
    told = [step async for step in incident.run()]
    assert [step.result == "running" for step in told] == [True, False] * (len(told) // 2)
    for begun, over in zip(told[::2], told[1::2], strict=True):
        assert (begun.name, begun.began, begun.ended) == (over.name, over.began, None)
        assert over.ended is not None
        assert over.ended >= over.began
        assert over.detail
    assert incident.report.steps == tuple(told[1::2])
    return incident.report


def results(report: IncidentReport) -> dict[str, str]:
    return {step.name: step.result for step in report.steps}


ALL = ["blast radius", "tenant", "rotate", "refuse", "acknowledge", "revoke", "key set"]


async def test_current_key_is_rotated_then_refused_everywhere_then_revoked(scene: Scene) -> None:
    one, two = await scene.verifier(), await scene.verifier()
    kid, token = scene.tenant.key().kid, scene.tenant.token()
    for verifier in (one, two):
        assert await verdict(verifier, token) == "accepted"
    report = await ended(Incident(kid, scene.rotation(one, two), reason="found in a log"))
    assert results(report) == dict.fromkeys(ALL, "ok")
    assert (report.complete, report.nothing_done) == (True, False)
    assert scene.tenant.key("revoked").kid == kid
    assert scene.sent("POST") == [ROTATE]
    for verifier in (one, two):
        assert await verdict(verifier, token) == "revoked_key"
        assert await verdict(verifier, scene.tenant.token()) == "accepted"
    assert scene.steps == [
        *("intended", "blast_radius", "warned", "rotated", "refused_by", "refused_by"),
        *("acknowledged", "left_jwks", "finished"),
    ]
    assert {event.intent.kid for event in scene.events} == {kid}
    assert {event.intent.reason for event in scene.events} == {"found in a log"}


async def test_previous_key_is_refused_before_the_tenant_is_told_and_nothing_is_rotated(
    scene: Scene,
) -> None:
    verifier = await scene.verifier()
    kid, token = scene.used_key()
    current = scene.tenant.key().kid
    report = await ended(Incident(kid, scene.rotation(verifier)))
    assert [step.name for step in report.steps] == [name for name in ALL if name != "rotate"]
    assert report.complete
    assert scene.steps.index("refused_by") < scene.steps.index("acknowledged")
    assert (scene.tenant.key().kid, scene.tenant.key("revoked").kid) == (current, kid)
    assert await verdict(verifier, token) == "revoked_key"


async def test_run_again_it_rotates_nothing_and_completes(scene: Scene) -> None:
    verifier = await scene.verifier()
    kid = scene.tenant.key().kid
    await ended(Incident(kid, scene.rotation(verifier)))
    current = scene.tenant.key().kid
    report = await ended(Incident(kid, scene.rotation(verifier)))
    assert report.complete
    assert scene.tenant.key().kid == current
    assert scene.sent("POST") == [ROTATE]
    (revoked,) = [step for step in report.steps if step.name == "revoke"]
    assert revoked.detail == "The tenant has revoked it already."


async def test_blast_radius_is_what_was_accepted_before_the_key_was_refused(scene: Scene) -> None:
    verifier = await scene.verifier()
    kid = scene.tenant.key().kid
    for claims, times in (({"azp": "shop", "org_id": "org_1"}, 3), ({"azp": "app"}, 1)):
        token = scene.tenant.token(claims=claims)
        for _ in range(times):
            await verifier.verify(token)
    report = await ended(Incident(kid, scene.rotation(verifier)))
    assert report.radius is not None
    assert report.radius.clients == (ClientUsage("shop", "org_1", 3), ClientUsage("app", None, 1))
    assert (report.radius.tokens, report.radius.instances) == (4, 1)
    assert report.radius.latest_expiry == scene.clock.time() - 0.0 + 86_400 - passed(report)
    (told,) = [event for event in scene.events if event.step == "blast_radius"]
    assert told.detail.startswith("4 tokens of 2 clients accepted in the last hour")


def passed(report: IncidentReport) -> float:
    """Seconds that the clock was turned by since the tokens were made."""
    return report.steps[-1].ended or 0.0


async def test_without_the_management_api_the_key_is_refused_and_that_is_all(scene: Scene) -> None:
    verifier = await scene.verifier()
    kid, token = scene.tenant.key().kid, scene.tenant.token()
    incident = Incident(kid, verifier, actor="ops", on_event=scene.events.append, clock=scene.clock)
    report = await ended(incident)
    assert results(report) == dict.fromkeys(("blast radius", "refuse", "acknowledge"), "ok")
    assert report.complete
    assert await verdict(verifier, token) == "revoked_key"
    assert scene.tenant.key().kid == kid
    assert scene.steps == ["intended", "blast_radius", "refused_by", "finished"]
    assert {event.intent.actor for event in scene.events} == {"ops"}
    assert scene.sent("POST") == []


# --- failures ---


async def test_fleet_out_of_reach_does_not_keep_the_tenant_from_rotating_and_revoking(
    scene: Scene,
) -> None:
    failure = DistrustNotSharedError("Redis can't be reached.")
    failure.here = False
    fleet = FakeRevocable(failure=failure)

    async def observe(kid: str) -> None:
        raise failure

    fleet.observe = observe  # type: ignore[assignment,method-assign]
    kid = scene.tenant.key().kid
    report = await ended(Incident(kid, scene.rotation(fleet)))
    assert results(report) == {
        **dict.fromkeys(ALL, "ok"),
        "blast radius": "warning",
        "refuse": "failed",
        "acknowledge": "failed",
    }
    assert not report.complete
    assert scene.tenant.key("revoked").kid == kid
    assert "Redis can't be reached." in " ".join(step.detail for step in report.steps)
    assert "finished" not in scene.steps, "the next operation finishes it"


class Slow(FakeRevocable):
    """One instance, which says that it refuses the key at the `looks`-th look only."""

    def __init__(self, clock: HandClock, looks: int) -> None:
        super().__init__()
        self.clock = clock
        self.left = looks

    async def distrust(  # type: ignore[override]  # as a fleet does
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> list[Refusal]:
        return [Refusal("web-1 (00000000)", None, "it has not acknowledged the decision")]

    async def observe(self, kid: str) -> Observed:
        self.left -= 1
        now = self.clock.time()
        state = InstanceState(
            instance="0" * 32,
            host="web-1",
            issuer=self.issuer,
            started_at=now,
            reported_at=now,
            status="ok",
            confirmed_at=now,
            trusted_until=now,
            kids=(),
            refused={kid: now} if self.left <= 0 else {},
        )
        return Observed((state,))


@pytest.mark.parametrize(("looks", "result"), [(5, "ok"), (1_000, "warning")])
async def test_instance_that_acknowledges_late_is_waited_for_and_not_for_ever(
    scene: Scene, looks: int, result: str
) -> None:
    kid, _ = scene.used_key()
    fleet = Slow(scene.clock, looks)
    report = await ended(Incident(kid, scene.rotation(fleet), acknowledge_within=5.0))
    assert (results(report)["refuse"], results(report)["acknowledge"]) == ("failed", result)
    assert report.complete is (result == "ok")
    (refusal,) = report.refusals
    assert (refusal.since is not None) is (result == "ok")
    assert (report.steps[-3].ended or 0.0) < 7.0


async def test_refusal_that_an_instance_showed_before_the_decision_acknowledges_nothing(
    scene: Scene,
) -> None:
    class Frozen(Slow):
        async def observe(self, kid: str) -> Observed:
            (state,) = (await super().observe(kid)).states
            return Observed((replace(state, reported_at=shown_at, refused={kid: shown_at}),))

    kid, _ = scene.used_key()
    shown_at = scene.clock.time()  # then the decision was lifted, and this instance stood still
    fleet = Frozen(scene.clock, looks=1)
    report = await ended(Incident(kid, scene.rotation(fleet)))
    assert (results(report)["acknowledge"], report.complete) == ("warning", False)
    assert [each.since for each in report.refusals] == [None]


@pytest.mark.parametrize("slow", [0, 1])
async def test_instance_that_verifies_for_two_issuers_acknowledges_once_it_refuses_for_both(
    scene: Scene, slow: int
) -> None:
    """As with a custom domain: one process, and a fleet for each of its issuers."""

    class Domain(Slow):
        async def observe(self, kid: str) -> Observed:
            (state,) = (await super().observe(kid)).states
            return Observed((replace(state, issuer=self.issuer),))

    kid, _ = scene.used_key()
    fleets = [Domain(scene.clock, looks=1) for _ in range(2)]
    fleets[1].issuer = "https://login.fake.test/"
    fleets[slow].left = 1_000
    report = await ended(Incident(kid, scene.rotation(*fleets)))
    assert (results(report)["acknowledge"], report.complete) == ("warning", False)
    assert [each.since for each in report.refusals] == [None, None]
    fleets[slow].left = 1
    assert (await ended(Incident(kid, scene.rotation(*fleets)))).complete


async def test_member_that_fails_keeps_no_other_from_refusing(scene: Scene) -> None:
    verifier, failing = await scene.verifier(), FakeRevocable(failure=RuntimeError("broken"))
    kid, token = scene.used_key()
    report = await ended(Incident(kid, scene.rotation(verifier, failing), acknowledge_within=1.0))
    assert await verdict(verifier, token) == "revoked_key"
    assert results(report)["refuse"] == "ok"
    assert results(report)["revoke"] == "ok"


async def test_step_that_fails_in_a_way_nobody_thought_of_keeps_no_other_from_its_part(
    scene: Scene,
) -> None:
    verifier, failing = await scene.verifier(), FakeRevocable()

    async def observe(kid: str) -> Observed:
        raise ValueError("Exceeds the limit for integer string conversion")

    failing.observe = observe  # type: ignore[method-assign]
    kid, token = scene.used_key()
    report = await ended(Incident(kid, scene.rotation(verifier, failing)))
    assert results(report)["blast radius"] == "failed"
    assert report.steps[0].detail == "ValueError, which was not expected; see the log."
    assert await verdict(verifier, token) == "revoked_key"
    assert scene.tenant.key("revoked").kid == kid


@pytest.mark.parametrize("path", ["rotate", "revoke"])
async def test_change_whose_answer_is_lost_is_not_said_to_be_nothing(
    scene: Scene, path: str
) -> None:
    kid = scene.tenant.key().kid if path == "rotate" else scene.used_key()[0]
    asked = ROTATE if path == "rotate" else revoke_path(kid)
    hanging = scene.tenant.faults.hold(path=asked)
    incident = Incident(kid, scene.rotation())
    task = asyncio.create_task(ended(incident))
    await hanging.arrived.wait(60)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    hanging.release()
    assert incident.report.nothing_done is False
    assert incident.report.uncertain is True


async def test_rotation_that_may_have_been_made_is_not_said_to_be_nothing(scene: Scene) -> None:
    kid = scene.tenant.key().kid
    scene.tenant.faults.status(502, path=ROTATE)
    report = await ended(Incident(kid, scene.rotation()))
    assert results(report)["rotate"] == "failed"
    assert report.nothing_done is False


async def test_key_that_somebody_else_rotates_at_that_moment_is_not_rotated_twice(
    scene: Scene,
) -> None:
    verifier = await scene.verifier()
    kid, token = scene.tenant.key().kid, scene.tenant.token()
    incident = Incident(kid, scene.rotation(verifier))
    async for step in incident.run():
        if step.name == "tenant" and step.ended is not None:
            scene.tenant.rotate()
    assert scene.sent("POST") == []
    assert incident.report.complete
    assert await verdict(verifier, token) == "revoked_key"
    assert scene.tenant.key("revoked").kid == kid


async def test_member_that_failed_and_shows_nothing_stays_in_the_report(scene: Scene) -> None:
    verifier, failing = await scene.verifier(), FakeRevocable(failure=RuntimeError("broken"))
    kid, _ = scene.used_key()
    report = await ended(Incident(kid, scene.rotation(verifier, failing), acknowledge_within=1.0))
    assert (results(report)["acknowledge"], report.complete) == ("warning", False)
    assert [each.error for each in report.refusals] == [None, "RuntimeError: broken"]


async def test_instance_that_shows_itself_no_more_stays_in_the_report(scene: Scene) -> None:
    class Vanishing(Slow):
        async def observe(self, kid: str) -> Observed:
            (state,) = (await super().observe(kid)).states
            return Observed((replace(state, instance="1" * 32, refused={kid: state.reported_at}),))

    kid, _ = scene.used_key()
    fleet = Vanishing(scene.clock, looks=1)
    report = await ended(Incident(kid, scene.rotation(fleet), acknowledge_within=1.0))
    assert (results(report)["acknowledge"], report.complete) == ("warning", False)
    assert [each.who for each in report.refusals if each.since is None] == ["web-1 (00000000)"]


async def test_decision_that_could_not_be_stored_stays_in_the_report(
    scene: Scene, tmp_path: Path
) -> None:
    verifier = await scene.verifier(snapshot_path=tmp_path / "keys.json")
    kid, _ = scene.used_key()
    await verifier.keys.refresh()
    (journal,) = verifier.keys.register.journals
    Path(journal.path).unlink(missing_ok=True)  # noqa: ASYNC240
    Path(journal.path).mkdir()  # noqa: ASYNC240
    report = await ended(Incident(kid, scene.rotation(verifier), acknowledge_within=1.0))
    assert results(report)["acknowledge"] == "warning"
    assert not report.complete


async def test_rotation_that_fails_leaves_the_current_key_accepted_and_says_so(
    scene: Scene,
) -> None:
    verifier = await scene.verifier()
    kid, token = scene.tenant.key().kid, scene.tenant.token()
    scene.tenant.faults.status(403, path=ROTATE)
    report = await ended(Incident(kid, scene.rotation(verifier)))
    assert results(report) == {
        **dict.fromkeys(ALL, "failed"),
        "blast radius": "ok",
        "tenant": "ok",
        "key set": "skipped",
    }
    assert (report.complete, report.nothing_done) == (False, True)
    assert await verdict(verifier, token) == "accepted"
    (refuse,) = [step for step in report.steps if step.name == "refuse"]
    assert "refuse every valid token" in refuse.detail
    assert "not_refused" in scene.steps


async def test_refuse_first_refuses_the_current_key_although_it_can_not_be_rotated(
    scene: Scene,
) -> None:
    verifier = await scene.verifier()
    kid, token = scene.tenant.key().kid, scene.tenant.token()
    scene.tenant.faults.status(403, path=ROTATE)
    report = await ended(Incident(kid, scene.rotation(verifier), refuse_first=True))
    assert [step.name for step in report.steps][:4] == [
        *("blast radius", "refuse", "acknowledge", "tenant"),
    ]
    assert (results(report)["refuse"], results(report)["revoke"]) == ("ok", "failed")
    assert await verdict(verifier, token) == "revoked_key"
    scene.tenant.faults.clear()
    report = await ended(Incident(kid, scene.rotation(verifier)))
    assert report.complete, "run again, it does what is left"


@pytest.mark.parametrize("refuse_first", [False, True])
async def test_tenant_that_does_not_answer_leaves_it_to_the_operator_what_is_refused(
    scene: Scene, refuse_first: bool
) -> None:
    verifier = await scene.verifier()
    kid, token = scene.used_key()
    await verifier.verify(token)
    scene.tenant.faults.status(503, path=SIGNING_KEYS)
    scene.tenant.faults.status(503, path=f"{SIGNING_KEYS}/{kid}")
    report = await ended(Incident(kid, scene.rotation(verifier), refuse_first=refuse_first))
    refused = "ok" if refuse_first else "failed"
    assert (results(report)["tenant"], results(report)["refuse"]) == ("failed", refused)
    assert (results(report)["revoke"], results(report)["key set"]) == ("failed", "skipped")
    assert await verdict(verifier, token) == ("revoked_key" if refuse_first else "accepted")
    assert report.nothing_done is not refuse_first


async def test_next_key_is_refused_and_it_is_said_how_to_get_rid_of_it(scene: Scene) -> None:
    verifier = await scene.verifier()
    kid, token = scene.tenant.key("next").kid, scene.tenant.token(key="next")
    assert await verdict(verifier, token) == "accepted", "whoever has it can sign already"
    report = await ended(Incident(kid, scene.rotation(verifier)))
    assert await verdict(verifier, token) == "revoked_key"
    assert await verdict(verifier, scene.tenant.token()) == "accepted"
    assert (results(report)["refuse"], results(report)["revoke"]) == ("ok", "failed")
    assert "rotate once more" in report.steps[-2].detail
    assert scene.sent("POST") == []


async def test_key_that_the_tenant_does_not_know_is_refused_all_the_same(scene: Scene) -> None:
    verifier = await scene.verifier()
    report = await ended(Incident("never-published", scene.rotation(verifier)))
    assert "never-published" in verifier.distrusted
    assert (results(report)["tenant"], results(report)["revoke"]) == ("warning", "failed")
    assert not report.complete


async def test_key_set_that_goes_on_listing_the_key_is_told(scene: Scene) -> None:
    verifier = await scene.verifier()
    kid, _ = scene.used_key()
    scene.tenant.faults.rollback()
    report = await ended(Incident(kid, scene.rotation(verifier, confirm_within=3.0)))
    assert results(report)["key set"] == "warning"
    assert not report.complete


async def test_interrupted_it_tells_how_far_it_came_and_the_next_run_completes_it(
    scene: Scene, tmp_path: Path
) -> None:
    verifier = await scene.verifier()
    kid, token = scene.tenant.key().kid, scene.tenant.token()
    journal = tmp_path / "journal.jsonl"
    incident = Incident(kid, scene.rotation(verifier, journal_path=journal))
    asked = asyncio.Event()

    async def follow() -> None:
        async for step in incident.run():
            if (step.name, step.result) == ("revoke", "running"):
                asked.set()

    hanging = scene.tenant.faults.hold(path=revoke_path(kid))
    task = asyncio.create_task(follow())
    await asked.wait()
    await hanging.arrived.wait(60)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    hanging.release()
    scene.tenant.faults.clear()
    assert incident.report.steps[-1].result == "failed"
    assert incident.report.steps[-1].detail == "It was interrupted."
    assert await verdict(verifier, token) == "revoked_key"
    current = scene.tenant.key().kid
    report = await ended(Incident(kid, scene.rotation(verifier, journal_path=journal)))
    assert report.complete
    assert scene.tenant.key().kid == current, "not rotated twice"


async def test_refusal_that_was_cut_off_is_nothing_that_a_later_operation_resumes(
    scene: Scene, tmp_path: Path
) -> None:
    journal, verifier = tmp_path / "journal.jsonl", await scene.verifier()
    incident = Incident(scene.tenant.key().kid, verifier, journal_path=journal, clock=scene.clock)
    async for step in incident.run():
        if step.name == "refuse":
            break
    assert b'"distrust"' in journal.read_bytes()
    rotation = scene.rotation(verifier, journal_path=journal)
    assert await rotation.resume() == []
    assert scene.sent("PUT") == scene.sent("POST") == []


async def test_key_that_is_refused_meanwhile_is_still_to_be_revoked(
    scene: Scene, tmp_path: Path
) -> None:
    journal, verifier = tmp_path / "journal.jsonl", await scene.verifier()
    kid, _ = scene.used_key()
    rotation = scene.rotation(verifier, journal_path=journal)
    scene.tenant.faults.status(503, path=revoke_path(kid))
    report = await ended(Incident(kid, rotation))
    assert results(report)["revoke"] == "failed"
    refused = Incident(kid, verifier, journal_path=journal, clock=scene.clock)
    assert (await ended(refused)).complete
    scene.tenant.faults.clear()
    (receipt,) = await rotation.resume()
    assert receipt.complete
    assert scene.tenant.key("revoked").kid == kid


async def test_without_a_fleet_the_tenant_rotates_and_revokes_and_nobody_is_told_to_refuse(
    scene: Scene,
) -> None:
    kid = scene.tenant.key().kid
    report = await ended(Incident(kid, scene.rotation()))
    skipped = ("blast radius", "refuse", "acknowledge")
    assert results(report) == {**dict.fromkeys(ALL, "ok"), **dict.fromkeys(skipped, "skipped")}
    assert (report.complete, report.refusals) == (True, ())
    assert scene.tenant.key("revoked").kid == kid


# --- the report, the arguments ---


async def test_report_is_a_json_document_and_names_who_did_it_and_why(scene: Scene) -> None:
    verifier = await scene.verifier()
    kid = scene.tenant.key().kid
    report = await ended(
        Incident(kid, scene.rotation(verifier), actor="ada@ops", reason="in a repository")
    )
    assert {event.intent.actor for event in scene.events} == {"ada@ops"}
    told = json.loads(json.dumps(report.to_dict()))
    assert (told["kid"], told["actor"], told["reason"]) == (kid, "ada@ops", "in a repository")
    assert [step["name"] for step in told["steps"]] == ALL
    assert told["complete"] is True
    assert told["refusals"][0]["since"]


@pytest.mark.parametrize(
    "make",
    [
        lambda rotation: Incident("", rotation),
        lambda rotation: Incident("k", rotation, reason=""),
        lambda rotation: Incident("k", rotation, acknowledge_within=0),
        lambda rotation: Incident("k", rotation, actor=""),
        lambda rotation: Incident("k", rotation, journal_path="two journals"),
        lambda _: Incident("k", ()),
        lambda _: Incident("k", object()),  # type: ignore[arg-type]
    ],
)
async def test_arguments_that_can_not_be_used_are_refused(
    scene: Scene, make: Callable[[KeyRotation], Incident]
) -> None:
    with pytest.raises(ConfigurationError):
        make(scene.rotation())
