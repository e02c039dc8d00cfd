"""Files that only we may have written: private, owned by us, and no link to somewhere else."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jwks_guard.errors import ConfigurationError

if sys.platform == "win32":  # pragma: no cover
    SUPPORTED = False
else:
    import fcntl

    SUPPORTED = True
    _OWN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

MAX_BYTES = 64 * 1024 * 1024
_LOCK_PAUSE_SECONDS = 0.02


def require_support() -> None:
    """Raise ConfigurationError where files can't be owned, locked and kept private."""
    if not SUPPORTED:  # pragma: no cover
        raise ConfigurationError(
            "Files are kept only on a POSIX system; leave their paths out on this one."
        )


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `data`, mode 0600: readers see the old file or the new one.

    A `durable` file survives a power failure.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make a file's creation or replacement in `path` survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path, last: int | None = None) -> bytes | None:
    """The file's bytes, or the `last` of them; None when there is no file.

    Raises OSError when it may not be ours.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        require_ours(descriptor)
        with _flocked(descriptor, fcntl.LOCK_SH):  # nothing is half written while we read
            file = os.fdopen(descriptor, "rb", closefd=False)
            if last is not None:
                file.seek(max(0, os.fstat(descriptor).st_size - last))
            return file.read(MAX_BYTES)
    finally:
        os.close(descriptor)


def require_ours(descriptor: int) -> None:
    """Raise OSError unless the open file is a regular one, our own, and writable by nobody else."""
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        raise OSError("it is not a regular file")
    if info.st_uid != os.geteuid():
        raise OSError("it belongs to another user")
    if info.st_mode & 0o077:
        raise OSError("others may read or write it; its mode must be 0600")
    if info.st_size >= MAX_BYTES:
        raise OSError(f"it is larger than {MAX_BYTES} bytes")


def held_open(path: Path) -> int:
    """The descriptor of a file that stays locked until it is closed, or the process ends.

    Raises OSError where another process holds it.
    """
    descriptor = opened_own(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def opened_own(path: Path) -> int:
    """The descriptor of a private file, which is made where there is none; raises OSError."""
    descriptor = os.open(path, _OWN | os.O_CREAT, 0o600)
    try:
        require_ours(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file in place of the lock that it has, unless another descriptor is in the way.

    Gives whether it is locked now: where it is not, the lock that it had is gone.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """End its lock at once: closing alone keeps it while a forked child has a copy open."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_held_open(path: Path) -> bool:
    """Whether a process that runs holds the file at `path`; this one counts too."""
    try:
        descriptor = os.open(path, _OWN)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # as _flocked: a child may have a copy open
        return False
    finally:
        os.close(descriptor)


@contextmanager
def locked_for_append(
    path: Path, patience: float | None = None, *, create: bool = True
) -> Iterator[int]:
    """Open `path` to read and append, alone among processes; gives the descriptor.

    Raises OSError when another process has held it for `patience` seconds, and FileNotFoundError
    when there is no such file and `create` is false.
    """
    flags = _OWN | os.O_APPEND
    until = None if patience is None else time.monotonic() + patience
    while True:
        descriptor = os.open(path, flags | (os.O_CREAT if create else 0), 0o600)
        try:
            require_ours(descriptor)
            left = None if until is None else max(0.0, until - time.monotonic())
            with _flocked(descriptor, fcntl.LOCK_EX, left):
                if is_at(path, descriptor):  # not replaced or removed while we waited
                    yield descriptor
                    return
        finally:
            os.close(descriptor)


def is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one at `path`."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def append_durably(
    path: Path, lines: bytes, *, after_torn: bool = False, patience: float | None = None
) -> None:
    """Append whole lines to `path`; raises OSError or ValueError and then has written none.

    A last line that a crash has torn stays there and is ended with `after_torn`, else refused. For
    another process that holds the file it waits for `patience` seconds; None: as long as it takes.
    """
    with locked_for_append(path, patience) as descriptor:
        append_to(descriptor, path.parent, lines, after_torn=after_torn)


def append_to(descriptor: int, folder: Path, lines: bytes, *, after_torn: bool = False) -> None:
    """Append to a file in `folder` that is open and locked, as `append_durably` does."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        if not after_torn:
            raise ValueError("its last line is unfinished")
        lines = b"\n" + lines
    if size + len(lines) >= MAX_BYTES:  # nobody could read it any more
        raise OSError(f"it would be larger than {MAX_BYTES} bytes")
    try:
        if os.write(descriptor, lines) != len(lines):
            raise OSError("the disk is full")
        os.fsync(descriptor)
        sync_directory(folder)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


@contextmanager
def _flocked(descriptor: int, kind: int, patience: float | None = None) -> Iterator[None]:
    _flock(descriptor, kind, patience)
    try:
        yield
    finally:
        # Closing alone keeps the lock as long as a child forked meanwhile has a copy open.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _flock(descriptor: int, kind: int, patience: float | None) -> None:
    if patience is None:
        fcntl.flock(descriptor, kind)
        return
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise OSError("another process has locked it") from None
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return
