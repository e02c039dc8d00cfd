"""Write the tables and charts of docs/scale.md from what the benchmark left in `.bench/results`.

The same figures give the same bytes. Nothing is written unless all of it can be.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import wrap
from typing import Any

import msgspec

from benchmarks.report_figures import ResultsError
from benchmarks.results import RESULTS
from benchmarks.scale.plan import Constants, plan_table, plan_text
from benchmarks.scale.plot import line_chart
from benchmarks.scale.series import Part
from benchmarks.scale.tables import figures_table, flat_up_to, models_table, runs_of
from benchmarks.scale.timing import ROOT

PAGE, CHARTS = Path("docs") / "scale.md", Path("docs") / "charts"
PARTS = ("keys", "issuers", "decisions", "sockets", "fleet")
END = "<!-- /scale -->"
SELF_EXPLANATORY = ("date", "processor", "system", "python")
WIDTH = 118  # characters of a line of prose


def begin(section: str) -> str:
    """The marker behind which the text of that section stands."""
    return f"<!-- scale: {section} -->"


def read(folder: Path) -> tuple[dict[str, Part], dict[str, dict[str, str]]]:
    """The parts, and the machine of each. Raises ResultsError, which names all that is missing."""
    missing = [name for name in PARTS if not (folder / f"scale-{name}.json").exists()]
    if missing:
        command = f"python -m benchmarks.scale {' '.join(missing)}"
        raise ResultsError(f"No results of {', '.join(missing)}: {command}")
    kept: dict[str, Any] = {
        name: json.loads((folder / f"scale-{name}.json").read_bytes()) for name in PARTS
    }
    try:
        parts = {name: msgspec.convert(each["figures"], Part) for name, each in kept.items()}
    except msgspec.ValidationError as error:
        raise ResultsError(f"Results have another form ({error}): make bench-scale") from None
    return parts, {name: each["machine"] for name, each in kept.items()}


def sections(parts: dict[str, Part], machines: dict[str, dict[str, str]]) -> dict[str, str]:
    """What stands behind each marker."""
    constants = Constants.of(parts["fleet"])
    texts = {name: _part_text(part) for name, part in parts.items()}
    plan = ["", *plan_table(constants), ""]
    for paragraph in plan_text(constants):
        plan += [_wrapped(paragraph), ""]
    return {"machine": _machines(machines), **texts, "plan": "\n".join(plan)}


def _part_text(part: Part) -> str:
    image = f"![{summary(part)}](charts/scale-{part.name}.svg)"
    head = f"Median of {runs_of(part)}, in brackets the least and the greatest."
    notes = [line for note in part.notes for line in ("", _wrapped(note))]
    tables = [*figures_table(part), "", *models_table(part)]
    return "\n".join(["", image, "", head, *notes, "", *tables, ""])


def _machines(machines: dict[str, dict[str, str]]) -> str:
    """What was measured on; if that is not one for all parts, which part on which."""
    parts: dict[str, list[str]] = {}
    for part, machine in machines.items():
        parts.setdefault(_facts(machine), []).append(part)
    if len(parts) == 1:
        return _wrapped(f"{next(iter(parts))}.") + "\n"
    return "\n".join(_wrapped(f"- {', '.join(of)}: {facts}.") for facts, of in parts.items()) + "\n"


def _facts(machine: dict[str, str]) -> str:
    return ", ".join(
        value if name in SELF_EXPLANATORY else f"{name} {value}" for name, value in machine.items()
    )


def summary(part: Part) -> str:
    """A chart in words."""
    grown = "; ".join(f"{each.name} is flat up to {flat_up_to(each)}" for each in part.series)
    return f"By the number of {part.per}s: {grown}."


def title(part: Part) -> str:
    """What a chart shows."""
    return f"By the number of {part.per}s, as a multiple of the figure at the smallest size"


def _wrapped(text: str) -> str:
    return "\n".join(wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def placed(page: str, texts: dict[str, str]) -> str:
    """The page with each text behind its marker. Raises ResultsError if it lacks one."""
    for section, text in texts.items():
        before, marker, rest = page.partition(begin(section))
        _, end, after = rest.partition(END)
        if not marker or not end:
            raise ResultsError(f"{PAGE.name} lacks the markers {begin(section)} and {END}")
        page = f"{before}{marker}\n{text}{end}{after}"
    return page


def write(results: Path, root: Path) -> None:
    """Write page and charts below `root` from what is in `results`."""
    parts, machines = read(results)
    page = placed((root / PAGE).read_text(), sections(parts, machines))
    charts = {name: line_chart(part, title(part), summary(part)) for name, part in parts.items()}
    (root / CHARTS).mkdir(parents=True, exist_ok=True)
    for name, svg in charts.items():
        (root / CHARTS / f"scale-{name}.svg").write_text(svg)
    (root / PAGE).write_text(page)


def main() -> None:
    try:
        write(RESULTS, ROOT)
    except ResultsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
