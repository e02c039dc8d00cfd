"""What survives a restart: the last confirmed key set, and every decision to distrust.

They lie in two files. The key set's is a cache: replaced as a whole, and ignored when anything
about it is off. The tombstones' is a journal: only ever appended to, always honoured, and one that
can't be read stops the start, for a decision that is lost would let a revoked key back in.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from jwks_guard.base import files
from jwks_guard.base.clock import Instant
from jwks_guard.errors import ConfigurationError
from jwks_guard.jose.compact import json_object
from jwks_guard.jose.jwk import load_jwk_set
from jwks_guard.keys.distrust import Name, Tombstone, Tombstones
from jwks_guard.keys.view import PublishedSet

VERSION = 1


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    op: Literal["distrust", "hear", "learn", "reinstate"]
    issuer: str
    kid: str
    reason: str
    at: float
    thumbprints: list[str] = []
    version: int = 0
    """0: not known; the decision then follows on whatever stands before it."""


class SnapshotError(Exception):
    """The key set's file can't be used; the text says why."""


class Snapshot:
    """The two files at `path` and `path` + ".tombstones" for one issuer."""

    def __init__(self, path: str | os.PathLike[str], issuer: str) -> None:
        files.require_support()
        try:
            self.path = Path(path)
            self.journal = self.path.with_name(self.path.name + ".tombstones")
        except (TypeError, ValueError):
            raise ConfigurationError("snapshot_path must be the path of a file.") from None
        self.issuer = issuer

    def save_keys(self, published: PublishedSet, jwks_uri: str) -> None:
        """Replace the key set's file; raises OSError."""
        record = {
            "version": VERSION,
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "confirmed_at": published.confirmed.wall,
            "keys": [key.to_jwk() for key in published.keys],
        }
        files.write_atomically(self.path, msgspec.json.encode(record))

    def load_keys(
        self, jwks_uri: str | None, now: Instant, max_stale: float
    ) -> PublishedSet | None:
        """The key set as it was confirmed then; None without a file.

        Raises SnapshotError when the file is not ours, is damaged, names another issuer or
        address, is dated in the future, or is past `max_stale`.
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
        age = _age(record.get("confirmed_at"), now)
        if age >= max_stale:
            raise SnapshotError("it is older than max_stale")
        return PublishedSet(keys, (), now.shifted(-age)) if keys else None

    def load_tombstones(self) -> Tombstones:
        """Every decision in the journal; raises ConfigurationError when one can't be read."""
        try:
            data = files.read_private(self.journal)
            return _replay(data or b"")
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"The tombstone file {self.journal} can't be read ({error}). It holds decisions to "
                "distrust keys, so nothing starts without it: mend its owner, mode or last line, "
                "or remove it and distrust those keys again."
            ) from error

    def append(self, records: list[dict[str, Any]]) -> None:
        """Write decisions down, durably; raises OSError or ValueError and then has written none."""
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        files.append_durably(self.journal, lines)


def _age(confirmed_at: object, now: Instant) -> float:
    if isinstance(confirmed_at, bool) or not isinstance(confirmed_at, int | float):
        raise SnapshotError("it has no date")
    if confirmed_at > now.wall:
        raise SnapshotError("it is dated in the future")
    return now.wall - max(confirmed_at, 0.0)  # an integer of 400 digits is no float


def distrust_record(stone: Tombstone, op: str = "distrust") -> dict[str, Any]:
    """The journal's line for a decision that is made here.

    With "hear" it was made elsewhere, and with "learn" it says what a decision turned out to cover.
    """
    return {
        "op": op,
        "issuer": stone.issuer,
        "kid": stone.kid,
        "thumbprints": sorted(stone.thumbprints),
        "reason": stone.reason,
        "at": stone.at,
        "version": stone.version,
    }


def reinstate_record(name: Name, version: int, reason: str, at: float) -> dict[str, Any]:
    """The journal's line for lifting that decision, `at` seconds since the epoch."""
    issuer, kid = name
    return {
        "op": "reinstate",
        "issuer": issuer,
        "kid": kid,
        "reason": reason,
        "at": at,
        "version": version,
    }


def _replay(data: bytes) -> Tombstones:
    """The state after all lines, in their order; ValueError for a line that is not ours."""
    entries: dict[Name, Tombstone] = {}
    lifted: dict[Name, int] = {}
    if data and not data.endswith(b"\n"):
        raise ValueError("its last line is unfinished")
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            record = msgspec.json.decode(line, type=_Line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise ValueError(f"line {number} is damaged") from None
        _apply(record, entries, lifted)
    return Tombstones(entries, lifted)


def _apply(record: _Line, entries: dict[Name, Tombstone], lifted: dict[Name, int]) -> None:
    """One more decision; in place, as thousands of copies would take long.

    One that was made here counts although a process that shares the file had lifted an earlier one
    and this one did not know.
    """
    name = record.issuer, record.kid
    held, lift = entries.get(name), lifted.get(name, 0)
    if record.op == "reinstate":
        version = record.version or (held.version + 1 if held is not None else max(1, lift))
        if held is None or held.version < version:
            entries.pop(name, None)
            lifted[name] = max(version, lift)
        return
    version = record.version
    if record.op == "distrust":
        version = max(version, held.version if held is not None else lift + 1)
    stone = Tombstone(*name, record.reason, record.at, frozenset(record.thumbprints), version)
    if held is not None:
        entries[name] = held.joined(stone)
    elif record.op != "learn" and version >= lift:
        lifted.pop(name, None)
        entries[name] = stone
