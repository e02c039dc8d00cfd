"""How a key is read from what the Management API says, whatever that is."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress
from datetime import UTC, datetime
from ssl import DER_cert_to_PEM_cert
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.admin.signing_key import (
    SigningKey,
    UnexpectedAnswerError,
    parse_change,
    parse_key,
    parse_keys,
)
from jwks_guard.testing.keys import generate_signing_key

MADE = generate_signing_key("ES256", now=1_700_000_000.0, common_name="tenant.test")
MEMBERS = ("cert", "pkcs7", "fingerprint", "thumbprint")
FLAGS = ("current", "next", "previous", "revoked")
DATES = ("current_since", "current_until", "revoked_at")
FULL = {
    "kid": "k1",
    "cert": MADE.cert,
    "pkcs7": "-----BEGIN PKCS7-----",
    "fingerprint": MADE.fingerprint,
    "thumbprint": MADE.thumbprint,
    "previous": True,
    "revoked": True,
    "current_since": "2024-01-02T03:04:05.678Z",
    "current_until": "2024-02-02T03:04:05+02:00",
    "revoked_at": "2024-03-02T03:04:05",
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KEY_LIKE = st.dictionaries(
    st.sampled_from(["kid", *MEMBERS, *FLAGS, *DATES, "novelty"]),
    JSON | st.sampled_from(["k", MADE.cert, "2024-01-02T03:04:05Z", "9999-12-31T23:59:59-23:59"]),
)


def version_five() -> str:
    """A certificate of a version that there is not."""
    der = bytearray(MADE.certificate.public_bytes(Encoding.DER))
    at = der.index(bytes.fromhex("a003020102"))  # [0] EXPLICIT INTEGER 2: version 3
    der[at + 4] = 5
    return DER_cert_to_PEM_cert(bytes(der))


# --- the documented fields ---


def test_every_documented_field_is_read() -> None:
    key = parse_key(FULL)
    assert key == SigningKey(
        kid="k1",
        cert=MADE.cert,
        pkcs7="-----BEGIN PKCS7-----",
        fingerprint=MADE.fingerprint,
        thumbprint=MADE.thumbprint,
        current=False,
        next=False,
        previous=True,
        revoked=True,
        current_since=datetime(2024, 1, 2, 3, 4, 5, 678_000, UTC),
        current_until=datetime(2024, 2, 2, 1, 4, 5, tzinfo=UTC),
        revoked_at=datetime(2024, 3, 2, 3, 4, 5, tzinfo=UTC),
    )
    assert not key.inferred


def test_absent_flags_are_false_and_absent_fields_none() -> None:
    key = parse_key({"kid": "k1"})
    assert not any(getattr(key, name) for name in FLAGS)
    assert {getattr(key, name) for name in (*MEMBERS[1:], *DATES)} == {None}
    assert (key.cert, key.extra) == ("", {})


def test_null_is_as_good_as_absent() -> None:
    nulls: dict[str, object] = dict.fromkeys([*MEMBERS, *FLAGS, *DATES, "novelty"])
    assert parse_key({"kid": "k1", **nulls}) == SigningKey(kid="k1")


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        ({"current": True}, "current"),
        ({"next": True}, "next"),
        ({"previous": True}, "previously used"),
        ({}, "previously used"),
        ({"current": False, "next": False}, "previously used"),
        ({"revoked": True}, "revoked"),
        ({"revoked": True, "previous": True}, "revoked"),
        ({"revoked": True, "current": True}, "revoked"),
        ({"current": True, "next": True}, "current"),
    ],
)
def test_state_is_the_gravest_of_the_flags(flags: dict[str, bool], state: str) -> None:
    assert parse_key({"kid": "k1", **flags}).state == state


# --- dates ---


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2024-01-02T03:04:05.678Z", datetime(2024, 1, 2, 3, 4, 5, 678_000, UTC)),
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2024-01-02T03:04:05", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2024-01-02T03:04:05-05:30", datetime(2024, 1, 2, 8, 34, 5, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("name", DATES)
def test_date_is_in_utc_and_is_taken_so_where_it_names_no_zone(
    name: str, written: str, read: datetime
) -> None:
    key = parse_key({"kid": "k1", name: written})
    date = getattr(key, name)
    assert date == read
    assert date.tzinfo is UTC
    assert key.extra == {}


@pytest.mark.parametrize(
    "written",
    [
        *({}, {"seconds": 1}, [], 1_700_000_000, 1.5, True, "", "yesterday", "9" * 5_000),
        *("2024-13-01T00:00:00Z", "2024-01-02T03:04:05+99:00", "2024-01-02T03:04:05Z\n"),
        *("\u0662024-01-02", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"),
    ],
)
@pytest.mark.parametrize("name", DATES)
def test_date_that_cannot_be_read_is_none_and_kept_as_it_was_sent(name: str, written: Any) -> None:
    key = parse_key({"kid": "k1", name: written})
    assert getattr(key, name) is None
    assert key.extra == {name: written}
    assert key.to_dict()[name] == written


# --- the certificate ---


def test_certificate_is_there_as_an_object_and_as_pem_with_plain_line_ends() -> None:
    key = parse_key({"kid": "k1", "cert": MADE.cert})
    assert "\r\n" in key.cert
    assert "\r" not in key.pem
    assert key.certificate == MADE.certificate
    assert x509.load_pem_x509_certificate(key.pem.encode()) == MADE.certificate


@pytest.mark.parametrize("cert", ["", "c", MADE.cert[:-60], "\N{SNOWMAN}", version_five()])
def test_certificate_that_is_none_is_a_value_error_when_it_is_asked_for(cert: str) -> None:
    key = parse_key({"kid": "k1", "cert": cert})
    with pytest.raises(ValueError, match=r"."):
        key.certificate  # noqa: B018


@pytest.mark.parametrize("cert", ["", "c", version_five()])
@pytest.mark.parametrize("state", ["next", "revoked"])
def test_change_with_an_unreadable_certificate_is_a_change_all_the_same(
    cert: str, state: Literal["next", "revoked"]
) -> None:
    key = parse_change({"kid": "k1", "cert": cert}, state=state)
    assert (key.state, key.cert, key.fingerprint, key.thumbprint) == (state, cert, None, None)


def test_change_has_the_fingerprints_of_its_certificate() -> None:
    key = parse_change({"kid": "k1", "cert": MADE.cert}, state="next")
    assert (key.fingerprint, key.thumbprint) == (MADE.fingerprint, MADE.thumbprint)
    told = {"kid": "k1", "cert": MADE.cert, "fingerprint": "AA:BB", "thumbprint": "AABB"}
    key = parse_change(told, state="revoked")
    assert (key.fingerprint, key.thumbprint) == ("AA:BB", "AABB")


# --- what is unknown, and what is wrong ---


def test_unknown_fields_are_kept_in_extra() -> None:
    unknown = {"novelty": {"a": [1, None]}, "inferred": True, "state": "mine", "extra": 1, "pem": 2}
    key = parse_key({"kid": "k1", **unknown})
    assert key.extra == unknown
    assert not key.inferred
    assert key.state == "previously used"
    assert key.to_dict()["novelty"] == {"a": [1, None]}


@pytest.mark.parametrize("name", [*MEMBERS, *FLAGS])
@pytest.mark.parametrize("value", [1, 0, [], {}, 1.5])
def test_wrong_type_is_refused_and_named(name: str, value: object) -> None:
    with pytest.raises(UnexpectedAnswerError, match=f"^{name} of a key "):
        parse_key({"kid": "k1", name: value})


@pytest.mark.parametrize("value", ["true", "false", "", 1])
def test_flag_that_is_not_a_boolean_is_refused_whatever_it_looks_like(value: object) -> None:
    with pytest.raises(UnexpectedAnswerError, match=r"^revoked "):
        parse_key({"kid": "k1", "revoked": value})


@pytest.mark.parametrize("kid", [None, "", 0, [], {}, False])
def test_key_without_a_kid_is_refused(kid: object) -> None:
    with pytest.raises(UnexpectedAnswerError, match="no kid"):
        parse_key({"kid": kid})


@pytest.mark.parametrize("kid", [1, ["k1"], {"k": 1}, True])
def test_kid_that_is_no_string_is_refused(kid: object) -> None:
    with pytest.raises(UnexpectedAnswerError, match=r"^kid "):
        parse_key({"kid": kid})


@pytest.mark.parametrize("document", [None, {}, {"kid": "k1"}, "[]", 1, True])
def test_list_that_is_no_array_is_refused(document: object) -> None:
    with pytest.raises(UnexpectedAnswerError, match="no JSON array"):
        parse_keys(document)


def test_one_bad_key_refuses_the_whole_list() -> None:
    """A list without it might lack the current key."""
    with pytest.raises(UnexpectedAnswerError):
        parse_keys([FULL, "k2"])


def test_empty_list_is_a_list() -> None:
    assert parse_keys([]) == []


@given(document=KEY_LIKE | JSON)
def test_any_json_is_a_key_or_refused(document: Any) -> None:
    with suppress(UnexpectedAnswerError):
        key = parse_key(document)
        assert key.kid == document["kid"]
        json.dumps(key.to_dict())
        assert key.state in ("next", "current", "previously used", "revoked")
        assert parse_change(document, state="revoked").revoked


# --- as data ---


def test_dictionary_of_a_key_is_json_and_reads_as_the_same_key() -> None:
    key = parse_key({**FULL, "novelty": 1})
    written = json.loads(json.dumps(key.to_dict()))
    assert written["revoked_at"] == "2024-03-02T03:04:05+00:00"
    assert "inferred" not in written
    assert parse_key(written) == key


def test_dictionary_says_so_where_a_result_was_inferred() -> None:
    assert SigningKey(kid="k1", inferred=True).to_dict()["inferred"] is True


def test_key_cannot_be_changed_and_can_be_kept_in_a_set_and_pickled() -> None:
    key = parse_key({**FULL, "novelty": []})
    with pytest.raises(AttributeError):
        key.revoked = False  # type: ignore[misc]
    assert {key} == {parse_key({**FULL, "novelty": []})}
    assert pickle.loads(pickle.dumps(key)) == key


def test_representation_of_a_key_leaves_its_certificate_out() -> None:
    assert "BEGIN" not in repr(parse_key(FULL))
