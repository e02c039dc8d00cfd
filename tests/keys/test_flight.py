from __future__ import annotations

import asyncio

import pytest

from jwks_guard.keys.flight import MOST_AT_ONCE, Flights
from tests.support import PATIENCE, HandClock


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


@pytest.fixture
def flights(clock: HandClock) -> Flights:
    return Flights(5.0, clock)


async def test_everybody_shares_the_flight_that_is_on_its_way(
    flights: Flights, runway: Runway
) -> None:
    joined = [flights.join(runway.fetch) for _ in range(100)]
    (await runway.departure()).set_result(True)
    assert {flight.number for flight in joined} == {1}
    assert flights.current == (joined[0],)
    assert await flights.landing(PATIENCE)
    assert joined[0].confirmed
    assert runway.fetches == 1


async def test_flight_that_landed_is_not_joined(flights: Flights, runway: Runway) -> None:
    first = flights.join(runway.fetch)
    (await runway.departure()).set_result(False)
    assert await flights.landing(PATIENCE)
    assert first.landed
    assert not first.confirmed
    assert flights.current == ()
    second = flights.join(runway.fetch)
    assert (first.number, second.number, flights.launched) == (1, 2, 2)
    await flights.cancel()


async def test_flight_that_takes_too_long_keeps_no_second_one_from_starting(
    flights: Flights, runway: Runway, clock: HandClock
) -> None:
    hung = flights.join(runway.fetch)
    clock.advance(4.9)
    assert flights.join(runway.fetch) is hung
    clock.advance(0.1)
    second = flights.join(runway.fetch)
    assert second.number == 2
    assert flights.join(runway.fetch) is second
    assert flights.current == (hung, second)
    await flights.cancel()


async def test_flight_from_before_the_machine_slept_is_not_waited_for(
    flights: Flights, runway: Runway, clock: HandClock
) -> None:
    flights.join(runway.fetch)
    clock.suspend(60)
    assert flights.join(runway.fetch).number == 2
    await flights.cancel()


async def test_hung_flights_do_not_pile_up(
    flights: Flights, runway: Runway, clock: HandClock
) -> None:
    for _ in range(20):
        flights.join(runway.fetch)
        clock.advance(10)
    assert flights.launched == MOST_AT_ONCE
    await flights.cancel()


async def test_waiter_wakes_with_the_first_flight_that_lands(
    flights: Flights, runway: Runway, clock: HandClock
) -> None:
    flights.join(runway.fetch)
    await runway.departure()
    clock.advance(10)
    flights.join(runway.fetch)
    waiter = asyncio.create_task(flights.landing(PATIENCE))
    (await runway.departure()).set_result(True)
    assert await waiter
    assert len(flights.current) == 1
    await flights.cancel()


async def test_wait_ends_in_time_and_the_flight_goes_on(flights: Flights, runway: Runway) -> None:
    flight = flights.join(runway.fetch)
    assert not await flights.landing(0.01)
    assert not await flights.landing(-1.0)
    (await runway.departure()).set_result(True)
    assert await flights.landing(PATIENCE)
    assert flight.confirmed


async def test_there_is_nothing_to_wait_for_without_a_flight(flights: Flights) -> None:
    assert await flights.landing(PATIENCE)


async def test_next_waits_for_a_flight_that_began_after_it_was_asked_for(
    flights: Flights, runway: Runway
) -> None:
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


async def test_next_does_not_wait_for_a_hung_flight(runway: Runway, clock: HandClock) -> None:
    flights = Flights(0.01, clock)
    flights.join(runway.fetch)
    await runway.departure()
    asked = asyncio.create_task(flights.next(runway.fetch))
    await asyncio.sleep(0)
    clock.advance(1)
    (await runway.departure()).set_result(True)
    assert await asked
    await flights.cancel()


async def test_next_begins_at_once_when_nothing_is_on_its_way(
    flights: Flights, runway: Runway
) -> None:
    asked = asyncio.create_task(flights.next(runway.fetch))
    (await runway.departure()).set_result(True)
    assert await asked


async def test_cancelled_waiter_leaves_the_flight_to_the_others(
    flights: Flights, runway: Runway
) -> None:
    flights.join(runway.fetch)
    impatient, patient = (asyncio.create_task(flights.landing(PATIENCE)) for _ in range(2))
    landing = await runway.departure()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    landing.set_result(True)
    assert await patient


async def test_cancelled_flight_confirmed_nothing(flights: Flights, runway: Runway) -> None:
    flight = flights.join(runway.fetch)
    waiters = [asyncio.create_task(flights.landing(PATIENCE)) for _ in range(2)]
    await runway.departure()
    await flights.cancel()
    assert flights.current == ()
    assert await asyncio.gather(*waiters) == [True, True]
    assert not flight.confirmed


async def test_cancelling_waits_until_the_flight_has_cleaned_up(flights: Flights) -> None:
    cleaned = asyncio.Event()

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


async def test_cancelling_nothing_is_no_fault(flights: Flights) -> None:
    await flights.cancel()
    assert flights.launched == 0


async def test_what_a_flight_raises_reaches_who_asks_for_its_result(flights: Flights) -> None:
    async def fetch() -> bool:
        raise RuntimeError("a defect")

    flight = flights.join(fetch)
    assert await flights.landing(PATIENCE)
    with pytest.raises(RuntimeError, match="a defect"):
        assert flight.confirmed
    assert flights.current == ()
