"""The example of docs/decisions.md is what the rule does."""

from __future__ import annotations

import re

from jwks_guard.distrust.state import Decision, Distrust
from tests.docs.pages import DOCS, rows


def known(flag: Distrust) -> str:
    made = [f"made {replica}: {each.number}" for replica, each in sorted(flag.made.items())]
    lifted = [f"lifted {replica}: {each.number}" for replica, each in sorted(flag.lifted.items())]
    return ", ".join([*made, *lifted]) or "nothing"


def test_table_is_what_two_replicas_do() -> None:
    one, other = Distrust(), Distrust()
    seen = []
    for step in range(5):
        if step == 0:
            one = one.decided("A", Decision(1), frozenset())
        elif step == 1:
            other = other.decided("B", Decision(1), frozenset())
        elif step == 3:
            one = other = one.merged(other)
        else:
            one = one.merged(one.lift("found", 0.0, "A"))
            other = one if step == 4 else other
        theirs = known(other) if step < 3 else None
        seen.append(
            [known(one), theirs, *("yes" if each.stands else "no" for each in (one, other))]
        )
    shown = [row[1:] for row in rows(DOCS / "decisions.md") if len(row) == 5]
    assert len(shown) == len(seen)
    for row, real in zip(shown, seen, strict=True):
        cells = [re.sub(r"\*", "", cell) for cell in row]
        assert cells[0] == real[0]
        assert cells[1] == (real[1] or cells[1])
        assert cells[2:] == real[2:]
