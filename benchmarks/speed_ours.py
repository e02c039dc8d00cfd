"""Our verification against the bare signature check, alternately in one process.

Every case of a round verifies the same tokens, each made for this round: the bare check, too, has
to fetch its bytes. A round gives each case as many slices, and slice is compared with slice: where
other programs run, most slices are short enough to be left alone, and the median is one of those.
Each run of some rounds has a process of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from benchmarks.peers.bare import bare_checks
from benchmarks.rounds import Rounds, Row, Took, at_most, row_of, turned
from benchmarks.tenants import access_tokens, loopback_tenant
from jwks_guard import SyncTokenVerifier, TokenVerifier
from jwks_guard.errors import InvalidSignatureError
from jwks_guard.testing import LocalTenant

RUNS, ROUNDS = at_most(5), at_most(8)
SLICES, CALLS = 5, 50  # of a round; a slice is timed as a whole
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
    runs = _in_processes(_rs256_run)
    compared = [(BARE, BARE), (UNCACHED, BARE), (NEW, BARE), (CACHED, BARE), (SYNC, CACHED)]
    if FAST in runs[0]:
        compared.append((FAST, BARE))
    return [row_of(runs, case, against) for case, against in compared]


def other_algorithms() -> list[Row]:
    """Verification without the cache, with each of OTHER_ALGORITHMS."""
    rows = []
    for algorithm in OTHER_ALGORITHMS:
        runs = _in_processes(partial(_other_run, algorithm))
        bare, verify = _names(algorithm)
        rows += [row_of(runs, bare, bare), row_of(runs, verify, bare)]
    return rows


def _in_processes(run: Callable[[], Rounds]) -> list[Rounds]:
    """The rounds of RUNS runs, one after the other, each in a new process."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        return [pool.submit(run).result() for _ in range(RUNS)]


def _rs256_run() -> Rounds:
    with loopback_tenant() as (tenant, jwks_uri):
        return asyncio.run(_rs256(tenant, jwks_uri))


def _other_run(algorithm: str) -> Rounds:
    with loopback_tenant(algorithm=algorithm) as (tenant, jwks_uri):
        return asyncio.run(_two_sided(tenant, jwks_uri, algorithm))


def _names(algorithm: str) -> tuple[str, str]:
    return f"{algorithm}, {BARE}", f"{algorithm}, {UNCACHED}"


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
                cases: list[tuple[str, Callable[[], Awaitable[list[Took]]]]] = [
                    (BARE, partial(_checked, bare_checks(new, tenant.jwks()))),
                    (UNCACHED, partial(_awaited, off.verify, new)),
                    (NEW, partial(_awaited, full.verify, new)),
                    (CACHED, partial(_awaited, cached.verify, again)),
                    (SYNC, partial(_called, sync.verify, again)),
                ]
                if fast.health().rsa_engine != "cryptography":
                    cases.append((FAST, partial(_awaited, fast.verify, new)))
                for case, timed in turned(cases, number):
                    rounds.add_slices(case, await timed(), CALLS)
    return rounds


async def _two_sided(tenant: LocalTenant, jwks_uri: str, algorithm: str) -> Rounds:
    bare, verify = _names(algorithm)
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
            rounds.add_slices(bare, await _checked(bare_checks(new, tenant.jwks())), CALLS)
            rounds.add_slices(verify, await _awaited(verifier.verify, new), CALLS)
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


async def _awaited(verify: Callable[[str], Awaitable[object]], tokens: Sequence[str]) -> list[Took]:
    """What each slice of `tokens` takes."""
    slices = []
    for part in _slices(tokens):
        began = _now()
        for token in part:
            await verify(token)
        slices.append(_since(began))
    return slices


async def _called(verify: Callable[[str], object], tokens: Sequence[str]) -> list[Took]:
    """The same of a function that is no coroutine function."""
    slices = []
    for part in _slices(tokens):
        began = _now()
        for token in part:
            verify(token)
        slices.append(_since(began))
    return slices


async def _checked(checks: Sequence[Callable[[], None]]) -> list[Took]:
    """The same of the bare checks of as many tokens."""
    slices = []
    for part in _slices(checks):
        began = _now()
        for check in part:
            check()
        slices.append(_since(began))
    return slices


def _now() -> Took:
    return Took(time.perf_counter(), time.thread_time())


def _since(began: Took) -> Took:
    cpu, seconds = time.thread_time() - began.cpu, time.perf_counter() - began.seconds
    return Took(seconds, cpu)


def _slices(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + CALLS] for start in range(0, len(items), CALLS)]
