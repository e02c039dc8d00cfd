"""The `jwks-guard` command: in this process, or in one of its own with a terminal or without."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from jwks_guard.cli.app import app
from jwks_guard.testing import LocalTenant
from tests.process.programs import run_to_end, show
from tests.support import PATIENCE

PROGRAM = (sys.executable, "-m", "jwks_guard")
KEYS = (*PROGRAM, "keys")
FORCED = ("--force", "--reason", "no fleet says whether it is ready")


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of this process without what configures the command or its terminal."""
    foreign = ("JWKS_GUARD_", "XDG_", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_", "TERM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "HOME": str(home), "TERM": "xterm", **variables}


def of_tenant(tenant: LocalTenant) -> dict[str, str]:
    return {
        "JWKS_GUARD_DOMAIN": tenant.issuer,
        "JWKS_GUARD_CLIENT_ID": tenant.client_id,
        "JWKS_GUARD_CLIENT_SECRET": tenant.client_secret,
    }


def run(
    environ: Mapping[str, str], *arguments: str, command: Sequence[str] = KEYS
) -> subprocess.CompletedProcess[str]:
    """Run it to its end in this process, without a terminal, of 80 columns."""
    assert tuple(command[: len(PROGRAM)]) == PROGRAM
    words = [*command[len(PROGRAM) :], *arguments]
    removed = dict.fromkeys(os.environ.keys() - environ.keys())
    variables = {**removed, "COLUMNS": "80", **environ}
    told = CliRunner().invoke(
        app, words, env=variables, prog_name="jwks-guard", catch_exceptions=False
    )
    done = subprocess.CompletedProcess(
        ["jwks-guard", *words], told.exit_code, told.stdout, told.stderr
    )
    show(done)
    return done


def run_process(
    environ: Mapping[str, str], *arguments: str, command: Sequence[str] = KEYS
) -> subprocess.CompletedProcess[str]:
    """Run it to its end in a process of its own, without a terminal."""
    return run_to_end([*command, *arguments], env=environ)


@contextmanager
def started(
    environ: Mapping[str, str], *arguments: str, command: Sequence[str] = KEYS
) -> Iterator[subprocess.Popen[str]]:
    """Run it without a terminal, for as long as the block lasts."""
    process = subprocess.Popen(
        [*command, *arguments],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@dataclass(slots=True)
class Terminal:
    """A terminal in which the command runs; `shown` is all that it has written so far."""

    process: subprocess.Popen[bytes]
    descriptor: int
    shown: str = ""

    def expect(self, text: str) -> None:
        """Wait until `text` is shown."""
        self.expect_until(lambda shown: text in shown)

    def expect_until(self, condition: Callable[[str], bool]) -> None:
        """Wait until it holds for what is shown."""
        until = time.monotonic() + PATIENCE
        while not condition(self.shown):
            assert self._read(until), f"it ends with {self.shown!r}"

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def status(self) -> int:
        """Wait for the command's end; gives its exit status."""
        until = time.monotonic() + PATIENCE
        while self._read(until):
            pass
        return self.process.wait(PATIENCE)

    def interrupted(self) -> int:
        """Press Ctrl-C until it ends: one that comes just before a read begins is not noticed."""
        for _ in range(10):
            self.process.send_signal(signal.SIGINT)
            until = time.monotonic() + PATIENCE / 10
            while self._read(until):
                pass
            if self.process.poll() is not None:
                break
        return self.process.wait(PATIENCE)

    def _read(self, until: float) -> bool:
        """Take in what comes next; whether there was something before the end and in time."""
        ready, _, _ = select.select([self.descriptor], [], [], max(0.0, until - time.monotonic()))
        data = b""
        if ready:
            with suppress(OSError):  # the other end is closed
                data = os.read(self.descriptor, 65_536)
        self.shown += data.decode().replace("\r\n", "\n")
        return bool(data)


@contextmanager
def terminal(
    environ: Mapping[str, str], *arguments: str, command: Sequence[str] = KEYS, **popen: Any
) -> Iterator[Terminal]:
    """Run it in a terminal, by default of 80 columns, for as long as the block lasts."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*command, *arguments],
        env={"COLUMNS": "80", **environ},
        **{"stdin": theirs, "stdout": theirs, "stderr": theirs, **popen},
        start_new_session=True,  # or it would ask on the terminal of whoever runs the tests
    )
    os.close(theirs)
    shown = Terminal(process, ours)
    try:
        yield shown
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(ours)
        sys.stdout.write(shown.shown)  # where a test fails, pytest shows it
