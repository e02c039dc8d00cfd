"""What others write into the fleet's Redis: it lifts nothing, and keeps no decision out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from jwks_guard import DistrustNotSharedError
from jwks_guard.distrust.state import MAX_NUMBER
from jwks_guard.fleet import redis_decisions, soundness
from jwks_guard.fleet.redis_decisions import MAX_ENTRIES
from jwks_guard.testing import LocalTenant
from tests.fleet.instances import DECISIONS, eventually, exchanged, fleet_of, instance, outcome
from tests.redis_server import RedisServer
from tests.support import HandClock

OLD, NEW = "an old secret of ours", "a new secret of ours"
STRANGER = "a stranger's own secret"


def fields(client: Any, kind: str) -> list[list[str]]:
    return [field for each in client.hkeys(DECISIONS) if (field := json.loads(each))[0] == kind]


def put(client: Any, field: list[str], value: bytes | str) -> None:
    """Write an entry as somebody would who knows how they are made, and renew the version."""
    client.hset(DECISIONS, json.dumps(field, separators=(",", ":"), ensure_ascii=False), value)
    client.set("{jwks-guard}:version", "forged")


HOSTILE: list[tuple[bytes, bytes]] = [
    (b"", b""),
    (b"\xff\xfe", b"\x00"),
    (b"[" * 50_000, b"]"),
    (b"9" * 400, b"9" * 400),
    (b'["lifted"]', b"{}"),
    (b'["lifted","ISSUER","KID","REPLICA"]', b'[{"number":"9"},[]]'),
    (b'["lifted","ISSUER","KID","REPLICA"]', b'[{"number":true},[]]'),
    (b'["lifted","ISSUER","KID","REPLICA"]', b'[{"number":1e300},[]]'),
    (b'["lifted","ISSUER","KID","REPLICA"]', b'[{"number":99999999999999999999},[]]'),
    (b'["lifted","ISSUER","KID","REPLICA"]', b'[{"number":-1},[]]'),
    (b'["lifted","ISSUER","KID","REPLICA"]', b'[{"number":0},[]]'),
    (b'["lifted","ISSUER","KID","REPLICA"]', b'[{"number":9,"extra":1},[]]'),
    (b'["lifted","ISSUER","KID","ffffffffffffffffffffffffffffffff"]', b'[{"number":9},[]]'),
    (b'["LIFTED","ISSUER","KID","REPLICA"]', b'[{"number":9},[]]'),
    (b'["lifted","ISSUER ","KID","REPLICA"]', b'[{"number":9},[]]'),
    (b'["lifted","ISSUER","KID","REPLICA",9]', b'[{"number":9},[]]'),
    (b'{"lifted":["ISSUER","KID","REPLICA"]}', b'[{"number":9},[]]'),
    (b'["made","ISSUER","KID","REPLICA"]', b"garbage"),
    (b'["made","ISSUER","KID","REPLICA"]', b'[{"number":NaN},[]]'),
    (b'["made","ISSUER","KID","REPLICA"]', b'[{"number":1e300},[]]'),
    (b'["made","ISSUER","KID","REPLICA"]', b"[" * 50_000),
]


async def test_nothing_malformed_lifts_a_decision_or_stops_the_sharing(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with (
        instance(tenant, fleet_of(redis)) as one,
        instance(tenant, fleet_of(redis)) as other,
    ):
        await one.distrust(old, reason="leaked")
        with redis.client() as client:
            ((_, _, _, replica),) = fields(client, "made")
            names = ((b"ISSUER", tenant.issuer), (b"KID", old), (b"REPLICA", replica))
            for field, value in HOSTILE:
                for name, real in names:
                    field = field.replace(name, real.encode())
                client.hset(DECISIONS, field, value)
                client.set("{jwks-guard}:version", "renewed")
                client.publish("{jwks-guard}:wake", b"decided")
            client.zadd("{jwks-guard}:instances", {"nobody": 1e18, DECISIONS: 1e18, b"\xff": 1e18})
            client.publish("{jwks-guard}:wake", b"\xff" * 1000)
        await one.distrust("new", reason="a second one")
        await eventually(lambda: "new" in other.distrusted)
        assert await outcome(one, token) == await outcome(other, token) == "revoked_key"
        assert await outcome(one, tenant.token()) == tenant.key().kid
        async with instance(tenant, fleet_of(redis)) as late:
            assert await outcome(late, token) == "revoked_key"
            async with fleet_of(redis, issuer=tenant.issuer) as looking:
                assert len((await looking.observe(old)).states) == 3


@pytest.mark.parametrize("secret", [None, NEW])
@pytest.mark.parametrize(
    "value", [b'[{"number":1e300}]', b'[{"number":9007199254740993},[]]', b"[9]", b"x"]
)
async def test_a_forged_number_in_a_field_of_ours_does_not_keep_our_decision_out(
    tenant: LocalTenant, redis: RedisServer, secret: str | None, value: bytes
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with instance(tenant, fleet_of(redis, secret=secret)) as one:
        await one.distrust(old, reason="leaked")
        with redis.client() as client:
            (field,) = fields(client, "made")
            put(client, field, value)
            await eventually(lambda: b"leaked" in b"".join(client.hvals(DECISIONS)))
        await eventually(lambda: one.health().status == "ok")
        async with instance(tenant, fleet_of(redis, secret=secret)) as late:
            assert await outcome(late, token) == "revoked_key"


async def test_the_largest_number_leaves_room_for_a_decision(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    """Without a secret a lift can be forged, but no key be kept from being distrusted again."""
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with (
        instance(tenant, fleet_of(redis)) as one,
        instance(tenant, fleet_of(redis)) as other,
    ):
        await one.distrust(old, reason="leaked")
        await eventually(lambda: old in other.distrusted)
        with redis.client() as client:
            ((_, issuer, kid, replica),) = fields(client, "made")
            put(client, ["lifted", issuer, kid, replica], f'[{{"number":{MAX_NUMBER}}},[]]')
        await eventually(lambda: not one.distrusted and not other.distrusted)
        await one.distrust(old, reason="leaked")
        await eventually(lambda: old in other.distrusted)
        await exchanged(redis)
        assert await outcome(one, token) == await outcome(other, token) == "revoked_key"


@pytest.mark.parametrize("signing", [None, STRANGER])
async def test_with_a_secret_what_others_write_is_ignored_and_reported(
    tenant: LocalTenant, redis: RedisServer, signing: str | None
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    mine = fleet_of(redis, secret=NEW)
    async with instance(tenant, mine) as one:
        await one.distrust(old, reason="leaked")
        assert mine.error is None
        async with instance(tenant, fleet_of(redis, secret=signing)) as forger:
            await forger.distrust("made up", reason="to annoy", force=True)
        await eventually(lambda: one.health().status == "degraded")
        assert "without a valid signature" in str(mine.error)
        assert one.health().last_error == mine.error
        assert list(one.distrusted) == [old]
        with redis.client() as client:
            (forged,) = (field for field in fields(client, "made") if field[2] == "made up")
            client.hdel(DECISIONS, json.dumps(forged, separators=(",", ":")))
        await eventually(lambda: one.health().status == "ok")
        assert await outcome(one, token) == "revoked_key"


async def test_without_the_secret_of_the_others_an_instance_says_that_they_ignore_it(
    tenant: LocalTenant, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    mine = fleet_of(redis)
    async with instance(tenant, mine) as one:
        await one.distrust("mine", reason="leaked")
        await exchanged(redis)
        assert mine.error is None
        async with instance(tenant, fleet_of(redis, secret=NEW)) as signing:
            await signing.distrust("signed", reason="leaked")
            assert list(signing.distrusted) == ["signed"]
        await eventually(lambda: one.health().status == "degraded")
        assert sorted(one.distrusted) == ["mine", "signed"]
        assert "this process has no secret" in str(mine.error)
        assert one.health().last_error == mine.error
        await exchanged(redis)
        assert [each.getMessage() for each in caplog.records].count(str(mine.error)) == 1
        with redis.client() as client:
            client.delete(DECISIONS)
        await eventually(lambda: one.health().status == "ok")
        await exchanged(redis)
        assert sorted(one.distrusted) == ["mine", "signed"]


@pytest.mark.parametrize("secret", [None, NEW])
async def test_entries_that_come_and_go_are_logged_once_a_minute(
    tenant: LocalTenant,
    redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    secret: str | None,
) -> None:
    clock = HandClock()
    mine = fleet_of(redis, secret=secret, issuer=tenant.issuer, clock=clock)
    field, value = made_up(tenant.issuer, range(1)).popitem()

    async def come_and_go() -> None:
        with redis.client() as client:
            put(client, json.loads(field), value.replace("[]", '["forged"]'))
            await mine.exchange()
            assert mine.disagreement is not None
            assert mine.error == mine.disagreement
            client.delete(DECISIONS)
            await mine.exchange()
            assert mine.error is None

    async with mine:
        for minute in range(1, 3):
            for _ in range(5):
                await come_and_go()
            logged = [each for each in caplog.messages if "in the fleet's Redis" in each]
            assert len(logged) == minute
            clock.advance(60)


async def test_what_is_known_of_signatures_stands_until_all_is_read_anew(
    tenant: LocalTenant, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, value = made_up(tenant.issuer, range(1)).popitem()
    async with fleet_of(redis, issuer=tenant.issuer) as mine:
        with redis.client() as client:
            put(client, json.loads(field), value.replace("[]", '["forged"]'))
        await mine.exchange()
        with redis.client() as client:
            client.set("{jwks-guard}:version", "another")
        seen: list[str | None] = []

        async def scanned(*arguments: Any) -> AsyncIterator[Mapping[bytes, bytes]]:
            async for found in scan(*arguments):
                seen.append(mine.error)
                yield found

        scan = redis_decisions._scanned
        monkeypatch.setattr(redis_decisions, "_scanned", scanned)
        await mine.exchange()
        assert seen == [mine.error]
        assert mine.error is not None


async def test_with_a_secret_a_forged_lift_lifts_nothing(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with instance(tenant, fleet_of(redis, secret=NEW)) as one:
        await one.distrust(old, reason="leaked")
        await one.distrust("lifted", reason="leaked")
        await one.reinstate("lifted", reason="a mistake")
        with redis.client() as client:
            (made,) = (field for field in fields(client, "made") if field[2] == old)
            (lift,) = fields(client, "lifted")
            signed = client.hget(DECISIONS, json.dumps(lift, separators=(",", ":")))
            unsigned = b'[{"number":9,"reason":"forged","at":1.0,"by":"me"},[]]'
            for value in (unsigned, signed, signed.replace(b'"number":1', b'"number":9')):
                put(client, ["lifted", *made[1:]], value)
                await exchanged(redis)
                assert await outcome(one, token) == "revoked_key"
                async with instance(tenant, fleet_of(redis, secret=NEW)) as late:
                    assert await outcome(late, token) == "revoked_key"
                    assert list(late.distrusted) == [old]


async def test_an_entry_that_was_overwritten_in_silence_is_written_again(
    tenant: LocalTenant, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_decisions, "_REREAD_SECONDS", 0.2)
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with instance(tenant, fleet_of(redis, secret=NEW)) as one:
        await one.distrust(old, reason="leaked")
        with redis.client() as client:
            (field,) = client.hkeys(DECISIONS)[:1]
            client.hset(DECISIONS, field, "overwritten")
            await eventually(lambda: client.hget(DECISIONS, field) != b"overwritten")
        async with instance(tenant, fleet_of(redis, secret=NEW)) as late:
            assert await outcome(late, token) == "revoked_key"


async def test_a_secret_is_replaced_without_a_decision_being_lost_or_unheard(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    """As in two rolling restarts: both secrets for each instance, then the new one alone."""
    kids = ["before", "old", "both", "new", tenant.key("previous").kid]
    async with instance(tenant, fleet_of(redis, secret=OLD)) as old:
        await old.distrust("before", reason="leaked")
        async with instance(tenant, fleet_of(redis, secret=[NEW, OLD])) as both:
            assert list(both.distrusted) == ["before"]
            await old.distrust("old", reason="leaked")
            await both.distrust("both", reason="leaked")
            await eventually(lambda: len(old.distrusted) == len(both.distrusted) == 3)
            await exchanged(redis)
            assert old.health().status == both.health().status == "ok"
            await old.aclose()
            async with instance(tenant, fleet_of(redis, secret=NEW)) as new:
                assert sorted(new.distrusted) == sorted(kids[:3])
                await new.distrust("new", reason="leaked")
                await both.distrust(kids[4], reason="leaked")
                await eventually(lambda: len(new.distrusted) == len(both.distrusted) == 5)
                await exchanged(redis)
                assert new.health().status == both.health().status == "ok"
    async with instance(tenant, fleet_of(redis, secret=NEW)) as late:
        assert sorted(late.distrusted) == sorted(kids)


@pytest.mark.parametrize("name", ["decisions", "instances", "expiries:ISSUER", "lifetimes:ISSUER"])
async def test_a_key_of_the_wrong_type_degrades_and_undoes_nothing(
    tenant: LocalTenant, redis: RedisServer, name: str
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with instance(tenant, fleet_of(redis)) as one:
        assert await outcome(one, token) == old
        with redis.client() as client:
            client.flushall()
            client.set(f"{{jwks-guard}}:{name.replace('ISSUER', tenant.issuer)}", "of another type")
        await eventually(lambda: one.health().status == "degraded")
        assert "WRONGTYPE" in str(one.health().last_error)
        with pytest.raises(DistrustNotSharedError):
            await one.distrust(old, reason="leaked")
        assert await outcome(one, token) == "revoked_key"
        with redis.client() as client:
            client.flushall()
        await eventually(lambda: one.health().status == "ok")
        async with instance(tenant, fleet_of(redis)) as late:
            assert await outcome(late, token) == "revoked_key"


def made_up(issuer: str, kids: range) -> dict[str, str]:
    replica = "f" * 32
    return {json.dumps(["made", issuer, str(kid), replica]): '[{"number":1},[]]' for kid in kids}


async def test_more_entries_than_anybody_makes_are_not_read(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with instance(tenant, fleet_of(redis)) as one:
        await one.distrust(old, reason="leaked")
        with redis.client() as client:
            client.hset(DECISIONS, mapping={str(number): "" for number in range(MAX_ENTRIES)})
        await eventually(lambda: one.health().status == "degraded")
        assert f"more than {MAX_ENTRIES} entries" in str(one.health().last_error)
        assert await outcome(one, token) == "revoked_key"


async def test_an_exchange_that_fails_breaks_off_no_other(
    tenant: LocalTenant, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_decisions, "MAX_ENTRIES", 50)
    with redis.client() as client:
        client.hset(DECISIONS, mapping=made_up(tenant.issuer, range(51)))
    async with fleet_of(redis, issuer=tenant.issuer) as fleet:
        exchanges = (fleet.exchange() for _ in range(9))
        failures = await asyncio.gather(*exchanges, return_exceptions=True)
    assert all("more than 50 entries" in str(failure) for failure in failures), failures


async def test_decisions_about_issuers_that_nobody_here_verifies_are_ignored(
    tenant: LocalTenant, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 500
    monkeypatch.setattr(redis_decisions, "MAX_ENTRIES", limit)
    old = tenant.key("previous").kid
    with redis.client() as client:
        client.hset(DECISIONS, mapping=made_up("https://stranger.test/", range(limit)))
        async with instance(tenant, fleet_of(redis)) as one:
            assert one.health().status == "ok"
            assert dict(one.keys.register.state.flags) == {}
            with pytest.raises(DistrustNotSharedError, match="more than"):
                await one.distrust(old, reason="leaked")  # then nobody would read anything
            assert client.hlen(DECISIONS) == limit
            client.delete(DECISIONS)
            await eventually(lambda: one.health().status == "ok")
            assert sorted(kind for kind, *_ in map(json.loads, client.hkeys(DECISIONS))) == [
                "key",
                "made",
            ]
            async with instance(tenant, fleet_of(redis)) as late:
                assert list(late.distrusted) == [old]


async def test_made_up_decisions_do_not_pile_up_beyond_the_limit(
    tenant: LocalTenant, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 500
    monkeypatch.setattr(soundness, "MAX_DECISIONS", limit)
    async with instance(tenant, fleet_of(redis)) as one:
        with redis.client() as client:
            client.hset(DECISIONS, mapping=made_up(tenant.issuer, range(limit - 100)))
            await eventually(lambda: len(one.distrusted) == limit - 100)
            client.delete(DECISIONS)
            client.hset(DECISIONS, mapping=made_up(tenant.issuer, range(1000, 1000 + limit)))
            await eventually(lambda: one.health().status == "degraded")
            assert "more than" in str(one.health().last_error)
            assert len(one.distrusted) <= limit
            client.flushall()
        await eventually(lambda: one.health().status == "ok")
