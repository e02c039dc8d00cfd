"""What one process distrusts, and who refuses it there."""

from __future__ import annotations

import gc
import json
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jwks_guard import ConfigurationError, KeyStore, Register, RevocationRefusedError
from jwks_guard.base.clock import Instant
from jwks_guard.distrust.state import MAX_NUMBER, Decision, Distrust, State
from jwks_guard.jose.jwk import VerificationKey, load_jwk
from jwks_guard.testing.keys import generate_signing_key
from tests.distrust.support import ISSUER, OTHER, PATIENCE, Follower, K
from tests.process.programs import program


def key(kid: str, material: VerificationKey | None = None) -> VerificationKey:
    made = load_jwk(generate_signing_key("ES256", now=0, common_name="issuer.test", kid=kid).jwk)
    return made if material is None else replace(material, kid=kid)


A, B, C = key("a"), key("b"), key("c")


def distrust(register: Register, kid: str = "k", **options: Any) -> None:
    register.distrust(
        options.pop("issuer", ISSUER), kid, **{"reason": "leaked", "at": 1.0, **options}
    )


def lift(register: Register, kid: str = "k") -> None:
    register.merge(register.lift(ISSUER, kid, reason="false alarm", at=2.0))


# --- followers ---


def test_decision_is_in_effect_at_every_follower_when_the_call_returns(register: Register) -> None:
    ours, twin, other = Follower(register), Follower(register), Follower(register, OTHER)
    distrust(register)
    assert ours.refused == twin.refused == {"k"}
    assert other.refused == frozenset()
    key = register.state.of(ISSUER)["k"]
    assert (key.reason, key.at, key.by) == ("leaked", 1.0, register.by)


def test_person_who_decides_or_lifts_is_named_instead_of_the_process(register: Register) -> None:
    Follower(register)
    distrust(register, actor="ada@ops-1")
    assert register.state.of(ISSUER)["k"].by == "ada@ops-1"
    lifting = register.lift(ISSUER, "k", reason="false alarm", at=2.0, actor="bob@ops-2")
    assert {each.by for each in lifting[K].lifted.values()} == {"bob@ops-2"}


def test_name_that_no_copy_can_store_keeps_no_key_trusted(register: Register) -> None:
    distrust(register, actor="ad\udce9")
    assert register.state.of(ISSUER)["k"].by == "ad?"


def test_follower_that_comes_later_refuses_what_was_decided_before(register: Register) -> None:
    distrust(register)
    later = Follower(register)
    assert later.refused == {"k"}


def test_change_is_told_as_news_unless_it_was_read_at_the_start(register: Register) -> None:
    ours = Follower(register)
    register.merge({K: Distrust({"r": Decision(1)})}, tell=False)
    register.merge({K: Distrust({"r": Decision(1)})})
    register.merge({(ISSUER, "later"): Distrust({"r": Decision(1)})})
    assert ours.changes == [(frozenset({"k"}), False), (frozenset({"k", "later"}), True)]


def test_followers_are_not_kept_and_their_issuers_are(register: Register) -> None:
    ours = Follower(register)
    assert register.followers == [ours]
    del ours
    gc.collect()
    assert register.followers == []
    assert register.issuers == {ISSUER}


def test_lift_changes_nothing_until_it_is_merged(register: Register) -> None:
    ours = Follower(register)
    distrust(register)
    lifting = register.lift(ISSUER, "k", reason="false alarm", at=2.0)
    assert ours.refused == {"k"}
    register.merge(lifting)
    assert ours.refused == frozenset()
    assert register.lift(ISSUER, "k", reason="again", at=3.0) == {}
    with pytest.raises(KeyError):
        register.lift(ISSUER, "never decided about", reason="?", at=3.0)


def test_decision_made_while_the_last_one_is_being_lifted_stands(register: Register) -> None:
    distrust(register)
    lifting = register.lift(ISSUER, "k", reason="false alarm", at=2.0)
    distrust(register, reason="leaked after all")
    register.merge(lifting)
    assert set(register.state.of(ISSUER)) == {"k"}


def test_check_sees_the_state_that_the_decision_leads_to_and_may_refuse_it(
    register: Register,
) -> None:
    ours = Follower(register)
    before = register.state
    seen: list[State] = []

    def check(state: State) -> None:
        seen.append(state)
        raise RevocationRefusedError("not this one")

    with pytest.raises(RevocationRefusedError):
        distrust(register, check=check)
    assert set(seen[0].of(ISSUER)) == {"k"}
    assert register.state is before
    assert ours.changes == []
    distrust(register, check=seen.append)
    assert register.state is seen[1]


# --- who decides ---


def test_two_registers_are_two_instances(register: Register) -> None:
    other = Register()
    assert register.instance != other.instance
    distrust(register)
    assert not other.state.flags
    other.merge(register.state.flags)
    distrust(other, reason="here too")
    assert len(other.state.flags[K].made) == 2
    lift(register)
    other.merge(register.state.flags)
    assert set(other.state.of(ISSUER)) == {"k"}, "that lift did not know the other decision"


def test_decision_names_the_process_or_who_is_given() -> None:
    assert Register().by == f"{socket.gethostname()}:{os.getpid()}"
    named = Register("ops@example.com")
    distrust(named)
    assert named.state.of(ISSUER)["k"].by == "ops@example.com"


def test_name_that_no_journal_can_hold_is_refused() -> None:
    """A variable of the environment that is no UTF-8 is such a string."""
    with pytest.raises(ConfigurationError, match="by must be"):
        Register("caf\udce9")


@pytest.mark.parametrize("number", [1, 7, MAX_NUMBER - 1, MAX_NUMBER])
def test_forged_lift_with_a_huge_number_lifts_no_later_decision(
    register: Register, number: int
) -> None:
    ours = Follower(register)
    distrust(register)
    (replica,) = register.state.flags[K].made
    register.merge({K: Distrust(lifted={replica: Decision(number)})})
    assert ours.refused == frozenset()
    for _ in range(3):
        distrust(register)
        assert ours.refused == {"k"}
        assert all(each.number <= MAX_NUMBER for each in register.state.flags[K].made.values())
    lift(register)
    assert ours.refused == frozenset()


def test_repeated_decisions_keep_one_entry(register: Register) -> None:
    for number in range(1000):
        distrust(register, reason=f"{number}")
    (decision,) = register.state.flags[K].made.values()
    assert (decision.number, decision.reason) == (1000, "0")


# --- threads ---


def run_at_once(*jobs: Callable[[], None]) -> None:
    barrier = threading.Barrier(len(jobs))
    failures: list[BaseException] = []

    def work(job: Callable[[], None]) -> None:
        barrier.wait(PATIENCE)
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


def test_decisions_of_many_threads_are_all_kept_and_in_effect_at_once(register: Register) -> None:
    followers = [Follower(register), Follower(register)]
    store = KeyStore(ISSUER, background=False, register=register)
    late: list[Follower] = []
    missing: list[str] = []

    def decide(name: int) -> Callable[[], None]:
        def job() -> None:
            for number in range(50):
                kid = f"{name}-{number}"
                distrust(register, kid)
                missing.extend(kid for each in followers if kid not in each.refused)
                missing.extend({kid} - store.trust.view.distrusted)

        return job

    def follow() -> None:
        late.extend(Follower(register) for _ in range(100))

    def repeat() -> None:
        for _ in range(100):
            distrust(register)

    run_at_once(*(decide(name) for name in range(5)), follow, repeat, repeat)
    assert missing == []
    assert len(register.state.of(ISSUER)) == 251
    assert all(len(each.refused) == 251 for each in late)
    assert [each.number for each in register.state.flags[K].made.values()] == [200]


def test_lifts_of_one_thread_undo_no_decision_of_another(register: Register) -> None:
    """A decision stands when it returns after the lift was taken, and until the next one is."""
    lifts: list[int] = []

    def lift_again_and_again() -> None:
        for _ in range(300):
            taken = register.lift(ISSUER, "k", reason="false alarm", at=2.0)
            register.merge(taken)
            lifts.extend(each.number for flag in taken.values() for each in flag.lifted.values())

    def decide() -> None:
        for _ in range(300):
            distrust(register)

    distrust(register)
    run_at_once(lift_again_and_again, decide, decide)
    flag = register.state.flags[K]
    assert [each.number for each in flag.made.values()] == [601]
    assert [each.number for each in flag.lifted.values()] == [max(lifts)]
    assert flag.stands is (max(lifts) < 601)


# --- forks ---


def test_forked_child_is_another_instance_and_keeps_what_is_distrusted(tmp_path: Path) -> None:
    with program("-m", "tests.distrust.forking", str(tmp_path / "journal")) as process:
        printed, _ = process.communicate(timeout=PATIENCE)
    report = json.loads(printed)
    child, parent = report["child"], report["parent"]
    assert child["instance"] != parent["instance"]
    assert child["by"] != parent["by"]
    assert child["refused at once"] == ["again", "before", "unwritten"]
    assert child["forked"] == 1
    assert child["refused"] == child["distrusted"] == ["again", "before", "by child", "unwritten"]
    assert child["file"] == ["again", "before", "by child", "unwritten"]
    assert len(child["replicas"]) == 2, "a decision of the child is not one of the parent's"
    assert parent == parent | {name: child[name] for name in ("distrusted", "refused", "replicas")}
    assert report["file"] == child["file"]


# --- which keys a decision covers ---


@pytest.fixture
def stores(register: Register) -> Callable[..., KeyStore]:
    def make(issuer: str = ISSUER, **options: Any) -> KeyStore:
        made.append(KeyStore(issuer, background=False, **{"register": register, **options}))
        return made[-1]

    made: list[KeyStore] = []  # the register keeps none alive
    return make


def publish(store: KeyStore, *keys: VerificationKey) -> None:
    store.trust.publish(keys, (), Instant.now(store.clock))


def covered(register: Register, kid: str = "a") -> frozenset[str]:
    return register.state.of(ISSUER)[kid].thumbprints


def test_decision_covers_the_keys_seen_under_the_kid_until_then_and_no_later_one(
    register: Register, stores: Callable[..., KeyStore]
) -> None:
    store, swapped, later = stores(), key("a"), key("a")
    publish(store, A, B)
    publish(store, swapped, B)
    store.decisions.decide("a", reason="leaked")
    publish(store, later, B)
    assert covered(register) == {A.thumbprint, swapped.thumbprint}


def test_decision_about_a_kid_never_seen_covers_the_keys_of_the_first_set_that_lists_it(
    register: Register, stores: Callable[..., KeyStore]
) -> None:
    store, rsa = stores(), key("a")
    store.decisions.decide("a", reason="leaked")
    publish(store, B)
    assert covered(register) == frozenset()
    publish(store, A, rsa, B)
    assert covered(register) == {A.thumbprint, rsa.thumbprint}
    publish(store, key("a"), B)
    assert covered(register) == {A.thumbprint, rsa.thumbprint}


def test_decision_made_again_covers_what_was_seen_in_between(
    register: Register, stores: Callable[..., KeyStore]
) -> None:
    store, swapped = stores(), key("a")
    publish(store, A, B)
    store.decisions.decide("a", reason="leaked")
    publish(store, swapped, B)
    store.decisions.decide("a", reason="the new one too")
    assert covered(register) == {A.thumbprint, swapped.thumbprint}


def test_kid_that_is_distrusted_elsewhere_covers_what_was_seen_here_until_then(
    register: Register, stores: Callable[..., KeyStore]
) -> None:
    """Although it comes with thumbprints, which may be made up."""
    store = stores()
    publish(store, A, B)
    flag = Distrust({"r": Decision(1)}, thumbprints=frozenset({"made up"}))
    register.merge({(ISSUER, "a"): flag})
    assert covered(register) == {"made up", A.thumbprint}
    publish(store, key("a"), B)
    register.merge({(ISSUER, "a"): Distrust({"s": Decision(1)})})
    assert covered(register) == {"made up", A.thumbprint}, "it stood already"


def test_set_that_comes_while_a_decision_from_elsewhere_is_applied_hides_nothing_of_it(
    register: Register, stores: Callable[..., KeyStore]
) -> None:
    """Another thread takes a set between the change of the state and its taking effect."""
    told: list[tuple[str, str | None]] = []
    store = stores(on_event=lambda event: told.append((event.kind, event.kid)))
    publish(store, A, B)
    told.clear()

    register.state = register.state.merged(
        {(ISSUER, "a"): Distrust({"r": Decision(1)}, thumbprints=frozenset({"made up"}))}
    )
    publish(store, A, B, C)
    store.apply()
    assert covered(register) == {"made up", A.thumbprint}
    assert ("key_distrusted", "a") in told
    assert set(store.kids) == {"b", "c"}


def test_what_one_store_distrusts_all_refuse_by_issuer_and_by_key(
    stores: Callable[..., KeyStore],
) -> None:
    ours, twin, other = stores(), stores(), stores(OTHER)
    publish(other, A, B, C)
    publish(ours, A, B)
    ours.decisions.decide("a", reason="leaked")
    assert set(twin.decisions.distrusted) == {"a"}
    assert set(other.decisions.distrusted) == set()
    assert set(other.kids) == {"b", "c"}, "the kid means nothing there, the key does"
    later = stores(OTHER)
    publish(later, A, B)
    assert set(later.kids) == {"b"}


async def test_reinstatement_reaches_them_all(stores: Callable[..., KeyStore]) -> None:
    ours, twin, other = stores(), stores(), stores(OTHER)
    publish(other, key("alias", A))
    publish(ours, A, B)
    await ours.decisions.distrust("a", reason="leaked")
    assert not other.kids
    await ours.decisions.reinstate("a", reason="false alarm")
    assert not twin.decisions.distrusted
    assert set(other.kids) == {"alias"}


def test_key_that_one_store_comes_to_cover_is_covered_for_all(
    stores: Callable[..., KeyStore],
) -> None:
    ours, other = stores(), stores(OTHER)
    ours.decisions.decide("a", reason="leaked")
    publish(other, A)
    assert set(other.kids) == {"a"}
    publish(ours, A)
    assert not other.kids


def test_store_that_holds_the_key_completes_the_decision_of_one_that_never_saw_it(
    stores: Callable[..., KeyStore],
) -> None:
    cold, twin, other = stores(), stores(), stores(OTHER)
    publish(twin, A, B)
    publish(other, key("alias", A))
    cold.decisions.decide("a", reason="leaked")
    assert cold.decisions.distrusted["a"].thumbprints == {A.thumbprint}
    assert not other.kids


def test_decision_that_was_lifted_already_is_not_refused_for_a_moment_nor_told(
    register: Register, stores: Callable[..., KeyStore]
) -> None:
    told: list[str] = []
    ours, twin = stores(on_event=lambda event: told.append(event.kind)), stores()
    for each in (ours, twin):
        publish(each, A, B)
    told.clear()
    refused: list[bool] = []
    for each in (ours, twin):
        each.trust.subscribe(lambda each=each: refused.append("a" not in each.kids))  # type: ignore[misc]
    register.merge({(ISSUER, "a"): Distrust({"r": Decision(1)}, {"r": Decision(1)})})
    assert not any(refused)
    assert told == []
    register.merge({(ISSUER, "a"): Distrust({"r": Decision(1)})})
    assert "a" in ours.kids
    assert "a" in twin.kids


def test_change_is_told_once_by_each_store_of_the_issuer_and_by_no_other(
    register: Register, stores: Callable[..., KeyStore]
) -> None:
    told: list[tuple[str, str, str]] = []
    for issuer in (ISSUER, ISSUER, OTHER):
        publish(stores(issuer, on_event=lambda e: told.append((e.issuer, e.kind, e.detail))), A, B)
    told.clear()
    for _ in range(3):
        distrust(register, "a")
    lift(register, "a")
    lift(register, "a")
    assert sorted(told) == sorted(
        [(ISSUER, "key_distrusted", "leaked"), (ISSUER, "key_reinstated", "false alarm")] * 2
    )


def test_what_was_read_at_the_start_is_told_by_no_store_even_if_one_completes_it(
    register: Register, stores: Callable[..., KeyStore]
) -> None:
    told: list[str] = []
    for _ in range(2):
        publish(stores(on_event=lambda event: told.append(event.kind)), A, B)
    told.clear()
    register.merge({(ISSUER, "a"): Distrust({"r": Decision(1)})}, tell=False)
    assert told == []
    assert covered(register) == {A.thumbprint}


async def test_store_that_is_closed_meanwhile_refuses_it_once_it_is_opened_again(
    stores: Callable[..., KeyStore],
) -> None:
    ours, twin = stores(), stores()
    publish(twin, A, B)
    await twin.aclose()
    ours.decisions.decide("a", reason="leaked")
    assert set(twin.decisions.distrusted) == {"a"}
    assert twin.decisions.distrusted["a"].thumbprints == {A.thumbprint}
    twin.trust.reopen()
    publish(twin, A, key("alias", A), B)
    assert set(twin.kids) == {"b"}
