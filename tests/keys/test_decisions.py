"""Decisions that come in by a call, from a file or from other processes, in any order."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jwks_guard import DistrustNotSharedError, Event, KeyStore
from jwks_guard.base import files
from jwks_guard.base.clock import Instant
from jwks_guard.jose.jwk import VerificationKey, load_jwk
from jwks_guard.keys.distrust import FleetMember, Name, Tombstone, Tombstones
from jwks_guard.keys.peers import open_stores
from jwks_guard.keys.snapshot import Snapshot, _replay, distrust_record, reinstate_record
from jwks_guard.readiness.state import Observed
from jwks_guard.testing.keys import generate_signing_key
from tests.support import HandClock

ISSUER, OTHER = "https://issuer.test/", "https://other.test/"
K = (ISSUER, "k")


def key(kid: str) -> VerificationKey:
    return load_jwk(generate_signing_key("ES256", now=0, common_name="issuer.test", kid=kid).jwk)


KEYS = (key("k"), key("spare"))


def stone(version: int = 1, *prints: str, **changes: Any) -> Tombstone:
    given = {"issuer": ISSUER, "kid": "k", "reason": "leaked", "at": 1.0, **changes}
    return Tombstone(thumbprints=frozenset(prints), version=version, **given)


def tombstones(*stones: Tombstone, **lifted: int) -> Tombstones:
    return Tombstones().merged(stones).without({(ISSUER, k): v for k, v in lifted.items()})


# --- which of two decisions counts ---


@pytest.mark.parametrize(("distrusted", "lifted", "stands"), [(1, 2, False), (2, 2, True)])
def test_higher_version_counts_and_of_the_same_the_one_that_distrusts(
    distrusted: int, lifted: int, stands: bool
) -> None:
    before, after = stone(distrusted), {K: lifted}
    assert (K in Tombstones().merged([before]).without(after).entries) is stands
    assert (K in Tombstones().without(after).merged([before]).entries) is stands


def test_lift_says_itself_above_what_it_lifts_and_the_next_decision_above_the_lift() -> None:
    held = tombstones(stone(1))
    assert held.next_version(K, 0.0) == 1
    assert held.next_lift(K) == 2
    lifted = held.without({K: 2})
    assert lifted.next_lift(K) == 2
    assert lifted.next_version(K, 0.0) == 3
    assert (Tombstones().next_version(K, 0.0), Tombstones().next_lift(K)) == (1, 1)


def test_decision_stands_above_every_lift_that_was_made_before_heard_of_or_not() -> None:
    first = Tombstones().decided(K, "leaked", 1_000.0)
    lift = tombstones(first).next_lift(K)
    unheard = Tombstones().decided(K, "found after all", 1_000.002)
    again = tombstones(first).decided(K, "found after all", 90_000.0)
    for later in (unheard, again):
        assert K in tombstones(later).without({K: lift}).entries
    assert K not in tombstones(first).without({K: lift}).entries


def test_deciding_again_keeps_reason_and_time_and_adds_keys() -> None:
    held = tombstones(stone(1, "p1"))
    assert held.decided(K, "again", 9.0, frozenset({"p2"})) == stone(1, "p1", "p2")
    assert held.decided(K, "again", 86_400.001) == stone(86_400_001, "p1")
    assert tombstones(stone(99_000)).decided(K, "again", 9.0) == stone(99_000)


def test_reason_is_that_of_the_decision_that_counts() -> None:
    first, again = stone(1, "p1"), stone(3, "p2", reason="again", at=9.0)
    assert (
        first.joined(again) == again.joined(first) == stone(3, "p1", "p2", reason="again", at=9.0)
    )
    twin = stone(1, reason="at the same time", at=0.5)
    assert first.joined(twin) == twin.joined(first) == replace(twin, thumbprints=first.thumbprints)


def test_only_what_is_named_is_raised_above_lifts() -> None:
    held = tombstones(stone(1), stone(1, kid="other"))
    lifts = {K: 4, (ISSUER, "other"): 4}
    assert held.above(lifts, {K}) == [stone(5)]
    assert held.above({K: 1}, {K}) == []


# --- many processes ---

PROCESSES = 3
processes = st.integers(0, PROCESSES - 1)
kids = st.sampled_from(["a", "b"])


def ranks(known: Tombstones) -> dict[Name, tuple[int, bool]]:
    """How far each process is, for each name: a total order of all decisions about it."""
    standing = {name: (stone.version, True) for name, stone in known.entries.items()}
    return standing | {name: (version, False) for name, version in known.lifted.items()}


class Exchange(RuleBasedStateMachine):
    """Processes that decide and exchange what they know: late, twice, in any order, or never.

    Each keeps a journal; what is `made` is the highest decision that anybody ever made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known = [Tombstones() for _ in range(PROCESSES)]
        self.journals: list[list[dict[str, Any]]] = [[] for _ in range(PROCESSES)]
        self.sent: list[Tombstones] = []
        self.made: dict[Name, tuple[int, bool]] = {}
        self.at = 0.0

    def note(self, name: Name, rank: tuple[int, bool]) -> None:
        self.made[name] = max(rank, self.made.get(name, (0, False)))

    @rule(process=processes, kid=kids, prints=st.frozensets(st.sampled_from("pqr"), max_size=2))
    def distrust(self, process: int, kid: str, prints: frozenset[str]) -> None:
        name, known = (ISSUER, kid), self.known[process]
        self.at += 1.0
        made = known.decided(name, f"reason {self.at}", self.at / 1000, prints)
        self.known[process] = known.merged([made])
        self.journals[process].append(distrust_record(made))
        self.note(name, (made.version, True))
        assert name in self.known[process].entries

    @rule(process=processes, kid=kids)
    def reinstate(self, process: int, kid: str) -> None:
        name, known = (ISSUER, kid), self.known[process]
        version = known.next_lift(name)
        self.known[process] = known.without({name: version})
        self.journals[process].append(reinstate_record(name, version, "false alarm", self.at))
        self.note(name, (version, False))
        assert name not in self.known[process].entries

    @rule(process=processes)
    def send(self, process: int) -> None:
        self.sent.append(self.known[process])

    @precondition(lambda self: self.sent)
    @rule(process=processes, data=st.data())
    def hear(self, process: int, data: st.DataObject) -> None:
        """Any message, which stays on its way; and of it only a part."""
        message = data.draw(st.sampled_from(self.sent))
        names = data.draw(st.frozensets(kids, min_size=1))
        entries = {n: s for n, s in message.entries.items() if n[1] in names}
        self.told(
            process, Tombstones(entries, {n: v for n, v in message.lifted.items() if n[1] in names})
        )

    def told(self, process: int, message: Tombstones) -> None:
        before = self.known[process]
        after = before.merged(message.entries.values()).without(message.lifted)
        for name, rank in ranks(before).items():
            assert ranks(after)[name] >= rank, "an older or equal one undid it"
        for name, rank in ranks(message).items():
            assert ranks(after)[name] >= rank, "a newer one was not heard"
        self.known[process] = after
        journal = self.journals[process]
        for name, stone in after.entries.items():
            if before.entries.get(name) != stone:
                journal.append(distrust_record(stone, "hear"))
        for name, version in after.lifted.items():
            if before.lifted.get(name) != version:
                journal.append(reinstate_record(name, version, "elsewhere", self.at))

    @invariant()
    def nobody_knows_more_than_was_decided(self) -> None:
        for known in self.known:
            assert not known.entries.keys() & known.lifted.keys()
            for name, rank in ranks(known).items():
                assert rank <= self.made[name]

    @invariant()
    def journal_replays_to_what_is_known(self) -> None:
        for journal, known in zip(self.journals, self.known, strict=True):
            assert replayed(journal) == known

    def teardown(self) -> None:
        """Once everybody has heard from everybody, all agree on the latest decision."""
        for _ in range(2):  # the keys that a decision covers add up
            for message in tuple(self.known):
                for process in range(PROCESSES):
                    self.told(process, message)
            for known in self.known:
                assert ranks(known) == self.made
        assert all(known == self.known[0] for known in self.known)
        self.journal_replays_to_what_is_known()


TestExchange = Exchange.TestCase
TestExchange.settings = settings(max_examples=60, stateful_step_count=40)


def replayed(records: Iterable[Mapping[str, Any]]) -> Tombstones:
    return _replay(b"".join(msgspec.json.encode(record) + b"\n" for record in records))


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6))
def test_journal_lines_from_elsewhere_come_to_the_same_in_any_order(
    order: list[int], repeated: list[int]
) -> None:
    lines = [
        *(distrust_record(stone(version, reason=f"{version}"), "hear") for version in (1, 3, 4)),
        *(reinstate_record(K, version, "elsewhere", 5.0) for version in (2, 3, 4)),
    ]
    known = replayed([lines[number] for number in (*order, *repeated)])
    assert ranks(known) == {K: (4, True)}
    assert known.entries[K].reason == "4"


# --- journals ---


def unversioned(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "version"}


@given(st.lists(st.sampled_from(["distrust", "reinstate", "learn"]), max_size=12))
def test_journal_without_versions_is_replayed_in_its_order(ops: list[str]) -> None:
    stands, records = False, []
    for op in ops:
        stands = op == "distrust" or (stands and op == "learn")
        records.append(
            unversioned(
                reinstate_record(K, 1, "false alarm", 1.0)
                if op == "reinstate"
                else distrust_record(stone(1), op)
            )
        )
    known = replayed(records)
    assert (K in known.entries) is stands
    assert known.next_version(K, 0.0) <= 1 + len(ops)


def test_versions_follow_on_lines_that_had_none() -> None:
    old = [distrust_record(stone(1)), reinstate_record(K, 1, "false alarm", 1.0)]
    known = replayed(unversioned(record) for record in old)
    assert known.lifted == {K: 2}
    assert replayed([*map(unversioned, old), distrust_record(stone(3))]).entries[K].version == 3


def test_journal_of_ten_thousand_lines_takes_well_under_a_second_of_work(tmp_path: Path) -> None:
    records = [distrust_record(stone(1, f"p{n}", kid=f"k{n % 5000}")) for n in range(8000)]
    records += [reinstate_record((ISSUER, f"k{n}"), 2, "false alarm", 1.0) for n in range(2000)]
    snapshot = Snapshot(tmp_path / "keys.json", ISSUER)
    snapshot.append(records)
    began = time.thread_time()
    known = snapshot.load_tombstones()
    assert time.thread_time() - began < 0.8
    assert (len(known.entries), len(known.lifted)) == (3000, 2000)


# --- stores ---


@pytest.fixture
def store() -> Callable[..., KeyStore]:
    made: list[KeyStore] = []

    def make(issuer: str = ISSUER, **options: Any) -> KeyStore:
        store = KeyStore(issuer, **options)
        made.append(store)  # the registry keeps none alive
        return store

    return make


def hold_keys(store: KeyStore) -> KeyStore:
    store.trust.publish(KEYS, (), Instant.now(store.clock))
    return store


def forget_everything() -> None:
    """As a restart does: no store of this process is asked what it knows."""
    nobody = KeyStore("https://nobody.test/")
    for each in (nobody, *open_stores.besides(nobody)):
        open_stores.discard(each)


@pytest.fixture
def rehearsed(tmp_path: Path) -> Path:
    """A file of last month, when the key was distrusted and reinstated for a rehearsal."""
    path = tmp_path / "keys.json"
    lines = [distrust_record(stone(1)), reinstate_record(K, 2, "a rehearsal", 2.0)]
    Snapshot(path, ISSUER).append(lines)
    return path


def test_decision_made_before_the_file_is_read_is_not_lifted_by_it(
    store: Callable[..., KeyStore], rehearsed: Path
) -> None:
    ours = store(snapshot_path=rehearsed)
    ours.distrust_blocking("k", reason="leaked")
    assert set(ours.distrusted) == {"k"}
    forget_everything()
    assert set(store(snapshot_path=rehearsed).distrusted) == {"k"}


def test_decision_of_one_store_is_not_lifted_by_the_file_of_a_later_one(
    store: Callable[..., KeyStore], rehearsed: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.json"
    ours = hold_keys(store(snapshot_path=own))
    ours.distrust_blocking("k", reason="leaked")
    seen: list[bool] = []
    ours.trust.subscribe(lambda: seen.append("k" in ours.kids))
    later = store(snapshot_path=rehearsed)
    assert set(later.distrusted) == set(ours.distrusted) == {"k"}
    assert seen.count(True) == 0
    forget_everything()
    assert set(store(snapshot_path=rehearsed).distrusted) == {"k"}
    forget_everything()
    first, second = store(snapshot_path=own), store(snapshot_path=rehearsed)
    assert set(first.distrusted) == set(second.distrusted) == {"k"}


async def test_decision_that_was_lifted_again_is_not_held_against_a_file(
    store: Callable[..., KeyStore], rehearsed: Path
) -> None:
    ours = store()
    ours.distrust_blocking("k", reason="leaked")
    ours.reinstate_blocking("k", reason="false alarm")
    ours.decisions.take_over([stone(3)], {})
    Snapshot(rehearsed, ISSUER).append([reinstate_record(K, 4, "false alarm", 3.0)])
    assert not store(snapshot_path=rehearsed).distrusted
    assert not ours.distrusted


def test_process_that_shares_the_file_and_knows_of_no_lift_still_decides(
    store: Callable[..., KeyStore], tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    ours = store(snapshot_path=path)
    assert not ours.distrusted
    beside = Snapshot(path, ISSUER)
    beside.append([distrust_record(stone(1)), reinstate_record(K, 2, "a rehearsal", 2.0)])
    ours.distrust_blocking("k", reason="leaked")
    forget_everything()
    assert set(store(snapshot_path=path).distrusted) == {"k"}


async def test_reinstating_again_and_again_lifts_nothing_that_is_decided_later_elsewhere(
    store: Callable[..., KeyStore], tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    ours = store(snapshot_path=path)
    for _ in range(5):
        ours.reinstate_blocking("k", reason="to be sure")
    forget_everything()
    restarted = store(snapshot_path=path)
    assert not restarted.distrusted
    elsewhere = Tombstones().without({K: 1})  # who heard of the first of these
    restarted.decisions.take_over([stone(elsewhere.next_version(K, 0.0))], {})
    assert set(restarted.distrusted) == {"k"}


async def test_what_was_lifted_already_is_not_refused_for_a_moment_nor_told(
    store: Callable[..., KeyStore],
) -> None:
    told: list[Event] = []
    ours, twin = hold_keys(store(on_event=told.append)), hold_keys(store())
    told.clear()
    refused: list[bool] = []
    for each in (ours, twin):
        each.trust.subscribe(lambda each=each: refused.append("k" not in each.kids))  # type: ignore[misc]
    ours.decisions.take_over([stone(1)], {K: 2})
    assert not any(refused)
    assert told == []
    ours.decisions.take_over([stone(1)], {})
    assert "k" in ours.kids
    assert "k" in twin.kids


async def test_decisions_from_outside_count_for_the_whole_process_and_are_told(
    store: Callable[..., KeyStore],
) -> None:
    told: list[Event] = []
    ours, twin, other = hold_keys(store(on_event=told.append)), store(), store(OTHER)
    other.trust.publish(KEYS, (), Instant.now(other.clock))
    told.clear()
    ours.decisions.take_over([stone(1)], {})
    ours.decisions.take_over([stone(1)], {})
    assert set(ours.distrusted) == set(twin.distrusted) == {"k"}
    assert set(other.kids) == {"spare"}, "it learned the key from a store that has it"
    ours.decisions.take_over([], {K: 2})
    assert not twin.distrusted
    assert set(other.kids) == {"k", "spare"}
    assert [event.kind for event in told] == ["key_distrusted", "key_reinstated"]


async def written(store: KeyStore) -> Tombstones:
    durable = store.decisions.durable
    assert durable is not None
    await durable.saved()
    return durable._snapshot.load_tombstones()


async def test_what_came_from_outside_is_known_after_a_restart_without_the_others(
    store: Callable[..., KeyStore], tmp_path: Path
) -> None:
    ours = store(snapshot_path=tmp_path / "keys.json")
    ours.distrust_blocking("k", reason="leaked")
    ours.decisions.take_over([stone(1, "print", at=0.5)], {(ISSUER, "old"): 2})
    assert await written(ours) == ours.decisions.known
    later = ours.decisions.known.entries[K].version + 1
    ours.decisions.take_over([stone(later, "print", reason="again")], {(ISSUER, "old"): 4})
    known = await written(ours)
    assert known == ours.decisions.known
    assert known.entries[K].thumbprints == {"print"}
    assert ranks(known) == {K: (later, True), (ISSUER, "old"): (4, False)}
    late = known.merged([stone(3, kid="old")])
    assert (ISSUER, "old") not in late.entries


async def test_what_comes_in_while_something_is_written_is_written_too(
    store: Callable[..., KeyStore], tmp_path: Path
) -> None:
    ours = store(snapshot_path=tmp_path / "keys.json")
    assert not ours.distrusted
    with files.locked_for_append(tmp_path / "keys.json.tombstones"):  # as a slow disk does
        for number in range(5):
            ours.decisions.take_over([stone(1, kid=f"k{number}")], {})
            await asyncio.sleep(0.01)
    assert set((await written(ours)).of(ISSUER)) == {f"k{number}" for number in range(5)}


async def test_disk_that_fails_is_not_written_to_again_and_again(
    store: Callable[..., KeyStore], tmp_path: Path
) -> None:
    told: list[Event] = []
    ours = store(snapshot_path=tmp_path / "keys.json", on_event=told.append)
    assert not ours.distrusted
    (tmp_path / "keys.json.tombstones").mkdir()
    ours.decisions.take_over([stone(1)], {})
    durable = ours.decisions.durable
    assert durable is not None
    await durable.saved()
    assert [event.kind for event in told] == ["key_distrusted", "snapshot_failed"]
    (tmp_path / "keys.json.tombstones").rmdir()
    ours.decisions.take_over([stone(1, kid="next")], {})
    assert set((await written(ours)).of(ISSUER)) == {"k", "next"}


# --- a fleet that can be cut off ---


class Fleet:
    """What other processes know; a member hears all of it whenever it shares."""

    def __init__(self) -> None:
        self.known = Tombstones()
        self.error: str | None = None
        self.member: FleetMember | None = None

    async def join(self, member: FleetMember) -> None:
        self.member = member
        if self.error is None:
            await self.share()

    async def leave(self, member: FleetMember) -> None:
        self.member = None

    async def share(self) -> None:
        if self.error is not None:
            raise DistrustNotSharedError(self.error)
        assert self.member is not None
        decisions = self.member.decisions
        decisions.take_over(tuple(self.known.entries.values()), self.known.lifted)
        ours = decisions.known
        decisions.shared(decisions.unshared)
        self.known = self.known.merged(ours.entries.values()).without(ours.lifted)

    async def share_lifts(self, lifts: Mapping[Name, int], reason: str) -> None:
        if self.error is not None:
            raise DistrustNotSharedError(self.error)
        self.known = self.known.without(lifts)

    async def observe(self, kid: str, issuer: str) -> Observed:
        return Observed(())


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


async def test_decision_stands_although_the_fleet_lifted_an_earlier_one_unheard(
    store: Callable[..., KeyStore], fleet: Fleet
) -> None:
    ours = hold_keys(store(fleet=fleet, background=False))
    await ours.adopt()
    far = int(time.time() * 2000)  # by somebody whose clock is wrong
    fleet.known = tombstones(k=far)
    refused: list[bool] = []
    ours.trust.subscribe(lambda: refused.append("k" not in ours.kids))
    await ours.distrust("k", reason="leaked")
    assert all(refused)
    assert ranks(fleet.known) == {K: (far + 1, True)}


async def test_decision_made_while_cut_off_stands_when_the_fleet_is_heard_again(
    store: Callable[..., KeyStore], fleet: Fleet
) -> None:
    fleet.known, fleet.error = tombstones(k=2), "cut off"
    ours = hold_keys(store(fleet=fleet, background=False))
    await ours.adopt()
    with pytest.raises(DistrustNotSharedError):
        await ours.distrust("k", reason="leaked")
    fleet.error = None
    await fleet.share()
    assert set(ours.distrusted) == {"k"}
    assert set(fleet.known.of(ISSUER)) == {"k"}


async def test_lift_by_somebody_who_knew_of_the_decision_counts(
    store: Callable[..., KeyStore], fleet: Fleet
) -> None:
    ours = hold_keys(store(fleet=fleet, background=False))
    await ours.distrust("k", reason="leaked")
    fleet.known = fleet.known.without({K: fleet.known.next_lift(K)})
    await fleet.share()
    assert not ours.distrusted
    await ours.distrust("k", reason="after all")
    await ours.reinstate("k", reason="false alarm")
    assert not ours.distrusted
    assert not fleet.known.entries


async def test_reinstatement_that_the_fleet_cannot_hear_of_lifts_nothing(
    store: Callable[..., KeyStore], fleet: Fleet
) -> None:
    ours = hold_keys(store(fleet=fleet, background=False))
    await ours.distrust("k", reason="leaked")
    fleet.error = "cut off"
    with pytest.raises(DistrustNotSharedError):
        await ours.reinstate("k", reason="false alarm")
    assert set(ours.distrusted) == {"k"}


async def test_any_history_of_several_stores_is_what_their_files_hold(
    store: Callable[..., KeyStore], tmp_path: Path
) -> None:
    ours = store(snapshot_path=tmp_path / "keys.json")
    chance = random.Random(7)
    for number in range(120):
        kid = f"k{chance.randrange(4)}"
        match chance.randrange(4):
            case 0:
                ours.distrust_blocking(kid, reason=f"{number}")
            case 1:
                ours.reinstate_blocking(kid, reason=f"{number}")
            case 2:
                heard = stone(chance.randrange(1, 40), f"p{number}", kid=kid, at=float(number))
                ours.decisions.take_over([heard], {})
            case 3:
                ours.decisions.take_over([], {(ISSUER, kid): chance.randrange(1, 40)})
        assert await written(ours) == ours.decisions.known


# --- every store of the process ---


async def test_decision_from_outside_is_saved_and_told_by_every_store_whichever_hears_of_it_first(
    clock: HandClock, tmp_path: Path
) -> None:
    for first in (0, 1):
        events: list[Event] = []
        path = tmp_path / f"snapshot-{first}"
        plain = KeyStore("https://a.test/", clock=clock)
        kept = KeyStore("https://b.test/", clock=clock, snapshot_path=path, on_event=events.append)
        stone = Tombstone("https://b.test/", "leaked", "found", 1.0)
        stores = (plain, kept) if first == 0 else (kept, plain)
        for store in stores:
            store.decisions.take_over([stone], {})
        assert [event.kid for event in events if event.kind == "key_distrusted"] == ["leaked"]
        assert kept.decisions.durable is not None
        await kept.decisions.durable.saved()
        assert b"leaked" in path.with_name(path.name + ".tombstones").read_bytes()
        open_stores.discard(plain)
        open_stores.discard(kept)


def test_decision_of_a_closed_store_stands_above_what_an_open_one_has_lifted(
    clock: HandClock,
) -> None:
    closed, opened = (KeyStore("https://a.test/", clock=clock) for _ in range(2))
    open_stores.discard(closed)
    opened.distrust_blocking("leaked", reason="found", force=True)
    opened.reinstate_blocking("leaked", reason="a mistake")
    closed.distrust_blocking("leaked", reason="found after all", force=True)
    assert "leaked" in opened.distrusted
    open_stores.add(closed)
    assert "leaked" in closed.distrusted


def test_made_up_thumbprint_does_not_keep_a_decision_from_covering_the_key_that_was_seen() -> None:
    stone = Tombstone("https://a.test/", "leaked", "found", 1.0, frozenset({"made-up"}))
    stones = Tombstones().merged([stone])
    seen = {"leaked": frozenset({"real"})}
    (known,) = stones.learned("https://a.test/", seen, {"leaked"})
    assert known.thumbprints == {"made-up", "real"}
    assert stones.learned("https://a.test/", seen) == []
    assert stones.completed([known]).learned("https://a.test/", seen, {"leaked"}) == []


class Deaf:
    """A fleet that hears decisions to distrust, and can't pass on that one is lifted."""

    error = None
    hears = True

    async def join(self, member: FleetMember) -> None:
        self.member = member

    async def leave(self, member: FleetMember) -> None:
        pass

    async def share(self) -> None:
        if self.hears:
            self.member.decisions.shared(self.member.decisions.unshared)

    async def share_lifts(self, lifts: Mapping[Name, int], reason: str) -> None:
        raise DistrustNotSharedError("nobody answers")

    async def observe(self, kid: str, issuer: str) -> Observed:
        return Observed(())


async def test_lift_that_could_not_be_shared_is_not_made_by_the_next_restart_either(
    clock: HandClock, tmp_path: Path
) -> None:
    path = tmp_path / "snapshot"
    store = KeyStore(ISSUER, clock=clock, snapshot_path=path, fleet=Deaf(), background=False)
    await store.distrust("leaked", reason="found", force=True)
    with pytest.raises(DistrustNotSharedError):
        await store.reinstate("leaked", reason="a mistake")
    assert "leaked" in store.distrusted
    await store.aclose()
    restarted = KeyStore(ISSUER, clock=clock, snapshot_path=path, background=False)
    assert "leaked" in restarted.distrusted


# --- decisions that meet ---


async def test_decision_that_is_made_while_the_last_one_is_being_lifted_stands(
    store: Callable[..., KeyStore], tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    ours = hold_keys(store(snapshot_path=path))
    ours.distrust_blocking("k", reason="an old case")
    lifts = ours.decisions.lifts("k", "false alarm")
    await ours.distrust("k", reason="leaked")
    ours.decisions.lifts_stored(lifts, "false alarm")
    ours.decisions.lift(lifts)
    assert set(ours.distrusted) == {"k"}
    forget_everything()
    assert set(store(snapshot_path=path).distrusted) == {"k"}


def test_decision_of_one_store_is_written_down_by_every_store_that_writes(
    store: Callable[..., KeyStore], tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    plain, _kept = store(), store(snapshot_path=path)
    plain.distrust_blocking("k", reason="leaked")
    forget_everything()
    assert set(store(snapshot_path=path).distrusted) == {"k"}


async def test_store_that_is_opened_again_brings_what_it_distrusts(
    store: Callable[..., KeyStore],
) -> None:
    first = store(background=False)
    open_stores.discard(first)
    first.distrust_blocking("k", reason="leaked", force=True)
    second = store(background=False)
    assert not second.distrusted
    open_stores.add(first)
    assert set(second.distrusted) == {"k"}


async def test_decision_of_a_store_that_closes_meanwhile_is_an_error(
    store: Callable[..., KeyStore],
) -> None:
    leaving = Deaf()
    ours = hold_keys(store(fleet=leaving, background=False))
    await ours.adopt()
    leaving.hears = False
    with pytest.raises(DistrustNotSharedError, match="start the verifier, and repeat the call"):
        await ours.distrust("k", reason="leaked")
    assert set(ours.distrusted) == {"k"}
    await ours.aclose()
    with pytest.raises(DistrustNotSharedError, match="closed"):
        await ours.distrust("other", reason="leaked")
