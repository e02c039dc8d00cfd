"""Slow steps in a thread of their own, however many ask for them."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from jwks_guard.base.worker import Worker, waited

PATIENCE = 60.0


@dataclass
class Step:
    """A step that stands still until it may go on, as one on a disk that hangs."""

    begun: int = 0
    failure: BaseException | None = None
    standing: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go_on: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, _: list[int]) -> None:
        self.begun += 1
        self.standing.release()
        assert self.go_on.acquire(timeout=PATIENCE)
        if self.failure is not None:
            raise self.failure

    def stands(self) -> None:
        assert self.standing.acquire(timeout=PATIENCE)


@pytest.fixture
def step() -> Step:
    return Step()


@pytest.fixture
def worker(step: Step) -> Worker[int]:
    return Worker(step)


def free(step: Step, runs: int = 1) -> None:
    step.go_on.release(runs)


def test_one_run_is_on_its_way_and_all_that_come_later_share_the_next(
    step: Step, worker: Worker[int]
) -> None:
    first = worker.soon()
    step.stands()
    later = [worker.soon() for _ in range(50)]
    assert all(each is later[0] is not first for each in later)
    assert step.begun == 1
    free(step, 2)
    for each in (first, later[0]):
        each.result(PATIENCE)
    assert step.begun == 2


def test_run_begins_after_the_call_that_asked_for_it(step: Step, worker: Worker[int]) -> None:
    futures = []
    for number in range(20):
        futures.append(worker.soon())
        begun = step.begun
        assert begun <= number + 1
        free(step)
        futures[-1].result(PATIENCE)
        assert step.begun == number + 1
    assert all(one is not other for one, other in pairwise(futures))


def test_run_raises_to_all_who_wait_and_the_next_one_is_made_all_the_same(
    step: Step, worker: Worker[int]
) -> None:
    step.failure = OSError("the disk is full")
    failing = worker.soon()
    step.stands()
    free(step)
    with pytest.raises(OSError, match="the disk is full"):
        failing.result(PATIENCE)
    step.failure = None
    free(step)
    worker.soon().result(PATIENCE)


def test_no_thread_is_left_when_there_is_no_work(step: Step, worker: Worker[int]) -> None:
    before = threading.active_count()
    free(step)
    worker.soon().result(PATIENCE)
    for thread in threading.enumerate():
        if thread.name == "jwks-guard" and not thread.daemon:
            thread.join(PATIENCE)
    assert threading.active_count() <= before


def test_threads_that_ask_at_once_are_all_served() -> None:
    """Each finds in its run what it gave for it."""
    found: set[int] = set()
    worker: Worker[int] = Worker(found.update)
    missing: list[int] = []

    def ask(name: int) -> None:
        for number in range(200):
            worker.soon(1000 * name + number).result(PATIENCE)
            if 1000 * name + number not in found:
                missing.append(number)

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []


def test_forked_child_waits_for_no_thread_and_no_lock_of_its_parent(
    step: Step, worker: Worker[int]
) -> None:
    worker.soon()
    step.stands()
    with worker._lock:  # another thread of the parent held it
        worker.after_fork()
        future = worker.soon()
    step.stands()
    free(step, 2)
    future.result(PATIENCE)


# --- waiting on an event loop ---


async def test_wait_is_bounded_and_leaves_the_run_to_others(
    step: Step, worker: Worker[int]
) -> None:
    running = worker.soon()
    await waited([running, worker.soon()], 0.01)
    assert not running.done()
    free(step, 2)
    await waited([running, worker.soon()], PATIENCE)
    assert running.done()


async def test_failure_is_not_raised_to_who_only_waits(step: Step, worker: Worker[int]) -> None:
    step.failure = OSError("the disk is full")
    free(step)
    future = worker.soon()
    await waited([future], PATIENCE)
    assert isinstance(future.exception(), OSError)


async def test_nothing_is_not_waited_for() -> None:
    await waited([], 0.0)


async def test_one_waiter_that_is_cancelled_takes_the_run_from_nobody(
    step: Step, worker: Worker[int]
) -> None:
    running = worker.soon()
    step.stands()
    following = worker.soon()
    waiting = [asyncio.create_task(waited([following], PATIENCE)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    free(step, 2)
    await waiting[1]
    assert running.done()
    assert following.exception() is None


def test_loop_that_closes_meanwhile_hears_nothing_and_nothing_is_logged(
    step: Step, worker: Worker[int], caplog: pytest.LogCaptureFixture
) -> None:
    step.failure = OSError("the disk is full")
    asyncio.run(waited([worker.soon()], 0.01))
    future: Future[None] = worker.soon()
    free(step, 2)
    with pytest.raises(OSError, match="the disk is full"):
        future.result(PATIENCE)
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- at the end of the interpreter ---


def printed(script: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stderr == ""
    return run.stdout


def test_what_was_asked_for_is_done_before_the_interpreter_ends() -> None:
    script = (
        "import time\n"
        "from jwks_guard.base.worker import Worker\n"
        "def step(_):\n"
        "    time.sleep(0.2)\n"
        "    print('done', flush=True)\n"
        "worker = Worker(step)\n"
        "worker.soon(), worker.soon()\n"
    )
    assert printed(script) in ("done\n", "done\ndone\n")


def test_what_is_asked_for_at_the_very_end_is_done_too() -> None:
    """Newer interpreters start no thread any more when exit handlers run."""
    script = (
        "import atexit\n"
        "from jwks_guard.base.worker import Worker\n"
        "worker = Worker(lambda _: print('done', flush=True))\n"
        "atexit.register(lambda: worker.soon().result(30))\n"
    )
    assert printed(script) == "done\n"


def test_work_is_done_in_the_calling_thread_where_no_thread_can_be_started() -> None:
    script = (
        "import threading\n"
        "from jwks_guard.base.worker import Worker\n"
        'def none_left(self): raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = none_left\n"
        "worker = Worker(lambda _: print('done', flush=True))\n"
        "for _ in range(2): worker.soon().result(0)\n"
    )
    assert printed(script) == "done\ndone\n"
