"""The server has a core to itself; the load, the tenants and this process share another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

SERVER, LOAD = 0, 1


def on_core(core: int, command: Sequence[str]) -> list[str]:
    """The command kept on one core, where taskset is there and there are two cores."""
    if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        return list(command)
    return ["taskset", "--cpu-list", str(core), *command]


def leave_the_server_alone() -> None:
    """Keep this process, and what it starts from here on, off the server's core."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {LOAD})
