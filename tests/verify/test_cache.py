from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard import InvalidSignatureError, JWKSGuardError
from jwks_guard.testing import LocalTenant
from jwks_guard.verify.cache import TokenCache
from tests.support import HandClock, verifier_of

# --- the cache ---


def test_result_is_found_by_its_key_and_by_no_other() -> None:
    cache = TokenCache[str](2)
    cache.put(b"a", "A")
    assert cache.get(b"a") == "A"
    assert cache.get(b"b") is None


def test_full_cache_drops_the_result_that_came_first() -> None:
    cache = TokenCache[str](2)
    for name in ("a", "b", "c"):
        assert cache.get(b"a") == (None if name == "a" else "A"), "reading it keeps it no longer"
        cache.put(name.encode(), name.upper())
    assert [cache.get(key) for key in (b"a", b"b", b"c")] == [None, "B", "C"]


def test_later_result_takes_the_place_of_the_earlier_one_and_drops_none() -> None:
    cache = TokenCache[str](2)
    cache.put(b"a", "A")
    cache.put(b"b", "B")
    cache.put(b"a", "A again")
    assert (cache.get(b"a"), cache.get(b"b"), len(cache)) == ("A again", "B", 2)


@given(st.lists(st.binary(max_size=2)), st.integers(1, 5))
def test_cache_holds_what_was_put_last_and_never_more_than_its_size(
    keys: list[bytes], size: int
) -> None:
    cache = TokenCache[bytes](size)
    for key in keys:
        cache.put(key, key)
        assert cache.get(key) == key
        assert len(cache) <= size


def test_threads_may_read_and_write_at_once() -> None:
    cache, barrier = TokenCache[int](16), threading.Barrier(8)
    foreign: list[object] = []

    def work(name: int) -> None:
        barrier.wait()
        for number in range(2000):
            key = (name * 7 + number) % 64
            cache.put(bytes([key]), key)
            seen = cache.get(bytes([(key + 1) % 64]))
            if seen not in (None, (key + 1) % 64):
                foreign.append(seen)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert foreign == []
    assert len(cache) <= 16


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
