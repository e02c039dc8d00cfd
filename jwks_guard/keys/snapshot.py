"""The last confirmed key set, kept in a file through a restart.

The file is a cache: it is replaced as a whole, and ignored when anything about it is off.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from jwks_guard.base import files
from jwks_guard.base.clock import Instant
from jwks_guard.base.worker import Worker, waited
from jwks_guard.errors import ConfigurationError
from jwks_guard.jose.compact import json_object
from jwks_guard.jose.jwk import load_jwk_set
from jwks_guard.keys.view import Listing, PublishedSet

VERSION = 2
LONGEST_SECONDS = 5.0
"""How long a write is waited for when a store is closed."""
JOURNAL_SUFFIX = ".tombstones"


class SnapshotError(Exception):
    """The file can't be used; the text says why."""


class Snapshot:
    """The key set of `issuer` in the file at `path`.

    `failed` is called with the reason, from another thread, when the file was not written.
    """

    def __init__(
        self, path: str | os.PathLike[str], issuer: str, failed: Callable[[str], object]
    ) -> None:
        files.require_support()
        try:
            self.path = Path(path)
            self.journal_path = self.path.with_name(self.path.name + JOURNAL_SUFFIX)
        except (TypeError, ValueError):
            raise ConfigurationError("snapshot_path must be the path of a file.") from None
        self.issuer = issuer
        self._failed = failed
        self._latest: deque[tuple[PublishedSet, str]] = deque(maxlen=1)
        self._worker: Worker[None] = Worker(self._save_latest)

    def after_fork(self) -> None:
        """In a forked child: write from a thread of this process."""
        self._worker.after_fork()

    def save_soon(self, published: PublishedSet, jwks_uri: str) -> None:
        """Write the set without keeping anybody waiting.

        While a slow disk holds up one write, only the latest set waits to be the next.
        """
        self._latest.append((published, jwks_uri))
        self._worker.soon()

    async def saved(self) -> None:
        """Wait for the last write, at most 5 s."""
        await waited([self._worker.soon()], LONGEST_SECONDS)

    def _save_latest(self, _: list[None]) -> None:
        try:
            self.save(*self._latest.pop())
        except IndexError:
            return  # it is saved already
        except OSError as error:
            self._failed(f"the key set was not saved: {error}")

    def save(self, published: PublishedSet, jwks_uri: str) -> None:
        """Replace the file; raises OSError."""
        record = {
            "version": VERSION,
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "confirmed_at": published.confirmed.wall,
            "origin": published.origin.wall,
            "source": published.source.wall,
            "listed": sorted(published.listed),
            "keys": [key.to_jwk() for key in published.keys],
        }
        files.write_atomically(self.path, msgspec.json.encode(record))

    def load(self, jwks_uri: str | None, now: Instant) -> PublishedSet | None:
        """The key set as it was confirmed then, however long ago that is; None without a file.

        Raises SnapshotError when the file is not ours, is damaged, names another issuer or
        address, or is dated in the future.
        """
        try:
            data = files.read_private(self.path)
            if data is None:
                return None
            record = json_object(data)
            keys, _ = load_jwk_set(record)
        except (OSError, ValueError) as error:
            raise SnapshotError(str(error)) from None
        if record.get("version") != VERSION or record.get("issuer") != self.issuer:
            raise SnapshotError("it is another version's or another issuer's")
        if jwks_uri is not None and record.get("jwks_uri") != jwks_uri:
            raise SnapshotError("its keys came from another jwks_uri")
        if not keys:
            return None
        seen: dict[str, frozenset[str]] = {}
        for kid, thumbprint in (listed := _listed(record)):
            seen[kid] = seen.get(kid, frozenset()) | {thumbprint}
        return PublishedSet(
            keys=keys,
            confirmed=now.shifted(-_age(record.get("confirmed_at"), now)),
            seen=seen,
            origin=now.shifted(-_age(record.get("origin"), now)),
            source=now.shifted(-_age(record.get("source"), now)),
            listed=listed,
        )


def _listed(record: Mapping[str, object]) -> frozenset[Listing]:
    try:
        return frozenset(msgspec.convert(record.get("listed"), list[tuple[str, str]]))
    except msgspec.ValidationError:
        raise SnapshotError("it does not say what was listed last") from None


def _age(confirmed_at: object, now: Instant) -> float:
    if isinstance(confirmed_at, bool) or not isinstance(confirmed_at, int | float):
        raise SnapshotError("it has no date")
    if confirmed_at > now.wall:
        raise SnapshotError("it is dated in the future")
    return now.wall - max(confirmed_at, 0.0)  # an integer of 400 digits is no float
