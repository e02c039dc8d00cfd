"""Our verification against the bare signature check, alternately in one process.

Every case of a round verifies the same tokens, each made for this round: the bare check, too, has
to fetch its bytes. A round gives each case as many slices, and slice is compared with slice: where
other programs run, most slices are short enough to be left alone, and the median is one of those.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from benchmarks.peers.bare import bare_checks
from benchmarks.rounds import Rounds, Row, turned
from benchmarks.tenants import access_tokens, loopback_tenant
from jwks_guard import SyncTokenVerifier, TokenVerifier
from jwks_guard.errors import InvalidSignatureError
from jwks_guard.testing import LocalTenant

ROUNDS, SLICES, CALLS = 40, 5, 50  # a slice is timed as a whole
CACHE_SIZE = 10_000  # the default
OTHER_ALGORITHMS = ("PS256", "ES256", "EdDSA")

T = TypeVar("T")

BARE = "bare signature check"
UNCACHED = "verify, cache off"
NEW = "verify, cache on and full, every token new"
CACHED = "verify, cached"
SYNC = "sync verify, cached"
FAST = "verify, cache off, by AWS-LC"


def rs256() -> list[Row]:
    """Every case with RS256."""
    with loopback_tenant() as (tenant, jwks_uri):
        rounds = asyncio.run(_rs256(tenant, jwks_uri))
    rows = [
        rounds.row(BARE, BARE),
        rounds.row(UNCACHED, BARE, 1.20),
        rounds.row(NEW, BARE, 1.30),
        rounds.row(CACHED, BARE, 0.10),
        rounds.row(SYNC, CACHED, 1.20),
    ]
    return [*rows, rounds.row(FAST, BARE)] if FAST in rounds else rows


def other_algorithms() -> list[Row]:
    """Verification without the cache, with each of OTHER_ALGORITHMS."""
    return [row for algorithm in OTHER_ALGORITHMS for row in _without_cache(algorithm)]


async def _rs256(tenant: LocalTenant, jwks_uri: str) -> Rounds:
    at = (tenant.issuer, tenant.audience)
    off = TokenVerifier(*at, jwks_uri=jwks_uri, token_cache_size=0, fast_rsa=False)
    full = TokenVerifier(*at, jwks_uri=jwks_uri, token_cache_size=CACHE_SIZE, fast_rsa=False)
    fast = TokenVerifier(*at, jwks_uri=jwks_uri, token_cache_size=0)
    cached = TokenVerifier(*at, jwks_uri=jwks_uri, on_event=lambda event: None)
    sync = SyncTokenVerifier(*at, jwks_uri=jwks_uri)
    known = access_tokens(tenant, SLICES * CALLS)
    rounds = Rounds()
    async with off, full, cached, fast:
        with sync:
            for verify in (off.verify, fast.verify, full.verify, cached.verify, sync.verify):
                await _proven(verify, tenant)
            await _awaited(full.verify, access_tokens(tenant, CACHE_SIZE))
            await _awaited(cached.verify, known)
            await _called(sync.verify, known)
            for number in range(ROUNDS):
                new, again = access_tokens(tenant, SLICES * CALLS), _received(known)
                cases: list[tuple[str, Callable[[], Awaitable[list[float]]]]] = [
                    (BARE, partial(_checked, bare_checks(new, tenant.jwks()))),
                    (UNCACHED, partial(_awaited, off.verify, new)),
                    (NEW, partial(_awaited, full.verify, new)),
                    (CACHED, partial(_awaited, cached.verify, again)),
                    (SYNC, partial(_called, sync.verify, again)),
                ]
                if fast.health().rsa_engine != "cryptography":
                    cases.append((FAST, partial(_awaited, fast.verify, new)))
                for case, timed in turned(cases, number):
                    rounds.add(case, *await timed())
    return rounds


def _without_cache(algorithm: str) -> list[Row]:
    bare, verify = f"{algorithm}, {BARE}", f"{algorithm}, {UNCACHED}"
    with loopback_tenant(algorithm=algorithm) as (tenant, jwks_uri):
        rounds = asyncio.run(_two_sided(tenant, jwks_uri, algorithm, (bare, verify)))
    return [rounds.row(bare, bare), rounds.row(verify, bare)]


async def _two_sided(
    tenant: LocalTenant, jwks_uri: str, algorithm: str, names: tuple[str, str]
) -> Rounds:
    rounds = Rounds()
    async with TokenVerifier(
        tenant.issuer,
        tenant.audience,
        jwks_uri=jwks_uri,
        algorithms=[algorithm],
        token_cache_size=0,
        fast_rsa=False,
    ) as verifier:
        await _proven(verifier.verify, tenant)
        for _ in range(ROUNDS):
            new = access_tokens(tenant, SLICES * CALLS)
            rounds.add(names[0], *await _checked(bare_checks(new, tenant.jwks())))
            rounds.add(names[1], *await _awaited(verifier.verify, new))
    return rounds


def _received(tokens: Sequence[str]) -> list[str]:
    """The same tokens as a server reads them: a new string each time, whose hash nobody knows."""
    return [token.encode().decode() for token in tokens]


async def _proven(verify: Callable[[str], object], tenant: LocalTenant) -> None:
    """Fail unless `verify` refuses a bad signature; if it refused good ones, timing would fail."""
    try:
        result = verify(tenant.forged_token())
        if inspect.isawaitable(result):
            await result
    except InvalidSignatureError:
        return
    raise AssertionError("a token with a bad signature was accepted")


async def _awaited(
    verify: Callable[[str], Awaitable[object]], tokens: Sequence[str]
) -> list[float]:
    """Seconds per call of each slice of `tokens`."""
    seconds = []
    for part in _slices(tokens):
        began = time.perf_counter()
        for token in part:
            await verify(token)
        seconds.append((time.perf_counter() - began) / CALLS)
    return seconds


async def _called(verify: Callable[[str], object], tokens: Sequence[str]) -> list[float]:
    """The same of a function that is no coroutine function."""
    seconds = []
    for part in _slices(tokens):
        began = time.perf_counter()
        for token in part:
            verify(token)
        seconds.append((time.perf_counter() - began) / CALLS)
    return seconds


async def _checked(checks: Sequence[Callable[[], None]]) -> list[float]:
    """The same of the bare checks of as many tokens."""
    seconds = []
    for part in _slices(checks):
        began = time.perf_counter()
        for check in part:
            check()
        seconds.append((time.perf_counter() - began) / CALLS)
    return seconds


def _slices(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + CALLS] for start in range(0, len(items), CALLS)]
