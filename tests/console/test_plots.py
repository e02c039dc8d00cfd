"""Plots: what can be seen, and the text that says the same."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from jwks_guard.console.plots import bars, busiest, in_words


def heights(svg: str, path: str) -> list[float]:
    found = ElementTree.fromstring(svg).find(f"path[@class='{path}']")
    assert found is not None
    return [float(height) for height in re.findall(r"v-([\d.]+)", found.get("d", ""))]


def test_the_highest_bar_is_as_high_as_the_plot() -> None:
    assert heights(bars([0, 50, 100]), "bars") == [18.0, 36.0]


def test_one_token_beside_a_million_is_seen() -> None:
    assert min(heights(bars([1_000_000, 1]), "bars")) >= 2.0


def test_minutes_without_a_look_differ_from_minutes_without_a_token() -> None:
    svg = bars([None, None, 0, 4])
    assert len(heights(svg, "unseen")) == 2
    assert len(heights(svg, "bars")) == 1


def test_a_plot_has_its_numbers_as_text() -> None:
    assert in_words([None, 3, 0, 8, 0, 0]) == (
        "Accepted tokens per minute, in the last 6 minutes: 11 in all, 8 in the busiest minute, "
        "the last ones 2 min ago; 1 minute was not observed."
    )
    assert in_words([0, 0]) == "Accepted tokens per minute, in the last 2 minutes: 0 in all."
    assert in_words([None]) == "Accepted tokens per minute: not observed yet."
    assert "the last ones now" in in_words([1, 1])
    assert in_words([1, None]) in bars([1, None])


def test_without_any_minute_the_busiest_has_none() -> None:
    assert busiest([]) == busiest([None]) == 0
