"""How long a request waits for the issuer, and what it is told when that takes longer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from jwks_guard import (
    KeyStore,
    KeysUnavailableError,
    LookUpThrottledError,
    RemovedKeyError,
    UnknownKeyError,
    UnusableKeyError,
)
from jwks_guard.base.clock import Instant
from jwks_guard.errors import JWKSGuardError
from jwks_guard.jose.jwk import SkippedKey, load_jwk
from jwks_guard.keys.lookup import MOST_WAITING
from jwks_guard.keys.view import SHOWN_SKIPPED, PublishedSet
from jwks_guard.testing.keys import SigningKey, generate_signing_key
from tests.support import PATIENCE, HandClock

ISSUER, URI = "https://issuer.test/", "https://issuer.test/jwks"
A, B, C = (
    generate_signing_key("ES256", now=0, common_name="issuer.test", kid=kid) for kid in "abc"
)


class Issuer:
    """Publishes `keys`; a request that comes while `hangs` is set never gets its answer."""

    def __init__(self, *keys: SigningKey | dict[str, Any]) -> None:
        self.keys = list(keys)
        self.hangs = False
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.arrived = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        self.arrived.set()
        if self.hangs:
            await self.go_on.wait()
        keys = [key.jwk if isinstance(key, SigningKey) else key for key in self.keys]
        return httpx.Response(self.status, content=json.dumps({"keys": keys}), headers=self.headers)

    def store(self, clock: HandClock, **options: Any) -> KeyStore:
        options.setdefault("background", False)
        client = httpx.AsyncClient(transport=httpx.MockTransport(self))
        return KeyStore(ISSUER, jwks_uri=URI, http_client=client, clock=clock, **options)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(A, B)


@pytest.fixture(autouse=True)
def nobody_waits_for_long(issuer: Issuer) -> Iterator[None]:
    yield
    assert issuer.asked < 20


async def outcome(store: KeyStore, kid: str) -> JWKSGuardError | None:
    try:
        await asyncio.wait_for(store.resolve(kid), PATIENCE)
    except JWKSGuardError as error:
        return error
    return None


# --- the wait is bounded, and the fetch goes on ---


async def test_start_waits_for_a_slow_issuer_at_most_max_wait(
    issuer: Issuer, clock: HandClock
) -> None:
    issuer.hangs = True
    store = issuer.store(clock, max_wait=0.01)
    await asyncio.wait_for(store.start(), PATIENCE)
    assert store.kids == ()
    assert "has not answered yet" in str(store.unavailable())
    issuer.go_on.set()
    assert await outcome(store, "a") is None
    assert issuer.asked == 1, "the fetch went on"
    await store.aclose()


async def test_request_is_told_that_the_issuer_is_slow_and_the_next_one_is_served(
    issuer: Issuer, clock: HandClock
) -> None:
    issuer.hangs = True
    store = issuer.store(clock, max_wait=0.01)
    refused = await outcome(store, "a")
    assert isinstance(refused, KeysUnavailableError)
    assert refused.http_status == 503
    assert "has not answered within max_wait (0.01 s)" in str(refused)
    issuer.go_on.set()
    assert await outcome(store, "a") is None
    assert issuer.asked == 1


async def test_request_that_waited_already_waits_for_the_rest_only(
    issuer: Issuer, clock: HandClock
) -> None:
    issuer.hangs = True
    store = issuer.store(clock, max_wait=1e6)
    with pytest.raises(KeysUnavailableError, match="has not answered"):
        await asyncio.wait_for(store.resolve("a", waited=1e6), PATIENCE)
    await store.aclose()


async def test_hung_connection_does_not_keep_a_new_key_from_being_learnt(
    issuer: Issuer, clock: HandClock
) -> None:
    store = issuer.store(clock)
    await store.refresh()
    issuer.hangs = True
    clock.advance(60)
    issuer.arrived.clear()
    refresh = asyncio.create_task(store.refresh())
    await issuer.arrived.wait()
    issuer.hangs, issuer.keys = False, [B, C]
    clock.advance(5)
    assert await outcome(store, "c") is None
    assert not refresh.done()
    assert set(store.kids) == {"b", "c"}
    issuer.keys = [A, B]
    issuer.go_on.set()
    await refresh
    assert set(store.kids) == {"b", "c"}, "what was asked for earlier does not replace it"


@pytest.mark.parametrize("background", [True, False])
async def test_slow_issuer_is_not_asked_twice_for_what_is_trusted_still(
    issuer: Issuer, clock: HandClock, background: bool
) -> None:
    store = issuer.store(clock, max_wait=0.01)
    await store.refresh()
    issuer.hangs = True
    issuer.arrived.clear()
    clock.advance(60)
    for _ in range(4):
        await (store.refresh_for_request() if not background else store.tick())
        clock.advance(6)
        await asyncio.wait_for(issuer.arrived.wait(), PATIENCE)
    assert issuer.asked == 2
    issuer.arrived.clear()
    clock.advance(6)
    await store.tick()
    await asyncio.wait_for(issuer.arrived.wait(), PATIENCE)
    assert issuer.asked == 3, "after fetch_timeout, by a clock that ran on while the machine slept"
    await store.aclose()


async def test_failure_of_an_overtaken_fetch_says_nothing(issuer: Issuer, clock: HandClock) -> None:
    store = issuer.store(clock)
    await store.refresh()
    issuer.hangs = True
    issuer.arrived.clear()
    refresh = asyncio.create_task(store.refresh())
    await issuer.arrived.wait()
    issuer.hangs = False
    clock.advance(5)
    await store.refresh()
    issuer.status = 500
    issuer.go_on.set()
    await refresh
    assert store.health().status == "ok"


async def test_requests_that_wait_are_counted_and_no_more_than_that_do(
    issuer: Issuer, clock: HandClock
) -> None:
    store = issuer.store(clock)
    await store.refresh()
    issuer.hangs = True
    issuer.arrived.clear()
    flood = [asyncio.create_task(outcome(store, f"x{n}")) for n in range(MOST_WAITING)]
    await issuer.arrived.wait()
    refused = await outcome(store, "one-more")
    assert isinstance(refused, LookUpThrottledError)
    assert "1000 requests wait" in str(refused)
    assert set(store.kids) == {"a", "b"}
    issuer.go_on.set()
    assert {type(error) for error in await asyncio.gather(*flood)} == {UnknownKeyError}
    assert await outcome(store, "a") is None


# --- what a token is refused with ---


async def spend_the_budget(store: KeyStore) -> None:
    for number in range(5):
        assert isinstance(await outcome(store, f"spent-{number}"), UnknownKeyError)


async def test_budget_that_is_spent_is_429_with_the_time_until_there_is_more(
    issuer: Issuer, clock: HandClock
) -> None:
    store = issuer.store(clock)
    await store.refresh()
    await spend_the_budget(store)
    clock.advance(4)
    refused = await outcome(store, "new")
    assert isinstance(refused, LookUpThrottledError)
    assert (refused.http_status, refused.code) == (429, "look_up_throttled")
    assert refused.retry_after == pytest.approx(8.0)
    clock.advance(refused.retry_after + 0.001)
    assert isinstance(await outcome(store, "new"), UnknownKeyError)


@pytest.mark.parametrize("status", [429, 503])
async def test_look_up_that_failed_is_503_until_the_issuer_may_be_asked_again(
    issuer: Issuer, clock: HandClock, status: int
) -> None:
    store = issuer.store(clock)
    await store.refresh()
    issuer.keys.append(C)
    issuer.status, issuer.headers = status, {"Retry-After": "30"}
    for kid in ("c", "c", "d"):
        refused = await outcome(store, kid)
        assert type(refused) is KeysUnavailableError
        assert f"the server answered {status}" in str(refused)
        assert refused.retry_after == 30.0
    assert issuer.asked == 2
    issuer.status, issuer.headers = 200, {}
    clock.advance(30)
    assert await outcome(store, "c") is None


async def test_withdrawn_key_is_401_in_an_outage_over_budget_and_after_the_end_of_trust(
    issuer: Issuer, clock: HandClock
) -> None:
    store = issuer.store(clock)
    await store.refresh()
    issuer.keys = [B]
    await store.refresh()
    await spend_the_budget(store)
    assert isinstance(await outcome(store, "a"), RemovedKeyError), "over budget"
    issuer.status = 500
    clock.advance(12)
    assert isinstance(await outcome(store, "a"), RemovedKeyError), "the look-up failed"
    clock.advance(7200)
    assert isinstance(await outcome(store, "a"), RemovedKeyError), "nothing is trusted"
    unavailable = await outcome(store, "b")
    assert type(unavailable) is KeysUnavailableError


async def test_withdrawn_key_leaves_the_budget_to_new_ones(
    issuer: Issuer, clock: HandClock
) -> None:
    """Its tokens are in use still: they ask once in an interval, not every 5 s."""
    store = issuer.store(clock)
    await store.refresh()
    issuer.keys = [B]
    await store.refresh()
    before = issuer.asked
    for _ in range(60):
        assert isinstance(await outcome(store, "a"), RemovedKeyError)
        clock.advance(0.99)
    assert issuer.asked == before + 1
    issuer.keys = [B, C]
    assert await outcome(store, "c") is None


async def test_closed_store_calls_no_key_withdrawn(issuer: Issuer, clock: HandClock) -> None:
    store = issuer.store(clock)
    await store.start()
    await store.aclose()
    issuer.status = 500
    await store.start()
    assert type(await outcome(store, "a")) is KeysUnavailableError
    await store.aclose()


async def test_published_key_that_cannot_be_used_is_401_with_its_reason_and_never_looked_up(
    issuer: Issuer, clock: HandClock
) -> None:
    issuer.keys.append({**C.jwk, "use": "enc"})
    store = issuer.store(clock)
    await store.refresh()
    for _ in range(3):
        assert await outcome(store, "c") is None, "the view answers"
        with pytest.raises(UnusableKeyError, match="can't be used: `use` is not sig") as refusal:
            store.trust.view.find("c", "ES256")
        assert (refusal.value.http_status, refusal.value.code) == (401, "unusable_key")
    assert issuer.asked == 1
    issuer.keys[-1] = C
    await store.refresh()
    assert store.trust.view.find("c", "ES256") is not None


async def test_usable_key_beside_an_unusable_one_of_its_kid_is_used(
    issuer: Issuer, clock: HandClock
) -> None:
    issuer.keys.insert(0, {**C.jwk, "kid": "a", "use": "enc"})
    store = issuer.store(clock)
    await store.refresh()
    found = store.trust.view.find("a", "ES256")
    assert found is not None
    assert found.thumbprint == load_jwk(A.jwk).thumbprint


async def test_distrusted_kid_is_told_as_such_also_when_its_key_cannot_be_used(
    issuer: Issuer, clock: HandClock
) -> None:
    issuer.keys.append({**C.jwk, "use": "enc"})
    store = issuer.store(clock)
    await store.refresh()
    await store.decisions.distrust("c", reason="leaked")
    with pytest.raises(JWKSGuardError) as refusal:
        store.trust.view.find("c", "ES256")
    assert refusal.value.code == "revoked_key"


# --- memory ---


def test_skipped_keys_that_are_shown_are_bounded() -> None:
    skipped = tuple(SkippedKey(f"k{number}", "odd") for number in range(50_000))
    published = PublishedSet().succeeded_by((load_jwk(A.jwk),), skipped, Instant(0.0, 0.0))
    assert published.skipped == skipped[:SHOWN_SKIPPED]
