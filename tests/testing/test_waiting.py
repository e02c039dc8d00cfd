from __future__ import annotations

import asyncio
import threading

import pytest

from jwks_guard.testing.waiting import Hold, Signal
from tests.support import PATIENCE


async def test_signal_wakes_tasks_of_other_loops_and_plain_threads() -> None:
    signal = Signal()
    ready = threading.Barrier(3)
    woken: list[str] = []

    async def wait_in_a_loop() -> None:
        ready.wait(PATIENCE)
        await signal.wait()
        woken.append("loop")

    def wait_in_a_thread() -> None:
        ready.wait(PATIENCE)
        signal.wait_blocking()
        woken.append("thread")

    threads = [
        threading.Thread(target=lambda: asyncio.run(wait_in_a_loop())),
        threading.Thread(target=wait_in_a_thread),
    ]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(ready.wait, PATIENCE)
    signal.set()
    await signal.wait()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert sorted(woken) == ["loop", "thread"]


async def test_waiter_that_gave_up_does_not_disturb_the_others() -> None:
    signal = Signal()
    impatient = asyncio.create_task(signal.wait(timeout=0.01))
    patient = asyncio.create_task(signal.wait())
    with pytest.raises(TimeoutError):
        await impatient
    signal.set()
    await patient
    assert signal.is_set


def test_waiting_in_a_thread_ends_with_its_timeout() -> None:
    with pytest.raises(TimeoutError):
        Signal().wait_blocking(timeout=0.01)


async def test_signal_that_is_set_stays_set() -> None:
    signal = Signal()
    assert not signal.is_set
    signal.set()
    signal.set()
    await signal.wait()
    signal.wait_blocking(timeout=0)


async def test_hold_that_was_released_holds_nothing_more() -> None:
    hold = Hold()
    hold.release()
    await asyncio.wait_for(hold.passed(), PATIENCE)
    assert hold.arrived.is_set
