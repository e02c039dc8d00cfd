"""Several operations at once, in one process and in two with one journal: none is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from jwks_guard import RotationRefusedError
from jwks_guard.admin import Incident, KeyRotation, under_way
from jwks_guard.admin.incident_report import IncidentReport
from tests.admin.rotating import (
    ROTATE,
    FakeRevocable,
    Scene,
    client_of,
    opened,
    revoke_path,
)
from tests.support import PATIENCE


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened() as scene:
        yield scene


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def fleet(scene: Scene) -> FakeRevocable:
    return FakeRevocable([scene.tenant.key("next").kid])


@pytest.fixture
async def another(scene: Scene, fleet: FakeRevocable, journal: Path) -> AsyncIterator[KeyRotation]:
    """What another process with the same journal has: an open file of its own."""
    async with client_of(scene.tenant, scene.clock) as keys:
        yield KeyRotation(keys, fleet, journal_path=journal, on_event=scene.events.append)


async def eventually(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - it is a server's thread
            await asyncio.sleep(0.01)


def rotations(scene: Scene) -> int:
    return scene.sent("POST").count(ROTATE)


async def test_leaked_key_that_two_people_rotate_out_at_once_is_rotated_out_once(
    scene: Scene, fleet: FakeRevocable
) -> None:
    leaked, following = scene.tenant.key().kid, scene.tenant.key("next").kid
    rotation = scene.rotation(fleet)
    receipts = await asyncio.gather(
        *(rotation.acting_as(who).rotate_and_revoke(leaked) for who in ("ada", "bob", "eve"))
    )
    assert rotations(scene) == 1
    assert scene.tenant.key().kid == following
    assert [receipt.rotation is None for receipt in receipts].count(False) == 1
    assert all(receipt.complete for receipt in receipts)


async def test_emergency_and_planned_rotation_at_once_rotate_once(
    scene: Scene, fleet: FakeRevocable
) -> None:
    leaked, following = scene.tenant.key().kid, scene.tenant.key("next").kid
    rotation = scene.rotation(fleet)
    planned, receipt = await asyncio.gather(
        rotation.rotate(current=leaked), rotation.rotate_and_revoke(leaked), return_exceptions=True
    )
    assert rotations(scene) == 1
    assert scene.tenant.key().kid == following
    assert not isinstance(planned, BaseException)
    assert not isinstance(receipt, BaseException)
    assert receipt.complete


async def test_two_incidents_and_an_emergency_of_one_key_rotate_once(
    scene: Scene, fleet: FakeRevocable
) -> None:
    leaked, following = scene.tenant.key().kid, scene.tenant.key("next").kid
    rotation = scene.rotation(fleet)

    async def carried_out(incident: Incident) -> IncidentReport:
        async for _ in incident.run():
            pass
        return incident.report

    incidents = [Incident(leaked, rotation, reason="leaked") for _ in range(2)]
    calls = map(carried_out, incidents)
    *reports, _ = await asyncio.gather(*calls, rotation.rotate_and_revoke(leaked))
    assert rotations(scene) == 1
    assert scene.tenant.key().kid == following
    assert all(isinstance(each, IncidentReport) and each.complete for each in reports)


@pytest.mark.parametrize("emergency", [False, True])
async def test_two_processes_with_one_journal_rotate_once(
    scene: Scene, fleet: FakeRevocable, journal: Path, another: KeyRotation, emergency: bool
) -> None:
    kid, following = scene.tenant.key().kid, scene.tenant.key("next").kid
    one = scene.rotation(fleet, journal_path=journal)
    calls = [
        each.rotate_and_revoke(kid) if emergency else each.rotate(current=kid)
        for each in (one, another)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert rotations(scene) == 1
    assert scene.tenant.key().kid == following
    refused = [each for each in results if isinstance(each, BaseException)]
    assert len(refused) == (0 if emergency else 1)
    for each in refused:
        assert isinstance(each, RotationRefusedError)
        assert "The keys have changed meanwhile" in str(each)


async def test_rotation_that_another_process_does_not_end_is_refused_with_the_next_step(
    scene: Scene,
    fleet: FakeRevocable,
    journal: Path,
    another: KeyRotation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaked = scene.tenant.key().kid
    hold = scene.tenant.faults.hold(path=ROTATE)
    first = asyncio.create_task(another.rotate(current=leaked))
    await eventually(lambda: rotations(scene))
    monkeypatch.setattr(under_way, "ROTATION_SECONDS", 0.1)
    with pytest.raises(RotationRefusedError, match="Another rotation is under way") as refused:
        await scene.rotation(fleet, journal_path=journal).rotate_and_revoke(leaked)
    assert "No verifier refuses the key yet" in "".join(refused.value.__notes__)
    hold.release()
    assert (await first).previous.kid == leaked
    assert rotations(scene) == 1


async def test_revocation_that_another_process_carries_out_is_left_to_it(
    scene: Scene, fleet: FakeRevocable, journal: Path, another: KeyRotation
) -> None:
    old, _ = scene.used_key()
    fleet.kids = {scene.tenant.key("next").kid}
    hold = scene.tenant.faults.hold(path=revoke_path(old))
    first = asyncio.create_task(another.revoke(old, reason="odd", force=True))
    await eventually(lambda: scene.sent("PUT"))
    await scene.rotation(fleet, journal_path=journal).rotate()
    assert "acknowledged" not in scene.steps
    hold.release()
    assert (await first).complete
    assert scene.steps.count("acknowledged") == 1


async def test_emergency_of_the_same_process_is_not_taken_for_one_that_a_crash_cut_off(
    scene: Scene, fleet: FakeRevocable, journal: Path
) -> None:
    leaked = scene.tenant.key().kid
    rotation = scene.rotation(fleet, journal_path=journal)
    hold = scene.tenant.faults.hold(path=ROTATE)
    first = asyncio.create_task(rotation.rotate_and_revoke(leaked))
    await eventually(lambda: rotations(scene))
    assert await rotation.resume() == []
    assert "unanswered" not in scene.steps
    hold.release()
    assert (await first).complete


async def test_what_a_process_that_ended_left_is_still_finished(
    scene: Scene, fleet: FakeRevocable, journal: Path, another: KeyRotation
) -> None:
    old, _ = scene.used_key()
    hold = scene.tenant.faults.hold(path=revoke_path(old))
    first = asyncio.create_task(another.revoke(old, emergency=True))
    await eventually(lambda: scene.sent("PUT"))
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    hold.release()
    (receipt,) = await scene.rotation(fleet, journal_path=journal).resume()
    assert (receipt.kid, receipt.complete) == (old, True)


async def test_folder_that_takes_no_lock_stops_no_emergency(
    scene: Scene, fleet: FakeRevocable, journal: Path
) -> None:
    leaked = scene.tenant.key().kid
    for kind in ("running", "rotating"):
        journal.with_name(f"{journal.name}.{kind}").mkdir()
    receipt = await scene.rotation(fleet, journal_path=journal).rotate_and_revoke(leaked)
    assert receipt.complete
