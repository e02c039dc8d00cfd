"""What an answer is worth, by when it was made and what is held."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jwks_guard.base.clock import Instant
from jwks_guard.jose.jwk import load_jwk
from jwks_guard.keys.fetch import Answer, Held
from jwks_guard.keys.judgement import Outcome, Previous, judged, origin
from jwks_guard.keys.view import PublishedSet
from jwks_guard.net.caching import Dating
from jwks_guard.testing.keys import generate_signing_key

URI, START = "https://issuer.test/jwks", Instant(1_800_000_000.0, 5_000.0)
A, B, C = (
    load_jwk(generate_signing_key("ES256", now=0, common_name="issuer.test", kid=kid).jwk)
    for kid in "abc"
)
HELD = Held(URI, '"1"')
PREVIOUS = Previous(HELD, last_modified=100.0)
NEWEST = PublishedSet().succeeded_by((B, C), (), START)


def answer(*keys: Any, etag: str | None = '"2"', uri: str = URI, **dates: Any) -> Answer:
    return Answer(keys or None, (), Dating(**dates), Held(uri, etag))


def judge(
    given: Answer,
    after: float = 60.0,
    *,
    published: PublishedSet = NEWEST,
    expired: bool = False,
    last: bool = False,
) -> tuple[Outcome, list[str]]:
    made = origin(given, PREVIOUS, START.shifted(after))
    outcome, keys = judged(given, published, PREVIOUS, made, expired=expired, last=last)
    return outcome, [key.kid for key in keys]


def test_newer_answer_is_taken_whole() -> None:
    assert judge(answer(A, B)) == (Outcome.CONFIRMED, ["a", "b"])
    assert judge(answer(A, B, age=59.0, reported_age=59.0)) == (Outcome.AGED, ["a", "b"])


def test_older_answer_is_taken_only_if_it_contradicts_nothing() -> None:
    assert judge(answer(A, B, age=61.0))[0] is Outcome.OLDER
    assert judge(answer(C, B, age=9000.0)) == (Outcome.CONFIRMED, ["c", "b"])


def test_without_trust_an_older_answer_counts_for_what_the_newest_lists() -> None:
    assert judge(answer(A, B, age=9000.0), expired=True) == (Outcome.CONFIRMED, ["b"])
    assert judge(answer(A, age=9000.0), expired=True)[0] is Outcome.OLDER
    other = replace(A, kid="b")
    assert judge(answer(other, age=9000.0), expired=True)[0] is Outcome.OLDER, "another key"


def test_what_rests_on_an_older_answer_may_rest_on_a_later_one_of_these() -> None:
    resting = NEWEST.succeeded_by((B,), (), START.shifted(60), START.shifted(-500))
    assert not resting.is_newest
    at_600 = answer(A, B, C, age=660.0)
    assert judge(at_600, published=resting)[0] is Outcome.OLDER
    assert judge(at_600, 160, published=resting) == (Outcome.CONFIRMED, ["b", "c"])
    renewed = resting.succeeded_by((A, B), (), START.shifted(200), START.shifted(200))
    assert renewed.is_newest


@pytest.mark.parametrize("last", [False, True])
def test_last_modified_that_goes_back_counts_in_the_last_answer(last: bool) -> None:
    outcome = judge(answer(A, B, last_modified=99.0), last=last)[0]
    assert outcome is (Outcome.CONFIRMED if last else Outcome.REVERTED)
    assert judge(answer(A, B, age=61.0, last_modified=101.0), last=last)[0] is Outcome.OLDER


def test_dates_of_another_address_are_not_compared() -> None:
    elsewhere = answer(A, B, uri="https://keys.test/", age=9000.0, last_modified=1.0)
    assert judge(elsewhere)[0] is Outcome.CONFIRMED
    aged = answer(A, B, uri="https://keys.test/", age=9000.0, reported_age=61.0)
    assert judge(aged)[0] is Outcome.OLDER


def test_304_confirms_the_set_that_its_tag_belongs_to_and_no_other() -> None:
    assert judge(answer(etag='"1"')) == (Outcome.CONFIRMED, ["b", "c"])
    assert judge(answer(etag='"2"'))[0] is Outcome.OLDER, "a later answer has replaced the tag"


def test_answer_that_was_taken_in_part_leaves_no_tag() -> None:
    given = answer(A, B, last_modified=200.0)
    assert PREVIOUS.followed_by(given, (A, B)) == Previous(Held(URI, '"2"'), 200.0)
    assert PREVIOUS.followed_by(given, (B,)) == Previous(Held(URI, None), 200.0)


def test_last_modified_is_kept_where_an_answer_has_none_and_left_where_it_moved() -> None:
    assert PREVIOUS.followed_by(answer(A), (A,)).last_modified == 100.0
    assert PREVIOUS.followed_by(answer(A, uri="https://keys.test/"), (A,)).last_modified is None
