from __future__ import annotations

import math

import pytest

from jwks_guard.base.durations import span


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.9, "0 s"),
        (-5.0, "0 s"),
        (math.nan, "0 s"),
        (75.0, "1 min 15 s"),
        (600.0, "10 min"),
        (90_061.0, "1 d 1 h"),
        (math.inf, "11574074 d 1 h"),
    ],
)
def test_duration_is_told_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert span(seconds) == words
