"""100 to 5,000 open WebSockets on one uvicorn: closing all of them, memory, processor time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import httpx

from benchmarks.scale.processes import (
    Helper,
    cpu_seconds,
    free_files,
    process,
    resident_megabytes,
    wait_for_port,
)
from benchmarks.scale.series import Part, Runs
from benchmarks.scale.timing import rounds_within
from benchmarks.tenants import free_port
from jwks_guard.testing import LocalTenant

SIZES = (100, 500, 1_000, 2_500, 5_000)
ROUNDS = 3
SECONDS = 20.0  # for each size, unless two rounds take longer
IDLE_SECONDS = 3.0
POLICY_VIOLATION = "1008"


@dataclass(frozen=True, slots=True)
class _Server:
    pid: int
    port: int
    tenant: LocalTenant
    kids: list[str]
    """Keys that are published, and not used any more."""

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}/{path}"

    def distrust(self, kid: str) -> float:
        """When the call began in the server."""
        url = f"http://127.0.0.1:{self.port}/distrust/{kid}"
        return float(httpx.post(url, timeout=60, trust_env=False).raise_for_status().json()["at"])


def measured(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> Part:
    """A new server for each size and kind of WebSocket."""
    notes: list[str] = []
    runs, most = Runs(), free_files()
    if most < max(sizes):
        notes.append(f"No more than {most:,} WebSockets: `ulimit -Hn` allows no more open files.")
    for size in (each for each in sizes if each <= most):
        with _served(rounds) as server, closing(_clients()) as load:
            for number in rounds_within(SECONDS, rounds, at_least=2):
                _guarded(size, server.kids[number], server, load, runs)
        with _served(0) as server, closing(_clients()) as load:
            _unguarded(size, server, load, runs)
    return Part("sockets", "WebSocket", runs.series(), notes=notes)


def _guarded(size: int, kid: str, server: _Server, load: Helper, runs: Runs) -> None:
    token = server.tenant.token(key=kid)
    opening = _open(size, "guarded", token, server, load)
    runs.took("to open one", "ms", size, opening / size)
    runs.add("memory", "MB", size, resident_megabytes(server.pid))
    runs.add("processor while idle", "ms/s", size, _idle_milliseconds(server.pid))
    before = cpu_seconds(server.pid)
    began = server.distrust(kid)
    closed = load.answer()
    if closed["codes"] != {POLICY_VIOLATION: size}:
        sys.exit(f"the WebSockets of a distrusted key were closed with {closed['codes']}")
    runs.took("distrust to last close", "ms", size, closed["last"] - began)
    runs.took("processor to close all", "ms", size, cpu_seconds(server.pid) - before)


def _unguarded(size: int, server: _Server, load: Helper, runs: Runs) -> None:
    _open(size, "open", "", server, load)
    runs.add("memory, unguarded", "MB", size, resident_megabytes(server.pid))
    runs.add("processor while idle, unguarded", "ms/s", size, _idle_milliseconds(server.pid))
    load.send()
    load.answer()


def _open(size: int, path: str, token: str, server: _Server, load: Helper) -> float:
    """Seconds that it took to open so many."""
    began = time.monotonic()
    load.send(url=server.url(path), count=size, token=token, until_closed=path == "guarded")
    if load.answer()["open"] != size:
        sys.exit("not every WebSocket could be opened")
    return time.monotonic() - began


def _idle_milliseconds(pid: int) -> float:
    """Processor time of each second."""
    before = cpu_seconds(pid)
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds(pid) - before) * 1e3 / IDLE_SECONDS


@contextmanager
def _served(old_keys: int) -> Iterator[_Server]:
    with LocalTenant(algorithm="ES256") as tenant:
        for _ in range(old_keys + 1):
            tenant.rotate()
        unused = {tenant.key("current").kid, tenant.key("next").kid}
        kids = [key.kid for key in tenant.signing_keys if key.kid not in unused]
        port = free_port()
        app = "benchmarks.scale.sockets_app:app"
        command = [sys.executable, "-m", "uvicorn", "--log-level=warning", f"--port={port}", app]
        with process(command, {"ISSUER": tenant.issuer, "AUDIENCE": tenant.audience}) as pid:
            wait_for_port(port)
            yield _Server(pid, port, tenant, kids)


def _clients() -> Helper:
    return Helper("benchmarks.scale.sockets_load")
