from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.errors import (
    ConfigurationError,
    InsufficientScopeError,
    InvalidRequestError,
    KeysUnavailableError,
    LookUpThrottledError,
    RevokedKeyError,
    TokenExpiredError,
)
from jwks_guard.net.bearer import (
    MissingCredentialsError,
    Refusal,
    Refused,
    bearer_token,
    quotable_realm,
    refusal,
    requirement,
    scope_tokens,
)


def header(refused: Refusal, name: bytes) -> str | None:
    values = [value.decode() for key, value in refused.headers if key == name]
    assert len(values) <= 1
    return values[0] if values else None


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer abc.def.ghi",
        b"bearer abc.def.ghi",
        b"BEARER abc.def.ghi",
        b"Bearer    abc.def.ghi",
        b" \tBearer abc.def.ghi\t ",
    ],
)
def test_token_follows_the_scheme_in_any_case_after_one_or_more_spaces(value: bytes) -> None:
    assert bearer_token([(b"host", b"api"), (b"authorization", value)]) == b"abc.def.ghi"


@pytest.mark.parametrize(
    "value",
    [
        b" " * 65_000,
        b"Bearer" + b" " * 65_000,
        b"Bearer" + b" " * 65_000 + b"abc",
        b"Bearer abc" + b"\t" * 65_000,
        b" \t" * 30_000 + b"Bearer abc",
        b" Bearer" + b" " * 65_000 + b"abc",
        b"\t \tBearer" + b" " * 65_000 + b"abc",
        b"Bearer abc" + b"=" * 65_000,
    ],
)
def test_blanks_and_padding_of_a_long_header_are_not_stripped_one_by_one(value: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="too many blanks"):
        bearer_token([(b"authorization", value)])


def test_few_blanks_around_a_long_token_are_stripped() -> None:
    token = b"a" * 8000
    assert bearer_token([(b"authorization", b" Bearer  " + token + b" \t")]) == token


def test_padding_ends_a_b64token() -> None:
    for value in (b"Bearer a" + b"=" * 1000, b"Bearer abc=", b"Bearer " + b"a" * 9000 + b"=="):
        assert bearer_token([(b"authorization", value)]) == value.removeprefix(b"Bearer ")
    for value in (b"Bearer a=b", b"Bearer a==b=", b"Bearer =a", b"Bearer =="):
        with pytest.raises(InvalidRequestError):
            bearer_token([(b"authorization", value)])


def test_every_character_of_a_b64token_is_taken() -> None:
    token = b"ABCXYZabcxyz0189-._~+/=="
    assert bearer_token([(b"authorization", b"Bearer " + token)]) == token


def test_no_authorization_header_is_no_token() -> None:
    assert bearer_token([(b"host", b"api"), (b"proxy-authorization", b"Bearer abc")]) is None


@pytest.mark.parametrize(
    "value", [b"", b" ", b"Basic dTpw", b"DPoP abc", b"Bearerabc", b"Bearer\tabc", b"abc.def.ghi"]
)
def test_another_scheme_is_not_a_bearer_token(value: bytes) -> None:
    with pytest.raises(MissingCredentialsError):
        bearer_token([(b"authorization", value)])


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer",
        b"Bearer ",
        b"Bearer ===",
        b"Bearer abc def",
        b"Bearer abc, Bearer def",
        b'Bearer token="abc"',
        b"Bearer abc=def",
        b"Bearer abc;def",
        b"Bearer abc\ndef",
        b"Bearer abc\x00",
        b"Bearer \xff\xfe",
        b"Bearer \tabc",
    ],
)
def test_bearer_with_anything_but_one_b64token_is_an_invalid_request(value: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        bearer_token([(b"authorization", value)])
    assert "abc" not in str(caught.value)


@given(st.from_regex(rb"[Bb]earer +[A-Za-z0-9\-._~+/]+=*", fullmatch=True))
def test_whatever_is_a_b64token_is_taken_whole(value: bytes) -> None:
    assert bearer_token([(b"authorization", value)]) == value[6:].lstrip(b" ")


@given(st.binary() | st.binary().map(lambda junk: b"Bearer " + junk))
def test_no_header_value_raises_a_foreign_error(value: bytes) -> None:
    try:
        token = bearer_token([(b"authorization", value)])
    except (InvalidRequestError, MissingCredentialsError):
        return
    assert token is not None
    assert re.fullmatch(rb"[A-Za-z0-9\-._~+/]+=*", token)


@pytest.mark.parametrize("other", [b"Bearer abc", b"Basic dTpw", b""])
@pytest.mark.parametrize("turn", [1, -1])
def test_two_authorization_headers_are_an_invalid_request(other: bytes, turn: int) -> None:
    headers = [(b"authorization", b"Bearer abc"), (b"authorization", other)][::turn]
    with pytest.raises(InvalidRequestError):
        bearer_token(headers)


@dataclass
class Grants:
    """What a token grants."""

    scopes: frozenset[str]
    permissions: frozenset[str]


def granted(scopes: str = "", permissions: str = "") -> Grants:
    return Grants(frozenset(scopes.split()), frozenset(permissions.split()))


def test_a_token_needs_all_required_scopes() -> None:
    requirement().check(granted())
    needed = requirement(["read:a", "read:b"])
    needed.check(granted("read:a read:b more"))
    with pytest.raises(InsufficientScopeError) as caught:
        needed.check(granted("read:a"))
    assert caught.value.required == ("read:a", "read:b")


def test_a_token_needs_one_of_any_scopes_and_the_first_is_named() -> None:
    needed = requirement(["base"], any_scopes=["read:a", "admin"])
    for enough in ("base read:a", "base admin", "base read:a admin"):
        needed.check(granted(enough))
    for lacking in ("", "base", "base read:b"):
        with pytest.raises(InsufficientScopeError) as caught:
            needed.check(granted(lacking))
        assert caught.value.required == ("base", "read:a")
    with pytest.raises(InsufficientScopeError) as caught:
        needed.check(granted("admin"))
    assert caught.value.required == ("base",)


def test_a_token_needs_all_required_permissions_and_no_scope_is_named() -> None:
    needed = requirement(permissions=["read:a", "write:a"])
    needed.check(granted("", "read:a write:a more"))
    with pytest.raises(InsufficientScopeError) as caught:
        needed.check(granted("read:a write:a", "read:a"))
    assert caught.value.required == ()
    assert b"scope=" not in dict(refusal(caught.value).headers)[b"www-authenticate"]


def test_permissions_are_no_scopes_and_scopes_no_permissions() -> None:
    for needed in (requirement(["write:a"]), requirement(any_scopes=["write:a"])):
        with pytest.raises(InsufficientScopeError):
            needed.check(granted("read:a", "write:a"))
    with pytest.raises(InsufficientScopeError):
        requirement(permissions=["write:a"]).check(granted("write:a", "read:a"))


@pytest.mark.parametrize("permissions", ["read:a", [""], [5], [None]])
def test_what_is_no_list_of_permissions_is_a_configuration_error(permissions: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^required_permissions must be a list"):
        requirement(permissions=permissions)


def test_what_is_required_is_checked_under_its_name() -> None:
    with pytest.raises(ConfigurationError, match=r"^any_scopes holds"):
        requirement(any_scopes=["two words"])
    with pytest.raises(ConfigurationError, match=r"^any_scopes is a string"):
        requirement(any_scopes="read:a")


@pytest.mark.parametrize("value", [b"Bearer Bearer a.b.c", b"bearer  BEARER a.b.c"])
def test_scheme_that_was_pasted_with_the_token_is_named(value: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="begin with `Bearer ` once more"):
        bearer_token([(b"authorization", value)])


def test_scope_tokens_keep_their_order() -> None:
    assert scope_tokens(iter(["write:b", "read:a"])) == ("write:b", "read:a")


@pytest.mark.parametrize("scope", ["", "read:a write:b", 'read:"a"', "read\\a", "read\n", "lésen"])
def test_what_is_no_scope_token_is_a_configuration_error(scope: str) -> None:
    with pytest.raises(ConfigurationError, match="required_scopes"):
        scope_tokens(["read:a", scope])


def test_a_string_of_scopes_is_a_configuration_error_that_shows_the_list() -> None:
    with pytest.raises(ConfigurationError, match=r"\['read:things'\]"):
        scope_tokens("read:a")


@pytest.mark.parametrize("realm", ["line\r\nSet-Cookie: a=b", "bell\x07", "größe"])
def test_realm_that_fits_no_header_is_a_configuration_error(realm: str) -> None:
    with pytest.raises(ConfigurationError, match="realm"):
        quotable_realm(realm)


def test_missing_credentials_get_a_bare_challenge() -> None:
    refused = refusal(MissingCredentialsError("no header"))
    assert refused.status == 401
    assert header(refused, b"www-authenticate") == "Bearer"


def test_missing_credentials_get_the_realm_and_nothing_else() -> None:
    refused = refusal(MissingCredentialsError("no header"), realm="things")
    assert header(refused, b"www-authenticate") == 'Bearer realm="things"'


def test_realm_is_escaped_in_the_challenge() -> None:
    refused = refusal(MissingCredentialsError("no header"), realm=quotable_realm(r'a "b" \c'))
    assert header(refused, b"www-authenticate") == r'Bearer realm="a \"b\" \\c"'


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequestError("two headers"), 400, "invalid_request"),
        (TokenExpiredError("expired at noon"), 401, "invalid_token"),
        (InsufficientScopeError("too little", ("read:a", "read:b")), 403, "insufficient_scope"),
    ],
)
def test_each_fault_of_the_request_has_its_status_and_challenge(
    error: Refused, status: int, kind: str
) -> None:
    refused = refusal(error, realm="things")
    challenge = header(refused, b"www-authenticate")
    assert challenge is not None
    assert refused.status == status
    assert challenge.startswith(f'Bearer realm="things", error="{kind}", error_description="')
    assert ('scope="read:a read:b"' in challenge) is (status == 403)
    assert header(refused, b"retry-after") is None


@pytest.mark.parametrize(
    ("seconds", "answer"),
    [
        (0.0, "1"),
        (-3.0, "1"),
        (1.0, "1"),
        (1.2, "2"),
        (12, "12"),
        (math.inf, "86400"),
        (math.nan, "1"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "status"), [(KeysUnavailableError, 503), (LookUpThrottledError, 429)]
)
def test_what_says_nothing_of_the_token_has_whole_seconds_and_no_challenge(
    kind: type[KeysUnavailableError], status: int, seconds: float, answer: str
) -> None:
    refused = refusal(kind("the JWKS is down", seconds), realm="things")
    assert refused.status == status
    assert header(refused, b"retry-after") == answer
    assert header(refused, b"www-authenticate") is None


@pytest.mark.parametrize(
    "error",
    [
        MissingCredentialsError("secret detail"),
        InvalidRequestError("secret detail"),
        RevokedKeyError("secret detail"),
        InsufficientScopeError("secret detail", ("read:a",)),
        KeysUnavailableError("secret detail"),
        LookUpThrottledError("secret detail"),
    ],
)
def test_refusal_says_no_more_than_its_kind_unless_debugging(error: Refused) -> None:
    refused = refusal(error)
    body = json.loads(refused.body)
    assert body.keys() == {"error", "error_description"}
    assert "secret detail" not in repr(refused)
    assert header(refused, b"content-length") == str(len(refused.body))
    assert header(refused, b"content-type") == "application/json"
    assert header(refused, b"cache-control") == "no-store"

    debugged = refusal(error, debug=True)
    assert debugged.status == refused.status
    assert json.loads(debugged.body) == {
        "error": body["error"],
        "error_description": "secret detail",
        "code": error.code,
    }
    assert "secret detail" not in repr(debugged.headers)


def test_refusals_of_different_tokens_are_alike() -> None:
    assert refusal(RevokedKeyError("revoked")) == refusal(TokenExpiredError("expired"))


def test_debug_body_takes_any_text() -> None:
    text = 'kid "\udcff\n"'
    refused = refusal(RevokedKeyError(text), debug=True)
    assert json.loads(refused.body)["error_description"] == text
