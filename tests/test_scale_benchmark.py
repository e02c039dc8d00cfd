"""The scale benchmark measures what it says, and its models say what the figures say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.report_figures import ResultsError
from benchmarks.scale import decisions, issuers, keys, report
from benchmarks.scale.plan import Constants, limits, plan_table, plan_text
from benchmarks.scale.plot import line_chart
from benchmarks.scale.series import Part, Point, Runs, Series, fit, fitted, grows_at
from benchmarks.scale.tables import figures_table, model, models_table, number, quantity

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"
SIZES = (1, 10, 100, 1_000)
MACHINE = {"date": "2030-01-02", "processor": "Abacus, 2 cores", "jwks-guard": "1.2.3"}


def series(
    values: Sequence[float], sizes: Sequence[int] = SIZES, *, spread: float = 0.0, unit: str = "ms"
) -> Series:
    """Of three runs at each size: the value, and as much less and more as `spread` says."""
    shares = (1 - spread, 1.0, 1 + spread)
    points = [
        Point(size, [value * share for share in shares])
        for size, value in zip(sizes, values, strict=True)
    ]
    return Series("made up", unit, points)


def fleet() -> Part:
    """Instances of which each sends 2 commands a second, and 0.01 % of the core of Redis."""
    sizes = (2, 4, 8)
    lines: dict[tuple[str, str], Callable[[int], float]] = {
        ("idle: commands", "/s"): lambda n: 2.0 * n,
        ("idle: traffic per instance", "KB/s"): lambda n: 0.5,
        ("idle: processor of Redis", "ms/s"): lambda n: 1 + 0.1 * n,
        ("idle: memory of Redis", "MB"): lambda n: 1 + 0.02 * n,
        ("decision: distrust to last refusal", "ms"): lambda n: 5 + 1.0 * n,
        ("decision: commands", ""): lambda n: 10.0 * n,
        ("decision: processor of Redis", "ms"): lambda n: 0.1 * n,
        ("connections", ""): lambda n: 2.0 * n,
        ("idle: state of an instance", "bytes"): lambda n: 700.0,
    }
    made = [
        replace(series([of(n) for n in sizes], sizes, unit=unit), name=name)
        for (name, unit), of in lines.items()
    ]
    return Part("fleet", "instance", made, facts={"maxclients": 10_000.0})


# --- it measures ---


async def test_keys_are_measured_at_every_size() -> None:
    part = await keys.measured((1, 20), rounds=1, memory_rounds=1)
    assert_measured(part, (1, 20))
    assert all(100 > p.median > 20 for p in part.of("memory of the process").points)


async def test_issuers_are_measured_at_every_size() -> None:
    part = await issuers.measured((1, 5), rounds=1, memory_rounds=1)
    assert_measured(part, (1, 5))


async def test_decisions_are_measured_at_every_size_and_the_journal_grows_with_them() -> None:
    part = await decisions.measured((0, 5, 50), rounds=1, memory_rounds=1)
    assert_measured(part, (0, 5, 50))
    none, few, many = (point.median for point in part.of("journal").points)
    assert none == 0
    assert many == pytest.approx(10 * few, rel=0.1)


def assert_measured(part: Part, sizes: tuple[int, ...]) -> None:
    for each in part.series:
        assert tuple(point.size for point in each.points) == sizes, each.name
        assert all(point.median > 0 for point in each.points if point.size), each.name
    assert {"cached verify", "uncached verify"} <= {each.name for each in part.series}


# --- models ---


def test_a_flat_series_is_a_constant() -> None:
    found = fit(series([5.0, 5.1, 4.9, 5.0]))
    assert (found.model, found.b) == ("constant", 0.0)
    assert found.a == pytest.approx(5.0, rel=0.01)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("linear", [3.0 + 0.5 * n for n in SIZES]),
        ("quadratic", [3.0 + 0.5 * n**2 for n in SIZES]),
        ("logarithmic", [3.0, 3.5, 4.0, 4.5]),
    ],
)
def test_a_series_that_grows_gives_its_constants_back(name: str, values: list[float]) -> None:
    found = fit(series(values))
    assert found.model == name
    assert found.a == pytest.approx(3.0)
    assert found.b == pytest.approx(0.5)
    assert found.error == pytest.approx(0.0, abs=1e-9)
    assert found.value(1_000) == pytest.approx(values[-1])


def test_a_size_of_nothing_has_a_place_in_each_model() -> None:
    points = series([2.0, 3.0, 4.0], (0, 10, 100)).points
    assert fitted(points, "logarithmic").value(0) == pytest.approx(2.0)
    assert fitted(series([0.0, 5.0, 50.0], (0, 10, 100)).points, "linear").b == pytest.approx(0.5)


def test_small_sizes_count_as_much_as_large_ones() -> None:
    bent = fitted(series([1.0, 10.0, 100.0, 3_000.0]).points, "linear")
    assert bent.value(1) == pytest.approx(1.0, rel=0.05)


def test_the_error_is_relative() -> None:
    points = series([10.0, 10.0, 20.0, 20.0]).points
    large = series([1_000.0, 1_000.0, 2_000.0, 2_000.0]).points
    assert fitted(points, "constant").error == pytest.approx(fitted(large, "constant").error)


# --- where a series stops being flat ---


def test_a_median_of_a_quarter_more_is_flat_and_of_more_is_not() -> None:
    assert grows_at(series([4.0, 4.0, 5.0, 5.0])) is None
    assert grows_at(series([4.0, 4.0, 5.01, 4.0])) == 100


def test_growth_that_the_spread_explains_is_none() -> None:
    grown = [4.0, 4.0, 4.0, 6.0]
    assert grows_at(series(grown, spread=0.1)) == 1_000
    assert grows_at(series(grown, spread=0.5)) is None  # from 4.5 on, and up to 5.0


def test_one_slow_run_hides_no_growth() -> None:
    points = [Point(1, [4.0] * 6 + [40.0]), Point(10, [6.0] * 7)]
    assert grows_at(Series("made up", "ms", points)) == 10


def test_what_gets_less_is_flat() -> None:
    assert grows_at(series([4.0, 3.0, 2.0, 1.0])) is None


# --- what is written ---


def test_figures_are_shown_with_their_spread_and_models_with_their_constants() -> None:
    grown = series([3.0 + 0.0005 * n for n in (1, 10_000)], (1, 10_000), spread=0.1)
    part = Part("keys", "key", [grown])
    assert list(figures_table(part))[2] == "| made up, ms | 3 (2.7 to 3.3) | 8 (7.2 to 8.8) |"
    row = list(models_table(part))[2]
    assert row.startswith("| made up | ")
    assert row.endswith("| 0 % | 1, not 10,000 |")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([5.0, 5.0, 5.0, 5.0], "5 ms"),
        ([3.0 + 0.002 * n for n in SIZES], "3 ms + 2 µs per key"),
        ([3.0 + n**2 for n in SIZES], "3 ms + 1 ms per key²"),
        ([3.0, 4.0, 5.0, 6.0], "3 ms + 1 ms per tenfold"),
    ],
)
def test_a_model_is_shown_with_units(values: list[float], text: str) -> None:
    assert model(series(values), "key") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.0123, "0.0123"), (1.5, "1.5"), (12.34, "12.3"), (12_345.6, "12,346")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_small_and_large_quantities_have_another_unit() -> None:
    assert quantity(0.0123, "MB") == "12.3 KB"
    assert quantity(12_300.0, "ms") == "12.3 s"
    assert quantity(12_300.0, "") == "12,300"
    assert quantity(0.0000123, "ms") == "12.3 ns"


def test_the_plan_follows_from_the_constants() -> None:
    constants = Constants.of(fleet())
    rows = {row.split(" | ")[0]: row for row in plan_table(constants)}
    assert rows["| commands per second, idle"].endswith("| 2,000 | 20,000 |")
    assert rows["| network of Redis, idle"].endswith("| 0.5 MB/s | 5 MB/s |")
    assert rows["| connections to Redis"].endswith("| 2,000 | 20,000 |")
    assert rows["| push time, Redis' own work"].endswith("| 100 ms | 1 s |")
    assert rows["| push time, by the line of this machine"].endswith("| 1 s | 10 s |")
    text = " ".join(plan_text(constants))
    assert "1,000 instances are within" in text
    assert "10,000 instances are beyond" in text
    assert "The first limit is `maxclients` (10,000), at 5,000 instances" in text
    assert "10,000 idle instances send 8,000 commands per second" in text


def test_each_limit_follows_from_its_constant() -> None:
    ends = limits(Constants.of(fleet()))
    assert ends["the one core of Redis while idle"] == pytest.approx(9_990)
    assert ends["a network of 1 Gbit/s"] == pytest.approx(250_000)


# --- the page ---


def kept(folder: Path, *, without: str = "") -> Path:
    """Results of every part but one."""
    parts = {name: Part(name, "thing", [series([1.0, 2.0, 3.0, 4.0])]) for name in report.PARTS}
    parts["fleet"] = fleet()
    for name, part in parts.items():
        if name != without:
            text = json.dumps({"machine": MACHINE, "figures": asdict(part)})
            (folder / f"scale-{name}.json").write_text(text)
    return folder


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    page = tmp_path / report.PAGE
    page.write_text((ROOT / report.PAGE).read_text())
    return page


def test_the_page_is_written_between_its_markers_and_the_same_again(
    page: Path, tmp_path: Path
) -> None:
    before = page.read_text()
    report.write(kept(tmp_path), tmp_path)
    text = page.read_text()
    assert outside(text) == outside(before)
    assert "2030-01-02, Abacus, 2 cores, jwks-guard 1.2.3." in text
    assert "| made up, ms | 1 | 2 | 3 | 4 |" in text
    report.write(kept(tmp_path), tmp_path)
    assert page.read_text() == text


def outside(text: str) -> str:
    """What no benchmark writes."""
    return re.sub(r"(<!-- scale: \w+ -->)\n.*?(<!-- /scale -->)", r"\1\2", text, flags=re.DOTALL)


def test_a_page_without_a_marker_is_left_alone(page: Path, tmp_path: Path) -> None:
    page.write_text(page.read_text().replace(report.begin("plan"), ""))
    before = page.read_text()
    with pytest.raises(ResultsError, match="scale: plan"):
        report.write(kept(tmp_path), tmp_path)
    assert page.read_text() == before
    assert not (tmp_path / report.CHARTS).exists()


def test_missing_results_are_named_with_the_command_that_makes_them(
    page: Path, tmp_path: Path
) -> None:
    with pytest.raises(ResultsError, match=r"python -m benchmarks\.scale sockets"):
        report.write(kept(tmp_path, without="sockets"), tmp_path)


def test_parts_of_several_machines_are_told_apart(page: Path, tmp_path: Path) -> None:
    kept(tmp_path)
    other = json.loads((tmp_path / "scale-keys.json").read_text())
    other["machine"] = {**MACHINE, "date": "2030-01-03"}
    (tmp_path / "scale-keys.json").write_text(json.dumps(other))
    report.write(tmp_path, tmp_path)
    assert "- keys: 2030-01-03, Abacus" in page.read_text()


def test_the_committed_page_has_figures_and_shows_every_chart() -> None:
    text = (ROOT / report.PAGE).read_text()
    assert outside(text) != text
    shown = re.findall(r"!\[[^\]]+\]\(charts/([^)]+)\)", text)
    assert shown == [f"scale-{name}.svg" for name in report.PARTS]
    for name in shown:
        assert ET.fromstring((ROOT / report.CHARTS / name).read_text()).tag == f"{SVG}svg"


# --- the charts ---


def chart(*drawn: Series) -> ET.Element:
    return ET.fromstring(line_chart(Part("keys", "key", list(drawn)), "Title", "Summary"))


def test_a_chart_tells_what_it_is_without_being_seen() -> None:
    root = chart(series([1.0, 2.0, 3.0, 4.0]))
    assert root.get("role") == "img"
    assert (root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")) == ("Title", "Summary")


def test_a_tenfold_is_as_high_and_as_wide_everywhere() -> None:
    (line,) = chart(series([1.0, 10.0, 100.0, 1_000.0])).iter(f"{SVG}polyline")
    places = [pair.split(",") for pair in line.attrib["points"].split()]
    for along in (0, 1):
        steps = [float(b[along]) - float(a[along]) for a, b in pairwise(places)]
        assert steps == pytest.approx([steps[0]] * 3, abs=0.2)


def test_a_figure_of_nothing_is_left_out_and_does_not_fail() -> None:
    root = chart(series([0.0, 2.0, 4.0], (0, 10, 100)), series([0.0, 0.0, 0.0], (0, 10, 100)))
    (line,) = root.iter(f"{SVG}polyline")
    assert len(line.attrib["points"].split()) == 2


def test_names_at_the_ends_of_lines_do_not_overlap() -> None:
    root = chart(*(series([1.0, 2.0, 3.0, 4.0]) for _ in range(8)))
    names = (e for e in root.iter(f"{SVG}text") if (e.get("class") or "").startswith("name"))
    heights = sorted(float(each.attrib["y"]) for each in names)
    assert all(b - a >= 16.9 for a, b in pairwise(heights))
    assert heights[-1] < float(root.attrib["height"])


def test_runs_are_kept_by_series_and_size() -> None:
    runs = Runs()
    for size in (10, 1):
        runs.took("verify", "µs", size, 2e-6)
    runs.add("memory", "MB", 1, 50.0, 51.0)
    verify, memory = runs.series()
    assert [point.size for point in verify.points] == [1, 10]
    assert verify.points[0].runs == [pytest.approx(2.0)]
    assert (memory.points[0].lowest, memory.points[0].highest) == (50.0, 51.0)


def test_results_survive_being_kept(tmp_path: Path) -> None:
    parts, machines = report.read(kept(tmp_path))
    assert parts["fleet"] == fleet()
    assert machines["fleet"] == MACHINE


def test_the_make_target_runs_the_benchmark_and_the_report() -> None:
    makefile: Any = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^bench-scale:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    assert re.findall(r"-m (\S+)", recipe[1]) == ["benchmarks.scale", "benchmarks.scale.report"]
