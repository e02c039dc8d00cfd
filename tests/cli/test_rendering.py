"""What the commands print, letter by letter, at 80 and at 120 columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from jwks_guard.admin import IncidentReport, Refusal, SigningKey
from jwks_guard.admin.incident_record import markdown
from jwks_guard.admin.incident_report import BlastRadius, Step
from jwks_guard.cli.fleet.acknowledgements import print_lift, print_refusals
from jwks_guard.cli.fleet.session import Seen
from jwks_guard.cli.fleet.status_text import print_status
from jwks_guard.cli.fleet.tables import InstancesTable, KidsTable
from jwks_guard.cli.incident.drill import Evidence, measures_of, print_evidence
from jwks_guard.cli.incident.drill_traffic import Answer
from jwks_guard.cli.incident.screen import Screen, print_conclusion, step_line
from jwks_guard.cli.keys.table import print_table
from jwks_guard.distrust.state import Distrusted
from jwks_guard.readiness.clients import ClientUsage
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


RADIUS = BlastRadius(
    3,
    (
        ClientUsage("q2hnj2iu5vK0zTfVZ3hXG0yZJbWd1cEx", "org_9ybsU1dN2dKfDkBi", 4211),
        ClientUsage("q2hnj2iu5vK0zTfVZ3hXG0yZJbWd1cEx", None, 318),
        ClientUsage("https://a-client-that-names-itself-by-a-url.example/" + "x" * 48, None, 12),
        *(ClientUsage(f"client-{number}", f"org_{number}", 9 - number) for number in range(7)),
    ),
    31,
)
STEPS = (
    Step("blast radius", 0.0, 0.12, "ok", "4,611 tokens of 10 clients accepted in the last hour."),
    Step("tenant", 0.12, 0.31, "ok", "It is the tenant's current key."),
    Step("rotate", 0.31, 1.02, "ok", f"{NEXT} is the current key now."),
    Step("refuse", 1.02, 6.03, "ok", "2 instances refuse it."),
    Step(
        *("acknowledge", 6.03, 21.04, "warning"),
        f"2 of 3 instances acknowledged it. Not known of {MISSING.who}.",
    ),
    Step("revoke", 21.04, 21.4, "failed", "Forbidden: grant the client update:signing_keys."),
    Step("key set", 21.4),
)
REPORT = IncidentReport(
    kid=LEAKED,
    issuer=ISSUER,
    reason="found in a public repository",
    actor="ada@ops-1",
    began_at=MOMENT,
    at_tenant=True,
    steps=STEPS,
    radius=RADIUS,
    refusals=(*ACKNOWLEDGED, MISSING),
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


@pytest.mark.parametrize("width", WIDTHS)
def test_incident(width: int) -> None:
    console, out = printed(width)
    console.print(Screen(REPORT))
    console.print()
    print_conclusion(REPORT, f"jwks-guard incident -- {LEAKED}", console)
    text = "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
    assert len(text.splitlines()) <= 40, "one screen"
    compare("incident", width, text)


@pytest.mark.parametrize("width", WIDTHS)
def test_incident_without_a_terminal(width: int) -> None:
    console, out = printed(width)
    for step in STEPS[:-1]:
        step_line(step, console)
    compare("incident-lines", width, out.getvalue())


def test_record_of_an_incident() -> None:
    kept = RENDERED / "incident.md"
    text = markdown(REPORT, "VERSION")
    if not kept.exists():
        kept.write_text(text)
    assert text == kept.read_text()


@pytest.mark.parametrize("width", WIDTHS)
def test_evidence_of_a_drill(width: int) -> None:
    answers = [Answer(True, at, at + 0.01, 200 if at < 2.0 else 401) for at in (0.5, 1.5, 2.5, 3.5)]
    answers.append(Answer(False, 3.0, 3.01, 200))
    measures = tuple(measures_of(REPORT, answers, 1.0, 3.0))
    console, out = printed(width)
    print_evidence(Evidence(MOMENT, "2 probes", "test", measures, REPORT), console)
    compare("evidence", width, out.getvalue())


@pytest.mark.parametrize(("uncertain", "advice"), [(True, "Wait a few minutes"), (False, "Remove")])
def test_change_that_may_still_be_made_is_waited_for(uncertain: bool, advice: str) -> None:
    console, out = printed(80)
    report = replace(REPORT, uncertain=uncertain)
    print_conclusion(report, "jwks-guard incident -- a-leaked-key", console)
    assert advice in out.getvalue()


@pytest.mark.parametrize(("sent", "held"), [(2.9, True), (3.1, False)])
def test_answer_that_is_long_under_way_is_judged_by_when_it_was_asked_for(
    sent: float, held: bool
) -> None:
    answers = [
        Answer(True, 0.5, 0.6, 200),
        Answer(True, sent, 3.2, 200),
        Answer(True, 3.3, 3.4, 401),
    ]
    measures = {each.name: each for each in measures_of(REPORT, answers, 1.0, 3.0)}
    assert measures["decision to the last token accepted anywhere"].held is held
    assert measures["accepted once all had acknowledged"].held is held
