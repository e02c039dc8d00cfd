from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.errors import (
    BindingRequiredError,
    InvalidClaimError,
    InvalidTokenError,
    MalformedTokenError,
    MissingClaimError,
    TokenExpiredError,
    TokenNotYetValidError,
)
from jwks_guard.jose.claims import (
    ClaimsPolicy,
    freeze,
    permissions_of,
    scopes_of,
    unverified_issuer,
)
from jwks_guard.jose.compact import b64url_encode

NOW = 1_700_000_000
ISSUER = "https://acme.eu.auth0.com/"
API = "https://api.acme.com"
POLICY = ClaimsPolicy(
    issuer=ISSUER,
    audiences=frozenset({API}),
    leeway=5.0,
    required_claims=("exp",),
    max_token_age=None,
)
GOOD = {"iss": ISSUER, "aud": API, "sub": "auth0|1", "iat": NOW - 10, "exp": NOW + 60}
NO_DATES = [
    None, True, False, "1700000000", "", [], [NOW], {}, {"$date": NOW},
    math.nan, math.inf, -math.inf, 1e308, -1e308, 10**400, -(10**400),
    253_402_300_800, 253_402_300_799.5, -62_135_596_801, NOW * 1000,
]  # fmt: skip


def check(policy: ClaimsPolicy = POLICY, **claims: Any) -> float:
    return policy.check({**GOOD, **claims}, NOW)


def check_without(name: str, policy: ClaimsPolicy = POLICY) -> float:
    return policy.check({k: v for k, v in GOOD.items() if k != name}, NOW)


def test_good_claims_are_accepted_until_exp_and_leeway() -> None:
    assert check() == NOW + 60 + 5


@pytest.mark.parametrize(
    "iss",
    [
        "https://acme.eu.auth0.com", "https://acme.eu.auth0.com/ ", "https://ACME.eu.auth0.com/",
        "http://acme.eu.auth0.com/", "acme", "https://", "", f"{ISSUER}x", 1, True, {},
        [ISSUER], {ISSUER: 1},
    ],
)  # fmt: skip
def test_issuer_is_compared_exactly(iss: Any) -> None:
    with pytest.raises(InvalidClaimError) as refusal:
        check(iss=iss)
    assert refusal.value.claim == "iss"


SLASHLESS = ISSUER.removesuffix("/")


@pytest.mark.parametrize(
    ("configured", "iss", "advice"),
    [
        (SLASHLESS, ISSUER, "add the slash to the configured issuer"),
        (ISSUER, SLASHLESS, "remove the slash from the configured issuer"),
    ],
)
def test_issuer_that_differs_in_its_slash_is_quoted_beside_the_configured_one(
    configured: str, iss: str, advice: str
) -> None:
    with pytest.raises(InvalidClaimError) as refusal:
        check(replace(POLICY, issuer=configured), iss=iss)
    expected = f"The `iss` claim is {iss!r}, configured is {configured!r}: {advice}."
    assert str(refusal.value) == expected


@pytest.mark.parametrize("iss", ["https://secret.example/", ISSUER + "/", f"{SLASHLESS}//", 5, "/"])
@pytest.mark.parametrize("configured", [ISSUER, SLASHLESS, "a"])
def test_issuer_that_differs_in_more_than_its_slash_is_not_quoted(
    iss: Any, configured: str
) -> None:
    if iss == configured + "/":
        return
    with pytest.raises(InvalidClaimError) as refusal:
        check(replace(POLICY, issuer=configured), iss=iss)
    assert str(refusal.value) == "The `iss` claim is not the configured issuer."


# --- tokens without an audience, and their clients ---

COGNITO = replace(POLICY, audiences=None, client_ids=frozenset({"app-1", "app-2"}))


def without_aud(**claims: Any) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != "aud"} | claims


@pytest.mark.parametrize("use", [{}, {"token_use": "access"}])
@pytest.mark.parametrize("client", ["client_id", "azp", "cid", "appid"])
def test_token_without_audience_is_accepted_for_its_client(
    use: dict[str, str], client: str
) -> None:
    assert COGNITO.check(without_aud(**{client: "app-2"}, **use), NOW) == NOW + 65


@pytest.mark.parametrize("aud", [API, "app-1", ["app-1"], [], "", None, 5])
def test_token_with_an_audience_is_refused_where_none_is_expected(aud: Any) -> None:
    with pytest.raises(InvalidClaimError) as refusal:
        COGNITO.check(without_aud(client_id="app-1", aud=aud), NOW)
    assert refusal.value.claim == "aud"


@pytest.mark.parametrize("use", ["id", "", "Access", None, ["access"], True])
def test_token_for_another_use_than_access_is_refused(use: Any) -> None:
    with pytest.raises(InvalidClaimError) as refusal:
        COGNITO.check(without_aud(client_id="app-1", token_use=use), NOW)
    assert refusal.value.claim == "token_use"


@pytest.mark.parametrize("policy", [COGNITO, replace(COGNITO, audiences=frozenset({API}))])
def test_each_client_that_a_token_names_has_to_be_listed(policy: ClaimsPolicy) -> None:
    def judged(**claims: Any) -> float:
        audience = {} if policy.audiences is None else {"aud": API}
        return policy.check(without_aud(**audience, **claims), NOW)

    assert judged(client_id="app-1", azp="app-2", cid=None) == NOW + 65
    for wrong in ("app-9", "", ["app-1"], {"app-1": 1}, 5, True):
        for claims in ({"client_id": wrong}, {"client_id": "app-1", "azp": wrong}):
            with pytest.raises(InvalidClaimError) as refusal:
                judged(**claims)
            assert refusal.value.claim == list(claims)[-1]
            assert "app-9" not in str(refusal.value)
    for nobody in ({}, {"client_id": None}, {"sub": "app-1"}):
        with pytest.raises(MissingClaimError) as missing:
            judged(**nobody)
        assert missing.value.claim == "client_id"


# --- tokens that are bound to a key ---


@pytest.mark.parametrize(
    ("cnf", "named"),
    [
        ({"jkt": "0ZcOCORZNYy"}, "`jkt`) and needs a DPoP proof (RFC 9449), which"),
        ({"x5t#S256": "bwcK0esc3"}, "`x5t#S256`) and needs the client's certificate by mutual TLS"),
        ({"jkt": "a", "x5t#S256": "b"}, "`jkt` and `x5t#S256`) and needs a DPoP proof"),
        ({"jkt": "a", "unheard-of": "b"}, "`jkt`) and needs a DPoP proof (RFC 9449), which"),
        ({"jkt": None}, "`jkt`"),
        ({"jwk": {"kty": "EC"}}, "no way of proof that is known"),
        ({"kid": "secret"}, "no way of proof that is known"),
        ({}, "no way of proof that is known"),
        (None, "no way of proof that is known"),
        ("jkt", "no way of proof that is known"),
        (["jkt"], "no way of proof that is known"),
        (False, "no way of proof that is known"),
    ],
)
def test_token_that_is_bound_to_a_key_is_refused_with_the_proof_that_it_needs(
    cnf: Any, named: str
) -> None:
    with pytest.raises(BindingRequiredError) as refusal:
        check(cnf=cnf)
    assert named in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert check(replace(POLICY, takes_bound=True), cnf=cnf) == NOW + 65


def test_bound_token_with_another_fault_is_refused_for_that() -> None:
    with pytest.raises(TokenExpiredError):
        check(cnf={"jkt": "a"}, exp=NOW - 60)


@pytest.mark.parametrize("name", ["iss", "aud", "exp"])
def test_required_claim_that_is_absent_is_missing(name: str) -> None:
    with pytest.raises(MissingClaimError) as refusal:
        check_without(name)
    assert refusal.value.claim == name


@pytest.mark.parametrize("name", ["iss", "aud"])
def test_required_claim_that_is_null_is_missing(name: str) -> None:
    with pytest.raises(MissingClaimError):
        POLICY.check({**GOOD, name: None}, NOW)


def test_issuer_and_audience_are_required_whatever_is_configured() -> None:
    policy = replace(POLICY, required_claims=())
    for name in ("iss", "aud"):
        with pytest.raises(MissingClaimError):
            check_without(name, policy)


@pytest.mark.parametrize("aud", [API, [API], ["https://other", API], [API, API]])
def test_audience_is_a_string_or_an_array_that_names_this_api(aud: Any) -> None:
    assert check(aud=aud) == NOW + 65


@pytest.mark.parametrize("aud", ["https://api.acme.com/a", "https://api.acme.com/b"])
def test_any_of_several_configured_audiences_is_enough(aud: str) -> None:
    policy = replace(POLICY, audiences=frozenset({f"{API}/a", f"{API}/b"}))
    assert check(policy, aud=["x", aud]) == NOW + 65


@pytest.mark.parametrize(
    "aud",
    [
        "", f"{API}/", "https://api", f"{API} https://other", [], [""], ["https://other"],
        [[API]], [API, 1], [API, None], [1, API], [API, [API]], [API, {}], {API: 1}, 1, True,
    ],
)  # fmt: skip
def test_audience_of_another_api_or_of_another_type_is_invalid(aud: Any) -> None:
    with pytest.raises(InvalidClaimError) as refusal:
        check(aud=aud)
    assert refusal.value.claim == "aud"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", NO_DATES)
def test_date_that_is_not_a_numeric_date_is_invalid(name: str, value: Any) -> None:
    policy = replace(POLICY, required_claims=())
    with pytest.raises(InvalidClaimError) as refusal:
        check(policy, **{name: value})
    assert refusal.value.claim == name
    with pytest.raises(InvalidClaimError):
        check(replace(POLICY, required_claims=(name,), max_token_age=60.0), **{name: value})


@pytest.mark.parametrize("early", [0, -1, -62_135_596_800, 0.5, -0.5])
def test_date_before_1970_is_a_date(early: float) -> None:
    assert check(nbf=early, iat=early) == NOW + 65
    with pytest.raises(TokenExpiredError):
        check(exp=early)


def test_last_second_of_year_9999_is_a_date() -> None:
    assert check(exp=253_402_300_799) == 253_402_300_804


@pytest.mark.parametrize("exp", [NOW - 5, NOW - 5.0, NOW - 6, NOW - 5.001])
def test_token_is_expired_once_exp_and_leeway_have_passed(exp: float) -> None:
    with pytest.raises(TokenExpiredError):
        check(exp=exp)


@pytest.mark.parametrize("exp", [NOW - 4, NOW - 4.999, NOW])
def test_token_is_accepted_within_the_leeway_after_exp(exp: float) -> None:
    assert check(exp=exp) == exp + 5


@pytest.mark.parametrize(("nbf", "accepted"), [(NOW + 5, True), (NOW + 5.001, False)])
def test_token_is_accepted_from_nbf_less_the_leeway(nbf: float, accepted: bool) -> None:
    if accepted:
        assert check(nbf=nbf) == NOW + 65
    else:
        with pytest.raises(TokenNotYetValidError, match="nbf"):
            check(nbf=nbf)


def test_token_without_exp_has_no_end_where_exp_is_not_required() -> None:
    assert check_without("exp", replace(POLICY, required_claims=())) == math.inf


@pytest.mark.parametrize(
    ("leeway", "ahead"), [(0.0, 60), (5.0, 60), (60.0, 60), (90.0, 90), (90.5, 90.5)]
)
def test_issue_date_may_lie_ahead_by_the_leeway_or_a_minute(leeway: float, ahead: float) -> None:
    policy = replace(POLICY, leeway=leeway)
    assert check(policy, iat=NOW + ahead) == NOW + 60 + leeway
    for beyond in (ahead + 0.5, ahead + 1, ahead + 1_000_000):
        with pytest.raises(TokenNotYetValidError, match="iat"):
            check(policy, iat=NOW + beyond)


def test_issue_date_is_not_required_without_a_maximum_age() -> None:
    assert check_without("iat") == NOW + 65


def test_maximum_age_ends_acceptance_before_exp() -> None:
    policy = replace(POLICY, max_token_age=30.0)
    assert check(policy) == NOW - 10 + 30 + 5
    assert check(policy, exp=NOW + 1) == NOW + 1 + 5
    assert check(policy, iat=NOW - 34) == NOW + 1
    with pytest.raises(TokenExpiredError):
        check(policy, iat=NOW - 35)


def test_maximum_age_holds_for_a_token_without_exp() -> None:
    policy = replace(POLICY, max_token_age=30.0, required_claims=())
    assert check_without("exp", policy) == NOW + 25


def test_maximum_age_requires_iat() -> None:
    with pytest.raises(MissingClaimError) as refusal:
        check_without("iat", replace(POLICY, max_token_age=30.0))
    assert refusal.value.claim == "iat"


def test_maximum_age_refuses_an_issue_date_ahead_of_the_leeway() -> None:
    policy = replace(POLICY, max_token_age=30.0)
    assert check(policy, iat=NOW + 5) == NOW + 40
    with pytest.raises(TokenNotYetValidError, match="iat"):
        check(policy, iat=NOW + 6)


@pytest.mark.parametrize("sub", [None, 1, True, ["auth0|1"], {}])
def test_subject_that_is_not_a_string_is_invalid(sub: Any) -> None:
    with pytest.raises(InvalidClaimError) as refusal:
        check(sub=sub)
    assert refusal.value.claim == "sub"


def test_subject_may_be_absent() -> None:
    assert check_without("sub") == NOW + 65


@pytest.mark.parametrize("value", [0, False, "", [], {}])
def test_required_claim_may_be_any_value_but_null(value: Any) -> None:
    policy = replace(POLICY, required_claims=("exp", "org_id"))
    assert check(policy, org_id=value) == NOW + 65
    with pytest.raises(MissingClaimError) as refusal:
        check(policy, org_id=None)
    assert refusal.value.claim == "org_id"
    with pytest.raises(MissingClaimError):
        check(policy)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "s3cret"},
        {"aud": "s3cret"},
        {"aud": [1, "s3cret"]},
        {"sub": ["s3cret"]},
        {"exp": "s3cret"},
        {"nbf": "s3cret"},
        {"iat": {"s3cret": 1}},
    ],
)
def test_refusals_show_no_claim_values(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidClaimError) as refusal:
        check(**claims)
    assert "s3cret" not in repr(refusal.value)
    assert ISSUER not in str(refusal.value)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("read:things write:things", {"read:things", "write:things"}),
        ("openid", {"openid"}),
        ("  a   b a ", {"a", "b"}),
        ("", set()),
        (" ", set()),
        ("a\tb", {"a\tb"}),
        ("a\xa0b\nc", {"a\xa0b\nc"}),
    ],
)
def test_scopes_are_what_stands_between_spaces(scope: str, expected: set[str]) -> None:
    assert scopes_of({"scope": scope}) == expected


@pytest.mark.parametrize("scope", [None, 1, True, {"admin": True}, ["admin", 1], [["admin"]]])
def test_scope_of_a_wrong_type_is_no_scope(scope: Any) -> None:
    for claims in ({"scope": scope}, {"scp": scope}, {"scope": scope, "scp": scope}, {}):
        assert scopes_of(claims) == frozenset()


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"scp": "a b"}, {"a", "b"}),
        ({"scp": ["a", "b"]}, {"a", "b"}),
        ({"scope": ["a", "b"]}, {"a", "b"}),
        ({"scope": "a", "scp": ["b"]}, {"a", "b"}),
        ({"scope": ["a"], "scp": 5}, {"a"}),
        ({"scope": None, "scp": "a"}, {"a"}),
        ({"scp": ["a b", " ", ""]}, {"a b", " ", ""}),
        ({"permissions": ["a"], "roles": ["b"]}, set()),
    ],
)
def test_scopes_are_those_of_both_claims_and_items_of_an_array_are_not_split(
    claims: dict[str, Any], expected: set[str]
) -> None:
    assert scopes_of(claims) == expected


def test_permissions_are_the_strings_of_an_array() -> None:
    assert permissions_of({"permissions": ["a", "b c", "a"]}) == {"a", "b c"}


@pytest.mark.parametrize(
    "permissions", [None, 1, True, "admin", {"admin": True}, ["admin", 1], ["admin", ["x"]], [None]]
)
def test_permissions_of_a_wrong_type_are_none(permissions: Any) -> None:
    assert permissions_of({"permissions": permissions}) == permissions_of({}) == frozenset()


def test_frozen_claims_share_nothing_with_what_was_parsed_and_cannot_be_changed() -> None:
    parsed: dict[str, Any] = {"a": {"b": [1, {"c": ["d"]}]}, "e": "f", "g": []}
    frozen = freeze(parsed)
    parsed["e"] = "changed"
    parsed["a"]["b"][1]["c"].append("changed")
    parsed["g"].append("changed")
    assert frozen == {"a": {"b": (1, {"c": ("d",)})}, "e": "f", "g": ()}
    inner = frozen["a"]["b"][1]
    assert (type(frozen), type(inner)) == (MappingProxyType, MappingProxyType)
    with pytest.raises(TypeError):
        inner["c"] = "changed"


@pytest.mark.parametrize("scalar", ["a", 1, 1.5, True, None])
def test_scalar_is_frozen_already(scalar: Any) -> None:
    assert freeze(scalar) is scalar


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([ISSUER, API, NOW, NOW + 60, 10**400, 1e308, math.nan]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "scope", "permissions", "x"])


@given(st.dictionaries(names, json_values), st.booleans())
def test_any_claims_are_accepted_for_a_time_to_come_or_refused_by_our_errors(
    changes: dict[str, Any], from_good_claims: bool
) -> None:
    claims = {**GOOD, **changes} if from_good_claims else changes
    for policy in (POLICY, replace(POLICY, max_token_age=60.0, required_claims=("x",))):
        with suppress(InvalidTokenError):
            assert policy.check(claims, NOW) > NOW
    assert all(isinstance(each, str) for each in scopes_of(claims) | permissions_of(claims))
    hash(scopes_of(claims))
    assert freeze(claims).keys() == claims.keys()


@pytest.mark.parametrize(
    ("payload", "issuer"),
    [
        (b'{"iss":"https://a.test/"}', "https://a.test/"),
        (b'{"sub":"x"}', None),
        (b'{"iss":null}', None),
        (b'{"iss":"first","iss":"last"}', "last"),
        (b'{"x":' + b"[" * 500 + b"]" * 500 + b',"iss":"a"}', "a"),
    ],
)
def test_issuer_is_read_before_the_signature_and_nothing_else_is(
    payload: bytes, issuer: str | None
) -> None:
    assert unverified_issuer(b64url_encode(payload).encode()) == issuer


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b'{"iss":["a"]}', InvalidClaimError),
        (b'{"iss":1}', InvalidClaimError),
        (b"[]", MalformedTokenError),
        (b'{"iss":"a"', MalformedTokenError),
        (b'{"iss":"\\ud800"}', MalformedTokenError),
        (b'{"iss":"\xff"}', MalformedTokenError),
    ],
)
def test_payload_without_an_issuer_that_can_be_read_is_refused(
    payload: bytes, error: type[InvalidTokenError]
) -> None:
    with pytest.raises(error):
        unverified_issuer(b64url_encode(payload).encode())
