"""Metrics of several workers as one: each writes what it shows, and a scrape adds it all up.

They meet in the directory that PROMETHEUS_MULTIPROC_DIR names, as those of prometheus_client do.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from jwks_guard.base.events import logger
from jwks_guard.base.files import (
    held_open,
    is_at,
    is_held_open,
    locked_for_append,
    read_private,
    require_support,
    write_atomically,
)
from jwks_guard.errors import ConfigurationError
from jwks_guard.keys.store import KeyStore
from jwks_guard.observability.joining import joined, kept
from jwks_guard.observability.reading import Shown, shown
from jwks_guard.verify.stores import Stores, Verifier

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
WRITE_SECONDS = 1.0
"""What is counted in the last second before a process is killed is lost."""
PATIENCE_SECONDS = 5.0
"""A scrape waits for another one at most this long."""
_BUSY = 100
"""It is written less often where that would take more than this part of a processor's time."""
_T = TypeVar("_T")
_PREFIX, _ENDED = "jwks_guard-", "jwks_guard_ended.json"


@dataclass(frozen=True, slots=True)
class _Ended:
    """The counts of processes that have ended; the files of those in `names` are in it."""

    shown: Shown = field(default_factory=Shown)
    names: list[str] = field(default_factory=list)


class Workers:
    """The processes that share `folder`, of which this is one once a verifier of it has started.

    A process that forks others and verifies nothing, as gunicorn's does with preload, is none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._verifiers: weakref.WeakSet[Verifier] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._warned = ""
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._name = secrets.token_hex(8)
        self._held: int | None = None
        self._begun = False
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """In a forked child: be another process. A copy of the descriptor keeps the file locked."""
        if self._held is not None:
            os.close(self._held)
        self._begin_anew()
        if self._thread is not None:
            self._start()

    def add(self, *verifiers: Verifier) -> None:
        """Show these verifiers, too."""
        for each in verifiers:
            self._verifiers.add(each)
        if self._thread is None:
            self._start()

    def read(self) -> Shown:
        """What all processes show together; raises OSError.

        This one writes first: what one scrape has shown, the next one shows too, whichever process
        answers it.
        """
        with locked_for_append(self._folder / "jwks_guard.lock", PATIENCE_SECONDS):
            self._begun = True
            own = self._written()
            live, ended = self._others()
        return joined([own, *live], ended.shown)

    def write(self) -> None:
        """Write what this process shows; raises OSError.

        Once its verifiers are gone, as at the end of a process, what was written last stays.
        """
        stores = self._stores()
        self._begun = self._begun or any(not store.home.vacant for store in stores)
        if self._begun and stores:
            self._written()

    # --- this process ---

    def _stores(self) -> tuple[KeyStore, ...]:
        each = (store for verifier in tuple(self._verifiers) for store in Stores(verifier)())
        return tuple(dict.fromkeys(each))

    def _written(self) -> Shown:
        """What this process shows, once it is in its file."""
        with self._lock:  # or what another thread has looked at before would be written after it
            own = shown(self._stores())
            self._hold(self._path(self._name, "lock"))
            data = msgspec.json.encode(own)
            write_atomically(self._path(self._name, "json"), data, durable=False)
            return own

    def _hold(self, lock: Path) -> None:
        """Have the file locked by which others see that this process runs."""
        if self._held is not None and not is_at(lock, self._held):  # the directory was emptied
            os.close(self._held)
            self._held = None
        if self._held is None:
            self._held = held_open(lock)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="jwks-guard-metrics", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._verifiers:
            begun = time.monotonic()
            self._write_if_possible()
            time.sleep(max(WRITE_SECONDS, _BUSY * (time.monotonic() - begun)))
        self._thread = None

    def _write_if_possible(self) -> None:
        try:
            self.write()
        except OSError as error:
            if str(error) != self._warned:
                self._warned = str(error)
                logger.warning("metrics of this worker are not written for the others: %s", error)

    # --- the others; used with the folder locked ---

    def _others(self) -> tuple[list[Shown], _Ended]:
        """What those that run show, and the counts of those that have ended, put into one file."""
        ended = self._loaded(self._folder / _ENDED, _Ended) or _Ended()
        live, new = [], {}
        for name, path in self._files():
            if name in ended.names:  # a crash has left it
                self._remove(name)
                continue
            runs = is_held_open(self._path(name, "lock"))  # before its last content is read
            if (found := self._loaded(path, Shown)) is None:
                continue
            if runs:
                live.append(found)
            else:
                new[name] = found
        if new:
            ended = _Ended(kept([ended.shown, *new.values()]), [*new])
            write_atomically(self._folder / _ENDED, msgspec.json.encode(ended), durable=False)
            for name in new:
                self._remove(name)
        return live, ended

    def _files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self._folder.glob(f"{_PREFIX}*.json")):
            name = path.stem.removeprefix(_PREFIX)
            if name != self._name:
                yield name, path

    def _loaded(self, path: Path, kind: type[_T]) -> _T | None:
        content = read_private(path)
        if content is None:
            return None
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.MsgspecError, ValueError):
            logger.warning("%s is of another version of jwks_guard: it is not counted", path)
            return None

    def _remove(self, name: str) -> None:
        for suffix in ("json", "lock"):
            self._path(name, suffix).unlink(missing_ok=True)

    def _path(self, name: str, suffix: str) -> Path:
        return self._folder / f"{_PREFIX}{name}.{suffix}"


_workers: dict[Path, Workers] = {}


def workers_of(*verifiers: Verifier) -> Workers | None:
    """The workers that share PROMETHEUS_MULTIPROC_DIR, with these verifiers; None without it.

    Raises ConfigurationError where that is no directory that can be written to.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    require_support()
    folder = Path(given).absolute()
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{VARIABLE} is not a directory that this process may write to. Nothing was written. "
            f"Make it, empty, before the workers start: mkdir -p {given}"
        )
    workers = _workers.setdefault(folder, Workers(folder))
    workers.add(*verifiers)
    return workers


def _after_fork() -> None:
    for workers in _workers.values():
        workers.after_fork()


def _at_exit() -> None:
    for workers in _workers.values():
        with suppress(OSError):
            workers.write()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
