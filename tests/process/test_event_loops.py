"""One verifier, several event loops: one after another, and two at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from jwks_guard import TokenVerifier
from jwks_guard.errors import ConfigurationError, KeysUnavailableError, RevokedKeyError
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, tenant_of, verifier_of

T = TypeVar("T")


def another_loop(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns in an event loop that is open for just as long."""
    return asyncio.run(work)


async def meanwhile(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns in a second event loop, in a thread, while this one runs."""
    return await asyncio.to_thread(another_loop, work)


@pytest.fixture
def verifier(tenant: LocalTenant, clock: HandClock) -> Iterator[TokenVerifier]:
    verifier = verifier_of(tenant, clock)
    yield verifier
    another_loop(verifier.aclose())


def test_a_verifier_moves_to_the_next_loop_and_keeps_its_keys(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    seen = tenant.token()
    another_loop(verifier.verify(seen))
    another_loop(verifier.verify(seen))
    another_loop(verifier.verify(tenant.token(sub="auth0|bob")))
    assert tenant.requests.count() == 1


def test_a_verifier_refreshes_in_the_background_of_each_loop(
    tenant: LocalTenant, clock: HandClock, verifier: TokenVerifier
) -> None:
    async def verify_and_await_refresh() -> None:
        hold = tenant.faults.hold(times=1)
        await verifier.verify(token)
        await hold.arrived.wait()
        hold.release()
        await verifier.keys.refresh()

    token = tenant.token()
    another_loop(verifier.verify(token))
    for _ in range(2):
        clock.advance(60)
        another_loop(verify_and_await_refresh())
        assert verifier.health().confirmed_at == clock.time()


def test_a_loop_that_ends_in_the_middle_of_a_fetch_does_not_stop_the_next_one(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    async def leave_a_fetch_behind() -> None:
        hold = tenant.faults.hold()
        fetching = asyncio.create_task(verifier.verify(tenant.token()))
        await hold.arrived.wait()
        assert not fetching.done()

    another_loop(leave_a_fetch_behind())
    tenant.faults.clear()
    assert another_loop(verifier.verify(tenant.token())).kid == tenant.key().kid


def test_a_client_is_made_for_each_loop(tenant: LocalTenant, clock: HandClock) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    def client() -> httpx.AsyncClient:
        loops.append(asyncio.get_running_loop())
        return httpx.AsyncClient(transport=tenant.transport)

    verifier = verifier_of(tenant, clock, http_client=client)

    async def fetch_twice() -> asyncio.AbstractEventLoop:
        await verifier.keys.refresh()
        await verifier.keys.refresh()
        return asyncio.get_running_loop()

    assert loops == [another_loop(fetch_twice()), another_loop(fetch_twice())]
    another_loop(verifier.aclose())


def test_each_loop_saves_its_keys_to_the_snapshot(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    verifier = verifier_of(tenant, clock, snapshot_path=tmp_path / "keys.json")

    async def run() -> None:
        async with verifier:
            await verifier.keys.refresh()

    for _ in range(2):
        tenant.rotate()
        another_loop(run())
        saved = json.loads((tmp_path / "keys.json").read_text())
        assert {key["kid"] for key in saved["keys"]} == {key.kid for key in tenant.signing_keys}


def test_a_verifier_closed_in_a_later_loop_starts_anew(clock: HandClock) -> None:
    with tenant_of(clock, conditional_requests=True) as tenant:
        verifier = verifier_of(tenant, clock)
        another_loop(verifier.start())
        another_loop(verifier.aclose())
        with pytest.raises(KeysUnavailableError):
            another_loop(verifier.verify(tenant.token()))
        another_loop(verifier.start())
        assert another_loop(verifier.verify(tenant.token())).kid == tenant.key().kid
        another_loop(verifier.aclose())


async def test_a_second_loop_is_told_to_use_a_sync_verifier(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        for use in (verifier.verify(tenant.token()), verifier.keys.refresh(), verifier.start()):
            with pytest.raises(ConfigurationError, match="SyncTokenVerifier"):
                await meanwhile(use)


async def test_a_second_loop_gets_what_the_cache_holds(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        token = tenant.token()
        accepted = await verifier.verify(token)
        assert await meanwhile(verifier.verify(token)) is accepted


async def test_distrust_in_a_second_loop_holds_in_both(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = tenant.key().kid, tenant.token()
        await verifier.verify(token)
        await meanwhile(verifier.distrust(kid, reason="leaked"))
        with pytest.raises(RevokedKeyError):
            await verifier.verify(token)
        with pytest.raises(ConfigurationError):  # the cache has no word on it any more
            await meanwhile(verifier.verify(token))
        await meanwhile(verifier.reinstate(kid, reason="a mistake"))
        assert await verifier.verify(token)
        assert await meanwhile(verifier.verify(token))


async def test_the_first_loop_goes_on_unharmed_by_a_second_one(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        with pytest.raises(ConfigurationError):
            await meanwhile(verifier.verify(tenant.token()))
        tenant.rotate()
        tenant.rotate()
        assert await verifier.verify(tenant.token())
        clock.advance(60)
        await verifier.keys.tick()
        assert verifier.health().confirmed_at == clock.time()
