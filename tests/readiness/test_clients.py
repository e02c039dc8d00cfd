"""Whose tokens of a key were accepted in the last hour: exact, in bounded memory, sane names."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from jwks_guard import TokenVerifier
from jwks_guard.readiness.clients import (
    HOUR_SECONDS,
    MAX_CHARS,
    MAX_CLIENTS,
    MAX_COUNTED,
    MAX_PLACES,
    ClientCounter,
    Clients,
    ClientUsage,
)
from jwks_guard.readiness.usage import MAX_KIDS, KeyUsage, Usage, most, total
from jwks_guard.testing import LocalTenant
from tests.support import HandClock, verifier_of

KINDS = [{}, {"token_cache_size": 0}]
NOW = 1_800_000_000.0


def of(verifier: TokenVerifier, kid: str) -> dict[tuple[str | None, str | None], int]:
    clients = verifier.usage()[kid].clients
    return {(each.client, each.organization): each.accepted for each in clients}


def accept(clients: Clients, count: int = 1, **claims: Any) -> None:
    counter = clients.counter(claims)
    for _ in range(count):
        counter.accepted += 1


# --- every acceptance counts for its client ---


@pytest.mark.parametrize("options", KINDS)
async def test_each_acceptance_counts_for_its_client_and_organization(
    tenant: LocalTenant, clock: HandClock, options: dict[str, Any]
) -> None:
    async with verifier_of(tenant, clock, **options) as verifier:
        kid = tenant.key().kid
        for claims, times in (
            ({"azp": "shop"}, 3),
            ({"azp": "shop", "org_id": "org_1"}, 2),
            ({"azp": "app", "org_id": "org_1"}, 1),
        ):
            token = tenant.token(claims=claims)
            for _ in range(times):
                await verifier.verify(token)
        await verifier.verify(tenant.token(sub="another user", claims={"azp": "shop"}))
        assert of(verifier, kid) == {("shop", None): 4, ("shop", "org_1"): 2, ("app", "org_1"): 1}
        assert [each.accepted for each in verifier.usage()[kid].clients] == [4, 2, 1]
        assert (verifier.usage()[kid].accepted, verifier.usage()[kid].other_clients) == (7, 0)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize(
    "claims",
    [
        {"client_id": "a", "azp": "b", "cid": "c", "appid": "d"},
        {"client_id": None, "azp": "b", "cid": "c"},
        {"azp": None, "cid": "c", "appid": "d"},
        {"azp": None, "appid": "d"},
        {"azp": None},
        {"azp": 5, "cid": "c"},
        {"azp": ["b"], "cid": "c"},
        {"azp": {"b": 1}},
        {"azp": True, "client_id": 0, "cid": 1.5, "appid": "d"},
    ],
)
async def test_client_is_that_of_the_result(
    tenant: LocalTenant, clock: HandClock, options: dict[str, Any], claims: dict[str, Any]
) -> None:
    async with verifier_of(tenant, clock, **options) as verifier:
        await verifier.verify(tenant.token(claims={"azp": "b"}))
        await verifier.verify(tenant.token(claims={"azp": None, "cid": "c"}))
        before = of(verifier, tenant.key().kid)
        for number in range(2):  # the first one may make the counter, the second one finds it
            found = await verifier.verify(tenant.token(sub=f"user {number}", claims=claims))
        now = of(verifier, tenant.key().kid)
        grown = {name: now[name] - before.get(name, 0) for name in now}
        assert {name: n for name, n in grown.items() if n} == {(found.client_id, None): 2}


@pytest.mark.parametrize("organization", [5, True, ["org_1"], {"id": "org_1"}, None])
async def test_organization_that_is_no_string_is_none(
    tenant: LocalTenant, clock: HandClock, organization: object
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        await verifier.verify(tenant.token(claims={"azp": "shop", "org_id": organization}))
        assert of(verifier, tenant.key().kid) == {("shop", None): 1}


# --- the last hour ---


async def test_an_hour_later_they_are_not_shown(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid = tenant.key().kid
        await verifier.verify(tenant.token(lifetime=9_000, claims={"azp": "early"}))
        late = tenant.token(lifetime=90_000, claims={"azp": "late"})
        for _ in range(8):
            await verifier.keys.tick()
            clock.advance(300)
        await verifier.verify(late)
        assert of(verifier, kid) == {("early", None): 1, ("late", None): 1}
        for _ in range(5):
            await verifier.keys.tick()
            clock.advance(300)
        assert of(verifier, kid) == {("late", None): 1}
        assert verifier.usage()[kid].accepted == 2


def test_the_count_of_the_last_hour_is_off_by_a_slice_at_most() -> None:
    usage = Usage(leeway=0.0)
    counter = usage.counter("k")
    for second in range(0, 20_000, 10):
        accept(counter.clients, azp="shop")
        usage.sample(NOW + second)
        (shown,) = counter.usage(NOW + second, 0.0).clients
        least = min(second / 10 + 1, HOUR_SECONDS / 10)
        assert least <= shown.accepted <= least + 31


def test_clock_that_was_set_back_does_not_stop_the_count() -> None:
    usage = Usage(leeway=0.0)
    counter = usage.counter("k")
    for now in (NOW + 900_000, *(NOW + second for second in range(0, 20_000, 10))):
        accept(counter.clients, azp="shop")
        usage.sample(now)
    (shown,) = counter.usage(now, 0.0).clients
    assert HOUR_SECONDS / 10 <= shown.accepted <= HOUR_SECONDS / 10 + 31


# --- bounds ---


def test_clients_beyond_the_bound_count_together() -> None:
    clients = Clients()
    for number in range(MAX_COUNTED + 1_000):
        accept(clients, azp=f"client {number}")
    accept(clients, 7, azp="client 0")
    shown, others = clients.usage(NOW)
    assert len(shown) == MAX_CLIENTS
    assert shown[0] == ClientUsage("client 0", None, 8)
    assert sum(each.accepted for each in shown) + others == clients.accepted == MAX_COUNTED + 1_007
    assert sum(map(len, clients.named.values())) == MAX_COUNTED


def test_clients_of_all_keys_are_bounded_and_keys_that_are_forgotten_leave_their_places() -> None:
    usage = Usage(leeway=0.0)

    def named(kids: range) -> int:
        total = 0
        for kid in kids:
            clients = usage.counter(f"k{kid}").clients
            for number in range(MAX_COUNTED):
                accept(clients, azp=f"client {number}")
            usage.sample(NOW + kid)
            total += len(clients.named)
        return total

    assert named(range(MAX_KIDS)) == MAX_PLACES
    assert named(range(MAX_KIDS, 2 * MAX_KIDS)) == MAX_PLACES
    assert usage.accepted == 2 * MAX_KIDS * MAX_COUNTED


def test_a_name_is_cut_and_printable() -> None:
    clients = Clients()
    for _ in range(2):
        accept(clients, azp="x" * 10_000, org_id="\x1b[2J\u202e\n")
    (shown,), _ = clients.usage(NOW)
    assert shown == ClientUsage("x" * MAX_CHARS, "\ufffd[2J\ufffd\ufffd", 2)


def test_clients_that_are_gone_make_place_for_new_ones_once_their_tokens_have_expired() -> None:
    clients = Clients()
    lasting = clients.counter({"azp": "lasting"})
    accept(clients, azp="lasting")
    clients.mark(NOW, NOW + 30_000)
    for number in range(10 * MAX_COUNTED):
        now = NOW + 300 * (number // 10)
        accept(clients, azp=f"client {number}")
        clients.mark(now, now + 600)
    assert clients.accepted == 10 * MAX_COUNTED + 1
    shown, others = clients.usage(now)
    assert others + sum(each.accepted for each in shown) <= 14 * 10
    assert f"client {number}" in clients.named
    assert "client 0" not in clients.named
    assert "lasting" not in clients.named, "an hour after its last token, which has expired"
    assert len(clients.named) < MAX_COUNTED
    assert lasting.accepted == 1


def test_client_whose_tokens_are_still_valid_keeps_its_counter() -> None:
    clients = Clients()
    kept = clients.counter({"azp": "shop"})
    kept.accepted += 1
    for number in range(100):
        clients.mark(NOW + 300 * number, NOW + 50_000)
    kept.accepted += 1  # by a result that is kept
    assert clients.accepted == 2
    assert clients.usage(NOW + 30_000)[0] == (ClientUsage("shop", None, 1),)


def test_marks_are_bounded() -> None:
    clients = Clients()
    for second in range(0, 1_000_000, 60):
        accept(clients)
        clients.mark(NOW + second, NOW)
    assert len(clients._marks) <= HOUR_SECONDS / 300 + 2


# --- forks, threads ---


async def test_forked_child_counts_from_0_and_a_kept_result_with_its_own_counter(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = tenant.key().kid, tenant.token(claims={"azp": "shop", "org_id": "org_1"})
        await verifier.verify(token)
        await verifier.keys.tick()
        verifier.keys.after_fork()
        assert verifier.usage()[kid].clients == ()
        await verifier.verify(token)
        assert of(verifier, kid) == {("shop", "org_1"): 1}


def test_threads_lose_no_count() -> None:
    clients, began = Clients(), threading.Barrier(5)
    interval = sys.getswitchinterval()

    def count(thread: int) -> None:
        began.wait()
        for number in range(3_000):
            accept(clients, azp=f"client {number % 300}", org_id=f"org {thread} {number % 7}")

    def mark() -> None:
        began.wait()
        for number in range(3_000):
            clients.mark(NOW + 300 * number, NOW + 1e9)
            clients.usage(NOW + 300 * number)

    threads = [threading.Thread(target=count, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=mark))
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert clients.accepted == 4 * 3_000
    assert sum(map(len, clients.named.values())) <= MAX_COUNTED + len(threads)


def test_threads_that_meet_at_a_name_take_one_place() -> None:
    clients, interval = Clients(), sys.getswitchinterval()
    began = threading.Barrier(4)

    def count() -> None:
        for number in range(MAX_COUNTED):
            began.wait()
            accept(clients, azp=f"client {number}")

    threads = [threading.Thread(target=count) for _ in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(clients.named) == MAX_COUNTED


class Dropping(dict[str | None, dict[str | None, ClientCounter]]):
    """Another thread drops what was empty just now, once."""

    dropped = False

    def setdefault(self, key: str | None, default: Any = None) -> Any:
        found = super().setdefault(key, default)
        if not self.dropped:
            self.dropped = True
            del self[key]
        return found


def test_counter_whose_client_is_dropped_by_another_thread_at_that_moment_is_seen() -> None:
    clients = Clients()
    clients.named = Dropping()
    accept(clients, azp="shop")
    assert clients.accepted == 1


# --- several together ---


def usage_of(*clients: ClientUsage, others: int = 0) -> dict[str, KeyUsage]:
    return {"k": KeyUsage(clients=clients, other_clients=others)}


def test_totals_add_the_clients_of_several_and_most_takes_the_larger_count() -> None:
    one = usage_of(ClientUsage("a", None, 5), ClientUsage("b", "org_1", 2), others=1)
    other = usage_of(ClientUsage("b", "org_1", 4), ClientUsage("b", None, 1), others=2)
    assert total([one, other]) == usage_of(
        ClientUsage("b", "org_1", 6), ClientUsage("a", None, 5), ClientUsage("b", None, 1), others=3
    )
    assert most([one, other]) == usage_of(
        ClientUsage("a", None, 5), ClientUsage("b", "org_1", 4), ClientUsage("b", None, 1), others=2
    )


def test_totals_of_many_instances_are_bounded_and_lose_no_token() -> None:
    reports = [
        usage_of(*(ClientUsage(f"{each} {n}", None, 1) for n in range(MAX_CLIENTS)))
        for each in range(20)
    ]
    joined = total([*reports, usage_of(ClientUsage("0 0", None, 5))])["k"]
    assert len(joined.clients) == MAX_CLIENTS
    assert joined.clients[0] == ClientUsage("0 0", None, 6)
    assert joined.nameless == KeyUsage(other_clients=20 * MAX_CLIENTS + 5)
