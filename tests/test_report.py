"""The report says what the benchmarks' figures say, also where that is unwelcome."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import charts, report
from benchmarks.charts import Bar, Scale
from benchmarks.report_figures import BENCHMARKS, Benchmark, ResultsError
from benchmarks.results import RESULTS

SVG = "{http://www.w3.org/2000/svg}"
ROOT = Path(__file__).parent.parent
MACHINE = {
    "date": "2030-01-02",
    "processor": "Abacus, 2 cores",
    "load": "0.2 in the minute before",
    "python": "CPython 3.11.9",
    "jwks-guard": "1.2.3",
}
NAMES = ("guarded-requests", "new-token", "revoked-key")
OTHER_BLOCKS = (report.FIGURES, report.PYTHONS)


def time(microseconds: float) -> dict[str, float]:
    return {"microseconds": microseconds, "least": 0.9 * microseconds, "cpu": microseconds}


def spread(ratio: float) -> dict[str, float]:
    return {"median": ratio, "lowest": 0.9 * ratio, "highest": 1.1 * ratio}


def row(case: str, ratio: float, against: str = "bare signature check") -> dict[str, Any]:
    ratios = {"ratio": spread(ratio), "cpu_ratio": spread(ratio)}
    return {"case": case, "time": time(20.0), **ratios, "against": against}


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
        "ours": [row("bare signature check", 1.0), row("verify, cache off", 1.1)],
        "other_algorithms": [row("ES256, verify, cache off", 1.05, "ES256, bare")],
        "threads": {
            "threads": 4,
            "fetch_milliseconds": 1000.0,
            "verifications": 9000.0,
            "slowest_milliseconds": 21.0,
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
    return {"found": [ours, *others], "unavailable": {}}


def fleet() -> dict[str, Any]:
    found = {
        "revocations": 20,
        "median": 0.007,
        "worst": 0.0245,
        "requests": 1000,
        "requests_per_second": 500,
        "gap": 0.001,
        "refused_valid": 0,
    }
    return {"4 uvicorn processes": found}


def app(framework: str, name: str, ratio: float, floor: float | None = None) -> dict[str, Any]:
    return {
        "framework": framework,
        "name": name,
        "version": "",
        "rate": 1000.0 * ratio,
        "rate_ratio": spread(ratio),
        "floor": floor and "a middleware that does nothing",
        "floor_ratio": floor and spread(floor),
        "cpu": 100.0 / ratio,
        "cpu_ratio": spread(ratio),
        "p50": 1.0 / ratio,
        "p99": 5.0 / ratio,
        "failed": 0,
    }


def flood(framework: str, name: str, p99: float) -> dict[str, Any]:
    place = {"framework": framework, "name": name, "version": ""}
    times = {"calm_p99": 4.0, "p99": p99, "p99_ratio": spread(p99 / 4.0), "longest": 2.0 * p99}
    return {**place, **times, "failed": 0, "fetches": [5, 3]}


def over_http() -> dict[str, Any]:
    return {
        "cores": "The server was kept on processor 0, the load on processor 1.",
        "throughput": [
            app("Starlette", "unguarded", 1.0),
            app("Starlette", "jwks_guard", 0.80, 0.90),
            app("Express", "express-jwt", 0.3),
        ],
        "flood": [flood("Starlette", "jwks_guard", 5.0), flood("Express", "express-jwt", 9.0)],
        "not_measured": {},
    }


def footprint() -> dict[str, Any]:
    grown = {"10,000 tokens": 20.0, "200,000 tokens": 21.0}
    times = {"bare": 0.02, "httpx + jwt": 0.2, "jwks_guard": 0.24}
    imported = {"import_seconds": times, "import_ratio": spread(1.2)}
    return {"megabytes": {"claims and scopes read": grown}, **imported}


def counts() -> dict[str, Any]:
    return {"calls": {"verify, cache off": 50_000, "verify, cached": 10_000}}


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Any]:
    """What the benchmarks found, with nobody ahead of us; to be changed by a test."""
    (tmp_path / "docs").mkdir()
    (tmp_path / report.PAGE).write_text(f"# Title\n{empty_blocks()}The rest.\n")
    (tmp_path / report.README).write_text(f"# Ours\n{block(report.FIGURES)}The rest.\n")
    figures = (speed(), revocation(), fleet(), over_http(), footprint(), counts())
    return dict(zip(BENCHMARKS, figures, strict=True))


def block(name: str) -> str:
    return f"<!-- {name} -->\n<!-- /{name} -->\n"


def empty_blocks() -> str:
    return "".join(map(block, (*OTHER_BLOCKS, *report.BLOCKS)))


def written(results: dict[str, Any], root: Path) -> str:
    """The page with the report of these results."""
    keep(results, root / "results" / "3.11")
    assert report.write(root / "results" / "3.11", root) == []
    return (root / report.PAGE).read_text()


def keep(results: dict[str, Any], folder: Path, **machine: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, figures in results.items():
        kept = {"machine": {**MACHINE, **machine}, "figures": figures}
        (folder / f"{name}.json").write_text(json.dumps(kept))


def inside(page: str, name: str) -> str:
    """The text of one block, on one line."""
    return " ".join(page.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0].split())


# --- what it says ---


def test_every_ratio_comes_with_its_lowest_and_highest(
    results: dict[str, Any], tmp_path: Path
) -> None:
    page = written(results, tmp_path)
    assert "| joserfc | 2.50 (2.25-2.75) | 2.50 (2.25-2.75) |" in inside(page, "peers")
    assert (
        "| verify, cache off | bare signature check | 1.10 (0.99-1.21) | 1.10 (0.99-1.21)"
        in inside(page, "ours")
    )
    expected = "| **Starlette: jwks_guard** | 0.80 (0.72-0.88) | 0.90 (0.81-0.99) |"
    assert expected in inside(page, "http")


def test_the_least_time_and_that_of_the_processor_stand_beside_the_median(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results["speed"]["peers"][1]["new"] = {"microseconds": 60.0, "least": 55.0, "cpu": 58.0}
    assert "| 60.0 (55.0) | 58.0 |" in inside(written(results, tmp_path), "peers")


def test_where_nobody_is_ahead_each_table_says_so(results: dict[str, Any], tmp_path: Path) -> None:
    page = written(results, tmp_path)
    assert "Better than" not in page
    for name in ("peers", "revocation", "http", "flood"):
        assert "No other in this table has a better figure" in inside(page, name)


def test_peers_that_verify_faster_are_said_to_be_ahead(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results["speed"]["peers"].append(peer("oxyjwt-key", 0.8))
    results["speed"]["peers"][2]["again_to_ours"] = spread(0.5)
    page = written(results, tmp_path)
    expected = (
        "**Better than jwks-guard** in new token: *oxyjwt-key* 0.80 (0.72-0.88) of our time; "
        "token seen before: *jose* 0.50 (0.45-0.55) of our time, *oxyjwt-key* 0.80"
    )
    assert expected in inside(page, "peers")
    assert "oxyjwt-key: oxyjwt with its key handed over once" in inside(page, "peers")
    assert (
        "For a new one, oxyjwt-key takes 0.80 of our time; joserfc takes 2.5 times as long."
        in inside(page, report.FIGURES)
    )


def test_a_peer_that_is_ahead_on_another_python_is_named_in_its_row(
    results: dict[str, Any], tmp_path: Path
) -> None:
    newer = speed()
    newer["peers"].append(peer("ryjwt", 0.9))
    keep({"speed": newer}, tmp_path / "results" / "3.13", python="CPython 3.13.0")
    results["speed"]["unavailable"] = {"ryjwt": "it needs a newer Python"}
    found = inside(written(results, tmp_path), report.PYTHONS)
    assert "| CPython 3.11.9 | none | joserfc 2.50 (2.25-2.75), jose" in found
    assert "| CPython 3.13.0 | *ryjwt* 0.90 (0.81-0.99) |" in found
    assert "CPython 3.11.9: Not measured: ryjwt (it needs a newer Python)." in found


def test_peers_that_drop_a_revoked_key_sooner_are_said_to_be_ahead(
    results: dict[str, Any], tmp_path: Path
) -> None:
    other = results["revocation"]["found"][1]
    other["untold"]["accepted_for"] = 15.0
    other["floods"]["outage, at once"] = {"fetches": 1, "good_refused": 0}
    assert (
        "**Better than jwks-guard** in revoked key accepted for: *pyjwt*; fetches for 1000 unknown "
        "kids (outage, at once): *pyjwt*."
    ) in inside(written(results, tmp_path), "revocation")


def test_guards_with_a_better_figure_are_said_to_be_ahead(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results["http"]["throughput"][2]["p99"] = 1.0
    results["http"]["flood"][1]["fetches"] = [0]
    page = written(results, tmp_path)
    assert "**Better than jwks-guard** in p99: *express-jwt*." in inside(page, "http")
    assert "**Better than jwks-guard** in fetches: *express-jwt*." in inside(page, "flood")


def test_an_app_that_does_nothing_is_not_said_to_be_ahead(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results["http"]["throughput"].append(app("Starlette", "a middleware that does nothing", 0.98))
    assert "No other in this table" in inside(written(results, tmp_path), "http")


def test_nobody_is_left_out_in_silence(results: dict[str, Any], tmp_path: Path) -> None:
    results["speed"]["unavailable"] = {"fastmcp": "no network"}
    results["revocation"]["unavailable"] = {"jwks-rsa": "trace\nno node"}
    results["http"]["not_measured"] = {"Fastify: fastify-jwt-jwks": "no npm"}
    page = written(results, tmp_path)
    assert "Not measured: fastmcp (no network)." in inside(page, "peers")
    assert "Not measured: jwks-rsa (no node)." in inside(page, "revocation")
    assert "which has to fetch the key set: joserfc 1.0." in inside(page, "revocation")
    assert "Not measured: Fastify: fastify-jwt-jwks (no npm)." in inside(page, "http")


def test_whether_server_and_load_had_a_core_each_is_said(
    results: dict[str, Any], tmp_path: Path
) -> None:
    results["http"]["cores"] = "Server and load were not kept on cores of their own: why."
    assert results["http"]["cores"] in inside(written(results, tmp_path), "http")


def test_the_first_figures_stand_on_the_page_and_in_the_readme(
    results: dict[str, Any], tmp_path: Path
) -> None:
    page = written(results, tmp_path)
    first = inside(page, report.FIGURES)
    assert first == (
        "After a call of `distrust`, a revoked key was accepted for at most 25 ms on 4 processes "
        "that share a Redis; without that call for 54 s. Other libraries accepted it for 300 s to "
        "more than 24 h. A new RS256 token is verified in 24 µs, where the signature check alone "
        "takes 20 µs (ratio 1.20); one seen before in 2.0 µs. For a new one, joserfc takes 2.5 "
        "times as long."
    )
    assert inside((tmp_path / report.README).read_text(), report.FIGURES) == first


def test_the_figures_of_a_token_are_those_of_our_row_in_the_peers_table(
    results: dict[str, Any], tmp_path: Path
) -> None:
    ours = results["speed"]["peers"][0]
    ours |= {"new": time(31.4), "bare": time(22.6), "again": time(1.7), "new_to_bare": spread(1.41)}
    page = written(results, tmp_path)
    head, row = table_row(page, "peers", "**jwks-guard**")
    shown = dict(zip(head, row, strict=True))
    said = re.search(
        r"verified in (\d+) µs, where the signature check alone takes (\d+) µs "
        r"\(ratio (\S+)\); one seen before in (\S+) µs",
        inside(page, report.FIGURES),
    )
    assert said is not None
    new, bare, ratio, again = said.groups()
    assert new == f"{float(shown['new token, µs (least)'].split()[0]):.0f}" == "31"
    assert bare == f"{float(shown['bare check, µs']):.0f}" == "23"
    assert ratio == shown["new token, / bare check"].split()[0] == "1.41"
    assert again == shown["seen before, µs"] == "1.7"


def table_row(page: str, name: str, label: str) -> tuple[list[str], list[str]]:
    """The headings of the table in that block, and the row that begins with `label`."""
    block = page.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]
    rows = [[*map(str.strip, line.split("|")[1:-1])] for line in block.splitlines()]
    rows = [row for row in rows if row]
    return rows[0], next(row for row in rows if row[0] == label)


def test_a_readme_without_that_block_is_left_alone(results: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / report.README).write_text("# Ours\n")
    written(results, tmp_path)
    assert (tmp_path / report.README).read_text() == "# Ours\n"


# --- what it writes ---


def test_each_table_names_its_command_date_and_machine(
    results: dict[str, Any], tmp_path: Path
) -> None:
    page = written(results, tmp_path)
    for name, of in report.BLOCKS.items():
        found = inside(page, name)
        assert found.startswith(("|", "![")), name
        assert found.endswith(
            f"Printed by `{BENCHMARKS[of.benchmark].command}` on 2030-01-02: Abacus, 2 cores, load "
            "0.2 in the minute before, CPython 3.11.9, jwks-guard 1.2.3."
        ), name


def test_the_rest_of_the_page_stays_and_writing_again_changes_nothing(
    results: dict[str, Any], tmp_path: Path
) -> None:
    page, drawn = written(results, tmp_path), drawings(tmp_path)
    assert page.startswith("# Title\n<!-- figures -->\n")
    assert page.endswith("<!-- /instructions -->\nThe rest.\n")
    assert written(results, tmp_path) == page
    assert drawings(tmp_path) == drawn
    assert sorted(drawn) == ["guarded-requests.svg", "new-token.svg", "revoked-key.svg"]


def drawings(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / report.CHARTS).iterdir()}


def test_results_that_are_missing_or_of_another_form_are_named_and_the_rest_is_written(
    results: dict[str, Any], tmp_path: Path
) -> None:
    before = written(results, tmp_path)
    (tmp_path / "results" / "3.11" / "http.json").unlink()
    del results["http"], results["speed"]["threads"]
    results["footprint"]["megabytes"]["claims and scopes read"]["10,000 tokens"] = 19.5
    keep(results, tmp_path / "results" / "3.11")
    problems = report.write(tmp_path / "results" / "3.11", tmp_path)
    assert len(problems) == 2
    assert re.fullmatch(r"speed\.json has another form .*`threads`.*: make bench", problems[0])
    assert problems[1] == "http.json is missing: make bench-http"
    page = (tmp_path / report.PAGE).read_text()
    assert "| 19.5 |" in inside(page, "footprint")
    for name in ("peers", "ours", "http", "flood", report.FIGURES):
        assert inside(page, name) == inside(before, name)


def test_the_command_fails_with_that_message(
    results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "none")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["report"])
    with pytest.raises(SystemExit, match=r"instructions\.json is missing: make instructions"):
        report.main()


def test_a_page_without_a_block_is_left_alone(results: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / report.PAGE).write_text("# Title\n")
    with pytest.raises(ResultsError, match="lacks the markers <!-- peers -->"):
        written(results, tmp_path)
    assert (tmp_path / report.PAGE).read_text() == "# Title\n"
    assert not (tmp_path / report.CHARTS).exists()


def test_a_benchmark_that_fails_is_named_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "ROOT", tmp_path)
    (tmp_path / "bad.py").write_text("raise SystemExit('it broke')")
    (tmp_path / "good.py").write_text("print('it ran')")
    benchmarks = {name: Benchmark(f"make {name}", name, 1, dict) for name in ("bad", "good")}
    failed = report.measure(benchmarks)
    assert failed == ["make bad failed, see above; what it did not renew keeps its date"]
    said = capfd.readouterr()
    assert said.out.startswith("2 benchmarks, about 2 minutes in all\n")
    assert "it ran" in said.out
    assert "it broke" in said.err


# --- the page as it is committed ---


def test_every_block_of_the_page_is_filled_and_names_its_command() -> None:
    page = (ROOT / report.PAGE).read_text()
    assert blocks(page) == sorted((*report.BLOCKS, *OTHER_BLOCKS))
    assert inside(page, report.FIGURES)
    assert "|" in inside(page, report.PYTHONS)
    for name, of in report.BLOCKS.items():
        found = inside(page, name)
        assert "| --- |" in found, name
        assert f"Printed by `{BENCHMARKS[of.benchmark].command}` " in found, name


def blocks(page: str) -> list[str]:
    return sorted(re.findall(r"^<!-- ([a-z]+) -->$", page, re.MULTILINE))


def test_each_figure_outside_the_first_block_is_in_one_that_names_a_command() -> None:
    page = (ROOT / report.PAGE).read_text()
    outside = re.sub(r"<!-- ([a-z]+) -->.*?<!-- /\1 -->", "", page, flags=re.DOTALL)
    assert "| --- |" not in outside
    assert not re.findall(r"\d (?:ms|MB|%)", outside.replace("takes 200 ms here", ""))


def test_every_command_is_in_the_makefile_and_runs_the_same_module() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for each in BENCHMARKS.values():
        target = each.command.removeprefix("make ")
        (recipe,) = re.findall(rf"^{target}:.*\n\t(.*)$", makefile, re.MULTILINE)
        assert f"-m {each.module}" in recipe


def test_results_of_each_python_are_kept_apart() -> None:
    assert RESULTS.parent.parent.parent == ROOT
    assert RESULTS.name == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_no_page_speaks_of_goals() -> None:
    for word in ("goal", "target", "missed", "wanted"):
        assert not re.search(rf"\b{word}", (ROOT / report.PAGE).read_text(), re.IGNORECASE), word


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


def test_the_page_shows_every_chart_that_there_is() -> None:
    page = ROOT / report.PAGE
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text())
    there = [path for path in (ROOT / report.CHARTS).glob("*.svg") if path.stem in NAMES]
    assert sorted(page.parent / each for each in shown) == sorted(there)
    assert len(there) == len(NAMES)
    for path in there:
        assert ET.fromstring(path.read_text()).tag == f"{SVG}svg"
