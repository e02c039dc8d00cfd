from __future__ import annotations

import logging
import threading
from asyncio import CancelledError
from collections.abc import Callable

import pytest

from jwks_guard import Event
from jwks_guard.base.events import LOG_PAUSE_SECONDS, REMEMBERED_LINES, Events
from tests.support import HandClock

ISSUER = "https://issuer.test/"


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="jwks_guard")


def events(clock: HandClock, on_event: Callable[[Event], object] | None = None) -> Events:
    return Events(ISSUER, clock, on_event)


def test_event_carries_what_happened_whose_and_when(clock: HandClock) -> None:
    told: list[Event] = []
    events(clock, told.append).tell("key_added", kid="k1")
    events(clock, told.append).tell("token_refused", kid="k1", code="unknown_key", detail="why")
    assert told == [
        Event("key_added", ISSUER, clock.wall, kid="k1", code=None, detail=""),
        Event("token_refused", ISSUER, clock.wall, kid="k1", code="unknown_key", detail="why"),
    ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("key_added", logging.INFO),
        ("key_removed", logging.INFO),
        ("key_reinstated", logging.INFO),
        ("refresh_recovered", logging.INFO),
        ("key_distrusted", logging.WARNING),
        ("refresh_failed", logging.WARNING),
        ("trust_expired", logging.WARNING),
        ("snapshot_ignored", logging.WARNING),
        ("snapshot_failed", logging.WARNING),
        ("token_refused", logging.DEBUG),
    ],
)
def test_changes_of_state_are_logged_at_info_and_above_and_refusals_below(
    clock: HandClock, caplog: pytest.LogCaptureFixture, kind: str, expected: int
) -> None:
    caplog.set_level(logging.DEBUG, logger="jwks_guard")
    events(clock).tell(kind, kid="k1", code="a_code", detail="a detail")
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("jwks_guard", expected)
    ]
    assert caplog.messages == [f"{kind} issuer={ISSUER} kid='k1' code=a_code a detail"]


def test_log_line_has_only_what_is_known(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="jwks_guard")
    events(clock).tell("key_added", kid="k1")
    events(clock).tell("refresh_failed", detail="no connection")
    assert caplog.messages == [
        f"key_added issuer={ISSUER} kid='k1'",
        f"refresh_failed issuer={ISSUER} no connection",
    ]


def test_every_kind_that_is_documented_has_a_level(clock: HandClock) -> None:
    assert Event.__doc__ is not None
    listed = Event.__doc__.partition("one of ")[2].partition(";")[0]
    for kind in listed.replace(",", " ").split():
        events(clock).tell(kind)


def test_refusals_cost_no_log_line_unless_they_are_asked_for(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    events(clock).tell("token_refused", kid="k1")
    assert caplog.records == []


def test_untrusted_kid_cannot_forge_a_line(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="jwks_guard")
    events(clock).tell("token_refused", kid="x\nWARNING all is well \x1b[2J")
    assert "\n" not in caplog.messages[0]
    assert "\x1b" not in caplog.messages[0]


def test_reason_from_outside_cannot_forge_a_line(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    events(clock).tell("key_distrusted", kid="k", detail="x\nWARNING forged \x1b[31m")
    assert "\n" not in caplog.text.rstrip("\n")
    assert "\x1b" not in caplog.text


def test_same_thing_is_logged_once_a_minute_and_told_every_time(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Event] = []
    ours = events(clock, told.append)
    for _ in range(3):
        ours.tell("refresh_failed", detail="the server answered 503")
    clock.advance(LOG_PAUSE_SECONDS - 1)
    ours.tell("refresh_failed", detail="the server answered 503")
    assert (len(caplog.messages), len(told)) == (1, 4)
    clock.advance(1)
    ours.tell("refresh_failed", detail="the server answered 503")
    assert (len(caplog.messages), len(told)) == (2, 5)


def test_different_things_are_logged_each(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    ours = events(clock)
    ours.tell("key_added", kid="a")
    ours.tell("key_added", kid="b")
    ours.tell("key_removed", kid="a")
    ours.tell("refresh_failed", detail="one")
    ours.tell("refresh_failed", detail="another")
    assert len(caplog.messages) == 5


def test_setting_the_wall_clock_lets_no_flood_through(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    ours = events(clock)
    for _ in range(5):
        ours.tell("trust_expired")
        clock.suspend(86_400)
    assert len(caplog.messages) == 1


def test_memory_of_logged_lines_is_bounded(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    ours = events(clock)
    for number in range(3 * REMEMBERED_LINES):
        ours.tell("refresh_failed", detail=f"reason {number}")
    assert len(ours._logged_at) <= REMEMBERED_LINES
    assert len(caplog.messages) == 3 * REMEMBERED_LINES


def test_refusals_are_not_remembered(clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="jwks_guard")
    ours = events(clock)
    for number in range(2 * REMEMBERED_LINES):
        ours.tell("token_refused", kid=f"bogus-{number}")
    assert ours._logged_at == {}


@pytest.mark.parametrize(
    "error", [RuntimeError("a defect"), KeyError("kid"), TimeoutError(), CancelledError()]
)
def test_what_on_event_raises_is_logged_and_goes_no_further(
    clock: HandClock, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def on_event(_: Event) -> None:
        raise error

    events(clock, on_event).tell("key_added", kid="k1")
    assert caplog.records[-1].getMessage() == "on_event raised for key_added; the event was dropped"
    assert caplog.records[-1].exc_info is not None
    assert caplog.records[-1].exc_info[1] is error


def test_threads_may_tell_at_once(clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []
    ours, barrier = events(clock, told.append), threading.Barrier(8)

    def tell() -> None:
        barrier.wait()
        for number in range(200):
            ours.tell("refresh_failed", detail=f"reason {number % 50}")

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8 * 200
    assert 50 <= len(caplog.messages) <= 8 * 50
