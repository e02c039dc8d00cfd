"""docs/migration.md: both sides of each section run, and its tables are what was seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from jwks_guard import TokenVerifier
from jwks_guard.claims import equals
from jwks_guard.errors import InvalidTokenError
from jwks_guard.testing import LocalTenant
from tests.migration.libraries import LIBRARIES, PAGE, Library
from tests.migration.runner import Block, StandingClock
from tests.migration.sides import GOOD, Outcome, Pair, addresses

EXCEPTIONS = "The exceptions"
"""A line that explains no row."""
NOT_THE_TOKEN = ("KeysUnavailableError", "PyJWKClientConnectionError")
"""Exceptions that say nothing about the token."""


@dataclass(frozen=True)
class Seen:
    """What became of a library's rows."""

    library: Library
    pair: Pair
    started: tuple[Any, Any]
    outcomes: dict[str, Outcome]


@pytest.fixture(scope="module", params=LIBRARIES, ids=lambda library: library.name)
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seen]:
    library: Library = request.param
    with library.running(tmp_path_factory.mktemp("migration")) as pair:
        started = pair.open()
        yield Seen(library, pair, started, {name: row(pair) for name, row in library.rows.items()})


def changes(heading: str) -> set[str]:
    """The rows that the lists below a heading explain, by what is bold before each colon."""
    (text,) = re.findall(rf"(?ms)^#+ {heading}\n(.*?)(?=^##|\Z)", PAGE.read_text())
    leads = re.findall(r"(?m)^- ((?:\*\*.*?\*\*(?:, )?)+): ", text)
    return {row for lead in leads for row in re.findall(r"\*\*(.+?)\*\*", lead)} - {EXCEPTIONS}


def verdict(outcome: str) -> str:
    """What an outcome means to the caller: exceptions that blame the token are all alike."""
    if outcome[:3].isdigit():
        return outcome[:3]
    if outcome in NOT_THE_TOKEN:
        return "unavailable"
    return "refused" if outcome.endswith("Error") else outcome


@pytest.mark.outside
def test_table_of_the_page_is_what_happens(seen: Seen) -> None:
    written = seen.library.written(seen.outcomes)
    assert seen.library.table() == written, f"the page should have:\n{written}"


@pytest.mark.outside
def test_each_row_in_which_the_two_differ_is_explained(seen: Seen) -> None:
    differ = {
        row for row, (theirs, ours) in seen.outcomes.items() if verdict(theirs) != verdict(ours)
    }
    common = changes("What changes with all of them") if seen.library.whole else set()
    assert differ == changes(seen.library.heading) | common


@pytest.mark.outside
def test_distrusted_key_is_refused_at_once_by_ours_alone(seen: Seen) -> None:
    pair, path = seen.pair, seen.library.path
    pair.open()
    stolen, kid = pair.token(claims={"scope": "read:things admin"}), pair.tenant.key().kid
    assert all(outcome in GOOD for outcome in pair.ask(stolen, path=path))
    pair.ours.do("call", name="distrust", kid=kid, reason="leaked", force=True)
    pair.tenant.rotate()  # what follows is signed by another key; this one stays in the key set
    theirs, ours = pair.ask(stolen, path=path)
    assert theirs in GOOD
    assert ours in ("RevokedKeyError", "401 invalid_token")


def raised(pair: Pair, compact: str) -> list[set[str]]:
    """The classes and bases of what both raise for a token."""
    return [set(side.do("classes", token=compact)) for side in pair.sides]


BASES = {"PyJWT": "PyJWTError", "python-jose": "JOSEError", "Authlib": "JoseError"}
RAISING = [library for library in LIBRARIES if library.name in BASES]


@pytest.mark.outside
@pytest.mark.parametrize("seen", RAISING, ids=lambda library: library.name, indirect=True)
def test_exceptions_have_the_bases_that_the_page_names(seen: Seen) -> None:
    pair, base = seen.pair, BASES[seen.library.name]
    pair.open()
    other = pair.token(claims={"aud": "https://other.test"})
    for bad in (pair.token(lifetime=-60), other, pair.forged(), "c2VjcmV0"):
        theirs, ours = raised(pair, bad)
        assert base in theirs
        assert {"InvalidTokenError", "RequestRefusedError"} <= ours
    theirs, ours = raised(pair, pair.forged(kid="unknown"))
    assert (base in theirs) == (seen.library.name != "Authlib")
    assert {"InvalidTokenError", "RequestRefusedError"} <= ours
    assert ("AuthlibDeprecationWarning" in seen.started[0]) == (seen.library.name == "Authlib")


@pytest.mark.outside
@pytest.mark.parametrize("seen", RAISING, ids=lambda library: library.name, indirect=True)
def test_code_around_it_gets_the_same_claims(seen: Seen) -> None:
    pair = seen.pair
    pair.open()
    token = pair.token(audience=[pair.tenant.audience], claims={"https://acme.com/roles": ["a"]})
    theirs, ours = (side.do("claims", token=token) for side in pair.sides)
    assert theirs == ours


@pytest.mark.outside
@pytest.mark.parametrize("seen", LIBRARIES[:1], ids=lambda library: library.name, indirect=True)
def test_outage_is_an_error_of_the_token_to_pyjwt_alone(seen: Seen) -> None:
    pair = seen.pair
    pair.tenant.faults.status(503, path="*")
    try:
        pair.open()
        theirs, ours = raised(pair, pair.token())
    finally:
        pair.tenant.faults.clear()
    assert "PyJWTError" in theirs
    assert "RequestRefusedError" in ours
    assert "InvalidTokenError" not in ours


@pytest.mark.outside
@pytest.mark.parametrize("seen", LIBRARIES[:1], ids=lambda library: library.name, indirect=True)
def test_table_of_exceptions_was_seen(seen: Seen) -> None:
    (table,) = re.findall(r"<!-- PyJWT: exceptions -->\n(.*?\n)\n", PAGE.read_text(), re.DOTALL)
    lines = [
        [re.findall(r"`(\w+)`", cell) for cell in line.strip("|").split("|")]
        for line in table.splitlines()[2:]
    ]
    assert lines
    pairs = {(their, our) for theirs, ours in lines for their in theirs for our in ours}
    assert pairs <= set(seen.outcomes.values())


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
async def test_code_of_ours_runs(library: Library) -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        code = library.block("after")
        for old, new in addresses(tenant).items():
            code = code.replace(old, new)
        block = Block(StandingClock(0))
        assert await block.open(code) == []
        shape: dict[str, Any] = {"scope": "read:things admin"}
        assert await block.ask(tenant.token(**shape), library.path) in GOOD
        assert await block.ask(tenant.token(lifetime=-60, **shape), library.path) not in GOOD
        await block.close()


@pytest.mark.parametrize(
    ("options", "shape", "accepted"),
    [
        ({"leeway": 0}, {"lifetime": -3}, False),
        ({"required_claims": ()}, {"claims": {"exp": None}}, True),
        ({"required_claims": ["exp", "nbf"]}, {}, False),
        ({"bindings": "checked upstream"}, {"claims": {"cnf": {"jkt": "0ZcOCORZNYy"}}}, True),
        ({"claim_checks": [equals("acct", 0)]}, {"claims": {"acct": 0}}, True),
        ({"claim_checks": [equals("acct", 0)]}, {"claims": {"acct": 1}}, False),
        ({"claim_checks": [equals("acct", 0)]}, {}, False),
    ],
)
async def test_options_that_the_page_names_do_what_it_says(
    options: dict[str, Any], shape: dict[str, Any], accepted: bool
) -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        token = tenant.token(**shape)
        async with TokenVerifier(tenant.issuer, tenant.audience, **options) as verifier:
            if accepted:
                assert await verifier.verify(token)
            else:
                with pytest.raises(InvalidTokenError):
                    await verifier.verify(token)
