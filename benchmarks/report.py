"""`make bench-report`: the README's section about the measurements, and its charts.

It is written from what the benchmarks left in `.bench/results`, and from that alone: the same
figures give the same bytes. Nothing is written unless all of it can be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

from benchmarks.charts import Chart, drawn
from benchmarks.http_apps.server import TOKENS
from benchmarks.report_figures import Results, ResultsError, read
from benchmarks.report_tables import OUR_FRAMEWORK, http_table, peer_table, revocation_table
from benchmarks.report_targets import target_table
from benchmarks.results import RESULTS

ROOT = Path(__file__).parent.parent
README, CHARTS = ROOT / "README.md", Path("benchmarks") / "charts"
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
SELF_EXPLANATORY = ("date", "processor", "system", "python")
WIDTH = 118  # characters of a line of prose

AGAINST_PEERS = (
    "Each library as its documentation shows it for Auth0's RS256 tokens, in a process of its own, "
    "all in turn; ratios are medians of the rounds' ratios. Tokens come one after the other, so "
    "this is what one request waits: `jose` checks signatures in other threads, and gets more out "
    "of many requests at once."
)
WHEN_REVOKED = (
    "Each library with its defaults, its clock turned by the benchmark. The tenant withdraws the "
    "key right after the library fetched the set. Once told: by the library's own call to distrust "
    "a key. One older answer: from a cache in between, later."
)
OVER_HTTP = (
    f"One worker on one core, {TOKENS} tokens in turn. The flood is of forged tokens with unknown "
    "kids, the p99 of legitimate requests. Guards for frameworks in which ours is not measured are "
    f"compared with ours in {OUR_FRAMEWORK}."
)


def section(results: Results, charts: list[Chart]) -> str:
    """What stands between the markers."""
    lines = [line for line in _lines(results, charts) for line in _wrapped(line)]
    return "\n".join(lines) + "\n"


def _lines(results: Results, charts: list[Chart]) -> Iterator[str]:
    image = {
        each.name: f"![{each.summary}]({CHARTS.as_posix()}/{each.name}.svg)" for each in charts
    }
    yield from ("## Measured", "", _circumstances(results), "")
    yield from target_table(results)
    yield from ("", image["new-token"], "", AGAINST_PEERS, "")
    yield from peer_table(results.speed)
    yield from ("", image["revoked-key"], "", WHEN_REVOKED, "")
    yield from revocation_table(results.revocation, results.unexamined)
    yield from ("", image["guarded-requests"], "", OVER_HTTP, "")
    yield from http_table(results.http)


def _wrapped(line: str) -> list[str]:
    if not line or line.startswith(("|", "![")):
        return [line]
    return wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False)


def _circumstances(results: Results) -> str:
    """Date, machine and versions; where the benchmarks' differ, those of each."""
    names = results.machines["speed"]
    facts = ", ".join(_fact(results, name) for name in names)
    return (
        f"{facts}. RS256 with 2048 bits, an access token of {results.speed.token_bytes} bytes. "
        "`make bench-report` measures and writes all of this again."
    )


def _fact(results: Results, name: str) -> str:
    """One line of the machine's description, which is one for all benchmarks if it is the same."""
    benchmarks: dict[str, list[str]] = {}
    for benchmark, machine in results.machines.items():
        benchmarks.setdefault(machine.get(name, "unknown"), []).append(benchmark)
    each = [f"{value} ({', '.join(of)})" for value, of in benchmarks.items()]
    value = " or ".join(each) if len(benchmarks) > 1 else next(iter(benchmarks))
    return value if name in SELF_EXPLANATORY else f"{name} {value}"


def placed(readme: str, text: str) -> str:
    """The README with `text` between the markers. Raises ResultsError if it has none."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ResultsError(f"README.md lacks the markers {BEGIN} and {END}")
    return f"{before}{begin}\n{text}{end}{after}"


def write(results: Path, root: Path) -> None:
    """Write section and charts below `root` from what is in `results`."""
    found = read(results)
    charts = drawn(found)
    readme = placed((root / README.name).read_text(), section(found, charts))
    (root / CHARTS).mkdir(parents=True, exist_ok=True)
    for chart in charts:
        (root / CHARTS / f"{chart.name}.svg").write_text(chart.svg)
    (root / README.name).write_text(readme)


def main() -> None:
    try:
        write(RESULTS, ROOT)
    except ResultsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
