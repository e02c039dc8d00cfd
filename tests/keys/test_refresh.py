"""What the next request asks with, and what its answer is compared with."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest

from jwks_guard import KeyStore, KeysUnavailableError, UnknownKeyError
from jwks_guard.keys.store import keep_fresh
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.keys import SigningKey, generate_signing_key
from tests.support import HandClock, verifier_of

ISSUER = "https://issuer.test/"
OLD_URI, NEW_URI = "https://issuer.test/jwks", "https://keys.test/jwks"
A, B, C = (
    generate_signing_key("ES256", now=0, common_name="issuer.test", kid=kid) for kid in "abc"
)


@dataclass
class Issuer:
    """Publishes `keys` at `uri` with an ETag, and answers 304 where that is due."""

    keys: tuple[SigningKey, ...] = (A, B)
    uri: str = OLD_URI
    headers: dict[str, str] = field(default_factory=dict)
    fault: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
    tags: list[str | None] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/.well-known/openid-configuration":
            return httpx.Response(200, json={"issuer": ISSUER, "jwks_uri": self.uri})
        if request.url != self.uri:
            return httpx.Response(404)
        self.tags.append(request.headers.get("If-None-Match"))
        if (failed := self.fault(request)) is not None:
            return failed
        tag = '"' + "-".join(key.kid for key in self.keys) + '"'
        headers = {"ETag": tag, **self.headers}
        if self.tags[-1] == tag:
            return httpx.Response(304, headers=headers)
        body = json.dumps({"keys": [key.jwk for key in self.keys]})
        return httpx.Response(200, content=body, headers=headers)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def store_of(issuer: Issuer, clock: HandClock, **options: Any) -> KeyStore:
    client = httpx.AsyncClient(transport=httpx.MockTransport(issuer), **options)
    return KeyStore(ISSUER, http_client=client, clock=clock, background=False)


def kids(store: KeyStore) -> list[str]:
    return list(store.kids)


async def test_next_request_asks_with_the_tag_of_the_last_answer(
    issuer: Issuer, clock: HandClock
) -> None:
    store = store_of(issuer, clock)
    for _ in range(3):
        await store.refresh()
    issuer.keys = (A, B, C)
    await store.refresh()
    await store.refresh()
    assert issuer.tags == [None, '"a-b"', '"a-b"', '"a-b"', '"a-b-c"']
    assert kids(store) == ["a", "b", "c"]


async def test_after_a_failure_the_next_request_is_unconditional(
    issuer: Issuer, clock: HandClock
) -> None:
    store = store_of(issuer, clock)
    await store.refresh()
    issuer.fault = lambda _: httpx.Response(503)
    with pytest.raises(KeysUnavailableError):
        await store.refresh()
    issuer.fault = lambda _: None
    await store.refresh()
    await store.refresh()
    assert issuer.tags == [None, '"a-b"', None, '"a-b"']


async def raising_for_status(response: httpx.Response) -> None:
    response.raise_for_status()  # which a 304 does not pass


def refusing_conditional_requests(request: httpx.Request) -> httpx.Response | None:
    return httpx.Response(400) if "If-None-Match" in request.headers else None


@pytest.mark.parametrize(
    ("fault", "hooks"),
    [(refusing_conditional_requests, []), (lambda _: None, [raising_for_status])],
)
async def test_what_fails_on_conditional_requests_alone_never_ends_trust(
    issuer: Issuer,
    clock: HandClock,
    fault: Callable[[httpx.Request], httpx.Response | None],
    hooks: list[Callable[[httpx.Response], Awaitable[None]]],
) -> None:
    issuer.fault = fault
    store = store_of(issuer, clock, event_hooks={"response": hooks})
    for _ in range(100):
        await store.tick()
        clock.advance(60)
        assert kids(store) == ["a", "b"]


async def test_new_address_has_dates_of_its_own(issuer: Issuer, clock: HandClock) -> None:
    """A key set that was put on a new server earlier than the old one changed is no rollback."""
    store = store_of(issuer, clock)
    issuer.headers = {"Last-Modified": formatdate(clock.wall - 60, usegmt=True)}
    await store.refresh()
    issuer.headers = {"Last-Modified": formatdate(clock.wall - 3600, usegmt=True)}
    issuer.uri, issuer.keys = NEW_URI, (B, C)
    await store.refresh()
    assert kids(store) == ["b", "c"]
    issuer.headers, issuer.keys = {"Last-Modified": formatdate(clock.wall, usegmt=True)}, (C,)
    await store.refresh()
    assert kids(store) == ["c"]
    issuer.headers["Date"] = formatdate(clock.wall - 3600, usegmt=True)
    issuer.keys = (B, C)
    with pytest.raises(KeysUnavailableError, match="older than the key set held"):
        await store.refresh()
    assert kids(store) == ["c"], "at one address the older set stays a rollback"


def deployed(clock: HandClock, modified: float) -> dict[str, str]:
    """What a server of static files sends: Date is now, Last-Modified the time of the file."""
    return {
        "Date": formatdate(clock.wall, usegmt=True),
        "Last-Modified": formatdate(clock.wall - modified, usegmt=True),
    }


async def test_set_with_an_older_file_time_counts_once_a_second_request_confirms_it(
    issuer: Issuer, clock: HandClock
) -> None:
    """A deployment that keeps the times of files: the key that it withdrew must not live on."""
    store = store_of(issuer, clock)
    issuer.headers = deployed(clock, modified=3600)
    await store.refresh()
    clock.advance(60)
    issuer.headers, issuer.keys = deployed(clock, modified=7 * 86_400), (B, C)
    await store.refresh()
    assert kids(store) == ["b", "c"]
    assert len(issuer.tags) == 3, "one more request"
    clock.advance(60)
    issuer.headers = deployed(clock, modified=7 * 86_400 + 60)
    await store.refresh()
    assert len(issuer.tags) == 4, "what was confirmed once is the state to compare with"


async def test_second_answer_is_the_one_that_counts(issuer: Issuer, clock: HandClock) -> None:
    """Two machines with different file times: the first answer came from the one that lags."""
    store = store_of(issuer, clock)
    issuer.headers = deployed(clock, modified=60)
    await store.refresh()
    clock.advance(60)
    new = deployed(clock, modified=0)

    def lagging(_: httpx.Request) -> httpx.Response | None:
        issuer.fault = lambda _: None
        issuer.headers = new
        body = json.dumps({"keys": [A.jwk, C.jwk]})
        return httpx.Response(200, content=body, headers=deployed(clock, modified=3600))

    issuer.fault, issuer.keys = lagging, (B, C)
    await store.refresh()
    assert kids(store) == ["b", "c"]


async def test_look_up_that_may_not_ask_again_is_not_answered_by_a_reverted_set(
    issuer: Issuer, clock: HandClock
) -> None:
    store = store_of(issuer, clock)
    issuer.headers = deployed(clock, modified=60)
    await store.refresh()
    for kid in "vwxy":
        with pytest.raises(UnknownKeyError):
            await store.resolve(kid)
    issuer.headers, issuer.keys = deployed(clock, modified=3600), (B, C)
    with pytest.raises(KeysUnavailableError, match="Last-Modified lies before"):
        await store.resolve("c")
    assert kids(store) == ["a", "b"]
    await store.refresh()
    assert kids(store) == ["b", "c"]


# --- answers of earlier origin, when trust has run out ---


async def test_withdrawn_key_does_not_come_back_by_a_day_old_edge_after_trust_has_run_out(
    issuer: Issuer, clock: HandClock
) -> None:
    store = store_of(issuer, clock)
    await store.refresh()
    clock.advance(60)
    issuer.keys = (B, C)
    await store.refresh()
    clock.advance(7200)
    assert kids(store) == []
    issuer.keys, issuer.headers = (A, B), {"Age": "86399", "Cache-Control": "max-age=172800"}
    await store.refresh()
    assert kids(store) == ["b"], "less what the newer set had withdrawn"
    issuer.keys = (A, B, C)
    await store.refresh()
    assert kids(store) == ["b", "c"], "and with all that it listed"
    issuer.keys = (A,)
    with pytest.raises(KeysUnavailableError, match="older than the key set held"):
        await store.refresh()
    assert kids(store) == ["b", "c"]
    issuer.keys, issuer.headers["Age"] = (B,), "90000"
    with pytest.raises(KeysUnavailableError):
        await store.refresh()
    assert kids(store) == ["b", "c"], "nor is one that is older still"
    issuer.keys, issuer.headers = (A,), {}
    await store.refresh()
    assert kids(store) == ["a"], "what the issuer itself says now counts"


async def test_older_answer_without_a_key_of_the_newest_is_none(
    issuer: Issuer, clock: HandClock
) -> None:
    store = store_of(issuer, clock)
    issuer.keys = (B, C)
    await store.refresh()
    clock.advance(7200)
    issuer.keys, issuer.headers = (A,), {"Age": "9000", "Cache-Control": "max-age=86400"}
    with pytest.raises(KeysUnavailableError, match="older than the key set held"):
        await store.refresh()
    assert kids(store) == []


@pytest.mark.parametrize("pause", [60, 7200])
async def test_newest_origin_outlives_the_end_and_the_process(
    issuer: Issuer, clock: HandClock, tmp_path: Path, pause: float
) -> None:
    def made() -> KeyStore:
        client = httpx.AsyncClient(transport=httpx.MockTransport(issuer))
        path = tmp_path / "keys.json"
        return KeyStore(
            ISSUER, http_client=client, clock=clock, background=False, snapshot_path=path
        )

    issuer.keys = (B, C)
    async with made() as first:
        assert kids(first) == ["b", "c"]
    clock.advance(pause)
    issuer.keys, issuer.headers = (A, B), {"Age": "9000", "Cache-Control": "max-age=86400"}
    for store in (first, made()):
        async with store:
            assert "a" not in kids(store)


async def test_aged_answer_that_took_trust_over_is_not_asked_for_by_its_tag(
    issuer: Issuer, clock: HandClock
) -> None:
    """A 304 to it would confirm a part of what it holds."""
    store = store_of(issuer, clock)
    issuer.keys = (B, C)
    await store.refresh()
    clock.advance(7200)
    issuer.keys, issuer.headers = (A, B), {"Age": "9000", "Cache-Control": "max-age=86400"}
    await store.refresh()
    await store.refresh()
    assert issuer.tags[-2:] == ['"b-c"', None]


# --- the overtaken and the frozen ---


async def test_slow_old_answer_does_not_replace_a_newer_one(
    issuer: Issuer, clock: HandClock
) -> None:
    go_on, arrived = asyncio.Event(), asyncio.Event()
    old = json.dumps({"keys": [A.jwk, B.jwk]})

    async def transport(request: httpx.Request) -> httpx.Response:
        if not arrived.is_set() and request.url == OLD_URI:
            arrived.set()
            await go_on.wait()
            return httpx.Response(200, content=old)
        return issuer(request)

    client = httpx.AsyncClient(transport=httpx.MockTransport(transport))
    store = KeyStore(ISSUER, http_client=client, clock=clock, background=False)
    slow = asyncio.create_task(store.refresh())
    await arrived.wait()
    clock.advance(6)
    issuer.keys = (B, C)
    await store.resolve("c")
    clock.set_back(3600)  # the dates say nothing any more
    go_on.set()
    await slow
    assert kids(store) == ["b", "c"]
    assert store.health().last_error is None


@pytest.mark.parametrize("pause", [HandClock.advance, HandClock.suspend])
async def test_slow_answer_is_as_new_as_its_end_for_an_edge_that_is_behind(
    issuer: Issuer, clock: HandClock, pause: Callable[[HandClock, float], None]
) -> None:
    """The edge's answer was made after the request for the newer one, and before its answer."""
    store = store_of(issuer, clock)

    def slow(_: httpx.Request) -> httpx.Response | None:
        pause(clock, 25)
        issuer.fault, issuer.keys = lambda _: None, (B, C)
        return None

    issuer.fault = slow
    await store.refresh()
    assert kids(store) == ["b", "c"]
    clock.advance(60)
    issuer.keys, issuer.headers = (A, B), {"Age": "70"}
    with pytest.raises(KeysUnavailableError, match="older than the key set held"):
        await store.refresh()
    assert kids(store) == ["b", "c"]


async def test_answer_that_arrives_long_after_its_date_is_no_newer_than_that(
    issuer: Issuer, clock: HandClock
) -> None:
    store = store_of(issuer, clock)

    def held_up(_: httpx.Request) -> httpx.Response | None:
        issuer.headers = {"Date": formatdate(clock.time(), usegmt=True)}
        clock.advance(25)
        issuer.fault = lambda _: None
        return None

    issuer.fault = held_up
    await store.refresh()
    issuer.keys, issuer.headers = (B, C), {"Age": "20"}
    await store.refresh()
    assert kids(store) == ["b", "c"]


@pytest.mark.parametrize("suspended", [True, False])
async def test_fetch_that_was_frozen_with_the_process_is_made_again_at_once(
    issuer: Issuer, clock: HandClock, suspended: bool
) -> None:
    """Its failure says nothing of the issuer, and must not put the first requests off."""
    store = store_of(issuer, clock)
    await store.refresh()
    freeze = clock.suspend if suspended else clock.advance

    def frozen(request: httpx.Request) -> httpx.Response | None:
        issuer.fault = lambda _: None
        freeze(7200)
        raise httpx.ReadError("reset", request=request)

    clock.advance(60)
    issuer.fault = frozen
    await store.tick()
    assert kids(store) == ["a", "b"]
    assert store.health().status == "ok"


async def test_answer_is_told_to_be_older_by_its_age_alone(
    issuer: Issuer, clock: HandClock
) -> None:
    store = store_of(issuer, clock)
    await store.refresh()
    clock.advance(10)
    issuer.keys, issuer.headers = (A, C), {"Age": "11"}
    with pytest.raises(KeysUnavailableError, match="older than the key set held"):
        await store.refresh()
    assert kids(store) == ["a", "b"]
    issuer.headers = {"Age": "10"}
    await store.refresh()
    assert kids(store) == ["a", "c"]


async def test_restart_does_not_make_an_older_set_look_new(
    issuer: Issuer, clock: HandClock, tmp_path: Path
) -> None:
    """What the issuer withdrew does not come back by an edge that still has it."""

    def made() -> KeyStore:
        client = httpx.AsyncClient(transport=httpx.MockTransport(issuer))
        path = tmp_path / "keys.json"
        return KeyStore(
            ISSUER, http_client=client, clock=clock, background=False, snapshot_path=path
        )

    issuer.keys = (B,)
    async with made() as store:
        assert kids(store) == ["b"]
    clock.advance(10)
    issuer.keys, issuer.headers = (A, B), {"Age": "30"}
    async with made() as store:
        assert kids(store) == ["b"]
        assert store.health().last_error == "the answer is older than the key set held"


async def test_background_refresh_keeps_nothing_of_the_request_that_began_it(
    tenant: LocalTenant,
) -> None:
    request = contextvars.ContextVar[str]("request", default="none")
    told: asyncio.Queue[str] = asyncio.Queue()
    store = KeyStore(
        tenant.issuer,
        http_client=httpx.AsyncClient(transport=tenant.transport),
        refresh_interval=0.01,
        on_event=lambda _: told.put_nowait(request.get()),
    )
    request.set("the first one")
    await store.refresh()
    while not told.empty():
        assert told.get_nowait() == "the first one"
    tenant.rotate()
    assert await asyncio.wait_for(told.get(), 10) == "none"
    await store.aclose()


async def test_request_that_still_waits_does_not_bring_trust_back_after_the_end(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    store = KeyStore(
        tenant.issuer,
        http_client=httpx.AsyncClient(transport=tenant.transport),
        clock=clock,
        background=False,
        snapshot_path=tmp_path / "keys.json",
    )
    await store.start()
    clock.advance(60)
    hold = tenant.faults.hold()
    refreshing = asyncio.create_task(store.tick())
    await hold.arrived.wait()
    waiting = asyncio.create_task(store.resolve("bogus"))
    await asyncio.sleep(0)
    await store.aclose()
    hold.release()
    await refreshing
    with pytest.raises(KeysUnavailableError):
        await waiting
    assert kids(store) == []
    assert not store.trust.view.live
    saved = json.loads((tmp_path / "keys.json").read_bytes())
    assert len(saved["keys"]) == 2, "what was confirmed before is there for the next start"
    await store.start()
    assert len(kids(store)) == 2


def test_answer_on_another_loop_does_not_bring_trust_back_after_the_end(
    tenant: LocalTenant, clock: HandClock
) -> None:
    client = httpx.AsyncClient(transport=tenant.transport)
    store = KeyStore(tenant.issuer, http_client=client, clock=clock, background=False)
    hold = tenant.faults.hold()

    async def refresh() -> None:
        with pytest.raises(KeysUnavailableError):
            await store.refresh()

    elsewhere = threading.Thread(target=lambda: asyncio.run(refresh()))
    elsewhere.start()
    hold.arrived.wait_blocking()
    asyncio.run(store.aclose())
    hold.release()
    elsewhere.join()
    assert kids(store) == []
    assert not store.trust.view.live


def test_store_closed_on_another_loop_begins_anew(issuer: Issuer, clock: HandClock) -> None:
    """Nothing is held then that a 304 could confirm, and a fetch is due at once."""
    store = store_of(issuer, clock)
    asyncio.run(store.start())  # this loop ends without closing the store

    async def close_and_start() -> None:
        await store.aclose()
        assert kids(store) == []
        await store.start(require_keys=True)
        assert kids(store) == ["a", "b"]
        await store.aclose()

    asyncio.run(close_and_start())
    assert issuer.tags == [None, None]


async def test_background_goes_on_after_what_nobody_foresaw(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Faltering:
        """A store whose first tick fails as no tick should, and whose third finds it closed."""

        issuer = "https://issuer.test/"
        ticks = 0

        async def tick(self) -> None:
            self.ticks += 1
            if self.ticks == 1:
                raise ZeroDivisionError
            if self.ticks == 3:
                raise KeysUnavailableError("closed")

        def nap(self) -> float:
            return 0.0

    store: Any = Faltering()
    await keep_fresh(weakref.ref(store))
    assert store.ticks == 3
    assert "failed unexpectedly" in caplog.text


async def test_reinstated_key_is_not_brought_back_by_a_siblings_journal(
    tenant: LocalTenant, clock: HandClock, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    async with (
        verifier_of(tenant, clock, snapshot_path=one) as first,
        verifier_of(tenant, clock, snapshot_path=two) as second,
    ):
        kid = tenant.key("next").kid
        await first.distrust(kid, reason="leaked")
        await second.distrust(kid, reason="leaked")
        await first.reinstate(kid, reason="false alarm")
    for path in (one, two):
        async with verifier_of(tenant, clock, snapshot_path=path) as restarted:
            assert not restarted.distrusted


async def test_cancelled_watch_is_reported_and_taken_up_again(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        await verifier.verify(tenant.token())
        (watch,) = [task for task in asyncio.all_tasks() if "keep_fresh" in repr(task.get_coro())]
        watch.cancel()
        await asyncio.wait({watch})
        clock.advance(91)
        assert verifier.health().status == "degraded"
        assert "no refresh" in (verifier.health().last_error or "")
        await verifier.keys.tick()
        assert verifier.health().status == "ok"
        assert any("keep_fresh" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_lazy_store_is_not_degraded_by_having_nothing_to_do(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    await verifier.verify(tenant.token())
    clock.advance(600)
    assert verifier.health().status == "ok"
    await verifier.aclose()


async def test_detection_bound_counts_how_far_the_cache_is_behind(
    tenant: LocalTenant, clock: HandClock
) -> None:
    tenant.faults.age(900)
    async with verifier_of(tenant, clock) as verifier:
        assert verifier.health().detection_bound == 60 + 30 + 900


async def test_waiter_whose_fetch_the_end_cancels_begins_no_other(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    hold = tenant.faults.hold()
    waiters = [asyncio.create_task(verifier.verify(tenant.token())) for _ in range(3)]
    await hold.arrived.wait()
    await verifier.aclose()
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {KeysUnavailableError}
    assert tenant.requests.count() == 1
    hold.release()


async def test_refresh_that_waits_at_the_end_begins_no_fetch(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock, background=False)
    hold = tenant.faults.hold()
    refreshes = [asyncio.create_task(verifier.keys.refresh()) for _ in range(3)]
    await hold.arrived.wait()
    await verifier.aclose()
    outcomes = await asyncio.gather(*refreshes, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {KeysUnavailableError}
    assert tenant.requests.count() == 1
    hold.release()


async def test_retry_after_never_outlasts_trust(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock, max_stale=120) as verifier:
        tenant.faults.status(429, retry_after=300, times=1)
        clock.advance(60)
        await verifier.keys.tick()
        clock.advance(59)
        await verifier.verify(tenant.token())
        clock.advance(1)
        await verifier.keys.tick()
        assert verifier.health().status == "ok"


async def test_http_on_loopback_passes_no_proxy(
    clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with LocalTenant(algorithm="ES256") as served, KeyStore(served.issuer) as store:
        assert len(store.kids) == 2


async def test_key_listed_twice_in_another_order_ends_no_socket(
    tenant: LocalTenant, clock: HandClock
) -> None:
    key = tenant.key()
    tenant.publish({**key.jwk, "key_ops": ["verify"]})
    async with verifier_of(tenant, clock) as verifier:
        token = await verifier.verify(tenant.token())
        tenant.remove(key.kid)
        tenant.publish({**key.jwk, "key_ops": ["verify"]})
        tenant.publish(key)
        clock.advance(1)
        await verifier.keys.refresh()
        assert verifier.remaining(token) > 0
