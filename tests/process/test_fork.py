from __future__ import annotations

import json
from typing import Any

from tests.process.programs import program
from tests.support import PATIENCE


def forking(scenario: str) -> Any:
    """What the program of that name says; see there."""
    with program("-m", "tests.process.apps.forking", scenario) as process:
        printed, _ = process.communicate(timeout=5 * PATIENCE)
    assert process.returncode == 0, printed
    return json.loads(printed)


def test_a_forked_child_uses_the_verifier_that_its_parent_used_in_an_event_loop() -> None:
    report = forking("after_asyncio")
    assert report["before"] == ["accepted", "accepted"]
    assert report["child"] == {
        "known": ["revoked_key", "accepted"],
        "new": "accepted",
        "own client": True,
    }
    assert report["after"] == ["revoked_key", "accepted"]


def test_a_forked_child_uses_the_verifier_that_its_parents_portal_refreshes() -> None:
    report = forking("after_threads")
    assert report["before"] == ["accepted", "accepted"]
    assert report["child"] == {"known": ["revoked_key", "accepted"], "new": "accepted"}
    assert report["fetches"] == 1  # for the new key: what the parent knew, the child knows
    assert report["after"] == ["revoked_key", "accepted"]


def test_a_forked_child_does_not_wait_for_a_fetch_that_only_its_parent_awaits() -> None:
    assert forking("during_a_fetch") == {"child": "accepted", "parent": "accepted"}


def test_a_fork_while_another_thread_is_at_any_line_leaves_no_lock_and_no_work_behind() -> None:
    report = forking("at_any_moment")
    works = ["accepted", "revoked_key", "accepted", "unknown_key", "accepted"]
    assert {where: said for where, said in report.items() if said != works} == {}
    assert len(report) > 80


def test_spans_of_a_forked_child_are_those_of_its_own_requests() -> None:
    said = {"children": ["jwks_guard.fetch"], "outcome": "accepted"}
    assert forking("while_traced") == {"child": said, "parent": said}


def test_a_forked_child_counts_its_own_exchanges_with_the_fleet() -> None:
    assert forking("after_exchanges") == {"child": [0, 0, 0], "parent": True}
