"""Decisions as they lie in Redis: what is written is read, and nothing else lifts a decision."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.distrust.state import MAX_NUMBER, Decision, Distrust, Name, merge_into
from jwks_guard.fleet.redis_entries import MAX_ENTRY_BYTES, Entries
from jwks_guard.fleet.soundness import sound
from jwks_guard.jose.header import MAX_KID_CHARS

ISSUER = "https://tenant.test/"
PRINT, OTHER_PRINT = "p" * 43, "-_" + "0" * 41
ME, OTHER = "0" * 32, "f" * 32
OLD, NEW = "an old secret of ours", "a new secret of ours"
HELD = Distrust({ME: Decision(3, "leaked", 1_800_000_000.0, "here:1")}, {}, frozenset({PRINT}))

words = st.text(st.characters(exclude_categories=["Cs"]))
names = st.tuples(
    st.sampled_from([ISSUER, "https://other.test/"]),
    st.sampled_from(["held", "a"]) | words.filter(lambda kid: 0 < len(kid) <= MAX_KID_CHARS),
)
decisions = st.builds(
    Decision, st.integers(1, 5) | st.integers(MAX_NUMBER - 1, MAX_NUMBER), words, st.floats(0, 2e9)
)
counters = st.dictionaries(st.sampled_from([ME, OTHER]), decisions)
prints = st.frozensets(st.sampled_from([PRINT, OTHER_PRINT]))
flags = st.builds(Distrust, counters, counters, prints).filter(
    lambda flag: bool(flag.made or flag.lifted or flag.thumbprints)
)
fields = st.builds(
    lambda *field: json.dumps(field).encode(),
    st.sampled_from(["made", "lifted", "key", "other", 1]),
    st.just(ISSUER) | st.none() | st.just(""),
    st.just("held") | st.integers(),
    st.sampled_from([ME, OTHER, PRINT, ""]) | st.integers(),
)
values = st.builds(
    lambda number: json.dumps([{"number": number}, []]).encode(),
    st.integers() | st.floats() | st.text() | st.booleans() | st.none(),
)
anything = st.dictionaries(fields | st.binary(), values | st.binary() | st.just(b"[{},[]]"))


def read(entries: Entries, found: Iterable[tuple[bytes, bytes]]) -> dict[Name, Distrust]:
    merged: dict[Name, Distrust] = {}
    for field, value in found:
        try:
            name, flag, *_ = entries.decoded(field, value)
        except ValueError:
            continue
        merge_into(merged, [(name, flag)])
    return merged


def written(entries: Entries, decided: dict[Name, Distrust]) -> list[tuple[bytes, bytes]]:
    return [(field, value) for field, _, value in entries.encoded(decided)]


@given(st.sampled_from([[], [NEW], [NEW, OLD]]), st.dictionaries(names, flags, max_size=5))
def test_what_was_decided_is_read_as_it_was_written(
    secrets: list[str], decided: dict[Name, Distrust]
) -> None:
    entries = Entries(secrets)
    assert read(entries, written(entries, decided)) == decided


@given(st.dictionaries(names, flags, max_size=5), st.randoms())
def test_neither_order_nor_repetition_matters(
    decided: dict[Name, Distrust], chance: random.Random
) -> None:
    entries = Entries([])
    found = written(entries, decided) * 2
    chance.shuffle(found)
    assert read(entries, found) == decided


@given(anything)
def test_whatever_lies_there_is_read_without_an_error(found: dict[bytes, bytes]) -> None:
    for (issuer, kid), flag in read(Entries([]), found.items()).items():
        assert issuer
        assert kid
        assert flag.made or flag.lifted or flag.thumbprints


@given(anything)
def test_nothing_but_a_lift_lifts_what_is_held(found: dict[bytes, bytes]) -> None:
    damaged = {field: value for field, value in found.items() if b'"lifted"' not in field}
    flag = read(Entries([]), damaged.items()).get((ISSUER, "held"), Distrust())
    assert HELD.merged(flag).stands


@given(anything)
def test_with_a_secret_nothing_that_is_not_signed_counts(found: dict[bytes, bytes]) -> None:
    assert read(Entries([NEW]), found.items()) == {}


@given(flags)
def test_what_another_secret_or_none_signed_does_not_count(flag: Distrust) -> None:
    decided = {(ISSUER, "k"): flag}
    for others in ([], [OLD]):
        assert read(Entries([NEW]), written(Entries(others), decided)) == {}


def test_a_signature_is_of_one_entry_alone() -> None:
    entries = Entries([NEW])
    found = dict(written(entries, {(ISSUER, "k"): Distrust(HELD.made, HELD.made)}))
    (made, one), (lifted, _) = found.items()
    elsewhere = made.replace(b'"k"', b'"l"')
    higher = one.replace(b'"number":3', b'"number":4')
    for forged in ((elsewhere, one), (made, higher), (made + b" ", one), (lifted, one)):
        assert read(entries, [forged]) == {}, forged


def test_while_a_secret_is_replaced_all_read_what_the_others_write() -> None:
    """Those with the old one, then both, then the new one: neighbours run at the same time."""
    decided = {(ISSUER, "k"): HELD}
    old, both, swapped, new = (Entries(each) for each in ([OLD], [OLD, NEW], [NEW, OLD], [NEW]))
    for writer, readers in (
        (old, (both, swapped)),
        (both, (old, swapped, new)),
        (swapped, (old, both, new)),
        (new, (both, swapped)),
    ):
        for reader in readers:
            assert read(reader, written(writer, decided)) == decided


def test_an_entry_that_one_secret_did_not_sign_is_not_complete() -> None:
    """So that those who have both sign it anew, before the old one goes out of use."""
    for writer, complete in (([OLD], False), ([NEW], False), ([OLD, NEW], True)):
        for field, value in written(Entries(writer), {(ISSUER, "k"): HELD}):
            assert Entries([NEW, OLD]).decoded(field, value).complete is complete


def test_the_longest_words_that_others_take_are_read() -> None:
    for secrets in ([], [NEW, OLD]):
        for character in ("x", "\x01", "\U0001f511"):
            name = (ISSUER, "\x01" * MAX_KID_CHARS)
            words = character * 100_000
            flag = sound(name, Distrust({ME: Decision(1, words, 1.0, words)}))
            assert flag is not None
            entries = Entries(secrets)
            assert read(entries, written(entries, {name: flag})) == {name: flag}


def test_an_entry_that_is_too_long_is_not_read() -> None:
    (field, value), *_ = written(Entries([]), {(ISSUER, "k"): HELD})
    assert read(Entries([]), [(field, value)])
    assert not read(Entries([]), [(field, value + b" " * MAX_ENTRY_BYTES)])
