"""The state that only grows: what any history of decisions, lifts and messages comes to."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from jwks_guard.distrust.parts import decoded_part, encoded_part
from jwks_guard.distrust.state import (
    MAX_NUMBER,
    Decision,
    Distrust,
    Distrusted,
    Flags,
    Name,
    State,
    beyond,
    merge_into,
)

ISSUER, OTHER = "https://issuer.test/", "https://other.test/"
ISSUERS = frozenset({ISSUER, OTHER})
K = (ISSUER, "k")


def made(replica: str, number: int, at: float = 0.0) -> Decision:
    return Decision(number, f"reason {number}", at or float(number), replica)


# Of one replica, a number names one decision: reason and time follow from it.
replicas = st.sampled_from("rst")
numbers = st.integers(1, 4)
decisions = st.dictionaries(replicas, numbers).map(
    lambda chosen: {replica: made(replica, number) for replica, number in chosen.items()}
)
flags_of_one = st.builds(Distrust, decisions, decisions, st.frozensets(st.sampled_from("pqr")))
names = st.tuples(st.sampled_from(sorted(ISSUERS)), st.sampled_from("ab"))
any_flags = st.dictionaries(names, flags_of_one.filter(lambda flag: flag != Distrust()))


def merged(*parts: Flags) -> State:
    return reduce(State.merged, parts, State())


Shown = tuple[dict[str, dict[str, Distrusted]], dict[str, frozenset[str]]]


def computed(flags: Flags) -> Shown:
    """What a state shows, computed from its flags without a look at an earlier state."""
    keys: dict[str, dict[str, Distrusted]] = {}
    thumbprints: dict[str, frozenset[str]] = {}
    for (issuer, kid), flag in flags.items():
        standing = [
            each
            for replica, each in flag.made.items()
            if each.number > getattr(flag.lifted.get(replica), "number", 0)
        ]
        if standing:
            first = min(standing, key=lambda each: (each.at, each.reason, each.by))
            key = Distrusted(
                issuer, kid, first.reason, first.at, first.by, frozenset(flag.thumbprints)
            )
            keys.setdefault(issuer, {})[kid] = key
            covered = thumbprints.get(issuer, frozenset()) | flag.thumbprints
            thumbprints.update({issuer: covered} if covered else {})
    return keys, thumbprints


def shown(state: State) -> Shown:
    of = {issuer: dict(keys) for issuer, keys in state.distrusted.items() if keys}
    return of, {issuer: each for issuer, each in state.thumbprints.items() if each}


# --- merging ---


@given(any_flags, any_flags)
def test_merging_gives_the_same_in_either_order(one: Flags, other: Flags) -> None:
    assert merged(one, other).flags == merged(other, one).flags
    assert shown(merged(one, other)) == shown(merged(other, one))


@given(any_flags, any_flags, any_flags)
def test_merging_gives_the_same_however_it_is_grouped(one: Flags, two: Flags, three: Flags) -> None:
    assert (
        merged(merged(one, two).flags, three).flags == merged(one, merged(two, three).flags).flags
    )


@given(any_flags, any_flags)
def test_what_is_merged_again_changes_nothing_and_gives_the_same_object(
    one: Flags, other: Flags
) -> None:
    state = merged(one, other)
    for known in (one, other, state.flags, {}):
        assert state.merged(known) is state


@given(any_flags, any_flags)
def test_merging_only_adds(one: Flags, other: Flags) -> None:
    after = merged(one, other).flags
    for name, flag in [*one.items(), *other.items()]:
        assert flag.beyond(after[name]) is None


@given(any_flags, any_flags)
def test_beyond_is_exactly_what_is_lacking(ours: Flags, theirs: Flags) -> None:
    lacking = beyond(ours, theirs, ISSUERS)
    both = merged(theirs, ours).flags
    assert merged(theirs, lacking).flags == both
    assert beyond(ours, merged(theirs, lacking).flags, ISSUERS) == {}
    for name, part in lacking.items():
        held = theirs.get(name, Distrust())
        for what in ("made", "lifted"):
            for replica, decision in getattr(part, what).items():
                known = getattr(held, what).get(replica)
                assert known is None or known.number < decision.number, "it is known there"
        assert not part.thumbprints & held.thumbprints
        assert part != Distrust()


@given(any_flags, any_flags)
def test_beyond_and_about_are_of_the_issuers_asked_for(ours: Flags, theirs: Flags) -> None:
    of_all = beyond(ours, theirs, ISSUERS)
    of_one = {name: flag for name, flag in of_all.items() if name[0] == ISSUER}
    assert beyond(ours, theirs, {ISSUER}) == of_one
    assert beyond(ours, theirs, ()) == {}


@given(st.lists(any_flags, max_size=4))
def test_merging_in_place_gives_what_merging_states_gives(parts: list[Flags]) -> None:
    held: dict[Name, Distrust] = {}
    for each in parts:
        merge_into(held, each.items())
    assert held == merged(*parts).flags


@given(st.lists(any_flags, max_size=5))
def test_what_a_state_shows_is_what_its_flags_say_computed_from_scratch(parts: list[Flags]) -> None:
    state = State()
    for each in parts:
        before, frozen = state, shown(state)
        state = state.merged(each)
        assert shown(state) == computed(state.flags)
        assert shown(before) == frozen, "a state that somebody holds has changed"
        for issuer in ISSUERS:
            assert dict(state.of(issuer)) == computed(state.flags)[0].get(issuer, {})


def test_distrusted_keys_are_read_only() -> None:
    state = merged({K: Distrust({"r": made("r", 1)})})
    with pytest.raises(TypeError):
        state.of(ISSUER)["x"] = state.of(ISSUER)["k"]  # type: ignore[index]  # it is read-only
    assert dict(state.of(OTHER)) == {}


# --- decisions and lifts ---


@given(flags_of_one, replicas, st.frozensets(st.sampled_from("pqr")))
def test_decision_stands_and_covers_what_it_is_given(
    flag: Distrust, replica: str, thumbprints: frozenset[str]
) -> None:
    decided = flag.decided(replica, Decision(0, "leaked", 9.0, "me"), thumbprints)
    assert decided.stands
    assert decided.thumbprints == flag.thumbprints | thumbprints
    assert flag.beyond(decided) is None


@given(flags_of_one, flags_of_one, replicas)
def test_decision_stands_that_was_made_before_a_lift_that_did_not_know_it_is_heard(
    known: Distrust, unheard: Distrust, replica: str
) -> None:
    """Of its own decisions a replica has heard all: it made them."""
    unheard = replace(unheard, made={r: d for r, d in unheard.made.items() if r != replica})
    decided = known.decided(replica, Decision(0), frozenset())
    for lifted in (known, unheard, known.merged(unheard)):
        lift = lifted.lift("false alarm", 5.0, "somebody")
        assert decided.merged(lift).stands
        assert known.merged(lift).decided(replica, Decision(0), frozenset()).merged(lift).stands


@given(flags_of_one)
def test_lift_undoes_all_that_its_maker_knew_and_says_nothing_else(flag: Distrust) -> None:
    lift = flag.lift("false alarm", 5.0, "somebody")
    assert not flag.merged(lift).stands
    assert not lift.made
    assert not lift.thumbprints
    assert bool(lift.lifted) is flag.stands


@given(flags_of_one, flags_of_one)
def test_lift_undoes_nothing_that_its_maker_did_not_know(
    known: Distrust, unheard: Distrust
) -> None:
    lift = known.lift("false alarm", 5.0, "somebody")
    both = known.merged(unheard)
    left = {(d.by, d.number) for d in both.merged(lift).standing}
    was = {(d.by, d.number) for d in both.standing}
    assert was - left == {
        (replica, number)
        for replica, number in was
        if replica in lift.lifted and number <= lift.lifted[replica].number
    }
    for replica, lifted in lift.lifted.items():
        assert lifted.number == known.made[replica].number


@pytest.mark.parametrize("repeats", [1, 2, 500])
def test_repeated_decisions_do_not_grow_the_flag_and_keep_the_first_reason(repeats: int) -> None:
    flag = Distrust()
    for number in range(repeats):
        flag = flag.decided("r", Decision(0, f"{number}", float(number), "me"), frozenset({"p"}))
    assert flag.made == {"r": Decision(repeats, "0", 0.0, "me")}
    assert len(encoded_part(K, flag)) < 200


def test_decision_after_a_lift_is_a_new_one_with_its_own_reason() -> None:
    flag = Distrust().decided("r", Decision(0, "first", 1.0, "me"), frozenset({"p"}))
    flag = flag.merged(flag.lift("false alarm", 2.0, "me"))
    assert flag.latest_lift == Decision(1, "false alarm", 2.0, "me")
    again = flag.decided("r", Decision(0, "after all", 3.0, "me"), frozenset())
    assert again.made == {"r": Decision(2, "after all", 3.0, "me")}
    assert again.thumbprints == {"p"}


def test_earliest_standing_decision_is_the_one_shown() -> None:
    first = Distrust({"r": Decision(1, "first", 1.0, "me")})
    later = Distrust({"s": Decision(1, "later", 2.0, "you")}, thumbprints=frozenset({"p"}))
    state = merged({K: later}, {K: first})
    assert state.of(ISSUER)["k"] == Distrusted(*K, "first", 1.0, "me", frozenset({"p"}))
    lifted = state.merged({K: first.lift("false alarm", 3.0, "me")})
    assert lifted.of(ISSUER)["k"].reason == "later"


def test_latest_lift_is_the_one_made_last() -> None:
    flag = Distrust(
        {"r": made("r", 1), "s": made("s", 1)},
        {"r": Decision(1, "early", 1.0), "s": Decision(1, "late", 2.0)},
    )
    assert flag.latest_lift.reason == "late"


def test_key_that_another_decision_covers_stays_covered() -> None:
    other = (ISSUER, "other")
    state = merged(
        {K: Distrust({"r": made("r", 1)}, thumbprints=frozenset({"p"}))},
        {other: Distrust({"r": made("r", 1)}, thumbprints=frozenset({"p", "q"}))},
    )
    lifted = state.merged({other: state.flags[other].lift("false alarm", 1.0, "me")})
    assert lifted.covered([ISSUER]) == {"p"}
    lifted = state.merged({K: state.flags[K].lift("false alarm", 1.0, "me")})
    assert lifted.covered([ISSUER]) == {"p", "q"}


def test_thumbprints_that_arrive_after_the_lift_distrust_nothing() -> None:
    flag = Distrust({"r": made("r", 1)})
    state = merged({K: flag}, {K: flag.lift("false alarm", 1.0, "me")})
    late = state.merged({K: Distrust(thumbprints=frozenset({"p"}))})
    assert not late.covered([ISSUER])


def test_ten_thousand_flags_do_not_make_a_decision_slow() -> None:
    """The dictionaries are copied, the flags are not: a decision takes about a millisecond."""
    flags = {
        (ISSUER, f"k{n}"): Distrust({"r": made("r", 1)}, {}, frozenset({f"p{n}"}))
        for n in range(10_000)
    }
    state = merged(flags)
    one = merged({K: Distrust({"r": made("r", 1)})}).flags
    after = state.merged(one)
    assert all(after.flags[name] is flag for name, flag in flags.items())
    assert after.distrusted.keys() == {ISSUER}
    assert state.merged(dict(flags)) is state


# --- as JSON ---


@given(names, flags_of_one)
def test_part_comes_back_from_json_as_it_was(name: Name, flag: Distrust) -> None:
    data = encoded_part(name, flag)
    assert b"\n" not in data
    assert decoded_part(data) == (name, flag)


def test_text_of_any_language_stays_on_one_line() -> None:
    flag = Distrust({"r": Decision(1, 'größer "als"\n\u2028', 7.5, "ops@example.com")})
    data = encoded_part((ISSUER, "k\n"), flag)
    assert b"\n" not in data
    assert decoded_part(data) == ((ISSUER, "k\n"), flag)


GOOD = b'["i","k",{"made":{"r":{"number":1,"reason":"x","at":1.0,"by":"me"}}}]'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'["i","k"]',
        GOOD.replace(b'"made"', b'"maid"'),
        GOOD.replace(b'"i"', b"null"),
        GOOD.replace(b"]", b",{}]"),
        GOOD.replace(b"{", b'{"unless":"tuesday",', 1),
        GOOD.replace(b'"r":{', b'"r":{"number":1},"s":[{', 1),
        GOOD.replace(b":1,", b":0,"),
        GOOD.replace(b":1,", b":-1,"),
        GOOD.replace(b":1,", b":1.5,"),
        GOOD.replace(b":1,", b":true,"),
        GOOD.replace(b":1,", b':"1",'),
        GOOD.replace(b":1,", f":{MAX_NUMBER + 1},".encode()),
        GOOD.replace(b"1.0", b"1e999"),
        GOOD.replace(b'"x"', b'"\\ud800"'),
        b'{"op":"distrust","issuer":"i","kid":"k","reason":"x","at":1.0,"thumbprints":[]}',
        b'{"issuer":"i","kid":"k","made":{"r":{"number":1}}}',
    ],
)
def test_what_is_no_part_is_refused_and_not_quoted(data: bytes) -> None:
    assert decoded_part(GOOD)[0] == ("i", "k")
    with pytest.raises(ValueError, match=r"^it is no part of the state$"):
        decoded_part(data)


def test_largest_number_is_taken() -> None:
    _, flag = decoded_part(GOOD.replace(b":1,", f":{MAX_NUMBER},".encode()))
    assert flag.made["r"].number == MAX_NUMBER


# --- many replicas ---

REPLICAS = 3
members = st.integers(0, REPLICAS - 1)
kids = st.sampled_from("ab")


class Exchange(RuleBasedStateMachine):
    """Replicas that decide and exchange what they know: late, twice, in part, or never.

    Some are begun anew from what they wrote down, as another replica. `undone` has the decisions
    that some lift knew.
    """

    def __init__(self) -> None:
        super().__init__()
        self.states = [State() for _ in range(REPLICAS)]
        self.names = [f"r{number}" for number in range(REPLICAS)]
        self.runs = REPLICAS
        self.sent: list[Flags] = []
        self.journals: list[list[bytes]] = [[] for _ in range(REPLICAS)]
        self.made: set[tuple[Name, str, int]] = set()
        self.undone: set[tuple[Name, str, int]] = set()
        self.now = 0.0

    def take(self, member: int, flags: Flags) -> None:
        before = self.states[member]
        after = self.states[member] = before.merged(flags)
        lines = beyond(after.flags, before.flags, ISSUERS)
        self.journals[member] += [encoded_part(*line) for line in lines.items()]

    @rule(member=members, kid=kids, thumbprints=st.frozensets(st.sampled_from("pq"), max_size=2))
    def distrust(self, member: int, kid: str, thumbprints: frozenset[str]) -> None:
        self.now += 1.0
        name, replica = (ISSUER, kid), self.names[member]
        flag = self.states[member].flags.get(name, Distrust())
        decided = flag.decided(replica, Decision(0, "leaked", self.now, replica), thumbprints)
        self.take(member, {name: decided})
        self.made.add((name, replica, decided.made[replica].number))
        assert kid in self.states[member].of(ISSUER)

    @rule(member=members, kid=kids)
    def reinstate(self, member: int, kid: str) -> None:
        name = (ISSUER, kid)
        flag = self.states[member].flags.get(name)
        if flag is None:
            return
        for replica, decision in flag.made.items():
            self.undone |= {(name, replica, n) for n in range(1, decision.number + 1)}
        self.take(member, {name: flag.lift("false alarm", self.now, self.names[member])})
        assert kid not in self.states[member].of(ISSUER)

    @rule(member=members)
    def send(self, member: int) -> None:
        self.sent.append(self.states[member].flags)

    @precondition(lambda self: self.sent)
    @rule(member=members, data=st.data())
    def hear(self, member: int, data: st.DataObject) -> None:
        """Any message, which stays on its way; and of it only a part."""
        message = data.draw(st.sampled_from(self.sent))
        chosen = data.draw(st.frozensets(kids, min_size=1))
        self.take(member, {n: _part(f, data) for n, f in message.items() if n[1] in chosen})

    @rule(member=members)
    def restart(self, member: int) -> None:
        self.states[member] = merged(*_replayed(self.journals[member]))
        self.names[member] = f"r{self.runs}"
        self.runs += 1

    @rule(member=members)
    def lose_everything(self, member: int) -> None:
        """As a Redis does that lost its data: it is empty, and hears of all of it again."""
        self.states[member], self.journals[member] = State(), []
        self.restart(member)

    @invariant()
    def decision_that_no_lift_knew_stands_wherever_it_is_known(self) -> None:
        for state in [*self.states, merged(*(state.flags for state in self.states), *self.sent)]:
            for name, flag in state.flags.items():
                known = {(name, replica, each.number) for replica, each in flag.made.items()}
                assert known <= self.made
                assert flag.stands or known <= self.undone

    @invariant()
    def journal_replays_to_what_is_known_in_any_order(self) -> None:
        for journal, state in zip(self.journals, self.states, strict=True):
            lines = [*journal, *journal[::2]]
            random.Random(len(lines)).shuffle(lines)
            assert merged(*_replayed(lines)).flags == state.flags

    def teardown(self) -> None:
        """Once everybody has heard from everybody, all agree, and on what was undone.

        Of two lifts of the same decisions each shows the one that it heard of first.
        """
        everything = merged(*(state.flags for state in self.states))
        for member in range(REPLICAS):
            for message in [state.flags for state in self.states]:
                self.take(member, message)
        assert all(_counters(state) == _counters(everything) for state in self.states)


def _counters(state: State) -> dict[Name, tuple[object, ...]]:
    def numbers(decisions: Mapping[str, Decision]) -> dict[str, int]:
        return {replica: decision.number for replica, decision in decisions.items()}

    return {
        name: (numbers(flag.made), numbers(flag.lifted), flag.thumbprints)
        for name, flag in state.flags.items()
    }


def _part(flag: Distrust, data: st.DataObject) -> Distrust:
    def some(decisions: Mapping[str, Decision]) -> dict[str, Decision]:
        return {r: d for r, d in decisions.items() if data.draw(st.booleans())}

    return replace(flag, made=some(flag.made), lifted=some(flag.lifted))


def _replayed(lines: Iterable[bytes]) -> list[Flags]:
    return [dict([decoded_part(line)]) for line in lines]


TestExchange = Exchange.TestCase


def test_thumbprints_are_covered_for_the_issuers_that_are_asked_for_alone() -> None:
    state = merged(
        {K: Distrust({"r": made("r", 1)}, thumbprints=frozenset({"p"}))},
        {(OTHER, "k"): Distrust({"r": made("r", 1)}, thumbprints=frozenset({"q"}))},
    )
    assert state.covered([ISSUER]) == {"p"}
    assert state.covered([ISSUER, OTHER, "https://unknown.test/"]) == {"p", "q"}
    lifted = state.merged({(OTHER, "k"): state.flags[OTHER, "k"].lift("false alarm", 1.0, "me")})
    assert lifted.covered([ISSUER, OTHER]) == {"p"}
