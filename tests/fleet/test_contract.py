"""What every kind of fleet guarantees, whatever its network does."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from jwks_guard import Register, TokenVerifier
from jwks_guard.base.events import Event
from jwks_guard.distrust.state import Decision, Distrust, Flags
from jwks_guard.errors import DistrustNotSharedError
from jwks_guard.fleet import redis_decisions, slices
from jwks_guard.readiness.usage import total
from jwks_guard.testing import LocalTenant
from tests.fleet.clusters import KINDS, NAMES, Cluster
from tests.fleet.instances import eventually, outcome, verifier_of
from tests.support import repeats

HOUR = 3600.0
"""Seconds for thousands of decisions on a busy machine."""
LONGEST_BLOCK_SECONDS = 2.0
"""Generous: a step takes 5 ms, and all three instances take theirs on the same event loop."""


@pytest.fixture(params=KINDS)
async def cluster(request: pytest.FixtureRequest, tenant: LocalTenant) -> AsyncIterator[Cluster]:
    """A fleet of which no instance runs yet."""
    async with KINDS[request.param](tenant) as cluster:
        yield cluster
        await cluster.aclose()


@pytest.fixture
async def instances(cluster: Cluster) -> list[TokenVerifier]:
    """All instances, which hear each other."""
    verifiers = [await cluster.start(name) for name in NAMES]
    await complete(*verifiers)
    return verifiers


async def complete(*verifiers: TokenVerifier) -> None:
    """Return when each instance has exchanged with all others."""
    await eventually(lambda: not any(error_of(verifier) for verifier in verifiers), HOUR)
    for verifier in verifiers:
        await exchanged(verifier)


def error_of(verifier: TokenVerifier) -> str | None:
    assert verifier.keys.fleet is not None
    return verifier.keys.fleet.error


async def exchanged(verifier: TokenVerifier) -> None:
    """Return after an exchange without an error."""
    assert verifier.keys.fleet is not None
    await verifier.keys.fleet.exchange()


def refused(*verifiers: TokenVerifier, kid: str) -> Callable[[], bool]:
    return lambda: all(kid in verifier.distrusted for verifier in verifiers)


def trusted(*verifiers: TokenVerifier, kid: str) -> Callable[[], bool]:
    return lambda: not any(kid in verifier.distrusted for verifier in verifiers)


def flags_of(verifier: TokenVerifier) -> Flags:
    return verifier.keys.register.state.flags


async def test_a_decision_reaches_every_instance(
    tenant: LocalTenant, instances: list[TokenVerifier]
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    for verifier in instances:
        assert await outcome(verifier, token) == old
    await instances[0].distrust(old, reason="leaked")
    await eventually(refused(*instances, kid=old))
    for verifier in instances:
        assert await outcome(verifier, token) == "revoked_key"
        assert verifier.distrusted[old].reason == "leaked"
        assert await outcome(verifier, tenant.token()) == tenant.key().kid


async def test_a_lift_reaches_every_instance_and_a_new_decision_counts_again(
    tenant: LocalTenant, instances: list[TokenVerifier]
) -> None:
    one, two, three = instances
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    for _ in range(3):
        await one.distrust(old, reason="leaked")
        await eventually(refused(*instances, kid=old))
        await two.reinstate(old, reason="a mistake")
        await eventually(trusted(*instances, kid=old))
        assert await outcome(three, token) == old
    await complete(*instances)
    assert trusted(*instances, kid=old)()


async def test_a_decision_repeated_out_of_reach_outlives_a_lift_that_was_not_heard(
    tenant: LocalTenant, cluster: Cluster, instances: list[TokenVerifier]
) -> None:
    one, two, three = instances
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    await three.distrust(old, reason="an old case")
    await eventually(refused(*instances, kid=old))
    cluster.cut.add("three")
    with suppress(DistrustNotSharedError):
        await two.reinstate(old, reason="closed")
    await eventually(trusted(one, two, kid=old))
    with pytest.raises(DistrustNotSharedError):
        await three.distrust(old, reason="leaked")
    cluster.cut.clear()
    await eventually(refused(*instances, kid=old))
    await complete(*instances)
    for verifier in instances:
        assert await outcome(verifier, token) == "revoked_key"


async def test_a_lift_undoes_only_what_its_maker_knew(
    tenant: LocalTenant, cluster: Cluster, instances: list[TokenVerifier]
) -> None:
    one, two, three = instances
    old = tenant.key("previous").kid
    cluster.cut.add("three")
    with pytest.raises(DistrustNotSharedError):
        await three.distrust(old, reason="seen in a log")
    with suppress(DistrustNotSharedError):
        await one.distrust(old, reason="leaked")
    await eventually(refused(one, two, kid=old))
    with suppress(DistrustNotSharedError):
        await two.reinstate(old, reason="a mistake")
    await eventually(trusted(one, two, kid=old))
    cluster.cut.clear()
    await eventually(refused(*instances, kid=old))
    await complete(*instances)
    assert {verifier.distrusted[old].reason for verifier in instances} == {"seen in a log"}


async def test_a_lift_that_one_instance_does_not_hear_holds_where_it_is_known(
    tenant: LocalTenant, cluster: Cluster, instances: list[TokenVerifier]
) -> None:
    one, two, three = instances
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    await one.distrust(old, reason="leaked")
    await eventually(refused(*instances, kid=old))
    cluster.cut.add("three")
    if cluster.names_absent:
        with pytest.raises(DistrustNotSharedError, match="three") as failure:
            await two.reinstate(old, reason="a mistake")
        assert "one." not in str(failure.value)
    else:
        await two.reinstate(old, reason="a mistake")
    await eventually(trusted(one, two, kid=old))
    assert await outcome(two, token) == old
    assert await outcome(three, token) == "revoked_key"
    cluster.cut.clear()
    await eventually(trusted(*instances, kid=old))
    assert await outcome(three, token) == old


async def test_an_instance_that_reaches_nobody_lifts_nothing(
    tenant: LocalTenant, cluster: Cluster, instances: list[TokenVerifier]
) -> None:
    one, _, three = instances
    old = tenant.key("previous").kid
    await one.distrust(old, reason="leaked")
    await eventually(refused(*instances, kid=old))
    cluster.cut.add("three")
    with pytest.raises(DistrustNotSharedError, match="Nothing was lifted"):
        await three.reinstate(old, reason="a mistake")
    assert refused(*instances, kid=old)()
    cluster.cut.clear()
    await complete(*instances)
    assert refused(*instances, kid=old)()


async def test_exchanges_are_counted_by_whether_they_reached_all(
    cluster: Cluster, instances: list[TokenVerifier]
) -> None:
    fleet = instances[0].keys.fleet
    assert fleet is not None
    before = {**fleet.exchange_counts}
    await fleet.exchange()
    assert fleet.exchange_counts["complete"] > before["complete"]
    cluster.cut.add("one")
    await eventually(lambda: fleet.exchange_counts["failed"] > before["failed"])


async def test_a_write_whose_answer_is_lost_is_reported_and_counts_once(
    tenant: LocalTenant, cluster: Cluster, instances: list[TokenVerifier]
) -> None:
    one, two, three = instances
    old = tenant.key("previous").kid
    cluster.answers_lost.add("one")
    with pytest.raises(DistrustNotSharedError):
        await one.distrust(old, reason="leaked")
    await eventually(refused(two, three, kid=old))
    cluster.answers_lost.clear()
    await complete(*instances)
    assert [list(flags_of(each)) for each in instances] == [[(tenant.issuer, old)]] * 3
    await two.reinstate(old, reason="a mistake")
    await eventually(trusted(*instances, kid=old))
    await one.distrust(old, reason="leaked")
    await eventually(refused(*instances, kid=old))
    cluster.answers_lost.add("one")
    with pytest.raises(DistrustNotSharedError):
        await one.reinstate(old, reason="a mistake")
    cluster.answers_lost.clear()
    await complete(*instances)
    assert len({old in verifier.distrusted for verifier in instances}) == 1


async def test_repeated_decisions_do_not_grow_what_is_held(
    tenant: LocalTenant, cluster: Cluster, instances: list[TokenVerifier]
) -> None:
    old, one = tenant.key("previous").kid, instances[0]
    cluster.cut.add("one")
    for _ in range(50):
        with pytest.raises(DistrustNotSharedError):
            await one.distrust(old, reason="leaked")
    cluster.cut.clear()
    await complete(*instances)
    connected = repeats(50)
    for _ in range(connected):
        await one.distrust(old, reason="leaked")
    await complete(*instances)
    for verifier in instances:
        (flag,) = flags_of(verifier).values()
        made = [(decision.number, decision.reason) for decision in flag.made.values()]
        assert made == [(50 + connected, "leaked")]
        assert flag.lifted == {}


async def test_the_reason_of_a_lift_is_kept_and_told_everywhere(
    tenant: LocalTenant, cluster: Cluster
) -> None:
    old = tenant.key("previous").kid
    events: list[list[Event]] = [[] for _ in NAMES]
    verifiers = [
        await cluster.start(name, on_event=seen.append)
        for name, seen in zip(NAMES, events, strict=True)
    ]
    await complete(*verifiers)
    for _ in range(2):
        await verifiers[0].distrust(old, reason="leaked")
        await verifiers[0].distrust(old, reason="leaked indeed")
    await eventually(refused(*verifiers, kid=old))
    await verifiers[1].reinstate(old, reason="it was another key")
    await eventually(trusted(*verifiers, kid=old))
    for verifier, seen in zip(verifiers, events, strict=True):
        told = [(event.kind, event.detail) for event in seen if event.kid == old]
        assert told[-2:] == [
            ("key_distrusted", "leaked"),
            ("key_reinstated", "it was another key"),
        ]
        flag = flags_of(verifier)[tenant.issuer, old]
        assert {lift.reason for lift in flag.lifted.values()} == {"it was another key"}


async def test_decisions_about_issuers_that_an_instance_does_not_verify_are_ignored_there(
    tenant: LocalTenant, cluster: Cluster
) -> None:
    register, fleet = Register(), cluster.fleet("one")
    with LocalTenant(in_process=True, algorithm="ES256", issuer="https://b.test/") as other:
        one = await cluster.start("one", register=register, fleet=fleet)
        two, three = [await cluster.start(name) for name in NAMES[1:]]
        async with verifier_of(other, register=register, fleet=fleet) as beside:
            await complete(one, two, three)
            await beside.distrust("k", reason="leaked")
            await one.distrust("k2", reason="leaked")
            await eventually(refused(two, three, kid="k2"))
            await complete(one, two, three)
            assert set(flags_of(one)) == {(other.issuer, "k"), (tenant.issuer, "k2")}
            for verifier in (two, three):
                assert set(flags_of(verifier)) == {(tenant.issuer, "k2")}


async def test_a_restarted_instance_knows_every_decision_and_lift_from_its_first_token(
    tenant: LocalTenant, cluster: Cluster, instances: list[TokenVerifier]
) -> None:
    one, two, _ = instances
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    await one.distrust("lifted", reason="leaked")
    await cluster.stop("three")
    with suppress(DistrustNotSharedError):
        await two.reinstate("lifted", reason="a mistake")
    with suppress(DistrustNotSharedError):
        await one.distrust(old, reason="leaked")
    again = await cluster.start("three")
    assert await outcome(again, token) == "revoked_key"
    await complete(one, two, again)
    assert set(again.distrusted) == {old}
    assert flags_of(again) == flags_of(one) == flags_of(two)


@asynccontextmanager
async def longest_block() -> AsyncIterator[Callable[[], float]]:
    """The longest processor time that the event loop took between two turns of a task, in seconds.

    The task has a turn each millisecond: one that is always ready would take all the time that the
    others leave. What else the machine does is not counted, nor are the collections of cyclic
    garbage: those take as long as everything takes that the tests have imported.
    """
    longest, ended = 0.0, False

    async def tick() -> None:
        nonlocal longest
        while not ended:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - began)

    gc.disable()
    ticking = asyncio.create_task(tick())
    try:
        yield lambda: longest
    finally:
        ended = True
        await ticking
        gc.enable()


async def test_5000_decisions_are_exchanged_without_blocking_the_event_loop(
    tenant: LocalTenant,
    cluster: Cluster,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.CRITICAL, "jwks_guard")  # each of them is told, here to nobody
    monkeypatch.setattr(redis_decisions, "_REREAD_SECONDS", HOUR)  # a busy machine takes minutes
    cluster.poll_interval = 1.0  # who polls while another one writes reads all that is there
    one, two, three = instances = [await cluster.start(name) for name in NAMES]
    await complete(*instances)
    many = {
        (tenant.issuer, f"kid-{number:05}"): Distrust(
            {"f" * 32: Decision(1, "leaked in a log file", 1.8e9, "host-1.example:1234")},
            thumbprints=frozenset([f"{number:043}"]),
        )
        for number in range(5000)
    }
    async with longest_block() as measured:
        await slices.merge(one.keys.register, many, [tenant.issuer])
        await exchanged(one)
        await eventually(lambda: len(flags_of(two)) == len(flags_of(three)) == 5000, HOUR)
        await complete(*instances)
        await one.distrust("one more", reason="leaked")
        await eventually(refused(*instances, kid="one more"), HOUR)
        await complete(*instances)
    print(f"The event loop was blocked for {measured() * 1000:.1f} ms at most.")  # noqa: T201
    assert measured() < LONGEST_BLOCK_SECONDS
    before = cluster.decision_bytes
    for verifier in instances * 3:
        await exchanged(verifier)
    assert cluster.decision_bytes == before


async def test_every_instance_shows_whose_tokens_it_accepted(
    tenant: LocalTenant, instances: list[TokenVerifier]
) -> None:
    kid = tenant.key().kid
    for number, verifier in enumerate(instances, 1):
        for claims in ({"azp": "shop", "org_id": "org_1"}, {"azp": f"app {number}"}):
            token = tenant.token(claims=claims)
            for _ in range(number):
                await verifier.verify(token)

    await complete(*instances)
    states = (await instances[0].observe(kid)).states
    clients = total(state.usage for state in states)[kid].clients
    assert {(each.client, each.organization): each.accepted for each in clients} == {
        ("shop", "org_1"): 6,
        ("app 1", None): 1,
        ("app 2", None): 2,
        ("app 3", None): 3,
    }
