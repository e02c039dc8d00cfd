"""0 to 5,000 distrusted keys in one register: verifying, distrusting, memory, journal."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from benchmarks.rounds import turned
from benchmarks.scale.series import Part, Runs
from benchmarks.scale.timing import awaited, least, megabytes_of, per_call, rounds_within
from benchmarks.scale.verifiers import (
    document,
    published,
    stubs,
    tokens_by_keys,
    uncached,
    verifier_of,
)
from benchmarks.stubbed import distrusted_keys
from jwks_guard import TokenVerifier
from jwks_guard.jose.jwk import VerificationKey

SIZES = (0, 10, 100, 1_000, 5_000)
ROUNDS, MEMORY_ROUNDS = 7, 3
SECONDS = 40.0
KEYS = 3
DECIDED = 3


@asynccontextmanager
async def verifier_with_decisions(size: int, folder: Path) -> AsyncIterator[TokenVerifier]:
    """A started verifier of three keys, with so many decisions in its register and its journal."""
    verifier = verifier_of(document(KEYS), snapshot_path=folder / "keys.json")
    verifier.keys.register.merge(distrusted_keys(size))
    published(verifier, stubs(KEYS))
    async with verifier:
        await verifier.keys.decisions.written()
        yield verifier


async def measured(
    sizes: Sequence[int] = SIZES, rounds: int = ROUNDS, memory_rounds: int = MEMORY_ROUNDS
) -> Part:
    """All sizes in each round, each time with a register and a journal that are new."""
    runs, tokens = Runs(), tokens_by_keys(KEYS)
    sets = stubs(KEYS), (*stubs(KEYS - 1), *stubs(1, first=KEYS))
    for number in rounds_within(SECONDS, rounds):
        for size in turned(tuple(sizes), number):
            with tempfile.TemporaryDirectory() as folder:
                await _round(size, Path(folder), tokens, sets, runs)
    for _ in range(memory_rounds):
        for size in sizes:
            runs.add("memory of the process", "MB", size, megabytes_of("decisions", size))
    return Part("decisions", "decision", runs.series())


async def _round(
    size: int,
    folder: Path,
    tokens: Sequence[bytes],
    sets: Sequence[Sequence[VerificationKey]],
    runs: Runs,
) -> None:
    async with verifier_with_decisions(size, folder) as verifier:
        runs.took("cached verify", "µs", size, await per_call(verifier.verify, tokens))
        runs.took("uncached verify", "µs", size, await per_call(uncached(verifier).verify, tokens))
        exchange, restore = (partial(published, verifier, each) for each in (sets[1], sets[0]))
        runs.took("publish", "ms", size, least(exchange, restore, exchange, restore))
        journal = verifier.keys.register.journals[0].path
        runs.add("journal", "KB", size, journal.stat().st_size / 1e3 if size else 0.0)
        here, everywhere = await _decided(verifier)
        runs.took("distrust(), in effect", "ms", size, here)
        runs.took("distrust(), stored", "ms", size, everywhere)
    after = verifier_of(document(KEYS), snapshot_path=folder / "keys.json")
    runs.took("start with that journal", "ms", size, await awaited(after.start()))
    await after.aclose()


async def _decided(verifier: TokenVerifier) -> tuple[float, float]:
    """Seconds until a decision is in effect, and until it is stored: the least of a few of each."""
    here, everywhere = [], []
    for number in range(DECIDED):
        decide = partial(verifier.keys.decisions.decide, f"new-{number}", reason="leaked")
        here.append(least(decide))
        await verifier.keys.decisions.written()
        everywhere.append(await awaited(verifier.distrust(f"newer-{number}", reason="leaked")))
    return min(here), min(everywhere)
