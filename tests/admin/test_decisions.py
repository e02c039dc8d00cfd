"""KeyRotation's decisions about verifiers alone: distrust, reinstate and dismiss."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jwks_guard import ConfigurationError, RevocationRefusedError
from jwks_guard.readiness.state import InstanceState, Observed
from tests.admin.rotating import FakeRevocable, Scene, opened, verdict

GONE = "b" * 32


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened() as scene:
        yield scene


class Remembering(FakeRevocable):
    """A fleet with an instance that reports and one that has ended an hour ago."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self.states = [shown("a" * 32, now), shown(GONE, now - 3600)]

    async def observe(self, kid: str) -> Observed:
        return Observed(tuple(self.states))

    async def dismiss(self, instance: str) -> int:
        before = len(self.states)
        self.states = [state for state in self.states if state.instance != instance]
        return before - len(self.states)


def shown(instance: str, at: float) -> InstanceState:
    return InstanceState(
        instance=instance,
        host="web",
        issuer=FakeRevocable.issuer,
        started_at=at,
        reported_at=at,
        status="ok",
        confirmed_at=at,
        trusted_until=at + 60,
        kids=(),
    )


async def test_key_is_distrusted_without_the_tenant_and_the_journal_says_by_whom(
    scene: Scene, tmp_path: Path
) -> None:
    verifier, path = await scene.verifier(), tmp_path / "journal.jsonl"
    kid, token = scene.used_key()
    rotation = scene.rotation(verifier, journal_path=path, actor="the service")
    await verifier.verify(scene.tenant.token())
    refusals = await rotation.acting_as("ada").distrust(kid, reason="leaked")
    assert [each.error for each in refusals] == [None]
    assert await verdict(verifier, token) == "revoked_key"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == ["intended", "refused_by", "finished"]
    assert {(line["action"], line["actor"]) for line in lines} == {("distrust", "ada")}
    assert not scene.sent("POST")
    await rotation.reinstate(kid, reason="a mistake")
    assert scene.events[-1].intent.actor == "the service"


async def test_only_trusted_key_is_distrusted_by_force_alone(scene: Scene) -> None:
    verifier, other = await scene.verifier(), FakeRevocable()
    kid, token = scene.tenant.key().kid, scene.tenant.token()
    scene.tenant.remove(scene.tenant.key("next").kid)
    await verifier.keys.refresh()
    rotation = scene.rotation(verifier)
    with pytest.raises(RevocationRefusedError, match="only trusted key"):
        await rotation.distrust(kid, reason="leaked")
    assert await verdict(verifier, token) == "accepted"
    assert scene.steps == ["intended", "failed"]
    other.distrusts_unforced = True
    with pytest.raises(RevocationRefusedError) as refused:
        await scene.rotation(verifier, other).distrust(kid, reason="leaked")
    assert refused.value.__notes__ == [f"It is refused already by: {other.issuer} #2."]
    await rotation.distrust(kid, reason="leaked", force=True)
    assert await verdict(verifier, token) == "revoked_key"


async def test_decision_that_a_crash_cut_off_revokes_nothing_later(
    scene: Scene, tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    kid, _ = scene.used_key()
    await scene.rotation(FakeRevocable(), journal_path=path).distrust(kid, reason="looks odd")
    intended = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(intended)
    assert await scene.rotation(journal_path=path).resume() == []
    assert not scene.sent("PUT")


async def test_instance_that_has_ended_is_dismissed_and_no_other(scene: Scene) -> None:
    fleet = Remembering(scene.clock.time())
    rotation = scene.rotation(fleet)
    for instance, why in {"a" * 32: "still reports", "c" * 32: "No single instance"}.items():
        with pytest.raises(ConfigurationError, match=why):
            await rotation.dismiss(instance, reason="scaled down")
    assert len(fleet.states) == 2
    assert await rotation.dismiss(GONE, reason="scaled down") == "web (bbbbbbbb)"
    assert [state.instance for state in fleet.states] == ["a" * 32]
    last = scene.events[-1]
    assert (last.step, last.detail) == ("finished", "web (bbbbbbbb) is forgotten")
    assert (last.intent.action, last.intent.instance, last.intent.kid) == ("dismiss", GONE, "")


async def test_fleet_that_is_a_list_of_addresses_is_changed_in_the_settings(scene: Scene) -> None:
    fleet = Remembering(scene.clock.time())

    class Listed(FakeRevocable):
        async def observe(self, kid: str) -> Observed:
            return await fleet.observe(kid)

    with pytest.raises(ConfigurationError, match="address out of the settings"):
        await scene.rotation(Listed()).dismiss(GONE, reason="scaled down")
    assert scene.steps == ["intended", "failed"]


async def test_actor_without_a_name_is_refused(scene: Scene) -> None:
    with pytest.raises(ConfigurationError, match="actor"):
        scene.rotation().acting_as("")
