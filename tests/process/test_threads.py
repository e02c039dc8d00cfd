"""One SyncTokenVerifier, many threads."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, cycle
from typing import Any

import httpx
import pytest

from jwks_guard import JWKSGuardError, KeyStore, SyncTokenVerifier, UnknownKeyError
from jwks_guard.base.portal import process_portal
from jwks_guard.testing import LocalTenant
from tests.process.stepping import at_every_place
from tests.support import PATIENCE, HandClock, tenant_of


def verifier_of(tenant: LocalTenant, clock: HandClock, **options: Any) -> SyncTokenVerifier:
    return SyncTokenVerifier(
        tenant.issuer,
        tenant.audience,
        algorithms=["ES256"],
        http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
        clock=clock,
        **options,
    )


@pytest.fixture
def verifier(tenant: LocalTenant, clock: HandClock) -> Iterator[SyncTokenVerifier]:
    with verifier_of(tenant, clock) as verifier:
        yield verifier


def outcome(verifier: SyncTokenVerifier, token: str) -> str:
    """ "accepted", or the code of the refusal."""
    try:
        verifier.verify(token)
    except JWKSGuardError as error:
        return error.code
    return "accepted"


@contextmanager
def blocked_portal() -> Iterator[None]:
    """The portal's event loop does nothing in the block: whoever needs it hangs."""
    going_on = threading.Event()
    blocked: Future[bool] = process_portal.get().start_task_soon(going_on.wait, PATIENCE)
    try:
        yield
        assert not blocked.done()
    finally:
        going_on.set()
    assert blocked.result(PATIENCE)


def test_known_keys_cached_tokens_and_distrust_never_need_the_portal(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    cached = tenant.token()
    verifier.verify(cached)
    old = tenant.key().kid
    tenant.rotate()
    with blocked_portal():
        assert outcome(verifier, cached) == "accepted"
        assert outcome(verifier, tenant.token()) == "accepted"
        assert outcome(verifier, tenant.forged_token()) == "invalid_signature"
        verifier.distrust(old, reason="leaked")
        assert outcome(verifier, cached) == "revoked_key"
        verifier.reinstate(old, reason="a mistake")
        assert outcome(verifier, cached) == "accepted"


def test_threads_with_known_keys_do_not_wait_for_anothers_fetch(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    hold = tenant.faults.hold()
    with ThreadPoolExecutor(5) as threads:
        fetching = threads.submit(outcome, verifier, tenant.token(kid="bogus"))
        hold.arrived.wait_blocking()
        known = [threads.submit(outcome, verifier, tenant.token()) for _ in range(4)]
        assert [each.result(PATIENCE) for each in known] == ["accepted"] * 4
        assert not fetching.done()
        hold.release()
        assert fetching.result(PATIENCE) == UnknownKeyError.code


def test_threads_that_start_together_share_one_fetch(tenant: LocalTenant, clock: HandClock) -> None:
    verifier, together = verifier_of(tenant, clock), threading.Barrier(8)

    def verify(_: int) -> str:
        together.wait(PATIENCE)
        return outcome(verifier, tenant.token())

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(verify, range(8))) == ["accepted"] * 8
    assert tenant.requests.count() == 1
    verifier.close()


@dataclass
class MeetingClock(HandClock):
    """Stops the thread called "verifying" when it reads the time of day for the `stop`-th time."""

    stop: int = 0
    readings: int = 0
    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))

    def time(self) -> float:
        if threading.current_thread().name.startswith("verifying"):
            self.readings += 1
            if self.readings == self.stop:
                self.meeting.wait(PATIENCE)
                self.meeting.wait(PATIENCE)
        return self.wall


def distrust(verifier: SyncTokenVerifier, tenant: LocalTenant, kid: str) -> None:
    verifier.distrust(kid, reason="leaked", force=True)


def withdraw(verifier: SyncTokenVerifier, tenant: LocalTenant, kid: str) -> None:
    tenant.remove(kid)
    process_portal.get().call(verifier.keys.refresh)


def swap(verifier: SyncTokenVerifier, tenant: LocalTenant, kid: str) -> None:
    tenant.swap_key(kid)
    process_portal.get().call(verifier.keys.refresh)


def confirm(verifier: SyncTokenVerifier, tenant: LocalTenant, kid: str) -> None:
    tenant.rotate()
    process_portal.get().call(verifier.keys.refresh)


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (distrust, "revoked_key"),
        (withdraw, "removed_key"),
        (swap, "invalid_signature"),
        (confirm, "accepted"),
    ],
)
def test_a_thread_with_the_view_from_before_goes_by_the_view_of_now(
    change: Callable[[SyncTokenVerifier, LocalTenant, str], None], expected: str, cache_size: int
) -> None:
    clock = MeetingClock()
    with (
        tenant_of(clock) as tenant,
        verifier_of(tenant, clock, token_cache_size=cache_size) as verifier,
        ThreadPoolExecutor(1, "verifying") as threads,
    ):
        token, other = tenant.token(), tenant.token()
        assert threads.submit(outcome, verifier, other).result(PATIENCE) == "accepted"
        clock.stop, clock.readings = clock.readings, 0
        verifying = threads.submit(outcome, verifier, token)
        clock.meeting.wait(PATIENCE)  # it has taken the view
        change(verifier, tenant, tenant.key().kid)
        clock.meeting.wait(PATIENCE)
        assert verifying.result(PATIENCE) == expected
        assert outcome(verifier, token) == expected


def test_distrust_holds_wherever_another_thread_stands(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    old = tenant.key().kid
    tenant.rotate()

    def verify() -> str:
        return outcome(verifier, tenant.token(key=old, sub=os.urandom(8).hex()))

    assert verify() == "accepted"
    stops = 0
    for thread in at_every_place(verify, opcodes=True):
        verifier.distrust(old, reason="leaked")
        assert outcome(verifier, tenant.token()) == "accepted"
        thread.go_on()
        assert thread.ended()
        assert verify() == "revoked_key", thread.where
        verifier.reinstate(old, reason="rehearsal")
        assert verify() == "accepted"
        stops += 1
    assert stops > 100


def test_distrust_holds_wherever_a_refresh_stands_that_still_lists_the_key(
    tenant: LocalTenant, clock: HandClock
) -> None:
    keys = KeyStore(
        tenant.issuer,
        http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
        clock=clock,
        background=False,
    )
    old = tenant.key().kid
    tenant.rotate()
    with ThreadPoolExecutor(1) as threads:
        for thread in at_every_place(lambda: asyncio.run(keys.refresh())):
            deciding = threads.submit(keys.decisions.decide, old, reason="leaked")
            wait([deciding], 0.05)  # it ends while the other stands, unless that holds the lock
            thread.go_on()
            deciding.result(PATIENCE)
            assert thread.ended()
            assert old not in keys.kids, thread.where
            assert tenant.key().kid in keys.kids
            asyncio.run(keys.decisions.reinstate(old, reason="rehearsal"))
            assert old in keys.kids
    asyncio.run(keys.aclose())


def test_a_verifier_closed_wherever_another_thread_stands_raises_nothing_foreign(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    results = set()
    for thread in at_every_place(
        lambda: results.add(outcome(verifier, tenant.token())), opcodes=True
    ):
        verifier.close()
        thread.go_on()
        assert thread.ended()
        assert results <= {"accepted", "keys_unavailable"}
        assert outcome(verifier, tenant.token()) == "keys_unavailable"
        verifier.start()
    assert results == {"accepted", "keys_unavailable"}


@dataclass(frozen=True, eq=False)
class Phase:
    """What must become of a token as long as this phase lasts; None: either may."""

    expected: str | None


class Traffic:
    """Threads that verify without a pause, and what they saw."""

    def __init__(self, verifier: SyncTokenVerifier) -> None:
        self._verifier = verifier
        self._counted = threading.Condition()
        self._verified: Counter[Phase] = Counter()
        self._kids: list[str] = []  # the threads read it while it grows: never a dict's keys
        self._tokens: dict[str, Callable[[], str]] = {}
        self._phases: dict[str, Phase] = {}
        self.wrong: list[tuple[str, str | None]] = []
        self.over = False

    def add(self, kid: str, token: Callable[[], str]) -> None:
        """Have tokens of one more key verified, which must be accepted from the first on."""
        self._phases[kid] = Phase("accepted")
        self._tokens[kid] = token
        self._kids.append(kid)

    def run(self, first: int) -> None:
        for turn in count(first):
            if self.over:
                return
            kid = self._kids[turn % len(self._kids)]
            phase, token = self._phases[kid], self._tokens[kid]()
            got = outcome(self._verifier, token)
            if phase is not self._phases[kid]:
                continue  # a decision fell in between
            if phase.expected not in (got, None):
                self.wrong.append((got, phase.expected))
            with self._counted:
                self._verified[phase] += 1
                self._counted.notify_all()

    def decide(self, kid: str, decision: Callable[[], None], then: str) -> None:
        """Make a decision, after which tokens of `kid` must end as `then` says."""
        self._phases[kid] = Phase(None)
        decision()
        self._phases[kid] = Phase(then)

    def go_round(self) -> None:
        """Wait until tokens of every key were verified in its present phase."""
        phases = list(self._phases.values())
        with self._counted:
            assert self._counted.wait_for(
                lambda: all(self._verified[phase] >= 20 for phase in phases), PATIENCE
            )


@pytest.fixture
def hasty_switching() -> Iterator[None]:
    """Threads take turns a thousand times as often as usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty_switching")
def test_eight_threads_see_every_decision_at_once_and_refuse_no_valid_token(
    tenant: LocalTenant, verifier: SyncTokenVerifier
) -> None:
    traffic = Traffic(verifier)

    def add_current() -> str:
        kid, kept = tenant.key().kid, tenant.token()
        again = cycle([True, False])
        traffic.add(kid, lambda: kept if next(again) else tenant.token(key=kid))
        return kid

    def change_their_minds(kid: str) -> None:
        traffic.decide(kid, lambda: verifier.distrust(kid, reason="leaked"), "revoked_key")
        traffic.go_round()
        traffic.decide(kid, lambda: verifier.reinstate(kid, reason="rehearsal"), "accepted")
        traffic.go_round()

    kid = add_current()
    with ThreadPoolExecutor(8) as threads:
        running = [threads.submit(traffic.run, first) for first in range(8)]
        traffic.go_round()
        for _ in range(4):
            previous = kid
            tenant.rotate()
            tenant.rotate()  # twice, so that this key is new to the verifier
            kid = add_current()
            traffic.go_round()
            change_their_minds(previous)
            change_their_minds(previous)
            traffic.decide(
                previous, partial(verifier.distrust, previous, reason="leaked"), "revoked_key"
            )
        traffic.over = True
        for each in running:
            each.result(PATIENCE)
    assert traffic.wrong == []
