"""The timeline: steps of the journal, decisions, and changes between two looks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from jwks_guard.admin import AdminEvent, SigningKey
from jwks_guard.admin.journal import Intent
from jwks_guard.console import timeline
from jwks_guard.console.picture import Entry, InstanceRow
from tests.console.support import decision, instance
from tests.support import HandClock

INTENT = Intent(action="rotate", tenant="https://t/", actor="ops", kid="k1", reason="quarterly")


def event(step: str, second: int = 0, **members: object) -> AdminEvent:
    at = datetime(2027, 1, 1, 0, 0, second, tzinfo=UTC)
    return AdminEvent(**{"intent": INTENT, "step": step, "at": at, "result": "ok", **members})  # type: ignore[arg-type]


def rows(*states: InstanceRow) -> dict[str, InstanceRow]:
    return {row.id: row for row in states}


@pytest.fixture
def row(clock: HandClock) -> InstanceRow:
    return InstanceRow(state=instance("a", clock, kids=("k1",)), silent=False, trusted_since={})


def test_steps_are_told_with_actor_and_the_intent_with_its_reason() -> None:
    begun, failed = timeline.of_journal(
        [event("intended", detail="quarterly"), event("failed", result="failed", detail="busy")]
    )
    assert (begun.what, begun.actor, begun.reason, begun.detail) == (
        *("Rotation: begun", "ops", "quarterly"),
        None,
    )
    assert (failed.what, failed.result, failed.detail) == ("Rotation: failed", "failed", "busy")


def test_the_newest_entry_stands_first_and_of_one_moment_the_later_step() -> None:
    entries = timeline.merged(
        timeline.of_journal([event("intended"), event("rotated"), event("finished", second=2)])
    )
    assert [entry.what.partition(": ")[2] for entry in entries] == [
        *("finished", "the tenant has rotated", "begun"),
    ]


def test_a_timeline_is_bounded() -> None:
    many = [Entry(at=float(n), origin="seen", what=str(n)) for n in range(5_000)]
    entries = timeline.merged(many)
    assert len(entries) == timeline.MAX_ENTRIES
    assert entries[0].what == "4999"


def test_a_decision_is_told_with_who_and_why(clock: HandClock) -> None:
    (entry,) = timeline.of_decisions({"k1": decision("k1", clock)})
    assert (entry.kid, entry.actor, entry.reason, entry.at) == ("k1", "ops", "leaked", clock.time())


def test_a_lifted_decision_is_told(clock: HandClock) -> None:
    before = {"k1": decision("k1", clock), "k2": decision("k2", clock)}
    (entry,) = timeline.lifted(before, {"k2": before["k2"]}, 9.0)
    assert (entry.kid, entry.at) == ("k1", 9.0)
    assert "lifted" in entry.what


def test_changes_of_the_tenants_keys_are_told() -> None:
    first = SigningKey(kid="k1", current=True), SigningKey(kid="k2", next=True)
    second = replace(first[0], current=False, previous=True), replace(first[1], current=True)
    before = {key.kid: key for key in first} | {"k0": SigningKey(kid="k0", previous=True)}
    after = {key.kid: key for key in (*second, SigningKey(kid="k3", next=True))}
    assert {(entry.kid, entry.what) for entry in timeline.of_keys(before, after, 9.0)} == {
        ("k1", "The key became previously used; it was current"),
        ("k2", "The key became the current key; it was next"),
        ("k3", "The tenant lists a new key, as the next key"),
        ("k0", "The tenant lists the key no longer"),
    }


def test_an_instance_that_came_or_left_is_told(row: InstanceRow) -> None:
    (came,) = timeline.of_instances({}, rows(row), 9.0)
    (left,) = timeline.of_instances(rows(row), {}, 9.0)
    assert (came.what, came.detail) == ("An instance appeared", row.state.name)
    assert (left.what, left.detail) == ("An instance has left", row.state.name)


def test_silence_is_a_warning_and_its_end_is_told(row: InstanceRow) -> None:
    silent = replace(row, silent=True)
    (fell,) = timeline.of_instances(rows(row), rows(silent), 9.0)
    (reports,) = timeline.of_instances(rows(silent), rows(row), 9.0)
    assert (fell.what, fell.result) == ("An instance fell silent", "warning")
    assert (reports.what, reports.result) == ("An instance reports again", "ok")


def test_a_change_of_health_is_told_with_its_cause(row: InstanceRow) -> None:
    state = replace(row.state, status="degraded", last_error="HTTP 503")
    (entry,) = timeline.of_instances(rows(row), rows(replace(row, state=state)), 9.0)
    assert entry.what == "An instance is degraded; it was ok"
    assert entry.detail == f"{row.state.name}: HTTP 503"
    assert entry.result == "warning"


def test_what_an_instance_trusts_and_refuses_is_told_by_key(row: InstanceRow) -> None:
    state = replace(row.state, kids=("k2",), refused={"k1": 5.0})
    entries = timeline.of_instances(rows(row), rows(replace(row, state=state)), 9.0)
    assert [(entry.kid, entry.what) for entry in entries] == [
        ("k1", "An instance now refuses the key"),
        ("k2", "An instance now trusts the key"),
    ]
    gone = replace(row, state=replace(row.state, kids=()))
    (entry,) = timeline.of_instances(rows(row), rows(gone), 9.0)
    assert entry.what == "An instance no longer holds the key"


def test_what_has_not_changed_is_not_told(row: InstanceRow) -> None:
    assert not [*timeline.of_instances(rows(row), rows(row), 9.0)]


def test_instances_that_change_alike_are_one_entry(row: InstanceRow, clock: HandClock) -> None:
    other = replace(row, state=instance("b", clock, kids=("k1",)))
    old = rows(row, other)
    new = rows(
        *(replace(each, state=replace(each.state, kids=("k1", "k2"))) for each in (row, other))
    )
    (entry,) = timeline.of_instances(old, new, 9.0)
    assert (entry.what, entry.kid) == ("2 instances now trust the key", "k2")
    assert entry.detail == f"{row.state.name}, {other.state.name}"
