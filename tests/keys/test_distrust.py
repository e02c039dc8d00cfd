"""Tombstones, the one place where they are subtracted, and the stores that share them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jwks_guard import (
    ConfigurationError,
    Event,
    KeyStore,
    RevocationRefusedError,
    RevokedKeyError,
)
from jwks_guard.base.clock import EPOCH, Instant
from jwks_guard.base.events import Events
from jwks_guard.jose.jwk import VerificationKey, load_jwk
from jwks_guard.keys.distrust import Tombstone, Tombstones
from jwks_guard.keys.peers import OpenStores
from jwks_guard.keys.trust import Trust
from jwks_guard.testing.keys import generate_signing_key
from tests.support import HandClock

ISSUER, OTHER = "https://issuer.test/", "https://other.test/"


def key(kid: str, material: VerificationKey | None = None) -> VerificationKey:
    made = load_jwk(generate_signing_key("ES256", now=0, common_name="issuer.test", kid=kid).jwk)
    return made if material is None else replace(material, kid=kid)


A, B, C = key("a"), key("b"), key("c")


def stone(kid: str, *prints: str, **changes: Any) -> Tombstone:
    given = {"issuer": ISSUER, "kid": kid, "reason": "leaked", "at": 1.0, **changes}
    return Tombstone(thumbprints=frozenset(prints), **given)


def tombstones(*stones: Tombstone) -> Tombstones:
    return Tombstones().merged(stones)


# --- collections of tombstones ---


def test_tombstones_of_an_issuer_are_its_own_and_read_only() -> None:
    stones = tombstones(stone("a"), stone("b"), stone("a", issuer=OTHER))
    assert dict(stones.of(ISSUER)) == {"a": stone("a"), "b": stone("b")}
    assert dict(stones.of("https://third.test/")) == {}
    with pytest.raises(TypeError):
        stones.of(ISSUER)["c"] = stone("c")  # type: ignore[index]  # it is read-only


def test_merging_keeps_the_first_decision_and_every_thumbprint() -> None:
    first = stone("a", "p1")
    merged = tombstones(first).merged([stone("a", "p2", reason="again", at=9.0), stone("b", "p3")])
    assert merged.of(ISSUER)["a"] == stone("a", "p1", "p2")
    assert merged.thumbprints == {"p1", "p2", "p3"}


def test_merging_changes_no_collection_that_somebody_holds() -> None:
    held = tombstones(stone("a", "p1"))
    held.merged([stone("b", "p2")])
    held.without({(ISSUER, "a"): 2})
    assert dict(held.of(ISSUER)) == {"a": stone("a", "p1")}
    assert held.thumbprints == {"p1"}


def test_key_that_another_tombstone_covers_stays_covered() -> None:
    stones = tombstones(stone("a", "p1"), stone("b", "p1", "p2"))
    assert stones.without({(ISSUER, "b"): 2}).thumbprints == {"p1"}
    assert stones.without({(ISSUER, "a"): 2}).thumbprints == {"p1", "p2"}
    assert stones.without({(OTHER, "a"): 2}).entries == stones.entries


def test_kid_never_seen_learns_the_first_key_shown_under_it_and_no_later_one() -> None:
    stones = tombstones(stone("a"), stone("b", "known"), stone("c", issuer=OTHER))
    seen = {kid: frozenset({f"print of {kid}"}) for kid in ("a", "b", "c")}
    assert stones.learned(ISSUER, seen) == [stone("a", "print of a")]
    taught = stones.completed(stones.learned(ISSUER, seen))
    assert taught.learned(ISSUER, {"a": frozenset({"a later one"})}) == []


def test_two_keys_shown_at_once_under_the_kid_are_both_learned() -> None:
    stones = tombstones(stone("a"))
    assert stones.learned(ISSUER, {"a": frozenset({"p", "q"})}) == [stone("a", "p", "q")]


def test_what_is_learned_of_a_lifted_decision_does_not_make_it_again() -> None:
    learned = tombstones(stone("a")).learned(ISSUER, {"a": frozenset({"p"})})
    assert tombstones().completed(learned) == tombstones()


# --- trust ---


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def trust(clock: HandClock, told: list[Event]) -> Trust:
    made = Trust(ISSUER, 600.0, clock, Events(ISSUER, clock, told.append))
    made.publish((A, B), (), Instant.now(clock))
    told.clear()
    return made


def kinds(told: list[Event]) -> list[tuple[str, str | None]]:
    return [(event.kind, event.kid) for event in told]


def live(trust: Trust) -> set[str]:
    return set(trust.view.by_kid)


def test_distrusted_kid_leaves_the_view_at_once_with_the_key_behind_it(
    trust: Trust, told: list[Event]
) -> None:
    stone = trust.distrust("a", "leaked", force=False)
    version = int(stone.at * 1000)
    assert stone == Tombstone(ISSUER, "a", "leaked", stone.at, frozenset({A.thumbprint}), version)
    assert live(trust) == {"b"}
    with pytest.raises(RevokedKeyError):
        trust.view.find("a", "ES256")
    assert kinds(told) == [("key_distrusted", "a")]
    assert told[0].detail == "leaked"


def test_new_key_under_a_distrusted_kid_is_not_trusted(trust: Trust) -> None:
    trust.distrust("a", "leaked", force=False)
    trust.publish((key("a"), B), (), EPOCH)
    assert live(trust) == {"b"}


def test_distrusted_key_under_a_new_kid_is_not_trusted(trust: Trust) -> None:
    trust.distrust("a", "leaked", force=False)
    trust.publish((key("alias", A), B), (), EPOCH)
    assert live(trust) == {"b"}
    assert trust.view.distrusted == {"a", "alias"}


def test_key_that_shares_a_kid_with_a_distrusted_key_is_told_apart(trust: Trust) -> None:
    trust.distrust("a", "leaked", force=False)
    trust.publish((key("b", A), B), (), EPOCH)
    assert trust.view.find("b", "ES256") is not None
    assert {key.thumbprint for key in trust.view.live} == {B.thumbprint}


def test_kid_never_seen_is_distrusted_with_its_first_key(trust: Trust) -> None:
    trust.distrust("c", "leaked", force=False)
    assert trust.publish((A, B, C), (), EPOCH) == [
        replace(trust.tombstones.of(ISSUER)["c"], thumbprints=frozenset({C.thumbprint}))
    ]
    trust.publish((A, B, key("alias", C)), (), EPOCH)
    assert live(trust) == {"a", "b"}


def test_tombstone_of_another_issuer_covers_the_key_and_not_the_kid(trust: Trust) -> None:
    trust.absorb([stone("a", B.thumbprint, issuer=OTHER)])
    assert live(trust) == {"a"}


def test_distrusting_again_keeps_the_first_decision(trust: Trust, clock: HandClock) -> None:
    first = trust.distrust("a", "leaked", force=False)
    clock.advance(60)
    assert trust.distrust("a", "leaked again", force=False) == first


def test_only_trusted_key_is_given_up_only_by_force(trust: Trust, told: list[Event]) -> None:
    trust.distrust("a", "leaked", force=False)
    view = trust.view
    with pytest.raises(RevocationRefusedError, match=r"only trusted key.*force=True"):
        trust.distrust("b", "leaked", force=False)
    assert trust.view is view
    assert "b" not in trust.tombstones.of(ISSUER)
    trust.distrust("b", "leaked", force=True)
    assert live(trust) == set()
    assert kinds(told) == [("key_distrusted", "a"), ("key_distrusted", "b")]


def test_kid_that_covers_all_keys_by_their_material_is_the_only_key_too(trust: Trust) -> None:
    trust.publish((A, key("alias", A)), (), EPOCH)
    with pytest.raises(RevocationRefusedError):
        trust.distrust("a", "leaked", force=False)


def test_without_any_trusted_key_nothing_needs_force(clock: HandClock) -> None:
    trust = Trust(ISSUER, 600.0, clock, Events(ISSUER, clock, None))
    trust.distrust("a", "leaked", force=False)
    assert trust.view.distrusted == {"a"}


@pytest.mark.parametrize("kid", ["", None, 5, b"a", "\ud800"])
def test_kid_must_be_text(trust: Trust, kid: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^kid must be a non-empty string\.$"):
        trust.distrust(kid, "leaked", force=True)


@pytest.mark.parametrize("reason", ["", None, 5])
def test_decision_needs_a_reason(trust: Trust, reason: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^reason must be a non-empty string\.$"):
        trust.distrust("a", reason, force=True)
    assert live(trust) == {"a", "b"}


def test_reinstated_key_is_trusted_again_at_once_as_the_same_object(
    trust: Trust, told: list[Event]
) -> None:
    stone = trust.distrust("a", "leaked", force=False)
    trust.reinstate({(ISSUER, "a"): stone.version + 1})
    assert A in trust.view.live
    assert kinds(told) == [("key_distrusted", "a"), ("key_reinstated", "a")]


def test_reinstating_what_is_not_distrusted_changes_and_tells_nothing(
    trust: Trust, told: list[Event]
) -> None:
    view = trust.view
    trust.reinstate({(ISSUER, "a"): 2})
    trust.reinstate({(OTHER, "a"): 2})
    assert trust.view is view
    assert told == []


def test_lifting_another_issuers_tombstone_is_not_told_as_ours(
    trust: Trust, told: list[Event]
) -> None:
    trust.absorb([stone("x", A.thumbprint, issuer=OTHER)])
    trust.reinstate({(OTHER, "x"): 2})
    assert live(trust) == {"a", "b"}
    assert told == []


def test_what_appears_and_goes_is_told_by_kid(trust: Trust, told: list[Event]) -> None:
    trust.publish((B, C), (), EPOCH)
    trust.publish((B, C), (), EPOCH)
    assert kinds(told) == [("key_added", "c"), ("key_removed", "a")]


def test_listener_hears_of_every_change_until_it_is_told_not_to(trust: Trust) -> None:
    views: list[object] = []
    stop = trust.subscribe(lambda: views.append(trust.view))
    made = trust.distrust("a", "leaked", force=False)
    trust.reinstate({(ISSUER, "a"): made.version + 1})
    trust.absorb([stone("z")])
    trust.publish((A,), (), EPOCH)
    trust.close()
    assert len({id(view) for view in views}) == 5
    assert views[-1] is trust.view
    stop()
    stop()
    trust.absorb([stone("y")])
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
    trust.distrust("a", "leaked", force=False)
    assert heard == ["all"]
    assert live(trust) == {"b"}
    assert "a listener for changes of trust raised" in caplog.text


def test_listener_may_decide_itself(trust: Trust) -> None:
    """It is called outside the lock: a callback that distrusts does not deadlock."""
    stops: list[Callable[[], None]] = []

    def listener() -> None:
        stops.pop()()
        trust.distrust("a", "leaked", force=False)

    stops.append(trust.subscribe(listener))
    trust.absorb([stone("z")])
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
    trust.distrust("a", "leaked", force=False)
    told.clear()
    trust.close()
    clock.advance(600)
    trust.tell_expiry(Instant.now(clock))
    assert live(trust) == set()
    assert trust.view.distrusted == {"a"}
    assert told == [], "whoever closed it knows"


def test_set_that_comes_after_the_end_is_not_taken(trust: Trust, told: list[Event]) -> None:
    trust.distrust("c", "leaked", force=False)
    told.clear()
    trust.close()
    assert trust.publish((A, B, C), (), EPOCH) == []
    assert live(trust) == set()
    assert told == []
    trust.reopen()
    assert len(trust.publish((A, B, C), (), EPOCH)) == 1
    assert live(trust) == {"a", "b"}


def test_forked_child_keeps_the_view_and_none_of_the_parents_listeners(trust: Trust) -> None:
    heard: list[None] = []
    trust.subscribe(lambda: heard.append(None))
    trust.distrust("a", "leaked", force=False)
    heard.clear()
    with trust._lock:  # another thread of the parent held it
        trust.after_fork()
    trust.distrust("c", "leaked", force=False)
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
                trust.distrust(kid, "leaked", force=False)
                seen.append(kid in trust.view.distrusted)

        return job

    def refresh() -> None:
        for number in range(200):
            trust.publish((A, B) if number % 2 else (A, B, C), (), EPOCH)

    run_at_once(*(decide(name) for name in range(6)), refresh)
    assert len(trust.tombstones.of(ISSUER)) == 300
    assert len(seen) == 300
    assert all(seen)


def test_no_reader_ever_sees_a_distrusted_key_again(trust: Trust) -> None:
    trust.distrust("a", "leaked", force=False)
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            assert A not in trust.view.live

    def change() -> None:
        try:
            for number in range(300):
                trust.publish((A, B) if number % 2 else (A,), (), EPOCH)
                trust.absorb([stone(f"x-{number}")])
                trust.reinstate({(ISSUER, f"x-{number}"): 2})
        finally:
            done.set()

    run_at_once(read, read, change)
    assert live(trust) == {"b"}


# --- the stores of one process ---


@pytest.fixture
def stores() -> Callable[..., KeyStore]:
    made: list[KeyStore] = []

    def make(issuer: str = ISSUER) -> KeyStore:
        made.append(KeyStore(issuer))  # the registry keeps none alive
        return made[-1]

    return make


def test_what_one_store_distrusts_all_refuse_by_issuer_and_by_key(
    stores: Callable[..., KeyStore],
) -> None:
    ours, twin, other = stores(), stores(), stores(OTHER)
    other.trust.publish((A, B, C), (), Instant.now(other.clock))
    ours.trust.publish((A, B), (), Instant.now(ours.clock))
    ours.distrust_blocking("a", reason="leaked")
    assert set(twin.distrusted) == {"a"}
    assert set(other.distrusted) == set()
    assert set(other.kids) == {"b", "c"}, "the kid means nothing there, the key does"
    later = stores(OTHER)
    later.trust.publish((A, B), (), Instant.now(later.clock))
    assert set(later.kids) == {"b"}


def test_reinstatement_reaches_them_all(stores: Callable[..., KeyStore]) -> None:
    ours, twin, other = stores(), stores(), stores(OTHER)
    other.trust.publish((key("alias", A),), (), Instant.now(other.clock))
    ours.trust.publish((A, B), (), Instant.now(ours.clock))
    ours.distrust_blocking("a", reason="leaked")
    assert not other.kids
    ours.reinstate_blocking("a", reason="false alarm")
    assert not twin.distrusted
    assert set(other.kids) == {"alias"}


def test_thumbprint_learned_by_one_store_is_learned_by_all(
    stores: Callable[..., KeyStore],
) -> None:
    ours, other = stores(), stores(OTHER)
    ours.distrust_blocking("a", reason="leaked")
    other.trust.publish((A,), (), Instant.now(other.clock))
    assert set(other.kids) == {"a"}
    ours._confirmed(ours.trust.publish((A,), (), EPOCH), "https://issuer.test/jwks")
    assert not other.kids


def test_store_that_holds_the_key_completes_the_decision_of_one_that_never_saw_it(
    stores: Callable[..., KeyStore],
) -> None:
    cold, twin, other = stores(), stores(), stores(OTHER)
    twin.trust.publish((A, B), (), Instant.now(twin.clock))
    other.trust.publish((key("alias", A),), (), Instant.now(other.clock))
    cold.distrust_blocking("a", reason="leaked")
    assert cold.distrusted["a"].thumbprints == {A.thumbprint}
    assert not other.kids


async def test_closed_store_hears_of_nothing_and_catches_up_when_it_starts(
    stores: Callable[..., KeyStore],
) -> None:
    ours, twin = stores(), stores()
    await twin.aclose()
    ours.distrust_blocking("a", reason="leaked")
    assert not twin.distrusted
    async with twin:
        assert set(twin.distrusted) == {"a"}


def test_registry_keeps_no_store_alive(stores: Callable[..., KeyStore]) -> None:
    registry, ours = OpenStores(), stores()
    registry.add(ours)
    gone = KeyStore(ISSUER)
    registry.add(gone)
    assert registry.besides(ours) == [gone]
    del gone
    gc.collect()
    assert registry.besides(ours) == []


def test_registry_in_a_forked_child_has_locks_of_its_own_and_no_store_that_is_bound(
    stores: Callable[..., KeyStore],
) -> None:
    registry, store = OpenStores(), stores()
    registry.add(store)
    with registry._lock, store.trust._lock:  # other threads of the parent held them
        registry._after_fork()
        store.distrust_blocking("a", reason="leaked")
        assert store.loop is None
        assert registry.besides(stores()) == [store]
