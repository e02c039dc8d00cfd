"""What waits for a fleet while its verifier is closed."""

from __future__ import annotations

import asyncio

import pytest

from jwks_guard import KeysUnavailableError, Register
from jwks_guard.distrust.state import NOTHING, Flags, Name
from jwks_guard.errors import DistrustNotSharedError
from jwks_guard.keys.fleet import Member
from jwks_guard.readiness.state import Observed
from jwks_guard.readiness.usage import Reach
from tests.support import HandClock, tenant_of, verifier_of


class Silent:
    """A fleet that nobody answers in."""

    def __init__(self) -> None:
        self.error: str | None = None
        self.reaches: dict[Name, Reach] = {}
        self.joining = asyncio.Event()

    async def join(self, member: Member) -> None:
        self.joining.set()
        await asyncio.Future()

    async def leave(self, member: Member) -> None:
        pass

    async def exchange(self, offer: Flags = NOTHING) -> None:
        pass

    async def observe(self, kid: str, issuer: str) -> Observed:
        return Observed(())


async def test_calls_that_wait_for_the_fleet_of_a_closed_verifier_raise_errors_of_ours(
    clock: HandClock,
) -> None:
    fleet = Silent()
    with tenant_of(clock) as tenant:
        verifier = verifier_of(tenant, clock, fleet=fleet, register=Register())
        waiting = [
            asyncio.create_task(verifier.verify(tenant.token())),
            asyncio.create_task(verifier.start()),
            asyncio.create_task(verifier.distrust("k", reason="leaked")),
        ]
        await fleet.joining.wait()
        await verifier.aclose()
        verified, started, told = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(verified, KeysUnavailableError)
    assert isinstance(started, KeysUnavailableError)
    assert isinstance(told, DistrustNotSharedError)


async def test_a_caller_that_is_cancelled_while_it_waits_stops_nobody_else(
    clock: HandClock,
) -> None:
    fleet = Silent()
    with tenant_of(clock) as tenant:
        verifier = verifier_of(tenant, clock, fleet=fleet, register=Register())
        first = asyncio.create_task(verifier.start())
        await fleet.joining.wait()
        second = asyncio.create_task(verifier.start())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not second.done()
        await verifier.aclose()
        with pytest.raises(KeysUnavailableError):
            await second
