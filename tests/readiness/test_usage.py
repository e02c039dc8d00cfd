"""What an instance counts of each key's tokens: every acceptance once, in bounded memory."""

from __future__ import annotations

import base64
import gc
import json
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard import (
    InvalidTokenError,
    KeyStore,
    LookUpThrottledError,
    MultiIssuerVerifier,
    RevokedKeyError,
    SyncTokenVerifier,
    TokenVerifier,
)
from jwks_guard.readiness.usage import MAX_KIDS, NEVER, RECENT_SECONDS, KeyUsage, Usage, most, total
from jwks_guard.testing import LocalTenant
from jwks_guard.verify.token import VerifiedToken
from tests.support import HandClock, tenant_of, verifier_of

API = "https://api.test"
KINDS = [{}, {"token_cache_size": 0}, {"background": False}]


def accepted(verifier: TokenVerifier | SyncTokenVerifier) -> dict[str, int]:
    return {kid: usage.accepted for kid, usage in verifier.usage().items()}


def store_of(tenant: LocalTenant, clock: HandClock) -> KeyStore:
    def client() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=tenant.transport)

    return KeyStore(tenant.issuer, http_client=client, clock=clock)


# --- every acceptance counts once ---


@pytest.mark.parametrize("options", KINDS)
async def test_each_acceptance_counts_once_however_it_comes_about(
    tenant: LocalTenant, clock: HandClock, options: dict[str, object]
) -> None:
    async with verifier_of(tenant, clock, **options) as verifier:
        token, kid = tenant.token(), tenant.key().kid
        for number in range(1, 4):
            await verifier.verify(token)
            assert accepted(verifier) == {kid: number}
        await verifier.verify(tenant.token(sub="another one, by the remembered header"))
        assert accepted(verifier) == {kid: 4}
        tenant.rotate()
        await verifier.verify(tenant.token())  # a key that is fetched for it
        assert accepted(verifier) == {kid: 4, tenant.key().kid: 1}


@pytest.mark.parametrize("options", KINDS)
def test_threads_face_counts_the_same_way(
    tenant: LocalTenant, clock: HandClock, options: dict[str, int]
) -> None:
    def client() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=tenant.transport)

    verifier = SyncTokenVerifier(
        tenant.issuer,
        tenant.audience,
        algorithms=["ES256"],
        clock=clock,
        http_client=client,
        token_cache_size=options.get("token_cache_size", 10_000),
        background=bool(options.get("background", True)),
    )
    with verifier:
        token = tenant.token()
        for _ in range(3):
            verifier.verify(token)
        with pytest.raises(InvalidTokenError):
            verifier.verify(tenant.forged_token())
        (usage,) = verifier.usage().values()
        assert (usage.accepted, usage.rejected) == (3, 1)


async def test_each_issuers_counts_are_its_own(clock: HandClock) -> None:
    with (
        tenant_of(clock, issuer="https://one.test/") as one,
        tenant_of(clock, issuer="https://two.test/") as two,
    ):
        both = MultiIssuerVerifier([verifier_of(one, clock), verifier_of(two, clock)])
        async with both:
            await both.verify(one.token())
            await both.verify(two.token())
            await both.verify(two.token())
            counts = {i: {k: u.accepted for k, u in by.items()} for i, by in both.usage().items()}
            assert counts == {
                one.issuer: {one.key().kid: 1},
                two.issuer: {two.key().kid: 2},
            }


async def test_verifiers_that_share_a_store_count_by_leeway_and_the_store_together(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with store_of(tenant, clock) as store:
        first, second = (
            TokenVerifier(tenant.issuer, audience, algorithms=["ES256"], keys=store, leeway=leeway)
            for audience, leeway in ((tenant.audience, 0.0), ("https://other.test", 60.0))
        )
        await first.verify(tenant.token(lifetime=100))
        for _ in range(2):
            await second.verify(tenant.token(audience="https://other.test", lifetime=500))
        kid = tenant.key().kid
        assert (accepted(first), accepted(second)) == ({kid: 1}, {kid: 2})
        assert store.usage()[kid].nameless == KeyUsage(
            3, 0, 3, clock.time(), clock.time() + 500, 500.0, other_clients=3
        )
        third = TokenVerifier(
            tenant.issuer, tenant.audience, algorithms=["ES256"], keys=store, leeway=0.0
        )
        await third.verify(tenant.token(lifetime=50))
        assert accepted(first) == accepted(third) == {kid: 2}, "of one leeway"
        assert store.usage()[kid].accepted == 4


async def test_what_a_verifier_counted_outlives_it(tenant: LocalTenant, clock: HandClock) -> None:
    async with store_of(tenant, clock) as store:
        for leeway in (0.0, 60.0):
            verifier = TokenVerifier(
                tenant.issuer, tenant.audience, algorithms=["ES256"], keys=store, leeway=leeway
            )
            await verifier.verify(tenant.token(lifetime=5_000))
            with pytest.raises(InvalidTokenError):
                await verifier.verify(tenant.forged_token())
        before = store.usage()
        del verifier
        gc.collect()
        assert store.usage() == before
        now = clock.time()
        assert before[tenant.key().kid].nameless == KeyUsage(
            2, 2, 2, now, now + 5_000, 5_000.0, other_clients=2
        )
        many = [TokenVerifier(tenant.issuer, API, keys=store) for _ in range(100)]
        assert (len(many), len(store.usages)) == (100, 3), "one for each leeway"


# --- forks ---


@pytest.mark.parametrize("options", KINDS)
async def test_forked_child_counts_from_its_birth_and_knows_what_its_parent_accepted(
    tenant: LocalTenant, clock: HandClock, options: dict[str, object]
) -> None:
    async with verifier_of(tenant, clock, **options) as verifier:
        kid, token = tenant.key().kid, tenant.token(lifetime=5_000)
        until = clock.time() + 5_000
        await verifier.verify(token)
        with pytest.raises(InvalidTokenError):
            await verifier.verify(tenant.forged_token())
        with pytest.raises(InvalidTokenError):
            await verifier.verify("no token")
        clock.advance(1_000)
        verifier.keys.after_fork()
        assert verifier.keys.since == clock.time()
        assert verifier.usage() == {kid: KeyUsage(latest_expiry=until, longest_lifetime=5_000.0)}
        assert verifier.verification.usage.others == 0
        await verifier.verify(token)  # by the result that the parent kept
        assert verifier.usage()[kid].nameless == KeyUsage(
            1, 0, 1, clock.time(), until, 5_000.0, other_clients=1
        )
        (state,) = (await verifier.observe(kid)).states
        assert (state.started_at, state.usage[kid].accepted) == (clock.time(), 1)


async def test_store_that_was_closed_when_its_process_forked_counts_from_its_next_start(
    tenant: LocalTenant, clock: HandClock
) -> None:
    store = store_of(tenant, clock)
    async with store:
        clock.advance(1_000)
    async with store:
        assert store.since == clock.time()


async def test_result_that_was_pickled_changes_no_count(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        token = tenant.token()
        result: VerifiedToken = pickle.loads(pickle.dumps(await verifier.verify(token)))
        assert result == await verifier.verify(token)
        assert accepted(verifier) == {tenant.key().kid: 2}


# --- what was refused ---


async def test_refusals_count_for_the_key_that_they_name_and_else_for_none(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        kid, token = tenant.key().kid, tenant.token(lifetime=60)
        await verifier.verify(token)
        clock.advance(120)
        refused = [
            token,  # expired, though its result was kept
            tenant.forged_token(),
            tenant.token(audience="https://another.test"),
            f"{tenant.token().rpartition('.')[0]}.*",
            tenant.forged_token(kid="never published"),
            "no token",
        ]
        for each in refused:
            with pytest.raises(InvalidTokenError):
                await verifier.verify(each)
        assert {k: (u.accepted, u.rejected) for k, u in verifier.usage().items()} == {kid: (1, 4)}
        assert verifier.verification.usage.others == 2
        await verifier.distrust(kid, reason="leaked")
        with pytest.raises(RevokedKeyError):
            await verifier.verify(tenant.token())
        assert verifier.usage()[kid].rejected == 5


async def test_forged_kids_cost_no_memory(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        await verifier.verify(tenant.token())
        tail = tenant.token().partition(".")[2]
        for number in range(20_000):
            header = json.dumps({"alg": "ES256", "typ": "JWT", "kid": f"forged-{number}"})
            segment = base64.urlsafe_b64encode(header.encode()).rstrip(b"=").decode()
            with pytest.raises((InvalidTokenError, LookUpThrottledError)):
                await verifier.verify(f"{segment}.{tail}")
        usage = verifier.verification.usage
        assert set(usage._counters) == set(verifier.usage()) == {tenant.key().kid}
        assert usage.others == 20_000


def test_kids_are_bounded_and_the_longest_unused_go_first() -> None:
    usage = Usage(leeway=0.0)
    for number in range(3 * MAX_KIDS):
        usage.counter("always used").clients.counter({}).accepted += 1
        usage.counter(f"k{number}").clients.counter({}).accepted += 1
        if number % 3:  # nobody has looked at the others yet
            usage.sample(1_000.0 + number)
    counts = usage.report(9_000.0)
    assert len(counts) == len(usage._counters) == MAX_KIDS
    assert counts["always used"].accepted == 3 * MAX_KIDS
    assert f"k{3 * MAX_KIDS - 1}" in counts
    assert f"k{3 * MAX_KIDS - 2}" in counts
    assert "k0" not in counts
    assert usage.accepted == 6 * MAX_KIDS


def test_kid_that_nobody_has_looked_at_since_its_first_token_is_not_the_longest_unused() -> None:
    usage = Usage(leeway=0.0)
    usage.counter("not looked at yet").clients.counter({}).accepted += 1
    for number in range(MAX_KIDS - 1):
        usage.counter(f"k{number}").clients.counter({}).accepted += 1
    for number in range(MAX_KIDS - 1):
        usage.counter(f"k{number}").sample(1_000.0 + number)
    usage.counter("one more")
    assert "not looked at yet" in usage.report(9_000.0)


def test_samples_are_bounded_and_reach_back_far_enough() -> None:
    counter = Usage(leeway=0.0).counter("k")
    for second in range(0, 100_000, 5):
        counter.clients.counter({}).accepted += 1
        counter.sample(float(second))
    assert len(counter._samples) <= RECENT_SECONDS / 10 + 2
    assert RECENT_SECONDS / 5 <= counter.usage(float(second), 0.0).recent <= RECENT_SECONDS / 5 + 2


def test_clock_that_was_set_back_by_days_does_not_stop_the_count_of_the_last_minutes() -> None:
    counter = Usage(leeway=0.0).counter("k")
    for now in (900_000.0, *(float(second) for second in range(0, 2_000, 10))):
        counter.clients.counter({}).accepted += 1
        counter.sample(now)
    assert counter.usage(1_990.0, 0.0).recent <= RECENT_SECONDS / 10 + 1


# --- when ---


def test_latest_expiry_is_the_latest_and_not_the_last() -> None:
    usage = Usage(leeway=5.0)
    counter = usage.counter("k")
    assert usage.report(0.0)["k"] == KeyUsage()
    counter.clients.counter({}).accepted, counter.until = 2, 105.0
    assert usage.report(0.0)["k"].latest_expiry == 100.0


@pytest.mark.parametrize("options", KINDS)
async def test_latest_expiry_is_the_exp_without_the_leeway(
    tenant: LocalTenant, clock: HandClock, options: dict[str, object]
) -> None:
    async with verifier_of(tenant, clock, leeway=30.0, **options) as verifier:
        for lifetime in (100, 300, 200, 300):
            await verifier.verify(tenant.token(lifetime=lifetime))
        with pytest.raises(InvalidTokenError):
            await verifier.verify(tenant.forged_token(lifetime=9_000))
        assert verifier.usage()[tenant.key().kid].latest_expiry == clock.time() + 300


@pytest.mark.parametrize("options", KINDS)
async def test_longest_lifetime_is_from_the_issue_to_the_end_of_a_token(
    tenant: LocalTenant, clock: HandClock, options: dict[str, object]
) -> None:
    async with verifier_of(tenant, clock, leeway=30.0, **options) as verifier:
        kid = tenant.key().kid
        idle = tenant.token(lifetime=1_000)
        clock.advance(900)
        await verifier.verify(idle)
        assert verifier.usage()[kid].longest_lifetime == 1_000
        await verifier.verify(tenant.token(lifetime=300))
        assert verifier.usage()[kid].longest_lifetime == 1_000
        await verifier.verify(tenant.token(lifetime=2_000))
        assert verifier.usage()[kid].longest_lifetime == 2_000


async def test_lifetime_of_a_token_without_an_issue_counts_from_its_acceptance(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock, required_claims=[]) as verifier:
        kid = tenant.key().kid
        ahead = clock.time() + 60
        await verifier.verify(tenant.token(lifetime=30, claims={"iat": ahead}))
        assert verifier.usage()[kid].longest_lifetime is None
        await verifier.verify(tenant.token(lifetime=700, claims={"iat": None}))
        assert verifier.usage()[kid].longest_lifetime == 700
        await verifier.verify(tenant.token(claims={"exp": None}))
        assert verifier.usage()[kid].longest_lifetime == NEVER


async def test_token_that_never_expires_is_told_as_one(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock, required_claims=[]) as verifier:
        await verifier.verify(tenant.token(claims={"exp": None}))
        assert verifier.usage()[tenant.key().kid].latest_expiry == NEVER
        assert json.dumps(NEVER)


async def test_background_notes_when_a_key_was_used_last(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with verifier_of(tenant, clock) as verifier:
        token, kid = tenant.token(), tenant.key().kid
        await verifier.verify(token)
        await verifier.keys.tick()
        used = clock.time()
        clock.advance(45)
        await verifier.keys.tick()
        clock.advance(45)
        assert verifier.usage()[kid].nameless == KeyUsage(
            1, 0, 1, used, used + 86_400, 86_400.0, other_clients=1
        )
        await verifier.verify(token)
        assert verifier.usage()[kid].last_seen == clock.time()


class Naive:
    """Keeps every instant, and says what the counts may be."""

    def __init__(self) -> None:
        self.accepted: list[float] = []
        self.looks: list[float] = []

    def check(self, usage: KeyUsage, now: float) -> None:
        assert usage.accepted == len(self.accepted)
        known = max((at for at in self.looks if at <= now - RECENT_SECONDS), default=-1e9)
        least = sum(at > now - RECENT_SECONDS for at in self.accepted)
        most = sum(at >= known - 10.0 for at in self.accepted)
        assert least <= usage.recent <= most
        if not self.accepted:
            assert usage.last_seen is None
            return
        last = self.accepted[-1]
        looked = min((at for at in self.looks if at >= last + 10.0), default=now)
        assert usage.last_seen is not None
        assert last <= usage.last_seen <= looked, "late at most, and never early"


@given(
    st.lists(
        st.tuples(
            st.floats(0, 9) | st.sampled_from([5, 10, 60, 300, 599, 600, 601, 5_000]),
            st.integers(0, 3),
            st.sampled_from(["look", "report", "nothing"]),
        ),
        max_size=80,
    )
)
def test_counts_in_time_are_those_of_a_list_of_every_instant(
    steps: list[tuple[float, int, str]],
) -> None:
    usage, naive, now = Usage(leeway=0.0), Naive(), 1_000.0
    counter = usage.counter("k")
    for seconds, tokens, then in steps:
        now += seconds
        for _ in range(tokens):
            counter.clients.counter({}).accepted += 1
            naive.accepted.append(now)
        if then != "nothing":
            naive.looks.append(now)
        if then == "look":
            usage.sample(now)
        elif then == "report":
            naive.check(usage.report(now)["k"], now)
    naive.looks.append(now)
    naive.check(usage.report(now)["k"], now)


@given(st.lists(st.tuples(st.floats(-2_000, 2_000), st.integers(0, 2)), max_size=60))
def test_clock_that_is_set_makes_no_use_look_older_than_it_is(
    steps: list[tuple[float, int]],
) -> None:
    usage, now, last = Usage(leeway=0.0), 10_000.0, None
    counter = usage.counter("k")
    for seconds, tokens in steps:
        now += seconds
        counter.clients.counter({}).accepted += tokens
        if last is not None:
            last = min(last, now)  # by the clock as it is now it can't have been later
        last = now if tokens else last
        report = usage.report(now)["k"]
        assert 0 <= report.recent <= report.accepted
        assert (report.last_seen is None) == (last is None)
        if last is not None and report.last_seen is not None:
            assert report.last_seen >= last


# --- several together ---


def test_totals_add_counts_and_take_the_later_dates() -> None:
    one = {"k": KeyUsage(1, 2, 1, 10.0, None), "a": KeyUsage(1)}
    other = {"k": KeyUsage(3, 4, 2, 5.0, 70.0, 60.0), "b": KeyUsage(rejected=1)}
    assert total([one, other]) == {
        "k": KeyUsage(4, 6, 3, 10.0, 70.0, 60.0),
        "a": KeyUsage(1),
        "b": KeyUsage(rejected=1),
    }
    assert most([one, other, one])["k"] == KeyUsage(3, 4, 2, 10.0, 70.0, 60.0)
    assert total([]) == most([]) == {}


# --- threads ---


@contextmanager
def threads_switch_all_the_time() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def at_once(*jobs: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def work(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - handed on to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    with threads_switch_all_the_time():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


async def test_threads_lose_no_count(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock, token_cache_size=40) as verifier:
        tokens = [tenant.token(sub=f"{n}", lifetime=100 + n).encode() for n in range(80)]
        forged = tenant.forged_token().encode()
        await verifier.verify(tokens[0])
        verification = verifier.verification

        def verify() -> None:
            for token in tokens[:30] * 30 + tokens:  # hits, and what is dropped meanwhile
                found = verification.look_up(token)
                if isinstance(found, tuple):
                    verification.fresh(*found)

        def refuse() -> None:
            for _ in range(100):
                with pytest.raises(InvalidTokenError) as refusal:
                    verification.fresh(forged, None)
                with pytest.raises(InvalidTokenError):
                    verification.refused(refusal.value)

        at_once(*[verify] * 8, *[refuse] * 2)
        (usage,) = verifier.usage().values()
        assert usage.accepted == 1 + 8 * (30 * 30 + 80)
        assert usage.rejected == 2 * 100
        assert verification.usage.refusals == {"invalid_signature": 2 * 100}
        assert usage.latest_expiry == clock.time() + 179


async def test_counts_are_read_while_others_count_look_and_make_verifiers(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async with store_of(tenant, clock) as store:
        counting = store.usage_of(0.0)
        # Of tokens that have expired nobody counts any more: their counter makes place for others.
        counting.counter("k").until = clock.time() + 3600.0
        stop = threading.Event()

        def look() -> None:
            for second in range(0, 30_000, 11):
                counting.counter("k").clients.counter({}).accepted += 1
                counting.sample(float(second))
            stop.set()

        def read() -> None:
            while not stop.is_set():
                store.usage()
                counting.report(40_000.0)

        def make() -> None:
            made: list[TokenVerifier] = []
            while not stop.is_set():
                leeway = float(len(made) % 3)
                made.append(TokenVerifier(tenant.issuer, API, keys=store, leeway=leeway))
                del made[:-100]

        at_once(look, read, make)
        assert store.usage()["k"].accepted == len(range(0, 30_000, 11))
