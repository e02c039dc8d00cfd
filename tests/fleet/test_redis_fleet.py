"""What a fleet shares through Redis, and what nothing in there can undo."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from jwks_guard import (
    ConfigurationError,
    DistrustNotSharedError,
    MultiIssuerVerifier,
    Register,
    RevocationRefusedError,
    RevokedKeyError,
    SyncTokenVerifier,
    TokenVerifier,
)
from jwks_guard.fleet import RedisFleet, commands
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import NEVER
from jwks_guard.testing import LocalTenant
from tests.fleet.instances import (
    DECISIONS,
    eventually,
    exchanged,
    fleet_of,
    instance,
    outcome,
    two_instances,
    verifier_of,
)
from tests.process.programs import require_program
from tests.redis_server import RedisServer


async def test_what_one_distrusts_the_others_refuse_at_once(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    slow = {"poll_interval": 5.0}
    async with (
        instance(tenant, fleet_of(redis, **slow)) as one,
        instance(tenant, fleet_of(redis, **slow)) as other,
    ):
        assert await outcome(other, token) == old
        await one.distrust(old, reason="leaked")
        assert await eventually(lambda: old in other.distrusted) < 4.0  # not by the next poll
        assert await outcome(other, token) == "revoked_key"
        assert other.distrusted[old].reason == "leaked"
        assert await outcome(other, tenant.token()) == tenant.key().kid


async def test_the_same_key_under_another_kid_is_refused_by_those_who_only_heard_of_it(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old = tenant.key("previous")
    async with instance(tenant, fleet_of(redis)) as one:
        await one.distrust(old.kid, reason="leaked")
    tenant.remove(old.kid)
    tenant.publish({**old.jwk, "kid": "another"})
    async with instance(tenant, fleet_of(redis)) as late:
        assert await outcome(late, tenant.token(key=old, kid="another")) == "revoked_key"


async def test_who_starts_later_refuses_from_its_first_token(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with instance(tenant, fleet_of(redis)) as one:
        await one.distrust(old, reason="leaked")
    unstarted = verifier_of(tenant, fleet_of(redis))
    at_once = await asyncio.gather(*(outcome(unstarted, token) for _ in range(5)))
    assert at_once == ["revoked_key"] * 5
    await unstarted.aclose()


class ClockAhead:
    """Runs, 3 s ahead of the others."""

    def time(self) -> float:
        return time.time() + 3.0

    def monotonic(self) -> float:
        return time.monotonic()


async def test_each_instance_says_since_when_it_refuses_by_its_own_clock(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, ahead = tenant.key("previous").kid, ClockAhead()
    async with (
        instance(tenant, fleet_of(redis)) as one,
        instance(tenant, fleet_of(redis, clock=ahead), clock=ahead) as other,
        fleet_of(redis, issuer=tenant.issuer) as fleet,
    ):
        began = time.time()
        refusals = await fleet.distrust(old, reason="leaked")
        sinces = sorted(each.since.timestamp() for each in refusals if each.since is not None)
        assert began <= sinces[0] <= time.time() < sinces[1] <= ahead.time()
        own, theirs = (state.refused[old] for state in (await one.observe(old)).states)
        assert [own, theirs] == pytest.approx(sinces, abs=1e-5)
        assert (await other.observe(old)).states[0].refused == {old: theirs}


async def test_a_store_that_opens_later_is_told_what_was_passed_over_before(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    async with fleet_of(redis, issuer="https://later.test/") as told:
        await told.distrust("k", reason="leaked")
    later = LocalTenant(in_process=True, algorithm="ES256", issuer="https://later.test/")
    fleet = fleet_of(redis)
    async with instance(tenant, fleet) as one:
        await exchanged(redis)
        with later:
            async with instance(later, fleet, register=one.keys.register) as other:
                assert list(other.distrusted) == ["k"]


async def test_an_instance_that_was_killed_stays_in_sight_for_a_day_and_is_not_waited_for(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    async with instance(tenant, fleet_of(redis)):
        with redis.client() as client:
            (name,) = client.keys("{jwks-guard}:state:*")
            shown = json.loads(client.get(name))
            dead = shown | {
                "instance": "f" * 32,
                "host": "dead:1",
                "reported_at": time.time() - 80_000,
            }
            lies = f"{{jwks-guard}}:state:{'f' * 32}:00000000:{tenant.issuer}"
            client.set(lies, json.dumps(dead))
            client.zadd("{jwks-guard}:instances", {lies: time.time() - 80_000})
            assert client.ttl(name) > 86_000
            async with fleet_of(redis, issuer=tenant.issuer) as fleet:
                began = time.monotonic()
                refusals = await fleet.distrust("k", reason="leaked")
                assert time.monotonic() - began < 4.0  # less than it waits for one that is live
                (silent,) = [each for each in refusals if each.error is not None]
                assert (silent.who, len(refusals)) == ("dead:1 (ffffffff)", 2)
                client.delete(lies)  # as by an eviction
                assert len((await fleet.observe("k")).states) == 2
                refusals = await fleet.distrust("k", reason="leaked")
                assert [each.who for each in refusals if each.error] == ["unknown (ffffffff)"]
                assert await fleet.dismiss("f" * 32) == 1
                assert await fleet.dismiss("f" * 32) == 0
                assert len((await fleet.observe("k")).states) == 1


async def test_fleets_of_different_prefixes_know_nothing_of_each_other(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old = tenant.key("previous").kid
    async with (
        instance(tenant, fleet_of(redis, prefix="one")) as one,
        instance(tenant, fleet_of(redis, prefix="other")) as other,
    ):
        await one.distrust(old, reason="leaked")
        await exchanged(redis, "other")
        assert old not in other.distrusted
        with redis.client() as client:
            names = {name.partition(b":")[0] for name in client.keys("*")}
        assert names == {b"{one}", b"{other}"}


async def test_kids_belong_to_their_issuer(redis: RedisServer) -> None:
    here = LocalTenant(in_process=True, algorithm="ES256", issuer="https://here.test/")
    there = LocalTenant(in_process=True, algorithm="ES256", issuer="https://there.test/")
    with here, there:
        fleet = fleet_of(redis)
        mine, theirs = verifier_of(here, fleet), verifier_of(there, fleet)
        async with MultiIssuerVerifier([mine, theirs]), instance(here, fleet_of(redis)) as third:
            here.rotate()
            there.rotate()
            await mine.keys.refresh()
            await theirs.keys.refresh()
            await third.distrust(here.key("previous").kid, reason="leaked")
            await eventually(lambda: list(mine.distrusted) == [here.key("previous").kid])
            assert dict(theirs.distrusted) == {}
            with pytest.raises(ConfigurationError, match="issuers"):
                await fleet.distrust("k", reason="whose?")
            by_name = fleet_of(redis, issuer=there.issuer)
            await by_name.distrust(there.key("previous").kid, reason="leaked")
            assert list(theirs.distrusted) == [there.key("previous").kid]
            assert there.key("previous").kid not in mine.distrusted
            await by_name.aclose()
        with redis.client() as client:
            assert client.keys("{jwks-guard}:state:*") == []


async def test_issuer_that_is_resolved_later_is_refused_what_was_distrusted_before(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    here = LocalTenant(in_process=True, algorithm="ES256", issuer="https://here.test/")
    fleet, register = fleet_of(redis), Register()

    async def resolve(issuer: str) -> TokenVerifier | None:
        return verifier_of(tenant, fleet, register=register)

    with here:
        listed = verifier_of(here, fleet, register=register)
        async with (
            MultiIssuerVerifier([listed], resolve=resolve) as multi,
            instance(tenant, fleet_of(redis)) as other,
        ):
            await other.distrust(old, reason="leaked")
            await exchanged(redis)
            with pytest.raises(RevokedKeyError):
                await multi.verify(token)
            await multi.verify(tenant.token())
            await multi.forget(tenant.issuer)
            await other.reinstate(old, reason="false alarm")
            await exchanged(redis)
            assert (await multi.verify(token)).kid == old
            await multi.verify(here.token())


async def test_a_program_without_verifiers_tells_the_fleet_and_is_told_who_refuses(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    fleet = fleet_of(redis, issuer=tenant.issuer)
    async with instance(tenant, fleet_of(redis)) as one:
        (refusal,) = await fleet.distrust(old, reason="leaked")
        assert refusal.error is None
        assert refusal.since is not None
        assert await outcome(one, token) == "revoked_key"
        await fleet.reinstate(old, reason="a mistake")
        await eventually(lambda: old not in one.distrusted)
        (refusal,) = await fleet.distrust(old, reason="leaked indeed")
        assert refusal.error is None
        with pytest.raises(ConfigurationError):
            await fleet.distrust("k" * 513, reason="leaked")
    (refusal,) = await fleet.distrust("nobody runs", reason="leaked")
    assert (refusal.who, refusal.since) == ("the fleet", None)
    await fleet.aclose()


async def test_the_only_key_of_an_instance_is_given_up_only_by_force(redis: RedisServer) -> None:
    with LocalTenant(in_process=True, algorithm="ES256") as tenant:
        only = tenant.key().kid
        tenant.remove(tenant.key("next").kid)
        async with instance(tenant, fleet_of(redis)) as one:
            await exchanged(redis)  # the first one was before it had fetched any key
            fleet = fleet_of(redis, issuer=tenant.issuer)
            with pytest.raises(RevocationRefusedError):
                await fleet.distrust(only, reason="leaked")
            await fleet.distrust(only, reason="leaked", force=True)
            assert only in one.distrusted
            await fleet.aclose()


async def test_person_who_decided_is_named_to_all_also_where_decisions_are_signed(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, signed = tenant.key("previous").kid, {"secret": "s" * 32}
    async with (
        instance(tenant, fleet_of(redis, **signed)) as one,
        fleet_of(redis, issuer=tenant.issuer, **signed) as fleet,
    ):
        await fleet.distrust(old, reason="leaked", actor="Ada, by operator secret")
        assert one.distrusted[old].by == "Ada, by operator secret"
        await fleet.reinstate(old, reason="the wrong key", actor="Bob")
        await eventually(lambda: old not in one.distrusted)
        flag = one.keys.register.state.flags[tenant.issuer, old]
        assert flag.latest_lift.by == "Bob"


class LateLook(RedisFleet):
    """Looks at the instances of which those that are numbered in `failing` are not answered."""

    def __init__(self, redis: RedisServer, issuer: str, failing: Container[int]) -> None:
        super().__init__(redis.url, issuer=issuer)
        self.failing = failing
        self.looks = 0

    async def _states(self, issuer: str | None = None) -> tuple[InstanceState, ...]:
        self.looks += 1
        if self.looks in self.failing:
            raise DistrustNotSharedError("Redis did not answer in time.")
        return await super()._states(issuer)


async def test_look_that_fails_after_the_decision_is_shared_is_taken_again(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old = tenant.key("previous").kid
    fleet = LateLook(redis, tenant.issuer, failing=range(2, 5))
    async with instance(tenant, fleet_of(redis)), fleet:
        (refusal,) = await fleet.distrust(old, reason="leaked")
    assert refusal.error is None
    assert fleet.looks > 4


@pytest.mark.parametrize(
    ("failing", "who", "error"),
    [
        (range(2, 10_000), None, "it has not acknowledged the decision"),
        (range(1, 10_000), "the fleet", "no instance could be asked: Redis did not answer"),
    ],
    ids=["looked at before", "never looked at"],
)
async def test_instances_that_can_not_be_looked_at_any_more_have_not_confirmed(
    tenant: LocalTenant,
    redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    failing: range,
    who: str | None,
    error: str,
) -> None:
    monkeypatch.setattr(commands, "ACKNOWLEDGE_SECONDS", 0.2)
    old = tenant.key("previous").kid
    fleet = LateLook(redis, tenant.issuer, failing)
    async with instance(tenant, fleet_of(redis)) as one, fleet:
        (refusal,) = await fleet.distrust(old, reason="leaked")
        await eventually(lambda: old in one.distrusted)
        (state,) = (await one.observe(old)).states
    assert refusal.since is None
    assert refusal.who == (who or state.name)
    assert (refusal.error or "").startswith(error)


async def test_how_far_tokens_reach_outlives_the_instances_and_never_sinks(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    kid = tenant.key().kid
    fleet = fleet_of(redis, issuer=tenant.issuer)
    latest = 0.0
    for lifetime in (500.0, 5000.0, 50.0):
        async with instance(tenant, fleet_of(redis)) as one:
            token = await one.verify(tenant.token(lifetime=lifetime))
            latest = max(latest, token.expires_at or 0.0)
    observed = await fleet.observe(kid)
    assert observed.states == ()
    assert (observed.latest_expiry, observed.longest_lifetime) == (latest, 5000.0)
    with redis.client() as client:
        for kind in ("expiries", "lifetimes"):
            client.zadd(f"{{jwks-guard}}:{kind}:{tenant.issuer}", {kid: "inf"})
    observed = await fleet.observe(kid)
    assert (observed.latest_expiry, observed.longest_lifetime) == (NEVER, NEVER)
    observed = await fleet.observe("unknown")
    assert (observed.latest_expiry, observed.longest_lifetime) == (None, None)
    await fleet.aclose()


async def test_two_stores_of_one_issuer_show_one_state_with_the_usage_of_both(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    fleet = fleet_of(redis)
    looking = fleet_of(redis, issuer=tenant.issuer)
    async with (
        verifier_of(tenant, fleet) as one,
        verifier_of(tenant, fleet) as two,
        verifier_of(tenant, fleet_of(redis)) as three,
    ):
        for verifier in (one, two, three):
            await verifier.verify(tenant.token())
        await exchanged(redis)
        (state,) = (await looking.observe(tenant.key().kid)).states
        assert state.usage[tenant.key().kid].accepted == 3
        await one.aclose()
        assert len((await looking.observe(tenant.key().kid)).states) == 1
    assert (await looking.observe(tenant.key().kid)).states == ()
    await looking.aclose()


async def test_what_came_in_survives_a_restart_without_redis(
    tenant: LocalTenant, redis: RedisServer, tmp_path: Path
) -> None:
    old, token = tenant.key("previous"), tenant.token(key="previous")
    snapshot = {"snapshot_path": tmp_path / "keys.json"}
    async with (
        instance(tenant, fleet_of(redis)) as one,
        instance(tenant, fleet_of(redis), **snapshot) as other,
    ):
        await one.distrust(old.kid, reason="leaked")
        await one.distrust("lifted", reason="leaked")
        await eventually(lambda: "lifted" in other.distrusted)
        await one.reinstate("lifted", reason="a mistake")
        await eventually(lambda: "lifted" not in other.distrusted)
    redis.kill()
    tenant.publish({**old.jwk, "kid": "another"})
    async with instance(tenant, fleet_of(redis), **snapshot) as again:
        assert await outcome(again, token) == "revoked_key"
        assert await outcome(again, tenant.token(key=old, kid="another")) == "revoked_key"
        assert list(again.distrusted) == [old.kid]
        assert again.health().status == "degraded"


async def test_a_disk_that_fails_does_not_keep_the_others_from_hearing_of_it(
    tenant: LocalTenant, redis: RedisServer, tmp_path: Path
) -> None:
    old = tenant.key("previous").kid
    snapshot = tmp_path / "keys.json"
    async with (
        instance(tenant, fleet_of(redis), snapshot_path=snapshot) as one,
        instance(tenant, fleet_of(redis, poll_interval=5.0)) as other,
    ):
        (tmp_path / "keys.json.tombstones").mkdir()
        with pytest.raises(DistrustNotSharedError, match="journal"):
            await one.distrust(old, reason="leaked")
        await eventually(lambda: old in other.distrusted)


def test_threads_distrust_through_the_sync_verifier(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    with (
        SyncTokenVerifier(
            tenant.issuer,
            tenant.audience,
            algorithms=["ES256"],
            fleet=fleet_of(redis),
            http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
        ) as verifier,
        ThreadPoolExecutor(8) as threads,
    ):
        kids = [f"k{number}" for number in range(20)]
        list(threads.map(lambda kid: verifier.distrust(kid, reason="leaked"), kids))
        assert sorted(verifier.distrusted) == sorted(kids)
        with redis.client() as client:
            assert client.hlen(DECISIONS) == 20
        verifier.reinstate("k0", reason="a mistake")
        assert "k0" not in verifier.distrusted
        verifier.distrust(tenant.key("previous").kid, reason="leaked")
        with pytest.raises(RevokedKeyError):
            verifier.verify(tenant.token(key="previous"))


async def test_decisions_are_shared_over_a_unix_socket(tenant: LocalTenant, tmp_path: Path) -> None:
    old, socket = tenant.key("previous").kid, tmp_path / "redis.sock"
    server = RedisServer(str(tmp_path), settings=f"--unixsocket {socket}")
    require_program("redis-server", "apt-get install -y redis-server")
    server.start()
    try:
        async with two_instances(tenant, f"unix://{socket}?db=1") as (one, other):
            await one.distrust(old, reason="leaked")
            await eventually(lambda: old in other.distrusted)
    finally:
        server.kill()


async def test_a_fleet_is_not_made_of_nonsense() -> None:
    wrongs: tuple[dict[str, Any], ...] = (
        {"url": ""},
        {"url": "http://127.0.0.1"},
        {"url": "redis://127.0.0.1:port"},
        {"url": "redis://:s3/cret@127.0.0.1"},
        {"url": "redis://127.0.0.1?db=x"},
        {"url": "redis://127.0.0.1?retry=1"},
        {"url": "redis://127.0.0.1?socket_timeout=9999"},
        {"url": "redis://127.0.0.1?credential_provider=1"},
        {"url": "redis://[127.0.0.1"},
        {"prefix": ""},
        {"poll_interval": 0},
        {"poll_interval": 60},
        {"issuer": "two\nlines"},
        {"secret": ""},
        {"secret": "short"},
        {"secret": []},
        {"secret": ["an old secret of ours", "short"]},
        {"secret": ["an old secret of ours"] * 3},
        {"secret": [b"an old secret of ours"]},
        {"secret": b"an old secret of ours"},
        {"secret": "an old secret of ours\n"},
        {"secret": "an old secret of \udcff"},
        {"secret": {"an old secret of ours": 1}},
        {"secret": 1},
    )
    for wrong in wrongs:
        with pytest.raises(ConfigurationError) as refusal:
            RedisFleet(**{"url": "redis://127.0.0.1", **wrong})
        assert "cret@" not in str(refusal.value)
        assert refusal.value.__cause__ is None


async def test_an_option_that_a_url_must_not_have_is_answered_by_those_it_may_have() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        RedisFleet("redis://:s3cret@host?socket_timeout=9&db=1")
    assert str(refusal.value) == (
        "url has an option that is not allowed. It may have these: client_name, db, protocol, "
        "ssl_ca_certs, ssl_ca_path, ssl_cert_reqs, ssl_certfile, ssl_check_hostname, ssl_keyfile, "
        "ssl_min_version."
    )


async def test_a_verifier_shows_its_own_present_state_and_what_is_known_of_its_issuer(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    shared = fleet_of(redis)
    with LocalTenant(in_process=True, algorithm="ES256", issuer="https://other.test/") as other:
        async with instance(tenant, fleet_of(redis)) as gone:
            far = await gone.verify(tenant.token(lifetime=5000.0))
        async with verifier_of(tenant, shared) as one, verifier_of(other, shared) as two:
            await one.verify(tenant.token(lifetime=50.0))  # which Redis does not show yet
            observed = await one.observe(far.kid)
            (state,) = observed.states
            assert state.issuer == tenant.issuer
            assert state.usage[far.kid].accepted == 1
            assert observed.latest_expiry == far.expires_at
            unseen = await two.observe(far.kid)
            assert [state.issuer for state in unseen.states] == [other.issuer]
            assert unseen.latest_expiry is None
