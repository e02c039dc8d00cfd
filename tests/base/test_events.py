from __future__ import annotations

import logging
import threading
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import pytest

from jwks_guard import Event
from jwks_guard.base.events import (
    LEVELS,
    LOG_PAUSE_SECONDS,
    LOGGED_ONLY,
    OUTAGE_PAUSE_SECONDS,
    REMEMBERED_LINES,
    SUMMARY_SECONDS,
    Events,
)
from jwks_guard.base.tally import MOST_CODES
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
        ("key_reinstated", logging.WARNING),
        ("key_distrusted", logging.WARNING),
        ("refresh_failed", logging.WARNING),
        ("trust_expired", logging.ERROR),
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


def test_every_kind_that_is_documented_has_a_level() -> None:
    assert Event.__doc__ is not None
    listed = Event.__doc__.partition("one of ")[2].partition(";")[0]
    assert {*listed.replace(",", " ").split()} == LEVELS.keys() - LOGGED_ONLY


def test_refusals_cost_no_log_line_unless_they_are_asked_for(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    events(clock).tell("token_refused", kid="k1")
    assert caplog.records == []


@pytest.mark.parametrize(
    "kid",
    [
        "x\nERROR all keys are lost",
        "x\r\x1b[2Jerased",
        "x\x00\x7f\x85",
        "x\u2028line",
        "x\u202etfel-ot-thgir",
        "x\ud800",
    ],
)
def test_untrusted_kid_cannot_forge_a_line_in_the_text_nor_in_a_field(
    clock: HandClock, caplog: pytest.LogCaptureFixture, kid: str
) -> None:
    caplog.set_level(logging.DEBUG, logger="jwks_guard")
    events(clock).tell("token_refused", kid=kid)
    (record,) = caplog.records
    line = logging.Formatter("%(message)s %(kid)s").format(record)
    assert line.isprintable()
    assert "x\\" in line, "it is escaped, not dropped"


def test_fields_are_attributes_and_what_is_unknown_has_none(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="jwks_guard")
    events(clock).tell("token_refused", kid="k1", code="unknown_key", detail="why")
    events(clock).tell("key_added", kid="k1")
    plain = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
    refused, added = ({k: v for k, v in vars(r).items() if k not in plain} for r in caplog.records)
    assert added == {"kind": "key_added", "issuer": ISSUER, "kid": "k1"}
    assert refused == {
        "kind": "token_refused",
        "issuer": ISSUER,
        "kid": "k1",
        "code": "unknown_key",
        "detail": "why",
    }
    assert "None" not in caplog.text


def test_record_factory_that_sets_a_field_of_ours_costs_the_fields_and_not_the_line(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    usual = logging.getLogRecordFactory()

    def factory(*arguments: object, **options: object) -> logging.LogRecord:
        record: logging.LogRecord = usual(*arguments, **options)
        record.kid = "the application's"
        return record

    logging.setLogRecordFactory(factory)
    try:
        events(clock).tell("key_added", kid="k1")
    finally:
        logging.setLogRecordFactory(usual)
    assert caplog.messages == [f"key_added issuer={ISSUER} kid='k1'"]


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
        ours.tell("snapshot_failed", detail="the disk is full")
    clock.advance(LOG_PAUSE_SECONDS - 1)
    ours.tell("snapshot_failed", detail="the disk is full")
    assert (len(caplog.messages), len(told)) == (1, 4)
    clock.advance(1)
    ours.tell("snapshot_failed", detail="the disk is full")
    assert (len(caplog.messages), len(told)) == (2, 5)


def test_outage_is_logged_at_its_beginning_seldom_while_it_lasts_and_at_its_end(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    ours = events(clock)
    for _ in range(60):  # an hour
        ours.tell("refresh_failed", detail="the server answered 503")
        clock.advance(60)
    assert len(caplog.messages) == 3600 / OUTAGE_PAUSE_SECONDS
    caplog.clear()
    ours.tell("refresh_failed", detail="the server can't be reached")
    ours.tell("refresh_recovered")
    assert [record.kind for record in map(fields, caplog.records)] == [
        "refresh_failed",
        "refresh_recovered",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_age_in_the_cause_of_an_outage_makes_no_line_of_every_retry(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    ours = events(clock)
    for age in range(3700, 4000, 60):
        ours.tell("refresh_failed", detail=f"the answer's Age of {age} s is past max_stale")
        clock.advance(60)
    assert len(caplog.messages) == 1


def test_second_outage_within_ten_minutes_is_logged_with_its_end(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    ours = events(clock)
    for _ in range(2):
        ours.tell("refresh_failed", detail="the server answered 503")
        ours.tell("refresh_recovered")
        clock.advance(LOG_PAUSE_SECONDS)
    assert len(caplog.messages) == 4


def test_flapping_issuer_logs_no_end_without_its_beginning(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    ours = events(clock)
    for _ in range(59):
        ours.tell("refresh_failed", detail="the server answered 503")
        ours.tell("refresh_recovered")
        clock.advance(1)
    assert len(caplog.messages) == 2


def test_refused_tokens_are_summed_up_by_code_at_most_once_a_minute(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    ours = events(clock)
    for _ in range(120):
        ours.tell("token_refused", code="token_expired")
    for number in range(8):
        ours.tell("token_refused", kid=f"bogus-{number}", code="unknown_key")
    clock.advance(SUMMARY_SECONDS - 1)
    ours.sum_up_if_due()
    assert caplog.records == []
    clock.advance(1)
    ours.tell("token_refused", code="unknown_key")  # the next one is the first of the next minute
    said = "refused 128 tokens in the last 60 s: token_expired 120, unknown_key 8"
    assert caplog.messages == [f"refusal_summary issuer={ISSUER} {said}"]
    (summary,) = map(fields, caplog.records)
    assert (summary.refused, summary.seconds) == (128, 60.0)
    assert summary.codes == {"token_expired": 120, "unknown_key": 8}
    clock.advance(SUMMARY_SECONDS)
    ours.sum_up_if_due()
    assert caplog.messages[1:] == [
        f"refusal_summary issuer={ISSUER} refused 1 token in the last 60 s: unknown_key 1"
    ]


def test_no_refusal_makes_no_summary(clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    ours = events(clock)
    for _ in range(3):
        clock.advance(SUMMARY_SECONDS)
        ours.sum_up_if_due()
        ours.sum_up()
    assert caplog.records == []


def test_codes_that_an_application_makes_up_take_bounded_memory(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    ours = events(clock)
    for number in range(3 * MOST_CODES):
        ours.tell("token_refused", code=f"made_up_{number}")
    ours.sum_up()
    (summary,) = map(fields, caplog.records)
    assert summary.refused == 3 * MOST_CODES
    assert len(summary.codes) == MOST_CODES + 1
    assert summary.codes["other"] == 2 * MOST_CODES


def test_forked_child_sums_up_what_it_refused_itself(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    ours = events(clock)
    ours.tell("token_refused", code="token_expired")
    ours.after_fork()
    ours.sum_up()
    assert caplog.records == []


def test_threads_may_be_refused_while_another_sums_up(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    ours = events(clock)

    def refuse() -> None:
        for number in range(2_000):
            ours.tell("token_refused", code=f"code_{number % 40}")

    threads = [threading.Thread(target=refuse) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ours.sum_up()
    ours.sum_up()
    assert {record.levelno for record in caplog.records} == {logging.INFO}, "none was an exception"
    assert 0 < sum(record.refused for record in map(fields, caplog.records)) <= 4 * 2_000


def fields(record: logging.LogRecord) -> Any:
    """The record, with attributes that mypy does not know."""
    return record


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
