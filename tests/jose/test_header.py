from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.errors import (
    AlgorithmNotAllowedError,
    InvalidTokenError,
    MalformedTokenError,
    TokenTypeError,
    UnsupportedTokenError,
)
from jwks_guard.jose.compact import b64url_encode, json_object
from jwks_guard.jose.header import MAX_HEADER_BYTES, Header, normalize_typ, parse_header

ALGORITHMS = frozenset({"RS256", "ES256"})
TOKEN_TYPES = frozenset({"jwt", "at+jwt", None})
GOOD = {"alg": "RS256", "kid": "key-1", "typ": "JWT"}
MISSING = object()


def parse(parameters: Any, token_types: frozenset[str | None] = TOKEN_TYPES) -> Header:
    segment = b64url_encode(json.dumps(parameters).encode()).encode()
    return parse_header(segment, ALGORITHMS, token_types)


def with_parameter(name: str, value: Any) -> dict[str, Any]:
    return {k: v for k, v in {**GOOD, name: value}.items() if v is not MISSING}


def test_header_is_parsed() -> None:
    assert parse({**GOOD, "x": 1}) == Header("RS256", "key-1", "jwt")


@pytest.mark.parametrize("name", ["jku", "x5u", "x5c", "x5t", "jwk", "enc", "zip", "b64"])
@pytest.mark.parametrize("value", ["https://attacker.example/jwks.json", {"kty": "oct"}, [], None])
def test_parameters_that_would_choose_a_key_or_an_encoding_are_ignored(
    name: str, value: Any
) -> None:
    assert parse(with_parameter(name, value)).kid == "key-1"


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], {}, "exp", None, False, 0])
def test_crit_is_refused_in_any_form(crit: Any) -> None:
    with pytest.raises(UnsupportedTokenError):
        parse(with_parameter("crit", crit))


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "RS384", "rs256", "RS256 ", "", "ES256K"])
def test_algorithm_outside_the_allow_list_is_refused(alg: str) -> None:
    with pytest.raises(AlgorithmNotAllowedError, match="not ES256 or RS256"):
        parse(with_parameter("alg", alg))


@pytest.mark.parametrize("alg", [MISSING, None, 256, True, ["RS256"], {"RS256": 1}])
def test_algorithm_that_is_not_a_string_is_malformed(alg: Any) -> None:
    with pytest.raises(MalformedTokenError, match="alg"):
        parse(with_parameter("alg", alg))


@pytest.mark.parametrize("kid", [MISSING, ""])
def test_token_may_have_no_kid(kid: Any) -> None:
    assert parse(with_parameter("kid", kid)).kid is None


@pytest.mark.parametrize("kid", [None, 0, 1, 1.5, True, False, [], ["key-1"], {}, "k" * 513])
def test_kid_is_a_string_of_at_most_512_characters(kid: Any) -> None:
    with pytest.raises(MalformedTokenError, match="kid"):
        parse(with_parameter("kid", kid))


@pytest.mark.parametrize("kid", ["k", "k" * 512, "../../dev/null", "' OR 1=1 --", "\x00", "é"])
def test_kid_is_any_other_string_and_only_ever_compared(kid: str) -> None:
    assert parse(with_parameter("kid", kid)).kid == kid


@pytest.mark.parametrize(
    ("typ", "expected"),
    [
        ("JWT", "jwt"),
        ("jwt", "jwt"),
        ("at+jwt", "at+jwt"),
        ("AT+JWT", "at+jwt"),
        ("application/at+jwt", "at+jwt"),
        ("Application/JWT", "jwt"),
        (MISSING, None),
    ],
)
def test_typ_is_compared_without_case_and_media_type_prefix(typ: Any, expected: str | None) -> None:
    assert parse(with_parameter("typ", typ)).typ == expected


@pytest.mark.parametrize(
    "typ",
    [
        "", "dpop+jwt", "logout+jwt", "JOSE", "text/jwt", "application/", "jwt ",
        "application/x/jwt", None, 1, True, ["JWT"], {},
    ],
)  # fmt: skip
def test_typ_outside_the_accepted_token_types_is_refused(typ: Any) -> None:
    with pytest.raises(TokenTypeError):
        parse(with_parameter("typ", typ))


def test_token_without_typ_passes_only_where_that_is_configured() -> None:
    assert parse(with_parameter("typ", MISSING)).typ is None
    with pytest.raises(TokenTypeError):
        parse(with_parameter("typ", MISSING), token_types=frozenset({"at+jwt"}))


def test_configured_and_received_typ_are_normalised_alike() -> None:
    types = frozenset({normalize_typ("application/AT+JWT")})
    assert parse(with_parameter("typ", "at+jwt"), types).typ == "at+jwt"


@pytest.mark.parametrize("parameters", [[], "x", None, 1, [GOOD]])
def test_header_that_is_not_an_object_is_malformed(parameters: Any) -> None:
    with pytest.raises(MalformedTokenError, match="header is not a JSON object"):
        parse(parameters)


def test_last_of_duplicate_parameters_wins_as_everywhere() -> None:
    segment = b64url_encode(b'{"alg":"none","kid":"key-1","alg":"RS256"}').encode()
    assert parse_header(segment, ALGORITHMS, TOKEN_TYPES).alg == "RS256"
    segment = b64url_encode(b'{"alg":"RS256","kid":"key-1","alg":"none"}').encode()
    with pytest.raises(AlgorithmNotAllowedError):
        parse_header(segment, ALGORITHMS, TOKEN_TYPES)


def test_header_shows_no_foreign_parameters_in_its_repr() -> None:
    assert "secret" not in repr(parse({**GOOD, "x": "secret"}))


# --- what it costs ---


def encoded(header: bytes) -> bytes:
    return b64url_encode(header).encode()


def with_extra(value: bytes) -> bytes:
    return encoded(b'{"alg":"RS256","kid":"key-1","x":%s}' % value)


HOSTILE = {
    "nested arrays": b"[" + b",".join([b"[" * 58 + b"]" * 58] * 50) + b"]",
    "objects": b"[" + b",".join([b'{"a":{}}'] * 600) + b"]",
    "numbers": b"[" + b",".join([b"2.2250738585072011e-308"] * 250) + b"]",
    "a long number": b"9" * 6000,
    "escapes": b'"' + b"\\u0061" * 1000 + b'"',
    "many members": b"{" + b",".join(b'"%x":1' % number for number in range(600)) + b"}",
    "white space": b" " * 6000 + b"1",
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_no_object_is_made_of_a_parameter_that_is_not_read(value: bytes) -> None:
    segment = with_extra(value)
    parse_header(segment, ALGORITHMS, TOKEN_TYPES)  # what is made once only
    tracemalloc.start()
    try:
        parse_header(segment, ALGORITHMS, TOKEN_TYPES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2 * len(segment) + 2000, "the segment padded, decoded, and the few strings"


@pytest.mark.parametrize("depth", [65, 900, 3000])
def test_nesting_without_end_is_skipped_or_malformed(depth: int) -> None:
    with suppress(MalformedTokenError):
        parse_header(with_extra(b"[" * depth + b"]" * depth), ALGORITHMS, TOKEN_TYPES)


def test_longer_header_is_refused_before_it_is_decoded() -> None:
    fits = with_extra(b'"%s"' % (b"x" * 6100))
    assert len(fits) <= MAX_HEADER_BYTES
    assert parse_header(fits, ALGORITHMS, TOKEN_TYPES).kid == "key-1"
    with pytest.raises(MalformedTokenError, match="longer than 8192 bytes"):
        parse_header(b"not base64url!" * 600, ALGORITHMS, TOKEN_TYPES)


def test_certificate_chain_fits_into_a_header() -> None:
    parse_header(
        encoded(json.dumps({**GOOD, "x5c": ["M" * 1900] * 3}).encode()), ALGORITHMS, TOKEN_TYPES
    )


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"RS256","kid":"a","k\\u0069d":"b"}',
        b'{"alg":"RS256","k\\u0069d":"a","kid":"b"}',
        b'{"alg":"ES256","kid":"a","kid":"b","alg":"RS256"}',
        b'{"alg":"RS256","kid":["a"],"kid":"b"}',
        b'{"alg":"RS256","kid":"a","kid\\u0000":"c","kid":"b"}',
    ],
)
def test_what_is_read_is_what_the_whole_header_says(header: bytes) -> None:
    read = parse_header(encoded(header), ALGORITHMS, TOKEN_TYPES)
    assert (read.alg, read.kid) == ("RS256", "b")
    whole = json_object(header)
    assert (whole["alg"], whole["kid"]) == ("RS256", "b")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from(["RS256", "JWT", "key-1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk"]), json_values))
def test_any_header_object_gives_a_header_or_one_of_our_errors(parameters: dict[str, Any]) -> None:
    with suppress(InvalidTokenError):
        header = parse(parameters)
        assert header.alg in ALGORITHMS
        assert header.typ in TOKEN_TYPES
        assert header.kid == (parameters.get("kid") or None)


@given(st.binary())
def test_any_bytes_give_a_header_or_one_of_our_errors(data: bytes) -> None:
    for segment in (data, b64url_encode(data).encode()):
        with pytest.raises(InvalidTokenError):
            parse_header(segment, ALGORITHMS, TOKEN_TYPES)
