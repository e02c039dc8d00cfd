from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.base.clock import EPOCH, Instant
from jwks_guard.keys.freshness import MAX_RETRY_AFTER_SECONDS, Decision, Freshness, TokenBucket
from tests.support import HandClock

START = Instant(1_800_000_000.0, 5_000.0)
NEVER = 0.0  # what the random number must be for no jitter


def freshness(*, jitter: float = NEVER, lazy: bool = False) -> Freshness:
    return Freshness(60.0, lazy=lazy, random=lambda: jitter)


# --- instants ---


def test_instant_is_read_from_both_hands_of_the_clock() -> None:
    assert Instant.now(HandClock(wall=7.0, steady=3.0)) == Instant(wall=7.0, monotonic=3.0)


def test_instant_is_reached_on_the_earlier_of_both_clocks() -> None:
    end = START.shifted(60)
    assert not end.reached(START.shifted(59.9))
    assert end.reached(START.shifted(60))
    assert end.reached(Instant(START.wall + 60, START.monotonic)), "the machine slept"
    assert end.reached(Instant(START.wall - 900, START.monotonic + 60)), "the clock was set back"
    assert not end.reached(Instant(START.wall - 900, START.monotonic + 59.9))


def test_remaining_goes_by_the_nearer_clock_and_never_below_zero() -> None:
    end = START.shifted(60)
    assert end.remaining(Instant(START.wall + 20, START.monotonic + 50)) == 10
    assert end.remaining(Instant(START.wall + 50, START.monotonic + 20)) == 10
    assert end.remaining(START.shifted(61)) == 0.0


def test_epoch_lies_before_everything_and_stays_there() -> None:
    assert EPOCH.reached(Instant(-1e18, -1e18))
    assert EPOCH.shifted(1e18) == EPOCH
    assert EPOCH.remaining(START) == 0.0


# --- the budget of unknown kids ---


def test_bucket_gives_its_burst_and_then_one_per_refill() -> None:
    bucket, now = TokenBucket(burst=5, refill=12.0), START
    assert [bucket.take(now) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.take(now.shifted(11.9))
    assert [bucket.take(now.shifted(12.1)) for _ in range(2)] == [True, False]
    assert [bucket.take(now.shifted(36.2)) for _ in range(3)] == [True, True, False]


def test_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(burst=2, refill=12.0)
    assert bucket.take(START)
    later = START.shifted(86_400)
    assert [bucket.take(later) for _ in range(3)] == [True, True, False]


def test_setting_the_wall_clock_fills_no_bucket() -> None:
    bucket = TokenBucket(burst=1, refill=12.0)
    assert bucket.take(START)
    assert not bucket.take(Instant(START.wall + 86_400, START.monotonic))
    assert not bucket.take(Instant(START.wall - 86_400, START.monotonic - 5))


@given(st.lists(st.floats(0, 30), max_size=60))
def test_bucket_never_gives_more_than_burst_and_refill_allow(pauses: list[float]) -> None:
    bucket, now, taken = TokenBucket(burst=3, refill=12.0), START, 0
    for pause in pauses:
        now = now.shifted(pause)
        taken += bucket.take(now)
        assert taken <= 3 + (now.monotonic - START.monotonic) / 12.0 + 1e-6


# --- what a request does first ---


def test_key_inside_its_bound_is_served_whether_or_not_a_refresh_is_due() -> None:
    state, bound = freshness(), START.shifted(3600)
    assert state.decide(bound, START) is Decision.SERVE
    state.succeeded(START)
    assert state.decide(bound, START.shifted(3599)) is Decision.SERVE


def test_without_trust_a_request_refreshes_if_that_is_due_and_is_refused_otherwise() -> None:
    state = freshness()
    assert state.decide(EPOCH, START) is Decision.REFRESH_FIRST
    state.failed(START)
    assert state.decide(EPOCH, START) is Decision.REFUSE
    assert state.decide(EPOCH, START.shifted(1)) is Decision.REFRESH_FIRST


def test_lazy_store_serves_then_refreshes_beside_then_waits() -> None:
    state, bound = freshness(lazy=True), START.shifted(3600)
    state.succeeded(START)
    assert state.decide(bound, START.shifted(59)) is Decision.SERVE
    assert state.decide(bound, START.shifted(60)) is Decision.SERVE_AND_REFRESH
    assert state.decide(bound, START.shifted(119)) is Decision.SERVE_AND_REFRESH
    assert state.decide(bound, START.shifted(120)) is Decision.REFRESH_FIRST


def test_lazy_store_that_never_fetched_waits_although_a_snapshot_gave_it_keys() -> None:
    state = freshness(lazy=True)
    assert state.decide(START.shifted(3600), START) is Decision.REFRESH_FIRST


# --- when the next refresh is due ---


def test_first_refresh_is_due_at_once() -> None:
    state = freshness()
    assert state.is_due(START)
    assert state.next_due(START) == 0.0


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 60.0), (0.5, 54.0), (1.0, 48.0)])
def test_refresh_is_due_an_interval_after_the_last_began_up_to_a_fifth_earlier(
    jitter: float, seconds: float
) -> None:
    state = freshness(jitter=jitter)
    state.succeeded(START)
    assert state.next_due(START) == pytest.approx(seconds)
    assert not state.is_due(START.shifted(seconds - 0.1))
    assert state.is_due(START.shifted(seconds))


def test_pause_after_failures_doubles_up_to_the_interval() -> None:
    state, pauses = freshness(), []
    for _ in range(9):
        state.failed(START)
        pauses.append(state.next_due(START))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_year_of_failures_overflows_nothing() -> None:
    state = freshness()
    state.failures = 10**6
    state.failed(START)
    assert state.next_due(START) == 60.0


def test_pause_after_a_failure_is_cut_by_up_to_half() -> None:
    state = freshness(jitter=1.0)
    state.failed(START)
    assert state.next_due(START) == 0.5


def test_pause_never_exceeds_a_short_interval() -> None:
    state = Freshness(0.25, random=lambda: NEVER)
    state.failed(START)
    assert state.next_due(START) == 0.25


def test_success_ends_the_backing_off() -> None:
    state = freshness()
    for _ in range(5):
        state.failed(START)
    state.succeeded(START)
    state.failed(START)
    assert state.next_due(START) == 1.0


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        (None, 1.0),
        (0.0, 1.0),
        (0.5, 1.0),
        (120.0, 120.0),
        (86_400.0, MAX_RETRY_AFTER_SECONDS),
        (float("inf"), MAX_RETRY_AFTER_SECONDS),
    ],
)
def test_retry_after_lengthens_the_pause_within_reason(
    retry_after: float | None, seconds: float
) -> None:
    state = freshness()
    state.failed(START, retry_after)
    assert state.next_due(START) == seconds


@pytest.mark.parametrize("retry_after", [None, 120.0])
def test_the_end_of_trust_is_not_slept_through(retry_after: float | None) -> None:
    state = freshness()
    state.failures = 10
    state.failed(START, retry_after, trusted_until=START.shifted(7.0))
    assert state.next_due(START) == 7.0
    over = START.shifted(7.0)
    state.failed(over, trusted_until=over)
    assert state.next_due(over) == 60.0


def test_lookups_wait_for_retry_after_and_spend_nothing_meanwhile() -> None:
    state = freshness()
    state.failed(START, 120.0)
    assert not any(state.may_look_up(START.shifted(seconds)) for seconds in range(0, 120, 10))
    assert [state.may_look_up(START.shifted(120)) for _ in range(6)] == [True] * 5 + [False]


def test_success_lifts_retry_after() -> None:
    state = freshness()
    state.failed(START, 120.0)
    state.succeeded(START.shifted(1))
    assert state.may_look_up(START.shifted(1))


def test_failed_lookup_does_not_put_the_refresh_off() -> None:
    state = freshness()
    state.succeeded(START)
    for second in range(50):
        state.failed(START.shifted(second), 300.0, lookup=True)
    assert state.next_due(START) == 60.0
    assert not state.may_look_up(START.shifted(300))
    assert state.failures == 0


@pytest.mark.parametrize("lookup", [True, False])
def test_failure_of_another_fetch_does_not_cut_retry_after_short(lookup: bool) -> None:
    state = freshness()
    state.failed(START, 120.0)
    state.failed(START.shifted(20), lookup=lookup)
    assert state.blocked(START.shifted(20)) == 100.0


def test_retry_after_is_told_apart_from_the_budget() -> None:
    state = freshness()
    state.failed(START, 120.0)
    assert state.blocked(START.shifted(20)) == 100.0
    assert state.blocked(START.shifted(120)) == 0.0
    assert state.lookups.wait(START.shifted(120)) == 0.0
    for _ in range(5):
        assert state.may_look_up(START.shifted(120))
    assert state.lookups.wait(START.shifted(120)) == 12.0
    assert state.lookups.wait(START.shifted(126)) == pytest.approx(6.0)


def test_forgetting_makes_a_refresh_due() -> None:
    state = freshness()
    state.succeeded(START)
    state.forget()
    assert state.is_due(START)
