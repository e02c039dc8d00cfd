"""The benchmark report says what the figures say, also where that is unwelcome."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import charts, report
from benchmarks.charts import Bar, Scale
from benchmarks.report_figures import COMMANDS, ResultsError
from benchmarks.results import RESULTS

SVG = "{http://www.w3.org/2000/svg}"
ROOT = Path(__file__).parent.parent
MACHINE = {
    "date": "2030-01-02",
    "processor": "Abacus, 2 cores",
    "load": "0.2 in the minute before",
    "jwks-guard": "1.2.3",
}


def row(case: str, ratio: float, goal: float | None = None) -> dict[str, Any]:
    against = "bare signature check"
    figures = {"microseconds": 20.0, "ratio": ratio}
    return {"case": case, **figures, "against": against, "goal": goal}


def time(microseconds: float) -> dict[str, float]:
    return {"microseconds": microseconds, "least": 0.9 * microseconds, "cpu": microseconds}


def spread(ratio: float) -> dict[str, float]:
    return {"median": ratio, "lowest": 0.9 * ratio, "highest": 1.1 * ratio}


def peer(name: str, ratio: float, runtime: str = "python") -> dict[str, Any]:
    return {
        "name": name,
        "runtime": runtime,
        "versions": {name: "1.0", runtime: "3.0"},
        "bare": time(20.0),
        "new": time(24.0 * ratio),
        "again": time(2.0 * ratio),
        "new_to_ours": spread(ratio),
        "cpu_to_ours": spread(ratio),
        "again_to_ours": spread(ratio),
        "new_to_bare": spread(1.2 * ratio),
    }


def speed() -> dict[str, Any]:
    return {
        "token_bytes": 814,
        "ours": [row("bare signature check", 1.0), row("verify, cache off", 1.1, 1.2)],
        "other_algorithms": [row("ES256, verify, cache off", 1.05)],
        "threads": {
            "threads": 4,
            "fetch_milliseconds": 1000.0,
            "verifications": 9000.0,
            "slowest_milliseconds": 20.0,
            "slowest_otherwise_milliseconds": 20.0,
        },
        "peers": [peer("jwks-guard", 1.0), peer("joserfc", 2.5), peer("jose", 3.0, "node")],
        "unavailable": {},
    }


def consumer(name: str, accepted_for: float | None, *, told: bool = False) -> dict[str, Any]:
    fate = {"back_for": 0.0, "back_after": None, "good_refused": 0}
    flood = {"fetches": 5, "good_refused": 0}
    places = ("healthy, at once", "healthy, a minute", "outage, at once", "outage, a minute")
    before = ("usually", "just after a fetch", "after the flood")
    return {
        "name": name,
        "versions": {name: "1.0"},
        "refetches": 60.0,
        "untold": {"accepted_for": accepted_for, **fate},
        "told": {"accepted_for": 0.0, **fate} if told else None,
        "floods": dict.fromkeys(places, flood),
        "outage": {"began": 0.0, "refused": 0, "refused_after": 0, "fetches": 1},
        "rotations": dict.fromkeys(before, 0.0),
    }


def revocation() -> dict[str, Any]:
    ours = consumer("jwks-guard", 54.0, told=True)
    others = [consumer("pyjwt", 300.0), consumer("fast-jwt", None), consumer("joserfc", None)]
    return {each["name"]: each for each in (ours, *others)}


def guard(framework: str, name: str, ratio: float, target: float | None = None) -> dict[str, Any]:
    return {
        "framework": framework,
        "name": name,
        "version": "",
        "target": target,
        "rate": 1000.0 * ratio,
        "rate_ratio": ratio,
        "p50": 1.0 / ratio,
        "p99": 5.0 / ratio,
        "failed": 0,
    }


def flood(framework: str, name: str, p99: float) -> dict[str, Any]:
    place = {"framework": framework, "name": name}
    return {**place, "calm_p99": 4.0, "p99": p99, "failed": 0, "fetches": [5, 3]}


def over_http() -> dict[str, Any]:
    return {
        "throughput": [
            guard("Starlette", "unguarded", 1.0),
            guard("Starlette", "jwks_guard", 0.95, 0.9),
            guard("Express", "express-jwt", 0.3),
        ],
        "flood": [flood("Starlette", "jwks_guard", 5.0), flood("Express", "express-jwt", 9.0)],
        "not_measured": {},
    }


def footprint() -> dict[str, Any]:
    grown = {"10,000 tokens": 20.0, "200,000 tokens": 21.0}
    return {"megabytes": {"claims and scopes read": grown}, "import_seconds": {"ratio": 1.2}}


def counts() -> dict[str, Any]:
    plain = "verify, cache off"
    many = {f"{plain}, 1000 keys": 101, f"{plain}, 10,000 distrusted keys": 102}
    return {"calls": {plain: 100, **many}}


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Any]:
    """What the benchmarks found, with every goal met and nobody ahead; to be changed by a test."""
    (tmp_path / "README.md").write_text(f"# Title\n{report.BEGIN}\n{report.END}\nThe rest.\n")
    figures = (speed(), revocation(), over_http(), footprint(), counts())
    return dict(zip(COMMANDS, figures, strict=True))


def written(results: dict[str, Any], root: Path, **machines: dict[str, str]) -> str:
    """The README with the report of these results."""
    for name, figures in results.items():
        kept = {"machine": machines.get(name, MACHINE), "figures": figures}
        (root / f"{name}.json").write_text(json.dumps(kept))
    report.write(root, root)
    return (root / "README.md").read_text()


def flat(text: str) -> str:
    return " ".join(text.split())


# --- what it says ---


def test_goals_met_and_nobody_ahead(results: dict[str, Any], tmp_path: Path) -> None:
    text = written(results, tmp_path)
    assert "Every goal is met." in text
    assert "missed" not in text
    assert "**Ahead" not in text
    assert text.count("Nobody here is ahead of us.") == 3


def test_a_missed_goal_is_marked_in_words(results: dict[str, Any], tmp_path: Path) -> None:
    results["speed"]["ours"][1]["ratio"] = 1.2004
    text = written(results, tmp_path)
    assert "| verify, cache off / bare signature check | 1.200 | at most 1.20: **missed** |" in text
    assert re.search(r"^1 of \d+ goals missed, 0 not measured\.$", text, re.MULTILINE)


def test_a_goal_that_is_a_least_value_is_missed_below_it(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results["http"]["throughput"][1]["rate_ratio"] = 0.89
    assert "| 0.890 | at least 0.90: **missed** |" in written(results, tmp_path)


def test_threads_that_wait_for_a_fetch_miss_their_goal(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results["speed"]["threads"]["slowest_milliseconds"] = 950.0
    assert "| 950.0 ms | at most 500.0 ms: **missed** |" in written(results, tmp_path)


def test_what_was_not_measured_neither_meets_nor_misses(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results["footprint"]["megabytes"]["claims and scopes read"] = {"tracemalloc": 12.0}
    text = written(results, tmp_path)
    assert "| not measured | at most 25.0 MB |" in text
    assert re.search(r"^0 of \d+ goals missed, 1 not measured\.$", text, re.MULTILINE)


def test_peers_that_verify_faster_are_said_to_be_ahead(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results["speed"]["peers"][2]["again_to_ours"]["median"] = 0.5
    assert "**Ahead of us** in seen again: *jose*." in written(results, tmp_path)


def test_peers_that_drop_a_revoked_key_sooner_are_said_to_be_ahead(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results["revocation"]["pyjwt"]["untold"]["accepted_for"] = 15.0
    results["revocation"]["pyjwt"]["floods"]["outage, at once"] = {"fetches": 1, "good_refused": 0}
    assert (
        "**Ahead of us** in revoked key accepted for: *pyjwt*; fetches for 1000 unknown kids "
        "(outage, at once): *pyjwt*."
    ) in flat(written(results, tmp_path))


def test_guards_with_a_better_figure_are_said_to_be_ahead(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results["http"]["throughput"][2]["p99"] = 1.0
    results["http"]["flood"][1]["fetches"] = [0]
    expected = "**Ahead of us** in p99: *express-jwt*; fetches in the flood: *express-jwt*."
    assert expected in flat(written(results, tmp_path))


def test_nobody_is_left_out_in_silence(results: dict[str, Any], tmp_path: Path) -> None:
    results["speed"]["unavailable"] = {"fastmcp": "no network"}
    results["revocation"]["jwks-rsa"] = {"unavailable": "trace\nno node"}
    results["http"]["not_measured"] = {"Fastify: fastify-jwt-jwks": "no npm"}
    text = flat(written(results, tmp_path))
    for expected in (
        "Not measured: fastmcp (no network).",
        "Not measured: jwks-rsa (no node).",
        "Not measured: Fastify: fastify-jwt-jwks (no npm).",
        "which has to fetch the key set: joserfc 1.0.",
    ):
        assert expected in text


def test_circumstances_that_differ_are_told_apart(results: dict[str, Any], tmp_path: Path) -> None:
    busy = {**MACHINE, "date": "2030-01-03", "load": "1.9 in the minute before"}
    text = written(results, tmp_path, http=busy)
    expected = (
        "2030-01-02 (speed, revocation, footprint, instructions) or 2030-01-03 (http), "
        "Abacus, 2 cores, load 0.2 in the minute before (speed, revocation, footprint, "
        "instructions) or 1.9 in the minute before (http), jwks-guard 1.2.3."
    )
    assert expected in flat(text)


# --- what it writes ---


def test_the_rest_of_the_readme_stays_and_writing_again_changes_nothing(
    results: dict[str, Any], tmp_path: Path
) -> None:
    text = written(results, tmp_path)
    drawn = [path.read_bytes() for path in sorted(tmp_path.glob("benchmarks/charts/*.svg"))]
    assert text.startswith("# Title\n<!-- benchmarks -->\n## Measured\n")
    assert text.endswith("<!-- /benchmarks -->\nThe rest.\n")
    assert written(results, tmp_path) == text
    assert drawn == [path.read_bytes() for path in sorted(tmp_path.glob("benchmarks/charts/*.svg"))]


def test_missing_results_are_named_with_their_command_and_nothing_is_written(
    results: dict[str, Any], tmp_path: Path
) -> None:
    before = (tmp_path / "README.md").read_text()
    del results["speed"], results["http"]
    with pytest.raises(ResultsError) as refused:
        written(results, tmp_path)
    assert str(refused.value).splitlines() == [
        "speed.json is missing: make bench",
        "http.json is missing: make bench-http",
    ]
    assert (tmp_path / "README.md").read_text() == before
    assert not (tmp_path / "benchmarks").exists()


def test_the_command_fails_with_that_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match=r"instructions\.json is missing: make instructions"):
        report.main()


def test_results_of_another_form_are_named(results: dict[str, Any], tmp_path: Path) -> None:
    del results["speed"]["threads"]
    with pytest.raises(ResultsError, match=r"speed\.json has another form .*`threads`.*make bench"):
        written(results, tmp_path)


def test_a_readme_without_markers_is_left_alone(results: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Title\n")
    with pytest.raises(ResultsError, match="markers"):
        written(results, tmp_path)
    assert not (tmp_path / "benchmarks").exists()


def test_every_command_that_it_names_is_in_the_makefile() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {command.removeprefix("make ") for command in COMMANDS.values()} <= set(targets)
    assert RESULTS.parent.parent == ROOT


# --- charts ---


def chart(*bars: Bar, scale: Scale | None = None) -> ET.Element:
    scale = scale or Scale(0.0, 10.0)
    return ET.fromstring(charts.bar_chart("Title", "Summary", bars, scale, [(5.0, "half")]))


def texts(root: ET.Element, kind: str) -> list[str | None]:
    return [each.text for each in root.iter(f"{SVG}text") if each.get("class") == kind]


def test_a_chart_tells_what_it_is_without_being_seen() -> None:
    root = chart(Bar("peer", 5.0, "5"))
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "Title"
    assert root.findtext(f"{SVG}desc") == "Summary"
    assert texts(root, "mark") == ["half"]


def test_names_are_escaped() -> None:
    root = chart(Bar('<a> & "b"', 5.0, "<5>"))
    assert texts(root, "peer") == ['<a> & "b"', "<5>"]


def test_our_bar_is_marked_by_more_than_colour() -> None:
    root = chart(Bar("we", 1.0, "1", ours=True), Bar("they", 2.0, "2"))
    assert texts(root, "ours") == ["we", "1"]
    assert ".ours { font-weight: 700 }" in (root.findtext(f"{SVG}style") or "")


def test_bars_are_as_long_as_their_values() -> None:
    root = chart(Bar("one", 5.0, "5"), Bar("two", 10.0, "10"), Bar("none", None, "unknown"))
    ends = [
        [float(pair.split(",")[0]) for pair in each.get("points", "").split()]
        for each in root.iter(f"{SVG}polygon")
    ]
    short, long = (max(xs) - min(xs) for xs in ends)
    assert long == pytest.approx(2 * short, abs=0.2)


def test_a_value_past_the_scale_ends_in_an_arrow() -> None:
    scale = Scale(1.0, 100.0, logarithmic=True)
    root = chart(Bar("in", 100.0, "100"), Bar("past", float("inf"), "more"), scale=scale)
    assert [len(each.get("points", "").split()) for each in root.iter(f"{SVG}polygon")] == [4, 5]


def test_nothing_is_the_least_value_of_a_logarithmic_scale() -> None:
    scale = Scale(1.0, 100.0, logarithmic=True)
    assert [scale.share(value) for value in (0.0, 1.0, 10.0, 100.0)] == [0.0, 0.0, 0.5, 1.0]


def test_the_readme_shows_every_chart_that_there_is() -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme.partition(report.BEGIN)[2].partition(report.END)[0]
    shown = re.findall(r"!\[[^\]]+\]\(benchmarks/charts/([^)]+)\)", section)
    there = [path.name for path in (ROOT / report.CHARTS).glob("*.svg")]
    assert sorted(shown) == sorted(there)
    assert shown
    for name in there:
        assert ET.fromstring((ROOT / report.CHARTS / name).read_text()).tag == f"{SVG}svg"
