"""What a process shows of an issuer: one state, with what was accepted at any of its stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from jwks_guard import ConfigurationError, Register, TokenVerifier
from jwks_guard.fleet.members import Members
from jwks_guard.readiness.state import Observed, combined
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
    kid, members = tenant.key("previous").kid, Members(None)
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
    kid, members = tenant.key("previous").kid, Members(None)
    async with (
        used(tenant, clock) as one,
        used(tenant, clock) as two,
        used(tenant, clock) as beside,
        used(tenant, clock) as closed,
    ):
        members.add(one.keys)
        members.add(two.keys)
        (state,) = members.states(clock.time())
        assert state.usage.keys() == {kid}
        assert state.usage[kid].nameless == KeyUsage(
            4, 0, 4, clock.time(), clock.time() + 30 * DAY, 30 * DAY, other_clients=4
        )
        await closed.aclose()
        (state,) = members.states(clock.time())
        assert state.usage[kid].accepted == 3
        assert len(beside.keys.usage()) == 1


async def test_two_fleets_of_a_process_show_the_same_counts_and_not_twice_as_many(
    tenant: LocalTenant, clock: HandClock
) -> None:
    kid, fleets = tenant.key("previous").kid, (Members(None), Members(None))
    async with used(tenant, clock) as one, used(tenant, clock) as two:
        for members, verifier in zip(fleets, (one, two), strict=True):
            members.add(verifier.keys)
        states = [state for members in fleets for state in members.states(clock.time())]
        assert [state.usage[kid].accepted for state in states] == [2, 2]
        assert combined(states).usage[kid].accepted == 2


async def test_what_another_issuer_has_counted_is_not_shown(
    tenant: LocalTenant, clock: HandClock
) -> None:
    members = Members(None)
    with tenant_of(clock, issuer="https://other.test/") as other:
        other.rotate()
        async with used(tenant, clock) as member, used(other, clock):
            members.add(member.keys)
            (state,) = members.states(clock.time())
            assert set(state.usage) == {tenant.key("previous").kid}


async def test_the_members_of_one_fleet_object_have_one_register(
    tenant: LocalTenant, clock: HandClock, register: Register
) -> None:
    members = Members(None)
    one = verifier_of(tenant, clock).keys
    members.add(one)
    assert members.register is register
    with pytest.raises(ConfigurationError, match="make a fleet for each"):
        members.add(verifier_of(tenant, clock, register=Register()).keys)
    assert list(members) == [one]


async def test_what_a_fleet_without_members_knows_its_first_member_knows(
    tenant: LocalTenant, clock: HandClock
) -> None:
    members = Members(tenant.issuer)
    members.register.distrust(tenant.issuer, "k", reason="leaked", at=clock.time())
    verifier = verifier_of(tenant, clock)
    members.add(verifier.keys)
    assert list(verifier.distrusted) == ["k"]


@pytest.mark.parametrize("issuers", [[], ["https://one.test/", "https://two.test/"]])
async def test_whose_keys_are_meant_must_follow_from_the_members_or_be_given(
    clock: HandClock, issuers: list[str]
) -> None:
    members, given = Members(None), Members("https://given.test/")
    stores = []
    for issuer in issuers:
        with tenant_of(clock, issuer=issuer) as tenant:
            stores.append(verifier_of(tenant, clock).keys)
            members.add(stores[-1])
            given.add(stores[-1])
    with pytest.raises(ConfigurationError, match="give the fleet `issuer`"):
        _ = members.issuer
    assert given.issuer == "https://given.test/"
    assert given.issuers == {*issuers, "https://given.test/"}


async def test_process_says_since_when_it_refuses_by_its_own_clock(
    tenant: LocalTenant, clock: HandClock
) -> None:
    """Not since when another one decided: that one's clock may be ahead or behind."""
    members, kid, decided_at = Members(None), tenant.key("previous").kid, clock.time() - DAY
    async with verifier_of(tenant, clock) as member:
        members.add(member.keys)
        member.keys.register.distrust(tenant.issuer, kid, reason="leaked", at=decided_at)
        since = clock.time()
        clock.advance(60.0)
        (state,) = members.states(clock.time())
        assert state.refused == {kid: since}
        assert (await member.observe(kid)).states[0].refused == {kid: since}
        assert member.distrusted[kid].at == decided_at
