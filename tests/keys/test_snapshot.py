"""The file that carries the last confirmed key set through a restart."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from jwks_guard import ConfigurationError, Event, KeyStore
from jwks_guard.base import files
from jwks_guard.base.clock import Instant
from jwks_guard.jose.jwk import VerificationKey, load_jwk
from jwks_guard.keys.snapshot import Snapshot, SnapshotError
from jwks_guard.keys.view import PublishedSet
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.keys import generate_signing_key
from tests.distrust.support import Instance
from tests.support import JWKS, HandClock

ISSUER = "https://issuer.test/"
URI = "https://issuer.test/jwks"
CONFIRMED = Instant(1_800_000_000.0, 5_000.0)
PATIENCE = 60.0
KEYS: tuple[VerificationKey, ...] = tuple(
    load_jwk(generate_signing_key(alg, now=0, common_name="issuer.test").jwk)
    for alg in ("ES256", "EdDSA", "RS256")
)
PUBLISHED = PublishedSet().succeeded_by(KEYS, (), CONFIRMED)


@pytest.fixture
def failures() -> list[str]:
    return []


@pytest.fixture
def snapshot(tmp_path: Path, failures: list[str]) -> Snapshot:
    return Snapshot(tmp_path / "keys.json", ISSUER, failures.append)


def edit(snapshot: Snapshot, **changes: object) -> None:
    record = json.loads(snapshot.path.read_bytes())
    snapshot.path.write_text(json.dumps(record | changes))


def load(snapshot: Snapshot, after: float = 0.0, uri: str | None = URI) -> PublishedSet | None:
    return snapshot.load(uri, CONFIRMED.shifted(after))


# --- the key set ---


def test_keys_come_back_as_the_same_keys_with_their_date(snapshot: Snapshot) -> None:
    snapshot.save(PUBLISHED, URI)
    restored = load(snapshot, after=100)
    assert restored is not None
    assert restored.same_keys(KEYS)
    assert [key.algorithms for key in restored.keys] == [key.algorithms for key in KEYS]
    assert restored.confirmed == CONFIRMED


def test_date_is_carried_to_the_monotonic_clock_of_the_new_process(snapshot: Snapshot) -> None:
    snapshot.save(PUBLISHED, URI)
    booted = Instant(CONFIRMED.wall + 100, 3.0)
    restored = snapshot.load(URI, booted)
    assert restored is not None
    assert restored.confirmed == Instant(CONFIRMED.wall, -97.0)


def test_file_holds_public_keys_and_nothing_more(snapshot: Snapshot) -> None:
    snapshot.save(PUBLISHED, URI)
    record = json.loads(snapshot.path.read_bytes())
    assert record.keys() == {
        "version",
        "issuer",
        "jwks_uri",
        "confirmed_at",
        "origin",
        "source",
        "listed",
        "keys",
    }
    assert record["confirmed_at"] == CONFIRMED.wall
    assert [key["kid"] for key in record["keys"]] == [key.kid for key in KEYS]
    assert not any({"d", "k", "p"} & key.keys() for key in record["keys"])


def test_no_file_is_no_key_set(snapshot: Snapshot) -> None:
    assert load(snapshot) is None


def test_set_without_keys_is_no_key_set(snapshot: Snapshot) -> None:
    snapshot.save(PublishedSet().succeeded_by((), (), CONFIRMED), URI)
    assert load(snapshot) is None


def test_address_that_is_discovered_later_is_not_compared(snapshot: Snapshot) -> None:
    snapshot.save(PUBLISHED, URI)
    assert load(snapshot, uri=None) is not None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": 1}, "another version's or another issuer's"),
        ({"version": None}, "another version's or another issuer's"),
        ({"issuer": "https://issuer.test"}, "another version's or another issuer's"),
        ({"jwks_uri": "https://old.test/"}, "another jwks_uri"),
        ({"jwks_uri": None}, "another jwks_uri"),
        ({"confirmed_at": None}, "no date"),
        ({"confirmed_at": True}, "no date"),
        ({"confirmed_at": "1800000000"}, "no date"),
        ({"confirmed_at": CONFIRMED.wall + 0.1}, "in the future"),
        ({"confirmed_at": 10**400}, "in the future|not a JSON object"),
        ({"origin": None}, "no date"),
        ({"origin": CONFIRMED.wall + 0.1}, "in the future"),
        ({"listed": None}, "what was listed"),
        ({"listed": [["a"]]}, "what was listed"),
        ({"listed": [["a", 5]]}, "what was listed"),
        ({"keys": None}, "no array `keys`"),
    ],
)
def test_key_set_about_which_anything_is_off_is_not_used(
    snapshot: Snapshot, changes: dict[str, object], why: str
) -> None:
    snapshot.save(PUBLISHED, URI)
    edit(snapshot, **changes)
    with pytest.raises(SnapshotError, match=why):
        load(snapshot)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_damaged_file_is_not_used(snapshot: Snapshot, content: bytes) -> None:
    snapshot.save(PUBLISHED, URI)
    snapshot.path.write_bytes(content)
    with pytest.raises(SnapshotError, match="not a JSON object"):
        load(snapshot)


def test_what_was_listed_last_comes_back_beside_what_is_held(snapshot: Snapshot) -> None:
    """An older answer was taken after trust had ended, less what the newest set had withdrawn."""
    older = CONFIRMED.shifted(-900)
    held = PUBLISHED.succeeded_by(KEYS[:1], (), CONFIRMED.shifted(5), older)
    snapshot.save(held, URI)
    restored = load(snapshot, after=10)
    assert restored is not None
    assert restored.same_keys(KEYS[:1])
    assert restored.listed == {(key.kid, key.thumbprint) for key in KEYS}
    assert (restored.origin, restored.confirmed) == (CONFIRMED, CONFIRMED.shifted(5))
    assert restored.source == older
    assert not restored.is_newest
    assert restored.removed == frozenset()


def test_clock_that_was_set_back_makes_the_file_one_of_the_future(snapshot: Snapshot) -> None:
    snapshot.save(PUBLISHED, URI)
    with pytest.raises(SnapshotError, match="in the future"):
        load(snapshot, after=-1)


def test_file_that_may_not_be_ours_is_not_used(snapshot: Snapshot) -> None:
    snapshot.save(PUBLISHED, URI)
    snapshot.path.chmod(0o644)
    with pytest.raises(SnapshotError, match="mode must be 0600"):
        load(snapshot)


@pytest.mark.parametrize("path", ["", ".", "/", 5, None, b"keys.json"])
def test_path_that_names_no_file_is_refused_by_the_argument(path: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^snapshot_path must be the path of a file\.$"):
        Snapshot(path, ISSUER, print)


# --- saving ---


def published(number: int) -> PublishedSet:
    return PublishedSet().succeeded_by(KEYS[number % 3 :], (), CONFIRMED.shifted(number))


async def test_set_is_written_without_keeping_anybody_waiting(
    snapshot: Snapshot, failures: list[str]
) -> None:
    snapshot.save_soon(PUBLISHED, URI)
    await snapshot.saved()
    restored = load(snapshot)
    assert restored is not None
    assert restored.same_keys(KEYS)
    assert failures == []


async def test_of_two_sets_the_later_one_ends_up_in_the_file(snapshot: Snapshot) -> None:
    for number in range(20):
        snapshot.save_soon(published(number), URI)
    await snapshot.saved()
    restored = load(snapshot, after=19)
    assert restored is not None
    assert restored.confirmed == CONFIRMED.shifted(19)
    assert restored.same_keys(KEYS[1:])


def test_set_that_comes_while_another_one_is_being_written_is_not_lost(
    snapshot: Snapshot,
) -> None:
    for number in range(100):
        snapshot.save_soon(published(number), URI)
        threading.Event().wait(number % 4 / 5000)
    asyncio.run(snapshot.saved())
    restored = load(snapshot, after=99)
    assert restored is not None
    assert restored.confirmed == CONFIRMED.shifted(99)


async def test_slow_disk_holds_up_one_write_and_only_the_latest_set_waits(
    tmp_path: Path, failures: list[str]
) -> None:
    standing, go_on = threading.Event(), threading.Event()
    dates: list[float] = []

    class Slow(Snapshot):
        def save(self, published: PublishedSet, jwks_uri: str) -> None:
            dates.append(published.confirmed.wall - CONFIRMED.wall)
            standing.set()
            assert go_on.wait(PATIENCE)

    snapshot = Slow(tmp_path / "keys.json", ISSUER, failures.append)
    snapshot.save_soon(published(0), URI)
    assert standing.wait(PATIENCE)
    threads = threading.active_count()
    for number in range(1, 50):
        snapshot.save_soon(published(number), URI)
    assert threading.active_count() <= threads
    go_on.set()
    await snapshot.saved()
    assert dates == [0, 49]


async def test_failure_to_save_the_key_set_is_told(snapshot: Snapshot, failures: list[str]) -> None:
    snapshot.path.mkdir()
    snapshot.save_soon(PUBLISHED, URI)
    await snapshot.saved()
    await snapshot.saved()
    (failure,) = failures
    assert failure.startswith("the key set was not saved: ")


async def test_nothing_on_its_way_is_not_waited_for(snapshot: Snapshot) -> None:
    await asyncio.wait_for(snapshot.saved(), PATIENCE)
    assert not snapshot.path.exists()


def test_write_that_a_closed_loop_left_behind_holds_up_nobody(snapshot: Snapshot) -> None:
    async def save(number: int) -> None:
        snapshot.save_soon(published(number), URI)

    for number in range(3):
        asyncio.run(save(number))
    asyncio.run(snapshot.saved())
    restored = load(snapshot, after=2)
    assert restored is not None
    assert restored.confirmed == CONFIRMED.shifted(2)


def test_forked_child_does_not_inherit_a_held_lock(snapshot: Snapshot) -> None:
    with snapshot._worker._lock:  # another thread of the parent held it
        snapshot.after_fork()
        snapshot.save_soon(PUBLISHED, URI)
        asyncio.run(snapshot.saved())
    assert load(snapshot) is not None


# --- through a store ---


def store_of(
    tenant: LocalTenant, clock: HandClock, path: Path, told: list[Event] | None = None
) -> KeyStore:
    return KeyStore(
        tenant.issuer,
        http_client=httpx.AsyncClient(transport=tenant.transport),
        clock=clock,
        snapshot_path=path,
        background=False,
        on_event=None if told is None else told.append,
    )


@pytest.fixture
async def saved(tenant: LocalTenant, clock: HandClock, tmp_path: Path) -> Path:
    """A file of a process that has ended."""
    path = tmp_path / "keys.json"
    async with store_of(tenant, clock, path):
        pass
    return path


def kinds(told: list[Event]) -> list[str]:
    return [event.kind for event in told]


async def test_restart_without_files_knows_nothing(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    told: list[Event] = []
    store = store_of(tenant, clock, tmp_path / "keys.json", told)
    await store.ensure_bound()
    assert store.kids == ()
    assert told == []


async def test_restart_trusts_the_keys_from_their_original_date(
    tenant: LocalTenant, clock: HandClock, saved: Path
) -> None:
    confirmed = clock.time()
    clock.advance(100)
    store = store_of(tenant, clock, saved)
    await store.ensure_bound()
    assert set(store.kids) == {key.kid for key in tenant.signing_keys}
    assert store.health().confirmed_at == confirmed
    assert store.health().trusted_until == confirmed + 3600


async def test_restart_distrusts_what_was_distrusted_and_covers_its_key(
    tenant: LocalTenant, clock: HandClock, saved: Path
) -> None:
    other = Instance(saved.with_name("keys.json.tombstones"), (tenant.issuer,))
    other.distrust(tenant.key().kid, tenant.issuer)
    other.exchange()
    store = store_of(tenant, clock, saved)
    await store.ensure_bound()
    assert store.kids == (tenant.key("next").kid,)
    assert len(store.decisions.distrusted[tenant.key().kid].thumbprints) == 1
    await store.decisions.share()
    other.exchange()
    assert other.flags == store.register.state.flags


async def test_key_set_that_cannot_be_used_is_told_once_and_passed_over(
    tenant: LocalTenant, clock: HandClock, saved: Path
) -> None:
    files.write_atomically(saved, b"{")
    told: list[Event] = []
    store = store_of(tenant, clock, saved, told)
    await asyncio.gather(*(store.refresh() for _ in range(20)))
    assert len(store.kids) == 2
    assert kinds(told).count("snapshot_ignored") == 1


async def test_decisions_are_honoured_although_the_key_set_cannot_be_used(
    tenant: LocalTenant, clock: HandClock, saved: Path
) -> None:
    other = Instance(saved.with_name("keys.json.tombstones"), (tenant.issuer,))
    other.distrust("k1", tenant.issuer)
    other.exchange()
    files.write_atomically(saved, b"{")
    store = store_of(tenant, clock, saved)
    await store.ensure_bound()
    assert store.trust.view.distrusted == {"k1"}


async def test_store_that_is_started_again_reads_what_others_decided_meanwhile(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    store = store_of(tenant, clock, tmp_path / "keys.json")
    other = Instance(tmp_path / "keys.json.tombstones", (tenant.issuer,))
    for number in range(3):
        await store.start()
        assert len(store.trust.view.distrusted) == number
        await store.aclose()
        other.distrust(f"k{number}", tenant.issuer)
        other.exchange()


async def test_file_is_read_once(tenant: LocalTenant, clock: HandClock, saved: Path) -> None:
    content = files.read_private(saved)
    assert content is not None
    files.write_atomically(saved, b"{")
    store = store_of(tenant, clock, saved)
    await store.ensure_bound()
    files.write_atomically(saved, content)
    await store.ensure_bound()
    await store.tick()
    assert tenant.requests.count(JWKS) == 2, "it was fetched"


async def test_keys_that_were_fetched_before_are_not_replaced_by_the_file(
    tenant: LocalTenant, clock: HandClock, saved: Path
) -> None:
    store = store_of(tenant, clock, saved)
    store.trust.publish(KEYS[:1], (), Instant.now(clock))
    await store.ensure_bound()
    assert store.trust.published.same_keys(KEYS[:1])


async def test_all_who_come_at_the_start_wait_for_one_reading_of_the_file(
    tenant: LocalTenant, clock: HandClock, saved: Path
) -> None:
    """While the tenant is down: nobody is refused because somebody else reads the file."""
    tenant.faults.status(503)
    store = store_of(tenant, clock, saved)
    kid = tenant.key().kid
    await asyncio.gather(*(store.resolve(kid) for _ in range(30)))
    assert kid in store.kids


async def test_failure_to_save_is_told_as_an_event_and_the_store_goes_on(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    (tmp_path / "keys.json").mkdir()
    told: list[Event] = []
    async with store_of(tenant, clock, tmp_path / "keys.json", told) as store:
        assert len(store.kids) == 2
    assert "snapshot_failed" in kinds(told)
