"""The event loop that an object lives on, and how others hand it their steps."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from jwks_guard import ConfigurationError, MultiIssuerVerifier, TokenVerifier
from jwks_guard.base.portal import process_portal
from jwks_guard.keys.home import Home
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, verifier_of

PATIENCE = 60.0


@pytest.fixture
def home() -> Home:
    return Home("verifier")


class Elsewhere:
    """A second event loop, in a thread, that runs until it is closed."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def settle(self, home: Home) -> bool:
        async def settle() -> bool:
            return home.settle()

        return asyncio.run_coroutine_threadsafe(settle(), self.loop).result(PATIENCE)

    def block(self) -> threading.Event:
        """Have it do nothing until the event is set."""
        going_on = threading.Event()
        self.loop.call_soon_threadsafe(going_on.wait, PATIENCE)
        return going_on

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    loop = Elsewhere()
    yield loop
    if not loop.loop.is_closed():
        loop.close()


async def where() -> int:
    """The thread that this runs in."""
    return threading.get_ident()


# --- belonging to a loop ---


async def test_first_loop_that_settles_becomes_it_and_says_so_once(home: Home) -> None:
    assert (home.vacant, home.here) == (True, False)
    assert [home.settle(), home.settle()] == [True, False]
    assert (home.vacant, home.here) == (False, True)
    assert home.loop is asyncio.get_running_loop()


async def test_second_loop_is_refused_while_the_first_one_is_open(
    home: Home, elsewhere: Elsewhere
) -> None:
    assert elsewhere.settle(home)
    assert not home.here
    with pytest.raises(ConfigurationError, match="This verifier runs on another event loop"):
        home.settle()
    elsewhere.close()
    assert home.vacant
    assert home.settle()


async def test_loops_that_settle_at_once_come_to_one(home: Home) -> None:
    loops = [Elsewhere() for _ in range(6)]
    barrier = threading.Barrier(6)
    outcomes: list[str] = []

    def settle(loop: Elsewhere) -> None:
        barrier.wait(PATIENCE)
        try:
            outcomes.append(str(loop.settle(home)))
        except ConfigurationError:
            outcomes.append("refused")

    threads = [threading.Thread(target=settle, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert sorted(outcomes) == ["True", *["refused"] * 5]
    for loop in loops:
        loop.close()


async def test_home_that_is_left_is_vacant(home: Home) -> None:
    home.settle()
    home.leave()
    assert home.vacant
    assert home.loop is None
    assert home.settle()


async def test_forked_child_begins_without_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.settle()
    monkeypatch.setattr(os, "getpid", lambda: -1)  # the number that a fork changes
    assert (home.vacant, home.here) == (True, False)
    assert home.settle(), "its own loop may be the copy of its parent's"
    assert (home.vacant, home.here) == (False, True)


# --- steps ---


async def test_step_runs_where_it_is_asked_for_as_long_as_there_is_no_home(home: Home) -> None:
    assert await home.run(where, PATIENCE) == threading.get_ident()
    home.settle()
    assert await home.run(where, PATIENCE) == threading.get_ident()


async def test_step_is_handed_to_the_home_and_its_result_and_errors_come_back(
    home: Home, elsewhere: Elsewhere
) -> None:
    elsewhere.settle(home)

    async def fail() -> None:
        raise ConfigurationError("a mistake")

    assert await home.run(where, PATIENCE) == elsewhere.thread.ident
    assert home.run_blocking(where, PATIENCE) == elsewhere.thread.ident
    with pytest.raises(ConfigurationError, match="a mistake"):
        await home.run(fail, PATIENCE)
    with pytest.raises(ConfigurationError, match="a mistake"):
        home.run_blocking(fail, PATIENCE)


def test_blocking_step_runs_on_the_portal_as_long_as_there_is_no_home(home: Home) -> None:
    portal = process_portal.get().call(where)
    assert home.run_blocking(where, PATIENCE) == portal != threading.get_ident()


async def test_blocking_step_in_the_homes_own_thread_is_refused(home: Home) -> None:
    home.settle()
    with pytest.raises(ConfigurationError, match="would block the event loop of the verifier"):
        home.run_blocking(where, PATIENCE)


async def test_step_that_the_home_does_not_run_in_time_is_given_up_and_not_done_later(
    home: Home, elsewhere: Elsewhere
) -> None:
    elsewhere.settle(home)
    done: list[str] = []

    async def step() -> None:
        await asyncio.sleep(0)  # as a step that asks others first
        done.append("done")

    going_on = elsewhere.block()
    with pytest.raises(TimeoutError):
        await home.run(step, 0.01)
    with pytest.raises(TimeoutError):
        home.run_blocking(step, 0.01)
    going_on.set()
    assert await home.run(where, PATIENCE) == elsewhere.thread.ident  # it has caught up
    assert done == []


# --- callbacks ---


async def test_callback_is_called_at_once_at_home_and_soon_from_elsewhere(
    home: Home, elsewhere: Elsewhere
) -> None:
    called: list[int] = []
    home.call_soon(lambda: called.append(0))
    assert called == [], "there is nobody to call it"
    elsewhere.settle(home)
    there = threading.Event()
    home.call_soon(there.set)
    assert await asyncio.to_thread(there.wait, PATIENCE)
    home.leave()
    home.settle()
    home.call_soon(lambda: called.append(threading.get_ident()))
    assert called == [threading.get_ident()]


def test_callback_for_a_loop_that_is_closed_meanwhile_is_dropped(
    home: Home, elsewhere: Elsewhere
) -> None:
    elsewhere.settle(home)
    elsewhere.close()
    home.call_soon(lambda: pytest.fail("nobody runs this"))


def without_asyncio(step: Coroutine[Any, Any, object]) -> ConfigurationError:
    """What `step` raises at once where another async library, and no asyncio, runs it."""
    with pytest.raises(ConfigurationError, match="hypercorn -k asyncio") as caught:
        step.send(None)
    return caught.value


async def unasked(issuer: str) -> TokenVerifier | None:
    raise AssertionError("nothing is asked")


@pytest.mark.parametrize("with_files", [False, True])
def test_another_async_library_gets_one_clear_error_from_each_method(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path, with_files: bool
) -> None:
    files = {"snapshot_path": tmp_path / "keys"} if with_files else {}
    verifier = verifier_of(tenant, clock, **files)
    several = MultiIssuerVerifier([verifier])
    for step in (
        verifier.start(),
        verifier.verify(tenant.token()),
        verifier.keys.refresh(),
        several.start(),
        several.verify(tenant.token()),
        several.aclose(),
        verifier.aclose(),
        MultiIssuerVerifier([], resolve=unasked).verify(tenant.token()),
    ):
        without_asyncio(step)


async def test_a_verifier_of_asyncio_is_clear_to_another_async_library_too(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        for token in (tenant.token(), tenant.forged_token()):
            await asyncio.to_thread(without_asyncio, verifier.verify(token))
