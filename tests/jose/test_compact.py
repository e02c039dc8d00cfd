from __future__ import annotations

import base64
import json
import re
from contextlib import suppress
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.errors import InvalidTokenError, MalformedTokenError, UnsupportedTokenError
from jwks_guard.jose.compact import (
    MAX_DEPTH,
    b64_decode,
    b64url_decode,
    b64url_encode,
    decode_object,
    decode_segment,
    json_document,
    json_object,
    split,
    to_bytes,
)

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
PAIRS = list(product(ALPHABET, repeat=2))


def reference_decode(segment: bytes) -> bytes | None:
    """RFC 7515 section 2 by the definition: what encodes to `segment`, and to nothing else."""
    if not re.fullmatch(rb"[A-Za-z0-9_-]*", segment) or len(segment) % 4 == 1:
        return None
    decoded = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    return decoded if base64.urlsafe_b64encode(decoded).rstrip(b"=") == segment else None


def assert_decodes_like_the_reference(segment: bytes) -> None:
    expected = reference_decode(segment)
    if expected is None:
        with pytest.raises(ValueError, match="base64url"):
            b64url_decode(segment)
    else:
        assert b64url_decode(segment) == expected


@given(st.binary())
def test_base64url_of_any_bytes_decodes_to_them(data: bytes) -> None:
    assert b64url_decode(b64url_encode(data).encode()) == data


@given(st.text(alphabet=ALPHABET).map(str.encode))
def test_base64url_is_accepted_only_in_the_spelling_of_the_encoder(segment: bytes) -> None:
    assert_decodes_like_the_reference(segment)


@given(st.text(alphabet=ALPHABET + '+/=. \n\r\t"\\u0', max_size=12).map(str.encode))
def test_base64url_with_foreign_characters_is_refused(segment: bytes) -> None:
    assert_decodes_like_the_reference(segment)


@given(st.binary(max_size=20))
def test_base64url_agrees_with_its_definition_for_any_bytes(segment: bytes) -> None:
    assert_decodes_like_the_reference(segment)


@pytest.mark.parametrize(("stem", "accepted"), [("", 256), ("A", 64 * 16), ("Zm9v", 256)])
def test_each_value_of_the_last_octets_has_one_accepted_spelling(stem: str, accepted: int) -> None:
    segments = [f"{stem}{last_but_one}{last}".encode() for last_but_one, last in PAIRS]
    for segment in segments:
        assert_decodes_like_the_reference(segment)
    assert sum(reference_decode(segment) is not None for segment in segments) == accepted


@pytest.mark.parametrize(
    "segment",
    [
        b"Zg==", b"Zm8=", b"Zg=", b"=", b"Z", b"Zm9vY",
        b"Zm+v", b"Zm/v", b" Zm9", b"Zm9v\n", b"Zm9v\r\n", b"Zm 9v", b"Zm\x009",
        b'Zm"9', b"Zm9\\", b"\\u005am9v", b"Zm9v.", "Zm9é".encode(), b"\xff\xff\xff\xff",
    ],
)  # fmt: skip
def test_base64_that_is_not_strict_base64url_is_refused(segment: bytes) -> None:
    with pytest.raises(ValueError, match="base64url") as refusal:
        b64url_decode(segment)
    assert segment.decode("latin-1") not in str(refusal.value)


def test_empty_segment_is_no_bytes() -> None:
    assert b64url_decode(b"") == b""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"{}", {}),
        (b' {"a" : [1, -2.5, true, null, {"b": "c"}]}\n', {"a": [1, -2.5, True, None, {"b": "c"}]}),
        ('{"a":"ü\\u00fc\\ud83d\\ude00"}'.encode(), {"a": "üü\U0001f600"}),
        (b'{"a":1' + b"0" * 400 + b"}", {"a": 10**400}),
        (b'{"a":1,"a":2,"\\u0061":3}', {"a": 3}),
    ],
)
def test_json_object_is_parsed_and_its_last_duplicate_wins(
    data: bytes, expected: dict[str, Any]
) -> None:
    assert json_object(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"1", b'"secret"', b"[]", b'[{"a":1}]', b"{", b"{}{}", b"{} x", b"{'a':1}",
        b'{"a":1,}', b'{"a":01}', b'{"a":+1}', b'{"a":.5}', b'{"a":NaN}', b'{"a":Infinity}',
        b'{"a":1e400}', b'{"a":-1e400}', b'{"a":' + b"9" * 5000 + b"}", b'{"a":"\n"}', b'{1:1}',
        b"/**/{}", b'\xef\xbb\xbf{"a":1}', '{"a":1}'.encode("utf-16"), '{"a":1}'.encode("utf-32"),
        b'{"a":"secret\xff"}', b'{"secret\xff":1}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xc0\xae"}',
        rb'{"a":"\ud800"}', rb'{"a":"\ud800secret"}', rb'{"a":"\udc00"}', rb'{"\udc00":1}',
    ],
)  # fmt: skip
def test_anything_but_a_json_object_in_utf_8_is_refused_without_showing_it(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object in UTF-8") as refusal:
        json_object(data)
    assert type(refusal.value) is ValueError
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"a":['])
@pytest.mark.parametrize("closed", [False, True])
def test_nesting_that_would_end_the_recursion_is_refused(opening: bytes, closed: bool) -> None:
    closing = {b"[": b"]", b'{"a":': b"}", b'{"a":[': b"]}"}[opening]
    data = b'{"a":' + opening * 1_000_000 + b"1" + closing * 1_000_000 * closed + b"}"
    with pytest.raises(ValueError, match="not a JSON object"):
        json_object(data)


@given(st.binary() | st.text(alphabet='{}[]":,.\\ue+-0123456789 truefalsn').map(str.encode))
def test_json_object_raises_nothing_but_value_error(data: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(json_object(data), dict)


def test_token_is_taken_as_str_or_bytes() -> None:
    assert to_bytes("a.b.c", 5) == to_bytes(b"a.b.c", 5) == b"a.b.c"


@pytest.mark.parametrize(
    "compact",
    [
        "a.b.cc",
        b"a.b.cc",
        "a.b.é",
        b"a.b.\xff",
        "a.\ud800",
        None,
        1,
        ["a.b.c"],
        bytearray(b"a.b.c"),
    ],
)
def test_token_that_is_too_long_or_not_ascii_or_no_text_is_malformed(compact: Any) -> None:
    with pytest.raises(MalformedTokenError) as refusal:
        to_bytes(compact, 5)
    assert "a.b" not in str(refusal.value)


def test_compact_jws_is_split_into_its_segments_and_its_signing_input() -> None:
    assert split(b"aa.bb.cc") == (b"aa", b"bb", b"cc", b"aa.bb")


def test_empty_payload_is_left_to_the_json_parser_to_refuse() -> None:
    _, payload, _, signing_input = split(b"aa..cc")
    assert signing_input == b"aa."
    with pytest.raises(MalformedTokenError, match="payload is not a JSON object"):
        decode_object(payload, "payload")


@pytest.mark.parametrize(
    "token",
    [b"", b".", b"..", b"a.b", b".b.c", b"a.b.", b"a..", b"..c", b"a.b.c.d", b"a.b.c.d.e.f"],
)
def test_anything_but_three_segments_is_malformed(token: bytes) -> None:
    with pytest.raises(MalformedTokenError):
        split(token)


@pytest.mark.parametrize("token", [b"a.b.c.d.e", b"a..c.d.e"])
def test_encrypted_token_is_named_as_one(token: bytes) -> None:
    with pytest.raises(UnsupportedTokenError, match="JWE"):
        split(token)


def test_opaque_token_is_answered_with_the_advice_to_ask_for_an_audience() -> None:
    with pytest.raises(UnsupportedTokenError, match="audience of this API"):
        split(b"8xLOxBtZp8")


@given(st.binary() | st.text(alphabet="a-_.", max_size=12).map(str.encode))
def test_split_raises_only_our_errors_and_loses_no_byte(token: bytes) -> None:
    try:
        header, payload, signature, signing_input = split(token)
    except InvalidTokenError:
        assert token.count(b".") != 2 or token.startswith(b".") or token.endswith(b".")
    else:
        assert b".".join((header, payload, signature)) == token
        assert signing_input == header + b"." + payload


def test_a_segment_that_does_not_decode_is_malformed_and_named() -> None:
    assert decode_segment(b"Zm9v", "signature") == b"foo"
    with pytest.raises(MalformedTokenError, match="signature is not unpadded base64url"):
        decode_segment(b"Zm9v=", "signature")
    with pytest.raises(MalformedTokenError, match="payload is not unpadded base64url"):
        decode_object(b"Zm9v=", "payload")


@given(st.binary())
def test_a_segment_raises_only_malformed_token(segment: bytes) -> None:
    with suppress(MalformedTokenError):
        assert isinstance(decode_object(segment, "header"), dict)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(st.dictionaries(st.text(), VALUES))
def test_json_object_is_read_as_the_standard_library_reads_it(value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()
    assert repr(json_object(data)) == repr(json.loads(data))  # 1, 1.0, "1" and True differ


def test_claims_of_any_depth_keep_their_types() -> None:
    for levels in (1, 3, 4, 5, 6, MAX_DEPTH - 1):
        deep: Any = 1
        for _ in range(levels):
            deep = [deep, 1.5, "1", True]
        data = json.dumps({"a": deep}).encode()
        assert repr(json_object(data)) == repr({"a": deep})


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_is_limited(opening: str) -> None:
    closing = {"[": "]", '{"a":': "}"}[opening]

    def nested(levels: int) -> bytes:
        inner = opening * (levels - 1) + closing * (levels - 1)
        return f'{{"a":{inner}}}'.replace(":}", ":1}").encode()

    assert json_object(nested(MAX_DEPTH)).keys() == {"a"}
    assert len(json_object(b'{"keys":[' + b"{}," * 500 + b"{}]}")["keys"]) == 501
    for levels in (MAX_DEPTH + 1, 400):
        with pytest.raises(ValueError, match="nested too deeply"):
            json_object(nested(levels))


# --- what an issuer publishes ---


@given(st.binary())
def test_published_octets_are_read_in_every_spelling_of_base64(octets: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for spelling in (encode(octets), encode(octets).rstrip(b"="), encode(octets) + b"=="):
            assert b64_decode(spelling) == octets


@given(st.binary())
def test_any_published_text_gives_octets_or_a_value_error(text: bytes) -> None:
    with suppress(ValueError):
        assert len(b64_decode(text)) == len(text.rstrip(b"=")) * 3 // 4


@pytest.mark.parametrize("text", [b"A", b"AA=A", b"=AAA", b" AAA", b"AAA\n", b"A*AA", b"AAAAA"])
def test_text_that_is_no_base64_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not base64url$"):
        b64_decode(text)


@pytest.mark.parametrize("text", [b"AAA=", b"AA==", b"A+A/", b"AB", b"AAB"])
def test_what_is_read_of_an_issuer_is_not_read_of_a_token(text: bytes) -> None:
    assert b64_decode(text)
    with pytest.raises(ValueError, match="base64url"):
        b64url_decode(text)


def test_byte_order_mark_is_ignored_in_a_document_and_in_no_token() -> None:
    data = b"\xef\xbb\xbf{}"
    assert json_document(data) == json_document(b"{}") == {}
    with pytest.raises(ValueError, match="JSON object"):
        json_object(data)
