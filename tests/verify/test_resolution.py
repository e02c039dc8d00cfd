"""Issuers that `resolve` knows: who is asked for, how often, and what becomes of the answers."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jwks_guard import (
    ConfigurationError,
    InvalidClaimError,
    InvalidSignatureError,
    JWKSGuardError,
    KeyStore,
    KeysUnavailableError,
    LookUpThrottledError,
    MultiIssuerVerifier,
    Register,
    RevokedKeyError,
    TokenTypeError,
    TokenVerifier,
)
from jwks_guard.testing import LocalTenant
from jwks_guard.verify.resolution import MAX_WAITING, REFUSED_SECONDS, RETRY_SECONDS
from tests.process.programs import PROJECT, run_to_end
from tests.support import PATIENCE, HandClock, tenant_of, verifier_of

TTL = 300.0


@dataclass(eq=False)
class Customers:
    """What the application knows of its customers: a resolver, with switches."""

    clock: HandClock
    tenants: dict[str, LocalTenant]
    calls: list[str] = field(default_factory=list)
    given: list[TokenVerifier] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    answer: Callable[[str], Any] | None = None
    gate: asyncio.Event | None = None

    async def __call__(self, issuer: str) -> TokenVerifier | None:
        self.calls.append(issuer)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if self.answer is not None:
            answer: TokenVerifier | None = self.answer(issuer)
            return answer
        tenant = self.tenants.get(issuer)
        if tenant is None:
            return None
        options = {"background": False, "http_client": client_of(tenant), **self.options}
        verifier = verifier_of(tenant, self.clock, **options)
        self.given.append(verifier)
        return verifier


_clients: dict[LocalTenant, Callable[[], Any]] = {}


def client_of(tenant: LocalTenant) -> Callable[[], Any]:
    """The same callable each time, as an application has one."""
    return _clients.setdefault(tenant, lambda: httpx.AsyncClient(transport=tenant.transport))


@pytest.fixture
def tenants(clock: HandClock) -> Iterator[list[LocalTenant]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(tenant_of(clock, issuer=f"https://{name}.test/"))
            for name in ("listed", "one", "two", "three")
        ]
    _clients.clear()


@pytest.fixture
def listed(tenants: list[LocalTenant]) -> LocalTenant:
    return tenants[0]


@pytest.fixture
def one(tenants: list[LocalTenant]) -> LocalTenant:
    return tenants[1]


@pytest.fixture
def two(tenants: list[LocalTenant]) -> LocalTenant:
    return tenants[2]


@pytest.fixture
def customers(tenants: list[LocalTenant], clock: HandClock) -> Customers:
    return Customers(clock, {tenant.issuer: tenant for tenant in tenants[1:]})


@pytest.fixture
async def multi(
    listed: LocalTenant, customers: Customers, clock: HandClock
) -> Any:  # an async generator
    verifier = multi_of(listed, customers, clock)
    yield verifier
    await verifier.aclose()


def multi_of(
    listed: LocalTenant | None, customers: Any, clock: HandClock, **options: Any
) -> MultiIssuerVerifier:
    verifiers = [] if listed is None else [verifier_of(listed, clock, background=False)]
    options.setdefault("clock", clock)
    return MultiIssuerVerifier(verifiers, resolve=customers, **options)


def naming(issuer: object) -> str:
    """A token that anybody can make."""
    parts = ({"alg": "ES256", "kid": "k"}, {"iss": issuer})
    encoded = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in parts]
    return b".".join([*encoded, b"AAAA"]).decode()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - a condition of objects that tell nobody
            await asyncio.sleep(0)


def quiet(multi: MultiIssuerVerifier) -> bool:
    """Whether no call is on its way."""
    return multi._resolution is not None and not multi._resolution._calls


async def refusal(pending: Awaitable[object]) -> JWKSGuardError:
    with pytest.raises(JWKSGuardError) as error:
        await pending
    return error.value


# --- the call ---


async def test_tokens_of_an_issuer_that_resolve_knows_are_verified_by_what_it_gives(
    multi: MultiIssuerVerifier, customers: Customers, one: LocalTenant, two: LocalTenant
) -> None:
    for tenant in (one, two, one, two):
        assert (await multi.verify(tenant.token())).issuer == tenant.issuer
    assert customers.calls == [one.issuer, two.issuer]
    forged = one.token(key=one.key(), claims={"iss": two.issuer}, kid=two.key().kid)
    with pytest.raises(InvalidSignatureError):
        await multi.verify(forged)


async def test_resolve_is_not_asked_for_a_listed_issuer(
    multi: MultiIssuerVerifier, customers: Customers, listed: LocalTenant
) -> None:
    await multi.verify(listed.token())
    assert not customers.calls


@pytest.mark.parametrize(
    "issuer", ["", "x" * 513, "https://" + "é" * 505, 5, ["x"], {"a": 1}, True]
)
async def test_what_can_not_be_an_issuer_is_refused_without_a_call(
    multi: MultiIssuerVerifier, customers: Customers, issuer: object
) -> None:
    error = await refusal(multi.verify(naming(issuer)))
    assert isinstance(error, InvalidClaimError)
    assert error.claim == "iss"
    assert not customers.calls


async def test_issuer_of_512_characters_is_asked_for_to_the_letter(
    multi: MultiIssuerVerifier, customers: Customers
) -> None:
    issuer = "https://ÉxÁMPLE/" + "a" * 496
    assert (await refusal(multi.verify(naming(issuer)))).http_status == 401
    assert customers.calls == [issuer]


async def test_issuer_that_is_listed_may_be_longer(clock: HandClock, customers: Customers) -> None:
    issuer = f"https://long.test/{'a' * 600}/"
    with tenant_of(clock, issuer=issuer) as tenant:
        jwks_uri = "https://long.test/.well-known/jwks.json"
        verifier = verifier_of(tenant, clock, background=False, jwks_uri=jwks_uri)
        async with MultiIssuerVerifier([verifier], resolve=customers) as multi:
            assert (await multi.verify(tenant.token())).issuer == issuer
    assert not customers.calls


async def test_all_that_wait_for_an_issuer_share_one_call(
    multi: MultiIssuerVerifier, customers: Customers, one: LocalTenant
) -> None:
    customers.gate = asyncio.Event()
    waiting = [asyncio.create_task(multi.verify(one.token())) for _ in range(20)]
    await until(lambda: bool(customers.calls))
    customers.gate.set()
    tokens = await asyncio.gather(*waiting)
    assert {token.issuer for token in tokens} == {one.issuer}
    assert customers.calls == [one.issuer]


async def test_first_caller_that_is_cancelled_leaves_the_call_to_the_others(
    multi: MultiIssuerVerifier, customers: Customers, one: LocalTenant
) -> None:
    customers.gate = asyncio.Event()
    first = asyncio.create_task(multi.verify(one.token()))
    await until(lambda: bool(customers.calls))
    second = asyncio.create_task(multi.verify(one.token()))
    first.cancel()
    await asyncio.wait({first})
    assert first.cancelled()
    customers.gate.set()
    assert (await second).issuer == one.issuer
    assert customers.calls == [one.issuer]


# --- what it answers ---


async def test_none_is_a_401_and_remembered_for_a_minute(
    multi: MultiIssuerVerifier, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    del customers.tenants[one.issuer]
    for _ in range(3):
        assert isinstance(await refusal(multi.verify(one.token())), InvalidClaimError)
    assert len(customers.calls) == 1
    clock.advance(REFUSED_SECONDS + 1)
    customers.tenants[one.issuer] = one
    await multi.verify(one.token())
    assert len(customers.calls) == 2


async def test_issuers_that_are_refused_take_no_more_memory_than_a_thousand_of_them(
    listed: LocalTenant, customers: Customers, clock: HandClock
) -> None:
    multi = multi_of(listed, customers, clock, max_issuers=5000)
    for number in range(2000):
        await refusal(multi.verify(naming(f"https://{number}.test/")))
    assert len(customers.calls) == 2000
    await refusal(multi.verify(naming("https://1999.test/")))
    assert len(customers.calls) == 2000
    assert multi._resolution is not None
    assert len(multi._resolution._refused) <= 1000
    await multi.aclose()


@pytest.mark.parametrize("error", [RuntimeError("the database is down"), TimeoutError()])
async def test_exception_is_a_503_and_the_next_token_asks_again(
    multi: MultiIssuerVerifier,
    customers: Customers,
    one: LocalTenant,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    customers.error = error
    refused = await refusal(multi.verify(one.token()))
    assert isinstance(refused, KeysUnavailableError)
    assert refused.http_status == 503
    assert refused.retry_after == RETRY_SECONDS
    assert "resolve" in caplog.text
    customers.error = None
    await multi.verify(one.token())


async def test_what_resolve_raised_is_logged_by_place_and_without_the_issuer(
    multi: MultiIssuerVerifier, customers: Customers, caplog: pytest.LogCaptureFixture
) -> None:
    customers.error = KeyError("https://secret.test/")
    for _ in range(3):
        await refusal(multi.verify(naming("https://secret.test/")))
    assert "KeyError" in caplog.text
    assert "test_resolution.py" in caplog.text
    assert "secret" not in caplog.text
    assert len(caplog.records) == 1, "a flood does not fill the log"


async def test_call_that_is_cancelled_from_inside_is_a_503(
    multi: MultiIssuerVerifier, customers: Customers, one: LocalTenant
) -> None:
    customers.error = asyncio.CancelledError()
    assert (await refusal(multi.verify(one.token()))).http_status == 503
    customers.error = None
    await multi.verify(one.token())


async def test_answer_that_does_not_come_in_max_wait_is_a_503_and_the_call_is_cancelled(
    listed: LocalTenant, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    multi = multi_of(listed, customers, clock, max_wait=0.05)
    customers.gate = asyncio.Event()
    assert (await refusal(multi.verify(one.token()))).http_status == 503
    await until(lambda: quiet(multi))
    customers.gate = None
    await multi.verify(one.token())
    await multi.aclose()


async def test_resolve_that_can_not_be_cancelled_keeps_nobody_longer_than_max_wait(
    listed: LocalTenant, clock: HandClock, one: LocalTenant
) -> None:
    go_on = asyncio.Event()

    async def stubborn(issuer: str) -> TokenVerifier | None:
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        return None

    multi = multi_of(listed, stubborn, clock, max_wait=0.05)
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            assert (await refusal(multi.verify(one.token()))).http_status == 503
        await multi.aclose()
    go_on.set()


async def test_verifier_of_another_issuer_is_never_used(
    multi: MultiIssuerVerifier,
    customers: Customers,
    clock: HandClock,
    one: LocalTenant,
    two: LocalTenant,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = verifier_of(two, clock, background=False)
    customers.answer = lambda issuer: other
    assert (await refusal(multi.verify(one.token()))).http_status == 503
    assert repr(two.issuer) in caplog.text
    assert not other.health().kids
    assert one.issuer not in multi.verifiers


@pytest.mark.parametrize("answer", ["https://one.test/", True, False, 0, object()])
async def test_what_is_no_verifier_is_a_503(
    multi: MultiIssuerVerifier, customers: Customers, one: LocalTenant, answer: object
) -> None:
    customers.answer = lambda issuer: answer
    assert (await refusal(multi.verify(one.token()))).http_status == 503


async def test_resolve_that_is_not_async_is_named_in_the_log(
    listed: LocalTenant, clock: HandClock, one: LocalTenant, caplog: pytest.LogCaptureFixture
) -> None:
    multi = multi_of(listed, lambda issuer: verifier_of(one, clock), clock)
    assert (await refusal(multi.verify(one.token()))).http_status == 503
    assert "no async function" in caplog.text
    await multi.aclose()


async def test_verifier_with_another_register_is_a_503(
    multi: MultiIssuerVerifier,
    customers: Customers,
    one: LocalTenant,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Decisions about its keys would reach no fleet and no journal of this process."""
    customers.options = {"register": Register()}
    assert (await refusal(multi.verify(one.token()))).http_status == 503
    assert "register" in caplog.text


# --- the budget ---


async def test_flood_of_issuers_is_answered_with_429_and_delays_no_known_issuer(
    listed: LocalTenant, customers: Customers, clock: HandClock, one: LocalTenant, two: LocalTenant
) -> None:
    multi = multi_of(listed, customers, clock, max_issuers=10)
    await multi.verify(one.token())
    customers.gate = asyncio.Event()
    flood = [
        asyncio.create_task(multi.verify(naming(f"https://{number}.test/")))
        for number in range(200)
    ]
    await until(lambda: sum(task.done() for task in flood) == 191)
    for task in flood:
        if task.done():
            error = task.exception()
            assert isinstance(error, LookUpThrottledError)
            assert error.http_status == 429
            assert error.retry_after >= 1
    assert (await multi.verify(one.token())).issuer == one.issuer
    assert (await multi.verify(listed.token())).issuer == listed.issuer
    assert isinstance(await refusal(multi.verify(two.token())), LookUpThrottledError)
    customers.gate.set()
    await asyncio.gather(*flood, return_exceptions=True)
    assert len(customers.calls) == 10
    clock.advance(1.0)
    await multi.verify(two.token())
    await multi.aclose()


async def test_no_more_than_a_thousand_tokens_wait_for_an_answer(
    multi: MultiIssuerVerifier, customers: Customers, one: LocalTenant, listed: LocalTenant
) -> None:
    customers.gate = asyncio.Event()
    token = one.token()
    waiting = [asyncio.create_task(multi.verify(token)) for _ in range(MAX_WAITING + 5)]
    await until(lambda: sum(task.done() for task in waiting) == 5)
    assert all(isinstance(t.exception(), LookUpThrottledError) for t in waiting if t.done())
    await multi.verify(listed.token())
    customers.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(not isinstance(each, Exception) for each in results) == MAX_WAITING
    assert customers.calls == [one.issuer]
    await multi.forget(one.issuer)
    await multi.verify(token)


async def test_known_issuer_is_asked_for_again_although_the_budget_is_spent(
    listed: LocalTenant, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    multi = multi_of(listed, customers, clock, max_issuers=2)
    await multi.verify(one.token())
    for round_ in range(3):
        clock.advance(TTL)
        for number in range(10):
            await refusal(multi.verify(naming(f"https://{round_}-{number}.test/")))
        before = customers.calls.count(one.issuer)
        await multi.verify(one.token())
        await until(lambda before=before: customers.calls.count(one.issuer) > before)  # type: ignore[misc]
    await multi.aclose()


async def test_failed_calls_count_too(
    listed: LocalTenant, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    multi = multi_of(listed, customers, clock, max_issuers=3)
    customers.error = RuntimeError("down")
    errors = [await refusal(multi.verify(one.token())) for _ in range(5)]
    assert [error.http_status for error in errors] == [503, 503, 503, 429, 429]
    await multi.aclose()


async def test_at_the_limit_new_issuers_get_429_and_none_in_use_is_evicted(
    listed: LocalTenant,
    customers: Customers,
    clock: HandClock,
    tenants: list[LocalTenant],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, one, two, three = tenants
    multi = multi_of(listed, customers, clock, max_issuers=2)
    for _ in range(10):
        clock.advance(TTL - 1)
        for tenant in (one, two):
            await multi.verify(tenant.token())
        error = await refusal(multi.verify(three.token()))
        assert isinstance(error, LookUpThrottledError)
    assert "max_issuers" in caplog.text
    assert three.issuer not in customers.calls
    await multi.forget(two.issuer)
    await multi.verify(three.token())
    assert set(multi.verifiers) == {listed.issuer, one.issuer, three.issuer}
    await multi.aclose()


async def test_issuer_of_which_no_token_came_makes_room(
    listed: LocalTenant, customers: Customers, clock: HandClock, tenants: list[LocalTenant]
) -> None:
    _, one, two, three = tenants
    multi = multi_of(listed, customers, clock, max_issuers=2)
    await multi.verify(one.token())
    await multi.verify(two.token())
    clock.advance(2 * TTL)
    await multi.verify(three.token())
    assert set(multi.verifiers) == {listed.issuer, three.issuer}
    assert [each.health().status for each in customers.given] == ["unavailable"] * 2 + ["ok"]
    await multi.verify(two.token())
    await multi.aclose()


async def test_issuers_that_come_at_the_same_time_do_not_get_past_the_limit(
    listed: LocalTenant, customers: Customers, clock: HandClock, tenants: list[LocalTenant]
) -> None:
    multi = multi_of(listed, customers, clock, max_issuers=2)
    customers.gate = asyncio.Event()
    waiting = [asyncio.create_task(multi.verify(tenant.token())) for tenant in tenants[1:3]]
    await until(lambda: len(customers.calls) == 2)
    clock.advance(1.0)
    waiting.append(asyncio.create_task(multi.verify(tenants[3].token())))
    await until(lambda: len(customers.calls) == 3)
    customers.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(each, LookUpThrottledError) for each in results) == 1
    assert len(multi.verifiers) == 3
    assert sum(each.keys.trust.closed for each in customers.given) == 1
    await multi.aclose()


# --- asking again ---


async def test_positive_answer_is_asked_for_again_and_nobody_waits_for_that(
    multi: MultiIssuerVerifier, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    await multi.verify(one.token())
    clock.advance(TTL - 1)
    await multi.verify(one.token())
    assert len(customers.calls) == 1
    clock.advance(1)
    customers.gate = asyncio.Event()
    for _ in range(5):
        await multi.verify(one.token())
    await until(lambda: len(customers.calls) == 2)
    customers.gate.set()
    await until(lambda: len(customers.given) == 2)
    assert len(customers.calls) == 2


async def test_issuer_that_is_served_no_more_is_refused_after_the_next_answer(
    multi: MultiIssuerVerifier, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    await multi.verify(one.token())
    del customers.tenants[one.issuer]
    clock.advance(TTL)
    customers.gate = asyncio.Event()
    await multi.verify(one.token())
    customers.gate.set()
    await until(lambda: one.issuer not in multi.verifiers)
    assert isinstance(await refusal(multi.verify(one.token())), InvalidClaimError)
    await until(lambda: customers.given[0].keys.trust.closed)


async def test_known_issuer_is_served_for_as_long_again_while_resolve_fails_and_not_longer(
    multi: MultiIssuerVerifier, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    await multi.verify(one.token())
    customers.error = RuntimeError("down")
    clock.advance(TTL)
    for _ in range(10):
        await multi.verify(one.token(lifetime=3600))
        await asyncio.sleep(0)
    await until(lambda: len(customers.calls) == 2)
    clock.advance(TTL - 1)
    await multi.verify(one.token())
    clock.advance(1)
    await until(lambda: quiet(multi))
    clock.advance(RETRY_SECONDS)
    calls = len(customers.calls)
    for _ in range(5):
        error = await refusal(multi.verify(one.token()))
        assert isinstance(error, KeysUnavailableError)
        assert error.http_status == 503
        assert 0 < error.retry_after <= RETRY_SECONDS
    assert len(customers.calls) == calls + 1, "one in RETRY_SECONDS"
    customers.error = None
    clock.advance(RETRY_SECONDS)
    await multi.verify(one.token())


async def test_equal_verifier_leaves_the_known_one_with_what_it_knows(
    multi: MultiIssuerVerifier, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    await multi.verify(one.token())
    fetches = len(one.requests)
    clock.advance(TTL)
    await multi.verify(one.token())
    await until(lambda: len(customers.given) == 2 and customers.given[1].keys.trust.closed)
    assert multi.verifiers[one.issuer] is customers.given[0]
    await multi.verify(one.token())
    assert multi.usage()[one.issuer][one.key().kid].accepted == 3
    assert len(one.requests) <= fetches + 1, "its own refresh"


async def test_the_very_same_verifier_stays_open(
    multi: MultiIssuerVerifier, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    same = verifier_of(one, clock, background=False)
    customers.answer = lambda issuer: same
    await multi.verify(one.token())
    for _ in range(3):
        clock.advance(TTL)
        await multi.verify(one.token())
        await until(lambda: quiet(multi))
    assert multi.verifiers[one.issuer] is same
    assert not same.keys.trust.closed


async def test_verifier_with_other_settings_takes_the_place_of_the_known_one(
    multi: MultiIssuerVerifier, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    await multi.verify(one.token())
    customers.options = {"token_types": ["at+jwt"]}
    customers.gate = asyncio.Event()
    clock.advance(TTL)
    await multi.verify(one.token())
    customers.gate.set()
    await until(lambda: multi.verifiers[one.issuer] is not customers.given[0])
    await until(lambda: customers.given[0].keys.trust.closed)
    with pytest.raises(TokenTypeError):
        await multi.verify(one.token())


# --- the life of what it gives ---


async def test_forgotten_issuer_is_refused_at_once_and_asked_for_anew(
    multi: MultiIssuerVerifier, customers: Customers, one: LocalTenant
) -> None:
    token = one.token()
    await multi.verify(token)
    forgetting = multi.forget(one.issuer)
    del customers.tenants[one.issuer]
    await forgetting
    assert customers.given[0].health().status == "unavailable"
    assert (await refusal(customers.given[0].verify(token))).http_status == 503
    assert isinstance(await refusal(multi.verify(token)), InvalidClaimError)
    assert len(customers.calls) == 2
    customers.tenants[one.issuer] = one
    await multi.forget(one.issuer)
    await multi.verify(token)


async def test_what_a_call_says_that_began_before_forget_is_not_taken(
    multi: MultiIssuerVerifier, customers: Customers, one: LocalTenant
) -> None:
    customers.gate = asyncio.Event()
    waiting = asyncio.create_task(multi.verify(one.token()))
    await until(lambda: len(customers.calls) == 1)
    del customers.tenants[one.issuer]
    await multi.forget(one.issuer)
    customers.gate.set()
    assert isinstance(await refusal(waiting), InvalidClaimError)
    assert len(customers.calls) == 2


async def test_answer_that_comes_in_spite_of_forget_is_not_taken(
    listed: LocalTenant, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    begun, go_on, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stubborn(issuer: str) -> TokenVerifier | None:
        if begun.is_set():
            return None
        begun.set()
        verifier = await customers(issuer)
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        answered.set()
        return verifier

    multi = multi_of(listed, stubborn, clock)
    waiting = asyncio.create_task(multi.verify(one.token()))
    await begun.wait()
    await multi.forget(one.issuer)
    go_on.set()
    await answered.wait()
    assert isinstance(await refusal(waiting), InvalidClaimError)
    assert isinstance(await refusal(multi.verify(one.token())), InvalidClaimError)
    assert one.issuer not in multi.verifiers
    await multi.aclose()


@pytest.mark.parametrize("again", [False, True])
async def test_verifier_that_is_given_too_late_is_closed_unless_it_is_given_again(
    listed: LocalTenant, customers: Customers, clock: HandClock, one: LocalTenant, again: bool
) -> None:
    same, started, go_on = await customers(one.issuer), asyncio.Event(), asyncio.Event()
    assert same is not None
    answers = [same, same if again else None]

    async def resolve(issuer: str) -> TokenVerifier | None:
        answer = answers.pop(0)
        if answer is not None:
            await answer.start()
        started.set()
        await go_on.wait()
        return answer

    multi = multi_of(listed, resolve, clock)
    waiting = asyncio.create_task(multi.verify(one.token()))
    await started.wait()
    go_on.set()
    await multi.forget(one.issuer)
    if again:
        await waiting
        assert same.health().status == "ok"
    else:
        assert isinstance(await refusal(waiting), InvalidClaimError)
    await multi.aclose()
    assert same.keys.trust.closed


async def test_token_that_is_looked_up_while_its_issuer_is_forgotten_is_not_accepted(
    multi: MultiIssuerVerifier, customers: Customers, one: LocalTenant, clock: HandClock
) -> None:
    async with KeyStore(
        one.issuer, http_client=client_of(one), clock=clock, background=False
    ) as keys:
        shared = TokenVerifier(one.issuer, one.audience, algorithms=["ES256"], keys=keys)
        customers.answer = lambda issuer: shared
        await multi.verify(one.token())
        new = one.new_key()
        one.publish(new)
        one.faults.delay(0.2)
        waiting = asyncio.create_task(multi.verify(one.token(key=new)))
        await until(lambda: bool(keys._refresher._flights.current))
        customers.answer = lambda issuer: None
        await multi.forget(one.issuer)
        assert isinstance(await refusal(waiting), InvalidClaimError)
        assert not keys.trust.closed, "it belongs to who made it"


async def test_listed_issuer_can_not_be_forgotten_and_an_unknown_one_need_not_be(
    multi: MultiIssuerVerifier, listed: LocalTenant, clock: HandClock
) -> None:
    with pytest.raises(ConfigurationError, match="list of verifiers"):
        await multi.forget(listed.issuer)
    await multi.forget("https://never-heard-of.test/")
    await multi_of(listed, None, clock).forget("https://never-heard-of.test/")


async def test_closed_verifier_asks_nobody_and_accepts_nothing_until_it_is_started(
    multi: MultiIssuerVerifier, customers: Customers, one: LocalTenant
) -> None:
    same = await customers(one.issuer)
    customers.answer = lambda issuer: same
    token = one.token()
    async with multi:
        await multi.verify(token)
    calls = len(customers.calls)
    assert (await refusal(multi.verify(token))).http_status == 503
    assert len(customers.calls) == calls
    assert same is not None
    assert (await refusal(same.verify(token))).http_status == 503
    async with multi:
        assert (await multi.verify(token)).issuer == one.issuer


async def test_close_ends_a_call_that_is_on_its_way(
    multi: MultiIssuerVerifier, customers: Customers, one: LocalTenant
) -> None:
    customers.gate = asyncio.Event()
    waiting = asyncio.create_task(multi.verify(one.token()))
    await until(lambda: bool(customers.calls))
    await multi.aclose()
    assert (await refusal(waiting)).http_status == 503


async def test_with_resolve_no_issuer_need_be_listed(
    customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    async with multi_of(None, customers, clock) as multi:
        assert (await multi.verify(one.token())).issuer == one.issuer
        assert set(multi.health()) == {one.issuer}
    assert not multi.health()


async def test_verifier_runs_on_the_loop_that_asked_first(
    multi: MultiIssuerVerifier, one: LocalTenant, two: LocalTenant
) -> None:
    await multi.verify(one.token())
    error = await asyncio.to_thread(asyncio.run, refusal(multi.verify(two.token())))
    assert isinstance(error, ConfigurationError)


# --- what it shows ---


async def test_resolved_issuer_shows_and_is_distrusted_like_a_listed_one(
    multi: MultiIssuerVerifier, listed: LocalTenant, one: LocalTenant
) -> None:
    token = one.token()
    await multi.verify(token)
    await multi.verify(listed.token())
    assert {issuer: report.status for issuer, report in multi.health().items()} == {
        listed.issuer: "ok",
        one.issuer: "ok",
    }
    kid = one.key().kid
    assert multi.usage()[one.issuer][kid].accepted == 1
    assert not multi.distrusted[one.issuer]
    await multi.verifiers[one.issuer].distrust(kid, reason="leaked", force=True)
    assert set(multi.distrusted[one.issuer]) == {kid}
    with pytest.raises(RevokedKeyError):
        await multi.verify(token)
    await multi.forget(one.issuer)
    with pytest.raises(RevokedKeyError):
        await multi.verify(token)


@pytest.mark.parametrize("made", ["in resolve", "before"])
async def test_resolved_issuer_that_publishes_a_listed_ones_key_can_not_have_it_distrusted(
    multi: MultiIssuerVerifier,
    customers: Customers,
    clock: HandClock,
    listed: LocalTenant,
    one: LocalTenant,
    made: str,
) -> None:
    if made == "before":
        early = verifier_of(one, clock, background=False)
        customers.answer = lambda issuer: early
    await multi.verify(listed.token())
    one.publish({**listed.key().jwk, "kid": "mine"})
    twin = one.token(key=listed.key(), kid="mine")
    await multi.verify(twin)
    await multi.verifiers[one.issuer].distrust("mine", reason="its owner asked for it")
    with pytest.raises(RevokedKeyError):
        await multi.verify(twin)
    await multi.verify(listed.token())
    await multi.verifiers[one.issuer].reinstate("mine", reason="it was a trick")
    await multi.verifiers[listed.issuer].distrust(listed.key().kid, reason="leaked", force=True)
    with pytest.raises(RevokedKeyError):
        await multi.verify(listed.token())
    await multi.verify(twin)


async def test_remaining_time_of_a_token_ends_with_what_is_known_of_its_issuer(
    multi: MultiIssuerVerifier, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    token = await multi.verify(one.token(lifetime=7200))
    assert multi.remaining(token) == TTL
    clock.advance(TTL)
    customers.error = RuntimeError("down")
    assert multi.remaining(token) == TTL, "and it asks again"
    await until(lambda: len(customers.calls) == 2)
    clock.advance(TTL)
    with pytest.raises(KeysUnavailableError):
        multi.remaining(token)
    await multi.forget(one.issuer)
    with pytest.raises(InvalidClaimError):
        multi.remaining(token)


async def test_remaining_time_of_a_short_token_is_its_own(
    multi: MultiIssuerVerifier, one: LocalTenant
) -> None:
    assert multi.remaining(await multi.verify(one.token(lifetime=60))) == 65


async def test_listener_hears_of_its_issuer_until_it_ends(
    multi: MultiIssuerVerifier, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    await multi.verify(one.token())
    heard: list[str] = []
    stop = multi.subscribe(lambda: heard.append("changed"))
    await multi.verifiers[one.issuer].keys.refresh()
    assert heard
    heard.clear()
    customers.options = {"leeway": 1.0}
    clock.advance(TTL)
    await multi.verify(one.token())
    await until(lambda: multi.verifiers[one.issuer] is not customers.given[0])
    assert heard, "of the end of the first verifier"
    await until(lambda: quiet(multi))
    heard.clear()
    await multi.verifiers[one.issuer].keys.refresh()
    assert heard, "and of the second one"
    heard.clear()
    await multi.forget(one.issuer)
    assert heard
    stop()
    heard.clear()
    await multi.verify(one.token())
    await multi.forget(one.issuer)
    assert not heard


# --- arguments ---


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"resolve_ttl": 0}, "resolve_ttl"),
        ({"resolve_ttl": "300"}, "resolve_ttl"),
        ({"max_wait": -1}, "max_wait"),
        ({"max_issuers": 0}, "max_issuers"),
        ({"max_issuers": 1.5}, "max_issuers"),
        ({"resolve": "https://one.test/"}, "resolve"),
    ],
)
def test_arguments_that_can_not_be_used_are_named(
    listed: LocalTenant, clock: HandClock, options: dict[str, Any], named: str
) -> None:
    options = {"resolve": None, **options}
    with pytest.raises(ConfigurationError, match=f"^{named} must be"):
        MultiIssuerVerifier([verifier_of(listed, clock)], **options)


# --- through failures of the process ---


class Unstartable(TokenVerifier):
    """Its journal can't be read, say."""

    startable = False

    async def start(self, *, require_keys: bool = False) -> None:
        await super().start(require_keys=require_keys)
        if not self.startable:
            raise ConfigurationError("The distrust journal can't be read.")


async def test_verifier_that_can_not_be_started_again_is_a_503_and_closed(
    multi: MultiIssuerVerifier, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    same = Unstartable(
        one.issuer, one.audience, algorithms=["ES256"], http_client=client_of(one), clock=clock
    )
    await same.aclose()
    customers.answer = lambda issuer: same
    assert (await refusal(multi.verify(one.token()))).http_status == 503
    assert same.keys.trust.closed
    same.startable = True
    await multi.verify(one.token())


async def test_key_that_is_distrusted_is_news_once_however_often_its_issuer_is_asked_for(
    multi: MultiIssuerVerifier, customers: Customers, clock: HandClock, one: LocalTenant
) -> None:
    told: list[str] = []
    customers.options = {"on_event": lambda event: told.append(event.kind)}
    await multi.verify(one.token())
    await multi.verifiers[one.issuer].distrust(one.key().kid, reason="leaked", force=True)
    for _ in range(3):
        clock.advance(TTL)
        await refusal(multi.verify(one.token()))
        await until(lambda: quiet(multi))
        await multi.forget(one.issuer)
        await refusal(multi.verify(one.token()))
    assert told.count("key_distrusted") == 1


def test_forked_child_asks_for_itself_and_knows_what_was_known() -> None:
    done = run_to_end([sys.executable, "-m", "tests.verify.forking"], cwd=PROJECT)
    assert json.loads(done.stdout) == {
        "accepted": ["https://one.test/", "https://two.test/"],
        "calls": ["https://one.test/", "https://two.test/", "https://two.test/"],
        "heard": True,
    }


# --- whatever happens ---

STEPS = st.one_of(
    st.tuples(st.sampled_from(["verify", "forget", "serve", "end", "change"]), st.integers(0, 2)),
    st.tuples(st.sampled_from(["fail", "mend", "restart", "settle"]), st.just(0)),
    st.tuples(st.just("advance"), st.sampled_from([1, 61, 150, 299, 300, 600])),
)


@settings(max_examples=40)
@given(st.lists(STEPS, max_size=40))
def test_token_is_accepted_only_while_resolve_has_said_yes_within_the_bound(
    steps: list[tuple[str, int]],
) -> None:
    clock = HandClock()
    with ExitStack() as stack:
        tenants = [
            stack.enter_context(tenant_of(clock, issuer=f"https://{name}.test/"))
            for name in ("one", "two", "three")
        ]
        asyncio.run(History(clock, tenants).hold(steps))
    _clients.clear()


class History:
    """Takes steps, and keeps when `resolve` was last asked for an issuer that it then knew."""

    def __init__(self, clock: HandClock, tenants: list[LocalTenant]) -> None:
        self.clock = clock
        self.tenants = tenants
        self.customers = Customers(clock, {tenant.issuer: tenant for tenant in tenants})
        self.said_yes: dict[str, float] = {}
        self.failed_at = -math.inf
        self.multi = multi_of(None, self.resolve, clock, max_issuers=2)

    async def resolve(self, issuer: str) -> TokenVerifier | None:
        asked = self.clock.time()
        if self.customers.error is not None:
            self.failed_at = asked
        verifier = await self.customers(issuer)
        self.said_yes.pop(issuer, None)
        if verifier is not None:
            self.said_yes[issuer] = asked
        return verifier

    async def hold(self, steps: list[tuple[str, int]]) -> None:
        for step, value in steps:
            await getattr(self, step)(value)
            in_use = set(self.multi.verifiers.values())
            assert len(in_use) <= 2
            assert not any(verifier.keys.trust.closed for verifier in in_use)
        await self.multi.aclose()
        assert all(verifier.keys.trust.closed for verifier in self.customers.given)

    async def verify(self, number: int) -> None:
        tenant = self.tenants[number]
        try:
            await self.multi.verify(tenant.token())
        except InvalidClaimError:
            assert tenant.issuer not in self.said_yes
        except LookUpThrottledError:
            assert tenant.issuer not in self.multi.verifiers
        except KeysUnavailableError:
            assert self.clock.time() - self.failed_at < RETRY_SECONDS
        else:
            assert self.clock.time() - self.said_yes[tenant.issuer] < 2 * TTL

    async def forget(self, number: int) -> None:
        await self.multi.forget(self.tenants[number].issuer)
        self.said_yes.pop(self.tenants[number].issuer, None)

    async def serve(self, number: int) -> None:
        self.customers.tenants[self.tenants[number].issuer] = self.tenants[number]

    async def end(self, number: int) -> None:
        self.customers.tenants.pop(self.tenants[number].issuer, None)

    async def change(self, number: int) -> None:
        self.customers.options = {"leeway": 5.0 + number}

    async def fail(self, _: int) -> None:
        self.customers.error = RuntimeError("down")

    async def mend(self, _: int) -> None:
        self.customers.error = None

    async def restart(self, _: int) -> None:
        await self.multi.aclose()
        await self.multi.start()
        self.said_yes.clear()

    async def settle(self, _: int) -> None:
        await until(lambda: quiet(self.multi))

    async def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)
