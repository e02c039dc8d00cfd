from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from jwks_guard import ManagementAPIError
from jwks_guard.admin import SigningKey
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.cli.keys.plan import emergency_plan, print_plan, revocation_plan, rotation_plan
from jwks_guard.cli.keys.table import print_prose, sorted_keys, utc

TENANT = "https://acme.eu.auth0.com/"
NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
CURRENT = SigningKey(kid="old", current=True)
NEXT = SigningKey(kid="new", next=True)
BEFORE = SigningKey(kid="older", current_until=NOW - 2 * HOUR)
END = datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "lifetime", "said"),
    [
        (BEFORE, HOUR, "expired by 2027-01-15 07:00 UTC, as far as is known."),
        (BEFORE, 3 * HOUR, "expires at 2027-01-15 09:00 UTC: until then, valid ones are refused."),
        (BEFORE, None, "would have lived, from 2027-01-15 06:00 UTC on, is not known here"),
        (SigningKey(kid="older"), HOUR, "would have lived, is not known here"),
        (SigningKey(kid="older", current_until=END), HOUR, "9999-12-31 23:59 UTC on, is not known"),
    ],
)
def test_revocation_tells_whether_valid_tokens_are_refused(
    key: SigningKey, lifetime: timedelta | None, said: str
) -> None:
    assert said in revocation_plan(TENANT, key, lifetime, NOW).consequences[1]


def test_rotation_tells_until_when_tokens_of_the_previous_key_live() -> None:
    plan = rotation_plan(TENANT, SigningKeys([CURRENT, NEXT]), HOUR, NOW)
    assert (
        "Those of old stay valid until they expire, at 2027-01-15 09:00 UTC at the earliest, or"
        in (plan.consequences[0])
    )


def test_emergency_ends_with_where_the_new_certificate_is() -> None:
    plan = emergency_plan(TENANT, SigningKeys([CURRENT, NEXT]), NOW)
    assert plan.moves[0].kid == "old"
    assert "jwks-guard keys show new --pem" in plan.consequences[-1]
    assert plan.certificates["pem"] == "https://acme.eu.auth0.com/pem"


def test_tenant_without_one_current_and_one_next_key_has_no_plan() -> None:
    for keys in ([CURRENT], [NEXT, CURRENT, CURRENT]):
        with pytest.raises(ManagementAPIError):
            rotation_plan(TENANT, SigningKeys(keys), None, NOW)


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
    print_plan(
        emergency_plan(TENANT, SigningKeys([CURRENT, NEXT]), NOW), Console(file=out, width=100)
    )
    text = out.getvalue()
    assert "  old        current  ->  revoked\n" in text
    assert "  new        next     ->  current\n" in text
    assert "  a new key           ->  next\n" in text
    assert text.endswith("      https://acme.eu.auth0.com/wsfed/FederationMetadata/2007-06/"
                         "FederationMetadata.xml\n")  # fmt: skip
