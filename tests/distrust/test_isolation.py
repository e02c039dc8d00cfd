"""Issuers that were added at run time may be hostile: they share covered keys with no other one."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jwks_guard import Register, RevokedKeyError, TokenVerifier
from jwks_guard.distrust.register import added_at_run_time
from jwks_guard.testing import LocalTenant
from tests.distrust.support import ISSUER, OTHER, Follower
from tests.support import HandClock, tenant_of, verifier_of

Make = Callable[..., TokenVerifier]


@pytest.fixture
def ours(clock: HandClock) -> Iterator[LocalTenant]:
    with tenant_of(clock, issuer="https://ours.test/") as tenant:
        yield tenant


@pytest.fixture
def hostile(clock: HandClock) -> Iterator[LocalTenant]:
    with tenant_of(clock, issuer="https://hostile.test/") as tenant:
        yield tenant


def added(tenant: LocalTenant, clock: HandClock, **options: Any) -> TokenVerifier:
    """A verifier as a resolver makes it."""

    def make() -> TokenVerifier:
        added_at_run_time.set(True)
        return verifier_of(tenant, clock, **options)

    return contextvars.copy_context().run(make)


def made_before(tenant: LocalTenant, clock: HandClock, **options: Any) -> TokenVerifier:
    """One that was made elsewhere, and handed out by a resolver."""
    verifier = verifier_of(tenant, clock, **options)
    verifier.keys.isolate()
    return verifier


def publish(owner: LocalTenant, thief: LocalTenant, kid: str) -> None:
    thief.publish({**owner.key().jwk, "kid": kid})


@pytest.mark.parametrize("make", [added, made_before])
@pytest.mark.parametrize("kid", ["mine", None])
async def test_hostile_issuer_can_not_have_the_key_of_another_one_distrusted(
    make: Make, kid: str | None, ours: LocalTenant, hostile: LocalTenant, clock: HandClock
) -> None:
    kid = kid or ours.key().kid
    async with verifier_of(ours, clock) as verifier, make(hostile, clock) as theirs:
        publish(ours, hostile, kid)
        await theirs.keys.refresh()
        await theirs.distrust(kid, reason="its owner asked for it")
        await verifier.verify(ours.token())
        await verifier.keys.refresh()
        await verifier.verify(ours.token())
        with pytest.raises(RevokedKeyError):
            await theirs.verify(hostile.token(key=ours.key(), kid=kid))


@pytest.mark.parametrize("make", [added, made_before])
async def test_hostile_issuer_can_not_do_so_with_a_kid_that_was_distrusted_before(
    make: Make, ours: LocalTenant, hostile: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(ours, clock) as verifier, make(hostile, clock) as theirs:
        await theirs.distrust("upcoming", reason="its owner asked for it")
        publish(ours, hostile, "upcoming")
        await theirs.keys.refresh()
        await verifier.verify(ours.token())


@pytest.mark.parametrize("make", [added, made_before])
async def test_key_that_is_distrusted_elsewhere_is_refused_only_under_its_own_issuer(
    make: Make, ours: LocalTenant, hostile: LocalTenant, clock: HandClock
) -> None:
    """What a run-time issuer publishes is its own affair, and tells nothing about others."""
    async with verifier_of(ours, clock) as verifier, make(hostile, clock) as theirs:
        publish(ours, hostile, "mine")
        await theirs.keys.refresh()
        twin = hostile.token(key=ours.key(), kid="mine")
        await verifier.distrust(ours.key().kid, reason="leaked", force=True)
        with pytest.raises(RevokedKeyError):
            await verifier.verify(ours.token())
        await theirs.verify(twin)


async def test_two_issuers_of_run_time_do_not_share_either(
    ours: LocalTenant, hostile: LocalTenant, clock: HandClock
) -> None:
    async with added(ours, clock) as one, added(hostile, clock) as other:
        publish(ours, hostile, "mine")
        await other.keys.refresh()
        await other.distrust("mine", reason="its owner asked for it")
        await one.verify(ours.token())


async def test_what_a_journal_tells_of_an_issuer_of_run_time_is_not_shared_after_a_restart(
    ours: LocalTenant, hostile: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    snapshot = tmp_path / "keys.json"
    async with added(hostile, clock, snapshot_path=snapshot) as theirs:
        publish(ours, hostile, "mine")
        await theirs.keys.refresh()
        await theirs.distrust("mine", reason="its owner asked for it")
    restarted = Register()
    async with verifier_of(ours, clock, register=restarted, snapshot_path=snapshot) as verifier:
        assert restarted.state.of(hostile.issuer), "the file was read"
        await verifier.verify(ours.token())
        theirs = added(hostile, clock, register=restarted)
        await verifier.verify(ours.token())
        with pytest.raises(RevokedKeyError):
            await theirs.verify(hostile.token(key=ours.key(), kid="mine"))
        await theirs.aclose()


async def test_two_configured_issuers_share_covered_keys_whichever_is_made_last(
    ours: LocalTenant, hostile: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    """Custom domains: the same keys sign for two issuers, and a decision is about the key."""
    snapshot = tmp_path / "keys.json"
    async with verifier_of(hostile, clock, snapshot_path=snapshot) as twin:
        publish(ours, hostile, "twin")
        await twin.keys.refresh()
        await twin.distrust("twin", reason="leaked")
    restarted = Register()
    async with verifier_of(ours, clock, register=restarted, snapshot_path=snapshot) as verifier:
        await verifier.verify(ours.token())
        heard: list[str] = []
        verifier.subscribe(lambda: heard.append("changed"))
        twin = verifier_of(hostile, clock, register=restarted)
        assert heard
        with pytest.raises(RevokedKeyError):
            await verifier.verify(ours.token())
        await twin.aclose()


def test_issuer_that_is_configured_as_well_stays_configured() -> None:
    register = Register()
    configured, resolved = Follower(register, OTHER), Follower(register, OTHER)
    resolved.isolated = True
    register.isolate(resolved)
    resolved.seen = {"k": frozenset({"p"})}
    register.distrust(OTHER, "k", reason="leaked", at=1.0)
    assert register.covered(ISSUER, register.state, isolated=False) == {"p"}
    assert register.covered(ISSUER, register.state, isolated=True) == frozenset()
    configured.isolated = True
    register.isolate(configured)
    assert register.covered(ISSUER, register.state, isolated=False) == frozenset()
