"""What happens to keys, told to the caller's `on_event` and to the `jwks_guard` logger."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass, field

from jwks_guard.base.clock import Clock

logger = logging.getLogger("jwks_guard")
LOG_PAUSE_SECONDS = 60.0
"""The same thing is written to the log at most this often; `on_event` hears it every time."""
REMEMBERED_LINES = 256

_LEVELS = {
    "key_added": logging.INFO,
    "key_removed": logging.INFO,
    "key_reinstated": logging.INFO,
    "refresh_recovered": logging.INFO,
    "key_distrusted": logging.WARNING,
    "refresh_failed": logging.WARNING,
    "trust_expired": logging.WARNING,
    "snapshot_ignored": logging.WARNING,
    "snapshot_failed": logging.WARNING,
    "token_refused": logging.DEBUG,
}


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

    def tell(
        self, kind: str, *, kid: str | None = None, code: str | None = None, detail: str = ""
    ) -> None:
        """Log the event and hand it to `on_event`; what that raises is logged."""
        try:
            self._log(kind, kid, code, detail)
            if self.on_event is not None:
                self.on_event(Event(kind, self.issuer, self.clock.time(), kid, code, detail))
        except (Exception, CancelledError):  # of a task that was asked for its result, say
            logger.exception("on_event raised for %s; the event was dropped", kind)

    def _log(self, kind: str, kid: str | None, code: str | None, detail: str) -> None:
        level = _LEVELS[kind]
        if not logger.isEnabledFor(level):
            return
        if level > logging.DEBUG and self._said_lately((kind, kid, detail)):
            return
        printed = detail if detail.isprintable() else repr(detail)
        known = (
            None if kid is None else f"kid={kid!r}",
            None if code is None else f"code={code}",
            printed or None,
        )
        line = " ".join((kind, f"issuer={self.issuer}", *filter(None, known)))
        logger.log(level, "%s", line)

    def _said_lately(self, what: tuple[str, str | None, str]) -> bool:
        """Any thread may be here: single dict operations, and a lost race logs a line twice."""
        now = self.clock.monotonic()
        if now - self._logged_at.get(what, float("-inf")) < LOG_PAUSE_SECONDS:
            return True
        if len(self._logged_at) >= REMEMBERED_LINES:
            self._logged_at.clear()
        self._logged_at[what] = now
        return False
