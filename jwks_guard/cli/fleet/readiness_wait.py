"""Wait until a key can be revoked, and show meanwhile what still blocks."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from jwks_guard.admin import KeyRotation
from jwks_guard.base.durations import span
from jwks_guard.cli.keys.session import UNREACHABLE
from jwks_guard.cli.words import date, printable
from jwks_guard.errors import JWKSGuardError
from jwks_guard.readiness.verdict import Blocker, RevocationReadiness

ASK_SECONDS = 5.0
"""Each time is a request to the tenant, whose rate limit all its clients share."""


@dataclass(slots=True)
class Waiting:
    """The latest verdict; `error` if the last request failed."""

    kid: str
    until: float
    readiness: RevocationReadiness
    error: str | None = None

    def __rich__(self) -> Group:
        """What still blocks, and for how long, as it is at this moment."""
        now = time.time()
        left = span(max(0.0, self.until - now))
        head = Text(f"{printable(self.kid)}: {self.readiness.verdict}, waiting for {left} more")
        lines = (Padding(Text(line.strip()), (0, 0, 0, 2)) for line in self.lines(now))
        return Group(head, *lines)

    def lines(self, now: float) -> list[str]:
        """One line for each thing that blocks."""
        lines = [_line(blocker, now) for blocker in self.readiness.blockers]
        return [f"  {printable(self.error)}", *lines] if self.error else lines

    def in_vain(self) -> bool:
        """Whether a blocker does not pass by itself."""
        return any(blocker.lasts for blocker in self.readiness.blockers)

    def blocking(self) -> frozenset[tuple[str, str | None]]:
        """What blocks, without its numbers."""
        error = {(self.error, None)} if self.error else set()
        return frozenset({(b.code, b.instance) for b in self.readiness.blockers} | error)


async def wait_until_ready(
    rotation: KeyRotation, kid: str, longest: timedelta, console: Console, *, quiet: bool
) -> RevocationReadiness:
    """Ask until `kid` can be revoked, or until `longest` has passed; returns the last verdict.

    A terminal shows a countdown, other output a line for each change; `quiet`: nothing. Raises what
    KeyRotation.revocation_readiness raises, if the first or the last request fails.
    """
    until = time.time() + longest.total_seconds()
    waiting = Waiting(kid, until, await rotation.revocation_readiness(kid))
    with ExitStack() as stack:
        if not quiet and console.is_terminal and waiting.readiness.verdict != "yes":
            live = Live(waiting, console=console, refresh_per_second=2, transient=True)
            stack.enter_context(live)
        told: object = None
        while waiting.readiness.verdict != "yes" or waiting.error:
            if not quiet and not console.is_terminal and told != (told := waiting.blocking()):
                _tell(waiting, console)
            if (left := until - time.time()) <= 0 or waiting.in_vain():
                break
            await asyncio.sleep(min(ASK_SECONDS, left))
            failure = await _ask(rotation, waiting)
            if failure is not None and time.time() >= until:
                raise failure
    return waiting.readiness


async def _ask(rotation: KeyRotation, waiting: Waiting) -> JWKSGuardError | None:
    """Update the verdict; returns the error if that fails."""
    try:
        waiting.readiness = await rotation.revocation_readiness(waiting.kid)
    except UNREACHABLE as error:
        waiting.error = f"{error} Asking again."
        return error
    waiting.error = None
    return None


def _tell(waiting: Waiting, console: Console) -> None:
    now = time.time()
    blocking = "; ".join(line.strip() for line in waiting.lines(now))
    line = f"{date(now, now).partition(',')[0]}  {waiting.readiness.verdict}: {blocking}"
    console.print(Text(printable(line)), soft_wrap=True)


def _line(blocker: Blocker, now: float) -> str:
    until = blocker.until or 0.0
    passes = f" [{span(until - now)} left]" if until > now else ""
    return f"  {printable(blocker.message)}{passes}"
