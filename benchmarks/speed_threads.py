"""Threads that verify while another one waits for a slow fetch."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from benchmarks.tenants import access_tokens, loopback_tenant, under_unknown_kids
from jwks_guard import SyncTokenVerifier
from jwks_guard.errors import InvalidTokenError

ROUNDS = 3  # no more than the burst of 5 lookups of unknown kids: a sixth may wait for no fetch
THREADS, TOKENS = 4, 100
SLOW = 1.0  # s until the tenant answers


@dataclass(frozen=True, slots=True)
class Waiting:
    """What `threads` did while a token of an unknown kid waited for its fetch; medians of rounds.

    `slowest_otherwise_milliseconds` is from as long a time without a fetch: threads wait for each
    other's turn at the interpreter too.
    """

    threads: int
    fetch_milliseconds: float
    verifications: float
    slowest_milliseconds: float
    slowest_otherwise_milliseconds: float


def threads_during_a_fetch() -> Waiting:
    """One thread brings an unknown kid while the tenant is slow; the others bring known ones."""
    with loopback_tenant() as (tenant, jwks_uri):
        known = access_tokens(tenant, TOKENS)
        with SyncTokenVerifier(
            tenant.issuer, tenant.audience, jwks_uri=jwks_uri, token_cache_size=0
        ) as verifier:
            tenant.faults.delay(SLOW)
            rounds = [
                _round(verifier, known, unknown) for unknown in under_unknown_kids(known[0], ROUNDS)
            ]
    fetch, count, slowest, otherwise = map(statistics.median, zip(*rounds, strict=True))
    return Waiting(THREADS, fetch * 1e3, count, slowest * 1e3, otherwise * 1e3)


def _round(
    verifier: SyncTokenVerifier, known: Sequence[str], unknown: str
) -> tuple[float, int, float, float]:
    """Seconds of the fetch, verifications meanwhile, and the slowest with and without a fetch."""
    otherwise = _latencies_during(partial(time.sleep, SLOW), verifier, known)
    began = time.perf_counter()
    latencies = _latencies_during(partial(_refused, verifier, unknown), verifier, known)
    fetch = time.perf_counter() - began
    assert fetch > SLOW, "nobody waited for a fetch"
    return fetch, len(latencies), max(latencies), max(otherwise)


def _refused(verifier: SyncTokenVerifier, token: str) -> None:
    try:
        verifier.verify(token)
    except InvalidTokenError:
        return
    raise AssertionError("a token of an unknown kid was accepted")


def _latencies_during(
    task: Callable[[], object], verifier: SyncTokenVerifier, tokens: Sequence[str]
) -> list[float]:
    """Seconds of each verification by THREADS threads until `task`, in one more, has ended."""
    with ThreadPoolExecutor(THREADS + 1) as pool:
        ended = pool.submit(task)
        threads = [pool.submit(_latencies, verifier, tokens, ended.done) for _ in range(THREADS)]
    ended.result()
    return [seconds for thread in threads for seconds in thread.result()]


def _latencies(
    verifier: SyncTokenVerifier, tokens: Sequence[str], ended: Callable[[], bool]
) -> list[float]:
    latencies = []
    for token in itertools.cycle(tokens):
        if ended():
            break
        began = time.perf_counter()
        verifier.verify(token)
        latencies.append(time.perf_counter() - began)
    return latencies
