"""Guarded apps against unguarded ones over HTTP, also in a flood of forged tokens.

`make bench-http` needs wrk, and node and npm for the Node peers. It takes about seven minutes, and
with ROUNDS=1 about two, whose figures say little.
Every app is seen to answer 200 to a good token and 401 to a bad one before it is measured; one
that can't be had or does not, is named with the reason, and the others are measured.
"""

from __future__ import annotations

import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from benchmarks import results
from benchmarks.http_apps import flood, throughput
from benchmarks.http_apps.catalogue import (
    APPS,
    OUR_PACKAGE,
    UNGUARDED,
    UnavailableError,
)
from benchmarks.http_apps.cores import leave_the_server_alone, pinned
from benchmarks.http_apps.server import Served, served
from benchmarks.machine import heading


def main() -> None:
    if shutil.which("wrk") is None:
        sys.exit("This benchmark needs wrk:\n    apt-get install -y wrk")
    signal.signal(signal.SIGTERM, _stop)
    leave_the_server_alone()
    with TemporaryDirectory() as folder, ExitStack() as running:
        apps, missing = _started(Path(folder), running)
        print(heading(), end="\n\n", flush=True)
        for app, reason in missing.items():
            print(f"not measured: {app}: {reason}")
        print(pinned(), end="\n\n")
        rates, failed = throughput.measured(apps)
        print(throughput.table(rates), end="\n\n", flush=True)
        floods, drowned = flood.measured(_flooded(apps))
        print(flood.table(floods), flush=True)
    for app, reason in {**failed, **drowned}.items():
        print(f"failed: {app}: {reason}")
    left_out = {**missing, **failed, **drowned}
    figures = {"cores": pinned(), "throughput": rates, "flood": floods, "not_measured": left_out}
    results.save("http", figures)


def _started(folder: Path, running: ExitStack) -> tuple[list[Served], dict[str, str]]:
    """The apps that run and guard as they should, and why the others don't."""
    apps: list[Served] = []
    missing: dict[str, str] = {}
    for app in APPS:
        try:
            apps.append(running.enter_context(served(app, folder)))
        except UnavailableError as reason:
            if app.package == OUR_PACKAGE:
                sys.exit(f"{app.title}: {reason}")
            missing[app.title] = str(reason)
    compared = {each.app.framework for each in apps if each.app.name == UNGUARDED}
    return [each for each in apps if each.app.framework in compared], missing


def _flooded(apps: list[Served]) -> list[Served]:
    """Every peer and our guard, and one unguarded app to show what the load alone does."""
    guarded = [each for each in apps if each.app.guarded]
    flooded = [each for each in guarded if each.app.package != OUR_PACKAGE or each.app.plain]
    return [*apps[:1], *flooded]


def _stop(signum: int, frame: FrameType | None) -> None:
    """Leave by an exception, so that the servers are stopped."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
