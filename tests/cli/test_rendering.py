"""What the commands print, letter by letter, at 80 and at 120 columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from jwks_guard.admin import Refusal, SigningKey
from jwks_guard.cli.fleet.acknowledgements import print_lift, print_refusals
from jwks_guard.cli.fleet.session import Seen
from jwks_guard.cli.fleet.status_text import print_status
from jwks_guard.cli.fleet.tables import InstancesTable, KidsTable
from jwks_guard.cli.keys.table import print_table
from jwks_guard.distrust.state import Distrusted
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import KeyUsage

RENDERED = Path(__file__).parent / "rendered"
NOW = 1_800_000_000.0
ISSUER = "https://acme.eu.auth0.com/"
LEAKED, CURRENT, NEXT = "jw2ROvlV5gXxTvAH0Bsjm", "Qk7eJ3xWn1TzUo9LbYcRa", "Zp4sHd8vKfGm2NqXiEwTu"
WIDTHS = (80, 120)


def state(number: int, **members: object) -> InstanceState:
    shown: dict[str, object] = {
        "instance": f"{number:x}" * 32,
        "host": f"api-7d9c6b5f4-x2k{number}:17",
        "issuer": ISSUER,
        "started_at": NOW - 86_400,
        "reported_at": NOW - 1,
        "status": "ok",
        "confirmed_at": NOW - 12,
        "trusted_until": NOW + 3588,
        "kids": (CURRENT, NEXT, LEAKED),
        "usage": {
            LEAKED: KeyUsage(1, 0, 1, NOW - 61, NOW + 600),
            CURRENT: KeyUsage(5120, 0, 132, NOW - 2, NOW + 3600),
        },
        "version": "0.1.0",
    }
    return InstanceState(**{**shown, **members})  # type: ignore[arg-type]


STATES = (
    state(1, kids=(CURRENT, NEXT), refused={LEAKED: NOW - 3_700}),
    state(2),
    state(3, reported_at=NOW - 7_260),
    state(4, status="degraded", last_error="the last fetch failed: the connection was refused"),
)
DISTRUSTED = {LEAKED: Distrusted(ISSUER, LEAKED, "found in a repository", NOW - 3_700, "ops-1:42")}
SEEN = Seen(ISSUER, NOW, STATES, DISTRUSTED)
MOMENT = datetime.fromtimestamp(NOW, UTC)
KEYS = [
    SigningKey(kid=NEXT, next=True, fingerprint="AB:" * 19 + "CD"),
    SigningKey(kid=CURRENT, current=True, current_since=MOMENT, fingerprint="12:" * 19 + "34"),
    SigningKey(kid=LEAKED, revoked=True, revoked_at=MOMENT, current_since=MOMENT - timedelta(9)),
]
LONG = [SigningKey(kid="k" * 43, current=True, current_since=MOMENT, fingerprint="AB:" * 19 + "CD")]
ACKNOWLEDGED = [
    Refusal("api-7d9c6b5f4-x2k1:17 (11111111)", MOMENT),
    Refusal("api-7d9c6b5f4-x2k2:17 (22222222)", MOMENT),
]
MISSING = Refusal(
    "api-7d9c6b5f4-x2k3:17 (33333333)",
    None,
    "it has not acknowledged the decision; it last reported 7260 s ago",
)


def compare(name: str, width: int, text: str) -> None:
    """Compare `text` with what is kept; remove a file there to have it written anew."""
    kept = RENDERED / f"{name}-{width}.txt"
    if not kept.exists():
        kept.write_text(text)
    assert text == kept.read_text()
    assert max(map(len, text.splitlines())) <= width


def printed(width: int) -> tuple[Console, StringIO]:
    out = StringIO()
    return Console(file=out, width=width, highlight=False), out


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("watch", KidsTable(STATES, NOW)),
        ("can-revoke", InstancesTable(STATES, LEAKED, NOW)),
    ],
)
def test_tables_of_instances(name: str, shown: RenderableType, width: int) -> None:
    console, out = printed(width)
    console.print(shown)
    compare(name, width, "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines()))


@pytest.mark.parametrize("width", WIDTHS)
def test_status(width: int) -> None:
    console, out = printed(width)
    print_status(SEEN, console)
    compare("status", width, out.getvalue())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "keys"), [("keys-list", KEYS), ("keys-list-long", LONG)])
def test_keys_list(name: str, keys: list[SigningKey], width: int) -> None:
    console, out = printed(width)
    print_table(keys, console)
    compare(name, width, out.getvalue())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "refusals"),
    [
        ("distrust", ACKNOWLEDGED),
        ("distrust-one", ACKNOWLEDGED[:1]),
        ("distrust-missing", [*ACKNOWLEDGED, MISSING]),
    ],
)
def test_distrust(name: str, refusals: list[Refusal], width: int) -> None:
    console, out = printed(width)
    print_refusals(LEAKED, refusals, console)
    compare(name, width, out.getvalue())


@pytest.mark.parametrize("width", WIDTHS)
def test_reinstate(width: int) -> None:
    console, out = printed(width)
    print_lift(LEAKED, SEEN, console)
    compare("reinstate", width, out.getvalue())
