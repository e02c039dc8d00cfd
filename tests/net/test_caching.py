from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.net.caching import Dating, dating, entity_tag, retry_after

MADE = 784_111_777.0  # the instant of RFC 9110's examples
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
INFINITY = float("inf")


def headers(**fields: str) -> httpx.Headers:
    return httpx.Headers({name.replace("_", "-"): value for name, value in fields.items()})


def at(seconds: float) -> str:
    return formatdate(MADE + seconds, usegmt=True)


def dated(
    *, age: float = 0.0, generated: float | None = None, last_modified: float | None = None
) -> Dating:
    return Dating(age, generated, last_modified, 0.0)


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as zone:
        zone.setenv("TZ", "XYZ-11")
        time.tzset()
        yield
    time.tzset()


# --- what is read ---


@pytest.mark.parametrize(
    "date",
    [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", DATE.replace("GMT", "")],
)
@pytest.mark.usefixtures("far_from_greenwich")
def test_each_form_of_an_http_date_is_read_as_gmt(date: str) -> None:
    assert dating(headers(date=date)).generated == MADE


def test_answer_was_generated_its_age_before_its_date() -> None:
    answer = dating(headers(date=DATE, age="30"))
    assert (answer.age, answer.generated) == (30.0, MADE - 30)


def test_answer_without_a_date_says_nothing_of_when_it_was_generated() -> None:
    assert dating(headers(age="30")) == dated(age=30.0)


@pytest.mark.parametrize("age", ["", "-1", "+5", "1.5", "a day", "1e3", "٣", "0x10", ";", ", 5"])
def test_malformed_age_counts_as_absent(age: str) -> None:
    assert dating({"age": age}).age == 0.0


@pytest.mark.parametrize("age", ["86400, 5", "86400,nonsense", " 86400 "])
def test_of_several_ages_the_first_counts(age: str) -> None:
    assert dating(headers(age=age)).age == 86_400.0


def test_age_in_two_header_fields_counts_by_the_first() -> None:
    assert dating(httpx.Headers([(b"Age", b"86400"), (b"Age", b"0")])).age == 86_400.0


@pytest.mark.parametrize(
    ("age", "seconds"), [("0" * 30 + "7", 7.0), ("9" * 30, 1e30), ("9" * 999, INFINITY)]
)
def test_age_of_any_length_is_read(age: str, seconds: float) -> None:
    assert dating(headers(age=age)).age == seconds


@pytest.mark.parametrize(
    "date",
    [
        "",
        "0",
        "-1",
        "yesterday",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +9999999999",
        ",,,",
    ],
)
def test_malformed_date_counts_as_absent(date: str) -> None:
    answer = dating(headers(date=date, last_modified=date, expires=date))
    assert answer == dated()


def test_last_modified_after_date_is_taken_for_date() -> None:
    ahead = dating(headers(date=DATE, last_modified=at(86_400)))
    assert ahead.last_modified == MADE
    changed_later = dating(headers(date=at(60), last_modified=at(30)))
    assert not changed_later.older_than(ahead)


@given(st.dictionaries(st.sampled_from(["age", "date", "expires", "etag"]), st.text()))
def test_no_header_whatever_raises(fields: dict[str, str]) -> None:
    answer = dating({**fields, "last-modified": fields.get("date", "")})
    assert answer.age >= 0.0
    assert (retry_after({"retry-after": fields.get("age", "")}, MADE) or 0.0) >= 0.0


# --- how long a shared cache may serve it ---


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        ("public, max-age=15, stale-while-revalidate=15, stale-if-error=86400", 30.0),  # Auth0
        ("max-age=4893153, public", 4_893_153.0),  # Okta
        ("public, max-age=19733, must-revalidate, no-transform", 19_733.0),  # Google
        ("no-cache", 0.0),  # Keycloak
        ("max-age=86400, private", 0.0),  # Entra ID
        ("no-store, max-age=60", 0.0),
        ("max-age=60, s-maxage=600", 600.0),
        ("MAX-AGE = 60", 60.0),
        ('max-age="60"', 60.0),
        ("max-age=60, max-age=600", 60.0),
        ("max-age=soon", 0.0),
        ("max-age=-1", 0.0),
        ("max-age", 0.0),
        ("stale-while-revalidate=15", 15.0),
        (",,", 0.0),
        ("", 0.0),
    ],
)
def test_cache_control_says_how_long_a_shared_cache_may_serve_an_answer(
    cache_control: str, seconds: float
) -> None:
    assert dating(headers(cache_control=cache_control)).cacheable == seconds


def test_stale_if_error_lengthens_nothing() -> None:
    assert dating(headers(cache_control="stale-if-error=86400")).cacheable == 0.0


def test_expires_counts_from_date_where_there_is_no_max_age() -> None:
    assert dating(headers(date=DATE, expires=at(90))).cacheable == 90.0
    assert dating(headers(date=DATE, expires=at(-90))).cacheable == 0.0
    assert dating(headers(date=DATE, expires="0")).cacheable == 0.0
    assert dating(headers(expires=at(90))).cacheable == 0.0
    lifetime = headers(date=DATE, expires=at(90), cache_control="max-age=5")
    assert dating(lifetime).cacheable == 5.0


# --- which of two answers is the older one ---


def test_last_modified_decides_before_the_date_does() -> None:
    held = dated(last_modified=MADE, generated=MADE)
    assert dated(last_modified=MADE - 1, generated=MADE + 60).older_than(held)
    assert not dated(last_modified=MADE + 1, generated=MADE - 60).older_than(held)


@pytest.mark.parametrize("last_modified", [None, MADE])
def test_without_two_different_last_modified_the_date_decides(last_modified: float | None) -> None:
    held = dated(last_modified=MADE, generated=MADE)
    assert dated(last_modified=last_modified, generated=MADE - 1).older_than(held)
    assert not dated(last_modified=last_modified, generated=MADE).older_than(held)
    assert not dated(last_modified=last_modified, generated=MADE + 1).older_than(held)


def test_answers_without_common_dates_are_not_compared() -> None:
    assert not dated(last_modified=MADE).older_than(dated(generated=MADE + 60))
    assert not dated(generated=MADE).older_than(dated(last_modified=MADE + 60))
    assert not dated().older_than(dated())


def test_later_answer_keeps_the_dates_that_it_lacks_or_that_are_later() -> None:
    held = dated(age=9.0, generated=MADE, last_modified=MADE - 60)
    assert dated(age=1.0).after(held) == dated(age=1.0, generated=MADE, last_modified=MADE - 60)
    older = dated(generated=MADE - 5, last_modified=MADE - 90)
    assert older.after(held) == dated(generated=MADE, last_modified=MADE - 60)
    newer = dated(generated=MADE + 5, last_modified=MADE)
    assert newer.after(held) == newer
    assert older.after(None) == older
    assert dated().after(dated()) == dated()


# --- asking again ---


@pytest.mark.parametrize("tag", ['"abc"', 'W/"abc"', '""', "unquoted"])
def test_entity_tag_is_kept_as_it_was_sent(tag: str) -> None:
    assert entity_tag(headers(etag=tag)) == tag


def test_last_modified_alone_does_not_make_a_request_conditional() -> None:
    assert entity_tag(headers(date=DATE, last_modified=at(-3600))) is None


@pytest.mark.parametrize("tag", [b"", b'"\xe9"', b'"\xf0\x9f\x94\x91"', b'"a\tb"'])
def test_entity_tag_that_no_request_can_carry_is_left_out(tag: bytes) -> None:
    assert entity_tag(httpx.Headers([(b"ETag", tag)])) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        (" 7 ", 7.0),
        (at(45), 45.0),
        (at(-45), 0.0),
        ("Sun Nov  6 08:50:07 1994", 30.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("9" * 400, INFINITY),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert retry_after(headers(retry_after=value), MADE) == seconds


def test_no_retry_after_is_none() -> None:
    assert retry_after({}, MADE) is None
