"""Durations are counted in the first bucket that holds them."""

from __future__ import annotations

from jwks_guard.base.histogram import BOUNDS, Durations, Stopwatch

BOUNDS_OF_TWO = (0.1, 1.0)


def test_a_duration_counts_in_the_bucket_whose_bound_it_does_not_exceed() -> None:
    took = Stopwatch(BOUNDS_OF_TWO)
    for seconds in (0.0, 0.1, 0.5, 1.5):
        took.add(seconds)
    assert took.durations == Durations((2, 1, 1), 2.1, BOUNDS_OF_TWO)


def test_what_was_read_does_not_change_afterwards() -> None:
    took = Stopwatch(BOUNDS_OF_TWO)
    before = took.durations
    took.add(0.5)
    assert before == Durations((0, 0, 0), 0.0, BOUNDS_OF_TWO)


def test_durations_are_added_bucket_by_bucket() -> None:
    short, long = 2**-9, 64.0  # exact, as binary fractions are
    one, two = Durations().with_one(short), Durations().with_one(long).with_one(short)
    assert one.joined(two) == Durations((2, *(0,) * (len(BOUNDS) - 1), 1), long + 2 * short)
