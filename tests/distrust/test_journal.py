"""The file that carries decisions through a restart, and between the processes that share it."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jwks_guard import (
    ConfigurationError,
    DistrustNotSharedError,
    Event,
    KeyStore,
    Register,
    SyncTokenVerifier,
)
from jwks_guard.base import files
from jwks_guard.base.clock import Instant
from jwks_guard.distrust.copy import CopyError
from jwks_guard.distrust.journal import Journal
from jwks_guard.distrust.parts import decoded_part, encoded_part
from jwks_guard.distrust.state import Decision, Distrust, Flags, Name
from jwks_guard.testing import LocalTenant
from tests.distrust.support import ISSUER, OTHER, PATIENCE, Instance, K, kids, read
from tests.process.programs import program
from tests.support import HandClock, repeats, tenant_of

OTHER_USER = 65_534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json.tombstones"


@pytest.fixture
def instance(path: Path) -> Instance:
    return Instance(path)


def line(name: Name = K, number: int = 1, replica: str = "r") -> bytes:
    made = {replica: Decision(number, "leaked", 1.0, "me")}
    return encoded_part(name, Distrust(made, {}, frozenset({"p"}))) + b"\n"


def lift_line(name: Name = K, number: int = 1, replica: str = "r") -> bytes:
    return encoded_part(name, Distrust({}, {replica: Decision(number)})) + b"\n"


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def store_of(path: Path, issuer: str = ISSUER, **options: Any) -> KeyStore:
    """A store whose journal is at `path`."""
    snapshot = path.with_name(path.name.removesuffix(".tombstones"))
    return KeyStore(issuer, snapshot_path=snapshot, background=False, **options)


# --- what is written comes back ---


def test_no_file_is_nothing_and_none_is_made_for_nothing(instance: Instance) -> None:
    instance.exchange()
    assert instance.journal.was_read
    assert instance.journal.error is None
    assert not instance.path.exists()
    assert instance.flags == {}


def test_decisions_come_back_as_they_were_made(instance: Instance) -> None:
    instance.followers[0].seen = {"k": frozenset({"p1", "p2"})}
    instance.distrust()
    instance.register.distrust(ISSUER, "other", reason='größer "als"\n\u2028', at=7.5)
    instance.exchange()
    instance.register.merge(instance.lift("other"))
    instance.exchange()
    assert read(instance.path).flags == instance.flags
    assert read(instance.path).refused == {"k"}
    assert instance.path.stat().st_mode & 0o777 == 0o600


lines_of_a_history = [
    line(number=1),
    lift_line(number=1),
    line(number=2),
    line(replica="s"),
    line((ISSUER, "other")),
    lift_line((ISSUER, "other"), number=1),
    lift_line((ISSUER, "early"), number=4),
]


@given(st.permutations(lines_of_a_history), st.lists(st.sampled_from(lines_of_a_history)))
@settings(max_examples=40)
def test_lines_in_any_order_and_repeated_come_to_the_same(
    lines: list[bytes], repeated: list[bytes]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        write(path, b"".join([*lines, *repeated]))
        instance = read(path)
        assert instance.refused == {"k"}
        assert {replica: d.number for replica, d in instance.flags[K].made.items()} == {
            "r": 2,
            "s": 1,
        }
        assert instance.flags[K].lifted["r"].number == 1
        once = instance.flags
        write(path, b"".join(lines))
        instance.exchange()
        assert instance.flags == once == read(path).flags


def test_file_that_is_read_again_is_merged_again_and_tells_nothing(instance: Instance) -> None:
    write(instance.path, line())
    for _ in range(3):
        instance.exchange()
    assert [refused for refused, _ in instance.followers[0].changes] == [frozenset({"k"})]


def test_what_was_decided_before_the_start_is_no_news_and_what_others_add_later_is(
    instance: Instance,
) -> None:
    write(instance.path, line())
    instance.exchange()
    other = read(instance.path)
    other.distrust("later")
    other.exchange()
    instance.exchange()
    assert instance.followers[0].changes == [
        (frozenset({"k"}), False),
        (frozenset({"k", "later"}), True),
    ]


def test_nobody_finds_it_read_before_what_it_holds_is_in_effect(path: Path) -> None:
    write(path, line())
    read_then: list[bool] = []
    journal = Journal(
        path, lambda _: {}, lambda _flags, _at_start: read_then.append(journal.was_read)
    )
    journal.begin_exchange().result(PATIENCE)
    assert read_then == [False]
    assert journal.was_read


def test_state_that_cannot_be_merged_is_not_counted_as_read(path: Path) -> None:
    write(path, line())
    merged: list[Flags] = []

    def broken_once(flags: Flags, _at_start: bool) -> None:
        merged.append(flags)
        if len(merged) == 1:
            raise TypeError("a defect of the caller's clock")

    journal = Journal(path, lambda _: {}, broken_once)
    with pytest.raises(TypeError):
        journal.begin_exchange().result(PATIENCE)
    assert not journal.was_read
    assert "a defect of the caller's clock" in (journal.error or "")
    journal.begin_exchange().result(PATIENCE)
    assert kids(merged[0]) == kids(merged[1]) == {"k"}


def test_forked_child_reads_what_the_parent_had_read_and_not_yet_merged(path: Path) -> None:
    write(path, line())
    merged: list[Flags] = []

    def fork(flags: Flags, _at_start: bool) -> None:
        merged.append(flags)
        if len(merged) == 1:
            journal.after_fork()

    journal = Journal(path, lambda _: {}, fork)
    journal.begin_exchange().result(PATIENCE)
    journal.begin_exchange().result(PATIENCE)
    assert kids(merged[1]) == {"k"}


def test_ten_thousand_lines_are_read_in_well_under_a_second_of_work(instance: Instance) -> None:
    lines = [line((ISSUER, f"k{n % 5000}"), n // 5000 + 1) for n in range(8000)]
    write(instance.path, b"".join(lines + [lift_line((ISSUER, f"k{n}"), 2) for n in range(2000)]))
    began = time.process_time()
    instance.exchange()
    assert time.process_time() - began < 1.6
    assert len(instance.refused) == 3000


def test_each_way_to_write_a_path_is_one_journal(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    register = Register()
    journal = register.journal(tmp_path / "real" / "journal")
    assert register.journal(tmp_path / "link" / "journal") is journal
    assert register.journal(tmp_path / "real" / ".." / "real" / "journal") is journal
    assert register.journals == [journal]
    assert register.journal(tmp_path / "real" / "another") is not journal


# --- damage ---


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (line()[:-1], "its last line is unfinished"),
        (line() + line()[:40], "its last line is unfinished"),
        (b"garbage", "its last line is unfinished"),
        (b"\n", "line 1 is damaged"),
        (line() + b"\n", "line 2 is damaged"),
        (line() + b"\xff\n" + line(), "line 2 is damaged"),
        (b"{}\n", "line 1 is damaged"),
        (b"[" * 100_000 + b"\n", "line 1 is damaged"),
        (line().replace(b'"leaked"', b"null"), "line 1 is damaged"),
        (line().replace(b'"number":1', b'"number":0'), "line 1 is damaged"),
        (line().replace(b"{", b'{"unless":"tuesday",', 1), "line 1 is damaged"),
        (
            line()
            + b'{"op":"distrust","issuer":"i","kid":"k","reason":"x","at":7.5,"version":1}\n',
            "line 2 is damaged",
        ),
    ],
)
def test_journal_that_cannot_be_read_stops_the_start_and_says_what_to_do(
    path: Path, content: bytes, why: str
) -> None:
    write(path, content)
    instance = Instance(path)
    instance.distrust("new")
    with pytest.raises(ValueError, match=why):
        instance.exchange()
    assert not instance.journal.was_read
    assert instance.refused == {"new"}, "nothing is taken from it"
    assert path.read_bytes() == content, "and nothing is written into it"
    with pytest.raises(ConfigurationError) as error:
        asyncio.run(store_of(path).start())
    assert why in str(error.value)
    assert "mend its directory, owner, mode or the line" in str(error.value)
    assert str(path) in str(error.value)


def give_away(path: Path) -> None:
    write(path, line())
    if os.geteuid() != 0:
        pytest.skip("only root gives a file away")
    os.chown(path, OTHER_USER, -1)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.touch(0o644), "mode must be 0600"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: path.symlink_to("/dev/null"), "symbolic links"),
        (os.mkfifo, "not a regular file"),
        (give_away, "belongs to another user"),
    ],
)
async def test_journal_that_may_not_be_ours_stops_the_start_and_takes_no_decision(
    path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    spoil(path)
    store = store_of(path)
    with pytest.raises(ConfigurationError, match="this verifier does not start without it"):
        await store.start()
    with pytest.raises(DistrustNotSharedError, match=why):
        await store.decisions.distrust("k", reason="leaked")
    assert store.trust.view.distrusted == {"k"}


def test_journal_is_read_again_until_it_can_be_and_then_takes_what_it_missed(
    instance: Instance,
) -> None:
    write(instance.path, line() + line()[:-1])
    instance.distrust("new")
    for _ in range(2):
        with pytest.raises(ValueError, match="unfinished"):
            instance.exchange()
        assert "unfinished" in (instance.journal.error or "")
    write(instance.path, line())
    instance.exchange()
    assert instance.journal.error is None
    assert instance.refused == {"k", "new"}
    assert kids(read(instance.path).flags) == {"k", "new"}


def test_file_that_somebody_edited_is_read_as_a_whole(instance: Instance) -> None:
    """In place: neither its inode nor its length need tell."""
    write(instance.path, line((ISSUER, "a")) + line((ISSUER, "b")))
    instance.exchange()
    write(instance.path, line((ISSUER, "c")) + line((ISSUER, "b")))
    instance.exchange()
    assert instance.refused == {"a", "b", "c"}
    assert kids(read(instance.path).flags) == {"a", "b", "c"}


def test_file_that_others_rewrote_twice_is_read_as_a_whole(instance: Instance) -> None:
    """The second file may have the number of the first one's inode again."""
    instance.distrust("mine")
    instance.exchange()
    for number in range(30):
        other = read(instance.path)
        for _ in range(6):
            other.distrust(f"k{number}")
            other.exchange()
        if number % 2:
            instance.exchange()
            assert instance.flags == other.flags


def test_file_that_was_removed_comes_back_whole(path: Path) -> None:
    """With decisions about issuers that nobody here verifies, which other processes keep there."""
    write(path, line((OTHER, "foreign")))
    instance = read(path)
    instance.distrust()
    instance.exchange()
    for _ in range(2):
        before = instance.flags
        path.unlink()
        instance.exchange()
        assert read(path).flags == before
        instance.distrust("one more")


def test_file_that_was_removed_before_anything_was_decided_here_comes_back_too(path: Path) -> None:
    write(path, line((OTHER, "foreign")))
    instance = read(path)
    path.unlink()
    instance.exchange()
    assert kids(read(path).flags) == {"foreign"}


def test_older_copy_of_the_file_takes_nothing_back(instance: Instance) -> None:
    instance.distrust("first")
    instance.exchange()
    older = instance.path.read_bytes()
    instance.distrust("second")
    instance.exchange()
    write(instance.path, older)
    instance.exchange()
    assert instance.refused == {"first", "second"} == read(instance.path).refused


def test_nothing_is_written_behind_an_unfinished_line(instance: Instance) -> None:
    instance.distrust()
    instance.exchange()
    torn = instance.path.read_bytes() + line()[:-1]
    write(instance.path, torn)
    instance.distrust("new")
    with pytest.raises(ValueError, match="its last line is unfinished"):
        instance.exchange()
    assert instance.path.read_bytes() == torn


# --- disks that fail ---


def test_full_disk_leaves_the_journal_as_it_was_and_the_decision_goes_out_later(
    instance: Instance,
) -> None:
    instance.distrust()
    instance.exchange()
    before = instance.path.read_bytes()
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from tests.distrust.support import read\n"
        "instance = read(Path(sys.argv[1]))\n"
        "limits = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]) + 30, limits[1]))\n"
        "instance.distrust('new')\n"
        "try: instance.exchange()\n"
        "except OSError as error: print(error, '/', instance.journal.error)\n"
        "print(len(Path(sys.argv[1]).read_bytes()), sorted(instance.refused))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, limits)\n"
        "instance.exchange()\n"
        "print(instance.journal.error)\n"
    )
    with program("-c", script, str(instance.path), str(len(before))) as process:
        printed, _ = process.communicate(timeout=PATIENCE)
    full = f"the disk is full / the journal {instance.path} can't be used: the disk is full"
    assert printed.splitlines() == [full, f"{len(before)} ['k', 'new']", "None"]
    assert read(instance.path).refused == {"k", "new"}


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


def test_decision_that_could_not_be_stored_goes_out_with_the_next_exchange(
    instance: Instance,
) -> None:
    instance.exchange()
    instance.distrust()
    instance.path.mkdir()
    with pytest.raises(IsADirectoryError):
        instance.exchange()
    error = instance.journal.error
    instance.path.rmdir()
    instance.exchange()
    assert error is not None
    assert instance.journal.error is None
    assert read(instance.path).refused == {"k"}


async def test_lift_that_could_not_be_stored_goes_out_with_no_later_exchange(
    instance: Instance,
) -> None:
    instance.distrust()
    instance.exchange()
    instance.path.chmod(0o644)
    with pytest.raises(CopyError, match=r"the journal .* can't be used \(.*mode must be 0600\)"):
        await instance.journal.exchange(instance.lift())
    instance.path.chmod(0o600)
    with one_more_descriptor(), pytest.raises(CopyError, match="Too many open files"):
        await instance.journal.exchange(instance.lift())
    instance.distrust("new")
    instance.exchange()
    assert read(instance.path).refused == instance.refused == {"k", "new"}


async def test_lift_that_the_file_holds_counts_here_although_its_maker_has_gone(
    instance: Instance,
) -> None:
    """Others who share the file have read it by then."""
    instance.distrust()
    instance.exchange()
    with files.locked_for_append(instance.path):  # a disk that is slow
        lifting = asyncio.create_task(instance.journal.exchange(instance.lift()))
        await asyncio.sleep(0)
        lifting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lifting
    instance.exchange()
    assert instance.refused == read(instance.path).refused == frozenset()


async def test_lifts_that_are_offered_at_once_are_all_taken(instance: Instance) -> None:
    names = [f"k{number}" for number in range(20)]
    for name in names:
        instance.distrust(name)
    instance.exchange()
    await asyncio.gather(*(instance.journal.exchange(instance.lift(name)) for name in names))
    assert read(instance.path).refused == frozenset()


def test_threads_that_decide_at_once_lose_no_decision(instance: Instance) -> None:
    barrier = threading.Barrier(8)

    def decide(name: int) -> None:
        barrier.wait(PATIENCE)
        for number in range(10):
            instance.distrust(f"{name}-{number}")
            instance.exchange()
            assert f'"{name}-{number}"'.encode() in instance.path.read_bytes()

    threads = [threading.Thread(target=decide, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(instance.path).refused) == 80


# --- several processes ---


def test_four_processes_that_append_and_rewrite_at_the_same_time_lose_nothing(path: Path) -> None:
    count, names = 30, "abcd"
    writers = [
        subprocess.Popen([sys.executable, "-m", "tests.distrust.writing", str(path), n, str(count)])
        for n in names
    ]
    reader = Instance(path)
    while any(writer.poll() is None for writer in writers):
        reader.exchange()
        assert reader.refused <= kids(read(path).flags)
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    reader.exchange()
    wanted = {f"{name}-{number}" for name in names for number in range(count)} | {"shared"}
    assert reader.refused == read(path).refused == wanted
    shared = reader.flags[ISSUER, "shared"]
    assert [decision.number for decision in shared.made.values()] == [count] * len(names)


def test_decisions_that_are_repeated_do_not_grow_the_file(instance: Instance) -> None:
    instance.distrust("another")
    largest = 0
    count = repeats(1000)
    for number in range(count):
        instance.distrust()
        instance.exchange()
        if number % 7 == 0:
            largest = max(largest, instance.path.stat().st_size)
    assert largest < 6 * len(line())
    restarted = read(instance.path)
    assert restarted.flags == instance.flags
    assert [each.number for each in restarted.flags[K].made.values()] == [count]


def test_two_instances_that_repeat_themselves_in_one_file_do_not_grow_it(path: Path) -> None:
    one, other = Instance(path), Instance(path)
    for _ in range(100):
        for each in (one, other):
            each.distrust()
            each.exchange()
    one.exchange()
    assert one.flags == other.flags == read(path).flags
    assert path.stat().st_size < 12 * len(line())


def test_decisions_about_issuers_that_nobody_here_verifies_are_kept_and_sent_nowhere(
    path: Path, tmp_path: Path
) -> None:
    write(path, line((OTHER, "foreign")))
    register = Register()
    first = Instance(path, (ISSUER,), register)
    second = Instance(tmp_path / "second", (ISSUER,), register)
    first.exchange()
    for _ in range(5):  # until it is rewritten
        first.distrust()
        first.exchange()
        second.exchange()
    assert (OTHER, "foreign") in first.flags
    assert kids(read(path).flags) == {"foreign", "k"}
    assert kids(read(second.path).flags) == {"k"}
    assert b"foreign" not in second.path.read_bytes()
    instance = Instance(second.path, (ISSUER, OTHER), register)
    instance.exchange()
    assert kids(read(second.path).flags) == {"foreign", "k"}, "now somebody does"


HOLDING = (
    "import sys, time; from pathlib import Path; from jwks_guard.base import files\n"
    "with files.locked_for_append(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(600)\n"
)


@contextmanager
def held_by_a_stopped_process(path: Path) -> Iterator[None]:
    with program("-c", HOLDING, str(path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        os.kill(process.pid, signal.SIGSTOP)
        yield
        os.kill(process.pid, signal.SIGCONT)


class Pool(ThreadPoolExecutor):
    submitted = 0

    def submit(self, *arguments: Any, **options: Any) -> Any:
        self.submitted += 1
        return super().submit(*arguments, **options)


async def test_file_that_a_stopped_process_has_locked_holds_nobody_up_for_long(path: Path) -> None:
    store, pool = store_of(path), Pool()
    await store.ensure_bound()
    asyncio.get_running_loop().set_default_executor(pool)
    with held_by_a_stopped_process(path):
        deciding = [
            asyncio.create_task(store.decisions.distrust(f"k{number}", reason="leaked"))
            for number in range(50)
        ]
        await asyncio.sleep(0)
        assert len(store.trust.view.distrusted) == 50, "in effect at once"
        errors = await asyncio.wait_for(asyncio.gather(*deciding, return_exceptions=True), PATIENCE)
        for error in errors:
            assert isinstance(error, DistrustNotSharedError)
            assert "another process has locked it" in str(error) or "no answer in 5 s" in str(error)
            assert str(path) in str(error)
        health = store.health()
        assert "another process has locked it" in (health.last_error or "") or health.status != "ok"
    assert pool.submitted == 0, "the event loop's threads are there for others"
    await store.decisions.share()
    assert len(read(path).refused) == 50


async def test_verifier_does_not_start_while_the_file_is_locked_and_says_so(path: Path) -> None:
    store = store_of(path)
    with (
        held_by_a_stopped_process(path),
        pytest.raises(ConfigurationError, match="another process has locked it"),
    ):
        await store.start()
    await store.ensure_bound()


# --- stores with journals ---


async def test_asking_for_a_decision_blocks_no_event_loop_while_the_file_is_locked(
    path: Path,
) -> None:
    write(path, line())
    store = store_of(path)
    with files.locked_for_append(path):
        asking = asyncio.create_task(store.decisions.is_distrusted("k"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not asking.done()
    assert await asking


async def test_journal_in_a_directory_that_does_not_exist_stops_the_start(tmp_path: Path) -> None:
    store = store_of(tmp_path / "missing" / "keys.json.tombstones")
    with pytest.raises(ConfigurationError, match=r"missing, is not there.*create the folder"):
        await store.start()
    assert "No such file" in str(store.health().last_error)


async def test_journal_that_cannot_be_read_stops_its_verifier_and_nothing_else(
    clock: HandClock, tmp_path: Path
) -> None:
    write(tmp_path / "broken.tombstones", b"torn")
    with (
        tenant_of(clock, issuer="https://one.test/") as one,
        tenant_of(clock, issuer="https://two.test/") as two,
    ):
        broken = keys_of(one, clock, snapshot_path=tmp_path / "broken")
        healthy = keys_of(two, clock, snapshot_path=tmp_path / "healthy")
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="last line is unfinished"):
                await broken.resolve("k1")
            assert broken.home.vacant
        async with healthy:
            for _ in range(3):
                clock.advance(60)
                await healthy.tick()
            assert healthy.health().confirmed_at == clock.time()
            assert len(healthy.kids) == 2
            health = healthy.health()
            assert health.status == "degraded"
            assert "broken.tombstones" in (health.last_error or "")
            with pytest.raises(DistrustNotSharedError, match=r"broken\.tombstones.*unfinished"):
                await healthy.decisions.distrust(two.key().kid, reason="leaked")
            assert read(tmp_path / "healthy.tombstones", two.issuer).refused == {two.key().kid}
            with pytest.raises(DistrustNotSharedError, match=r"broken\.tombstones"):
                await healthy.decisions.reinstate(two.key().kid, reason="false alarm")
            assert not healthy.decisions.distrusted, "its own journal took it"
            write(tmp_path / "broken.tombstones", b"")
            await broken.start()
            assert healthy.health().status == "ok"
            await broken.aclose()


def keys_of(tenant: LocalTenant, clock: HandClock, **options: Any) -> KeyStore:
    return KeyStore(
        tenant.issuer,
        http_client=httpx.AsyncClient(transport=tenant.transport),
        clock=clock,
        background=False,
        **options,
    )


def test_decision_is_written_although_nobody_keeps_the_store(path: Path) -> None:
    store = store_of(path)
    with files.locked_for_append(path):
        store.decisions.decide("k", reason="leaked")
        register = store.register
        del store
    gc.collect()
    wait_for_threads()
    gc.collect()
    assert read(path).refused == {"k"}
    assert register.journals == []
    assert register.followers == []


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name == "jwks-guard" and not thread.daemon:
            thread.join(PATIENCE)


async def test_decision_of_a_store_without_a_journal_is_written_by_one_that_has_one(
    path: Path,
) -> None:
    plain, _kept = KeyStore(ISSUER, background=False), store_of(path)
    await plain.decisions.distrust("k", reason="leaked")
    assert read(path).refused == {"k"}


async def test_store_writes_the_decisions_that_its_process_made_before_it(path: Path) -> None:
    plain = KeyStore(ISSUER, background=False)
    await plain.decisions.distrust("k", reason="leaked")
    async with store_of(path):
        assert read(path).refused == {"k"}


async def test_health_is_degraded_while_a_decision_is_not_stored(
    path: Path, clock: HandClock
) -> None:
    with tenant_of(clock) as tenant:
        store = keys_of(tenant, clock, snapshot_path=path.with_suffix(""))
        await store.refresh()
        files.write_atomically(path, b"torn")
        with pytest.raises(DistrustNotSharedError, match="passed on with the next exchange"):
            await store.decisions.distrust("k", reason="leaked")
        health = store.health()
        assert health.status == "degraded"
        assert "keys.json.tombstones" in (health.last_error or "")
        files.write_atomically(path, b"")
        await store.tick()
        wait_for_threads()
        assert read(path, tenant.issuer).refused == {"k"}
        assert store.health().status == "ok"


async def test_callback_that_hears_of_a_decision_in_the_file_may_decide_itself(path: Path) -> None:
    """It is called by the journal's thread: then that can't be waited for, but nothing is stuck."""
    outcomes: list[str] = []

    def on_event(event: Event) -> None:
        if event.kind != "key_distrusted" or event.kid != "k":
            return
        try:
            verifier.distrust("another", reason="leaked with it", force=True)
        except DistrustNotSharedError as error:
            outcomes.append(str(error))

    verifier = SyncTokenVerifier(
        ISSUER, "https://api.test", snapshot_path=path.with_suffix(""), on_event=on_event
    )
    assert not verifier.distrusted
    other = read(path)
    other.distrust()
    other.exchange()
    (journal,) = verifier.keys.register.journals
    await asyncio.to_thread(journal.begin_exchange().result, PATIENCE)
    await asyncio.to_thread(journal.begin_exchange().result, PATIENCE)
    assert "no answer in 5 s" in outcomes[0]
    assert read(path).refused == {"k", "another"}


async def test_any_history_of_a_store_is_what_its_file_holds(path: Path) -> None:
    store = store_of(path)
    other = Instance(path)
    chance = random.Random(7)
    for number in range(100):
        kid = f"k{chance.randrange(4)}"
        match chance.randrange(4):
            case 0:
                await store.decisions.distrust(kid, reason=f"{number}")
            case 1:
                with suppress(ConfigurationError):
                    await store.decisions.reinstate(kid, reason=f"{number}")
            case 2:
                other.distrust(kid)
            case 3:
                other.exchange()
        await store.decisions.share()
        assert read(path).flags == store.register.state.flags
        assert set(store.decisions.distrusted) == set(read(path).refused)


def test_lines_hold_what_was_decided_and_nothing_more(instance: Instance) -> None:
    instance.distrust()
    instance.exchange()
    (text,) = instance.path.read_bytes().splitlines()
    issuer, kid, flag = json.loads(text)
    assert ((issuer, kid), flag["lifted"], flag["thumbprints"]) == (K, {}, [])
    assert [decision.keys() for decision in flag["made"].values()] == [
        {"number", "reason", "at", "by"}
    ]
    assert decoded_part(text) == (K, instance.flags[K])


async def test_keys_seen_under_a_kid_that_the_file_distrusts_are_in_the_file(
    path: Path, clock: HandClock
) -> None:
    with tenant_of(clock, issuer=ISSUER) as tenant:
        kid = tenant.key().kid
        write(path, line((ISSUER, kid)))
        async with keys_of(tenant, clock, snapshot_path=path.with_suffix("")) as store:
            (covered,) = store.trust.published.seen[kid]
            assert store.decisions.distrusted[kid].thumbprints == {"p"}, "seen after the decision"
            store.trust.publish((), (), Instant.now(clock))
            await store.decisions.distrust(kid, reason="again")
        assert read(path).flags[ISSUER, kid].thumbprints == {"p", covered}


@pytest.mark.parametrize("at", [float("inf"), float("-inf"), float("nan")])
def test_clock_that_answers_nonsense_leaves_a_journal_that_can_be_read(
    path: Path, at: float
) -> None:
    instance = Instance(path)
    instance.register.distrust(ISSUER, "k", reason="leaked", at=at)
    instance.exchange()
    assert read(path).refused == {"k"}
