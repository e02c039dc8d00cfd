from __future__ import annotations

import gc
import json
import sys
import threading
import tracemalloc
from dataclasses import InitVar, dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard import InvalidSignatureError, JWKSGuardError
from jwks_guard.testing import LocalTenant
from jwks_guard.verify.cache import (
    LARGEST_RESULT,
    SWEEP_SECONDS,
    TokenCache,
)
from tests.process.programs import PROJECT, run_to_end
from tests.support import HandClock, verifier_of

# --- the cache ---

NOW = 1_800_000_000.0
ROOM = 1_000_000


@dataclass(slots=True)
class Result:
    """A result of so many bytes."""

    name: str = ""
    _size: int = 1
    until: InitVar[float] = NOW + 3600
    _valid_until: float = field(init=False)

    def __post_init__(self, until: float) -> None:
        self._valid_until = until


def held(cache: TokenCache[Result], *names: str) -> list[str]:
    return [name for name in names if cache.get(name.encode()) is not None]


def put(cache: TokenCache[Result], *results: Result, now: float = NOW) -> None:
    for result in results:
        cache.put(result.name.encode(), result, now)


def test_result_is_found_by_its_key_and_by_no_other() -> None:
    cache, result = TokenCache[Result](2, ROOM), Result("a")
    put(cache, result)
    assert cache.get(b"a") is result
    assert cache.get(b"b") is None


def test_full_cache_drops_the_result_that_came_first() -> None:
    cache = TokenCache[Result](2, ROOM)
    put(cache, Result("a"), Result("b"))
    assert cache.get(b"a"), "reading it keeps it no longer"
    put(cache, Result("c"))
    assert held(cache, "a", "b", "c") == ["b", "c"]


def test_results_that_take_too_much_together_drop_the_first_ones() -> None:
    cache = TokenCache[Result](100, 600)
    put(cache, *(Result(name, 250) for name in "abc"))
    assert held(cache, "a", "b", "c") == ["b", "c"]
    assert cache.taken == 500


def test_result_that_alone_takes_too_much_is_not_kept() -> None:
    cache = TokenCache[Result](100, 1000)
    put(cache, Result("a", 1001))
    assert (len(cache), cache.taken) == (0, 0)


@pytest.mark.parametrize("size", [LARGEST_RESULT, LARGEST_RESULT + 1])
def test_large_result_is_not_kept_as_it_would_push_out_many(size: int) -> None:
    cache = TokenCache[Result](100, 10 * ROOM)
    put(cache, Result("a"), Result("b", size))
    assert held(cache, "a", "b") == (["a", "b"] if size == LARGEST_RESULT else ["a"])


@pytest.mark.parametrize(("size", "room"), [(3, 1_000_000), (100, 3)])
def test_expired_results_go_first(size: int, room: int) -> None:
    cache = TokenCache[Result](size, room)
    ended = Result("ended", until=NOW - 1)
    put(cache, Result("a"), ended, Result("b"), Result("c"))
    assert held(cache, "a", "ended", "b", "c") == ["a", "b", "c"]
    assert cache.taken == 3


def test_full_cache_does_not_look_for_expired_results_each_time() -> None:
    cache = TokenCache[Result](2, ROOM)
    put(cache, Result("a"), Result("b"), Result("c"))
    put(cache, Result("ended", until=NOW - 1))
    put(cache, Result("d"), now=NOW + SWEEP_SECONDS - 1)
    assert held(cache, "ended", "d") == ["ended", "d"], "too soon: the oldest one went"
    put(cache, Result("e"), now=NOW + SWEEP_SECONDS)
    assert held(cache, "ended", "d", "e") == ["d", "e"]


def test_token_that_several_threads_verify_at_once_is_charged_once() -> None:
    cache = TokenCache[Result](100, 1000)
    put(cache, Result("a", 400), Result("b", 400), Result("b", 400), Result("b", 400))
    assert held(cache, "a", "b") == ["a", "b"]
    assert cache.taken == 800


def test_dropped_result_takes_nothing_any_more() -> None:
    cache = TokenCache[Result](2, ROOM)
    put(cache, Result("a"))
    cache.drop(b"a")
    cache.drop(b"a")
    assert (len(cache), cache.taken) == (0, 0)


@given(st.lists(st.tuples(st.binary(max_size=2), st.integers(1, 50))), st.integers(1, 5))
def test_cache_holds_what_was_put_last_and_never_more_than_its_limits(
    puts: list[tuple[bytes, int]], size: int
) -> None:
    cache = TokenCache[Result](size, 100)
    for key, taken in puts:
        cache.drop(key)  # as one that was found and does not stand any more
        cache.put(key, Result(_size=taken), NOW)
        assert cache.get(key)
        assert len(cache) <= size
        assert cache.taken <= 100


def test_threads_may_read_and_write_at_once() -> None:
    cache, barrier = TokenCache[Result](16, 300), threading.Barrier(8)
    foreign: list[object] = []

    def work(name: int) -> None:
        barrier.wait()
        for number in range(2000):
            key = (name * 7 + number) % 64
            result = Result(str(key), 50, until=NOW + (number % 3 - 1) * 100)
            cache.put(bytes([key]), result, NOW + number)
            seen = cache.get(bytes([(key + 1) % 64]))
            if seen is not None and seen.name != str((key + 1) % 64):
                foreign.append(seen)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert foreign == []
    assert len(cache) <= 16


# --- what it takes ---

CRAFTED = {
    "objects": [{"a": {}}] * 25,
    "many objects": [{"a": {}}] * 1100,
    "permissions": [f"read:resource-{number:05d}-of-tenant" for number in range(150)],
    "nested": json.loads("[" * 50 + "]" * 50),
    "text": "\U0001f600" + "x" * 3000,
}


@pytest.mark.parametrize("name", CRAFTED)
async def test_full_cache_takes_no_more_memory_than_configured(
    name: str, tenant: LocalTenant, clock: HandClock
) -> None:
    room = 2**19
    verifier = verifier_of(tenant, clock, background=False, token_cache_bytes=room)
    tokens = [tenant.token(sub=f"{each}", claims={"m": CRAFTED[name]}) for each in range(60)]
    await verifier.verify(tenant.token())
    tracemalloc.start()
    try:
        for token in tokens:
            assert (await verifier.verify(token)).claims["m"]
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken <= room
    assert taken > room / 6 or name == "many objects", "what is not too large is kept"


async def test_default_cache_holds_ten_thousand_ordinary_results(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    claims = {"permissions": ["read:things", "write:things"], "azp": "x" * 32, "gty": "password"}
    await verifier.verify(tenant.token())
    result = await verifier.verify(tenant.token(sub=f"auth0|{7:024}", claims=claims))
    assert result._size <= 32 * 2**20 / 10_000


async def test_header_that_no_other_token_has_is_charged_too(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    plain = await verifier.verify(tenant.token())
    own = await verifier.verify(tenant.token(header={"x": [{"a": {}}] * 400}))
    assert own._size > plain._size + 200_000


# --- in a verifier ---


async def test_same_result_is_given_again_for_the_same_token_only(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    token = tenant.token()
    first = await verifier.verify(token)
    assert await verifier.verify(token.encode()) is first
    assert await verifier.verify(tenant.token(sub="auth0|bob")) is not first


async def test_altered_token_is_never_found_in_a_warm_cache(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    token = tenant.token()
    await verifier.verify(token)
    payload = tenant.token(sub="auth0|admin").split(".")[1]
    header, _, signature = token.split(".")
    with pytest.raises(InvalidSignatureError):
        await verifier.verify(f"{header}.{payload}.{signature}")
    with pytest.raises(InvalidSignatureError):
        await verifier.verify(tenant.forged_token())


async def test_token_that_differs_in_any_byte_is_never_found_in_a_warm_cache(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    token = tenant.token().encode()
    await verifier.verify(token)
    for at, byte in enumerate(token):
        with pytest.raises(JWKSGuardError):
            await verifier.verify(token[:at] + bytes([byte ^ 1]) + token[at + 1 :])


async def test_size_zero_turns_the_cache_off(tenant: LocalTenant, clock: HandClock) -> None:
    verifier = verifier_of(tenant, clock, background=False, token_cache_size=0)
    token = tenant.token()
    first = await verifier.verify(token)
    again = await verifier.verify(token)
    assert again is not first
    assert again == first


async def test_refused_token_is_not_remembered(tenant: LocalTenant, clock: HandClock) -> None:
    verifier = verifier_of(tenant, clock, background=False, token_cache_size=1)
    token = tenant.token()
    first = await verifier.verify(token)
    with pytest.raises(InvalidSignatureError):
        await verifier.verify(tenant.forged_token())
    assert await verifier.verify(token) is first


def test_results_are_found_where_the_interpreter_may_not_use_blake2() -> None:
    """A build of Python for FIPS 140 raises ValueError for all that this does not have."""
    program = """
import hashlib

def refused(*_, **__):
    raise ValueError("[digital envelope routines] unsupported")

hashlib.blake2b = refused
from jwks_guard import SyncTokenVerifier
from jwks_guard.testing import LocalTenant

with LocalTenant(algorithm="ES256") as tenant:
    with SyncTokenVerifier(tenant.issuer, tenant.audience) as verifier:
        token = tenant.token()
        print(verifier.verify(token) is verifier.verify(token))
"""
    done = run_to_end([sys.executable, "-c", program], cwd=PROJECT)
    assert (done.returncode, done.stdout) == (0, "True\n")
