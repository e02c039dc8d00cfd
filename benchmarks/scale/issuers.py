"""A MultiIssuerVerifier of 1 to 1,000 issuers: verifying, publishing, starting, memory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks.rounds import turned
from benchmarks.scale.series import Part, Runs
from benchmarks.scale.timing import awaited, least, megabytes_of, per_call, rounds_within
from benchmarks.scale.verifiers import (
    document,
    issuer_of,
    published,
    stubs,
    tokens_of_issuers,
    uncached,
    verifier_of,
)
from jwks_guard import MultiIssuerVerifier
from jwks_guard.distrust.register import Register
from jwks_guard.jose.jwk import VerificationKey

SIZES = (1, 10, 100, 1_000)
ROUNDS, MEMORY_ROUNDS = 7, 3
SECONDS = 40.0


@asynccontextmanager
async def many_issuers(
    size: int, register: Register | None = None
) -> AsyncIterator[MultiIssuerVerifier]:
    """A started verifier of so many issuers, of which each has one key, a stub."""
    register = register or Register()
    verifiers = [
        verifier_of(document(1, first=number), issuer=number, register=register)
        for number in range(size)
    ]
    for number, verifier in enumerate(verifiers):
        published(verifier, stubs(1, first=number))
    async with MultiIssuerVerifier(verifiers) as multi:
        yield multi


@dataclass(frozen=True, slots=True)
class _Subject:
    cached: MultiIssuerVerifier
    uncached: MultiIssuerVerifier
    register: Register
    tokens: list[bytes]
    sets: tuple[tuple[VerificationKey, ...], tuple[VerificationKey, ...]]


async def measured(
    sizes: Sequence[int] = SIZES, rounds: int = ROUNDS, memory_rounds: int = MEMORY_ROUNDS
) -> Part:
    """All sizes in each round."""
    runs = Runs()
    async with AsyncExitStack() as stack:
        subjects = {size: await _subject(size, stack) for size in sizes}
        for number in rounds_within(SECONDS, rounds):
            for size in turned(tuple(sizes), number):
                await _round(subjects[size], size, number, runs)
    for _ in range(memory_rounds):
        for size in sizes:
            runs.took("start of all", "ms", size, await _started(size))
            runs.add("memory of the process", "MB", size, megabytes_of("issuers", size))
    return Part("issuers", "issuer", runs.series())


async def _subject(size: int, stack: AsyncExitStack) -> _Subject:
    register = Register()
    multi = await stack.enter_async_context(many_issuers(size, register))
    without = MultiIssuerVerifier([uncached(each) for each in multi.listed.values()])
    sets = (stubs(1), stubs(1, first=size))
    return _Subject(multi, without, register, tokens_of_issuers(size), sets)


async def _round(subject: _Subject, size: int, number: int, runs: Runs) -> None:
    runs.took("cached verify", "µs", size, await per_call(subject.cached.verify, subject.tokens))
    fresh = await per_call(subject.uncached.verify, subject.tokens)
    runs.took("uncached verify", "µs", size, fresh)
    one, (first, other) = subject.cached.listed[issuer_of(0)], subject.sets
    exchange, restore = (partial(published, one, each) for each in (other, first))
    runs.took("publish of one issuer", "ms", size, least(exchange, restore, exchange, restore))
    refreshes = [await awaited(one.keys.refresh()) for _ in range(3)]
    runs.took("refresh of one issuer", "ms", size, min(refreshes))
    decide = partial(subject.register.distrust, issuer_of(0), reason="leaked", at=time.time())
    kids = (f"gone-{number}", f"gone-{number}-too")  # which nobody publishes
    runs.took("distrust() of one key", "ms", size, least(*(partial(decide, kid) for kid in kids)))


async def _started(size: int) -> float:
    """Seconds until so many verifiers are made and have their keys."""
    began = time.perf_counter()
    async with many_issuers(size):
        return time.perf_counter() - began
