"""docs/errors.md has each error, and docs/troubleshooting.md each refusal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from jwks_guard import (
    JWKSGuardError,
    RequestRefusedError,
    SyncRequestGuard,
    SyncTokenVerifier,
    errors,
)
from jwks_guard.testing import LocalTenant
from tests.docs.pages import DOCS, rows

ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, JWKSGuardError)
}
BASES = {"error", "request_refused", "invalid_token"}


def test_table_has_every_error_with_its_code_and_status_and_no_other() -> None:
    found = [re.fullmatch(r"`(\w+)` `(\w+)` (\d{3})", row[0]) for row in rows(DOCS / "errors.md")]
    shown = [match.groups() for match in found if match]
    assert len(shown) == len(found)
    assert sorted(shown) == sorted(
        (name, kind.code, str(kind.http_status)) for name, kind in ERRORS.items()
    )


def test_every_error_has_a_cause_and_a_remedy() -> None:
    for error, cause, remedy in rows(DOCS / "errors.md"):
        assert cause, error
        assert remedy or "`JWKSGuardError`" in error


def test_section_of_an_error_says_what_it_is() -> None:
    """Each table is below the base class that it names."""
    text = (DOCS / "errors.md").read_text()
    token = text[text.index("## A token is not accepted") : text.index("## A decision")]
    named = set(re.findall(r"^\| `(\w+)`", token, re.MULTILINE))
    assert named == {
        name for name, kind in ERRORS.items() if issubclass(kind, errors.InvalidTokenError)
    }


def test_every_refusal_is_in_the_troubleshooting_and_nothing_else_is() -> None:
    refusals = {kind.code for kind in ERRORS.values() if issubclass(kind, RequestRefusedError)}
    text = (DOCS / "troubleshooting.md").read_text()
    tables = text[text.index("## Why 401?") : text.index("## Why 503?")]
    codes = set(re.findall(r"(?m)^\|(?: \d{3} \|)? `(\w+)`", tables))
    codes |= set(re.findall(r"The code is `(\w+)`", text))
    assert codes == refusals - BASES


@pytest.fixture(scope="module")
def accepting() -> Iterator[tuple[LocalTenant, SyncTokenVerifier]]:
    with (
        LocalTenant(algorithm="ES256") as tenant,
        SyncTokenVerifier(tenant.issuer, tenant.audience) as verifier,
    ):
        yield tenant, verifier


CAUSES: dict[str, tuple[str, Callable[[LocalTenant], str]]] = {
    "Bearer before what is given to verify": (
        "malformed_token",
        lambda tenant: f"Bearer {tenant.token()}",
    ),
    "quotes around it": ("malformed_token", lambda tenant: f'"{tenant.token()}"'),
    "cut off": ("malformed_token", lambda tenant: tenant.token().rpartition(".")[0]),
    "longer than allowed": (
        "malformed_token",
        lambda tenant: tenant.token(claims={"x": "a" * 17_000}),
    ),
    "opaque": ("unsupported_token", lambda _: "an-opaque-token"),
    "crit": ("unsupported_token", lambda tenant: tenant.token(header={"crit": ["b64"]})),
    "HS256": ("algorithm_not_allowed", lambda tenant: tenant.token(header={"alg": "HS256"})),
    "none": ("algorithm_not_allowed", lambda tenant: tenant.token(header={"alg": "none"})),
    "another type": ("token_type", lambda tenant: tenant.token(header={"typ": "logout+jwt"})),
    "another issuer": (
        "invalid_claim",
        lambda tenant: tenant.token(claims={"iss": tenant.issuer.rstrip("/")}),
    ),
    "another API": ("invalid_claim", lambda tenant: tenant.token(audience="https://other.test")),
    "no exp": ("missing_claim", lambda tenant: tenant.token(claims={"exp": None})),
    "bound": ("binding_required", lambda tenant: tenant.token(claims={"cnf": {"jkt": "x"}})),
    "expired": ("token_expired", lambda tenant: tenant.token(lifetime=-60)),
    "ahead": ("token_not_yet_valid", lambda tenant: tenant.token(claims={"nbf": 99_999_999_999})),
    "another tenant": ("unknown_key", lambda tenant: tenant.token(key=tenant.new_key())),
    "forged": ("invalid_signature", lambda tenant: tenant.forged_token()),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_cause_that_the_pages_name_gives_the_code(
    cause: str, accepting: tuple[LocalTenant, SyncTokenVerifier]
) -> None:
    tenant, verifier = accepting
    code, made = CAUSES[cause]
    with pytest.raises(RequestRefusedError) as refused:
        verifier.verify(made(tenant))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("form", "code", "status"),
    [
        ("Bearer Bearer {}", "invalid_request", 400),
        ('Bearer "{}"', "invalid_request", 400),
        ("Bearer '{}'", "invalid_request", 400),
        ("Bearer {} {}", "invalid_request", 400),
        ("Bearer {}.", "malformed_token", 401),
        ("Basic {}", "missing_credentials", 401),
    ],
)
def test_header_that_was_copied_wrongly_gives_the_code_of_the_pages(
    form: str, code: str, status: int, accepting: tuple[LocalTenant, SyncTokenVerifier]
) -> None:
    tenant, verifier = accepting
    token = tenant.token()
    guard = SyncRequestGuard(verifier)
    headers = {"Authorization": form.format(token, token)}
    with pytest.raises(RequestRefusedError) as refused:
        guard.authenticate(method="GET", url="http://127.0.0.1/", headers=headers)
    assert (refused.value.code, refused.value.http_status) == (code, status)
