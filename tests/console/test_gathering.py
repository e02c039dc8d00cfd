"""The Gatherer: what it asks, how often, and what it shows while nobody answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from jwks_guard.admin import KeyRotation
from jwks_guard.console import gathering
from jwks_guard.console.gathering import Gatherer
from jwks_guard.console.picture import Entry, Picture
from jwks_guard.readiness.state import Observed
from jwks_guard.testing import LocalTenant
from tests.admin.rotating import SIGNING_KEYS, Scene, opened
from tests.console.support import ISSUER, FakeFleet, decision, instance
from tests.support import PATIENCE, HandClock, verifier_of


@pytest.fixture
def fleet(clock: HandClock) -> FakeFleet:
    return FakeFleet(instance("a", clock, accepted={"k1": 4}))


@pytest.fixture
def gatherer(fleet: FakeFleet, clock: HandClock) -> Gatherer:
    return Gatherer(None, fleet, clock=clock)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened() as scene:
        yield scene


def lists(scene: Scene) -> int:
    """How often the Management API was asked for the keys."""
    return scene.sent("GET").count(SIGNING_KEYS)


def whats(picture: Picture) -> list[str]:
    return [entry.what for entry in picture.entries]


async def test_before_the_first_answer_nothing_is_known(gatherer: Gatherer) -> None:
    assert gatherer.picture.issuer == ISSUER
    assert gatherer.picture.fleet_at is None
    assert gatherer.picture.keys == ()


async def test_a_look_shows_what_instances_show(
    gatherer: Gatherer, fleet: FakeFleet, clock: HandClock
) -> None:
    await gatherer.look()
    clock.advance(10.0)
    fleet.states = (instance("a", clock, accepted={"k1": 9}),)
    fleet.decisions = {"k2": decision("k2", clock)}
    picture = await gatherer.look()
    row = picture.key("k1")
    assert row is not None
    assert row.per_minute[-1] == 5
    assert picture.refused_kids == {"k2"}
    assert picture.fleet_at == clock.time()


async def test_the_last_answer_is_shown_on_while_the_fleet_does_not_answer(
    gatherer: Gatherer, fleet: FakeFleet, clock: HandClock
) -> None:
    before = await gatherer.look()
    clock.advance(5.0)
    fleet.cut_off()
    for _ in range(3):
        picture = await gatherer.look()
        clock.advance(5.0)
    (problem,) = picture.problems
    assert (problem.source, problem.since) == ("fleet", before.at + 5.0)
    assert problem.cause == "The fleet's Redis can't be reached."
    assert picture.fleet_at == before.at
    assert [row.kid for row in picture.keys] == ["k1"]
    fleet.failure = None
    assert (await gatherer.look()).problems == ()


async def test_an_error_that_nobody_foresaw_ends_no_look(
    gatherer: Gatherer, fleet: FakeFleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.failure = RuntimeError("secret detail")
    picture = await gatherer.look()
    (problem,) = picture.problems
    assert "RuntimeError" in problem.cause
    assert "secret detail" not in problem.cause
    assert "secret detail" in caplog.text
    caplog.clear()


async def test_each_look_asks_for_one_key_in_turn_and_for_the_one_that_is_wanted(
    gatherer: Gatherer, fleet: FakeFleet, clock: HandClock
) -> None:
    fleet.states = (instance("a", clock, kids=("k1", "k2", "k3")),)
    fleet.reach = {"k2": (9_000.0, 60.0)}
    await gatherer.look()
    fleet.asked.clear()
    for _ in range(3):
        clock.advance(5.0)
        await gatherer.recent()
    assert sorted(fleet.asked) == ["k1", "k2", "k3"]
    fleet.asked.clear()
    await gatherer.look("k2")
    assert "k2" in fleet.asked
    assert len(fleet.asked) <= 2
    row = gatherer.picture.key("k2")
    assert row is not None
    assert row.latest_expiry == 9_000.0


async def test_who_asks_before_a_look_begins_shares_it(
    monkeypatch: pytest.MonkeyPatch, gatherer: Gatherer, fleet: FakeFleet
) -> None:
    go_on, asked, observe = asyncio.Event(), 0, fleet.observe

    async def slowly(kid: str) -> Observed:
        nonlocal asked
        asked += 1
        await go_on.wait()
        return await observe(kid)

    monkeypatch.setattr(fleet, "observe", slowly)
    first = asyncio.create_task(gatherer.look())
    while not asked:  # noqa: ASYNC110 - it begins in its turn
        await asyncio.sleep(0)
    others = [asyncio.create_task(gatherer.look()) for _ in range(50)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, *others)
    assert asked == 2


async def test_pages_that_wait_for_a_fleet_that_hangs_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch, gatherer: Gatherer, fleet: FakeFleet
) -> None:
    go_on, observe = asyncio.Event(), fleet.observe

    async def hang(kid: str) -> Observed:
        await go_on.wait()
        return await observe(kid)

    monkeypatch.setattr(fleet, "observe", hang)
    monkeypatch.setattr(gathering, "LONGEST_LOOK_SECONDS", 0.01)
    before = len(asyncio.all_tasks())
    for _ in range(20):
        await gatherer.recent()
    assert len(asyncio.all_tasks()) < before + 8
    go_on.set()
    await gatherer.look()
    assert len(fleet.asked) <= 3
    await gatherer.aclose()


async def test_what_was_outdated_by_an_action_is_looked_at_anew(
    gatherer: Gatherer, fleet: FakeFleet, clock: HandClock
) -> None:
    await gatherer.look()
    fleet.decisions = {"k1": decision("k1", clock)}
    assert (await gatherer.recent()).refused_kids == frozenset()
    gatherer.outdate()
    assert (await gatherer.recent()).refused_kids == {"k1"}


async def test_a_problem_keeps_its_time_while_the_gatherer_looks_by_itself(
    monkeypatch: pytest.MonkeyPatch, gatherer: Gatherer, fleet: FakeFleet, clock: HandClock
) -> None:
    monkeypatch.setattr(gathering, "UNWATCHED_SECONDS", 0.01)
    fleet.cut_off()
    began = clock.time()
    async with gatherer, asyncio.timeout(PATIENCE):
        picture = await gatherer.next_picture(gatherer.picture)
        for _ in range(3):
            clock.advance(5.0)
            picture = await gatherer.next_picture(picture)
    assert [problem.since for problem in picture.problems] == [began]


async def test_a_picture_that_cannot_be_made_does_not_end_the_looking(
    monkeypatch: pytest.MonkeyPatch,
    gatherer: Gatherer,
    fleet: FakeFleet,
    clock: HandClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(gathering, "UNWATCHED_SECONDS", 0.01)
    good, endless = fleet.states, (10**308, 2 * 10**308)
    async with gatherer, asyncio.timeout(PATIENCE):
        for accepted in (0, *endless):
            clock.advance(1.0)
            fleet.states = (instance("a", clock, accepted={"k1": accepted}),)
            asked = len(fleet.asked)
            while len(fleet.asked) < asked + 2:  # noqa: ASYNC110 - it looks by itself
                await asyncio.sleep(0.01)
        assert "picture together" in caplog.text
        clock.advance(7200.0)
        fleet.states = good
        await gatherer.next_picture(gatherer.picture)
    caplog.clear()


async def test_an_instance_that_shows_thousands_of_keys_hides_none_of_the_others(
    gatherer: Gatherer, fleet: FakeFleet, clock: HandClock
) -> None:
    hostile = instance("x", clock, kids=tuple(f"junk-{n}" for n in range(20_000)))
    fleet.states = (hostile, *fleet.states, instance("b", clock, kids=("k1",)))
    picture = await gatherer.look()
    assert picture.key("k1") is not None
    assert len(picture.keys) <= 200
    assert picture.more_trusted == 20_001 - len(picture.keys)
    assert picture.knows("junk-19999")
    assert not picture.knows("never heard of")


async def test_news_of_one_instance_push_no_action_off_the_timeline(
    gatherer: Gatherer, fleet: FakeFleet, clock: HandClock
) -> None:
    done = Entry(at=clock.time(), origin="console", what="Distrust", kid="k1", actor="maria")
    gatherer.record(done)
    for look in range(12):
        clock.advance(1.0)
        kids = tuple(f"junk-{look}-{n}" for n in range(200))
        fleet.states = (instance("x", clock, kids=kids),)
        await gatherer.look()
    assert done in gatherer.picture.entries


async def test_a_page_that_is_loaded_often_does_not_ask_often(
    gatherer: Gatherer, fleet: FakeFleet
) -> None:
    for _ in range(5):
        await gatherer.recent()
    assert len(fleet.asked) == 1


async def test_a_page_does_not_wait_for_a_fleet_that_hangs(
    monkeypatch: pytest.MonkeyPatch, gatherer: Gatherer, fleet: FakeFleet
) -> None:
    async def hang(kid: str) -> Observed:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(fleet, "observe", hang)
    monkeypatch.setattr(gathering, "LONGEST_LOOK_SECONDS", 0.01)
    assert (await gatherer.recent()).fleet_at is None


async def test_changes_between_two_looks_come_onto_the_timeline(
    gatherer: Gatherer, fleet: FakeFleet, clock: HandClock
) -> None:
    fleet.decisions = {"k1": decision("k1", clock)}
    assert whats(await gatherer.look()) == ["Distrusted: every instance is to refuse the key"]
    clock.advance(20.0)
    fleet.states, fleet.decisions = (*fleet.states, instance("b", clock)), {}
    assert sorted(whats(await gatherer.look())) == [
        "An instance appeared",
        "An instance fell silent",
        "The decision to distrust the key was lifted",
    ]


async def test_what_is_done_in_the_console_comes_onto_the_timeline(gatherer: Gatherer) -> None:
    entry = Entry(at=1.0, origin="console", what="Distrust", kid="k1", actor="maria")
    gatherer.record(entry)
    assert entry in (await gatherer.look()).entries


async def test_watching_wakes_a_gatherer_that_looks_seldom(
    monkeypatch: pytest.MonkeyPatch, gatherer: Gatherer
) -> None:
    monkeypatch.setattr(gathering, "UNWATCHED_SECONDS", 1e6)
    monkeypatch.setattr(gathering, "WATCHED_SECONDS", 0.01)
    async with gatherer, asyncio.timeout(PATIENCE):
        picture = await gatherer.next_picture(gatherer.picture)
        with gatherer.watched():
            for _ in range(3):
                picture = await gatherer.next_picture(picture)


async def test_a_verifier_alone_can_be_looked_at(tenant: LocalTenant, clock: HandClock) -> None:
    async with verifier_of(tenant, clock) as verifier:
        await verifier.verify(tenant.token())
        await verifier.distrust("leaked-kid", reason="leaked")
        picture = await Gatherer(None, verifier, clock=clock).look()
        assert {row.kid for row in picture.valid} == {tenant.key().kid, tenant.key("next").kid}
        assert [row.kid for row in picture.revoked] == ["leaked-kid"]


# --- with a tenant ---


def watching(scene: Scene, fleet: FakeFleet, journal: Path | None = None) -> Gatherer:
    rotation = scene.rotation(
        fleet, token_lifetime=timedelta(hours=1), journal_path=journal, actor="ops"
    )
    return Gatherer(rotation, fleet, clock=scene.clock)


async def test_the_tenants_keys_are_listed_with_a_verdict_each(scene: Scene) -> None:
    old, _ = scene.used_key()
    fleet = FakeFleet(instance("a", scene.clock))
    picture = await watching(scene, fleet).look()
    assert [row.state for row in picture.valid] == ["next", "current", "previously used"]
    row = picture.key(old)
    assert row is not None
    assert row.readiness is not None
    assert row.readiness.verdict == "no"
    assert row.fingerprint == next(k.fingerprint for k in await scene.keys.list() if k.kid == old)
    assert picture.tenant == scene.tenant.issuer


async def test_the_verdict_is_that_of_the_rotation(scene: Scene) -> None:
    old, _ = scene.used_key()
    fleet = FakeFleet(instance("a", scene.clock))
    rotation = scene.rotation(fleet, token_lifetime=timedelta(hours=1))
    picture = await Gatherer(rotation, fleet, clock=scene.clock).look()
    row = picture.key(old)
    assert row is not None
    assert row.readiness == await rotation.revocation_readiness(old)


async def test_the_tenant_is_asked_at_most_every_ten_seconds_and_after_each_action(
    scene: Scene,
) -> None:
    gatherer = watching(scene, FakeFleet(instance("a", scene.clock)))
    for _ in range(10):
        await gatherer.recent()
        scene.clock.advance(3.0)
    assert lists(scene) == 3  # at 0, 12 and 24 s
    await gatherer.look()
    assert lists(scene) == 4


async def test_a_tenant_that_is_busy_is_left_alone_for_as_long_as_it_says(scene: Scene) -> None:
    gatherer = watching(scene, FakeFleet(instance("a", scene.clock)))
    await gatherer.look()
    scene.tenant.faults.status(429, path=SIGNING_KEYS, retry_after=300)
    picture = await gatherer.look()
    (problem,) = picture.problems
    assert problem.source == "tenant"
    assert picture.keys
    asked = lists(scene)
    scene.clock.advance(200.0)
    await gatherer.look()
    assert lists(scene) == asked
    scene.tenant.faults.clear()
    scene.clock.advance(101.0)
    assert (await gatherer.look()).problems == ()


async def test_a_rotation_elsewhere_comes_onto_the_timeline(scene: Scene) -> None:
    gatherer = watching(scene, FakeFleet(instance("a", scene.clock)))
    await gatherer.look()
    scene.tenant.rotate()
    assert "The key became the current key; it was next" in whats(await gatherer.look())


async def test_steps_of_the_journal_are_told_also_those_of_another_process(
    scene: Scene, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    fleet = FakeFleet(instance("a", scene.clock))
    fleet.kids = {scene.tenant.key("next").kid}
    gatherer = watching(scene, fleet, journal)
    await gatherer.look()
    other = KeyRotation(scene.keys, fleet, journal_path=journal, actor="somebody else")
    await other.rotate(reason="quarterly")
    picture = await gatherer.look()
    begun = next(entry for entry in picture.entries if entry.what == "Rotation: begun")
    assert (begun.actor, begun.reason) == ("somebody else", "quarterly")


async def test_a_journal_that_cannot_be_read_is_a_problem_and_hides_nothing_else(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = tmp_path / "journal"
    journal.touch(mode=0o644)
    journal.chmod(0o644)
    picture = await watching(scene, FakeFleet(instance("a", scene.clock)), journal).look()
    assert [problem.source for problem in picture.problems] == ["journal"]
    assert "others may read or write it" in picture.problems[0].cause
    assert len(picture.valid) == 2
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
