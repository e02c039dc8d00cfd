"""What one issuer publishes, less what is distrusted, and who is told of a change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import pytest

from jwks_guard import Event, Register, RevocationRefusedError, RevokedKeyError
from jwks_guard.base.clock import EPOCH, Instant
from jwks_guard.base.events import Events
from jwks_guard.distrust import register as registers
from jwks_guard.distrust.state import Decision, Distrust, Distrusted, Flags
from jwks_guard.jose.jwk import VerificationKey, load_jwk
from jwks_guard.keys.trust import Trust
from jwks_guard.keys.view import PublishedSet
from jwks_guard.testing.keys import generate_signing_key
from tests.support import HandClock

ISSUER, OTHER = "https://issuer.test/", "https://other.test/"


def key(kid: str, material: VerificationKey | None = None) -> VerificationKey:
    made = load_jwk(generate_signing_key("ES256", now=0, common_name="issuer.test", kid=kid).jwk)
    return made if material is None else replace(material, kid=kid)


A, B, C = key("a"), key("b"), key("c")


@dataclass(eq=False)
class Following:
    """What a key store is to the register."""

    trust: Trust
    issuer: str = ISSUER
    isolated: bool = False

    @property
    def seen(self) -> Mapping[str, frozenset[str]]:
        return self.trust.published.seen

    def apply(self, *, tell: bool = True) -> None:
        self.trust.apply(tell=tell)

    def after_fork(self) -> None:
        self.trust.after_fork()


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def empty(clock: HandClock, told: list[Event], register: Register) -> Iterator[Trust]:
    trust = Trust(ISSUER, 600.0, clock, Events(ISSUER, clock, told.append), register)
    following = Following(trust)
    register.follow(following)
    yield trust
    assert following in register.followers


@pytest.fixture
def other(clock: HandClock, register: Register) -> Following:
    """Another issuer, which the register does not know yet."""
    return Following(Trust(OTHER, 600.0, clock, Events(OTHER, clock, None), register), OTHER)


@pytest.fixture
def trust(empty: Trust, clock: HandClock, told: list[Event]) -> Trust:
    empty.publish((A, B), (), Instant.now(clock))
    told.clear()
    return empty


def distrust(trust: Trust, kid: str, reason: str = "leaked", *, force: bool = False) -> None:
    check = None if force else trust.require_another
    registers.process_register.distrust(ISSUER, kid, reason=reason, at=1.0, check=check)


def lift(kid: str, issuer: str = ISSUER) -> None:
    registers.process_register.merge(
        registers.process_register.lift(issuer, kid, reason="false alarm", at=2.0)
    )


def hear(kid: str, *thumbprints: str, issuer: str = ISSUER) -> None:
    """Of a decision that another process made."""
    flag = Distrust({"elsewhere": Decision(1, "leaked", 1.0)}, {}, frozenset(thumbprints))
    registers.process_register.merge({(issuer, kid): flag})


def kinds(told: list[Event]) -> list[tuple[str, str | None]]:
    return [(event.kind, event.kid) for event in told]


def live(trust: Trust) -> set[str]:
    return set(trust.view.by_kid)


def test_distrusted_kid_leaves_the_view_at_once_with_the_key_behind_it(
    trust: Trust, told: list[Event]
) -> None:
    distrust(trust, "a")
    by = registers.process_register.by
    key = Distrusted(ISSUER, "a", "leaked", 1.0, by, frozenset({A.thumbprint}))
    assert dict(trust.distrusted) == {"a": key}
    assert live(trust) == {"b"}
    with pytest.raises(RevokedKeyError):
        trust.view.find("a", "ES256")
    assert kinds(told) == [("key_distrusted", "a")]
    assert told[0].detail == "leaked"


def test_key_may_be_distrusted_by_its_thumbprint(trust: Trust, told: list[Event]) -> None:
    distrust(trust, A.thumbprint)
    assert trust.distrusted[A.thumbprint].thumbprints == {A.thumbprint}
    assert live(trust) == {"b"}
    trust.publish((key("alias", A), B), (), Instant.now(HandClock()).shifted(60))
    assert live(trust) == {"b"}
    lift(A.thumbprint)
    assert live(trust) == {"alias", "b"}
    assert kinds(told) == [
        ("key_distrusted", A.thumbprint),
        ("key_added", "alias"),
        ("key_removed", "a"),
        ("key_reinstated", A.thumbprint),
    ]


def test_new_key_under_a_distrusted_kid_is_not_trusted(trust: Trust) -> None:
    distrust(trust, "a")
    trust.publish((key("a"), B), (), EPOCH)
    assert live(trust) == {"b"}


def test_distrusted_key_under_a_new_kid_is_not_trusted(trust: Trust) -> None:
    distrust(trust, "a")
    trust.publish((key("alias", A), B), (), EPOCH)
    assert live(trust) == {"b"}
    assert trust.view.distrusted == {"a", "alias"}


def test_key_that_shares_a_kid_with_a_distrusted_key_is_told_apart(trust: Trust) -> None:
    distrust(trust, "a")
    trust.publish((key("b", A), B), (), EPOCH)
    assert trust.view.find("b", "ES256") is not None
    assert {key.thumbprint for key in trust.view.live} == {B.thumbprint}


def test_kid_never_seen_is_distrusted_with_its_first_key(trust: Trust) -> None:
    distrust(trust, "c")
    assert trust.distrusted["c"].thumbprints == frozenset()
    trust.publish((A, B, C), (), EPOCH)
    assert trust.distrusted["c"].thumbprints == {C.thumbprint}
    trust.publish((A, B, key("alias", C)), (), EPOCH)
    assert live(trust) == {"a", "b"}


def test_decision_about_another_configured_issuer_covers_the_key_and_not_the_kid(
    trust: Trust, register: Register, other: Following
) -> None:
    hear("a", B.thumbprint, issuer=OTHER)
    assert live(trust) == {"a", "b"}, "it may be anybody's"
    register.follow(other)
    assert live(trust) == {"a"}


def test_distrusting_again_tells_nothing_and_keeps_the_view(
    trust: Trust, told: list[Event], clock: HandClock
) -> None:
    distrust(trust, "a")
    view, since = trust.view, dict(trust.refused_since)
    clock.advance(60)
    distrust(trust, "a", "leaked again")
    assert trust.distrusted["a"].reason == "leaked"
    assert trust.view.by_kid.keys() == view.by_kid.keys()
    assert trust.refused_since == since
    assert kinds(told) == [("key_distrusted", "a")]


def test_refusal_dates_from_the_decision_until_it_is_lifted(trust: Trust, clock: HandClock) -> None:
    began = clock.time()
    distrust(trust, "a")
    clock.advance(60)
    hear("z")
    trust.publish((B,), (), Instant.now(clock))
    assert trust.refused_since == {"a": began, "z": began + 60}
    lift("a")
    assert trust.refused_since == {"z": began + 60}
    distrust(trust, "a")
    assert trust.refused_since == {"a": began + 60, "z": began + 60}


def test_only_trusted_key_is_given_up_only_by_force(trust: Trust, told: list[Event]) -> None:
    distrust(trust, "a")
    view = trust.view
    with pytest.raises(RevocationRefusedError, match=r"only trusted key.*force=True"):
        distrust(trust, "b")
    assert trust.view is view
    assert "b" not in trust.distrusted
    distrust(trust, "b", force=True)
    assert live(trust) == set()
    assert kinds(told) == [("key_distrusted", "a"), ("key_distrusted", "b")]


def test_kid_that_covers_all_keys_by_their_material_is_the_only_key_too(trust: Trust) -> None:
    trust.publish((A, key("alias", A)), (), EPOCH)
    with pytest.raises(RevocationRefusedError):
        distrust(trust, "a")


def test_without_any_trusted_key_nothing_needs_force(empty: Trust) -> None:
    distrust(empty, "a")
    assert empty.view.distrusted == {"a"}


def test_reinstated_key_is_trusted_again_at_once_as_the_same_object(
    trust: Trust, told: list[Event]
) -> None:
    distrust(trust, "a")
    lift("a")
    assert A in trust.view.live
    assert kinds(told) == [("key_distrusted", "a"), ("key_reinstated", "a")]
    assert told[1].detail == "false alarm"


def test_lifting_what_is_not_distrusted_changes_and_tells_nothing(
    trust: Trust, told: list[Event]
) -> None:
    view = trust.view
    for issuer in (ISSUER, OTHER):
        registers.process_register.merge(
            {(issuer, "a"): Distrust(lifted={"elsewhere": Decision(2)})}
        )
    assert trust.view is view
    assert told == []
    hear("a")
    assert "a" in trust.view.by_kid, "that was lifted before"


def test_lifting_another_issuers_decision_is_not_told_as_ours(
    trust: Trust, told: list[Event]
) -> None:
    hear("x", A.thumbprint, issuer=OTHER)
    lift("x", OTHER)
    assert live(trust) == {"a", "b"}
    assert told == []


def test_what_appears_and_goes_is_told_by_kid(trust: Trust, told: list[Event]) -> None:
    later = Instant.now(HandClock()).shifted(60)
    trust.publish((B, C), (), later)
    trust.publish((B, C), (), later)
    assert kinds(told) == [("key_added", "c"), ("key_removed", "a")]


def test_listener_hears_of_every_change_until_it_is_told_not_to(trust: Trust) -> None:
    views: list[object] = []
    stop = trust.subscribe(lambda: views.append(trust.view))
    distrust(trust, "a")
    lift("a")
    hear("z")
    trust.publish((A,), (), EPOCH)
    trust.close()
    assert len({id(view) for view in views}) == 5
    assert views[-1] is trust.view
    stop()
    stop()
    hear("y")
    assert len(views) == 5


def test_one_listener_may_be_subscribed_twice(trust: Trust) -> None:
    calls: list[None] = []

    def listener() -> None:
        calls.append(None)

    stop = trust.subscribe(listener)
    trust.subscribe(listener)
    trust.notify()
    stop()
    trust.notify()
    assert len(calls) == 3


def test_listener_that_raises_keeps_nobody_from_hearing(
    trust: Trust, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def broken() -> None:
        raise RuntimeError("a defect of the caller's")

    trust.subscribe(broken)
    trust.subscribe(lambda: heard.append("all"))
    distrust(trust, "a")
    assert heard == ["all"]
    assert live(trust) == {"b"}
    assert "a listener for changes of trust raised" in caplog.text


def test_listener_may_decide_itself(trust: Trust) -> None:
    """It is called outside the lock: a callback that distrusts does not deadlock."""
    stops: list[Callable[[], None]] = []

    def listener() -> None:
        stops.pop()()
        distrust(trust, "a")

    stops.append(trust.subscribe(listener))
    hear("z")
    assert live(trust) == {"b"}


def test_end_of_trust_is_told_once_and_again_after_the_next_one(
    trust: Trust, told: list[Event], clock: HandClock
) -> None:
    woken: list[None] = []
    trust.subscribe(lambda: woken.append(None))
    clock.advance(599)
    trust.tell_expiry(Instant.now(clock))
    assert told == []
    clock.advance(1)
    trust.tell_expiry(Instant.now(clock))
    trust.tell_expiry(Instant.now(clock))
    assert kinds(told) == [("trust_expired", None)]
    assert len(woken) == 1
    trust.publish((A, B), (), Instant.now(clock))
    clock.advance(600)
    trust.tell_expiry(Instant.now(clock))
    assert kinds(told) == [("trust_expired", None)] * 2


def test_closing_trusts_nothing_and_keeps_what_is_distrusted(
    trust: Trust, told: list[Event], clock: HandClock
) -> None:
    distrust(trust, "a")
    told.clear()
    trust.close()
    clock.advance(600)
    trust.tell_expiry(Instant.now(clock))
    assert live(trust) == set()
    assert trust.view.distrusted == {"a"}
    assert told == [], "who closed it knows"


def test_set_that_comes_after_the_end_is_not_taken(trust: Trust, told: list[Event]) -> None:
    distrust(trust, "c")
    told.clear()
    trust.close()
    trust.publish((A, B, C), (), EPOCH)
    assert live(trust) == set()
    assert told == []
    assert trust.distrusted["c"].thumbprints == frozenset()
    trust.reopen()
    trust.publish((A, B, C), (), EPOCH)
    assert live(trust) == {"a", "b"}
    assert trust.distrusted["c"].thumbprints == {C.thumbprint}


def test_no_view_shows_a_key_of_the_first_set_that_lists_it_under_another_kid(
    clock: HandClock,
) -> None:
    """Another thread may look at the moment when the set is there and the coverage is not."""
    views: list[set[str]] = []

    class Watched(Register):
        def merge(self, flags: Flags, *, tell: bool = True) -> None:
            views.append(live(follower.trust))
            super().merge(flags, tell=tell)

    register = Watched()
    follower = Following(Trust(ISSUER, 600.0, clock, Events(ISSUER, clock, None), register))
    register.follow(follower)
    register.distrust(ISSUER, "c", reason="leaked", at=1.0)
    follower.trust.publish((A, C, key("d", C)), (), Instant.now(clock))
    assert views == [{"a"}]


def test_clock_that_raises_keeps_no_key_trusted(clock: HandClock) -> None:
    class Failing(HandClock):
        failing = False

        def time(self) -> float:
            if self.failing:
                raise OSError("no clock")
            return super().time()

    register, failing = Register(), Failing()
    trusts = [
        Trust(ISSUER, 600.0, each, Events(ISSUER, each, None), register)
        for each in (clock, failing, clock, failing)
    ]
    followers = [Following(each) for each in trusts]
    for follower in followers:
        register.follow(follower)
        follower.trust.publish((A, B), (), Instant.now(clock))
    failing.failing = True
    with pytest.raises(OSError, match="no clock"):
        register.distrust(ISSUER, "a", reason="leaked", at=1.0)
    assert [live(each) for each in trusts] == [{"b"}] * 4


def test_set_from_a_file_is_taken_only_while_there_is_no_other(
    empty: Trust, clock: HandClock
) -> None:
    """A slow disk must not bring back a key that the issuer has withdrawn meanwhile."""
    stored = PublishedSet().succeeded_by((A, B), (), Instant.now(clock).shifted(-60))
    empty.restore(stored)
    assert live(empty) == {"a", "b"}
    empty.publish((B,), (), Instant.now(clock))
    empty.restore(stored)
    assert live(empty) == {"b"}


def test_forked_child_keeps_the_view_and_none_of_the_parents_listeners(trust: Trust) -> None:
    heard: list[None] = []
    trust.subscribe(lambda: heard.append(None))
    distrust(trust, "a")
    heard.clear()
    with trust._lock:  # another thread of the parent held it
        trust.after_fork()
    distrust(trust, "c")
    assert heard == []
    assert live(trust) == {"b"}


# --- under concurrent threads ---


def run_at_once(*jobs: Callable[[], None]) -> None:
    barrier = threading.Barrier(len(jobs))
    failures: list[BaseException] = []

    def work(job: Callable[[], None]) -> None:
        barrier.wait()
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - handed on to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_decisions_of_many_threads_are_all_kept_while_refreshes_go_on(trust: Trust) -> None:
    seen: list[bool] = []

    def decide(name: int) -> Callable[[], None]:
        def job() -> None:
            for number in range(50):
                kid = f"{name}-{number}"
                distrust(trust, kid)
                seen.append(kid in trust.view.distrusted)

        return job

    def refresh() -> None:
        for number in range(200):
            trust.publish((A, B) if number % 2 else (A, B, C), (), EPOCH)

    run_at_once(*(decide(name) for name in range(6)), refresh)
    assert len(trust.distrusted) == 300
    assert len(seen) == 300
    assert all(seen)


def test_no_reader_ever_sees_a_distrusted_key_again(trust: Trust) -> None:
    distrust(trust, "a")
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            assert A not in trust.view.live

    def change() -> None:
        try:
            for number in range(300):
                trust.publish((A, B) if number % 2 else (A,), (), EPOCH)
                hear(f"x-{number}")
                lift(f"x-{number}")
        finally:
            done.set()

    run_at_once(read, read, change)
    assert live(trust) == {"b"}
