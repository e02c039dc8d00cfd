"""What decides whether a benchmark fails; the figures themselves are nobody's to assert here."""

from __future__ import annotations

import pytest

from benchmarks import instructions


def figures_of(counts: dict[str, int]) -> dict[str, object]:
    entry = {"with": instructions.circumstances(), "instructions": counts}
    return {instructions.python(): entry}


def test_a_count_that_grew_by_ten_percent_passes(capsys: pytest.CaptureFixture[str]) -> None:
    instructions.check({"verify": 1100}, figures_of({"verify": 1000}))
    assert "No count" in capsys.readouterr().out


def test_a_count_that_grew_by_more_fails_and_says_how_to_accept_it() -> None:
    now = {"verify": 1101, "cached": 10}
    with pytest.raises(SystemExit, match=r"(?s)verify: from 1,000 to 1,101.*--update") as refused:
        instructions.check(now, figures_of({"verify": 1000, "cached": 10}))
    assert "cached" not in str(refused.value)
    assert "other versions" not in str(refused.value)


def test_a_failure_names_the_versions_that_differ() -> None:
    counted_with = {**instructions.circumstances(), "msgspec": "0.0.1"}
    entry = {"with": counted_with, "instructions": {"verify": 1}}
    with pytest.raises(SystemExit, match=r"msgspec 0\.0\.1 then"):
        instructions.check({"verify": 2}, {instructions.python(): entry})


def test_a_case_without_a_committed_figure_fails() -> None:
    with pytest.raises(SystemExit, match="Other cases"):
        instructions.check({"verify": 1, "new": 1}, figures_of({"verify": 1}))


def test_a_python_without_committed_figures_passes_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    instructions.check({"verify": 1}, {})
    assert "NOT CHECKED" in capsys.readouterr().out
