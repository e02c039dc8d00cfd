from __future__ import annotations

import json
import random
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.fleet.records import (
    MAX_DISTRUST_VERSION,
    MAX_LIFT_VERSION,
    MAX_REASON_CHARS,
    MAX_STATE_BYTES,
    decisions_in,
    encoded_state,
    facts_of,
    states_in,
)
from jwks_guard.jose.header import MAX_KID_CHARS
from jwks_guard.keys.distrust import Name, Tombstone, Tombstones
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import KeyUsage

ISSUER = "https://tenant.test/"
PRINT, OTHER_PRINT = "p" * 43, "-_" + "0" * 41
HELD = Tombstone(ISSUER, "held", "leaked", 1_800_000_000.0, frozenset({PRINT}), 3)

issuers = st.sampled_from([ISSUER, "https://other.test/"])
kids = st.sampled_from(["held", "a", "b"]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_KID_CHARS
)
names = st.tuples(issuers, kids)
versions = st.integers(1, 5) | st.integers(MAX_LIFT_VERSION - 2, MAX_LIFT_VERSION)
stones = st.builds(
    lambda name, *rest: Tombstone(name[0], name[1], *rest),
    names,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.floats(0, 2e9),
    st.frozensets(st.sampled_from([PRINT, OTHER_PRINT])),
    versions,
)
facts = st.builds(
    lambda *fact: json.dumps(fact).encode(),
    st.sampled_from(["distrust", "lift", "key", "other", 1]),
    issuers | st.none() | st.just(""),
    kids | st.integers(),
    versions | st.text() | st.booleans() | st.floats() | st.integers() | st.none(),
)
anything = st.dictionaries(facts | st.binary(), st.binary() | st.just(b"{}"))


def merged(facts: dict[bytes, bytes], held: Tombstones | None = None) -> Tombstones:
    read = decisions_in(facts)
    return (held or Tombstones()).merged(read.stones).without(read.lifts)


def of(stone: Tombstone) -> Tombstones:
    return Tombstones({(stone.issuer, stone.kid): stone})


@given(st.lists(stones), st.dictionaries(names, versions))
def test_what_was_decided_is_read_as_it_was_written(
    decided: list[Tombstone], lifts: dict[Name, int]
) -> None:
    decisions = Tombstones().merged(decided).without(lifts)
    assert merged(facts_of(decisions)) == decisions


@given(anything)
def test_whatever_lies_there_is_read_without_an_error(found: dict[bytes, bytes]) -> None:
    read = decisions_in(found)
    assert all(stone.issuer and stone.kid and stone.version > 0 for stone in read.stones)
    facts_of(merged(found))


@given(anything)
def test_nothing_but_a_lift_lifts_what_is_held(found: dict[bytes, bytes]) -> None:
    damaged = {fact: why for fact, why in found.items() if not _is_a_lift(fact)}
    assert (ISSUER, "held") in merged(damaged, of(HELD)).entries
    assert merged(damaged, of(HELD)).thumbprints >= HELD.thumbprints


@given(anything)
def test_no_lift_of_an_earlier_version_lifts_what_is_held(found: dict[bytes, bytes]) -> None:
    earlier = {b'["lift","%s","held",%d]' % (ISSUER.encode(), version): b"" for version in (1, 3)}
    damaged = {fact: why for fact, why in found.items() if not _is_a_lift(fact)}
    assert (ISSUER, "held") in merged(damaged | earlier, of(HELD)).entries


def _is_a_lift(fact: bytes) -> bool:
    try:
        decoded = json.loads(fact)
    except (ValueError, RecursionError):
        return False
    return isinstance(decoded, list) and decoded[:1] == ["lift"]


@given(st.lists(stones, min_size=1), st.dictionaries(names, versions), st.randoms())
def test_neither_order_nor_repetition_matters(
    decided: list[Tombstone], lifts: dict[Name, int], chance: random.Random
) -> None:
    found: list[tuple[bytes, bytes]] = []
    for stone in decided:
        found += facts_of(of(stone)).items()
        found += [(b" " + fact, why) for fact, why in facts_of(of(stone)).items()]
    found += facts_of(Tombstones(lifted=lifts)).items()
    at_once = decisions_in(dict(sorted(found)))
    chance.shuffle(found)
    again = decisions_in(dict(found))
    assert {(s.issuer, s.kid): (s.version, s.thumbprints) for s in at_once.stones} == {
        (s.issuer, s.kid): (s.version, s.thumbprints) for s in again.stones
    }
    assert at_once.lifts == again.lifts
    one_by_one = Tombstones()
    for fact, why in found:
        one_by_one = merged({fact: why}, one_by_one)
    together = merged(dict(found))
    assert one_by_one.entries.keys() == together.entries.keys()


def test_of_two_texts_for_one_fact_the_earlier_counts_whichever_comes_first() -> None:
    fact = json.dumps(["distrust", ISSUER, "k", 1]).encode()
    found = {
        fact: b'{"reason":"second","at":2.0}',
        b" " + fact: b'{"reason":"first","at":1.0}',
    }
    for each in (found, dict(reversed(found.items()))):
        (stone,) = decisions_in(each).stones
        assert stone.reason == "first"


def test_a_decision_whose_reason_is_damaged_still_stands() -> None:
    (fact,) = facts_of(of(Tombstone(ISSUER, "k", "leaked", 1.0)))
    wrong = b'{"reason":1,"at":1}'
    for damage in (b"", b"{}", b"null", b"\xff", wrong, b"[" * 9999, b"x" * 99_999):
        (stone,) = decisions_in({fact: damage}).stones
        assert (stone.kid, stone.version) == ("k", 1)


def test_a_long_reason_is_shortened_and_its_decision_is_read() -> None:
    for reason in ("x" * 100_000, "\x01" * 100_000, "\U0001f511" * 100_000):
        found = facts_of(of(Tombstone(ISSUER, "\x01" * MAX_KID_CHARS, reason, 1.0)))
        (stone,) = decisions_in(found).stones
        assert reason.startswith(stone.reason[:900])


def test_a_long_reason_that_somebody_else_wrote_is_shortened_too() -> None:
    fact = json.dumps(["distrust", ISSUER, "k", 1]).encode()
    (stone,) = decisions_in({fact: b'{"reason":"%s","at":1.0}' % (b"x" * 16_000)}).stones
    assert stone.reason == "x" * MAX_REASON_CHARS


def test_what_is_no_thumbprint_is_neither_read_nor_written() -> None:
    fact = json.dumps(["distrust", ISSUER, "k", 1]).encode()
    for odd in ("", "-", "p" * 42, "p" * 44, PRINT + "\n", "=" * 43, "é" * 43):
        (stone,) = decisions_in(
            {fact: b"", json.dumps(["key", ISSUER, "k", odd]).encode(): b""}
        ).stones
        assert stone.thumbprints == frozenset()
        held = Tombstone(ISSUER, "k", "leaked", 1.0, frozenset({odd}))
        assert list(facts_of(of(held))) == [b'["distrust","%s","k",1]' % ISSUER.encode()]


def test_a_lift_above_the_last_version_is_not_written() -> None:
    assert facts_of(Tombstones(lifted={(ISSUER, "k"): MAX_LIFT_VERSION + 1})) == {}


def test_decisions_are_told_apart_by_issuer() -> None:
    other = "https://other.test/"
    stones = [Tombstone(issuer, "k", "leaked", 1.0) for issuer in (ISSUER, other)]
    lifts = {(ISSUER, "lifted"): 1, (other, "lifted"): 1}
    read = decisions_in(facts_of(Tombstones({}, lifts).merged(stones))).of({ISSUER})
    assert [stone.issuer for stone in read.stones] == [ISSUER]
    assert read.lifts == {(ISSUER, "lifted"): 1}


def test_a_kid_that_no_token_can_name_is_not_written() -> None:
    long = Tombstone(ISSUER, "k" * (MAX_KID_CHARS + 1), "leaked", 1.0)
    assert facts_of(of(long)) == {}
    assert facts_of(Tombstones(lifted={(ISSUER, long.kid): 1})) == {}


def test_no_lift_leaves_no_room_for_a_decision_above_it() -> None:
    found = facts_of(Tombstones(lifted={(ISSUER, "k"): MAX_LIFT_VERSION}))
    lifted = merged(found)
    again = lifted.next_version((ISSUER, "k"), 0.0)
    assert again == MAX_DISTRUST_VERSION
    stone = Tombstone(ISSUER, "k", "leaked", 1.0, version=again)
    assert (ISSUER, "k") in merged(found | facts_of(of(stone))).entries
    beyond = json.dumps(["lift", ISSUER, "k", MAX_DISTRUST_VERSION]).encode()
    assert decisions_in({beyond: b""}).unreadable == 1


def state(**changes: Any) -> InstanceState:
    usual: dict[str, Any] = {
        "instance": "0" * 32,
        "host": "here:1",
        "issuer": ISSUER,
        "started_at": 1.0,
        "reported_at": 2.0,
        "status": "ok",
        "confirmed_at": 1.5,
        "trusted_until": 3.0,
        "kids": ("a", "b"),
        "refused": {"c": 1.0},
        "usage": {"a": KeyUsage(1, 2, 3, 4.0, 5.0)},
    }
    return InstanceState(**usual | changes)


def test_a_state_is_read_as_it_was_written() -> None:
    assert states_in([encoded_state(state()), None], ISSUER) == (state(),)
    assert states_in([encoded_state(state())], "https://other.test/") == ()


@given(st.lists(st.binary() | st.none()))
def test_what_is_no_state_is_passed_over(values: list[bytes | None]) -> None:
    assert states_in([*values, encoded_state(state())], ISSUER) == (state(),)


def test_a_state_that_could_upset_its_reader_is_passed_over() -> None:
    for odd in (
        state(host="here\x1b[2J"),
        state(instance="a\nb"),
        state(reported_at=1e300),
        state(started_at=-1.0),
        state(refused={"c": 1e300}),
        state(trusted_until=-1e300),
        state(usage={"a": KeyUsage(latest_expiry=1e300)}),
        state(usage={"a": KeyUsage(longest_lifetime=-1.0)}),
    ):
        assert states_in([msgspec.json.encode(odd)], ISSUER) == ()


def test_a_state_that_would_be_too_long_to_be_read_is_shortened() -> None:
    refused = {f"{number:04}" + "k" * 500: float(number) for number in range(5000)}
    encoded = encoded_state(state(refused=refused))
    assert len(encoded) <= MAX_STATE_BYTES
    (read,) = states_in([encoded], ISSUER)
    assert max(read.refused.values()) == 4999.0
