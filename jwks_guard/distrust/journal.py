"""The journal: a file that carries decisions to distrust through a restart.

A line is a part of the state, as JSON, so that lines may be repeated and in any order. Processes
may share the file: whatever one of them adds, the others read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from jwks_guard.base import files
from jwks_guard.base.worker import Worker, waited
from jwks_guard.distrust.copy import CopyError
from jwks_guard.distrust.parts import decoded_part, encoded_part
from jwks_guard.distrust.state import (
    NOTHING,
    Distrust,
    Flags,
    Name,
    beyond,
    merge_into,
)

PATIENCE_SECONDS = 2.0
"""How long another process that holds the file is waited for."""
LONGEST_SECONDS = 5.0
"""How long a disk is waited for, that of another process included."""


class Journal:
    """Exchanges decisions with the file at `path`, in a thread of its own.

    `lacking` gives what the file lacks, when it is called with all that the file holds. `merge`
    takes what is new in the file and what was offered, and whether the file was read for the first
    time.

    `error` says why the file could not be used the last time; None if it could. `was_read` tells
    whether what it holds was ever merged.
    """

    def __init__(
        self,
        path: Path,
        lacking: Callable[[Flags], Flags],
        merge: Callable[[Flags, bool], None],
    ) -> None:
        self.path = path
        self.error: str | None = None
        self.was_read = False
        self._lacking = lacking
        self._merge = merge
        self._worker: Worker[Flags] = Worker(self._exchange)
        self._forget()

    def _forget(self) -> None:
        """Have all of the file read next time."""
        self._held: dict[Name, Distrust] = {}
        self._seen = b""
        self._lines = 0

    def after_fork(self) -> None:
        """In a forked child: use the file from a thread of this process, and read all of it.

        The parent may have been between reading decisions and merging them.
        """
        self._worker.after_fork()
        self._forget()

    def begin_exchange(self) -> Future[None]:
        """An exchange that begins after this call.

        The future raises OSError or ValueError when the file can't be read or written. What was not
        written goes out with the next exchange.
        """
        return self._worker.soon()

    async def exchange(self, offer: Flags = NOTHING) -> None:
        """Merge what is new in the file, and append what it lacks, also of `offer`.

        Raises CopyError when that fails, or a disk that hangs takes longer than 5 s.
        """
        done = self._worker.soon(offer) if offer else self.begin_exchange()
        await waited([done], LONGEST_SECONDS)
        failure = done.exception() if done.done() else f"no answer in {LONGEST_SECONDS:g} s"
        if failure is not None:
            raise CopyError(f"the journal {self.path} can't be used ({failure})")

    def _exchange(self, offers: list[Flags]) -> None:
        offer: dict[Name, Distrust] = {}
        for flags in offers:
            merge_into(offer, flags.items())
        try:
            self._read_and_write(offer)
        except Exception as error:
            self.error = f"the journal {self.path} can't be used: {error}"
            raise
        self.error = None

    def _read_and_write(self, offer: Flags) -> None:
        anything = bool(offer or self._held or self._lacking({}))
        news: dict[Name, Distrust] = {}
        failure = None
        try:
            with files.locked_for_append(
                self.path, PATIENCE_SECONDS, create=anything
            ) as descriptor:
                data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
                held, lines = self._read(data, news)
                failure = self._write(descriptor, data, held, lines, offer)
        except FileNotFoundError:
            if anything or not self.path.parent.is_dir():
                raise
        if failure is None:
            merge_into(news, offer.items())  # it counts for those who share the file: here too
        try:
            self._merge(news, not self.was_read)
        except BaseException:
            self._forget()
            raise
        self.was_read = True
        if failure is not None:
            raise failure

    def _read(self, data: bytes, news: dict[Name, Distrust]) -> tuple[dict[Name, Distrust], int]:
        """What the file holds, and in how many lines; adds to `news` what was not there before.

        Only what follows on the bytes seen before is parsed. A file can't be known by its inode:
        one that was replaced twice may have the same number again.
        """
        held, lines, tail = self._held, self._lines, data[len(self._seen) :]
        if not data.startswith(self._seen):
            held, lines, tail = {}, 0, data
        parts = _parsed(tail, lines)
        merge_into(held, parts)
        merge_into(news, parts)
        return held, lines + len(parts)

    def _write(
        self, descriptor: int, data: bytes, held: dict[Name, Distrust], lines: int, offer: Flags
    ) -> OSError | ValueError | None:
        """Append what the file lacks; gives why that was not possible."""
        parts = dict(self._lacking(held))
        if held is not self._held:  # what a file held that was removed is written again
            issuers = {issuer for issuer, _ in self._held}
            merge_into(parts, beyond(self._held, held, issuers).items())
        merge_into(parts, offer.items())
        try:
            added = _encoded(parts.items())
            if added:
                files.append_to(descriptor, self.path.parent, added)
        except (OSError, ValueError) as error:
            return error
        merge_into(held, parts.items())
        self._held, self._seen, self._lines = held, data + added, lines + len(parts)
        if self._lines > 2 * len(held):  # most of them are superseded
            with suppress(OSError):  # it is as good as before
                self._rewrite()
        return None

    def _rewrite(self) -> None:
        data = _encoded(self._held.items())
        files.write_atomically(self.path, data)
        self._seen, self._lines = data, len(self._held)


def _encoded(parts: Iterable[tuple[Name, Distrust]]) -> bytes:
    return b"".join(encoded_part(name, flag) + b"\n" for name, flag in parts)


def _parsed(data: bytes, before: int) -> list[tuple[Name, Distrust]]:
    """The parts in `data`, which `before` lines precede; ValueError for a line that is not ours."""
    if data and not data.endswith(b"\n"):
        raise ValueError("its last line is unfinished")
    parts = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=before + 1):
        try:
            parts.append(decoded_part(line))
        except ValueError as error:
            raise ValueError(f"line {number} is damaged: {error}") from None
    return parts
