"""What a process shows of an issuer: one state, with what was accepted at any of its stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from jwks_guard import TokenVerifier
from jwks_guard.fleet.members import Members
from jwks_guard.keys.instance import combined
from jwks_guard.keys.peers import open_stores
from jwks_guard.readiness.state import Observed
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.readiness.verdict import KeyFacts, ReadinessSettings, revocation_readiness
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, tenant_of, verifier_of

DAY = 86_400.0


@pytest.fixture
def tenant(clock: HandClock) -> Iterator[LocalTenant]:
    """One that has rotated its key."""
    with tenant_of(clock) as local:
        local.rotate()
        yield local


@asynccontextmanager
async def used(tenant: LocalTenant, clock: HandClock) -> AsyncIterator[TokenVerifier]:
    """A verifier that has accepted one token of the previous key, good for 30 days."""
    async with verifier_of(tenant, clock) as verifier:
        await verifier.verify(tenant.token(key="previous", lifetime=30 * DAY))
        yield verifier


def verdict(tenant: LocalTenant, clock: HandClock, observed: Observed) -> tuple[str, list[str]]:
    facts = KeyFacts(
        kid=tenant.key("previous").kid,
        state="previously used",
        current_until=clock.time() - 2 * DAY,
        current_kid=tenant.key("current").kid,
        current_since=None,
    )
    settings = ReadinessSettings(token_lifetime=3_600.0, quiet_period=60.0)
    judged = revocation_readiness(facts, observed, settings, clock.time())
    return judged.verdict, [blocker.code for blocker in judged.blockers]


async def test_store_beside_the_fleet_keeps_a_key_from_being_ready(
    tenant: LocalTenant, clock: HandClock
) -> None:
    kid, members = tenant.key("previous").kid, Members()
    async with verifier_of(tenant, clock) as member, used(tenant, clock) as beside:
        members.add(member.keys)
        members.states(clock.time())
        clock.advance(120.0)
        for verifier in (member, beside):
            await verifier.keys.refresh()
        (state,) = members.states(clock.time())
        shown = Observed((state,))
        assert verdict(tenant, clock, shown) == ("no", ["tokens_unexpired"])
        assert verdict(tenant, clock, await member.observe(kid)) == ("no", ["tokens_unexpired"])
        assert state.usage == (await beside.observe(kid)).states[0].usage


async def test_members_and_other_stores_count_once_each(
    tenant: LocalTenant, clock: HandClock
) -> None:
    kid, members = tenant.key("previous").kid, Members()
    async with (
        used(tenant, clock) as one,
        used(tenant, clock) as two,
        used(tenant, clock) as beside,
        used(tenant, clock) as closed,
    ):
        members.add(one.keys)
        members.add(two.keys)
        open_stores.discard(two.keys)  # a member counts, open or not
        (state,) = members.states(clock.time())
        assert state.usage == {
            kid: KeyUsage(4, 0, 4, clock.time(), clock.time() + 30 * DAY, 30 * DAY)
        }
        await closed.aclose()
        (state,) = members.states(clock.time())
        assert state.usage[kid].accepted == 3
        assert len(beside.keys.usage()) == 1


async def test_two_fleets_of_a_process_show_the_same_counts_and_not_twice_as_many(
    tenant: LocalTenant, clock: HandClock
) -> None:
    kid, fleets = tenant.key("previous").kid, (Members(), Members())
    async with used(tenant, clock) as one, used(tenant, clock) as two:
        for members, verifier in zip(fleets, (one, two), strict=True):
            members.add(verifier.keys)
        states = [state for members in fleets for state in members.states(clock.time())]
        assert [state.usage[kid].accepted for state in states] == [2, 2]
        assert combined(states).usage[kid].accepted == 2


async def test_what_another_issuer_has_counted_is_not_shown(
    tenant: LocalTenant, clock: HandClock
) -> None:
    members = Members()
    with tenant_of(clock, issuer="https://other.test/") as other:
        other.rotate()
        async with used(tenant, clock) as member, used(other, clock):
            members.add(member.keys)
            (state,) = members.states(clock.time())
            assert set(state.usage) == {tenant.key("previous").kid}
