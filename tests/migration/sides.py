"""Both sides of a row: the other library's block and ours, each in a process of its own."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from jwks_guard.testing import LocalTenant
from tests.process.programs import PROJECT
from tests.support import PATIENCE, HandClock

Command: TypeAlias = Sequence[str | Path]
Outcome: TypeAlias = tuple[str, str]
"""Theirs and ours."""
Row: TypeAlias = Callable[["Pair"], Outcome]
"""What is done to a pair for one row of a table."""

ENTRA = "https://login.microsoftonline.com/8f2b0b1e-6f0c-4f6e-9d3b-2c1a7e5d4f90/v2.0"
ENTRA_API = "3d0e6a5c-71b2-4c8e-9f64-5a0c2b7d1e38"
GOOD = ("accepted", "200")
"""The outcomes of a token that is let in."""
WEEK = 7 * 86_400.0
"""Seconds that tokens live, so that only trust in their key decides."""


class Side:
    """A block of the page, run by `command`."""

    def __init__(self, process: subprocess.Popen[str], code: str) -> None:
        self._process = process
        self._code = code

    def open(self, replaced: dict[str, str], config_url: str) -> Any:
        """Run the block anew with these texts replaced: the warnings, or what it raised."""
        code = self._code
        for old, new in replaced.items():
            code = code.replace(old, new)
        return self.do("open", code=code, config_url=config_url)

    def do(self, what: str, **given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **given}) + "\n")
        self._process.stdin.flush()
        # One line for each command: none is left in the reader's buffer, where select won't look.
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        assert ready, f"no answer to {what!r} within {PATIENCE} s"
        line = self._process.stdout.readline()
        assert line, f"the process ended at {what!r}"
        return json.loads(line)


@dataclass
class Pair:
    """Theirs and ours in front of one tenant, and the clock of all three."""

    theirs: Side
    ours: Side
    tenant: LocalTenant
    clock: HandClock
    claims: dict[str, Any] = field(default_factory=dict)
    """What every token of this library's issuer has besides."""

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.theirs, self.ours

    def token(self, *, claims: dict[str, Any] | None = None, **shape: Any) -> str:
        """An access token that lives for a week unless told otherwise."""
        shape.setdefault("lifetime", WEEK)
        return self.tenant.token(claims={**self.claims, **(claims or {})}, **shape)

    def forged(self, **shape: Any) -> str:
        """The same by a key that was never published."""
        return self.tenant.forged_token(claims=self.claims, lifetime=WEEK, **shape)

    def open(self, **replaced: str) -> tuple[Any, Any]:
        """Start both anew, with the tenant's addresses."""
        texts = {**replaced, **addresses(self.tenant)}
        config_url = f"{self.tenant.issuer}.well-known/openid-configuration"
        theirs, ours = (side.open(texts, config_url) for side in self.sides)
        return theirs, ours

    def ask(self, token: str | None, **given: Any) -> Outcome:
        """What each of them says to a token; None is a request without one."""
        theirs, ours = (side.do("ask", token=token, **given) for side in self.sides)
        return theirs, ours

    def warm(self) -> None:
        """Start both anew and have them accept a token of the current key."""
        self.open()
        assert all(outcome in GOOD for outcome in self.ask(self.token()))

    def advance(self, seconds: float) -> None:
        """Let time pass for both and for the tenant."""
        self.clock.advance(seconds)
        for side in self.sides:
            side.do("advance", seconds=seconds)


def addresses(tenant: LocalTenant) -> dict[str, str]:
    """What the page's addresses are replaced with."""
    return {
        "https://acme.eu.auth0.com/": tenant.issuer,
        ENTRA: tenant.issuer,
        "acme.eu.auth0.com": urlsplit(tenant.issuer).netloc,
        "https://api.acme.com": tenant.audience,
        ENTRA_API: tenant.audience,
    }


@contextmanager
def running(
    command: Command, code: str, clock: HandClock, environment: Mapping[str, str]
) -> Iterator[Side]:
    """A side whose clock stands where `clock` does."""
    with subprocess.Popen(
        [*command, str(clock.time())],
        cwd=PROJECT,
        env={**os.environ, **environment, "NODE_ENV": "test"},  # in which Express logs no error
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Side(process, code)
        finally:
            process.kill()
