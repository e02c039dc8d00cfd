"""Hints that keys have changed: from the begin of one fetch to the next it takes a pause."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import httpx
import pytest

from jwks_guard import KeyStore, KeysUnavailableError
from jwks_guard.keys import hints as module
from jwks_guard.keys.hints import PAUSE_SECONDS, Hints
from jwks_guard.testing import LocalTenant
from tests.support import JWKS, HandClock

PATIENCE = 60.0


class Fetches:
    """Counts what is fetched; each fetch waits while it is held."""

    def __init__(self) -> None:
        self.begun = 0
        self.free = asyncio.Event()
        self.free.set()
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.begun += 1
        await self.free.wait()
        if self.error is not None:
            raise self.error


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.001)


@pytest.fixture
def fetches() -> Fetches:
    return Fetches()


@pytest.fixture
def hints(fetches: Fetches, clock: HandClock) -> Hints:
    return Hints(fetches, clock)


async def test_first_hint_begins_a_fetch_at_once(hints: Hints, fetches: Fetches) -> None:
    hints.take()
    await hints.served()
    assert fetches.begun == 1


async def test_nothing_on_its_way_is_not_waited_for(hints: Hints) -> None:
    await hints.served()


async def test_of_many_hints_one_is_served_now_and_one_at_the_end_of_the_pause(
    hints: Hints, fetches: Fetches, clock: HandClock
) -> None:
    for _ in range(50):
        hints.take()
    await hints.served()
    assert fetches.begun == 1
    clock.advance(PAUSE_SECONDS)
    hints.take()
    await hints.served()
    assert fetches.begun == 2, "and the timer of the first ones begins no third"
    hints.cancel()


async def test_last_hint_within_the_pause_is_not_lost(
    hints: Hints, fetches: Fetches, clock: HandClock
) -> None:
    hints.take()
    await hints.served()
    clock.advance(PAUSE_SECONDS - 0.01)
    for _ in range(10):
        hints.take()
    assert fetches.begun == 1
    await eventually(lambda: fetches.begun == 2)
    await hints.served()


async def test_pause_counts_from_the_begin_of_a_fetch(
    hints: Hints, fetches: Fetches, clock: HandClock
) -> None:
    fetches.free.clear()
    hints.take()
    await eventually(lambda: fetches.begun == 1)
    clock.advance(PAUSE_SECONDS)
    hints.take()
    await eventually(lambda: fetches.begun == 2)
    fetches.free.set()
    await hints.served()


async def test_fetch_that_fails_is_not_raised_and_the_next_hint_is_served(
    hints: Hints, fetches: Fetches, clock: HandClock
) -> None:
    fetches.error = KeysUnavailableError("no", 1.0)
    hints.take()
    await hints.served()
    clock.advance(PAUSE_SECONDS)
    hints.take()
    await hints.served()
    assert fetches.begun == 2


async def test_nothing_is_fetched_after_they_are_cancelled(
    hints: Hints, fetches: Fetches, clock: HandClock
) -> None:
    fetches.free.clear()
    hints.take()
    await asyncio.sleep(0)
    clock.advance(PAUSE_SECONDS - 0.01)
    hints.take()
    hints.cancel()
    await hints.served()
    await asyncio.sleep(0.03)
    assert fetches.begun == 1
    assert len(asyncio.all_tasks()) == 1


# --- through a store ---


def store_of(tenant: LocalTenant, clock: HandClock) -> KeyStore:
    client = httpx.AsyncClient(transport=tenant.transport)
    return KeyStore(tenant.issuer, http_client=client, clock=clock, background=False)


async def test_hint_from_any_thread_has_the_keys_fetched_on_the_stores_own_loop(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with store_of(tenant, clock) as store:
        tenant.rotate()
        thread = threading.Thread(target=store.refresh_soon)
        thread.start()
        await asyncio.to_thread(thread.join)
        await eventually(lambda: tenant.key("next").kid in store.kids)
        await store.refreshed()


async def test_hint_during_a_fetch_has_another_one_made_after_it(
    tenant: LocalTenant, clock: HandClock
) -> None:
    """The fetch on its way may have been answered before the change."""
    async with store_of(tenant, clock) as store:
        hold = tenant.faults.hold(times=1)
        fetching = asyncio.create_task(store.refresh())
        await hold.arrived.wait()
        store.refresh_soon()
        hold.release()
        await fetching
        await store.refreshed()
        assert tenant.requests.count(JWKS) == 3


async def test_store_that_is_closed_or_bound_nowhere_fetches_nothing(
    tenant: LocalTenant, clock: HandClock
) -> None:
    store = store_of(tenant, clock)
    store.refresh_soon()
    async with store:
        pass
    store.refresh_soon()
    await store.refreshed()
    await asyncio.sleep(0.01)
    assert tenant.requests.count(JWKS) == 1


async def test_store_that_closes_during_a_pause_fetches_nothing_afterwards(
    tenant: LocalTenant, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.02)
    async with store_of(tenant, clock) as store:
        store.refresh_soon()
        await store.refreshed()
        store.refresh_soon()
    await asyncio.sleep(0.05)
    assert tenant.requests.count(JWKS) == 2


async def test_store_that_is_started_again_is_served_again(
    tenant: LocalTenant, clock: HandClock
) -> None:
    store = store_of(tenant, clock)
    for number in range(1, 3):
        async with store:
            store.refresh_soon()
            await store.refreshed()
            assert tenant.requests.count(JWKS) == 2 * number
