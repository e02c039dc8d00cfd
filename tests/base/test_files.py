from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from jwks_guard.base import files
from tests.process.programs import run_to_end

OTHER_USER = 65_534


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


# --- writing ---


def test_written_file_is_private_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    files.write_atomically(path, b"first")
    files.write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert mode_of(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_open_umask_makes_no_open_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.write_atomically(tmp_path / "keys.json", b"")
        with files.locked_for_append(tmp_path / "journal"):
            pass
    finally:
        os.umask(before)
    assert {mode_of(path) for path in tmp_path.iterdir()} == {0o600}


def test_readers_of_the_old_file_keep_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    files.write_atomically(path, b"old")
    with path.open("rb") as reader:
        files.write_atomically(path, b"new")
        assert reader.read() == b"old"


def test_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "keys.json"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    files.write_atomically(path, b"ours")
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()
    assert path.read_bytes() == b"ours"


def test_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_atomically(path, b"new")
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    files.write_atomically(path, b"old")
    script = (
        "import resource, sys; from pathlib import Path; from jwks_guard.base import files\n"
        "limits = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))\n"
        "try: files.write_atomically(Path(sys.argv[1]), bytes(100))\n"
        "except OSError as error: print(error.strerror)\n"
        "finally: resource.setrlimit(resource.RLIMIT_FSIZE, limits)\n"
    )
    run = run_to_end([sys.executable, "-c", script, path])
    assert (run.returncode, run.stdout) == (0, "File too large\n")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_directory_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write_atomically(tmp_path / "missing" / "keys.json", b"")


# --- reading ---


def test_no_file_reads_as_none(tmp_path: Path) -> None:
    assert files.read_private(tmp_path / "keys.json") is None
    assert files.read_private(tmp_path / "missing" / "keys.json") is None


def test_own_private_file_is_read(tmp_path: Path) -> None:
    files.write_atomically(tmp_path / "keys.json", b"content")
    assert files.read_private(tmp_path / "keys.json") == b"content"


def linked(path: Path) -> None:
    path.with_name("elsewhere").touch(0o600)
    path.symlink_to(path.with_name("elsewhere"))


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def readable_by_the_group(path: Path) -> None:
    path.touch(0o640)


def writable_by_all(path: Path) -> None:
    path.touch()
    path.chmod(0o606)


def huge(path: Path) -> None:
    path.touch(0o600)
    os.truncate(path, files.MAX_BYTES)


NOT_OURS = [
    (linked, "symbolic link"),
    (dangling, "symbolic link"),
    (Path.mkdir, "directory|not a regular file"),
    (os.mkfifo, "not a regular file"),
    (readable_by_the_group, "mode must be 0600"),
    (writable_by_all, "mode must be 0600"),
    (huge, "larger than"),
]


@pytest.mark.parametrize(("make", "why"), NOT_OURS)
def test_what_may_not_be_ours_is_neither_read_nor_appended_to(
    tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    path = tmp_path / "keys.json"
    make(path)
    before = open_descriptors()
    with pytest.raises(OSError, match=why):
        files.read_private(path)
    with pytest.raises(OSError, match=why), files.locked_for_append(path):
        raise AssertionError("it was opened")
    assert open_descriptors() == before


def test_file_of_another_user_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.touch(0o600)
    if os.geteuid() == 0:
        os.chown(path, OTHER_USER, OTHER_USER)
    else:
        path = Path("/etc/passwd")  # only root can give a file away, but this one is root's
    with path.open("rb") as file, pytest.raises(OSError, match="belongs to another user"):
        files.require_ours(file.fileno())


def test_file_below_a_file_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        files.read_private(tmp_path / "file" / "keys.json")


# --- the lock ---


def test_appending_makes_the_file_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for line in (b"one\n", b"two\n"):
        with files.locked_for_append(path) as descriptor:
            os.write(descriptor, line)
    assert path.read_bytes() == b"one\ntwo\n"


def test_lock_is_released_when_the_writer_raises(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with pytest.raises(KeyError), files.locked_for_append(path):
        raise KeyError
    with path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_only_one_writes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with (
        files.locked_for_append(path),
        path.open("rb+") as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


class GaveUpError(Exception):
    pass


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Break off what blocks the main thread for longer."""

    def give_up(_: int, __: FrameType | None) -> None:
        raise GaveUpError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_reader_waits_for_the_writer_and_sees_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with files.locked_for_append(path) as descriptor:
        os.write(descriptor, b"half a ")
        with pytest.raises(GaveUpError), patience(0.05):
            files.read_private(path)
        os.write(descriptor, b"line\n")
    assert files.read_private(path) == b"half a line\n"


def test_child_forked_while_a_file_was_open_does_not_keep_it_locked(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    copies: list[int] = []
    with files.locked_for_append(path) as descriptor:
        copies.append(os.dup(descriptor))  # what a fork does to it
    try:
        with path.open("rb+") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(copies[0])


def test_a_file_does_not_grow_beyond_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    files.append_durably(path, b"first\n")
    os.truncate(path, files.MAX_BYTES - 10)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\n")
    with pytest.raises(OSError, match="larger than"):
        files.append_durably(path, b"one too many\n")
    assert path.stat().st_size == files.MAX_BYTES - 10
    files.append_durably(path, b"short\n")
