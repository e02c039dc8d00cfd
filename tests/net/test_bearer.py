from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.errors import InvalidRequestError, MissingCredentialsError
from jwks_guard.net.bearer import bearer_token


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


@pytest.mark.parametrize("value", [b"Bearer Bearer a.b.c", b"bearer  BEARER a.b.c"])
def test_scheme_that_was_pasted_with_the_token_is_named(value: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="begin with `Bearer ` once more"):
        bearer_token([(b"authorization", value)])
