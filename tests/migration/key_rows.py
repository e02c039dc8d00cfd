"""The rows of the page's tables that concern keys: outages, and keys that come and go."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.migration.sides import ENTRA_API, GOOD, Outcome, Pair, Row, Side

MARKS = {
    0: "at once",
    61: "within a minute",
    301: "within 5 minutes",
    601: "within 10 minutes",
    3_601: "within an hour",
    86_401: "within a day",
}
"""Seconds after a change of the keys at which both are asked, and what is then written."""
NEVER = "not within a day"
UNKNOWN = 20


def audience_list(pair: Pair) -> Outcome:
    """The audience is configured as a list."""
    audiences = json.dumps([pair.tenant.audience, "https://other.test"])
    shown = ('"https://api.acme.com"', "'https://api.acme.com'", f'"{ENTRA_API}"')
    opened = pair.open(**dict.fromkeys(shown, audiences))
    return _with_failures(opened, pair.ask(pair.token()))


def new_key(pair: Pair) -> Outcome:
    """A key that was published after both had started signs: when is its token accepted?"""
    pair.warm()
    pair.tenant.rotate()
    pair.tenant.rotate()
    return _first(pair, pair.token(), lambda outcome: outcome in GOOD)


def withdrawn_key(pair: Pair) -> Outcome:
    """A key is withdrawn from the key set: when is its token refused?"""
    pair.warm()
    stolen, kid = pair.token(), pair.tenant.key().kid
    pair.tenant.rotate()
    pair.tenant.revoke(kid)
    return _first(pair, stolen, lambda outcome: outcome not in GOOD)


def outage_at_start(pair: Pair) -> Outcome:
    """Every request to the issuer fails, and neither has keys."""
    pair.tenant.faults.status(503, path="*")
    try:
        opened = pair.open()
        return _with_failures(opened, pair.ask(pair.token()))
    finally:
        pair.tenant.faults.clear()


def outage_of(seconds: float, kid: str | None = None) -> Row:
    """Every request to the issuer has failed for so long: a good token, or one of unknown `kid`."""

    def row(pair: Pair) -> Outcome:
        pair.warm()
        pair.tenant.faults.status(503, path="*")
        try:
            pair.advance(seconds)
            return pair.ask(pair.forged(kid=kid) if kid else pair.token())
        finally:
            pair.tenant.faults.clear()

    return row


def unknown_kids(pair: Pair) -> Outcome:
    """How often the key set is fetched for 20 tokens of as many unknown kids, sent at once."""
    pair.warm()
    pair.advance(31)  # theirs may count the first fetch
    theirs, ours = (_fetches(pair, side) for side in pair.sides)
    return theirs, ours


def _fetches(pair: Pair, side: Side) -> str:
    pair.tenant.requests.clear()
    for number in range(UNKNOWN):
        side.do("ask", token=pair.forged(kid=f"unknown-{number}"))
    count = pair.tenant.requests.count()
    return f"{count} fetch" if count == 1 else f"{count} fetches"


def _first(pair: Pair, compact: str, holds: Callable[[str], bool]) -> Outcome:
    """The first mark at which it holds for what each says to a token."""
    found: list[str | None] = [None, None]
    passed = 0
    for mark, words in MARKS.items():
        if mark:
            pair.advance(mark - passed)
        passed = mark
        for index, outcome in enumerate(pair.ask(compact)):
            if found[index] is None and holds(outcome):
                found[index] = words
        if None not in found:
            break
    theirs, ours = (words or NEVER for words in found)
    return theirs, ours


def _with_failures(opened: tuple[Any, Any], asked: Outcome) -> Outcome:
    """What each said, or what it raised at its start."""
    theirs, ours = (
        raised if isinstance(raised, str) else said
        for raised, said in zip(opened, asked, strict=True)
    )
    return theirs, ours


KEYS: dict[str, Row] = {
    "the audience configured as a list": audience_list,
    "a key published later: accepted": new_key,
    "a key withdrawn: refused": withdrawn_key,
    "20 unknown kids at once": unknown_kids,
    "outage at the start": outage_at_start,
    "outage for half an hour": outage_of(1_801),
    "outage for two hours": outage_of(7_201),
    "outage, an unknown `kid`": outage_of(61, "never-published"),
}
"""Each starts both anew."""
