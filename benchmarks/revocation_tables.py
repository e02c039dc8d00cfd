"""The figures of `benchmarks.revocation` as tables of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from benchmarks.revocation_scenarios import FLOOD, TRICKLE, Flood, Outage, Revocation

UP_TO_THE_APPLICATION = "up to the application"
"""Where a library leaves fetching to it: for as long as it keeps the key set that it fetched."""

# Read from the sources of the pinned versions, to hold against what the turned clock shows.
LIFETIMES = {
    "jwks-guard": "48 to 60 s, in the background (refresh_interval)",
    "jwks-client": "300 s (ttl)",
    "auth0-api-python": "the answer's max-age, here 15 s; 600 s at most (cache_ttl_seconds)",
    "fastmcp": "3600 s (_cache_ttl)",
    "pyjwt": "300 s (lifespan)",
    "joserfc": UP_TO_THE_APPLICATION,
    "python-jose": UP_TO_THE_APPLICATION,
    "jose": "600 s (cacheMaxAge)",
    "fast-jwt": "60 s for each kid (ttl of get-jwks)",
    "fast-jwt-cached": "600 s for each token (cacheTTL)",
    "jwks-rsa": "600 s for each kid (cacheMaxAge)",
}
WIDTH = 96  # characters of a line of prose


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found out about one consumer. Times are in virtual seconds; None: never."""

    name: str
    versions: dict[str, str]
    refetches: float | None
    """Seconds after which it fetches again while it sees known keys only."""
    untold: Revocation
    told: Revocation | None
    """With the library's own call to distrust a key, if it has one."""
    floods: dict[str, Flood]
    outage: Outage
    rotations: dict[str, float | None]
    """Seconds until a new key is accepted, by what went before."""

    @property
    def fetches(self) -> bool:
        """Whether the library fetches key sets; if not, how long one is used is not its choice."""
        return LIFETIMES[self.name] != UP_TO_THE_APPLICATION


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, what stands below it, and the figure of which less is better, if there is one."""

    heading: str
    shown: Callable[[Findings], str]
    figure: Callable[[Findings], float | None] | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A question, how it was put, and the columns that answer it."""

    question: str
    setting: str
    columns: Sequence[Column]
    remark: Callable[[Findings], str] = lambda _: ""


def text(table: Table, rows: Sequence[Findings], ours: str) -> Iterator[str]:
    """The lines of a table, and below it who is ahead of us."""
    yield from ("", table.question, *wrap(table.setting, WIDTH), "")
    headings = ["", *(column.heading for column in table.columns)]
    cells = [[label(row), *(column.shown(row) for column in table.columns)] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    for line in (headings, *cells):
        yield "  ".join(map(str.ljust, line, widths)).rstrip()
    for column in table.columns:
        if better := ahead(column, rows, ours):
            yield f"ahead of {ours} in '{column.heading}': {', '.join(better)}"
    for row in rows:
        yield from wrap(table.remark(row), WIDTH)


def label(found: Findings) -> str:
    """The consumer with its version; one that is another's variant has none of its own."""
    return f"{found.name} {found.versions.get(found.name, '')}".rstrip()


def versions(rows: Sequence[Findings]) -> str:
    """Every version that the figures are of, in one line."""
    named = {f"{name} {version}" for row in rows for name, version in row.versions.items()}
    return ", ".join(sorted(named))


def ahead(column: Column, rows: Sequence[Findings], ours: str) -> list[str]:
    """Who has a better figure than `ours`."""
    own = next(row for row in rows if row.name == ours)
    return [row.name for row in rows if _better(column, row, own)]


def _better(column: Column, row: Findings, own: Findings) -> bool:
    """Whether this row has the better figure; not by leaving the matter to the application."""
    if column.figure is None or not row.fetches:
        return False
    here, there = column.figure(row), column.figure(own)
    return here is not None and (there is None or round(here) < round(there))


def _seconds(value: float | None, never: str) -> str:
    return never if value is None else f"{value:.0f} s"


def _accepted(found: Findings) -> str:
    if not found.fetches:
        return UP_TO_THE_APPLICATION
    return _seconds(found.untold.accepted_for, "more than 24 h")


def _back_for(found: Findings) -> str:
    gone = found.untold.accepted_for is not None
    return _seconds(found.untold.back_for, "more than 24 h") if gone else "-"


def _back_after(found: Findings) -> str:
    gone = found.untold.accepted_for is not None
    return _seconds(found.untold.back_after, "not in 2 h") if gone else "-"


def why_never_gone(found: Findings) -> str:
    """Why this consumer never refuses the revoked key, where that needs a word."""
    if found.name != "fast-jwt" or found.untold.accepted_for is not None:
        return ""
    return (
        "fast-jwt: get-jwks falls back to its last copy of a key also when the set lists it no "
        "more, and renews the copy by that; it is gone after a minute without a request for it."
    )


def _told(found: Findings) -> str:
    told = found.told
    if told is None:
        return "no such call"
    back = "never back" if told.back_after is None and not told.back_for else "comes back"
    return f"{_seconds(told.accepted_for, 'more than 24 h')}, {back}"


def _flood(key: str) -> Column:
    def fetches(found: Findings) -> int:
        return found.floods[key].fetches

    return Column(key, lambda found: str(fetches(found)), fetches)


def _locked_out(found: Findings) -> int:
    return sum(each.good_refused for each in found.floods.values())


def _rotation(key: str) -> Column:
    return _until_accepted(key, lambda found: found.rotations[key])


def _until_accepted(heading: str, figure: Callable[[Findings], float | None]) -> Column:
    def shown(found: Findings) -> str:
        never = "more than 1 h" if found.fetches else UP_TO_THE_APPLICATION
        return _seconds(figure(found), never)

    return Column(heading, shown, figure)


def _longest_rotation(found: Findings) -> float | None:
    seconds = [each for each in found.rotations.values() if each is not None]
    return max(seconds) if len(seconds) == len(found.rotations) else None


ACCEPTED_FOR = Column("accepted for", _accepted, lambda found: found.untold.accepted_for)
BACK_FOR = Column("1 older answer: back for", _back_for, lambda found: found.untold.back_for)
ONCE_TOLD = Column("once told", _told)
FLOOD_IN_HEALTH, FLOOD_IN_OUTAGE = _flood("healthy, at once"), _flood("outage, at once")
FAILED = Column(
    "failed", lambda found: str(found.outage.refused), lambda found: found.outage.refused
)
NEW_KEY = _rotation("usually")
NEW_KEY_AT_WORST = _until_accepted("at worst", _longest_rotation)

TABLES = (
    Table(
        "How long does a revoked key go on being accepted?",
        "The tenant withdraws it just after the consumer fetched the set, which is the worst "
        "moment; no cache lies in between. A token of this key and one of a good key are "
        "offered every second, in the long run every 50. Then a cache answers once with the "
        "older set, and later with nothing but that. Told: by the library's own call to "
        "distrust a key. Up to the application: as long as it keeps the key set that it "
        "fetched.",
        (
            ACCEPTED_FOR,
            BACK_FOR,
            Column("only older ones: back after", _back_after),
            Column("good refused", lambda found: str(found.untold.good_refused)),
            ONCE_TOLD,
        ),
        why_never_gone,
    ),
    Table(
        "How many fetches do unknown kids cost?",
        f"{FLOOD} of them at once, or {TRICKLE} a second for a minute (with what is due anyway); "
        "the JWKS is healthy, or answers 503. Valid tokens are offered in between.",
        (
            FLOOD_IN_HEALTH,
            _flood("healthy, a minute"),
            FLOOD_IN_OUTAGE,
            _flood("outage, a minute"),
            Column("valid refused", lambda found: str(_locked_out(found)), _locked_out),
        ),
    ),
    Table(
        "How many valid requests fail while the JWKS answers 503 for 60 s?",
        "One request a second with a known key, for these 60 s and 60 s more; the worst of four "
        "moments at which the outage may begin after the last fetch.",
        (
            FAILED,
            Column("of these, after the 60 s", lambda found: str(found.outage.refused_after)),
            Column(
                "outage began after",
                lambda found: f"{found.outage.began:.0f} s" if found.outage.refused else "any",
            ),
            Column("fetches tried", lambda found: str(found.outage.fetches)),
        ),
    ),
    Table(
        "How soon is a rotated key accepted?",
        "The tenant publishes a new key and signs with it at once; a token by it is offered "
        "every second. Usually; when the consumer has just fetched, and then looked up an "
        f"unknown kid; after {FLOOD} unknown kids.",
        (NEW_KEY, _rotation("just after a fetch"), _rotation("after the flood")),
    ),
    Table(
        "Does the turned clock reach the consumer's cache?",
        "When it fetches again while it sees known keys only, and the lifetime that its source "
        "sets. Where they agree the times above are measured, by the turned clock; none is from "
        "a source.",
        (
            Column("fetches again after", lambda found: _seconds(found.refetches, "not in 2 h")),
            Column("by its source", lambda found: LIFETIMES[found.name]),
        ),
    ),
)
