"""How long calls take, and what a process takes up."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PASSES, SLICE = 5, 50
PATIENCE = 120.0  # s for one process of its own


async def per_call(call: Callable[[Any], Awaitable[object]], arguments: Sequence[object]) -> float:
    """Seconds of one call, on average over one with each of the arguments.

    They are gone through PASSES times, and of each SLICE of them the fastest pass counts: a slice
    is so short that what else runs on the machine leaves one of them alone. The first pass makes
    what later ones find, such as cached results.
    """
    gc.collect()  # or the garbage of what was made before is collected within the passes
    slices = [arguments[begin : begin + SLICE] for begin in range(0, len(arguments), SLICE)]
    fastest = [math.inf] * len(slices)
    for _ in range(PASSES):
        for number, part in enumerate(slices):
            began = time.perf_counter()
            for each in part:
                await call(each)
            fastest[number] = min(fastest[number], time.perf_counter() - began)
    return sum(fastest) / len(arguments)


def least(*calls: Callable[[], object]) -> float:
    """Seconds of the call that took the least, of those made one after the other."""
    return min(map(_taken, calls))


def _taken(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


async def awaited(step: Awaitable[object]) -> float:
    """Seconds until `step` has ended."""
    began = time.perf_counter()
    await step
    return time.perf_counter() - began


def megabytes_of(kind: str, size: int) -> float:
    """Megabytes of memory of a fresh process that holds so many things of that kind."""
    command = [sys.executable, "-m", "benchmarks.scale.memory", kind, str(size)]
    ran = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=PATIENCE)
    return float(ran.stdout)


def rounds_within(seconds: float, count: int, at_least: int = 3) -> Iterator[int]:
    """The numbers of `count` rounds; fewer once `seconds` are over, but `at_least` so many."""
    until = time.monotonic() + seconds
    for number in range(count):
        if number >= at_least and time.monotonic() > until:
            return
        yield number
