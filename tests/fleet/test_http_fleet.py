"""A fleet over the operations routes of its instances, and what its network can't make of it."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jwks_guard import Register, TokenVerifier
from jwks_guard.asgi import operations
from jwks_guard.distrust.copy import CopyError
from jwks_guard.distrust.state import Decision, Distrust
from jwks_guard.errors import (
    ConfigurationError,
    DistrustNotSharedError,
    KeysUnavailableError,
    RevocationRefusedError,
)
from jwks_guard.fleet import HTTPFleet, http_messages, soundness
from jwks_guard.fleet.http_messages import MAX_MESSAGE_BYTES, furthest
from jwks_guard.fleet.soundness import MAX_DECISIONS
from jwks_guard.readiness.usage import Reach
from jwks_guard.testing import LocalTenant
from tests.fleet.clusters import SECRET
from tests.fleet.instances import POLL, eventually, outcome, verifier_of
from tests.support import JWKS, HandClock, tenant_of


class Network(httpx.AsyncBaseTransport):
    """Hosts of this process, each with an app; any of them can be cut off or stand still."""

    def __init__(self) -> None:
        self.apps: dict[str, ASGIApp] = {}
        self.down: set[str] = set()
        self.frozen: set[str] = set()
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        host = request.url.host
        if host in self.down or host not in self.apps:
            raise httpx.ConnectError("connection refused", request=request)
        if host in self.frozen:
            await asyncio.Future()
        return await httpx.ASGITransport(self.apps[host]).handle_async_request(request)

    def count(self, method: str, path: str) -> int:
        return sum(each.method == method and each.url.path == path for each in self.requests)

    def fleet(self, *hosts: str, **options: Any) -> HTTPFleet:
        options.setdefault("secret", SECRET)
        options.setdefault("poll_interval", POLL)
        options.setdefault("http_client", lambda: httpx.AsyncClient(transport=self))
        return HTTPFleet([f"https://{host}/ops" for host in hosts], **options)


class Identified:
    """An app that shows one of `ids` as its process, each in turn."""

    def __init__(self, app: ASGIApp, *ids: str) -> None:
        self.app = app
        self.ids = ids
        self.turn = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        instance = self.ids[self.turn % len(self.ids)]
        self.turn += 1

        async def renamed(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [(k, v) for k, v in message["headers"] if k != b"jwks-guard-instance"]
                message["headers"] = [*others, (b"jwks-guard-instance", instance.encode())]
            await send(message)

        await self.app(scope, receive, renamed)


def app_of(verifier: TokenVerifier) -> Starlette:
    return Starlette(routes=[Mount("/ops", operations(verifier, operations_auth=SECRET))])


@pytest.fixture
def network() -> Network:
    return Network()


@asynccontextmanager
async def instance(
    network: Network, tenant: LocalTenant, host: str, fleet: HTTPFleet | None, **options: Any
) -> AsyncIterator[TokenVerifier]:
    """One that is served at `host`, with a register of its own."""
    options.setdefault("register", Register())
    verifier = verifier_of(tenant, fleet=fleet, **options)
    network.apps[host] = app_of(verifier)
    async with verifier:
        yield verifier
    del network.apps[host]


@asynccontextmanager
async def three(
    network: Network, tenant: LocalTenant, **options: Any
) -> AsyncIterator[list[TokenVerifier]]:
    hosts = ("one.test", "two.test", "three.test")
    async with AsyncExitStack() as running:
        verifiers = [
            await running.enter_async_context(
                instance(network, tenant, host, network.fleet(*hosts, **options))
            )
            for host in hosts
        ]
        await eventually(lambda: all(each.keys.fleet.error is None for each in verifiers))  # type: ignore[union-attr]
        yield verifiers


# --- between instances ---


async def test_what_one_distrusts_the_others_refuse_when_the_call_returns(
    tenant: LocalTenant, network: Network
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with three(network, tenant, poll_interval=5.0) as verifiers:
        for verifier in verifiers:
            assert await outcome(verifier, token) == old
        await verifiers[0].distrust(old, reason="leaked")
        for verifier in verifiers:
            assert await outcome(verifier, token) == "revoked_key"
            assert verifier.distrusted[old].reason == "leaked"
            assert await outcome(verifier, tenant.token()) == tenant.key().kid


async def test_who_starts_later_refuses_from_its_first_token(
    tenant: LocalTenant, network: Network
) -> None:
    old, token = tenant.key("previous"), tenant.token(key="previous")
    hosts = ("one.test", "two.test")
    async with instance(network, tenant, "one.test", network.fleet(*hosts)) as one:
        with pytest.raises(DistrustNotSharedError, match=r"two\.test"):
            await one.distrust(old.kid, reason="leaked")
        tenant.publish({**old.jwk, "kid": "another"})
        async with instance(network, tenant, "two.test", network.fleet(*hosts)) as two:
            assert await outcome(two, token) == "revoked_key"
            assert await outcome(two, tenant.token(key=old, kid="another")) == "revoked_key"
            await eventually(lambda: one.health().status == "ok")


async def test_who_was_away_when_it_was_asked_last_is_told_all_the_same(
    tenant: LocalTenant, network: Network
) -> None:
    old, hosts = tenant.key("previous").kid, ("one.test", "two.test")
    async with instance(network, tenant, "one.test", network.fleet(*hosts)) as one:
        assert "two.test" in str(one.health().last_error)
        async with instance(network, tenant, "two.test", None) as two:
            await one.distrust(old, reason="leaked")
            assert old in two.distrusted


async def test_a_frozen_instance_does_not_keep_the_others_from_being_told(
    tenant: LocalTenant, network: Network
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with three(network, tenant, timeout=2.0) as (one, two, _):
        network.frozen.add("three.test")
        telling = asyncio.create_task(one.distrust(old, reason="leaked"))
        await eventually(lambda: old in two.distrusted)
        assert not telling.done()
        assert await outcome(two, token) == "revoked_key"
        with pytest.raises(DistrustNotSharedError, match=r"no complete answer within 2 s"):
            await telling


async def test_an_instance_that_can_not_store_a_decision_refuses_the_key_and_is_named(
    tenant: LocalTenant, network: Network, tmp_path: Path
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    hosts, snapshot = ("one.test", "two.test"), tmp_path / "keys.json"
    async with (
        instance(network, tenant, "two.test", None, snapshot_path=snapshot) as two,
        instance(network, tenant, "one.test", network.fleet(*hosts)) as one,
    ):
        await two.distrust("earlier", reason="leaked")
        journal = snapshot.with_name("keys.json.tombstones")
        journal.chmod(0o644)
        with pytest.raises(DistrustNotSharedError, match=r"two\.test.*holds the decisions, but"):
            await one.distrust(old, reason="leaked")
        assert await outcome(two, token) == "revoked_key"
        journal.chmod(0o600)
        await one.reinstate(old, reason="a mistake")
        assert old not in two.distrusted


async def test_an_instance_without_the_fleet_is_told_by_those_that_have_it(
    tenant: LocalTenant, network: Network
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with (
        instance(network, tenant, "plain.test", None) as plain,
        instance(network, tenant, "one.test", network.fleet("one.test", "plain.test")) as one,
    ):
        await one.distrust(old, reason="leaked")
        assert await outcome(plain, token) == "revoked_key"
        await plain.distrust("decided there", reason="leaked")
        await eventually(lambda: "decided there" in one.distrusted)


async def test_a_restarted_instance_that_forgot_everything_is_told_again(
    tenant: LocalTenant, network: Network
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with instance(network, tenant, "one.test", network.fleet("one.test", "two.test")) as one:
        async with instance(network, tenant, "two.test", None) as before:
            await eventually(lambda: one.health().status == "ok")
            await one.distrust(old, reason="leaked")
            assert old in before.distrusted
        async with instance(network, tenant, "two.test", None) as after:
            network.apps["two.test"] = Identified(network.apps["two.test"], secrets.token_hex(16))
            await eventually(lambda: old in after.distrusted)
            assert await outcome(after, token) == "revoked_key"
            await eventually(lambda: one.health().status == "ok")


async def test_instance_that_answers_well_and_does_not_hold_the_decision_is_an_error(
    tenant: LocalTenant, network: Network
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    hosts = ("one.test", "two.test")
    network.apps["two.test"] = two = Scripted(tenant.issuer)
    async with instance(network, tenant, "one.test", network.fleet(*hosts)) as one:
        with pytest.raises(DistrustNotSharedError, match="does not hold"):
            await one.distrust(old, reason="leaked")
        calls = network.count("POST", "/ops/fleet/exchange")
        await eventually(lambda: network.count("POST", "/ops/fleet/exchange") > calls + 8)
        assert "does not hold" in str(one.health().last_error)
        two.parts = [part(tenant.issuer, old, lifted=9)]  # of a decision that nobody made
        two.version = "2"
        calls = network.count("POST", "/ops/fleet/exchange")
        await eventually(lambda: network.count("POST", "/ops/fleet/exchange") > calls + 8)
        assert await outcome(one, token) == "revoked_key"
        assert one.health().status == "degraded"


async def test_fleet_whose_issuer_no_instance_verifies_is_told_so(
    tenant: LocalTenant, network: Network
) -> None:
    async with instance(network, tenant, "one.test", None) as one:
        fleet = network.fleet("one.test", issuer=tenant.issuer.removesuffix("/"))
        with pytest.raises(DistrustNotSharedError, match=r"no tokens of https://"):
            await fleet.distrust("k", reason="leaked")
        assert dict(one.distrusted) == {}


async def test_verifiers_of_two_registers_share_no_fleet(
    tenant: LocalTenant, network: Network
) -> None:
    fleet = network.fleet("one.test")
    async with instance(network, tenant, "one.test", fleet):
        with pytest.raises(ConfigurationError, match="one register"):
            await verifier_of(tenant, fleet=fleet, register=Register()).start()


async def test_the_exchange_ends_with_the_last_verifier(
    tenant: LocalTenant, network: Network
) -> None:
    async with three(network, tenant):
        pass
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def test_while_one_is_away_keys_are_refreshed_more_often(
    clock: HandClock, network: Network
) -> None:
    fleet = network.fleet("one.test", "two.test")
    with tenant_of(clock) as tenant:

        async def fetched_after_ten_seconds() -> bool:
            before = tenant.requests.count(JWKS)
            clock.advance(10.1)
            await one.keys.tick()
            return tenant.requests.count(JWKS) > before

        async with (
            instance(network, tenant, "two.test", None),
            instance(network, tenant, "one.test", fleet, clock=clock) as one,
        ):
            await fleet.exchange()
            await one.keys.refresh()
            assert not await fetched_after_ten_seconds()
            network.down.add("two.test")
            with pytest.raises(CopyError, match=r"two\.test"):
                await fleet.exchange()
            assert await fetched_after_ten_seconds()
            network.down.clear()
            await fleet.exchange()
            await one.keys.refresh()
            assert not await fetched_after_ten_seconds()


async def test_instance_that_goes_and_comes_back_is_two_lines_of_the_log(
    tenant: LocalTenant, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = network.fleet("one.test", "two.test")
    async with (
        instance(network, tenant, "two.test", None),
        instance(network, tenant, "one.test", fleet),
    ):
        await fleet.exchange()
        network.down.add("two.test")
        for _ in range(3):
            both = [fleet.exchange(), fleet.exchange()]  # as a call while the fleet watches
            for failed in await asyncio.gather(*both, return_exceptions=True):
                assert isinstance(failed, CopyError)
                assert "two.test" in str(failed)
        network.down.clear()
        await fleet.exchange()
    gone, back = (line for line in caplog.messages if line.startswith("the fleet is"))
    assert gone.startswith("the fleet is not complete: ")
    assert back == "the fleet is complete again"


async def test_a_fleet_on_two_event_loops_is_refused(tenant: LocalTenant, network: Network) -> None:
    fleet = network.fleet("one.test")
    async with instance(network, tenant, "one.test", fleet):

        async def elsewhere() -> None:
            with pytest.raises(ConfigurationError, match="event loop"):
                await fleet.join(verifier_of(tenant).keys)

        await asyncio.to_thread(asyncio.run, elsewhere())


# --- as one thing ---


async def test_a_program_without_verifiers_tells_the_fleet_and_is_told_who_refuses(
    tenant: LocalTenant, network: Network
) -> None:
    old = tenant.key("previous").kid
    async with three(network, tenant, poll_interval=5.0) as verifiers:
        fleet = network.fleet(*network.apps, issuer=tenant.issuer)
        refusals = await fleet.distrust(old, reason="leaked")
        assert [refusal.error for refusal in refusals] == [None] * 3
        assert all(refusal.since is not None for refusal in refusals)
        assert all(old in verifier.distrusted for verifier in verifiers)
        await fleet.reinstate(old, reason="a mistake")
        assert not any(old in verifier.distrusted for verifier in verifiers)
        await fleet.aclose()


@pytest.mark.parametrize("trouble", ["down", "frozen"])
async def test_who_can_not_be_told_is_in_the_receipt_and_the_others_are_told(
    tenant: LocalTenant, network: Network, trouble: str
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    async with three(network, tenant) as (one, two, _):
        fleet = network.fleet(*network.apps, issuer=tenant.issuer, timeout=2.0)
        getattr(network, trouble).add("three.test")
        refusals = await fleet.distrust(old, reason="leaked", force=True)
        assert [refusal.error is None for refusal in refusals] == [True, True, False]
        assert refusals[2].who == "three.test"
        assert refusals[2].since is None
        assert "three.test" in str(refusals[2].error)
        assert "three.test" in str(fleet.error)
        assert await outcome(one, token) == await outcome(two, token) == "revoked_key"
        with pytest.raises(DistrustNotSharedError, match=r"three\.test"):
            await fleet.reinstate(old, reason="a mistake")


async def test_when_nobody_can_be_told_that_is_an_error(network: Network) -> None:
    fleet = network.fleet("one.test", "two.test", issuer="https://tenant.test/")
    with pytest.raises(DistrustNotSharedError, match=r"one\.test.*two\.test"):
        await fleet.distrust("k", reason="leaked")
    with pytest.raises(DistrustNotSharedError):
        await fleet.observe("k")
    with pytest.raises(KeysUnavailableError, match=r"one\.test"):
        await fleet.keys.refresh()
    many = network.fleet(*(f"h{number}.test" for number in range(9)), issuer="https://t.test/")
    assert "and 6 more" in str(many.error)


async def test_the_only_key_of_an_instance_is_given_up_only_by_force(network: Network) -> None:
    with LocalTenant(in_process=True, algorithm="ES256") as tenant:
        only = tenant.key().kid
        tenant.remove(tenant.key("next").kid)
        async with instance(network, tenant, "one.test", None) as one:
            fleet = network.fleet("one.test", issuer=tenant.issuer)
            with pytest.raises(RevocationRefusedError):
                await fleet.distrust(only, reason="leaked")
            await fleet.distrust(only, reason="leaked", force=True)
            assert only in one.distrusted


async def test_keys_are_what_every_instance_trusts_after_it_was_asked_to_fetch(
    tenant: LocalTenant, network: Network
) -> None:
    async with three(network, tenant):
        fleet = network.fleet(*network.apps, issuer=tenant.issuer)
        tenant.rotate()
        await fleet.keys.refresh()
        assert tenant.key("next").kid in fleet.keys.kids
        network.down.add("two.test")
        with pytest.raises(KeysUnavailableError, match=r"two\.test"):
            await fleet.keys.refresh()
        assert fleet.keys.kids == frozenset()


async def test_the_instances_show_their_states_and_the_latest_expiry_outlives_a_restart(
    tenant: LocalTenant, network: Network
) -> None:
    kid = tenant.key().kid
    looking = network.fleet("one.test", "two.test", issuer=tenant.issuer)
    async with instance(network, tenant, "one.test", network.fleet("one.test", "two.test")) as one:
        async with instance(network, tenant, "two.test", None) as two:
            token = await two.verify(tenant.token(lifetime=5000.0))
            await one.verify(tenant.token(lifetime=50.0))
            observed = await looking.observe(kid)
            assert [state.usage[kid].accepted for state in observed.states] == [1, 1]
            fleet = one.keys.fleet
            assert isinstance(fleet, HTTPFleet)
            reach = Reach(token.expires_at or 0.0, 5000.0)
            await eventually(lambda: fleet.reaches.get((tenant.issuer, kid)) == reach)
        async with instance(network, tenant, "two.test", None):
            fresh = network.fleet("one.test", "two.test", issuer=tenant.issuer)
            observed = await fresh.observe(kid)
            assert (observed.latest_expiry, observed.longest_lifetime) == reach
            assert kid not in observed.states[1].usage


async def test_an_instance_that_can_not_be_asked_confirms_nothing(
    tenant: LocalTenant, network: Network
) -> None:
    async with (
        instance(network, tenant, "one.test", None),
        instance(network, tenant, "two.test", None),
    ):
        fleet = network.fleet("one.test", "two.test", "never.test", issuer=tenant.issuer)
        states = (await fleet.observe("k")).states
        assert [state.status for state in states] == ["ok", "ok", "unavailable"]
        assert states[2].name == "never.test"
        network.down.add("two.test")
        states = (await fleet.observe("k")).states
        assert [state.kids == () for state in states] == [False, True, True]


# --- several processes behind one URL ---


async def test_several_workers_behind_one_url_are_an_error_that_says_to_use_redis(
    tenant: LocalTenant, network: Network
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    hosts = ("one.test", "two.test")
    async with (
        instance(network, tenant, "two.test", None) as two,
        instance(network, tenant, "one.test", network.fleet(*hosts)) as one,
    ):
        ids = [secrets.token_hex(16) for _ in range(2)]
        alone = network.apps["two.test"]
        network.apps["two.test"] = Identified(alone, *ids)
        await eventually(lambda: "RedisFleet" in str(one.health().last_error))
        assert one.health().status == "degraded"
        with pytest.raises(DistrustNotSharedError, match="RedisFleet"):
            await one.distrust(old, reason="leaked")
        assert await outcome(two, token) == "revoked_key"  # told all the same, whoever answers
        fleet = network.fleet(*hosts, issuer=tenant.issuer)
        with pytest.raises(ConfigurationError, match="RedisFleet"):
            await fleet.observe(old)
        refusals = await fleet.distrust("k", reason="leaked", force=True)
        assert [refusal.error is None for refusal in refusals] == [True, False]
        await two.distrust("decided at a worker", reason="leaked")
        await eventually(lambda: "decided at a worker" in one.distrusted)
        network.apps["two.test"] = Identified(alone, ids[0])
        await eventually(lambda: one.health().status == "ok")


async def test_a_worker_that_answers_seldom_is_noticed_by_who_looks_once(
    tenant: LocalTenant, network: Network
) -> None:
    async with instance(network, tenant, "one.test", None):
        one, other = (secrets.token_hex(16) for _ in range(2))
        network.apps["one.test"] = Identified(network.apps["one.test"], *[one] * 7, other)
        with pytest.raises(ConfigurationError, match="RedisFleet"):
            await network.fleet("one.test", issuer=tenant.issuer).observe("k")
        fleet = network.fleet("one.test", issuer=tenant.issuer)
        (refusal,) = await fleet.distrust("k", reason="leaked", force=True)
        assert "RedisFleet" in str(refusal.error)


async def test_restarts_one_after_the_other_are_no_workers(
    tenant: LocalTenant, network: Network
) -> None:
    async with instance(network, tenant, "one.test", None):
        fleet = network.fleet("one.test", issuer=tenant.issuer)
        app = network.apps["one.test"]
        for _ in range(5):
            network.apps["one.test"] = Identified(app, secrets.token_hex(16))
            await fleet.observe("k")
            assert fleet.error is None


# --- hostile answers ---


ID = {"JWKS-Guard-Instance": "0" * 32}
STATE = {"instance": "0" * 32, "states": []}


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (Response(status_code=401), "does not know the secret"),
        (Response(status_code=403), "does not allow"),
        (Response(status_code=404), "operations_auth"),
        (Response(status_code=413), "a proxy before it, takes no message of"),
        (Response(status_code=413, headers=ID), "10000 decisions"),
        (Response(status_code=500), "answered 500"),
        (
            Response(status_code=302, headers={"Location": "https://evil.test/ops/fleet"}),
            "302",
        ),
        (Response(b"<html>", headers={"JWKS-Guard-Instance": "me"}), "no operations routes"),
        (Response(b"<html>"), "no operations routes"),
        (Response(b"<html>", headers=ID), "none of the fleet's messages"),
        (Response(b'{"parts": 7, "states": 7}', headers=ID), "none of the fleet's messages"),
        (Response(b"[" * 1_000_000, headers=ID), "none of the fleet's messages"),
        (Response(b" " * (MAX_MESSAGE_BYTES + 1), headers=ID), "larger than"),
        (Response(b"x", headers={**ID, "Content-Encoding": "br"}), "content encoding"),
    ],
)
async def test_an_answer_that_is_none_degrades_and_changes_nothing(
    tenant: LocalTenant, network: Network, response: Response, why: str
) -> None:
    network.apps["evil.test"] = Response(b"{}", headers=ID)
    network.apps["two.test"] = response
    fleet = network.fleet("one.test", "two.test")
    async with instance(network, tenant, "one.test", fleet) as one:
        with pytest.raises(DistrustNotSharedError, match=why):
            await one.distrust("leaked", reason="leaked")
        assert why in str(one.health().last_error)
        assert set(one.distrusted) == {"leaked"}
        assert await outcome(one, tenant.token()) == tenant.key().kid
        assert all(request.url.host != "evil.test" for request in network.requests)


class Scripted:
    """An instance that answers with what it is given, whatever it is sent."""

    def __init__(self, *issuers: str) -> None:
        self.version = "1"
        self.issuers = issuers
        self.parts: list[Any] = []
        self.states: list[Any] = []
        self.reaches: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = {
            "instance": "0" * 32,
            "version": self.version,
            "issuers": self.issuers,
            "parts": self.parts,
            "states": self.states,
            "reaches": self.reaches,
        }
        await Response(json.dumps(answer), headers=ID)(scope, receive, send)


def part(issuer: str, kid: str, **numbers: Any) -> list[Any]:
    """A part of the state, with one replica, as JSON has it."""
    maps = {name: {"f" * 32: {"number": number}} for name, number in numbers.items()}
    return [issuer, kid, maps]


async def test_forged_parts_expiries_and_states_add_and_lift_nothing(
    tenant: LocalTenant, network: Network
) -> None:
    old, token, issuer = tenant.key("previous").kid, tenant.token(key="previous"), tenant.issuer
    network.apps["two.test"] = two = Scripted(issuer)
    two.parts = [
        part(issuer, old, lifted=9),
        part(issuer, old, lifted="9"),
        part(issuer, old, lifted=2**53),
        part(issuer, old, lifted=-1),
        part(issuer, old, LIFTED=9),
        part(issuer, "", made=1),
        part(issuer, "k" * 513, made=1),
        part("", "k", made=1),
        part("https://foreign.test/", "k", made=1),
        [issuer, "k", {"made": {"no replica": {"number": 1}}}],
        [issuer, "k", {"thumbprints": ["no thumbprint"]}],
        *(None, 7, [], {}, "\u0000"),
    ]
    two.reaches = [
        *([issuer, old, -1.0, 5.0], [issuer, old, 1e300, 5.0], ["", old, 5.0, 5.0]),
        *([issuer, old, 5.0, -1.0], [issuer, old, 5.0, 1e300], [issuer, "", 5.0, 5.0]),
    ]
    two.states = [None, {"issuer": issuer}, [[]], "\u0000", {"issuer": issuer, "kids": [old]}]
    fleet = network.fleet("one.test", "two.test")
    async with instance(network, tenant, "one.test", fleet) as one:
        with pytest.raises(DistrustNotSharedError, match="does not hold"):
            await one.distrust(old, reason="leaked")
        calls = network.count("POST", "/ops/fleet/exchange")
        await eventually(lambda: network.count("POST", "/ops/fleet/exchange") > calls + 8)
        assert await outcome(one, token) == "revoked_key"
        assert fleet.reaches == {}
        observed = await fleet.observe(old)
        assert [state.kids == () for state in observed.states] == [False, True]
        assert observed.states[1].status == "unavailable"
        assert set(one.distrusted) == {old}
        assert set(one.keys.register.state.flags) == {(issuer, old)}


@pytest.mark.parametrize(
    ("issuer", "more", "known", "limit"),
    [
        (None, 1, 0, MAX_DECISIONS),
        (None, 0, 1, 1000),
        ("https://foreign.test/", 1, 0, 1000),
    ],
)
async def test_flood_of_decisions_of_one_instance_keeps_nobody_from_being_told(
    tenant: LocalTenant,
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
    issuer: str | None,
    more: int,
    known: int,
    limit: int,
) -> None:
    monkeypatch.setattr(http_messages, "MAX_DECISIONS", limit)
    monkeypatch.setattr(soundness, "MAX_DECISIONS", limit)
    hosts = ("one.test", "flood.test", "two.test")
    network.apps["flood.test"] = flood = Scripted(tenant.issuer)
    flood.parts = [
        part(issuer or tenant.issuer, f"k{number}", made=1) for number in range(limit + more)
    ]
    fleet = network.fleet(*hosts, poll_interval=5.0)
    async with instance(network, tenant, "two.test", None) as two:
        register = Register()
        for number in range(known):
            register.distrust(tenant.issuer, f"ours {number}", reason="leaked", at=1.0)
        async with instance(network, tenant, "one.test", fleet, register=register) as one:
            assert f"{limit} decisions" in str(fleet.error)
            assert len(one.keys.register.state.flags) == known
            program = network.fleet(*hosts, issuer=tenant.issuer)
            refusals = await program.distrust("leaked", reason="leaked", force=True)
            assert [refusal.error is None for refusal in refusals][::2] == [True, True]
            assert "leaked" in one.distrusted
            assert "leaked" in two.distrusted


async def test_instance_that_holds_too_many_decisions_is_named_and_the_others_are_told(
    tenant: LocalTenant, network: Network
) -> None:
    full = Register()
    full.merge(
        {
            (tenant.issuer, f"k{number}"): Distrust({"f" * 32: Decision(1, "leaked")})
            for number in range(MAX_DECISIONS)
        }
    )
    async with (
        instance(network, tenant, "full.test", None, register=full),
        instance(network, tenant, "two.test", None) as two,
    ):
        two.keys.register.distrust(tenant.issuer, "earlier", reason="leaked", at=1.0)
        fleet = network.fleet("full.test", "two.test", issuer=tenant.issuer)
        refusals = await fleet.distrust("leaked", reason="leaked", force=True)
        assert refusals[0].error is not None
        assert "10000 decisions" in refusals[0].error
        assert set(two.distrusted) == {"earlier", "leaked"}
        assert len(full.state.flags) == MAX_DECISIONS


async def test_reaches_of_foreign_issuers_do_not_push_out_those_that_count(
    tenant: LocalTenant, network: Network
) -> None:
    network.apps["two.test"] = two = Scripted(tenant.issuer)
    two.reaches = [["https://foreign.test/", f"k{number}", 2.5e11, 1.0] for number in range(1000)]
    fleet = network.fleet("one.test", "two.test")
    async with instance(network, tenant, "one.test", fleet) as one:
        token = await one.verify(tenant.token())
        await eventually(lambda: (tenant.issuer, token.kid) in fleet.reaches)
        await fleet.exchange()
        reach = (token.expires_at, token.claims["exp"] - token.claims["iat"])
        assert dict(fleet.reaches) == {(tenant.issuer, token.kid): reach}


class Trickle(httpx.AsyncByteStream):
    """A body of which a byte comes now and then, and no end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.001)


async def test_an_answer_that_trickles_in_is_waited_for_no_longer_than_said() -> None:
    def trickling(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=ID, stream=Trickle())

    client = httpx.AsyncClient(transport=httpx.MockTransport(trickling))
    urls = ["https://one.test/ops"]
    async with client:
        fleet = HTTPFleet(
            urls, secret=SECRET, issuer="https://t.test/", timeout=0.05, http_client=client
        )
        with pytest.raises(DistrustNotSharedError, match=r"within 0\.05 s"):
            await fleet.distrust("k", reason="leaked")


# --- the secret ---


async def test_the_secret_is_sent_to_the_instances_alone_and_shown_nowhere(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def echoing(request: httpx.Request) -> httpx.Response:
        said = request.headers["Authorization"]
        if request.url.host == "broken.test":
            raise httpx.ReadError("reset", request=request)
        return httpx.Response(307, headers={"Location": f"https://evil.test/?{said}"}, text=said)

    client = httpx.AsyncClient(transport=httpx.MockTransport(echoing), follow_redirects=True)
    fleet = HTTPFleet(
        ["https://echo.test/ops", "https://broken.test/ops"],
        secret=SECRET,
        issuer="https://t.test/",
        http_client=client,
    )
    async with client:
        with pytest.raises(DistrustNotSharedError) as failure:
            await fleet.distrust("k", reason="leaked")
    trace = traceback.TracebackException.from_exception(failure.value)
    shown = [repr(fleet), str(fleet.error), *trace.format(), caplog.text]
    shown += [repr(peer.endpoint) for peer in fleet._peers]
    assert all(SECRET not in text for text in shown)
    assert "307" in str(fleet.error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"urls": []},
        {"urls": "https://one.test/ops"},
        {"urls": [7]},
        {"urls": ["http://10.0.0.1/ops"]},
        {"urls": ["ftp://one.test/ops"]},
        {"urls": ["https://user:hunter2@one.test/ops"]},
        {"urls": ["https://one.test/ops?x=y"]},
        {"urls": ["https://one.test/ops", "https://one.test/ops/"]},
        {"secret": ""},
        {"secret": "short"},
        {"secret": "with a\r\nx-smuggled: header"},
        {"secret": "sixteen or more \udcff"},
        {"secret": None},
        {"issuer": "two\nlines"},
        {"poll_interval": 0},
        {"poll_interval": 60},
        {"timeout": -1},
        {"http_client": 7},
    ],
)
def test_a_fleet_is_not_made_of_nonsense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        HTTPFleet(**{"urls": ["https://one.test/ops"], "secret": SECRET, **wrong})
    for secret in ("hunter2", "smuggled", "sixteen or"):
        assert secret not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert HTTPFleet(["http://127.0.0.1:8000/ops", "http://[::1]/ops"], secret=SECRET).error


# --- messages ---


def test_of_too_many_keys_those_whose_tokens_end_last_are_kept() -> None:
    many = {("i", f"{number}"): Reach(number, 7.0) for number in range(3000)}
    kept = furthest(many, {("i", "2999"): Reach(1.0, 9.0), ("i", "0"): Reach(9999.0, 5.0)})
    assert len(kept) == 1000
    assert (kept["i", "2999"], kept["i", "0"]) == ((2999.0, 9.0), (9999.0, 7.0))


async def test_decisions_survive_in_the_snapshot_when_all_others_are_away(
    tenant: LocalTenant, network: Network, tmp_path: Path
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    hosts = ("one.test", "two.test")
    snapshot = tmp_path / "keys.json"
    async with (
        instance(network, tenant, "one.test", network.fleet(*hosts)) as one,
        instance(network, tenant, "two.test", None, snapshot_path=snapshot),
    ):
        await eventually(lambda: one.health().status == "ok")
        await one.distrust(old, reason="leaked")
    async with instance(
        network, tenant, "two.test", network.fleet(*hosts), snapshot_path=snapshot
    ) as again:
        assert await outcome(again, token) == "revoked_key"
        assert again.health().status == "degraded"
