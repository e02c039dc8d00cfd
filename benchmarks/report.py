"""`make bench-report`: every benchmark, and docs/measured.md with its charts.

Each block of the page, between `<!-- NAME -->` and `<!-- /NAME -->`, is written from what one
benchmark left in `.bench/results`, and from that alone: the same figures give the same bytes. A
benchmark that fails is named at the end, and its blocks stay as they are, with their date.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from benchmarks.charts import Chart, guarded_requests, new_token, revoked_key
from benchmarks.report_costs import (
    fleet_table,
    flood_table,
    footprint_table,
    http_table,
    instruction_table,
)
from benchmarks.report_figures import BENCHMARKS, Result, ResultsError, read
from benchmarks.report_headline import headline
from benchmarks.report_tables import own_table, peer_table, python_table, revocation_table
from benchmarks.results import RESULTS

ROOT = Path(__file__).parent.parent
PAGE, README, CHARTS = Path("docs/measured.md"), Path("README.md"), Path("docs/charts")
FIGURES, PYTHONS = "figures", "pythons"
"""The blocks of the most important figures, which the README has too, and of other Pythons."""
WIDTH = 118  # characters of a line of prose


@dataclass(frozen=True, slots=True)
class Block:
    """A table of one benchmark, and the chart above it."""

    benchmark: str
    table: Callable[[Any], Iterator[str]]
    chart: Callable[[Any], Chart] | None = None

    def text(self, result: Result, chart: Chart | None) -> str:
        """What stands between the markers."""
        image = [f"![{chart.summary}](charts/{chart.name}.svg)"] if chart else []
        return markdown([*image, *self.table(result.figures), result.printed_by])


BLOCKS = {
    "peers": Block("speed", peer_table, new_token),
    "ours": Block("speed", own_table),
    "revocation": Block("revocation", revocation_table, revoked_key),
    "fleet": Block("fleet", fleet_table),
    "http": Block("http", http_table, guarded_requests),
    "flood": Block("http", flood_table),
    "footprint": Block("footprint", footprint_table),
    "instructions": Block("instructions", instruction_table),
}


def markdown(lines: Iterable[str]) -> str:
    """Rows of tables one below the other, and everything else as a paragraph of its own."""
    written: list[str] = []
    in_table = False
    for line in lines:
        row = line.startswith("|")
        if written and not (row and in_table):
            written.append("")
        written += [line] if row or line.startswith("![") else _wrapped(line)
        in_table = row
    return "\n".join(written) + "\n"


def _wrapped(line: str) -> list[str]:
    return wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False)


def placed(page: str, name: str, text: str) -> str:
    """The page with `text` in the block `name`. Raises ResultsError if it has no such block."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ResultsError(f"{PAGE} lacks the markers {begin} and {end}")
    return f"{before}{begin}\n{text}{end}{after}"


def write(results: Path, root: Path) -> list[str]:
    """Write page and charts below `root` from what is in `results`; gives what is missing there.

    Raises ResultsError, with nothing written, if the page lacks a block.
    """
    found, problems = _found(results)
    page, charts = (root / PAGE).read_text(), []
    for name, block in BLOCKS.items():
        if block.benchmark in found:
            result = found[block.benchmark]
            chart = block.chart(result.figures) if block.chart else None
            charts += [chart] if chart else []
            page = placed(page, name, block.text(result, chart))
    if everywhere := _on_every_python(results.parent):
        page = placed(page, PYTHONS, markdown(python_table(everywhere)))
    readme = (root / README).read_text()
    if found.keys() >= {"speed", "revocation", "fleet"}:
        text = markdown([headline({name: each.figures for name, each in found.items()})])
        page = placed(page, FIGURES, text)
        readme = placed(readme, FIGURES, text) if f"<!-- {FIGURES} -->" in readme else readme
    (root / CHARTS).mkdir(parents=True, exist_ok=True)
    for chart in charts:
        (root / CHARTS / f"{chart.name}.svg").write_text(chart.svg)
    (root / PAGE).write_text(page)
    (root / README).write_text(readme)
    return problems


def _on_every_python(folder: Path) -> list[Result]:
    """The results of `make bench` by each Python that ran it, where they can be read."""
    found = []
    for path in sorted(folder.glob("*/speed.json")):
        with suppress(ResultsError):
            found.append(read(path.parent, "speed"))
    return sorted(found, key=lambda each: [*map(int, each.python.split()[-1].split("."))])


def _found(folder: Path) -> tuple[dict[str, Result], list[str]]:
    found, problems = {}, []
    for name in BENCHMARKS:
        try:
            found[name] = read(folder, name)
        except ResultsError as error:
            problems.append(str(error))
    return found, problems


def measure(benchmarks: Mapping[str, Any] = BENCHMARKS) -> list[str]:
    """Run every benchmark, whatever becomes of those before; gives the ones that failed."""
    minutes = sum(each.minutes for each in benchmarks.values())
    print(f"{len(benchmarks)} benchmarks, about {minutes:.0f} minutes in all", flush=True)
    failed = []
    for each in benchmarks.values():
        print(f"\n--- {each.command}, about {each.minutes:g} min", flush=True)
        if subprocess.run([sys.executable, "-m", each.module], cwd=ROOT, check=False).returncode:
            failed.append(f"{each.command} failed, see above; what it did not renew keeps its date")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/measured.md and its charts.")
    parser.add_argument("--measure", action="store_true", help="run every benchmark before")
    failed = measure() if parser.parse_args().measure else []
    try:
        problems = [*failed, *write(RESULTS, ROOT)]
    except ResultsError as error:
        problems = [*failed, str(error)]
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
