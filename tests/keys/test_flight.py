from __future__ import annotations

import asyncio

import pytest

from jwks_guard.keys.flight import SingleFlight


class Runway:
    """Fetches that land when they are told to, with the result they are told."""

    def __init__(self) -> None:
        self.fetches = 0
        self._departures: asyncio.Queue[asyncio.Future[bool]] = asyncio.Queue()

    async def fetch(self) -> bool:
        self.fetches += 1
        landing: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._departures.put_nowait(landing)
        return await landing

    async def departure(self) -> asyncio.Future[bool]:
        """Wait until the next fetch is on its way; it lands by the future's result."""
        return await self._departures.get()


@pytest.fixture
def runway() -> Runway:
    return Runway()


async def test_everybody_shares_the_flight_that_is_on_its_way(runway: Runway) -> None:
    flights = SingleFlight()
    joined = [flights.join(runway.fetch) for _ in range(100)]
    (await runway.departure()).set_result(True)
    assert {flight.number for flight in joined} == {1}
    assert flights.current is joined[0]
    assert await joined[0].landed()
    assert runway.fetches == 1


async def test_flight_that_landed_is_not_joined(runway: Runway) -> None:
    flights = SingleFlight()
    first = flights.join(runway.fetch)
    (await runway.departure()).set_result(False)
    assert not await first.landed()
    assert flights.current is None
    second = flights.join(runway.fetch)
    assert (first.number, second.number, flights.launched) == (1, 2, 2)
    await flights.cancel()


async def test_next_waits_for_a_flight_that_began_after_it_was_asked_for(runway: Runway) -> None:
    flights = SingleFlight()
    flights.join(runway.fetch)
    early = await runway.departure()
    asked = [asyncio.create_task(flights.next(runway.fetch)) for _ in range(3)]
    await asyncio.sleep(0)
    early.set_result(True)
    late = await runway.departure()
    assert not any(task.done() for task in asked), "the first one began too early"
    late.set_result(False)
    assert await asyncio.gather(*asked) == [False] * 3
    assert flights.launched == 2


async def test_next_begins_at_once_when_nothing_is_on_its_way(runway: Runway) -> None:
    flights = SingleFlight()
    asked = asyncio.create_task(flights.next(runway.fetch))
    (await runway.departure()).set_result(True)
    assert await asked


async def test_cancelled_waiter_leaves_the_flight_to_the_others(runway: Runway) -> None:
    flights = SingleFlight()
    impatient, patient = (
        asyncio.create_task(flights.join(runway.fetch).landed()) for _ in range(2)
    )
    landing = await runway.departure()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    landing.set_result(True)
    assert await patient


async def test_cancelled_flight_counts_as_failed_for_all_its_waiters(runway: Runway) -> None:
    flights = SingleFlight()
    waiters = [asyncio.create_task(flights.join(runway.fetch).landed()) for _ in range(2)]
    await runway.departure()
    await flights.cancel()
    assert flights.current is None
    assert await asyncio.gather(*waiters) == [False, False]


async def test_cancelling_waits_until_the_flight_has_cleaned_up() -> None:
    flights, cleaned = SingleFlight(), asyncio.Event()

    async def fetch() -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()
        return True

    flights.join(fetch)
    await asyncio.sleep(0)
    await flights.cancel()
    assert cleaned.is_set()


async def test_cancelling_nothing_is_no_fault(runway: Runway) -> None:
    flights = SingleFlight()
    await flights.cancel()
    assert flights.launched == 0


async def test_what_a_flight_raises_reaches_every_waiter_and_ends_it() -> None:
    async def fetch() -> bool:
        raise RuntimeError("a defect")

    flights = SingleFlight()
    waiters = [asyncio.create_task(flights.join(fetch).landed()) for _ in range(2)]
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [str(result) for result in results] == ["a defect"] * 2
    assert flights.current is None
