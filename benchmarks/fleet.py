"""How long a revoked key is still accepted anywhere in a fleet under load.

`make bench-fleet` needs redis-server and takes about a minute. It runs four uvicorn processes, and
then one `uvicorn --workers 4`, on one Redis, under a constant load of tokens by the key that is
revoked next and by one that stays good. Of 20 revocations each every other one is called in one of
the processes, the others by a program that has no verifier. An acceptance counts by when the app
was reached, so it is told from one that only was answered late.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from statistics import median
from tempfile import TemporaryDirectory
from types import FrameType

from benchmarks import results
from benchmarks.fleet_load import Load, called_in_one
from benchmarks.http_apps.catalogue import ROOT
from benchmarks.machine import heading
from benchmarks.rounds import at_most
from benchmarks.tenants import free_port
from jwks_guard.fleet import RedisFleet
from jwks_guard.testing import LocalTenant

PROCESSES = 4
REVOCATIONS = at_most(20)
WATCHED_SECONDS = 1.1
"""For so long acceptances are looked for after each call: longer than the worst may be."""
_PATIENCE = 30.0  # s for a server to start
SEPARATE, WORKERS = f"{PROCESSES} uvicorn processes", f"uvicorn --workers {PROCESSES}"


def main() -> None:
    if shutil.which("redis-server") is None:
        sys.exit("This benchmark needs redis-server:\n    apt-get install -y redis-server")
    signal.signal(signal.SIGTERM, _stop)
    print(heading(), end="\n\n", flush=True)
    figures = {}
    for setting in (SEPARATE, WORKERS):
        with ExitStack() as running:
            tenant, redis, ports = _started(setting, running)
            delays, load = asyncio.run(_revocations(tenant, redis, ports))
        figures[setting] = _figures(delays, load)
        print(_text(setting, figures[setting]), flush=True)
    results.save("fleet", figures)
    if any(each["refused_valid"] for each in figures.values()):
        sys.exit("valid tokens were refused")


async def _revocations(
    tenant: LocalTenant, redis: str, ports: Sequence[int]
) -> tuple[list[float], Load]:
    """Seconds from each call to the last acceptance anywhere, at least 0; and what the load saw."""
    kids = [key.kid for key in tenant.signing_keys if key.kid != tenant.key("next").kid][1:]
    delays = []
    async with (
        Load(ports, PROCESSES, good=_tokens(tenant, "current")) as load,
        RedisFleet(redis, issuer=tenant.issuer) as fleet,
    ):
        for kid, called_there in zip(kids[:REVOCATIONS], cycle((True, False))):
            await load.turn_to(_tokens(tenant, kid))
            if called_there:
                began = await called_in_one(ports[0], kid)
            else:
                began = time.monotonic()
                await fleet.distrust(kid, reason="revoked by the benchmark")
            await asyncio.sleep(max(0.0, began + WATCHED_SECONDS - time.monotonic()))
            delays.append(max(0.0, load.last_accepted - began))
            if not load.refused_everywhere():
                sys.exit(f"the revoked key is still accepted after {WATCHED_SECONDS} s")
    return delays, load


def _tokens(tenant: LocalTenant, key: str) -> list[str]:
    return [tenant.token(key=key, sub=f"auth0|{number}") for number in range(20)]


def _figures(delays: list[float], load: Load) -> dict[str, float]:
    return {
        "revocations": len(delays),
        "median": median(delays),
        "worst": max(delays),
        "requests": load.requests,
        "requests_per_second": round(load.requests / load.seconds),
        "gap": load.gap,
        "refused_valid": load.refused_good,
    }


def _text(setting: str, found: dict[str, float]) -> str:
    return (
        f"{setting}, one Redis, {found['requests_per_second']:.0f} requests/s: from the call of "
        f"`distrust` to the last acceptance anywhere, {found['revocations']:.0f} revocations\n"
        f"  each process is asked with the revoked key every {1000 * found['gap']:.1f} ms\n"
        f"  median {1000 * found['median']:6.1f} ms\n"
        f"  worst  {1000 * found['worst']:6.1f} ms\n"
        f"  valid tokens refused: {found['refused_valid']:.0f} of {found['requests'] / 2:.0f}\n"
    )


def _started(setting: str, running: ExitStack) -> tuple[LocalTenant, str, list[int]]:
    """A tenant whose old keys are all published still, the URL of a Redis, and the apps' ports."""
    tenant = running.enter_context(LocalTenant())
    for _ in range(REVOCATIONS + 1):
        tenant.rotate()
    folder, redis_port = running.enter_context(TemporaryDirectory()), free_port()
    settings = ["--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    running.enter_context(_process(["redis-server", *settings], {}))
    redis = f"redis://127.0.0.1:{redis_port}"
    variables = {"ISSUER": tenant.issuer, "AUDIENCE": tenant.audience, "REDIS": redis}
    app = [sys.executable, "-m", "uvicorn", "--log-level=warning", "benchmarks.fleet_app:app"]
    ports = [free_port() for _ in range(PROCESSES if setting == SEPARATE else 1)]
    several = [] if setting == SEPARATE else [f"--workers={PROCESSES}"]
    for port in ports:
        running.enter_context(_process([*app, f"--port={port}", *several], variables))
    return tenant, redis, ports


@contextmanager
def _process(command: list[str], variables: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for the driver, which then ends this
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _stop(signum: int, frame: FrameType | None) -> None:
    """Leave by an exception, so that the servers are stopped."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
