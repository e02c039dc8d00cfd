"""Programs that a test starts, and of which nothing is left when it is over.

What they write is shown with a failing test: standard error as it comes, by pytest, and the rest by
`show`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import PATIENCE

PROJECT = Path(__file__).parents[2]


@contextmanager
def program(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Python with `arguments`; it and whatever it started have ended when the block is left."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def server(*arguments: str, bind: str, **environment: str) -> Iterator[httpx.Client]:
    """A client of the server that Python runs with `arguments`; it is asked to end in the end.

    `bind` is its option for a listening socket, which is open already: what is sent before the
    server is up waits there. Each request has a connection of its own, for any worker to accept.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            program(
                *arguments,
                bind.format(listener.fileno()),
                pass_fds=[listener.fileno()],
                env=os.environ | environment,
            ) as process,
            httpx.Client(
                base_url=address,
                trust_env=False,
                timeout=PATIENCE,
                limits=httpx.Limits(max_keepalive_connections=0),
            ) as client,
        ):
            yield client
            process.terminate()
            assert process.wait(PATIENCE) in (0, -signal.SIGTERM)  # uvicorn ends by the signal


def run_to_end(
    command: Sequence[str | Path], *, stdin: str = "", timeout: float = 5 * PATIENCE, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end; what it said is shown if the test fails."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
    show(done)
    return done


def show(done: subprocess.CompletedProcess[str]) -> None:
    """Print what a command said and its exit status; pytest shows that where a test fails."""
    words = " ".join(map(str, done.args))
    sys.stdout.write(f"$ {words}\n{done.stdout}{done.stderr}[status {done.returncode}]\n")


def require_program(name: str, install: str) -> None:
    """Skip the test where the program of that name is missing; where CI is set, fail it.

    `install` is the command that installs it.
    """
    if shutil.which(name) is None:
        message = f"needs {name}: {install}"
        if "CI" in os.environ:
            pytest.fail(message)
        pytest.skip(message)


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once it holds, or fail: for what happens in another process."""
    given_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < given_up, f"it does not hold within {PATIENCE} s"
        time.sleep(0.01)
