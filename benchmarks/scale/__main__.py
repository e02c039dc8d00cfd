"""Measure all parts, or those that are named, print the figures and keep them."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from types import FrameType

from benchmarks import results
from benchmarks.machine import heading
from benchmarks.scale import decisions, fleet, issuers, keys, sockets
from benchmarks.scale.series import Part
from benchmarks.scale.tables import figures_table, models_table, runs_of

PARTS: dict[str, Callable[[], Part | Awaitable[Part]]] = {
    "keys": keys.measured,
    "issuers": issuers.measured,
    "decisions": decisions.measured,
    "sockets": sockets.measured,
    "fleet": fleet.measured,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how cost and memory grow.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all")
    wanted = parser.parse_args().parts or list(PARTS)
    signal.signal(signal.SIGTERM, _stop)
    logging.getLogger("jwks_guard").setLevel(logging.ERROR)  # each decision is a warning
    print(heading(), flush=True)
    for name in wanted:
        began = time.monotonic()
        part = PARTS[name]()
        if not isinstance(part, Part):
            part = asyncio.run(_awaited(part))
        results.save(f"scale-{name}", asdict(part))
        print(f"\n{_text(part)}\n({time.monotonic() - began:.0f} s)", flush=True)


def _text(part: Part) -> str:
    head = f"By the number of {part.per}s: median of {runs_of(part)} (least to greatest)."
    return "\n".join([head, *part.notes, "", *figures_table(part), "", *models_table(part)])


async def _awaited(measuring: Awaitable[Part]) -> Part:
    return await measuring


def _stop(signum: int, frame: FrameType | None) -> None:
    """Leave by an exception, so that the processes are stopped."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
