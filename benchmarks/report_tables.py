"""The report's tables of speed and of revoked keys, as Markdown, and who is ahead of us in what.

Nothing that they say in words about anybody's figures is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks import revocation_tables as revocation
from benchmarks.peers import PINNED
from benchmarks.report_figures import Result, Revocation, Speed
from benchmarks.revocation_tables import Findings
from benchmarks.rounds import Row
from benchmarks.speed_peers import Figures, faster
from benchmarks.workers import OURS, OWN

REMARKS = {
    "jwks-guard-fast": "jwks-guard with the extra `fast`, which checks RSA signatures by AWS-LC",
    "oxyjwt-key": "oxyjwt with its key handed over once: it reads no `kid` and fetches no key set",
    "fast-jwt-cached": "fast-jwt with its cache of results switched on",
}


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    for cells in (headings, ["---"] * len(headings), *rows):
        escaped = (cell.replace("|", r"\|") for cell in cells)
        yield f"| {' | '.join(escaped)} |"


def named(label: str, ours: bool) -> str:
    """A row's name: ours stands out."""
    return f"**{label}**" if ours else label


def ahead_of_us(better: Mapping[str, Sequence[str]]) -> str:
    """Who has the better figure, by what the figure is of."""
    ahead = [f"{what}: {', '.join(names)}" for what, names in better.items() if names]
    if not ahead:
        return "No other in this table has a better figure than jwks-guard."
    return f"**Better than jwks-guard** in {'; '.join(ahead)}."


def left_out(reasons: Mapping[str, str]) -> Iterator[str]:
    """Who was not measured, and why."""
    for name, reason in reasons.items():
        last_line = reason.strip().rpartition("\n")[2]
        yield f"Not measured: {name} ({last_line})."


# --- speed ---


def peer_table(speed: Speed) -> Iterator[str]:
    """Verification against the peers'."""
    rows = sorted(speed.peers, key=lambda each: (each.name not in OWN, each.new.microseconds))
    common = {
        runtime: _shared([each for each in rows if each.runtime == runtime])
        for runtime in ("python", "node")
    }
    yield from markdown_table(
        (
            "",
            "new token, / ours",
            "its processor time, / ours",
            "seen before, / ours",
            "new token, / bare check",
            "new token, µs (least)",
            "its processor time, µs",
            "seen before, µs",
            "bare check, µs",
            "versions",
        ),
        [(*_timed(each), _apart(each, common[each.runtime])) for each in rows],
    )
    present = {each.name for each in rows}
    yield from (f"{name}: {of}." for name, of in REMARKS.items() if name in present)
    shared = (f"{runtime.title()} libraries with {_versions(of)}" for runtime, of in common.items())
    yield f"{'; '.join(shared)}. Each version is the newest as of {PINNED}."
    yield ahead_of_us(
        {
            case: [f"*{name}* {ratio} of our time" for name, ratio in names.items()]
            for case, names in faster(speed.peers).items()
        }
    )
    yield from left_out(speed.unavailable)


def own_table(speed: Speed) -> Iterator[str]:
    """Our calls against the bare signature check."""
    yield from markdown_table(
        ("", "against", "time, / that", "processor time, / that", "µs (least)", "processor, µs"),
        [_own(row) for row in (*speed.ours, *speed.other_algorithms)],
    )
    seen = speed.threads
    yield (
        f"{seen.threads} threads verified known tokens while another thread waited "
        f"{seen.fetch_milliseconds:.0f} ms for a fetch: the slowest verification took "
        f"{seen.slowest_milliseconds:.1f} ms, and "
        f"{seen.slowest_otherwise_milliseconds:.1f} ms while nobody fetched."
    )


def python_table(measured: Sequence[Result]) -> Iterator[str]:
    """The speed on each Python version, and who is faster there."""
    yield from markdown_table(
        (
            "",
            "faster for a new token",
            "next ones, / ours",
            "new token, / bare check",
            "µs",
            "when",
        ),
        [_on_python(each) for each in measured],
    )
    for each in measured:
        yield from (f"{each.python}: {line}" for line in left_out(each.figures.unavailable))


def _on_python(result: Result) -> tuple[str, ...]:
    speed: Speed = result.figures
    ours = next(each for each in speed.peers if each.name == OURS)
    others = sorted(
        (each for each in speed.peers if each.name not in OWN),
        key=lambda each: each.new_to_ours.median,
    )
    ahead = [each for each in others if each.new_to_ours.median < 1]
    behind = [each for each in others if each not in ahead][:2]
    return (
        result.python,
        ", ".join(f"*{each.name}* {each.new_to_ours}" for each in ahead) or "none",
        ", ".join(f"{each.name} {each.new_to_ours}" for each in behind),
        str(ours.new_to_bare),
        f"{ours.new.microseconds:.1f} ({ours.new.least:.1f})",
        f"{result.machine['date']}, load {result.machine['load']}",
    )


def _own(row: Row) -> tuple[str, ...]:
    alone = row.case == row.against
    return (
        row.case,
        "-" if alone else row.against,
        "-" if alone else str(row.ratio),
        "-" if alone else str(row.cpu_ratio),
        f"{row.time.microseconds:.1f} ({row.time.least:.1f})",
        f"{row.time.cpu:.1f}",
    )


def _timed(each: Figures) -> tuple[str, ...]:
    return (
        named(each.name, each.name in OWN),
        str(each.new_to_ours),
        str(each.cpu_to_ours),
        str(each.again_to_ours),
        str(each.new_to_bare),
        f"{each.new.microseconds:.1f} ({each.new.least:.1f})",
        f"{each.new.cpu:.1f}",
        f"{each.again.microseconds:.1f}",
        f"{each.bare.microseconds:.1f}",
    )


def _shared(rows: Sequence[Figures]) -> dict[str, str]:
    """Name and version of what all of them are measured with, besides themselves."""
    everything = [
        {*each.versions.items()} - {(each.name, each.versions.get(each.name))} for each in rows
    ]
    return dict(sorted(set.intersection(*everything))) if everything else {}


def _apart(each: Figures, common: Mapping[str, str]) -> str:
    return _versions({name: of for name, of in each.versions.items() if name not in common})


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


# --- revocation ---

_REVOCATION: dict[str, tuple[revocation.Column, ...]] = {
    "revoked key accepted for": (revocation.ACCEPTED_FOR,),
    "after a call to distrust it": (revocation.ONCE_TOLD,),
    "one older answer: back for": (revocation.BACK_FOR,),
    "failed in an outage of 60 s": (revocation.FAILED,),
    "fetches for 1000 unknown kids, in health / outage": (
        revocation.FLOOD_IN_HEALTH,
        revocation.FLOOD_IN_OUTAGE,
    ),
    "new key accepted after, usually / at worst": (
        revocation.NEW_KEY,
        revocation.NEW_KEY_AT_WORST,
    ),
}


def revocation_table(results: Revocation) -> Iterator[str]:
    """What becomes of a revoked key, and what a bad hour of the issuer costs."""
    rows = results.found
    ordered = sorted((row for row in rows if row.fetches), key=lambda row: row.name != OURS)
    yield from markdown_table(
        ("", *_REVOCATION),
        [(named(revocation.label(row), row.name == OURS), *_fates(row)) for row in ordered],
    )
    yield ahead_of_us(
        {
            _what(heading, column): [f"*{name}*" for name in revocation.ahead(column, rows, OURS)]
            for heading, columns in _REVOCATION.items()
            for column in columns
        }
    )
    yield from filter(None, map(revocation.why_never_gone, ordered))
    aside = [revocation.label(row) for row in rows if not row.fetches]
    if aside:
        yield f"Up to the application, which has to fetch the key set: {', '.join(aside)}."
    yield from left_out(results.unavailable)


def _what(heading: str, column: revocation.Column) -> str:
    alone = len(_REVOCATION[heading]) == 1
    return heading if alone else f"{heading.partition(',')[0]} ({column.heading})"


def _fates(row: Findings) -> Iterator[str]:
    for columns in _REVOCATION.values():
        yield " / ".join(column.shown(row) for column in columns)
