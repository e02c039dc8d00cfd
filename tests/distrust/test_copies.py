"""How a decision and its lift reach the copies of the state: journals, and fleets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from jwks_guard import ConfigurationError, DistrustNotSharedError, KeyStore, Register
from jwks_guard.base.clock import Instant
from jwks_guard.base.histogram import Durations
from jwks_guard.distrust.copies import Copies
from jwks_guard.distrust.copy import CopyError
from jwks_guard.distrust.state import NOTHING, Decision, Distrust, Flags, Name, State, beyond
from jwks_guard.jose.jwk import load_jwk
from jwks_guard.keys.fleet import Member
from jwks_guard.readiness.state import Observed
from jwks_guard.readiness.usage import Reach
from jwks_guard.testing.keys import generate_signing_key
from tests.distrust.support import ISSUER, OTHER, Follower, K, read

KEYS = tuple(
    load_jwk(generate_signing_key("ES256", now=0, common_name="issuer.test", kid=kid).jwk)
    for kid in ("k", "spare")
)


class Copy:
    """What others hold; it can be cut off, and lose the answer to a write."""

    def __init__(self, register: Register, name: str = "a copy") -> None:
        self.register = register
        self.name = name
        self.state = State()
        self.cut_off = False
        self.deaf_to_lifts = False
        self.loses_answers = False
        self.took_a_part = False
        self.exchanges = 0
        self.offered = asyncio.Event()

    async def exchange(self, offer: Flags = NOTHING) -> None:
        self.exchanges += 1
        if offer:
            self.offered.set()
        await asyncio.sleep(0)
        if self.cut_off:
            raise CopyError(f"{self.name} is cut off")
        self.register.merge(self.state.flags)
        if offer and self.deaf_to_lifts:
            raise CopyError(f"{self.name} takes no lift", taken=self.took_a_part)
        known = self.state.flags
        lacking = beyond(self.register.state.flags, known, self.register.issuers)
        self.state = self.state.merged(lacking).merged(offer)
        if offer and self.loses_answers:
            raise CopyError(f"{self.name} did not answer")

    @property
    def kids(self) -> set[str]:
        return set(self.state.of(ISSUER))


@pytest.fixture
def ours(register: Register) -> Follower:
    return Follower(register)


@pytest.fixture
def copies(register: Register) -> list[Copy]:
    return [Copy(register, "one"), Copy(register, "two")]


def decide(register: Register, kid: str = "k") -> None:
    register.distrust(ISSUER, kid, reason="leaked", at=1.0)


def elsewhere(kid: str = "k", number: int = 1) -> Flags:
    return {(ISSUER, kid): Distrust({"elsewhere": Decision(number, "theirs", 0.5, "them")})}


async def lift(ours: Follower, copies: Sequence[Copy], *required: Copy, kid: str = "k") -> None:
    there = Copies(ours.register, ISSUER, copies)
    await there.reinstate(kid, reason="false alarm", at=2.0, required=required)


# --- spreading a decision ---


async def test_decision_reaches_every_copy_and_theirs_are_in_effect_here(
    ours: Follower, copies: list[Copy]
) -> None:
    copies[1].state = State().merged(elsewhere("theirs"))
    decide(ours.register)
    await Copies(ours.register, ISSUER, copies).spread()
    assert ours.refused == {"k", "theirs"}
    assert copies[0].kids >= {"k"}
    await Copies(ours.register, ISSUER, copies).spread()
    assert copies[0].state.flags == copies[1].state.flags == ours.register.state.flags


async def test_copy_that_cannot_be_reached_is_named_and_the_others_are_told(
    ours: Follower, copies: list[Copy]
) -> None:
    copies[0].cut_off = True
    decide(ours.register)
    with pytest.raises(
        DistrustNotSharedError,
        match=r"^What is distrusted is refused here, but not known everywhere: one is cut off\. "
        r"What is missing there is passed on with the next exchange that succeeds\.$",
    ) as error:
        await Copies(ours.register, ISSUER, copies).spread()
    assert error.value.here
    assert ours.refused == copies[1].kids == {"k"}
    copies[0].cut_off = False
    await Copies(ours.register, ISSUER, copies).spread()
    assert copies[0].kids == {"k"}


async def test_all_that_cannot_be_reached_are_named(ours: Follower, copies: list[Copy]) -> None:
    for copy in copies:
        copy.cut_off = True
    decide(ours.register)
    with pytest.raises(DistrustNotSharedError, match="one is cut off; two is cut off"):
        await Copies(ours.register, ISSUER, copies).spread()


async def test_process_that_verifies_nothing_of_the_issuer_says_to_repeat_the_call(
    register: Register, copies: list[Copy]
) -> None:
    ours = Follower(register, OTHER)
    copies[0].cut_off = True
    decide(register)
    with pytest.raises(DistrustNotSharedError, match=r"Repeat the call\.$") as error:
        await Copies(ours.register, ISSUER, copies).spread()
    assert not error.value.here


async def test_copies_do_not_wait_for_each_other(ours: Follower, register: Register) -> None:
    together = asyncio.Barrier(3)

    class Meeting(Copy):
        async def exchange(self, offer: Flags = NOTHING) -> None:
            async with asyncio.timeout(60):
                await together.wait()

    decide(register)
    await Copies(ours.register, ISSUER, [Meeting(register) for _ in range(3)]).spread()


async def test_defect_of_a_copy_is_not_taken_for_an_outage(ours: Follower) -> None:
    class Broken(Copy):
        async def exchange(self, offer: Flags = NOTHING) -> None:
            raise TypeError("a defect")

    healthy = Copy(ours.register)
    decide(ours.register)
    with pytest.raises(TypeError, match="a defect"):
        await Copies(ours.register, ISSUER, [Broken(ours.register), healthy]).spread()
    assert healthy.kids == {"k"}


# --- lifting one ---


async def test_lift_is_in_effect_here_and_in_every_copy(ours: Follower, copies: list[Copy]) -> None:
    decide(ours.register)
    await Copies(ours.register, ISSUER, copies).spread()
    await lift(ours, copies, *copies)
    assert ours.refused == copies[0].kids == copies[1].kids == set()
    assert ours.register.state.flags[K].latest_lift.reason == "false alarm"
    assert copies[0].state.flags[K].latest_lift == Decision(1, "false alarm", 2.0, ours.register.by)


async def test_without_any_copy_the_lift_is_in_effect_here(ours: Follower) -> None:
    decide(ours.register)
    await lift(ours, [])
    assert ours.refused == set()


async def test_lift_undoes_what_only_a_copy_knew(ours: Follower, copies: list[Copy]) -> None:
    copies[1].state = State().merged(elsewhere())
    await lift(ours, copies, *copies)
    assert ours.refused == copies[0].kids == copies[1].kids == set()


async def test_decision_that_is_made_while_the_last_one_is_being_lifted_stands(
    ours: Follower, copies: list[Copy]
) -> None:
    decide(ours.register)
    lifting = asyncio.create_task(lift(ours, copies, *copies))
    await copies[0].offered.wait()
    decide(ours.register)
    await lifting
    assert ours.refused == {"k"}
    await Copies(ours.register, ISSUER, copies).spread()
    assert copies[0].kids == copies[1].kids == {"k"}


async def test_decision_of_others_that_could_not_be_read_stands(
    ours: Follower, copies: list[Copy]
) -> None:
    decide(ours.register)
    copies[1].cut_off = True
    copies[1].state = State().merged(elsewhere())
    with pytest.raises(DistrustNotSharedError, match="trusted again where that is known"):
        await lift(ours, copies, copies[0])
    assert ours.refused == set()
    copies[1].cut_off = False
    await Copies(ours.register, ISSUER, copies).spread()
    assert ours.refused == {"k"}


async def test_required_copy_that_cannot_be_read_lifts_nothing(
    ours: Follower, copies: list[Copy]
) -> None:
    decide(ours.register)
    copies[1].cut_off = True
    with pytest.raises(
        DistrustNotSharedError,
        match=r"^Nothing was lifted: two is cut off\. Repeat the call\.$",
    ):
        await lift(ours, copies, copies[1])
    assert ours.refused == copies[0].kids == {"k"}


async def test_lift_that_no_copy_took_changes_nothing(ours: Follower, copies: list[Copy]) -> None:
    decide(ours.register)
    for copy in copies:
        copy.deaf_to_lifts = True
    with pytest.raises(
        DistrustNotSharedError,
        match=r"^No copy confirmed .* still refused here: one takes no lift; two takes no lift\. ",
    ):
        await lift(ours, copies, *copies)
    assert ours.refused == {"k"}
    await Copies(ours.register, ISSUER, copies).spread()
    assert ours.refused == copies[0].kids == copies[1].kids == {"k"}, "nor does it go out later"


async def test_lift_that_one_copy_took_is_in_effect_and_the_error_names_the_others(
    ours: Follower, copies: list[Copy]
) -> None:
    decide(ours.register)
    copies[1].deaf_to_lifts = True
    with pytest.raises(
        DistrustNotSharedError,
        match=r"not everywhere: two takes no lift\. They refuse the key until the next exchange\.$",
    ):
        await lift(ours, copies, *copies)
    assert ours.refused == copies[0].kids == set()
    assert copies[1].kids == {"k"}
    await Copies(ours.register, ISSUER, copies).spread()
    assert copies[1].kids == set()


async def test_lift_that_a_part_of_a_copy_took_is_in_effect(
    ours: Follower, copies: list[Copy]
) -> None:
    decide(ours.register)
    copies[0].deaf_to_lifts = copies[0].took_a_part = True
    with pytest.raises(DistrustNotSharedError, match="trusted again where that is known"):
        await lift(ours, copies[:1])
    assert ours.refused == set()


async def test_lift_whose_answer_was_lost_is_in_effect_once_it_is_found(
    ours: Follower, copies: list[Copy]
) -> None:
    decide(ours.register)
    (copy, _) = copies
    copy.loses_answers = True
    with pytest.raises(DistrustNotSharedError, match=r"No copy confirmed .* one did not answer"):
        await lift(ours, [copy], copy)
    assert ours.refused == {"k"}, "it is not known whether anybody has heard of it"
    await Copies(ours.register, ISSUER, [copy]).spread()
    assert ours.refused == copy.kids == set()
    await lift(ours, [copy], copy)


async def test_kid_that_was_never_distrusted_is_a_mistake(
    ours: Follower, copies: list[Copy]
) -> None:
    copies[0].state = State().merged(elsewhere("another"))
    with pytest.raises(ConfigurationError, match=r"The kid 'k' of .* was never distrusted"):
        await lift(ours, copies, *copies)


async def test_key_that_is_not_distrusted_any_more_is_left_as_it_is(
    ours: Follower, copies: list[Copy]
) -> None:
    decide(ours.register)
    await lift(ours, copies, *copies)
    before, exchanges = ours.register.state, copies[0].exchanges
    await lift(ours, copies, *copies)
    assert ours.register.state is before
    assert copies[0].exchanges == exchanges + 1, "it was read, and not written"


async def test_lifting_again_and_again_lifts_nothing_that_is_decided_later_elsewhere(
    ours: Follower, copies: list[Copy]
) -> None:
    copies[0].state = State().merged(elsewhere())
    for _ in range(5):
        await lift(ours, copies, *copies)
    copies[0].state = copies[0].state.merged(elsewhere(number=2))
    await Copies(ours.register, ISSUER, copies).spread()
    assert ours.refused == {"k"}


async def test_copy_that_lost_all_it_held_hears_of_all_of_it_again_and_lifts_nothing(
    ours: Follower, copies: list[Copy]
) -> None:
    decide(ours.register)
    decide(ours.register, "other")
    await Copies(ours.register, ISSUER, copies).spread()
    await lift(ours, copies, *copies, kid="other")
    copies[0].state = State()
    await Copies(ours.register, ISSUER, copies).spread()
    assert ours.refused == copies[0].kids == {"k"}
    assert copies[0].state.flags == ours.register.state.flags


# --- through a store with a journal and a fleet ---


class Fleet(Copy):
    """What other processes hold, as a store's fleet."""

    def __init__(self, register: Register) -> None:
        super().__init__(register, "the fleet")
        self.member: Member | None = None

    @property
    def error(self) -> str | None:
        return "the fleet is cut off" if self.cut_off else None

    @property
    def reaches(self) -> Mapping[Name, Reach]:
        return {}

    @property
    def exchange_counts(self) -> Mapping[str, int]:
        return {}

    @property
    def exchange_durations(self) -> Durations:
        return Durations()

    async def join(self, member: Member) -> None:
        self.member = member
        if not self.cut_off:
            await self.exchange()

    async def leave(self, member: Member) -> None:
        self.member = None

    async def observe(self, kid: str, issuer: str) -> Observed:
        return Observed(())


@pytest.fixture
def fleet(register: Register) -> Fleet:
    return Fleet(register)


def store_of(fleet: Fleet, **options: Any) -> KeyStore:
    store = KeyStore(ISSUER, fleet=fleet, background=False, register=fleet.register, **options)
    store.trust.publish(KEYS, (), Instant.now(store.clock))
    return store


async def test_decision_holds_before_the_first_await_and_reaches_journal_and_fleet(
    fleet: Fleet, tmp_path: Path
) -> None:
    store = store_of(fleet, snapshot_path=tmp_path / "keys")
    deciding = asyncio.create_task(store.decisions.distrust("k", reason="leaked"))
    await asyncio.sleep(0)
    assert store.kids == ("spare",)
    await deciding
    assert fleet.kids == read(tmp_path / "keys.tombstones").refused == {"k"}


async def test_decision_made_while_cut_off_stands_when_the_fleet_is_heard_again(
    fleet: Fleet,
) -> None:
    fleet.cut_off = True
    lifted = State().merged(elsewhere())
    fleet.state = lifted.merged({K: lifted.flags[K].lift("false alarm", 9e9, "them")})
    store = store_of(fleet)
    await store.ensure_bound()
    with pytest.raises(DistrustNotSharedError, match="the fleet is cut off"):
        await store.decisions.distrust("k", reason="leaked")
    fleet.cut_off = False
    await store.decisions.share()
    assert set(store.decisions.distrusted) == fleet.kids == {"k"}


async def test_lift_by_others_who_knew_of_the_decision_counts(fleet: Fleet) -> None:
    store = store_of(fleet)
    await store.decisions.distrust("k", reason="leaked")
    fleet.state = fleet.state.merged({K: fleet.state.flags[K].lift("false alarm", 3.0, "them")})
    await store.decisions.share()
    assert not store.decisions.distrusted
    await store.decisions.distrust("k", reason="after all")
    assert set(store.decisions.distrusted) == fleet.kids == {"k"}
    await store.decisions.reinstate("k", reason="false alarm")
    assert not store.decisions.distrusted
    assert not fleet.kids


async def test_lift_that_the_fleet_cannot_hear_of_is_not_made_by_a_restart_either(
    fleet: Fleet, tmp_path: Path
) -> None:
    store = store_of(fleet, snapshot_path=tmp_path / "keys")
    await store.decisions.distrust("k", reason="leaked")
    fleet.cut_off = True
    with pytest.raises(DistrustNotSharedError, match="Nothing was lifted: the fleet is cut off"):
        await store.decisions.reinstate("k", reason="false alarm")
    assert set(store.decisions.distrusted) == read(tmp_path / "keys.tombstones").refused == {"k"}
    await store.aclose()


async def test_own_journal_that_cannot_be_read_lifts_nothing(fleet: Fleet, tmp_path: Path) -> None:
    store = store_of(fleet, snapshot_path=tmp_path / "keys")
    await store.decisions.distrust("k", reason="leaked")
    (tmp_path / "keys.tombstones").chmod(0o644)
    with pytest.raises(DistrustNotSharedError, match=r"Nothing was lifted: the journal .*0600"):
        await store.decisions.reinstate("k", reason="false alarm")
    assert set(store.decisions.distrusted) == fleet.kids == {"k"}


async def test_store_whose_journal_cannot_be_read_names_journal_and_fleet(
    fleet: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "keys.tombstones").mkdir()
    store = store_of(fleet, snapshot_path=tmp_path / "keys")
    with pytest.raises(DistrustNotSharedError, match=r"keys\.tombstones .*does not start: The"):
        await store.decisions.distrust("k", reason="leaked")
    assert store.trust.view.distrusted == {"k"}


async def test_decision_of_a_closed_store_is_an_error_and_holds(fleet: Fleet) -> None:
    store = store_of(fleet)
    await store.ensure_bound()
    await store.aclose()
    with pytest.raises(DistrustNotSharedError, match="closed"):
        await store.decisions.distrust("k", reason="leaked")
    assert set(store.decisions.distrusted) == {"k"}


@pytest.mark.parametrize("kid", ["", None, 5, b"a", "\ud800"])
@pytest.mark.parametrize("call", ["distrust", "reinstate"])
async def test_kid_must_be_text(fleet: Fleet, call: str, kid: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^kid must be a non-empty string\.$"):
        await getattr(store_of(fleet).decisions, call)(kid, reason="leaked")
    assert not fleet.register.state.flags


@pytest.mark.parametrize("reason", ["", None, 5, "half a pair \ud800"])
@pytest.mark.parametrize("call", ["distrust", "reinstate"])
async def test_decision_needs_a_reason(fleet: Fleet, call: str, reason: Any) -> None:
    store = store_of(fleet)
    with pytest.raises(ConfigurationError, match=r"^reason must be a non-empty string\.$"):
        await getattr(store.decisions, call)("k", reason=reason)
    assert set(store.kids) == {"k", "spare"}
