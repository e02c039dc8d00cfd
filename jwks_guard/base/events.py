"""What happens to keys, told to the caller's `on_event` and to the `jwks_guard` logger.

docs/logging.md shows every line with its fields.
"""

from __future__ import annotations

import logging
import re
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jwks_guard.base.clock import Clock
from jwks_guard.base.tally import Tally, summary

logger = logging.getLogger("jwks_guard")
LOG_PAUSE_SECONDS = 60.0
"""The same thing is written to the log at most this often; `on_event` hears it every time."""
OUTAGE_PAUSE_SECONDS = 600.0
"""The same cause is written this often while an outage goes on."""
SUMMARY_SECONDS = 60.0
"""Refused tokens are summed up at most this often."""
REMEMBERED_LINES = 256
_DURATION = re.compile(r"\S+ s\b")
"""The age of an answer, say: with it the same cause would read differently each time."""

# Without a handler of the application Python shows WARNING and above: both ends of an outage and of
# a distrust are shown then, not the end alone or the beginning alone.
LEVELS = {
    "started": logging.INFO,
    "key_added": logging.INFO,
    "key_removed": logging.INFO,
    "key_distrusted": logging.WARNING,
    "key_reinstated": logging.WARNING,
    "refresh_failed": logging.WARNING,
    "refresh_recovered": logging.WARNING,
    "trust_expired": logging.ERROR,
    "snapshot_ignored": logging.WARNING,
    "snapshot_failed": logging.WARNING,
    "token_refused": logging.DEBUG,
    "refusal_summary": logging.INFO,
}
"""The log level of each kind."""
_NONE: Mapping[str, object] = {}
LOGGED_ONLY = frozenset({"started", "refusal_summary"})
"""The kinds that `on_event` is not called for."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    `kind` is one of key_added, key_removed, key_distrusted, key_reinstated, refresh_failed,
    refresh_recovered, trust_expired, snapshot_ignored, snapshot_failed, token_refused; `at` is in
    seconds since the epoch; `code` is an error's code; `detail` is for people. The kid of a refused
    token is what the token claims: untrusted text.
    """

    kind: str
    issuer: str
    at: float
    kid: str | None = None
    code: str | None = None
    detail: str = ""


@dataclass(slots=True)
class Events:
    """Tells events of one issuer; never raises."""

    issuer: str
    clock: Clock
    on_event: Callable[[Event], object] | None
    _logged_at: dict[tuple[str, str | None, str], float] = field(init=False, default_factory=dict)
    _failing: bool = field(init=False, default=False)
    _failure_shown: bool = field(init=False, default=False)
    _refused: Tally = field(init=False, default_factory=Tally)

    def tell(
        self, kind: str, *, kid: str | None = None, code: str | None = None, detail: str = ""
    ) -> None:
        """Log the event and hand it to `on_event`; what that raises is logged."""
        try:
            if kind == "token_refused":
                self.sum_up_if_due()
                self._refused.add(code or kind, self.clock.monotonic())
            level = LEVELS[kind]
            if logger.isEnabledFor(level) and self._is_due(kind, kid, detail):
                self._write(level, kind, detail, kid, code)
            if self.on_event is not None:
                self.on_event(Event(kind, self.issuer, self.clock.time(), kid, code, detail))
        except (Exception, CancelledError):  # of a task that was asked for its result, say
            logger.exception("on_event raised for %s; the event was dropped", kind)

    def log(self, kind: str, detail: str, **fields: object) -> None:
        """Write a line of a kind that is only logged; `fields` are attributes of its record."""
        level = LEVELS[kind]
        if logger.isEnabledFor(level):
            self._write(level, kind, detail, fields=fields)

    def sum_up(self) -> None:
        """Log how many tokens were refused since the last time, if any were."""
        refused, self._refused = self._refused, Tally()
        if codes := refused.codes():
            seconds = self.clock.monotonic() - refused.since
            fields = {"refused": sum(codes.values()), "codes": codes, "seconds": round(seconds, 3)}
            self.log("refusal_summary", summary(codes, seconds), **fields)

    def sum_up_if_due(self) -> None:
        """Do so if the first of those tokens was refused `SUMMARY_SECONDS` ago."""
        if self.clock.monotonic() - self._refused.since >= SUMMARY_SECONDS:
            self.sum_up()

    def after_fork(self) -> None:
        """In a forked child: the parent logs what it counted."""
        self._refused = Tally()

    def _write(
        self,
        level: int,
        kind: str,
        detail: str,
        kid: str | None = None,
        code: str | None = None,
        fields: Mapping[str, object] = _NONE,
    ) -> None:
        detail = printable(detail) or ""
        known = {"kid": printable(kid), "code": code, "detail": detail or None, **fields}
        extra = {name: value for name, value in known.items() if value is not None}
        parts = (
            f"issuer={self.issuer}",
            None if kid is None else f"kid={kid!r}",
            None if code is None else f"code={code}",
            detail or None,
        )
        text = " ".join(filter(None, parts))
        # The kind stands in the format: collectors of errors group what they get by it.
        form = f"{kind} %s"
        try:
            logger.log(level, form, text, extra={"kind": kind, "issuer": self.issuer, **extra})
        except KeyError:  # the application's record factory has set one of these names
            logger.log(level, form, text)

    def _is_due(self, kind: str, kid: str | None, detail: str) -> bool:
        """Whether the log takes a line of this now.

        The same line at most once a minute. While an outage goes on, a cause of it less often;
        its end is logged if its beginning was.
        """
        if LEVELS[kind] <= logging.DEBUG:
            return True
        if kind == "refresh_recovered":
            shown, self._failing, self._failure_shown = self._failure_shown, False, False
            return shown
        if kind != "refresh_failed":
            return not self._said_lately((kind, kid, detail), LOG_PAUSE_SECONDS)
        pause = OUTAGE_PAUSE_SECONDS if self._failing else LOG_PAUSE_SECONDS
        due = not self._said_lately((kind, kid, _DURATION.sub("", detail)), pause)
        self._failing = True
        self._failure_shown |= due
        return due

    def _said_lately(self, what: tuple[str, str | None, str], pause: float) -> bool:
        """Any thread may be here: single dict operations, and a lost race logs a line twice."""
        now = self.clock.monotonic()
        if now - self._logged_at.get(what, float("-inf")) < pause:
            return True
        if len(self._logged_at) >= REMEMBERED_LINES:
            self._logged_at.clear()
        self._logged_at[what] = now
        return False


def printable(text: str | None) -> str | None:
    """`text` for a log: with what is not printable, a line break say, escaped."""
    return text if text is None or text.isprintable() else repr(text)[1:-1]
