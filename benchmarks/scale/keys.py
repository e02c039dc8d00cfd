"""One issuer with 1 to 10,000 keys: verifying, publishing and refreshing, memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

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
from jwks_guard import TokenVerifier
from jwks_guard.jose.jwk import MAX_KEYS, VerificationKey

SIZES = (1, 10, 100, 1_000, 10_000)
ROUNDS, MEMORY_ROUNDS = 7, 3
SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class _Subject:
    """One size: the verifier, one without a cache on the same keys, and one that fetches."""

    cached: TokenVerifier
    uncached: TokenVerifier
    fetching: TokenVerifier
    tokens: list[bytes]
    sets: tuple[tuple[VerificationKey, ...], tuple[VerificationKey, ...]]
    """Two sets of that size, of which the last key is another one."""


async def measured(
    sizes: Sequence[int] = SIZES, rounds: int = ROUNDS, memory_rounds: int = MEMORY_ROUNDS
) -> Part:
    """All sizes in each round, so that a slow minute of the machine meets them all."""
    runs = Runs()
    async with AsyncExitStack() as stack:
        subjects = {size: await _subject(size, stack) for size in sizes}
        for number in rounds_within(SECONDS, rounds):
            for size in turned(tuple(sizes), number):
                await _round(subjects[size], size, runs)
    for _ in range(memory_rounds):
        for size in sizes:
            runs.add("memory of the process", "MB", size, megabytes_of("keys", size))
    return Part("keys", "key", runs.series())


async def _subject(size: int, stack: AsyncExitStack) -> _Subject:
    first = stubs(size)
    verifier = verifier_of(document(min(size, MAX_KEYS)))
    published(verifier, first[:MAX_KEYS])  # before the start: a refresh keeps the objects
    await stack.enter_async_context(verifier)
    published(verifier, first)
    one, another = document(size), document(size, first=1)
    fetching = await stack.enter_async_context(verifier_of(one, another, another, one))
    other = (*first[:-1], *stubs(1, first=size))
    return _Subject(verifier, uncached(verifier), fetching, tokens_by_keys(size), (first, other))


async def _round(subject: _Subject, size: int, runs: Runs) -> None:
    verifier, (first, other) = subject.cached, subject.sets
    runs.took("cached verify", "µs", size, await per_call(verifier.verify, subject.tokens))
    fresh = await per_call(subject.uncached.verify, subject.tokens)
    runs.took("uncached verify", "µs", size, fresh)
    exchange, restore = (partial(published, verifier, each) for each in (other, first))
    exchanged = least(exchange, restore, exchange, restore)
    runs.took("publish, one key exchanged", "ms", size, exchanged)
    runs.took("publish, unchanged", "ms", size, least(restore, restore, restore))
    refresh = subject.fetching.keys.refresh  # the set changes with every second answer
    first_pair, second_pair = [
        (await awaited(refresh()), await awaited(refresh())) for _ in range(2)
    ]
    exchanged, unchanged = map(min, first_pair, second_pair)
    runs.took("refresh, one key exchanged", "ms", size, exchanged)
    runs.took("refresh, unchanged", "ms", size, unchanged)
