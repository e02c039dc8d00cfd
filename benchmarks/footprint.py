"""What the library takes up: memory of cached results, and the time to import it.

    python -m benchmarks.footprint

Memory is measured in fresh processes on tokens that are all distinct. Signing 200,000 of them would
take minutes, so the keys are stubs that take made-up signatures; the cache keeps no signature.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from dataclasses import asdict
from pathlib import Path

from benchmarks.environments import BUILT
from benchmarks.machine import heading
from benchmarks.results import save
from benchmarks.rounds import Ratio, at_most, turned
from benchmarks.stubbed import opened, token
from jwks_guard import TokenVerifier

MEGABYTE = 1e6
STATM = Path("/proc/self/statm")  # this process's memory, in pages (Linux)
CACHED, FLOOD = 10_000, (10_000, 20_000, 100_000, 200_000)
ROUNDS = at_most(21)
# Where click and rich are installed, as they are for development, httpx imports them for its own
# command line. That would flatter us: both sides go without.
BARE = "import sys; sys.modules.update(click=None, rich=None)"
IMPORTS = {
    "bare": BARE,
    "httpx + jwt": f"{BARE}; import httpx, jwt",
    "jwks_guard": f"{BARE}; import jwks_guard",
}
# From there on both can be imported again, so that it shows if we do.
BROUGHT = f"""
{BARE}
import json, httpx, jwt
del sys.modules["click"], sys.modules["rich"]
before = set(sys.modules)
import jwks_guard
brought = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(json.dumps(sorted(name for name in brought if not name.startswith("_"))))
"""


# --- memory, each figure in a process of its own ---


async def resident(*, read: bool) -> dict[str, float]:
    """Megabytes that the process has grown by after so many distinct tokens.

    read: each result's claims and scopes are read once, as an application does. They are made then.
    """
    grown = {}
    async with opened(token_cache_size=CACHED) as verifier:
        begin = rss()
        for number in range(1, FLOOD[-1] + 1):
            await verified(verifier, number, read)
            if number in FLOOD:
                grown[f"{number:,} tokens"] = rss() - begin
    return grown


async def allocated(*, read: bool) -> dict[str, float]:
    """Megabytes that Python has allocated after as many tokens as the cache holds."""
    async with opened(token_cache_size=CACHED) as verifier:
        tracemalloc.start()
        for number in range(CACHED):
            await verified(verifier, number, read)
        return {"tracemalloc": tracemalloc.get_traced_memory()[0] / MEGABYTE}


async def verified(verifier: TokenVerifier, number: int, read: bool) -> None:
    result = await verifier.verify(token(number))
    if read:
        _ = result.claims, result.scopes


def rss() -> float:
    """Megabytes of this process that are in memory. Needs /proc, which Linux has."""
    pages = int(STATM.read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


MEASURES = {"allocated": allocated, "resident": resident}


def memory() -> dict[str, dict[str, float]]:
    """Megabytes by row and column of the table; without /proc only what Python has allocated."""
    rows = {"results as they are made": "", "claims and scopes read": "--read"}
    measures = MEASURES if STATM.exists() else ("allocated",)
    return {
        row: {
            column: megabytes
            for measure in measures
            for column, megabytes in json.loads(
                output("-m", "benchmarks.footprint", "--measure", measure, *read.split())
            ).items()
        }
        for row, read in rows.items()
    }


# --- import time ---


def import_times() -> tuple[dict[str, float], Ratio]:
    """Seconds that a process takes, imports and all; ours to the others', less a bare process."""
    for code in IMPORTS.values():
        output("-c", code)  # compiles, and fills the disk's cache
    rounds = [
        {name: seconds(IMPORTS[name]) for name in turned(tuple(IMPORTS), number)}
        for number in range(ROUNDS)
    ]
    net = [
        (each["jwks_guard"] - each["bare"]) / (each["httpx + jwt"] - each["bare"])
        for each in rounds
    ]
    medians = {name: statistics.median(each[name] for each in rounds) for name in IMPORTS}
    return medians, Ratio.of(net)


def seconds(code: str) -> float:
    began = time.perf_counter()
    output("-c", code)
    return time.perf_counter() - began


def output(*arguments: str) -> str:
    """What a Python process prints.

    It has compiled modules from an earlier process, ours like the others, whatever the environment
    says about writing them.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(BUILT / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *arguments]
    ran = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, timeout=120)
    return ran.stdout.decode()


# --- the report ---


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure memory and import time.")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(asyncio.run(MEASURES[arguments.measure](read=arguments.read))))
        return
    print(heading())
    megabytes = memory()
    print_memory(megabytes)
    times, ratio = import_times()
    print_imports(times, ratio)
    figures = {"megabytes": megabytes, "import_seconds": times, "import_ratio": asdict(ratio)}
    save("footprint", figures)


def print_memory(megabytes: dict[str, dict[str, float]]) -> None:
    print(f"\nMB (10**6 bytes) for a cache of {CACHED:,} results.")
    columns = next(iter(megabytes.values()))
    growth = "After the first column: growth of RSS."
    if len(columns) == 1:
        growth = f"Growth of RSS is not measured: that needs {STATM}, which is not here."
    print(f"Tokens are distinct, of {len(token())} bytes. {growth}")
    print(f"{'':<26}" + "".join(f"{column:>16}" for column in columns))
    for row, figures in megabytes.items():
        print(f"{row:<26}" + "".join(f"{figure:16.1f}" for figure in figures.values()))


def print_imports(times: dict[str, float], ratio: Ratio) -> None:
    print(f"\nms for a process that imports this, median of {ROUNDS} rounds, alternately")
    print(f"{'':<26}{'as measured':>16}{'less bare':>16}")
    for name in IMPORTS:
        net = (times[name] - times["bare"]) * 1e3
        print(f"{name:<26}{times[name] * 1e3:16.1f}{net:16.1f}")
    print(f"jwks_guard / httpx + jwt, less bare, median with the lowest and the highest: {ratio}")
    brought = json.loads(output("-c", BROUGHT))
    print("besides httpx and jwt it imports " + ", ".join(brought))
    web = sorted({"starlette", "rich"}.intersection(brought))
    print(f"of starlette and rich: {', '.join(web) or 'neither'}")


if __name__ == "__main__":
    main()
