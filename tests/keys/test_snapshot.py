"""The two files of a snapshot, and how they carry trust and distrust through a restart."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from jwks_guard import ConfigurationError, DistrustNotSharedError, Event, KeyStore
from jwks_guard.base import files
from jwks_guard.base.clock import Instant
from jwks_guard.base.events import Events
from jwks_guard.jose.jwk import VerificationKey, load_jwk
from jwks_guard.keys.distrust import Tombstone
from jwks_guard.keys.durable import Durable
from jwks_guard.keys.snapshot import Snapshot, SnapshotError, distrust_record, reinstate_record
from jwks_guard.keys.trust import Trust
from jwks_guard.keys.view import PublishedSet
from jwks_guard.testing.keys import generate_signing_key
from tests.support import HandClock

ISSUER = "https://issuer.test/"
URI = "https://issuer.test/jwks"
CONFIRMED = Instant(1_800_000_000.0, 5_000.0)
KEYS: tuple[VerificationKey, ...] = tuple(
    load_jwk(generate_signing_key(alg, now=0, common_name="issuer.test").jwk)
    for alg in ("ES256", "EdDSA", "RS256")
)
PUBLISHED = PublishedSet(KEYS, (), CONFIRMED)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return Snapshot(tmp_path / "keys.json", ISSUER)


def stone(kid: str = "k1", **changes: Any) -> Tombstone:
    return Tombstone(**{"issuer": ISSUER, "kid": kid, "reason": "leaked", "at": 7.5, **changes})


@contextmanager
def one_more_descriptor() -> Iterator[None]:
    """The journal can be opened and written, but not its directory, which is synced after it."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptor + 1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def edit(snapshot: Snapshot, **changes: object) -> None:
    record = json.loads(snapshot.path.read_bytes())
    snapshot.path.write_text(json.dumps(record | changes))


def load(snapshot: Snapshot, after: float = 0.0, uri: str | None = URI) -> PublishedSet | None:
    return snapshot.load_keys(uri, CONFIRMED.shifted(after), max_stale=600.0)


# --- the key set ---


def test_keys_come_back_as_the_same_keys_with_their_date(snapshot: Snapshot) -> None:
    snapshot.save_keys(PUBLISHED, URI)
    restored = load(snapshot, after=100)
    assert restored is not None
    assert restored.same_keys(KEYS)
    assert [key.algorithms for key in restored.keys] == [key.algorithms for key in KEYS]
    assert restored.confirmed == CONFIRMED


def test_date_is_carried_to_the_monotonic_clock_of_the_new_process(snapshot: Snapshot) -> None:
    snapshot.save_keys(PUBLISHED, URI)
    booted = Instant(CONFIRMED.wall + 100, 3.0)
    restored = snapshot.load_keys(URI, booted, 600.0)
    assert restored is not None
    assert restored.confirmed == Instant(CONFIRMED.wall, -97.0)


def test_file_holds_public_keys_and_nothing_more(snapshot: Snapshot) -> None:
    snapshot.save_keys(PUBLISHED, URI)
    record = json.loads(snapshot.path.read_bytes())
    assert record.keys() == {"version", "issuer", "jwks_uri", "confirmed_at", "keys"}
    assert record["confirmed_at"] == CONFIRMED.wall
    assert [key["kid"] for key in record["keys"]] == [key.kid for key in KEYS]
    assert not any({"d", "k", "p"} & key.keys() for key in record["keys"])


def test_no_file_is_no_key_set(snapshot: Snapshot) -> None:
    assert load(snapshot) is None


def test_set_without_keys_is_no_key_set(snapshot: Snapshot) -> None:
    snapshot.save_keys(PublishedSet((), (), CONFIRMED), URI)
    assert load(snapshot) is None


def test_address_that_is_discovered_later_is_not_compared(snapshot: Snapshot) -> None:
    snapshot.save_keys(PUBLISHED, URI)
    assert load(snapshot, uri=None) is not None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": 2}, "another version's or another issuer's"),
        ({"version": None}, "another version's or another issuer's"),
        ({"issuer": "https://issuer.test"}, "another version's or another issuer's"),
        ({"jwks_uri": "https://old.test/"}, "another jwks_uri"),
        ({"jwks_uri": None}, "another jwks_uri"),
        ({"confirmed_at": None}, "no date"),
        ({"confirmed_at": True}, "no date"),
        ({"confirmed_at": "1800000000"}, "no date"),
        ({"confirmed_at": CONFIRMED.wall + 0.1}, "in the future"),
        ({"confirmed_at": 10**400}, "in the future|not a JSON object"),
        ({"confirmed_at": CONFIRMED.wall - 600}, "older than max_stale"),
        ({"confirmed_at": 0}, "older than max_stale"),
        ({"confirmed_at": -(10**400)}, "older than max_stale|not a JSON object"),
        ({"keys": None}, "no array `keys`"),
    ],
)
def test_key_set_about_which_anything_is_off_is_not_used(
    snapshot: Snapshot, changes: dict[str, object], why: str
) -> None:
    snapshot.save_keys(PUBLISHED, URI)
    edit(snapshot, **changes)
    with pytest.raises(SnapshotError, match=why):
        load(snapshot)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_damaged_file_is_not_used(snapshot: Snapshot, content: bytes) -> None:
    snapshot.save_keys(PUBLISHED, URI)
    snapshot.path.write_bytes(content)
    with pytest.raises(SnapshotError, match="not a JSON object"):
        load(snapshot)


def test_key_set_is_used_up_to_max_stale_and_no_longer(snapshot: Snapshot) -> None:
    snapshot.save_keys(PUBLISHED, URI)
    assert load(snapshot, after=599.9) is not None
    with pytest.raises(SnapshotError, match="older than max_stale"):
        load(snapshot, after=600)


def test_clock_that_was_set_back_makes_the_file_one_of_the_future(snapshot: Snapshot) -> None:
    snapshot.save_keys(PUBLISHED, URI)
    with pytest.raises(SnapshotError, match="in the future"):
        load(snapshot, after=-1)


def test_file_that_may_not_be_ours_is_not_used(snapshot: Snapshot) -> None:
    snapshot.save_keys(PUBLISHED, URI)
    snapshot.path.chmod(0o644)
    with pytest.raises(SnapshotError, match="mode must be 0600"):
        load(snapshot)


@pytest.mark.parametrize("path", ["", ".", "/", 5, None, b"keys.json"])
def test_path_that_names_no_file_is_refused_by_the_argument(path: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^snapshot_path must be the path of a file\.$"):
        Snapshot(path, ISSUER)


# --- the tombstones ---


def test_no_journal_holds_no_tombstone(snapshot: Snapshot) -> None:
    assert snapshot.load_tombstones().entries == {}


def test_decisions_come_back_as_they_were_made(snapshot: Snapshot) -> None:
    leaked = stone("k1", thumbprints=frozenset({"p1", "p2"}))
    foreign = stone("k1", issuer="https://other.test/", reason='größer "als"\n\u2028')
    snapshot.append([distrust_record(leaked)])
    snapshot.append([distrust_record(foreign), distrust_record(stone("k3"))])
    restored = snapshot.load_tombstones()
    assert set(restored.entries.values()) == {leaked, foreign, stone("k3")}
    assert snapshot.journal.stat().st_mode & 0o777 == 0o600


def test_journal_is_replayed_in_its_order(snapshot: Snapshot) -> None:
    first, again = stone("k1", at=1.0), stone("k1", at=9.0, thumbprints=frozenset({"p"}))
    lift = reinstate_record((ISSUER, "k1"), 2, "false alarm", 5.0)
    snapshot.append([distrust_record(first), lift])
    assert snapshot.load_tombstones().entries == {}
    snapshot.append([distrust_record(again)])
    assert list(snapshot.load_tombstones().entries.values()) == [replace(again, version=3)]
    snapshot.append([reinstate_record(("https://other.test/", "k1"), 9, "not ours", 9.0)])
    assert list(snapshot.load_tombstones().entries.values()) == [replace(again, version=3)]


def test_later_line_adds_what_was_learned_and_keeps_the_first_reason(snapshot: Snapshot) -> None:
    learned = stone("k1", reason="later", at=9.0, thumbprints=frozenset({"p"}))
    snapshot.append([distrust_record(stone("k1")), distrust_record(learned)])
    (restored,) = snapshot.load_tombstones().entries.values()
    assert restored == stone("k1", thumbprints=frozenset({"p"}))


GOOD = json.dumps(distrust_record(stone())).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (GOOD[:-1], "its last line is unfinished"),
        (GOOD + GOOD[:40], "its last line is unfinished"),
        (b"garbage", "its last line is unfinished"),
        (b"\n", "line 1 is damaged"),
        (GOOD + b"\n", "line 2 is damaged"),
        (GOOD + b"\xff\n" + GOOD, "line 2 is damaged"),
        (b"{}\n", "line 1 is damaged"),
        (b"[" * 100_000 + b"\n", "line 1 is damaged"),
        (GOOD.replace(b"distrust", b"forget"), "line 1 is damaged"),
        (GOOD.replace(b'"leaked"', b"null"), "line 1 is damaged"),
        (GOOD.replace(b"7.5", b'"7.5"'), "line 1 is damaged"),
        (GOOD.replace(b"{", b'{"unless": "tuesday", ', 1), "line 1 is damaged"),
    ],
)
def test_journal_that_cannot_be_read_stops_the_start_and_says_what_to_do(
    snapshot: Snapshot, content: bytes, why: str
) -> None:
    snapshot.journal.write_bytes(content)
    snapshot.journal.chmod(0o600)
    with pytest.raises(ConfigurationError) as error:
        snapshot.load_tombstones()
    assert f"({why})" in str(error.value)
    assert "mend its owner, mode or last line" in str(error.value)
    assert str(snapshot.journal) in str(error.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.touch(0o644),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/dev/null"),
        os.mkfifo,
    ],
)
def test_journal_that_may_not_be_ours_stops_the_start_and_takes_no_decision(
    snapshot: Snapshot, spoil: Callable[[Path], None]
) -> None:
    spoil(snapshot.journal)
    with pytest.raises(ConfigurationError, match="nothing starts without it"):
        snapshot.load_tombstones()
    with pytest.raises(OSError, match=r"."):
        snapshot.append([distrust_record(stone())])


def test_nothing_is_written_behind_an_unfinished_line(snapshot: Snapshot) -> None:
    snapshot.journal.write_bytes(GOOD[:-1])
    snapshot.journal.chmod(0o600)
    with pytest.raises(ValueError, match="its last line is unfinished"):
        snapshot.append([distrust_record(stone("k2"))])
    assert snapshot.journal.read_bytes() == GOOD[:-1]


def test_full_disk_leaves_the_journal_as_it_was(snapshot: Snapshot) -> None:
    snapshot.append([distrust_record(stone("k1"))])
    before = snapshot.journal.read_bytes()
    script = (
        "import resource, sys; from jwks_guard.keys.snapshot import Snapshot\n"
        "snapshot = Snapshot(sys.argv[1], 'https://issuer.test/')\n"
        "limits = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]) + 30, limits[1]))\n"
        "try: snapshot.append([{'op': 'distrust', 'reason': 'x' * 100}])\n"
        "except OSError as error: print(error)\n"
        "finally: resource.setrlimit(resource.RLIMIT_FSIZE, limits)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(snapshot.path), str(len(before))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "the disk is full\n"
    assert snapshot.journal.read_bytes() == before
    assert len(snapshot.load_tombstones().entries) == 1


def test_reinstatement_that_failed_does_not_turn_up_after_the_restart(snapshot: Snapshot) -> None:
    snapshot.append([distrust_record(stone())])
    with one_more_descriptor(), pytest.raises(OSError, match="Too many open files"):
        snapshot.append([reinstate_record((ISSUER, "k1"), 2, "false alarm", 9.0)])
    assert list(snapshot.load_tombstones().entries.values()) == [stone()]


def test_several_processes_append_without_losing_or_tearing_a_line(snapshot: Snapshot) -> None:
    script = (
        "import sys; from jwks_guard.keys.snapshot import Snapshot, distrust_record\n"
        "from jwks_guard.keys.distrust import Tombstone\n"
        "snapshot, name = Snapshot(sys.argv[1], 'i'), sys.argv[2]\n"
        "for n in range(40):\n"
        "    stone = Tombstone('i', f'{name}-{n}', 'x' * 5000, 0.0)\n"
        "    snapshot.append([distrust_record(stone)])\n"
        "    snapshot.load_tombstones()\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(snapshot.path), name])
        for name in ("a", "b", "c")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    kids = {kid for _, kid in snapshot.load_tombstones().entries}
    assert kids == {f"{name}-{n}" for name in "abc" for n in range(40)}


# --- restoring and writing down ---


@dataclass
class Restart:
    """What a process has after it came up with the files of an earlier one."""

    snapshot: Snapshot
    clock: HandClock = field(default_factory=HandClock)
    told: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        events = Events(ISSUER, self.clock, self.told.append)
        self.trust = Trust(ISSUER, 600.0, self.clock, events)
        self.durable = Durable(self.snapshot, self.trust, self.clock, events)

    def load(self) -> None:
        self.durable.load(URI, 600.0)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.told]


@pytest.fixture
def restart(snapshot: Snapshot) -> Restart:
    return Restart(snapshot)


def test_restart_without_files_knows_nothing(restart: Restart) -> None:
    restart.load()
    assert not restart.trust.view.live
    assert restart.trust.tombstones.entries == {}
    assert restart.told == []


def test_restart_trusts_the_keys_from_their_original_date(restart: Restart) -> None:
    restart.snapshot.save_keys(PUBLISHED, URI)
    restart.clock.advance(100)
    restart.load()
    assert restart.trust.published.same_keys(KEYS)
    assert restart.trust.view.trusted_until == CONFIRMED.shifted(600)


def test_restart_distrusts_what_was_distrusted_and_learns_its_key(restart: Restart) -> None:
    restart.snapshot.save_keys(PUBLISHED, URI)
    restart.snapshot.append([distrust_record(stone(KEYS[0].kid))])
    restart.load()
    assert restart.trust.view.live.isdisjoint({KEYS[0]})
    assert set(restart.trust.view.by_kid) == {key.kid for key in KEYS[1:]}
    (learned,) = restart.snapshot.load_tombstones().entries.values()
    assert learned.thumbprints == {KEYS[0].thumbprint}


def test_key_set_that_cannot_be_used_is_told_and_passed_over(restart: Restart) -> None:
    restart.snapshot.path.mkdir()
    restart.load()
    assert [(event.kind, event.detail) for event in restart.told] == [
        ("snapshot_ignored", "it is not a regular file")
    ]


def test_tombstones_are_honoured_although_the_key_set_cannot_be_used(restart: Restart) -> None:
    restart.snapshot.path.mkdir()
    restart.snapshot.append([distrust_record(stone())])
    restart.load()
    assert restart.trust.view.distrusted == {"k1"}


def test_journal_is_read_again_until_it_can_be(restart: Restart) -> None:
    restart.snapshot.journal.mkdir()
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            restart.load()
    restart.snapshot.journal.rmdir()
    restart.snapshot.append([distrust_record(stone())])
    restart.load()
    assert restart.trust.view.distrusted == {"k1"}


def test_files_are_read_once(restart: Restart) -> None:
    restart.load()
    restart.snapshot.append([distrust_record(stone())])
    restart.snapshot.save_keys(PUBLISHED, URI)
    restart.load()
    assert not restart.trust.view.live
    assert not restart.trust.view.distrusted


def test_keys_that_were_fetched_before_are_not_replaced_by_the_file(restart: Restart) -> None:
    restart.snapshot.save_keys(PUBLISHED, URI)
    restart.trust.publish(KEYS[:1], (), CONFIRMED)
    restart.load()
    assert restart.trust.published.same_keys(KEYS[:1])


def test_decisions_are_in_the_journal_when_the_call_returns(restart: Restart) -> None:
    restart.durable.distrust(stone("k1"))
    restart.durable.distrust(stone("k2"))
    restart.durable.reinstate((ISSUER, "k1"), 2, "false alarm")
    assert list(restart.snapshot.load_tombstones().entries.values()) == [stone("k2")]
    assert restart.durable.error is None


def test_decision_that_could_not_be_stored_goes_out_with_the_next_one(restart: Restart) -> None:
    restart.snapshot.journal.mkdir()
    with pytest.raises(DistrustNotSharedError, match="repeat the call"):
        restart.durable.distrust(stone("k1"))
    error = restart.durable.error
    restart.snapshot.journal.rmdir()
    restart.durable.save_tombstones([])
    assert error is not None
    assert restart.durable.error is None
    assert {kid for _, kid in restart.snapshot.load_tombstones().entries} == {"k1"}


def test_reinstatement_that_could_not_be_stored_does_not_go_out_later(restart: Restart) -> None:
    restart.durable.distrust(stone("k1"))
    restart.snapshot.journal.chmod(0o644)
    with pytest.raises(DistrustNotSharedError):
        restart.durable.reinstate((ISSUER, "k1"), 2, "false alarm")
    restart.snapshot.journal.chmod(0o600)
    restart.durable.distrust(stone("k2"))
    assert {kid for _, kid in restart.snapshot.load_tombstones().entries} == {"k1", "k2"}


def test_failure_to_store_what_was_learned_is_told(restart: Restart) -> None:
    restart.snapshot.journal.mkdir()
    restart.durable.save_tombstones([stone("k1")])
    assert restart.kinds == ["snapshot_failed"]


def test_whoever_hears_of_a_failed_write_may_decide_at_once(snapshot: Snapshot) -> None:
    """Events are told outside the lock: a callback that distrusts does not deadlock."""
    clock, failures = HandClock(), list[str]()

    def on_event(event: Event) -> None:
        with pytest.raises(DistrustNotSharedError):
            durable.distrust(stone("k2"))
        failures.append(event.kind)

    events = Events(ISSUER, clock, on_event)
    durable = Durable(snapshot, Trust(ISSUER, 600.0, clock, events), clock, events)
    snapshot.journal.mkdir()
    thread = threading.Thread(target=durable.save_tombstones, args=([stone("k1")],), daemon=True)
    thread.start()
    thread.join(5)
    assert failures == ["snapshot_failed"]


def test_threads_that_decide_at_once_lose_no_line(restart: Restart) -> None:
    barrier = threading.Barrier(8)

    def decide(name: int) -> None:
        barrier.wait()
        for number in range(10):
            restart.durable.distrust(stone(f"{name}-{number}"))

    threads = [threading.Thread(target=decide, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(restart.snapshot.load_tombstones().entries) == 80


async def test_confirmed_set_is_written_without_keeping_anybody_waiting(restart: Restart) -> None:
    restart.trust.publish(KEYS, (), CONFIRMED)
    restart.durable.distrust(stone())
    restart.durable.save_later([stone(thumbprints=frozenset({"p"}))], URI)
    await restart.durable.saved()
    restored = load(restart.snapshot)
    assert restored is not None
    assert restored.same_keys(KEYS)
    (learned,) = restart.snapshot.load_tombstones().entries.values()
    assert learned == stone(thumbprints=frozenset({"p"}))


def test_what_was_learned_of_a_lifted_decision_does_not_bring_it_back(restart: Restart) -> None:
    restart.durable.distrust(stone())
    restart.durable.reinstate((ISSUER, "k1"), 2, "false alarm")
    restart.durable.save_tombstones([stone(thumbprints=frozenset({"p"}))])
    assert not restart.snapshot.load_tombstones().entries


async def test_of_two_sets_the_later_one_ends_up_in_the_file(restart: Restart) -> None:
    for number in range(20):
        restart.trust.publish(KEYS[number % 3 :], (), CONFIRMED.shifted(number))
        restart.durable.save_later([], URI)
    await restart.durable.saved()
    restored = load(restart.snapshot, after=19)
    assert restored is not None
    assert restored.confirmed == CONFIRMED.shifted(19)
    assert restored.same_keys(KEYS[1:])


async def test_failure_to_save_the_key_set_is_told(restart: Restart) -> None:
    restart.snapshot.path.mkdir()
    restart.trust.publish(KEYS, (), CONFIRMED)
    restart.durable.save_later([], URI)
    await restart.durable.saved()
    assert restart.kinds[-1] == "snapshot_failed"
    assert restart.told[-1].detail.startswith("the key set was not saved: ")


async def test_nothing_on_its_way_is_not_waited_for(restart: Restart) -> None:
    await asyncio.wait_for(restart.durable.saved(), 1)


def test_write_that_a_closed_loop_left_behind_holds_up_nobody(restart: Restart) -> None:
    restart.trust.publish(KEYS, (), CONFIRMED)

    async def leave_behind() -> None:
        restart.durable.save_later([], URI)

    async def save_again() -> None:
        await asyncio.wait_for(restart.durable.saved(), 1)
        restart.durable.save_later([], URI)
        await asyncio.wait_for(restart.durable.saved(), 5)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_behind())
    left = asyncio.all_tasks(loop)
    asyncio.run(save_again())
    assert load(restart.snapshot) is not None
    loop.run_until_complete(asyncio.wait(left))
    loop.close()


def test_forked_child_does_not_inherit_a_held_lock(restart: Restart) -> None:
    with restart.durable._lock:
        restart.durable.after_fork()
        restart.durable.distrust(stone())
    assert len(restart.snapshot.load_tombstones().entries) == 1


# --- through the store ---


@pytest.mark.parametrize(
    "decide",
    [
        lambda store: store.distrust_blocking("k1", reason=None),
        lambda store: store.distrust_blocking("k1", reason="half a pair \ud800"),
        lambda store: store.distrust_blocking("\ud800", reason="leaked"),
        lambda store: store.reinstate_blocking("k1", reason=None),
        lambda store: store.reinstate_blocking("\ud800", reason="false alarm"),
    ],
)
def test_decision_that_could_not_be_read_back_is_refused_before_it_is_made(
    tmp_path: Path, decide: Callable[[KeyStore], None]
) -> None:
    store = KeyStore(ISSUER, snapshot_path=tmp_path / "keys.json")
    with pytest.raises(ConfigurationError, match="must be a non-empty string"):
        decide(store)
    store.distrust_blocking("k2", reason="leaked")
    assert set(store.distrusted) == {"k2"}
    assert set(Snapshot(tmp_path / "keys.json", ISSUER).load_tombstones().of(ISSUER)) == {"k2"}


async def test_store_that_cannot_read_its_journal_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "keys.json.tombstones").write_bytes(b"torn")
    (tmp_path / "keys.json.tombstones").chmod(0o600)
    store = KeyStore(ISSUER, snapshot_path=tmp_path / "keys.json")
    with pytest.raises(ConfigurationError, match="last line is unfinished"):
        await store.start()
    with pytest.raises(ConfigurationError, match="last line is unfinished"):
        await store.learn("k1")
    assert store.loop is None


async def test_health_is_degraded_while_a_decision_is_not_stored(tmp_path: Path) -> None:
    store = KeyStore(ISSUER, snapshot_path=tmp_path / "keys.json")
    store.trust.publish(KEYS, (), Instant.now(store.clock))
    (tmp_path / "keys.json.tombstones").mkdir()
    with pytest.raises(DistrustNotSharedError):
        await store.distrust(KEYS[0].kid, reason="leaked")
    health = store.health()
    assert health.status == "degraded"
    assert set(health.kids) == {key.kid for key in KEYS[1:]}


async def test_slow_disk_holds_up_one_write_and_only_the_latest_set_waits(
    restart: Restart,
) -> None:
    with files.locked_for_append(restart.snapshot.journal):  # the disk, for as long as it is held
        for _ in range(5):
            restart.trust.publish(KEYS, (), CONFIRMED)
            restart.durable.save_later([stone()], URI)
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 2
    await restart.durable.saved()
    assert load(restart.snapshot) is not None
