"""What a flood of forged tokens leaves behind: memory after a million kids that nobody published.

    python -m benchmarks.forged

One process, which takes part in a fleet over a real Redis where redis-server is installed. Each
token names a kid of its own; half of them are signed by no key, half name a key that exists.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from benchmarks.footprint import rss
from benchmarks.machine import heading
from benchmarks.results import save
from benchmarks.stubbed import AUDIENCE, ISSUER, opened, token
from jwks_guard import InvalidTokenError, KeysUnavailableError, TokenVerifier
from jwks_guard.fleet import RedisFleet
from jwks_guard.jose.compact import b64url_encode

WARM_UP, MARKS = 20_000, (100_000, 500_000, 1_000_000)
PATIENCE = 10.0  # s


def forged(number: int, payload: str, signature: str) -> str:
    """A token that names a kid which nobody has seen before."""
    header = f'{{"alg":"RS256","typ":"JWT","kid":"forged-{number}"}}'
    return f"{b64url_encode(header.encode())}.{payload}.{signature}"


async def flood(verifier: TokenVerifier, marks: tuple[int, ...]) -> dict[str, float]:
    """Megabytes that the process has grown by after so many forged kids, since the warm-up."""
    _, payload, signature = token().split(".")
    grown, begin = {}, 0.0
    for number in range(1, marks[-1] + 1):
        try:
            await verifier.verify(forged(number, payload, signature))
        except (InvalidTokenError, KeysUnavailableError):
            pass
        else:
            sys.exit("a forged token was accepted")
        if number % 1000 == 0:
            await asyncio.sleep(0)  # the fleet's exchange has its turn
        if number == WARM_UP:
            begin = rss()
        if number in marks:
            grown[f"{number:,} kids"] = rss() - begin
    return grown


@asynccontextmanager
async def redis() -> AsyncIterator[str | None]:
    """The URL of a real Redis of its own; None where redis-server is missing."""
    if shutil.which("redis-server") is None:
        yield None
        return
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = await asyncio.create_subprocess_exec(
            "redis-server", *settings, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            await _listening(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            await process.wait()


async def _listening(port: int) -> None:
    until = monotonic() + PATIENCE
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if monotonic() > until:
                raise
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


async def measured() -> tuple[dict[str, float], int, bool]:
    """The growth by mark, how many kids the verifier counts, and whether a fleet was there."""
    async with redis() as url:
        fleet = RedisFleet(url) if url is not None else None
        async with opened(fleet=fleet) as verifier:
            await verifier.verify(token())
            grown = await flood(verifier, MARKS)
            return grown, len(verifier.usage()), fleet is not None


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(heading())
    grown, counted, with_fleet = asyncio.run(measured())
    print(
        f"forged tokens for {AUDIENCE} of {ISSUER}, {'with' if with_fleet else 'without'} a fleet"
    )
    for mark, megabytes in grown.items():
        print(f"grown after {mark:>14}  {megabytes:6.2f} MB")
    print(f"kids counted {counted}")
    save("forged", {"grown": grown, "counted": counted, "fleet": with_fleet})


if __name__ == "__main__":
    main()
