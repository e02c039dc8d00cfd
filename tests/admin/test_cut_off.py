"""Whatever is cut off, wherever, is finished or left alone by the next run: never half done."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from jwks_guard import RotationRefusedError, RotationUncertainError, TokenVerifier
from jwks_guard.admin import KeyRotation
from tests.admin.dying import FAILED
from tests.admin.rotating import ROTATE, Scene, opened, verdict
from tests.process.programs import program

DAY = 86_400.0


@dataclass(slots=True)
class Doomed:
    """The other process: what it begins, it does not end."""

    process: subprocess.Popen[str]
    scene: Scene
    folder: Path
    places: list[str] = field(default_factory=list)

    def run(self, operation: str, journal: Path, *, kid: str = "", at: int | str) -> str | None:
        """Where it was killed; None when it came to its end."""
        tenant = self.scene.tenant
        order = {
            "operation": operation,
            "kid": kid,
            "at": at,
            "issuer": tenant.issuer,
            "client_id": tenant.client_id,
            "client_secret": tenant.client_secret,
            "kids": [tenant.key().kid, tenant.key("next").kid],
            "journal": str(journal),
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        place: str | None = json.loads(self.process.stdout.readline())
        assert place != FAILED
        return place

    def journals(self) -> Iterator[tuple[int, Path]]:
        """The places by number, each with a journal of its own, on a day of its own."""
        for at in count():
            self.scene.clock.advance(DAY)  # a tenant rotates only so often a day
            self.scene.tenant.requests.clear()
            yield at, self.folder / f"journal {at}"

    def was_killed(self, place: str | None) -> bool:
        if place is not None:
            self.places.append(place)
        return place is not None


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened() as scene:
        yield scene


@pytest.fixture
def doomed(scene: Scene, tmp_path: Path) -> Iterator[Doomed]:
    with program("-m", "tests.admin.dying") as process:
        yield Doomed(process, scene, tmp_path)


async def next_run(scene: Scene, journal: Path) -> tuple[KeyRotation, TokenVerifier]:
    verifier = await scene.verifier()
    return scene.rotation(verifier, journal_path=journal), verifier


async def test_planned_revocation_is_finished_if_the_tenant_has_it_and_else_abandoned(
    scene: Scene, doomed: Doomed
) -> None:
    outcomes = set()
    for at, journal in doomed.journals():
        old, token = scene.used_key()
        rotation, verifier = await next_run(scene, journal)
        place = doomed.run("revoke", journal, kid=old, at=at)
        if not doomed.was_killed(place):
            break
        assert await verdict(verifier, token) == "accepted", place
        receipts = await rotation.resume()
        status = scene.tenant.key(old).status
        refused = await verdict(verifier, token) == "revoked_key"
        finished = place == "at finished"  # then the next run has nothing to do with it
        assert refused == (status == "revoked" and not finished), place
        assert [receipt.complete for receipt in receipts] == ([True] if refused else []), place
        assert await rotation.resume() == [], place
        outcomes.add((status, refused))

        await rotation.revoke(old, force=True, reason="retired")
        assert await verdict(verifier, token) == "revoked_key", place
        assert len(scene.sent("PUT")) == 1, place
        assert scene.sent("POST") == [], place
    assert outcomes == {("previous", False), ("revoked", True), ("revoked", False)}
    assert {"at intended", "at forced", "before PUT revoke"} <= set(doomed.places)
    assert {"after PUT revoke", "at acknowledged", "before telling", "after telling"} <= set(
        doomed.places
    )
    assert {"at refused_by", "before GET jwks.json", "at left_jwks"} <= set(doomed.places)


async def test_emergency_is_finished_from_wherever_it_was_begun(
    scene: Scene, doomed: Doomed
) -> None:
    for at, journal in doomed.journals():
        leaked, stolen = scene.used_key()
        rotation, verifier = await next_run(scene, journal)
        place = doomed.run("revoke in an emergency", journal, kid=leaked, at=at)
        if not doomed.was_killed(place):
            break
        begun = journal.exists()
        receipts = await rotation.resume()
        if place == "at finished":
            assert receipts == []
            continue
        assert [receipt.complete for receipt in receipts] == ([True] if begun else []), place
        assert scene.tenant.key(leaked).status == ("revoked" if begun else "previous"), place
        assert await verdict(verifier, stolen) == ("revoked_key" if begun else "accepted"), place
        assert await rotation.resume() == [], place
        assert scene.sent("POST") == [], place
    assert doomed.places.index("at intended") < doomed.places.index("before telling")
    assert doomed.places.index("at refused_by") < doomed.places.index("before PUT revoke")


async def test_leaked_key_is_rotated_out_once_wherever_that_was_cut_off(
    scene: Scene, doomed: Doomed
) -> None:
    for at, journal in doomed.journals():
        leaked, stolen = scene.tenant.key().kid, scene.tenant.token()
        new = scene.tenant.key("next").kid
        rotation, verifier = await next_run(scene, journal)
        place = doomed.run("rotate and revoke", journal, at=at)
        if not doomed.was_killed(place):
            break
        if journal.exists() and place != "at finished":
            with pytest.raises(RotationRefusedError, match=leaked):  # which key is meant now?
                await rotation.rotate_and_revoke()
        receipt = await rotation.rotate_and_revoke(leaked)
        assert (receipt.kid, receipt.complete) == (leaked, True), place
        assert scene.sent("POST") == [ROTATE], place
        assert len(scene.sent("PUT")) == 1, place
        assert scene.tenant.key(leaked).status == "revoked", place
        assert scene.tenant.key().kid == new, place
        assert await verdict(verifier, stolen) == "revoked_key", place
        assert await verdict(verifier, scene.tenant.token()) == "accepted", place
        assert await rotation.resume() == [], place
    steps = ["at warned", "before POST rotate", "after POST rotate", "at rotated", "before telling"]
    steps += ["after telling", "before PUT revoke", "after PUT revoke", "at finished"]
    assert [place for place in doomed.places if place in steps] == steps


async def test_planned_operation_first_finishes_an_emergency_that_was_cut_off(
    scene: Scene, doomed: Doomed
) -> None:
    for at, journal in doomed.journals():
        leaked, stolen = scene.tenant.key().kid, scene.tenant.token()
        rotation, verifier = await next_run(scene, journal)
        place = doomed.run("rotate and revoke", journal, at=at)
        if not doomed.was_killed(place):
            break
        if place == "at finished":
            continue
        begun, rotated_out = journal.exists(), scene.tenant.key(leaked).status != "current"
        await rotation.rotate()
        said = "revoked_key" if rotated_out else "accepted"
        assert await verdict(verifier, stolen) == said, place
        assert scene.tenant.key(leaked).status == ("revoked" if rotated_out else "previous"), place
        assert len(scene.sent("POST")) == 1 + rotated_out, place
        await rotation.resume()  # the emergency is still one, now that the key can be revoked
        assert scene.tenant.key(leaked).status == ("revoked" if begun else "previous"), place
        assert await verdict(verifier, stolen) == ("revoked_key" if begun else "accepted"), place


async def test_finishing_can_be_cut_off_as_well(scene: Scene, doomed: Doomed) -> None:
    for at, journal in doomed.journals():
        old, token = scene.used_key()
        rotation, verifier = await next_run(scene, journal)
        doomed.run("revoke", journal, kid=old, at="after PUT revoke")
        place = doomed.run("resume", journal, at=at)
        if not doomed.was_killed(place):
            break
        receipts = await rotation.resume()
        if place == "at finished":
            assert receipts == []
            continue
        assert [receipt.complete for receipt in receipts] == [True], place
        assert await verdict(verifier, token) == "revoked_key", place
        assert await rotation.resume() == [], place
        assert len(scene.sent("PUT")) == 1, place
    assert {"before telling", "at refused_by", "at left_jwks"} <= set(doomed.places)


async def test_planned_rotation_is_made_once_wherever_it_was_cut_off(
    scene: Scene, doomed: Doomed
) -> None:
    for at, journal in doomed.journals():
        old, token = scene.tenant.key().kid, scene.tenant.token()
        new = scene.tenant.key("next").kid
        rotation, verifier = await next_run(scene, journal)
        place = doomed.run("rotate", journal, at=at)
        if not doomed.was_killed(place):
            break
        if place == "at finished":
            continue  # what is asked for after that is another rotation
        assert await rotation.resume() == [], place
        if journal.exists() and scene.tenant.key().kid == old:
            with pytest.raises(RotationUncertainError, match="is still the current key"):
                await rotation.rotate()
        receipt = await rotation.rotate()
        assert (receipt.previous.kid, receipt.current.kid) == (old, new), place
        assert scene.tenant.key().kid == new, place
        assert scene.sent("POST") == [ROTATE], place
        assert await verdict(verifier, token) == "accepted", place
    assert {"before POST rotate", "after POST rotate", "at rotated"} <= set(doomed.places)


async def test_lifted_decision_is_not_finished_although_its_lifting_was_cut_off(
    scene: Scene, doomed: Doomed
) -> None:
    for at, journal in doomed.journals():
        kid, token = scene.used_key()
        rotation, verifier = await next_run(scene, journal)
        doomed.run("revoke in an emergency", journal, kid=kid, at="at refused_by")
        place = doomed.run("reinstate", journal, kid=kid, at=at)
        if not doomed.was_killed(place):
            break
        assert await rotation.resume() == [], place
        assert scene.tenant.key(kid).status == "previous", place
        assert await verdict(verifier, token) == "accepted", place
    assert doomed.places == ["at intended", "before lifting", "at finished"]
