"""A Redis that is down, silent, cut off or forbids things; forks, loops and what is left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx
import pytest

from jwks_guard import (
    ConfigurationError,
    DistrustNotSharedError,
    JWKSGuardError,
    KeysUnavailableError,
    SyncTokenVerifier,
)
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.base.portal import process_portal
from jwks_guard.fleet import RedisFleet, commands, redis_decisions
from jwks_guard.fleet.commands import CUT_OFF_REFRESH_SECONDS
from jwks_guard.fleet.redis_states import STATE_SECONDS
from jwks_guard.testing import LocalTenant
from tests.bounds import shorten_redis
from tests.fleet.cable import cable_to
from tests.fleet.instances import (
    PATIENCE,
    POLL,
    eventually,
    exchanged,
    fleet_of,
    instance,
    outcome,
    verifier_of,
)
from tests.listening import listening
from tests.redis_server import RedisServer

SECRET = "correct-horse-battery"


@contextmanager
def silent_server() -> Iterator[str]:
    """The URL of a server that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"redis://:{SECRET}@127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def rogue_server(answers: Mapping[bytes, bytes]) -> AsyncIterator[str]:
    """The URL of one that answers these commands so, and all the others with OK."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(Exception):
            while line := await reader.readline():
                words = []
                for _ in range(int(line[1:])):
                    length = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(length + 2))[:-2])
                writer.write(answers.get(words[0].upper(), b"+OK\r\n"))

    async with listening(serve) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


OK = b"+OK\r\n"
ONE = {b"GET": b"$1\r\nv\r\n", b"HLEN": b":1\r\n"}
ROGUES: list[dict[bytes, bytes]] = [
    {},
    {b"HLEN": b"_\r\n"},
    {b"HLEN": b"rubbish\r\n"},
    {b"HLEN": b"$1\r\nv\r\n"},
    ONE,
    ONE | {b"HSCAN": b"*2\r\n$1\r\n0\r\n*2\r\n*1\r\n$1\r\na\r\n$1\r\nb\r\n"},
    ONE | {b"HSCAN": b"*2\r\n$1\r\n0\r\n*2\r\n:5\r\n:6\r\n"},
    ONE | {b"HSCAN": b"*2\r\n$1\r\nx\r\n*0\r\n"},
    ONE | {b"HSCAN": b"*2\r\n$1\r\n7\r\n*0\r\n"},
]
EMPTY = ONE | {b"HSCAN": b"*2\r\n$1\r\n0\r\n*0\r\n"}
LIARS: list[dict[bytes, bytes]] = [
    EMPTY,
    EMPTY | {b"EVAL": b"*0\r\n"},
    EMPTY | {b"EVAL": b"*2\r\n:1\r\n$1\r\nv\r\n"},
    ONE | {b"HSCAN": b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n"},
    ONE | {b"HSCAN": b"*2\r\n$1\r\n0\r\n$1\r\na\r\n"},
]
"""What they answer could be true: nothing is there, and what is written is kept."""


async def error_of(call: Awaitable[object]) -> str | None:
    try:
        await call
    except JWKSGuardError as error:
        return error.code
    return None


@pytest.mark.parametrize("answers", [*ROGUES, *LIARS])
async def test_whatever_a_server_answers_tokens_are_verified_and_only_our_errors_are_raised(
    tenant: LocalTenant, answers: dict[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_decisions, "MAX_ENTRIES", 50)  # as it may go on for as long
    monkeypatch.setattr(commands, "ACKNOWLEDGE_SECONDS", 0.1)
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with rogue_server(answers) as url:
        fleet = RedisFleet(url, poll_interval=POLL)
        async with instance(tenant, fleet) as one:
            assert await outcome(one, token) == old
            assert answers in LIARS or one.health().status == "degraded"
            for call in (
                one.distrust(old, reason="leaked"),
                fleet.observe(old),
                fleet.distrust(old, reason="leaked"),
            ):
                raised = await error_of(call)
                assert raised == "distrust_not_shared" or answers in LIARS
            assert await outcome(one, token) == "revoked_key"
            assert await outcome(one, tenant.token()) == tenant.key().kid
            with suppress(DistrustNotSharedError):  # it may say that it keeps what it is told
                await fleet.reinstate(old, reason="a mistake")


async def test_without_redis_at_the_start_tokens_are_verified_and_health_says_why(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    redis.kill()
    url = f"redis://user:{SECRET}@127.0.0.1:{redis.port}"
    async with instance(tenant, fleet_of(redis, url=url)) as one:
        assert await outcome(one, tenant.token()) == tenant.key().kid
        report = one.health()
        assert report.status == "degraded"
        assert "Redis can't be reached" in str(report.last_error)
        assert SECRET not in repr(report) + repr(one.keys.fleet)


async def test_a_fleet_that_is_required_is_required_at_every_try(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    redis.kill()
    verifier = verifier_of(tenant, fleet_of(redis, require_fleet=True))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="require_fleet"):
            await verifier.start()
        with pytest.raises(ConfigurationError, match="require_fleet"):
            await verifier.verify(tenant.token())
    redis.start()
    await verifier.start()
    assert await outcome(verifier, tenant.token()) == tenant.key().kid
    redis.kill()
    await eventually(lambda: verifier.health().status == "degraded")
    assert await outcome(verifier, tenant.token()) == tenant.key().kid  # it started with it
    await verifier.aclose()


async def test_a_decision_made_while_redis_is_down_holds_here_and_goes_out_when_it_is_back(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with (
        instance(tenant, fleet_of(redis)) as one,
        instance(tenant, fleet_of(redis)) as other,
    ):
        redis.kill()
        with pytest.raises(DistrustNotSharedError, match="Redis"):
            await one.distrust(old, reason="leaked")
        assert await outcome(one, token) == "revoked_key"
        assert await outcome(other, token) == old
        with pytest.raises(DistrustNotSharedError):
            await one.reinstate(old, reason="a mistake")
        assert await outcome(one, token) == "revoked_key"
        redis.start()
        await eventually(lambda: old in other.distrusted)
        await eventually(lambda: one.health().status == "ok")


async def test_a_fleet_told_while_redis_is_down_tells_at_least_its_own_verifiers(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    fleet = fleet_of(redis)
    async with instance(tenant, fleet) as one, fleet_of(redis, issuer=tenant.issuer) as alone:
        redis.kill()
        with pytest.raises(DistrustNotSharedError, match="with the next exchange") as here:
            await fleet.distrust(old, reason="leaked")
        assert here.value.here
        assert await outcome(one, token) == "revoked_key"
        with pytest.raises(DistrustNotSharedError, match="Nothing was lifted"):
            await fleet.reinstate(old, reason="a mistake")
        assert await outcome(one, token) == "revoked_key"
        with pytest.raises(DistrustNotSharedError, match="Repeat the call") as nowhere:
            await alone.distrust(old, reason="leaked")
        assert not nowhere.value.here


async def test_while_cut_off_keys_are_refreshed_every_ten_seconds(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    async with instance(tenant, fleet_of(redis), refresh_interval=600.0, max_stale=3600.0) as one:
        assert one.keys.seconds_until_tick() > 4.9  # the longest nap: nothing is due
        due = one.keys._refresher._freshness.next_due
        now = one.keys._refresher._now
        assert due(now()) > 400.0
        redis.kill()
        await eventually(lambda: one.health().status == "degraded")
        assert due(now()) <= CUT_OFF_REFRESH_SECONDS
        await one.keys.refresh()
        assert due(now()) <= CUT_OFF_REFRESH_SECONDS
        redis.start()
        await eventually(lambda: one.health().status == "ok")
        await one.keys.refresh()
        assert due(now()) > 400.0


async def test_a_redis_that_never_answers_keeps_nobody_waiting_for_long(
    tenant: LocalTenant, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_redis(monkeypatch, 0.2)
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    with silent_server() as url:
        began = time.monotonic()
        async with instance(tenant, fleet_of(redis, url=url)) as one:
            assert time.monotonic() - began < 3.0
            assert await outcome(one, token) == old
            deciding = asyncio.create_task(one.distrust(old, reason="leaked"))
            await asyncio.sleep(0)
            assert await outcome(one, token) == "revoked_key"
            with pytest.raises(DistrustNotSharedError) as refusal:
                await deciding
            assert SECRET not in str(refusal.value) + str(one.health())
            began = time.monotonic()
        assert time.monotonic() - began < 3.0


async def test_a_flood_of_wake_up_calls_neither_keeps_decisions_back_nor_the_loop_busy(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old = tenant.key("previous").kid
    async with (
        instance(tenant, fleet_of(redis)) as one,
        instance(tenant, fleet_of(redis)) as other,
    ):
        calls, flooding = 0, True

        def flood() -> None:
            nonlocal calls
            with redis.client() as client:
                while flooding:
                    for call in (b"decided", b"refresh", b"\xff"):
                        client.publish("{jwks-guard}:wake", call)
                        calls += 1

        flood_ends = asyncio.create_task(asyncio.to_thread(flood))
        try:
            await eventually(lambda: calls > 100)
            with redis.client() as client:
                began, before, earlier = time.monotonic(), exchanges(client), calls
                await eventually(lambda: calls > earlier + 2000)
                made, seconds = exchanges(client) - before, time.monotonic() - began
            tenant.requests.clear()
            await one.distrust(old, reason="leaked")
            await eventually(lambda: old in other.distrusted)
        finally:
            flooding = False
            await flood_ends
        assert made < 2 * 60 * (seconds + 1.0)  # of two instances
        assert tenant.requests.count() <= 4


def exchanges(client: Any) -> int:
    """How many were made until now: each ends with a look for instances that are gone."""
    return int(client.info("commandstats")["cmdstat_zremrangebyscore"]["calls"])


ACL = [
    "ACL SETUSER api reset on >{secret} resetchannels &{{jwks-guard}}:wake",
    "-@all +hello +auth +select +ping",
    "+subscribe +unsubscribe +publish",
    "(+eval ~{{jwks-guard}}:decisions ~{{jwks-guard}}:version) (+get +set ~{{jwks-guard}}:version)",
    "(+hlen +hscan +hget +hset ~{{jwks-guard}}:decisions)",
    "(+get +mget +set +del ~{{jwks-guard}}:state:*)",
    "(+zadd +zrem +zrevrange +zremrangebyscore ~{{jwks-guard}}:instances)",
    "(+zadd +zscore ~{{jwks-guard}}:expiries:* ~{{jwks-guard}}:lifetimes:*)",
]


async def test_the_documented_privileges_are_enough_and_can_erase_no_decision(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    from redis import Redis, ResponseError

    old = tenant.key("previous").kid
    url = f"redis://api:{SECRET}@127.0.0.1:{redis.port}"
    with redis.client() as client:
        words = " ".join(ACL).format(secret=SECRET)
        rules = words.replace("(", "\0(").replace(")", ")\0").split("\0")
        command = [w for part in rules for w in ([part] if part.startswith("(") else part.split())]
        client.execute_command(*command)
        client.config_resetstat()
        try:
            async with (
                instance(tenant, fleet_of(redis, url=url)) as one,
                instance(tenant, fleet_of(redis, url=url)) as other,
                fleet_of(redis, url=url, issuer=tenant.issuer) as fleet,
            ):
                await other.verify(tenant.token())
                refusals = await fleet.distrust(old, reason="leaked")
                assert [refusal.error for refusal in refusals] == [None, None]
                await one.reinstate(old, reason="a mistake")
                await eventually(lambda: old not in other.distrusted)
                await fleet.keys.refresh()
                await fleet.observe(old)
                assert one.health().status == other.health().status == "ok"
            assert client.acl_log() == []
            with Redis.from_url(url) as intruder:
                for attempt in (
                    ("DEL", "{jwks-guard}:decisions"),
                    ("SET", "{jwks-guard}:decisions", "x"),
                    ("HDEL", "{jwks-guard}:decisions", "x"),
                    ("RENAME", "{jwks-guard}:decisions", "x"),
                    ("EVAL", "return redis.call('DEL', KEYS[1])", 1, "{jwks-guard}:decisions"),
                    ("FLUSHALL",),
                    ("KEYS", "*"),
                    ("CONFIG", "GET", "*"),
                    ("GET", "another application's"),
                    ("PUBLISH", "another application's", "x"),
                ):
                    with pytest.raises(ResponseError, match=r"permission|can't access"):
                        intruder.execute_command(*attempt)
        finally:
            client.execute_command("ACL", "DELUSER", "api")
            client.execute_command("ACL", "LOG", "RESET")


async def test_a_user_who_may_only_read_is_told_what_is_forbidden(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with instance(tenant, fleet_of(redis)) as one:
        await one.distrust(old, reason="leaked")
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", "nopass", "~*", "&*", "+@read")
        client.execute_command("ACL", "SETUSER", "reader", "+@connection", "+@pubsub")
        url = f"redis://reader:{SECRET}@127.0.0.1:{redis.port}"
        async with instance(tenant, fleet_of(redis, url=url)) as one:
            assert await outcome(one, token) == "revoked_key"  # what can be read counts
            assert "permission" in str(one.health().last_error)
        client.execute_command("ACL", "DELUSER", "reader")


async def test_nothing_is_left_when_a_verifier_is_closed(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    tasks = asyncio.all_tasks()
    async with instance(tenant, fleet_of(redis)) as one:
        await one.distrust("k", reason="leaked")
        with redis.client() as client:
            (name,) = client.keys("{jwks-guard}:state:*")
            assert 0 < client.pttl(name) <= STATE_SECONDS * 1000
    assert asyncio.all_tasks() == tasks
    with redis.client() as client:
        assert client.keys("{jwks-guard}:state:*") == []
        assert client.zcard("{jwks-guard}:instances") == 0
        assert len(client.client_list()) == 1
    await one.start()  # and again
    assert one.health().status == "ok"
    await one.aclose()
    assert asyncio.all_tasks() == tasks


async def test_the_watch_ends_when_nobody_holds_the_verifier_any_more(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    tasks = asyncio.all_tasks()
    verifier = verifier_of(tenant, fleet_of(redis), background=False)
    await verifier.verify(tenant.token())
    assert asyncio.all_tasks() != tasks
    del verifier
    gc.collect()
    await eventually(lambda: asyncio.all_tasks() == tasks)
    with redis.client() as client:
        assert len(client.client_list()) == 1


async def test_a_second_event_loop_is_told_to_use_a_fleet_of_its_own(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    fleet = fleet_of(redis)
    async with instance(tenant, fleet) as one:
        second = SyncTokenVerifier(
            tenant.issuer,
            tenant.audience,
            algorithms=["ES256"],
            http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
            fleet=fleet,
        )
        with pytest.raises(ConfigurationError, match="event loop"):
            await asyncio.to_thread(second.start)
        await asyncio.to_thread(second.close)
        await one.distrust("k", reason="leaked")
        assert one.health().status == "ok"


def test_a_loop_that_has_ended_is_followed_by_the_next(
    tenant: LocalTenant, redis: RedisServer, recwarn: pytest.WarningsRecorder
) -> None:
    verifier = verifier_of(tenant, fleet_of(redis), background=False)

    async def use() -> str:
        said = await outcome(verifier, tenant.token())
        return f"{said} {verifier.health().status}"

    good = f"{tenant.key().kid} ok"
    assert asyncio.run(use()) == good
    assert asyncio.run(use()) == good
    asyncio.run(verifier.aclose())
    gc.collect()


async def test_a_loop_that_stands_still_neither_keeps_a_decision_back_here_nor_its_maker_waiting(
    tenant: LocalTenant, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jwks_guard.keys.fleet.LONGEST_STEP_SECONDS", 0.1)
    old = tenant.key("previous").kid
    portal = process_portal.get()
    verifier = verifier_of(tenant, fleet_of(redis))
    await asyncio.to_thread(lambda: portal.call(verifier.start))
    standing, enough = threading.Event(), threading.Event()

    async def stand_still() -> None:
        standing.set()
        enough.wait(PATIENCE)

    blocked = asyncio.create_task(asyncio.to_thread(portal.call, stand_still))
    await eventually(standing.is_set)
    with pytest.raises(DistrustNotSharedError, match="loop"):
        await verifier.distrust(old, reason="leaked")
    assert old in verifier.distrusted
    enough.set()
    await blocked
    await asyncio.to_thread(portal.call, verifier.aclose)


async def test_the_apps_lifespan_starts_and_ends_the_sharing(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    verifier = verifier_of(tenant, fleet_of(redis))
    sent: list[str] = []
    messages = asyncio.Queue[dict[str, Any]]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("not asked")

    async def send(message: Any) -> None:
        sent.append(message["type"])

    guard = JWKSGuardMiddleware(app, verifier=verifier)
    living = asyncio.create_task(guard({"type": "lifespan"}, messages.get, send))
    messages.put_nowait({"type": "lifespan.startup"})
    await eventually(lambda: sent == ["lifespan.startup.complete"])
    assert verifier.health().status == "ok"
    with redis.client() as client:
        assert len(client.keys("{jwks-guard}:state:*")) == 1
        messages.put_nowait({"type": "lifespan.shutdown"})
        await living
        assert client.keys("{jwks-guard}:state:*") == []


async def test_a_required_redis_that_is_down_keeps_the_app_from_starting(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    redis.kill()
    verifier = verifier_of(tenant, fleet_of(redis, require_fleet=True))
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("not asked")

    with pytest.raises(ConfigurationError):
        await JWKSGuardMiddleware(app, verifier=verifier)({"type": "lifespan"}, receive, send)
    (message,) = sent
    assert message["type"] == "lifespan.startup.failed"
    assert "Redis" in message["message"]


async def test_an_outage_is_logged_once_and_without_the_password(
    tenant: LocalTenant, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.client() as client:
        client.config_set("requirepass", SECRET)
        async with (
            cable_to(redis.port) as cable,
            instance(tenant, fleet_of(redis, url=cable.url_of(f":{SECRET}@"))) as one,
        ):
            assert one.health().status == "ok"
            with caplog.at_level(logging.DEBUG):
                cable.cut()
                await eventually(lambda: one.health().status == "degraded")
                await eventually(lambda: cable.refused >= 3)
        client.config_set("requirepass", "")
    ours = [r for r in caplog.records if r.name == "jwks_guard" and "Redis" in r.getMessage()]
    assert len(ours) == 1
    assert SECRET not in caplog.text


async def test_keys_of_a_fleet_are_those_that_every_instance_trusts(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    async with fleet_of(redis, issuer=tenant.issuer) as fleet:
        with pytest.raises(KeysUnavailableError):
            await fleet.keys.refresh()
        async with instance(tenant, fleet_of(redis)) as one:
            tenant.rotate()
            await fleet.keys.refresh()  # which has the instances ask the tenant
            assert fleet.keys.kids == set(one.keys.kids)
            assert tenant.key().kid in fleet.keys.kids


async def test_outage_from_the_start_and_its_end_are_logged(
    tenant: LocalTenant, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jwks_guard")
    redis.kill()
    async with instance(tenant, fleet_of(redis)) as verifier:
        assert "The fleet's Redis can't be reached" in caplog.text
        redis.start()
        await eventually(lambda: verifier.health().last_error is None)
    assert "the fleet's Redis answers again" in caplog.text


async def test_decisions_that_another_secret_signed_are_ignored_and_that_is_logged_once(
    tenant: LocalTenant, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    kid = tenant.key("previous").kid
    async with (
        instance(tenant, fleet_of(redis, secret="another " + SECRET)) as stranger,
        instance(tenant, fleet_of(redis, secret=SECRET)) as verifier,
    ):
        await stranger.distrust(kid, reason="leaked")
        await eventually(lambda: "without a valid signature" in caplog.text)
        await exchanged(redis)
        assert kid not in verifier.distrusted
    assert caplog.text.count("without a valid signature") == 1
