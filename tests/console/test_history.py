"""Accepted tokens per minute, from counters that only grow until an instance ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jwks_guard.console.history import MINUTES, History
from jwks_guard.readiness.state import InstanceState
from tests.console.support import instance
from tests.support import HandClock

KID = "the-kid"


@pytest.fixture
def clock() -> HandClock:
    return HandClock(wall=1_800_000_000.0)  # a full minute


def accepted(count: int, clock: HandClock, name: str = "a", **members: Any) -> InstanceState:
    return instance(name, clock, accepted={KID: count}, **members)


def counts(history: History, clock: HandClock) -> list[int | None]:
    """From the first minute on that was observed."""
    minutes = history.per_minute(KID, clock.time())
    return list(minutes[next(n for n, each in enumerate(minutes) if each is not None) :])


def test_what_an_instance_counted_before_the_first_look_is_not_shown(clock: HandClock) -> None:
    history = History()
    history.add([accepted(5_000, clock)], clock.time())
    assert counts(history, clock) == [0]


def test_tokens_count_in_the_minute_in_which_they_were_accepted(clock: HandClock) -> None:
    history = History()
    for total in (100, 103, 103, 110):
        history.add([accepted(total, clock)], clock.time())
        clock.advance(30.0)
    clock.advance(-30.0)
    # The 7 of the last half minute are those after its beginning.
    assert counts(history, clock) == [3, 7]


def test_the_instances_of_a_fleet_count_together(clock: HandClock) -> None:
    history = History()
    for both in ((1, 10), (4, 15)):
        history.add([accepted(both[0], clock), accepted(both[1], clock, "b")], clock.time())
        clock.advance(10.0)
    assert counts(history, clock) == [8]


def test_an_instance_that_makes_up_kids_fills_no_memory(clock: HandClock) -> None:
    history = History()
    for look in range(3):
        made_up = {f"junk-{look}-{n}": 5 for n in range(3_000)}
        honest = accepted(10 * look, clock, "b")
        history.add([honest, instance("x", clock, accepted=made_up)], clock.time())
        clock.advance(1.0)
    assert counts(history, clock)[-1] == 20
    kept = [history.rate(f"junk-2-{n}", clock.time()) > 0 for n in range(3_000)]
    assert kept.count(True) <= 1_000


def test_a_minute_in_which_nobody_looked_is_not_a_minute_without_tokens(clock: HandClock) -> None:
    history = History()
    history.add([accepted(0, clock)], clock.time())
    clock.advance(180.0)
    history.add([accepted(0, clock)], clock.time())
    assert counts(history, clock) == [0, None, None, 0]


def test_what_was_accepted_during_an_outage_is_spread_over_it(clock: HandClock) -> None:
    history = History()
    history.add([accepted(0, clock)], clock.time())
    clock.advance(180.0)
    history.add([accepted(300, clock)], clock.time())
    assert counts(history, clock) == [100, 100, 100, 0]


def test_one_token_after_an_outage_is_one_token(clock: HandClock) -> None:
    history = History()
    history.add([accepted(0, clock)], clock.time())
    clock.advance(600.0)
    history.add([accepted(1, clock)], clock.time())
    assert sum(each or 0 for each in counts(history, clock)) == 1


def test_an_instance_that_was_restarted_counts_from_its_start(clock: HandClock) -> None:
    history = History()
    history.add([accepted(900, clock, "a")], clock.time())
    clock.advance(10.0)
    history.add([accepted(7, clock, "b", started_at=clock.time() - 5.0)], clock.time())
    assert counts(history, clock) == [7]


def test_an_instance_that_joins_with_an_old_count_adds_nothing_at_first(clock: HandClock) -> None:
    history = History()
    history.add([accepted(0, clock, "a")], clock.time())
    clock.advance(10.0)
    history.add([accepted(0, clock, "a"), accepted(500, clock, "b")], clock.time())
    assert counts(history, clock) == [0]


def test_a_counter_that_was_forgotten_begins_anew(clock: HandClock) -> None:
    history = History()
    history.add([accepted(900, clock)], clock.time())
    clock.advance(10.0)
    history.add([accepted(4, clock)], clock.time())
    assert counts(history, clock) == [4]


def test_a_key_that_is_not_reported_in_between_is_not_counted_twice(clock: HandClock) -> None:
    history = History()
    for state in (
        accepted(900, clock),
        replace(accepted(0, clock), usage={}, reported_at=clock.time() + 1.0),
        replace(accepted(902, clock), reported_at=clock.time() + 2.0),
    ):
        history.add([state], clock.time())
        clock.advance(1.0)
    assert counts(history, clock) == [2]


def test_a_report_that_is_seen_twice_counts_once(clock: HandClock) -> None:
    history = History()
    history.add([accepted(0, clock)], clock.time())
    clock.advance(5.0)
    report = accepted(6, clock)
    for _ in range(3):
        history.add([report], clock.time())
        clock.advance(5.0)
    assert counts(history, clock) == [6]


def test_an_hour_is_kept_and_nothing_before(clock: HandClock) -> None:
    history = History()
    for total in range(0, 900, 10):
        history.add([accepted(total, clock)], clock.time())
        clock.advance(60.0)
    minutes = history.per_minute(KID, clock.time())
    assert len(minutes) == MINUTES
    assert minutes[:-1] == (10,) * (MINUTES - 2) + (0,)


def test_a_clock_that_was_set_back_begins_a_new_history(clock: HandClock) -> None:
    history = History()
    history.add([accepted(0, clock)], clock.time())
    clock.advance(-7_200.0)
    history.add([accepted(50, clock)], clock.time())
    clock.advance(5.0)
    history.add([accepted(52, clock)], clock.time())
    assert counts(history, clock) == [2]


def test_the_rate_is_that_of_the_last_sixty_seconds(clock: HandClock) -> None:
    history = History()
    for total in range(0, 70, 10):  # one token a second
        history.add([accepted(total, clock)], clock.time())
        clock.advance(10.0)
    assert history.rate(KID, clock.time()) == pytest.approx(60.0, abs=15.0)
    clock.advance(300.0)
    assert history.rate(KID, clock.time()) == 0.0


def test_an_instance_that_was_never_heard_of_does_not_count(clock: HandClock) -> None:
    history = History()
    history.add([accepted(0, clock, reported_at=0.0)], clock.time())
    clock.advance(5.0)
    history.add([accepted(50, clock)], clock.time())
    assert counts(history, clock) == [0]
