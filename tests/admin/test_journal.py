"""The journal: an audit file that is only added to, and that the next run reads."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from jwks_guard import (
    ConfigurationError,
    ForbiddenError,
    NotFoundError,
    RotationRefusedError,
)
from jwks_guard.admin import AdminEvent
from jwks_guard.admin.journal import MAX_RECENT
from jwks_guard.base import files
from tests.admin.rotating import (
    SIGNING_KEYS,
    FakeRevocable,
    Scene,
    opened,
    revoke_path,
    verdict,
)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened() as scene:
        yield scene


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def lines(journal: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(journal).splitlines()]


def content(journal: Path) -> bytes:
    return journal.read_bytes()


def readable_by_others(journal: Path) -> Path:
    """What we don't take for ours, for anybody may have had it in hand."""
    journal.touch()
    journal.chmod(0o644)
    return journal


def add(journal: Path, *written: bytes) -> None:
    """Write lines down as somebody else did, before us or instead of us."""
    with files.locked_for_append(journal) as descriptor:
        for line in written:
            os.write(descriptor, line)


def intent(scene: Scene, **changes: object) -> bytes:
    """The line of an emergency that somebody began and did not bring to its end."""
    record: dict[str, object] = {
        "at": "2027-01-15T08:00:00+00:00",
        "step": "intended",
        "result": "ok",
        "action": "revoke",
        "tenant": scene.tenant.issuer,
        "actor": "ops@acme",
        "kid": scene.tenant.key().kid,
        "reason": "leaked",
        "emergency": True,
        "operation": "0123456789abcdef",
        "detail": "leaked",
    }
    return json.dumps(record | changes).encode() + b"\n"


def ours_again(journal: Path) -> None:
    journal.chmod(0o600)


# --- what is written ---


async def test_every_event_is_a_line_with_time_actor_and_result(
    scene: Scene, journal: Path
) -> None:
    old, _ = scene.used_key()
    verifier = await scene.verifier()
    rotation = scene.rotation(verifier, journal_path=str(journal), actor="ops@acme")
    await rotation.rotate()
    await rotation.revoke(old, force=True, reason="retired")
    await rotation.reinstate(old, reason="for a look")
    written = lines(journal)
    assert written == [event.to_dict() for event in scene.events]
    assert {line["actor"] for line in written} == {"ops@acme"}
    assert [line["step"] for line in written if line["action"] == "revoke"] == [
        "intended",
        "forced",
        "acknowledged",
        "refused_by",
        "left_jwks",
        "finished",
    ]
    assert len({line["operation"] for line in written}) == 3
    assert written[0].keys() == {
        *("at", "step", "result", "action", "tenant", "actor", "kid", "reason", "emergency"),
        *("instance", "operation", "detail"),
    }


async def test_file_is_private_and_only_ever_added_to(scene: Scene, journal: Path) -> None:
    before = os.umask(0)
    try:
        rotation = scene.rotation(journal_path=journal)
        await rotation.rotate()
    finally:
        os.umask(before)
    with os.fdopen(os.open(journal, os.O_RDONLY), "rb") as opened_before:
        assert stat.S_IMODE(os.fstat(opened_before.fileno()).st_mode) == 0o600
        first = opened_before.read()
        await rotation.rotate()
        assert content(journal) == first + opened_before.read() != first


async def test_nothing_secret_is_written_told_or_logged(
    scene: Scene, journal: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    tokens = [scene.tenant.token()]
    old, _ = scene.used_key()
    rotation = scene.rotation(await scene.verifier(), journal_path=journal)
    await rotation.rotate()
    await rotation.revoke(old, force=True, reason="retired")
    scene.tenant.faults.status(403, path=revoke_path(scene.tenant.key("previous").kid))
    with pytest.raises(ForbiddenError):
        await rotation.revoke(scene.tenant.key("previous").kid, emergency=True)
    said = content(journal).decode() + caplog.text + repr(scene.events) + repr(rotation)
    for secret in (scene.tenant.client_secret, *tokens, "eyJ", "Bearer"):
        assert secret not in said


async def test_reason_of_several_lines_stays_on_one(scene: Scene, journal: Path) -> None:
    old, _ = scene.used_key()
    reason = 'found in a "gist"\n{"step": "finished"}\r\n\u2028ünd \x00'
    await scene.rotation(journal_path=journal).revoke(old, reason=reason, force=True)
    assert {line["reason"] for line in lines(journal)} == {reason}
    assert b"\r" not in content(journal)


# --- before anything is done ---


def in_a_missing_directory(journal: Path) -> Path:
    return journal / "journal"


def a_directory(journal: Path) -> Path:
    journal.mkdir()
    return journal


def a_link(journal: Path) -> Path:
    journal.with_name("elsewhere").touch(0o600)
    journal.symlink_to(journal.with_name("elsewhere"))
    return journal


BAD = [in_a_missing_directory, a_directory, readable_by_others, a_link]


@pytest.mark.parametrize("bad", BAD)
async def test_without_its_journal_nothing_planned_is_begun(
    scene: Scene, journal: Path, bad: Callable[[Path], Path]
) -> None:
    old, token = scene.used_key()
    verifier = await scene.verifier()
    rotation = scene.rotation(verifier, journal_path=bad(journal))
    for planned in (rotation.rotate(), rotation.revoke(old, force=True, reason="retired")):
        with pytest.raises(ConfigurationError, match=r"journal.*(Nothing was done|can't be read)"):
            await planned
    assert scene.sent("POST") == scene.sent("PUT") == []
    assert await verdict(verifier, token) == "accepted"


@pytest.mark.parametrize("bad", BAD)
async def test_emergency_waits_for_no_journal(
    scene: Scene, journal: Path, bad: Callable[[Path], Path], caplog: pytest.LogCaptureFixture
) -> None:
    leaked, stolen = scene.used_key()
    verifier = await scene.verifier()
    rotation = scene.rotation(verifier, journal_path=bad(journal))
    receipt = await rotation.revoke(leaked, emergency=True)
    assert receipt.complete
    assert scene.tenant.key(leaked).status == "revoked"
    assert await verdict(verifier, stolen) == "revoked_key"
    assert "can't be written" in caplog.text


@pytest.mark.parametrize("bad", BAD)
async def test_leaked_current_key_that_is_named_waits_for_no_journal_either(
    scene: Scene, journal: Path, bad: Callable[[Path], Path]
) -> None:
    leaked = scene.tenant.key().kid
    rotation = scene.rotation(journal_path=bad(journal))
    receipt = await rotation.rotate_and_revoke(leaked)
    assert receipt.kid == leaked
    assert receipt.complete


async def test_which_key_has_leaked_must_be_said_if_the_journal_can_not_say_what_was_done(
    scene: Scene, journal: Path
) -> None:
    readable_by_others(journal)
    with pytest.raises(ConfigurationError, match="can't be read") as raised:
        await scene.rotation(journal_path=journal).rotate_and_revoke()
    assert "rotate_and_revoke(kid)" in raised.value.__notes__[0]
    assert scene.sent("POST") == []


async def test_journal_that_breaks_in_the_middle_does_not_stop_what_was_begun(
    scene: Scene, journal: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, _ = scene.used_key()

    def break_it(event: AdminEvent) -> None:
        if event.step == "intended":
            readable_by_others(journal)

    verifier = await scene.verifier()
    rotation = scene.rotation(verifier, journal_path=journal, on_event=break_it)
    assert (await rotation.revoke(old, force=True, reason="retired")).complete
    assert "can't be written" in caplog.text
    ours_again(journal)
    (again,) = await rotation.resume()  # finished, but nobody could write that down
    assert again.kid == old


async def test_another_process_that_holds_the_journal_is_not_waited_for_for_ever(
    scene: Scene, journal: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = scene.used_key()
    monkeypatch.setattr("jwks_guard.admin.journal.PATIENCE", 0.05)
    with files.locked_for_append(journal):
        receipt = await scene.rotation(journal_path=journal).revoke(old, emergency=True)
    assert receipt.complete
    assert "another process has locked it" in caplog.text


# --- what is read ---


async def test_unfinished_emergency_is_finished_oldest_first(scene: Scene, journal: Path) -> None:
    first, _ = scene.used_key()
    second, _ = scene.used_key()
    add(journal, intent(scene, kid=first, operation="1"), intent(scene, kid=second, operation="2"))
    fake = FakeRevocable()
    receipts = await scene.rotation(fake, journal_path=journal).resume()
    assert [receipt.kid for receipt in receipts] == [first, second]
    assert list(fake.distrusted) == [first, second]
    assert [scene.tenant.key(kid).status for kid in (first, second)] == ["revoked", "revoked"]


async def test_revocation_that_was_asked_for_again_is_not_finished_a_second_time(
    scene: Scene, journal: Path
) -> None:
    leaked, _ = scene.used_key()
    add(journal, intent(scene, kid=leaked))
    rotation = scene.rotation(FakeRevocable(), journal_path=journal)
    await rotation.revoke(leaked, emergency=True)
    scene.events.clear()
    assert await rotation.resume() == []
    assert scene.events == []


async def test_finished_operation_keeps_who_began_it_and_why(scene: Scene, journal: Path) -> None:
    leaked, _ = scene.used_key()
    add(journal, intent(scene, kid=leaked, actor="alice@desk", reason="in a gist"))
    fake = FakeRevocable()
    (receipt,) = await scene.rotation(fake, journal_path=journal, actor="bob@desk").resume()
    assert receipt.reason == fake.distrusted[leaked] == "in a gist"
    assert {line["actor"] for line in lines(journal)} == {"alice@desk"}
    assert {line["operation"] for line in lines(journal)} == {"0123456789abcdef"}


@pytest.mark.parametrize("selector", ["current", "next", "previous"])
async def test_planned_revocation_that_the_tenant_knows_nothing_of_is_abandoned(
    scene: Scene, journal: Path, selector: str
) -> None:
    scene.used_key()
    add(journal, intent(scene, kid=scene.tenant.key(selector).kid, emergency=False))
    fake = FakeRevocable()
    rotation = scene.rotation(fake, journal_path=journal)
    assert await rotation.resume() == []
    assert scene.steps == ["abandoned"]
    assert "it was not revoked" in scene.events[0].detail
    assert scene.sent("PUT") == scene.sent("POST") == []
    assert fake.distrusted == {}
    scene.events.clear()
    assert await rotation.resume() == []
    assert scene.events == []


async def test_emergency_whose_key_is_still_current_stays_open_until_it_is_repeated(
    scene: Scene, journal: Path
) -> None:
    leaked = scene.tenant.key().kid
    add(journal, intent(scene, action="rotate_and_revoke"))
    rotation = scene.rotation(FakeRevocable(), journal_path=journal)
    for _ in range(2):
        scene.events.clear()
        assert await rotation.resume() == []
        assert scene.steps == ["unanswered"]
    assert scene.sent("PUT") == scene.sent("POST") == []
    assert (await rotation.rotate_and_revoke(leaked)).complete
    assert len(scene.sent("POST")) == 1
    scene.events.clear()
    assert await rotation.resume() == []
    assert scene.events == []


async def test_key_that_the_tenant_has_forgotten_counts_as_revoked(
    scene: Scene, journal: Path
) -> None:
    add(journal, intent(scene, kid="forgotten", emergency=False))
    fake = FakeRevocable()
    (receipt,) = await scene.rotation(fake, journal_path=journal).resume()
    assert receipt.complete
    assert receipt.inferred
    assert fake.distrusted == {"forgotten": "leaked"}
    assert scene.sent("PUT") == []


async def test_api_that_is_not_found_says_nothing_of_a_key(scene: Scene, journal: Path) -> None:
    old, token = scene.used_key()
    verifier = await scene.verifier()
    add(journal, intent(scene, kid=old, emergency=False))
    scene.tenant.faults.status(404, path=SIGNING_KEYS)
    scene.tenant.faults.status(404, path=f"{SIGNING_KEYS}/{old}")
    rotation = scene.rotation(verifier, journal_path=journal)
    with pytest.raises(NotFoundError):
        await rotation.resume()
    assert await verdict(verifier, token) == "accepted"
    assert len(lines(journal)) == 1
    scene.tenant.faults.clear()
    assert await rotation.resume() == []
    assert scene.steps == ["abandoned"]


async def test_intents_of_another_tenant_are_left_alone(scene: Scene, journal: Path) -> None:
    leaked, _ = scene.used_key()
    add(journal, intent(scene, kid=leaked, tenant="https://other.eu.auth0.com/"))
    rotation = scene.rotation(FakeRevocable(), journal_path=journal)
    assert await rotation.resume() == []
    assert scene.events == []
    assert len(lines(journal)) == 1


async def test_leaked_key_must_be_named_where_an_emergency_was_cut_off(
    scene: Scene, journal: Path
) -> None:
    leaked, _ = scene.used_key()
    add(journal, intent(scene, kid=leaked, action="rotate_and_revoke"))
    rotation = scene.rotation(FakeRevocable(), journal_path=journal)
    with pytest.raises(RotationRefusedError, match=f"{leaked!r}") as refusal:
        await rotation.rotate_and_revoke()
    assert refusal.value.kid == leaked
    assert scene.sent("POST") == []
    assert (await rotation.rotate_and_revoke(leaked)).complete
    assert scene.sent("POST") == []
    assert (await rotation.rotate_and_revoke()).complete  # of the key that is current by now
    assert len(scene.sent("POST")) == 1


async def test_emergencies_that_only_revoke_leave_no_doubt_which_key_is_meant(
    scene: Scene, journal: Path
) -> None:
    other, _ = scene.used_key()
    leaked = scene.tenant.key().kid
    add(journal, intent(scene, kid=other))
    receipt = await scene.rotation(journal_path=journal).rotate_and_revoke()
    assert receipt.kid == leaked
    assert scene.tenant.key(other).status == "previous"


async def test_emergency_does_not_wait_for_what_another_key_left_unfinished(
    scene: Scene, journal: Path
) -> None:
    other, _ = scene.used_key()
    leaked = scene.tenant.key().kid
    add(journal, intent(scene, kid=other, action="rotate_and_revoke"))
    scene.tenant.faults.status(403, path=revoke_path(other))
    rotation = scene.rotation(FakeRevocable(), journal_path=journal)
    receipt = await rotation.rotate_and_revoke(leaked)
    assert receipt.kid == leaked
    assert scene.tenant.key(leaked).status == "revoked"
    assert scene.tenant.key(other).status == "previous"
    scene.tenant.faults.clear()
    (finished,) = await rotation.resume()
    assert finished.kid == other


DAMAGED = [
    b"",
    b"\n",
    b"no JSON\n",
    b'"text"\n',
    b"[]\n",
    b"{}\n",
    b"\xff\xfe\n",
    b"[" * 5000 + b"\n",
    b'{"step": 1e400}\n',
]


@pytest.mark.parametrize("damage", DAMAGED)
async def test_damaged_line_hides_none_of_the_others(
    scene: Scene, journal: Path, damage: bytes
) -> None:
    first, _ = scene.used_key()
    second, _ = scene.used_key()
    add(journal, intent(scene, kid=first, operation="1"), damage)
    add(journal, intent(scene, kid=second, operation="2"))
    receipts = await scene.rotation(journal_path=journal).resume()
    assert [receipt.kid for receipt in receipts] == [first, second]


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "drop the tables"},
        {"kid": None},
        {"kid": 7},
        {"emergency": "yes"},
        {"operation": []},
        {"tenant": None},
    ],
)
async def test_line_with_members_that_are_not_ours_says_nothing(
    scene: Scene, journal: Path, changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    leaked, _ = scene.used_key()
    add(journal, intent(scene, **{"kid": leaked, **changes}))
    assert await scene.rotation(journal_path=journal).resume() == []
    assert "can't be read and is skipped" in caplog.text
    assert scene.tenant.key(leaked).status == "previous"


async def test_line_without_a_step_says_nothing(scene: Scene, journal: Path) -> None:
    leaked, _ = scene.used_key()
    record = json.loads(intent(scene, kid=leaked))
    del record["step"]
    add(journal, json.dumps(record).encode() + b"\n")
    assert await scene.rotation(journal_path=journal).resume() == []


@pytest.mark.parametrize("length", [1, 40, 200])
async def test_line_that_a_crash_has_torn_is_ended_and_the_journal_goes_on(
    scene: Scene, journal: Path, length: int
) -> None:
    old, _ = scene.used_key()
    whole = intent(scene, kid=old)
    add(journal, whole[:length])
    rotation = scene.rotation(journal_path=journal)
    assert await rotation.resume() == []
    assert (await rotation.revoke(old, force=True, reason="retired")).complete
    torn, *others = content(journal).splitlines()
    assert torn == whole[:length]
    assert json.loads(others[-1])["step"] == "finished"
    assert await rotation.resume() == []


async def test_whole_line_without_its_end_counts(scene: Scene, journal: Path) -> None:
    leaked, _ = scene.used_key()
    add(journal, intent(scene, kid=leaked).rstrip(b"\n"))
    rotation = scene.rotation(journal_path=journal)
    (receipt,) = await rotation.resume()
    assert receipt.kid == leaked
    assert await rotation.resume() == []


# --- reading it as a timeline ---


async def test_events_are_those_of_the_file_and_of_this_process_each_once(
    scene: Scene, journal: Path
) -> None:
    fleet = FakeRevocable(kids=[scene.tenant.key("next").kid])
    writing = scene.rotation(fleet, journal_path=journal, actor="first")
    await writing.rotate(reason="quarterly")
    written = await writing.events()
    assert [event.step for event in written] == ["intended", "warned", "rotated", "finished"]
    assert written == scene.events
    assert await scene.rotation(fleet, journal_path=journal).events() == written


async def test_without_a_file_events_are_those_of_this_process(scene: Scene) -> None:
    fleet = FakeRevocable(kids=[scene.tenant.key("next").kid])
    rotation = scene.rotation(fleet)
    assert await rotation.events() == []
    await rotation.rotate()
    assert await rotation.events() == scene.events


async def test_only_the_end_of_a_long_journal_is_read(scene: Scene, journal: Path) -> None:
    fleet = FakeRevocable(kids=[scene.tenant.key("next").kid])
    await scene.rotation(fleet, journal_path=journal).rotate()
    line = json.loads(content(journal).splitlines()[-1])
    many = (json.dumps({**line, "detail": str(n)}).encode() + b"\n" for n in range(5_000))
    add(journal, *many)
    events = await scene.rotation(fleet, journal_path=journal).events()
    assert [event.detail for event in events] == [str(n) for n in range(5_000 - MAX_RECENT, 5_000)]


async def test_lines_that_are_no_events_are_passed_over(scene: Scene, journal: Path) -> None:
    fleet = FakeRevocable(kids=[scene.tenant.key("next").kid])
    await scene.rotation(fleet, journal_path=journal).rotate()
    written = json.loads(content(journal).splitlines()[0])
    for wrong in ({"at": "yesterday"}, {"at": "2027-01-01T00:00:00"}, {"result": "perhaps"}):
        add(journal, json.dumps({**written, **wrong}).encode() + b"\n")
    add(journal, b"no JSON\n")
    assert len(await scene.rotation(fleet, journal_path=journal).events()) == 4


async def test_a_journal_of_somebody_else_is_not_read_as_events(
    scene: Scene, journal: Path
) -> None:
    readable_by_others(journal)
    with pytest.raises(ConfigurationError, match="can't be read"):
        await scene.rotation(FakeRevocable(), journal_path=journal).events()
