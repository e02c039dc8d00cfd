"""The server has a core to itself; the load, the tenants and this process share another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

# Read before this process leaves the server's core.
_ALLOWED = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
_TASKSET = shutil.which("taskset")


def _siblings(core: int) -> str:
    """The processors that are threads of the same core, as Linux lists them."""
    listed = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    return listed.read_text().strip() if listed.exists() else str(core)


def _chosen() -> tuple[int, int] | None:
    """The server's processor and the load's, on two cores if there are two."""
    if _TASKSET is None or len(_ALLOWED) < 2:
        return None
    server, *others = _ALLOWED
    apart = [each for each in others if _siblings(each) != _siblings(server)]
    return server, (apart or others)[0]


CORES = _chosen()


def pinned() -> str:
    """Whether server and load had a core each, for people to read."""
    if CORES is None:
        why = "only one core is allowed here" if _TASKSET else "taskset is not installed"
        return f"Server and load were not kept on cores of their own: {why}."
    server, load = CORES
    same = _siblings(server) == _siblings(load)
    note = ", which are two threads of one core" if same else ""
    return f"The server was kept on processor {server}, the load on processor {load}{note}."


def on_server_core(command: Sequence[str]) -> list[str]:
    """The command kept on the server's core, where that is possible."""
    return _on(0, command)


def on_load_core(command: Sequence[str]) -> list[str]:
    """The command kept on the load's core, where that is possible."""
    return _on(1, command)


def _on(which: int, command: Sequence[str]) -> list[str]:
    if CORES is None:
        return list(command)
    return ["taskset", "--cpu-list", str(CORES[which]), *command]


def leave_the_server_alone() -> None:
    """Keep this process, and what it starts from here on, off the server's core."""
    if CORES is not None:
        os.sched_setaffinity(0, {CORES[1]})
