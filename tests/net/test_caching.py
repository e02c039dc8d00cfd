from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.net.caching import Dating, dating, entity_tag, retry_after

MADE = 784_111_777.0  # the instant of RFC 9110's examples
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
GREATEST = 2.0**31  # RFC 9111 section 1.2.2


def headers(**fields: str) -> httpx.Headers:
    return httpx.Headers({name.replace("_", "-"): value for name, value in fields.items()})


def at(seconds: float) -> str:
    return formatdate(MADE + seconds, usegmt=True)


def read(fields: Mapping[str, str], after: float = 0.0) -> Dating:
    """The dating of an answer that was asked for `after` seconds after MADE, and came at once."""
    return dating(fields, MADE + after, MADE + after)


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as zone:
        zone.setenv("TZ", "XYZ-11")
        time.tzset()
        yield
    time.tzset()


# --- how old an answer is ---


@pytest.mark.parametrize(
    "date",
    [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", DATE.replace("GMT", "")],
)
@pytest.mark.usefixtures("far_from_greenwich")
def test_each_form_of_an_http_date_is_read_as_gmt(date: str) -> None:
    assert read(headers(date=date), after=61).age == 60.0


def test_age_is_the_greater_one_of_age_and_what_date_says() -> None:
    assert read(headers(date=DATE, age="30")).age == 30.0
    assert read(headers(date=DATE, age="30"), after=21).age == 30.0
    assert read(headers(date=DATE, age="30"), after=101).age == 100.0, "Age was kept as it came"
    assert read(headers(date=DATE, age="30"), after=101).reported_age == 30.0
    assert read(headers(age="30"), after=101).age == 30.0


def test_date_counts_to_the_end_of_its_second_and_never_ahead() -> None:
    assert read(headers(date=DATE), after=0.9).age == 0.0
    assert read(headers(date=DATE), after=1.5).age == 0.5
    assert read(headers(date=at(86_400))).age == 0.0


@pytest.mark.parametrize("age", ["", "-1", "+5", "1.5", "a day", "1e3", "٣", "0x10", ";", ", 5"])
def test_malformed_age_counts_as_absent(age: str) -> None:
    assert read({"age": age}).age == 0.0


@pytest.mark.parametrize("age", ["86400, 5", "86400,nonsense", " 86400 "])
def test_of_several_ages_the_first_counts(age: str) -> None:
    assert read(headers(age=age)).age == 86_400.0


def test_age_in_two_header_fields_counts_by_the_first() -> None:
    assert read(httpx.Headers([(b"Age", b"86400"), (b"Age", b"0")])).age == 86_400.0


def test_lifetimes_of_any_length_stay_finite() -> None:
    endless = "9" * 400
    given = read(headers(cache_control=f"max-age={endless}, stale-while-revalidate={endless}"))
    assert (given.lifetime, given.revalidating) == (GREATEST, GREATEST)


@pytest.mark.parametrize(
    ("age", "seconds"), [("0" * 30 + "7", 7.0), ("9" * 30, GREATEST), ("9" * 999, GREATEST)]
)
def test_age_of_any_length_is_read(age: str, seconds: float) -> None:
    assert read(headers(age=age)).age == seconds


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
    assert read(headers(date=date, last_modified=date, expires=date), after=99) == Dating()


@given(st.dictionaries(st.sampled_from(["age", "date", "expires", "etag"]), st.text()))
def test_no_header_whatever_raises(fields: dict[str, str]) -> None:
    answer = read({**fields, "last-modified": fields.get("date", "")})
    assert answer.age >= 0.0
    assert (retry_after({"retry-after": fields.get("age", "")}, MADE) or 0.0) >= 0.0


# --- how long a cache may reuse it ---


@pytest.mark.parametrize(
    ("cache_control", "lifetime", "revalidating"),
    [
        ("public, max-age=15, stale-while-revalidate=15, stale-if-error=86400", 15.0, 15.0),
        ("max-age=3828277, must-revalidate", 3_828_277.0, 0.0),
        ("public, max-age=21532, must-revalidate, no-transform", 21_532.0, 0.0),
        ("no-cache", 0.0, 0.0),
        ('no-cache="set-cookie, age", max-age=60', 0.0, 0.0),
        ("max-age=86400, private", 0.0, 0.0),
        ("no-store, max-age=60", 0.0, 0.0),
        ("max-age=60, s-maxage=600", 600.0, 0.0),
        ("max-age=600, s-maxage=0", 0.0, 0.0),
        ("max-age=600, s-maxage=soon", 0.0, 0.0),
        ("MAX-AGE = 60", 60.0, 0.0),
        ('max-age="60"', 60.0, 0.0),
        ("max-age=60, max-age=60", 60.0, 0.0),
        ("max-age=60, max-age=600", 0.0, 0.0),
        ("max-age=60; public", 0.0, 0.0),
        ("max-age=soon", 0.0, 0.0),
        ("max-age=-1", 0.0, 0.0),
        ("max-age", 0.0, 0.0),
        ("stale-while-revalidate=15", 0.0, 15.0),
        ("stale-if-error=86400", 0.0, 0.0),
        ("public, immutable", 0.0, 0.0),
        (",,", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_cache_control_says_how_long_a_shared_cache_may_reuse_an_answer(
    cache_control: str, lifetime: float, revalidating: float
) -> None:
    answer = read(headers(cache_control=cache_control, last_modified=at(-86_400), date=DATE))
    assert (answer.lifetime, answer.revalidating) == (lifetime, revalidating)


def test_expires_counts_from_date_where_there_is_no_max_age() -> None:
    assert read(headers(date=DATE, expires=at(90))).lifetime == 90.0
    assert read(headers(date=DATE, expires=at(-90))).lifetime == 0.0
    assert read(headers(date=DATE, expires="0")).lifetime == 0.0
    assert read(headers(expires=at(90))).lifetime == 0.0
    for stated, seconds in (("max-age=5", 5.0), ("max-age=soon", 0.0), ("private", 0.0)):
        both = headers(date=DATE, expires=at(90), cache_control=stated)
        assert read(both).lifetime == seconds


def test_answer_is_fresh_while_its_age_and_its_way_are_shorter_than_its_lifetime() -> None:
    fields = headers(cache_control="max-age=60", age="50")
    assert dating(fields, MADE, MADE + 9.9).fresh
    assert not dating(fields, MADE, MADE + 10.0).fresh
    assert dating(fields, MADE, MADE - 900.0).fresh, "the clock was set back meanwhile"
    assert not read(headers()).fresh, "never by a guess"
    assert not read(headers(cache_control="max-age=0")).fresh


# --- what it confirms ---


def test_fresh_answer_confirms_as_of_its_request_and_any_other_as_of_its_origin() -> None:
    assert Dating(age=5059.0, fresh=True).confirms(86_400.0) == 0.0
    assert Dating(age=86_400.0, fresh=True).confirms(86_400.0) == 0.0
    assert Dating(age=86_401.0, fresh=True).confirms(86_400.0) == 86_401.0
    assert Dating(age=30.0, fresh=False).confirms(86_400.0) == 30.0
    assert Dating(age=30.0, fresh=True).confirms(0.0) == 30.0


# --- which state it shows ---


def test_last_modified_that_goes_back_is_noticed() -> None:
    answer = read(headers(date=DATE, last_modified=at(-60)))
    assert answer.last_modified == MADE - 60
    assert answer.reverts(MADE - 59)
    assert not answer.reverts(MADE - 60)
    assert not answer.reverts(None)
    assert not read(headers()).reverts(MADE)


def test_last_modified_after_date_is_taken_for_date() -> None:
    ahead = read(headers(date=DATE, last_modified=at(86_400)))
    assert ahead.last_modified == MADE
    assert not read(headers(date=at(60), last_modified=at(30)), after=60).reverts(MADE)


def test_last_modified_that_lies_ahead_counts_as_absent() -> None:
    assert read(headers(date=at(90), last_modified=at(60))).last_modified is None
    assert read(headers(last_modified=at(60))).last_modified is None


# --- a cache that hides its age ---


@pytest.mark.parametrize(
    "fields",
    [
        {"x_cache_status": "HIT"},
        {"x_cache_status": "STALE"},
        {"x_proxy_cache": "UPDATING"},
        {"x_cache": "HIT from squid.internal"},
        {"x_cache": "Hit from cloudfront"},
        {"cache_status": "edge; hit; ttl=30"},
    ],
)
def test_cache_that_says_hit_and_neither_age_nor_date_hides_its_age(fields: dict[str, str]) -> None:
    assert read(headers(date=DATE, **fields)).hides_age
    assert not read(headers(date=DATE, age="0", **fields)).hides_age
    assert not read(headers(date=DATE, **fields), after=30).hides_age, "its Date shows it"


@pytest.mark.parametrize("state", ["MISS", "BYPASS", "EXPIRED", "white", ""])
def test_answer_from_the_issuer_itself_hides_nothing(state: str) -> None:
    assert not read(headers(date=DATE, x_cache_status=state)).hides_age


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
        ("9" * 400, float("inf")),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert retry_after(headers(retry_after=value), MADE) == seconds


def test_no_retry_after_is_none() -> None:
    assert retry_after({}, MADE) is None
