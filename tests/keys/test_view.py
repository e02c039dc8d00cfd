from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import FrozenInstanceError, replace

import pytest

from jwks_guard import (
    AlgorithmNotAllowedError,
    MalformedTokenError,
    RevokedKeyError,
    UnusableKeyError,
)
from jwks_guard.base.clock import EPOCH, Instant
from jwks_guard.jose.algorithms import allow_list
from jwks_guard.jose.jwk import SkippedKey, VerificationKey, load_jwk
from jwks_guard.keys.view import (
    REMEMBERED_KIDS,
    REMEMBERED_THUMBPRINTS,
    PublishedSet,
    TrustedKeys,
    subtract,
)
from jwks_guard.testing.keys import generate_signing_key

START = Instant(1_800_000_000.0, 5_000.0)


def key(kid: str, algorithm: str = "ES256") -> VerificationKey:
    made = generate_signing_key(algorithm, now=0, common_name="issuer.test", kid=kid)
    return load_jwk(made.jwk)


A, B, C, RSA = key("a"), key("b"), key("c"), key("rsa", "RS256")


def copy(of: VerificationKey) -> VerificationKey:
    """The same key as a later answer lists it: another object."""
    return load_jwk(of.to_jwk())


def published(*keys: VerificationKey, confirmed: Instant = START) -> PublishedSet:
    return PublishedSet().succeeded_by(keys, (), confirmed)


def view(
    *keys: VerificationKey, distrusted: Collection[str] = (), thumbprints: Collection[str] = ()
) -> TrustedKeys:
    return subtract(published(*keys), distrusted, frozenset(thumbprints), 600.0)


# --- one published set after another ---


def test_key_that_did_not_change_keeps_its_object() -> None:
    after = published(A, B).succeeded_by((copy(B), copy(A), C), (), START)
    assert set(after.keys) == {A, B, C}


@pytest.mark.parametrize(
    "changed",
    [
        key("a"),
        replace(A, alg=None),
        replace(A, use=None),
        replace(A, key_ops=frozenset({"verify"})),
        replace(A, kid="another"),
    ],
)
def test_key_that_changed_in_any_way_is_a_new_one(changed: VerificationKey) -> None:
    after = published(A).succeeded_by((changed,), (), START)
    assert after.keys == (changed,)
    assert not after.same_keys((A,))


def test_same_keys_are_the_same_in_any_order_and_number() -> None:
    held = published(A, B)
    assert held.same_keys((copy(B), copy(A), copy(A)))
    assert not held.same_keys((A,))
    assert not held.same_keys((A, B, C))


def test_exact_duplicates_are_held_once() -> None:
    (held,) = published(A, copy(A)).keys
    assert held.identity == A.identity


def test_kid_that_is_no_longer_listed_is_remembered_until_it_is_back() -> None:
    without_a = published(A, B).succeeded_by((B,), (), START)
    assert without_a.removed == {"a"}
    assert without_a.succeeded_by((B, C), (), START).removed == {"a"}
    assert without_a.succeeded_by((A, B), (), START).removed == frozenset()


def test_kid_whose_key_was_exchanged_is_not_a_removed_one() -> None:
    assert published(A).succeeded_by((key("a"),), (), START).removed == frozenset()


def test_memory_of_removed_kids_is_bounded() -> None:
    many = tuple(replace(A, kid=f"old-{number}") for number in range(REMEMBERED_KIDS))
    held = published(*many, B).succeeded_by((B, C), (), START)
    assert len(held.removed) == REMEMBERED_KIDS
    assert held.succeeded_by((B,), (), START).removed == {"c"}


def rotated(held: PublishedSet, kid: str, times: int, at_once: int = 500) -> PublishedSet:
    """`held` after as many other keys were published under one kid."""
    for first in range(0, times, at_once):
        numbers = range(first, min(times, first + at_once))
        keys = (replace(A, kid=kid, thumbprint=f"{kid}-{number}") for number in numbers)
        held = held.succeeded_by(tuple(keys), (), START)
    return held


def test_stolen_key_is_not_pushed_out_of_what_a_distrust_covers_by_later_ones() -> None:
    held = rotated(published(A), "a", REMEMBERED_THUMBPRINTS + 700)
    assert A.thumbprint in held.seen["a"]
    back = replace(A, kid="another")
    after = held.succeeded_by((back,), (), START)
    assert subtract(after, {"a"}, held.seen["a"], 600.0).live == frozenset()


def test_memory_of_thumbprints_is_bounded_and_no_key_is_taken_that_it_has_no_room_for() -> None:
    held = rotated(published(A), "a", REMEMBERED_THUMBPRINTS + 700)
    assert sum(map(len, held.seen.values())) == REMEMBERED_THUMBPRINTS
    assert held.keys == ()
    assert {each.kid for each in held.skipped} == {"a"}
    assert "a kid of its own" in held.skipped[0].reason
    taken = {thumbprint for thumbprints in held.seen.values() for thumbprint in thumbprints}
    assert f"a-{REMEMBERED_THUMBPRINTS - 2}" in taken
    assert f"a-{REMEMBERED_THUMBPRINTS}" not in taken


def test_key_that_was_taken_before_is_taken_again_when_there_is_no_room() -> None:
    full = rotated(published(A), "a", REMEMBERED_THUMBPRINTS)
    assert full.succeeded_by((A, replace(A, thumbprint="new")), (), START).keys == (A,)


def test_thumbprints_of_kids_that_are_gone_make_room() -> None:
    full = rotated(published(A), "a", REMEMBERED_THUMBPRINTS - 1)
    without = full.succeeded_by((B,), (), START)
    assert without.keys == (B,)
    assert without.succeeded_by((C,), (), START).keys == (C,)


def test_view_of_very_many_keys_under_one_kid_is_made_in_one_pass() -> None:
    def calls(number: int) -> int:
        keys = tuple(replace(A, thumbprint=f"{each}") for each in range(number))
        counted = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal counted
            counted += 1

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            held = PublishedSet().succeeded_by(keys, (), START)
            subtract(held, (), frozenset(), 600.0)
            held.succeeded_by(keys, (), START)
        finally:
            sys.setprofile(before)
        return counted

    assert calls(800) < 2.2 * calls(400)


def test_what_was_skipped_is_that_of_the_last_set() -> None:
    skipped = (SkippedKey("x", "`use` is not sig"),)
    held = PublishedSet().succeeded_by((A,), skipped, START)
    assert held.skipped == skipped
    assert held.succeeded_by((A,), (), START).skipped == ()


# --- from when a confirmation dates ---


def test_later_confirmation_counts() -> None:
    assert published(A).succeeded_by((A,), (), START.shifted(60)).confirmed == START.shifted(60)


def test_confirmation_of_an_aged_answer_changes_no_date() -> None:
    assert published(A).succeeded_by((A,), (), START.shifted(-5)).confirmed == START


def test_after_a_suspension_an_aged_answer_still_confirms() -> None:
    """The monotonic clock stood still meanwhile: on it alone the answer would look too old."""
    resumed = Instant(START.wall + 7200, START.monotonic + 3)
    confirmed = resumed.shifted(-15)
    held = published(A).succeeded_by((A,), (), confirmed)
    assert held.confirmed == confirmed
    assert not view_of(held).trusted_until.reached(resumed)


def test_after_the_clock_was_set_back_a_fresh_answer_still_confirms() -> None:
    confirmed = Instant(START.wall - 86_400, START.monotonic + 60)
    assert published(A).succeeded_by((A,), (), confirmed).confirmed == confirmed


def view_of(held: PublishedSet) -> TrustedKeys:
    return subtract(held, (), frozenset(), 3600.0)


# --- what is trusted ---


def test_everything_published_is_trusted_for_max_stale() -> None:
    trusted = view(A, B)
    assert trusted.live == {A, B}
    assert dict(trusted.by_kid) == {"a": (A,), "b": (B,)}
    assert trusted.trusted_until == START.shifted(600)


def test_nothing_is_trusted_before_a_set_was_confirmed() -> None:
    assert TrustedKeys().trusted_until == EPOCH
    assert subtract(PublishedSet(), (), frozenset(), 600.0).trusted_until == EPOCH


def test_distrusted_kids_and_keys_are_not_in_the_view() -> None:
    trusted = view(A, B, C, distrusted={"a", "not held"}, thumbprints={C.thumbprint})
    assert trusted.live == {B}
    assert trusted.distrusted == {"a", "c", "not held"}
    for kid in ("a", "c"):
        with pytest.raises(RevokedKeyError):
            trusted.find(kid, "ES256")


def test_view_is_immutable_and_equal_only_to_itself() -> None:
    trusted = view(A)
    with pytest.raises(FrozenInstanceError):
        trusted.removed = frozenset({"a"})  # type: ignore[misc]  # it is frozen
    assert trusted != view(A)


# --- choosing a key ---


def test_key_is_found_by_kid_and_algorithm() -> None:
    assert view(A, RSA).find("a", "ES256") is A
    assert view(A, RSA).find("rsa", "RS256") is RSA


def test_kid_that_is_not_held_is_none_and_not_an_error() -> None:
    assert view(A).find("b", "ES256") is None
    assert TrustedKeys().find("a", "ES256") is None


@pytest.mark.parametrize("alg", ["PS256", "RS512", "ES256", "none"])
def test_key_is_bound_to_its_algorithm(alg: str) -> None:
    with pytest.raises(AlgorithmNotAllowedError):
        view(RSA).find("rsa", alg)


def test_keys_of_one_kid_are_told_apart_by_their_algorithm() -> None:
    rsa = key("a", "RS256")
    trusted = view(A, rsa)
    assert trusted.find("a", "ES256") is A
    assert trusted.find("a", "RS256") is rsa


def test_two_keys_for_one_kid_and_algorithm_are_ambiguous() -> None:
    with pytest.raises(UnusableKeyError, match="different keys for this kid"):
        view(A, key("a")).find("a", "ES256")


def test_one_key_that_is_listed_in_two_ways_is_not() -> None:
    assert view(A, replace(A, use=None)).find("a", "ES256") is A


# --- for a token without kid ---


def bare(of: VerificationKey) -> VerificationKey:
    """The key as it is listed without kid."""
    jwk = {name: value for name, value in of.to_jwk().items() if name != "kid"}
    return load_jwk(jwk)


def test_token_without_kid_is_for_the_only_key_without_kid_or_the_only_key() -> None:
    without = bare(C)
    assert view(A).find(None, "ES256") is A
    assert view(A, RSA).find(None, "RS256") is RSA
    assert view(A, B, without).find(None, "ES256") is without
    assert view(A, B, bare(RSA)).find(None, "RS256") is not None
    twice = view(A, replace(A, kid="alias")).find(None, "ES256")
    assert twice is not None
    assert twice.thumbprint == A.thumbprint


@pytest.mark.parametrize("keys", [(A, B), (bare(A), bare(B)), (bare(A), bare(B), C)])
def test_token_without_kid_is_for_none_of_two_keys(keys: tuple[VerificationKey, ...]) -> None:
    with pytest.raises(MalformedTokenError) as error:
        view(*keys).find(None, "ES256")
    assert error.value.http_status == 401


def test_token_without_kid_needs_a_key_for_its_algorithm() -> None:
    with pytest.raises(AlgorithmNotAllowedError):
        view(A, bare(B)).find(None, "RS256")
    with pytest.raises(AlgorithmNotAllowedError):
        view(A, RSA).find(None, "RS256", allow_list(["ES256"]))
    assert TrustedKeys().find(None, "ES256") is None


def test_token_without_kid_is_not_for_a_distrusted_key() -> None:
    assert view(A, B, distrusted={"a"}).find(None, "ES256") is B
    for distrusted in ({"a"}, {A.thumbprint}):
        with pytest.raises(RevokedKeyError):
            view(A, distrusted=distrusted).find(None, "ES256")


def test_key_is_distrusted_by_its_thumbprint_like_by_its_kid() -> None:
    trusted = view(A, replace(A, kid="alias"), B, distrusted={A.thumbprint})
    assert trusted.live == {B}
    assert trusted.distrusted == {A.thumbprint, "a", "alias"}


def test_view_answers_for_a_token_without_kid_as_long_as_it_is_trusted() -> None:
    assert view(A, B).answers(None, START)
    assert not view(A).answers(None, START.shifted(600))
    assert not TrustedKeys().answers(None, START)


def test_view_answers_for_what_it_trusts_and_for_what_is_distrusted() -> None:
    trusted, end = view(A, distrusted={"x"}), START.shifted(600)
    assert trusted.answers("a", START)
    assert not trusted.answers("b", START)
    assert not trusted.answers("a", end)
    assert trusted.answers("x", end)
