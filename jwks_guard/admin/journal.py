"""The journal: every step of an operation on a tenant's keys, as an event and in a file.

The file is an audit trail and a write-ahead journal in one: the intent to revoke is on the disk
before anything is sent, so what a crash leaves unfinished can be read from it.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from jwks_guard.admin.under_way import Operation, UnderWay
from jwks_guard.base import files
from jwks_guard.base.arguments import require_listener
from jwks_guard.base.clock import Clock
from jwks_guard.errors import ConfigurationError

logger = logging.getLogger("jwks_guard")
Action = Literal["rotate", "revoke", "rotate_and_revoke", "distrust", "reinstate", "dismiss"]
Result = Literal["ok", "warning", "failed"]
PATIENCE = 2.0
"""How long another process may hold the file, in seconds."""
MAX_RECENT = 300
"""The events that `recent` gives at most."""
_RECENT_BYTES = 512 * 1024
_DECISIONS = frozenset({"distrust", "dismiss"})
"""The actions that concern verifiers alone: they begin and end nothing at the tenant."""
ENDS = frozenset({"finished", "failed", "abandoned"})
"""The steps after which nothing is left to do."""
_LEVELS: dict[str, int] = {
    "ok": logging.INFO,
    "warning": logging.WARNING,
    "failed": logging.ERROR,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An operation to be done. `tenant` is a URL; `emergency`: verifiers refuse the key first.

    `kid` is empty where an `instance` is dismissed, and `instance` everywhere else.
    """

    action: Action
    tenant: str
    actor: str
    kid: str
    reason: str
    emergency: bool = False
    instance: str = ""
    operation: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminEvent:
    """One step of an operation on a tenant's keys.

    `step` is one of intended, blast_radius (whose tokens were accepted), warned, forced (it was not
    ready), rotated, uncertain (a rotation's answer was lost), acknowledged (the tenant has revoked
    the key), unanswered, refused_by (a verifier refuses it), not_told (a verifier could not be
    reached, or failed), not_refused and not_revoked (the key is or may be current or next),
    left_jwks, still_in_jwks; or the last one: finished, failed, abandoned. `at` is an aware
    datetime; `detail` is for people.
    """

    intent: Intent
    step: str
    at: datetime
    result: Result
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON-compatible data, flat."""
        own = {"at": self.at.isoformat(), "step": self.step, "result": self.result}
        return {**own, **asdict(self.intent), "detail": self.detail}


class Journal:
    """Passes events to the log, to `on_event` and to the file at `path`, if they are given.

    `error` says why the file could not be written; None if it could.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        on_event: Callable[[AdminEvent], object] | None,
        clock: Clock,
    ) -> None:
        if path is not None:
            files.require_support()
        try:
            self._path = None if path is None else Path(path)
        except TypeError:
            raise ConfigurationError("journal_path must be the path of a file.") from None
        require_listener(on_event)
        self.error: str | None = None
        self._on_event = on_event
        self._clock = clock
        self.under_way = UnderWay(self._path)
        self._told: deque[AdminEvent] = deque(maxlen=MAX_RECENT)
        self._written: tuple[tuple[int, ...] | None, list[AdminEvent]] = (None, [])

    def now(self) -> datetime:
        """The time of day, as an aware datetime."""
        return datetime.fromtimestamp(self._clock.time(), UTC)

    async def begin(self, intent: Intent) -> None:
        """Write an intent down before anything is done.

        Raises ConfigurationError when that fails, unless it is an emergency.
        """
        failure = await self._tell(
            AdminEvent(
                intent=intent, step="intended", at=self.now(), result="ok", detail=intent.reason
            )
        )
        if failure is not None and not intent.emergency:
            raise ConfigurationError(
                f"The journal {self._path} can't be written ({failure}). Nothing was done. Make it "
                "writable, or give another journal_path."
            )

    async def tell(
        self, intent: Intent, step: str, result: Result = "ok", detail: str = ""
    ) -> None:
        """Note a step that was done; if the file can't be written, that is only logged."""
        await self._tell(
            AdminEvent(intent=intent, step=step, at=self.now(), result=result, detail=detail)
        )

    async def cut_off(self, tenant: str, operation: Operation) -> list[Intent]:
        """The revocations at `tenant` that a crash has cut off, as seen by `operation`.

        None while others run: what they have not finished is theirs. Raises as `unfinished` does.
        """
        async with operation.alone() as alone:
            return await self.unfinished(tenant) if alone else []

    async def unfinished(self, tenant: str, *, rotations: bool = False) -> list[Intent]:
        """The unfinished intents at `tenant`, oldest first.

        They are those to revoke, or with `rotations` those that only rotate.
        Raises ConfigurationError when the file can't be read.
        """
        open_intents: dict[str, Intent] = {}
        for intent, record in _lines(await self._read()):
            step = str(record["step"])
            if intent.tenant != tenant or (intent.action == "rotate") is not rotations:
                continue
            if intent.action in _DECISIONS:
                continue
            # A decision that was lifted must not be finished; and one revocation is enough.
            if intent.action == "reinstate" or step == "finished":
                open_intents = {n: i for n, i in open_intents.items() if i.kid != intent.kid}
            elif step in ENDS:
                open_intents.pop(intent.operation, None)
            else:
                open_intents.setdefault(intent.operation, intent)
        return list(open_intents.values())

    async def recent(self) -> list[AdminEvent]:
        """The latest events, at most MAX_RECENT, oldest first: of the file and of this process.

        Raises ConfigurationError when the file can't be read.
        """
        stamp = self._stamp()
        if stamp != self._written[0]:
            self._written = stamp, list(_events(await self._read(_RECENT_BYTES)))
        events = dict.fromkeys([*self._written[1], *self._told])
        return sorted(events, key=lambda event: event.at)[-MAX_RECENT:]

    def _stamp(self) -> tuple[int, ...] | None:
        """What differs once the file was changed; None without one."""
        try:
            info = None if self._path is None else self._path.stat()
        except OSError:
            return None
        return info and (info.st_ino, info.st_size, info.st_mtime_ns, info.st_mode)

    async def _read(self, last: int | None = None) -> bytes:
        """The whole file, or the lines in its last bytes; raises ConfigurationError."""
        if self._path is None:
            return b""
        try:
            data = await asyncio.to_thread(files.read_private, self._path, last=last)
        except OSError as error:
            raise ConfigurationError(
                f"The journal {self._path} can't be read ({error}). Make it readable, or give "
                "another journal_path."
            ) from None
        if data is not None and last is not None and len(data) == last:
            return data.partition(b"\n")[2]  # the first line is cut
        return data or b""

    async def _tell(self, event: AdminEvent) -> Exception | None:
        """Pass `event` on; returns why the file could not be written."""
        self._told.append(event)
        failure = await self._write(event)
        intent = event.intent
        logger.log(
            _LEVELS[event.result],
            "%s %s tenant=%s kid=%r actor=%r%s",
            *(intent.action, event.step, intent.tenant, intent.kid, intent.actor),
            f" detail={event.detail!r}" if event.detail else "",
        )
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                logger.exception("on_event raised for %s; the event was dropped", event.step)
        return failure

    async def _write(self, event: AdminEvent) -> Exception | None:
        if self._path is None:
            return None
        line = msgspec.json.encode(event.to_dict()) + b"\n"
        try:
            await asyncio.to_thread(
                partial(files.append_durably, self._path, line, after_torn=True, patience=PATIENCE)
            )
        except (OSError, ValueError) as error:
            self.error = f"The journal {self._path} can't be written ({error}): steps are missing."
            logger.error("%s", self.error)
            return error
        return None


def _events(data: bytes) -> Iterator[AdminEvent]:
    """The events in a journal, without lines that can't be read."""
    for _, record in _lines(data):
        try:
            event = msgspec.convert({**record, "intent": record}, AdminEvent)
        except msgspec.ValidationError:
            logger.warning("A line of the journal can't be read and is skipped.")
        else:
            if event.at.tzinfo is not None:
                yield event


def _lines(data: bytes) -> Iterator[tuple[Intent, dict[str, Any]]]:
    """The intents in a journal with their whole lines, without lines that can't be read.

    Without a torn line too: what it announces was not begun, what it reports is done once more.
    """
    for line in data.splitlines():
        try:
            record = msgspec.json.decode(line, type=dict[str, Any])
            str(record["step"])
            members = {name: record[name] for name in Intent.__slots__ if name in record}
            yield msgspec.convert(members, Intent), record
        except (msgspec.MsgspecError, ValueError, KeyError, RecursionError):
            logger.warning("A line of the journal can't be read and is skipped.")


def default_actor() -> str:
    """The user of this process, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"
