from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from jwks_guard.admin import SigningKey
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.plans import emergency_plan
from jwks_guard.cli.keys.plan import print_plan
from jwks_guard.cli.keys.table import print_prose, sorted_keys, utc

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
CURRENT = SigningKey(kid="old", current=True)
NEXT = SigningKey(kid="new", next=True)
BEFORE = SigningKey(kid="older", current_until=NOW - 2 * HOUR)


def test_keys_are_sorted_by_state_and_then_by_their_end_with_the_latest_first() -> None:
    revoked = [SigningKey(kid=f"r{n}", revoked=True, revoked_at=NOW + n * HOUR) for n in (1, 2)]
    unknown = SigningKey(kid="unknown")
    found = sorted_keys([*revoked, unknown, BEFORE, CURRENT, NEXT])
    assert [key.kid for key in found] == ["new", "old", "older", "unknown", "r2", "r1"]


def test_dates_at_the_ends_of_time_are_shown_as_they_are() -> None:
    assert utc(None) == ""
    assert utc(datetime.fromisoformat("2027-01-15T09:30:59+01:30")) == "2027-01-15 08:00"
    assert utc(datetime.fromisoformat("0001-01-01T00:00:00+14:00")) == "0001-01-01 00:00+14:00"


@pytest.mark.parametrize("width", [30, 80, 300])
def test_prose_is_wrapped_at_words_and_never_too_wide_to_read(width: int) -> None:
    out = StringIO()
    console = Console(file=out, width=width)
    print_prose("Look at the very long-winded\x1b list. " * 9, console, "  - ", "    ")
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= min(width, 100)
    assert lines[0].startswith("  - Look at")
    assert "\x1b" not in out.getvalue()


def test_plan_is_printed_with_every_move_and_consequence() -> None:
    out = StringIO()
    plan = emergency_plan("https://acme.eu.auth0.com/", SigningKeys([CURRENT, NEXT]), NOW)
    print_plan(plan, Console(file=out, width=100))
    text = out.getvalue()
    assert "  old        current  ->  revoked\n" in text
    assert "  new        next     ->  current\n" in text
    assert "  a new key           ->  next\n" in text
    assert text.endswith("      https://acme.eu.auth0.com/wsfed/FederationMetadata/2007-06/"
                         "FederationMetadata.xml\n")  # fmt: skip
