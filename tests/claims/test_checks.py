"""What the ready-made claim checks accept, and that they refuse everything else by our errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jwks_guard.claims import (
    ClaimCheck,
    actor,
    client,
    equals,
    includes,
    one_of,
    organization,
    profile_rfc9068,
)
from jwks_guard.errors import (
    ConfigurationError,
    InvalidClaimError,
    InvalidTokenError,
    MissingClaimError,
)
from jwks_guard.jose.claims import freeze

ISSUER, OTHER = "https://acme.eu.auth0.com/", "https://other.test/"
RFC9068: dict[str, Any] = {
    "iss": ISSUER,
    "exp": 1_700_000_600,
    "aud": "https://api.acme.com",
    "sub": "auth0|1",
    "client_id": "app-1",
    "iat": 1_700_000_000,
    "jti": "1",
}
BIG = 2**53


def refusal_of(check: ClaimCheck, claims: dict[str, Any]) -> InvalidClaimError | MissingClaimError:
    """The error, which is the same for claims as they were parsed and as verifiers hand them on."""
    errors: list[InvalidClaimError | MissingClaimError] = []
    for each in (claims, freeze(claims)):
        with pytest.raises(InvalidTokenError) as refusal:
            check(each)
        assert isinstance(refusal.value, InvalidClaimError | MissingClaimError)
        errors.append(refusal.value)
    assert str(errors[0]) == str(errors[1])
    return errors[0]


@pytest.mark.parametrize(
    ("check", "claims"),
    [
        (equals("x", "a"), {"x": "a"}),
        (equals("x", ""), {"x": ""}),
        (equals("x", 1), {"x": 1}),
        (equals("x", 1), {"x": 1.0}),
        (equals("x", 1.0), {"x": 1}),
        (equals("x", 0), {"x": -0.0}),
        (equals("x", True), {"x": True}),
        (equals("x", False), {"x": False}),
        (equals("https://acme.com/tier", "gold"), {"https://acme.com/tier": "gold"}),
        (one_of("x", ["a", 1]), {"x": 1}),
        (one_of("x", {"a", "b"}), {"x": "b"}),
        (one_of("x", (True, 1)), {"x": True}),
        (includes("x", "a"), {"x": ["a"]}),
        (includes("x", "a"), {"x": ["b", None, {"a": 1}, ["a"], "a"]}),
        (includes("x", "a", "b"), {"x": ["c", "b", "a"]}),
        (includes("x", "a"), {"x": "a"}),
        (includes("x", 7), {"x": 7}),
        (includes("x", 7), {"x": [7, "8"]}),
        (organization("org_1"), {"org_id": "org_1"}),
        (organization("org_1", "org_2"), {"org_id": "org_2", "org_name": "any"}),
        (organization(names=["Acme"]), {"org_id": "org_1", "org_name": "acme"}),
        (organization("org_1", names=["acme"]), {"org_id": "org_1"}),
        (organization("org_1", names=["acme"]), {"org_name": "acme"}),
        (client("a"), {"client_id": "a"}),
        (client("a", "b"), {"azp": "b"}),
        (client("a", "b"), {"cid": "a", "appid": "b"}),
        (client("a"), {"azp": "a", "client_id": None}),
        (actor("svc"), {"iss": ISSUER, "act": {"sub": "svc"}}),
        (actor("svc"), {"iss": ISSUER, "act": {"sub": "svc", "iss": ISSUER}}),
        (actor("svc"), {"iss": ISSUER, "act": {"sub": "svc", "iss": None}}),
        (actor("a", "svc"), {"iss": ISSUER, "act": {"sub": "svc", "act": {"sub": "evil"}}}),
        (actor("svc", issuer=OTHER), {"iss": ISSUER, "act": {"sub": "svc", "iss": OTHER}}),
        (actor("svc", issuer=ISSUER), {"iss": ISSUER, "act": {"sub": "svc"}}),
        (profile_rfc9068(), RFC9068),
        (profile_rfc9068(), {**RFC9068, "aud": ["a", "b"], "exp": 1.5, "extra": None}),
    ],
)
def test_check_accepts(check: ClaimCheck, claims: dict[str, Any]) -> None:
    for each in (claims, freeze(claims)):
        check(each)


@pytest.mark.parametrize(
    ("check", "claims"),
    [
        # true is 1 in Python, and not in JSON.
        (equals("x", 1), {"x": True}),
        (equals("x", 0), {"x": False}),
        (equals("x", True), {"x": 1}),
        (equals("x", True), {"x": 1.0}),
        (equals("x", True), {"x": "true"}),
        (equals("x", "1"), {"x": 1}),
        (equals("x", 1), {"x": "1"}),
        (equals("x", "a"), {"x": "A"}),
        (equals("x", "a"), {"x": "a "}),
        (equals("x", "a"), {"x": ["a"]}),
        (equals("x", "a"), {"x": {"a": 1}}),
        (equals("x", float(BIG)), {"x": BIG + 1}),
        (equals("x", 1), {"x": 10**400}),
        (one_of("x", ["a", 1]), {"x": True}),
        (one_of("x", ["a", "b"]), {"x": ["a", "b"]}),
        (one_of("x", ["a", "b"]), {"x": "ab"}),
        # A string is one element: it is neither searched nor split.
        (includes("x", "admin"), {"x": "not-admin"}),
        (includes("x", "admin"), {"x": "admin editor"}),
        (includes("x", "admin"), {"x": ["admin editor"]}),
        (includes("x", "admin"), {"x": {"admin": True}}),
        (includes("x", "admin"), {"x": [["admin"]]}),
        (includes("x", "admin"), {"x": []}),
        (includes("x", "a", "b"), {"x": ["a"]}),
        (includes("x", "a", "b"), {"x": "a"}),
        (includes("x", 1), {"x": [True]}),
        (includes("x", "1"), {"x": [1]}),
        (organization("org_1"), {"org_id": "ORG_1"}),
        (organization("org_1"), {"org_id": "org_2", "org_name": "org_1"}),
        (organization("org_1"), {"org_id": ["org_1"]}),
        (organization(names=["acme"]), {"org_id": "acme", "org_name": "other"}),
        (organization(names=["acme"]), {"org_name": "ACME"}),
        (organization(names=["ok"]), {"org_name": "o\N{KELVIN SIGN}"}),
        (organization("org_1", names=["acme"]), {"org_id": "acme", "org_name": "org_1"}),
        (client("a"), {"client_id": "a", "azp": "b"}),
        (client("a"), {"azp": ["a"]}),
        (client("a"), {"azp": "A"}),
        (actor("svc"), {"iss": ISSUER, "act": "svc"}),
        (actor("svc"), {"iss": ISSUER, "act": ["svc"]}),
        (actor("svc"), {"iss": ISSUER, "act": {}}),
        (actor("svc"), {"iss": ISSUER, "act": {"sub": ["svc"]}}),
        (actor("svc"), {"iss": ISSUER, "act": {"client_id": "svc"}}),
        (actor("svc"), {"iss": ISSUER, "sub": "svc", "act": {"sub": "evil"}}),
        # An earlier actor is history (RFC 8693 section 4.1).
        (actor("svc"), {"iss": ISSUER, "act": {"sub": "evil", "act": {"sub": "svc"}}}),
        (actor("svc"), {"iss": ISSUER, "act": {"act": {"sub": "svc"}}}),
        # Another issuer's "svc" is another party.
        (actor("svc"), {"iss": ISSUER, "act": {"sub": "svc", "iss": OTHER}}),
        (actor("svc"), {"iss": ISSUER, "act": {"sub": "svc", "iss": [ISSUER]}}),
        (actor("svc", issuer=OTHER), {"iss": ISSUER, "act": {"sub": "svc"}}),
        *((profile_rfc9068(), {**RFC9068, name: True}) for name in RFC9068),
        *((profile_rfc9068(), {**RFC9068, name: {}}) for name in RFC9068),
        *((profile_rfc9068(), {**RFC9068, name: []}) for name in RFC9068),
        *((profile_rfc9068(), {**RFC9068, name: "1"}) for name in ("exp", "iat")),
        *((profile_rfc9068(), {**RFC9068, name: 1}) for name in ("iss", "sub", "jti", "aud")),
        (profile_rfc9068(), {**RFC9068, "aud": ["a", 1]}),
        (profile_rfc9068(), {**RFC9068, "exp": 10**400}),
    ],
)
def test_check_refuses(check: ClaimCheck, claims: dict[str, Any]) -> None:
    refusal = refusal_of(check, claims)
    assert type(refusal) is InvalidClaimError
    assert refusal.claim in claims


@pytest.mark.parametrize(
    ("check", "claim"),
    [
        (equals("x", "a"), "x"),
        (one_of("x", ["a"]), "x"),
        (includes("x", "a"), "x"),
        (organization("org_1"), "org_id"),
        (organization(names=["acme"]), "org_name"),
        (organization("org_1", names=["acme"]), "org_id"),
        (client("a"), "client_id"),
        (actor("svc"), "act"),
    ],
)
def test_claim_that_is_missing_or_null_is_named(check: ClaimCheck, claim: str) -> None:
    for claims in ({"iss": ISSUER}, {"iss": ISSUER, claim: None}):
        refusal = refusal_of(check, claims)
        assert (type(refusal), refusal.claim) == (MissingClaimError, claim)
        assert f"`{claim}`" in str(refusal) or "client_id" in str(refusal)


@pytest.mark.parametrize("name", RFC9068)
def test_profile_requires_each_of_its_claims(name: str) -> None:
    for claims in (
        {other: value for other, value in RFC9068.items() if other != name},
        {**RFC9068, name: None},
    ):
        refusal = refusal_of(profile_rfc9068(), claims)
        assert (type(refusal), refusal.claim) == (MissingClaimError, name)


ALL: list[ClaimCheck] = [
    equals("a", "x"),
    one_of("b", ["x", 1, False]),
    includes("c", "x", 7),
    organization("org_1", names=["acme"]),
    client("app-1"),
    actor("svc"),
    profile_rfc9068(),
]
SECRET = "s3cret"


@pytest.mark.parametrize("check", ALL)
@pytest.mark.parametrize(
    "value", [SECRET, [SECRET], {SECRET: SECRET}, {"sub": SECRET}, {"iss": SECRET}]
)
def test_refusal_shows_no_value_of_a_claim(check: ClaimCheck, value: Any) -> None:
    names = ["a", "b", "c", "org_id", "org_name", "client_id", "azp", "act", *RFC9068]
    refusal = refusal_of(check, dict.fromkeys(names, value))
    assert SECRET not in repr(refusal)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from([ISSUER, "x", "org_1", "app-1", "svc", 7, 1, 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["sub", "iss", "act"]) | st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)
claim_names = st.sampled_from(
    ["a", "b", "c", "org_id", "org_name", "client_id", "azp", "act", *RFC9068]
)


@given(st.dictionaries(claim_names, json_values), st.booleans())
@example({"act": {"iss": 10**400, "sub": {}}}, True)
def test_any_claims_are_accepted_or_refused_by_our_errors(
    changes: dict[str, Any], from_good_claims: bool
) -> None:
    claims = {**RFC9068, **changes} if from_good_claims else changes
    for check in ALL:
        for each in (claims, freeze(claims)):
            with suppress(InvalidClaimError, MissingClaimError):
                check(each)


# --- the arguments ---

make_equals: Any = equals
make_one_of: Any = one_of
make_includes: Any = includes
make_organization: Any = organization
make_client: Any = client
make_actor: Any = actor


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("name", lambda: make_equals("", "a")),
        ("name", lambda: make_equals(1, "a")),
        ("value", lambda: make_equals("x", None)),
        ("value", lambda: make_equals("x", ["a"])),
        ("value", lambda: make_equals("x", {"a": 1})),
        ("value", lambda: make_equals("x", b"a")),
        ("value", lambda: make_equals("x", float("nan"))),
        ("value", lambda: make_equals("x", float("inf"))),
        ("name", lambda: make_one_of(None, ["a"])),
        ("values", lambda: make_one_of("x", "abc")),
        ("values", lambda: make_one_of("x", [])),
        ("values", lambda: make_one_of("x", ["a", None])),
        ("values", lambda: make_one_of("x", [["a"]])),
        ("values", lambda: make_one_of("x", (each for each in "ab"))),
        ("name", lambda: make_includes(["x"], "a")),
        ("values", lambda: make_includes("x")),
        ("values", lambda: make_includes("x", ["a", "b"])),
        ("organization", lambda: make_organization()),
        ("ids", lambda: make_organization("")),
        ("ids", lambda: make_organization(["org_1"])),
        ("names", lambda: make_organization(names=[])),
        ("names", lambda: make_organization(names="acme")),
        ("names", lambda: make_organization("org_1", names=None)),
        ("names", lambda: make_organization(names=["acme", 1])),
        ("ids", lambda: make_client()),
        ("ids", lambda: make_client(["a"])),
        ("ids", lambda: make_client("")),
        ("subjects", lambda: make_actor()),
        ("subjects", lambda: make_actor("svc", 1)),
        ("issuer", lambda: make_actor("svc", issuer="")),
        ("issuer", lambda: make_actor("svc", issuer=["a"])),
    ],
)
def test_argument_that_cannot_be_used_is_refused_by_its_name(
    argument: str, make: Callable[[], object]
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{argument} "):
        make()


MAKERS: list[Callable[[], ClaimCheck]] = [
    lambda: equals("x", "a"),
    lambda: equals("x", 1),
    lambda: equals("x", True),
    lambda: equals("y", "a"),
    lambda: one_of("x", ["a", "b"]),
    lambda: includes("x", "a"),
    lambda: includes("x", 1),
    lambda: includes("x", True),
    lambda: organization("org_1"),
    lambda: organization(names=["org_1"]),
    lambda: client("a"),
    lambda: actor("a"),
    lambda: actor("a", issuer=ISSUER),
    profile_rfc9068,
]


def test_checks_are_equal_if_they_accept_the_same() -> None:
    for place, make in enumerate(MAKERS):
        assert [make() == other() for other in MAKERS] == [
            place == other for other in range(len(MAKERS))
        ]
