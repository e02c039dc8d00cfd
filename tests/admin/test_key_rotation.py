"""Rotating: every verifier holds the next key, every operator is warned, a leaked key goes."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from jwks_guard import (
    ConfigurationError,
    ForbiddenError,
    KeysUnavailableError,
    ManagementAPIError,
    RevocationRefusedError,
    RotationRefusedError,
    RotationUncertainError,
    SyncTokenVerifier,
    TokenVerifier,
    UnavailableError,
)
from jwks_guard.admin import KeyRotation, RotationReceipt, SigningKeysClient, StaticToken
from jwks_guard.admin.revocable import Revocable
from tests.admin.rotating import (
    ROTATE,
    FakeInstances,
    FakeRevocable,
    Scene,
    opened,
    revoke_path,
    verdict,
    who_refuses,
)
from tests.process.programs import run_to_end

CERTIFICATE_PATHS = [
    "pem",
    "cer",
    "rawpem",
    "samlp/metadata/{clientId}",
    "wsfed/FederationMetadata/2007-06/FederationMetadata.xml",
]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened() as scene:
        yield scene


def time_of(scene: Scene) -> datetime:
    return datetime.fromtimestamp(scene.clock.time(), UTC)


# --- what it is made of ---


def test_verifier_is_a_revocable_for_the_type_checker_and_at_run_time() -> None:
    revocable: Revocable = TokenVerifier("https://issuer.test/", "https://api.test")
    assert KeyRotation(client(), revocable)
    assert KeyRotation(client(), [revocable, revocable])
    assert KeyRotation(client())


def client() -> SigningKeysClient:
    return SigningKeysClient("acme.eu.auth0.com", auth=StaticToken("token"))


def test_sync_verifier_is_refused_with_what_to_do_instead() -> None:
    verifier: Any = SyncTokenVerifier("https://issuer.test/", "https://api.test")
    for fleet in (verifier, [verifier]):
        with pytest.raises(ConfigurationError, match="make a TokenVerifier beside"):
            KeyRotation(client(), fleet)


@pytest.mark.parametrize("fleet", ["verifier", None, [None], 7, object()])
def test_fleet_that_can_refuse_nothing_is_refused_itself(fleet: Any) -> None:
    with pytest.raises(ConfigurationError, match="fleet must be"):
        KeyRotation(client(), fleet)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token_lifetime", 3600),
        ("token_lifetime", "24h"),
        ("journal_path", 7),
        ("on_event", "print"),
        ("actor", ""),
        ("actor", 7),
        ("jwks_uri", "http://issuer.test/jwks"),
        ("confirm_within", 0),
        ("confirm_within", float("nan")),
        ("confirm_within", "120"),
    ],
)
def test_argument_that_can_not_be_used_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        KeyRotation(client(), **{name: value})


def test_client_of_another_kind_is_refused() -> None:
    keys: Any = "acme.eu.auth0.com"
    with pytest.raises(ConfigurationError, match="keys must be a SigningKeysClient"):
        KeyRotation(keys)


# --- a planned rotation ---


async def test_rotation_says_what_is_current_now_and_until_when_old_tokens_live(
    scene: Scene,
) -> None:
    verifier = await scene.verifier()
    old, new = scene.tenant.key().kid, scene.tenant.key("next").kid
    receipt = await scene.rotation(verifier, token_lifetime=timedelta(hours=24)).rotate()
    assert scene.tenant.key().kid == new
    assert (receipt.previous.kid, receipt.current.kid) == (old, new)
    assert receipt.next.kid == scene.tenant.key("next").kid
    assert receipt.rotated_at == time_of(scene)
    assert receipt.tokens_expire_by == time_of(scene) + timedelta(hours=24)
    assert not receipt.inferred
    assert receipt.to_dict() == {
        "rotated_at": time_of(scene).isoformat(),
        "previous": old,
        "current": new,
        "next": receipt.next.kid,
        "inferred": False,
        "tokens_expire_by": (time_of(scene) + timedelta(days=1)).isoformat(),
        "warnings": list(receipt.warnings),
        "certificates": dict(receipt.certificates),
    }


async def test_without_a_known_lifetime_nothing_is_said_of_expiry(scene: Scene) -> None:
    receipt = await scene.rotation().rotate()
    assert receipt.tokens_expire_by is None
    assert receipt.to_dict()["tokens_expire_by"] is None


async def test_every_step_is_an_event_with_time_actor_and_result(scene: Scene) -> None:
    old, new = scene.tenant.key().kid, scene.tenant.key("next").kid
    await scene.rotation(actor="ops@acme").rotate(reason="quarterly")
    told = [(event.step, event.result, event.detail) for event in scene.events]
    assert told[0] == ("intended", "ok", "quarterly")
    assert told[1][:2] == ("warned", "warning")
    assert told[2:] == [("rotated", "ok", f"current is {new}"), ("finished", "ok", "")]
    (intent,) = {event.intent for event in scene.events}
    assert (intent.action, intent.actor, intent.kid) == ("rotate", "ops@acme", old)
    assert (intent.tenant, intent.reason) == (scene.tenant.issuer, "quarterly")
    assert {event.at for event in scene.events} == {time_of(scene)}


async def test_saml_and_ws_fed_parties_are_warned_of_before_the_rotation_is_sent(
    scene: Scene,
) -> None:
    sent: list[list[str]] = []
    rotation = scene.rotation(
        on_event=lambda event: sent.append(scene.sent("POST")) if event.step == "warned" else None
    )
    receipt = await rotation.rotate()
    assert sent == [[]]
    (warning,) = receipt.warnings
    assert "SAML and WS-Fed" in warning
    addresses = [scene.tenant.issuer + path for path in CERTIFICATE_PATHS]
    assert list(receipt.certificates.values()) == addresses
    assert all(address in warning for address in addresses)
    assert f"`jwks-guard keys show {receipt.current.kid} --pem`" in warning


async def test_receipt_has_the_new_certificate_for_those_parties(scene: Scene) -> None:
    old, new = scene.tenant.key(), scene.tenant.key("next")
    receipt = await scene.rotation().rotate()
    assert receipt.current.certificate == new.certificate
    assert receipt.previous.certificate == old.certificate


async def test_actor_is_the_user_of_this_process_unless_named(scene: Scene) -> None:
    await scene.rotation().rotate()
    user, _, host = scene.events[0].intent.actor.partition("@")
    assert user
    assert host


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody without a name")
def test_actor_without_a_name_is_a_number() -> None:
    script = (
        "import os\n"
        "from jwks_guard.admin.journal import default_actor\n"
        "os.setresuid(54_321, -1, -1)\n"
        "print(default_actor())"
    )
    names = ("LOGNAME", "USER", "LNAME", "USERNAME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    run = run_to_end([sys.executable, "-c", script], env=environment)
    assert run.returncode == 0
    assert run.stdout.startswith("54321@")


async def test_nobody_has_to_listen(scene: Scene) -> None:
    assert (await scene.rotation(on_event=None).rotate()).next


async def test_what_on_event_raises_stops_nothing(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    def raising(_: object) -> None:
        raise RuntimeError("listener")

    new = scene.tenant.key("next").kid
    receipt = await scene.rotation(on_event=raising).rotate()
    assert receipt.current.kid == scene.tenant.key().kid == new
    assert "on_event raised for rotated" in caplog.text


# --- nobody is hurried ---


async def test_verifier_that_only_missed_the_next_key_is_refreshed(scene: Scene) -> None:
    scene.tenant.faults.rollback(0, age=None)
    scene.tenant.rotate()
    verifier = await scene.verifier()
    scene.tenant.faults.clear()
    new = scene.tenant.key("next").kid
    assert new not in verifier.keys.kids
    await scene.rotation(verifier).rotate()
    assert scene.tenant.key().kid == new
    assert new in verifier.keys.kids


async def test_rotation_is_refused_while_a_verifier_can_not_learn_the_next_key(
    scene: Scene,
) -> None:
    scene.tenant.rotate()
    await scene.keys.list()
    scene.tenant.faults.rollback()  # a CDN edge lags behind
    behind = await scene.verifier()
    new = scene.tenant.key("next").kid
    with pytest.raises(RotationRefusedError, match="Nothing was done") as refusal:
        await scene.rotation(behind).rotate()
    assert refusal.value.kid == new
    assert refusal.value.lacking == (scene.tenant.issuer,)
    assert scene.sent("POST") == []
    assert scene.events == []
    scene.tenant.faults.clear()
    await scene.rotation(behind).rotate()
    assert scene.tenant.key().kid == new


async def test_rotation_is_refused_while_a_verifier_can_not_reach_the_tenants_keys(
    scene: Scene,
) -> None:
    scene.tenant.faults.status(503)
    verifier = await scene.verifier()
    with pytest.raises(RotationRefusedError):
        await scene.rotation(verifier).rotate()
    assert scene.sent("POST") == []


async def test_next_key_that_was_distrusted_by_mistake_stops_the_rotation(scene: Scene) -> None:
    verifier = await scene.verifier()
    await verifier.distrust(scene.tenant.key("next").kid, reason="mixed up")
    with pytest.raises(RotationRefusedError):
        await scene.rotation(verifier).rotate()
    assert scene.sent("POST") == []


async def test_instances_that_have_just_fetched_are_waited_for(scene: Scene) -> None:
    fleet = FakeInstances(scene.tenant.key("next").kid, refreshes=3)
    await scene.rotation(fleet).rotate()
    assert fleet.refreshes == 0
    assert scene.sent("POST") == [ROTATE]


async def test_instance_that_never_trusts_the_next_key_stops_the_rotation(scene: Scene) -> None:
    fleet = FakeInstances(scene.tenant.key("next").kid, refreshes=1000)
    with pytest.raises(RotationRefusedError) as refusal:
        await scene.rotation(fleet).rotate()
    assert refusal.value.lacking == ("api-1",)
    assert scene.sent("POST") == []


async def test_what_a_fleet_showed_at_an_earlier_look_is_not_relied_on(scene: Scene) -> None:
    """An instance may have started since, or have lost the key."""

    class Changed(FakeInstances):
        async def refresh(self) -> None:
            self.kids.clear()

    kid = scene.tenant.key("next").kid
    fleet = Changed(kid, refreshes=1000)
    fleet.kids.add(kid)
    with pytest.raises(RotationRefusedError) as refusal:
        await scene.rotation(fleet).rotate()
    assert refusal.value.lacking == ("api-1",)
    assert scene.sent("POST") == []


async def test_of_several_verifiers_those_that_lack_the_key_are_named(scene: Scene) -> None:
    ready = await scene.verifier()
    lacking = FakeRevocable(failure=KeysUnavailableError("down"))
    with pytest.raises(RotationRefusedError, match=r"fake\.test/ #2") as refusal:
        await scene.rotation(ready, lacking, ready, FakeRevocable()).rotate()
    assert refusal.value.lacking == ("https://fake.test/ #2", "https://fake.test/ #4")
    assert scene.sent("POST") == []


async def test_tenant_without_a_next_key_is_left_alone(scene: Scene) -> None:
    scene.tenant.faults.garbage(b"[]", content_type="application/json", path="/api/v2/keys/signing")
    with pytest.raises(ManagementAPIError, match="0 next keys"):
        await scene.rotation().rotate()
    assert scene.sent("POST") == []


# --- a rotation that fails ---


async def test_rotation_that_the_tenant_refuses_is_told_as_failed(scene: Scene) -> None:
    scene.tenant.faults.status(403, path=ROTATE)
    with pytest.raises(ForbiddenError):
        await scene.rotation().rotate()
    assert scene.steps == ["intended", "warned", "failed"]
    assert scene.events[-1].result == "failed"


async def test_rotation_whose_answer_is_lost_is_told_as_inferred(scene: Scene) -> None:
    scene.tenant.faults.reset(path=ROTATE)
    receipt = await scene.rotation().rotate()
    assert receipt.inferred
    assert scene.sent("POST") == [ROTATE]


async def test_rotation_of_which_nothing_is_known_is_told_as_uncertain(scene: Scene) -> None:
    scene.tenant.faults.status(502, path=ROTATE)
    with pytest.raises(RotationUncertainError) as raised:
        await scene.rotation().rotate()
    assert scene.steps == ["intended", "warned", "uncertain"]
    assert not hasattr(raised.value, "__notes__")
    assert scene.sent("POST") == [ROTATE]


async def test_rotation_that_is_not_known_to_have_happened_is_asked_about_before_another(
    scene: Scene, tmp_path: Path
) -> None:
    rotation = scene.rotation(journal_path=tmp_path / "journal")
    scene.tenant.faults.status(502, path=ROTATE)
    with pytest.raises(RotationUncertainError):
        await rotation.rotate()
    scene.tenant.faults.clear()
    with pytest.raises(RotationUncertainError, match="still the current key"):
        await rotation.rotate()
    assert scene.sent("POST") == [ROTATE]
    await rotation.rotate()  # by somebody who has looked
    assert scene.sent("POST") == [ROTATE, ROTATE]


async def test_rotation_that_came_late_is_not_made_again(scene: Scene, tmp_path: Path) -> None:
    old, new = scene.tenant.key().kid, scene.tenant.key("next").kid
    began = time_of(scene)
    lifetime = timedelta(hours=1)
    rotation = scene.rotation(journal_path=tmp_path / "journal", token_lifetime=lifetime)
    scene.tenant.faults.status(502, path=ROTATE)
    with pytest.raises(RotationUncertainError):
        await rotation.rotate()
    scene.tenant.faults.clear()
    scene.tenant.rotate()
    receipt = await rotation.rotate()
    assert scene.tenant.key().kid == new
    assert (receipt.previous.kid, receipt.current.kid) == (old, new)
    assert receipt.next.kid == scene.tenant.key("next").kid
    assert receipt.inferred
    assert began < receipt.rotated_at <= time_of(scene)
    assert receipt.tokens_expire_by == receipt.rotated_at + lifetime
    assert receipt.warnings
    assert scene.sent("POST") == [ROTATE]
    await rotation.rotate()
    assert scene.sent("POST") == [ROTATE, ROTATE]


async def test_two_planned_rotations_at_once_are_made_one_after_the_other(scene: Scene) -> None:
    rotation = scene.rotation(await scene.verifier())
    first, second = await asyncio.gather(rotation.rotate(), rotation.rotate())
    assert second.previous.kid == first.current.kid
    assert scene.steps == [*["intended", "warned", "rotated", "finished"]] * 2


async def test_same_plan_that_is_carried_out_twice_rotates_once(scene: Scene) -> None:
    current, rotation = scene.tenant.key().kid, scene.rotation()
    done, refused = await asyncio.gather(
        *(rotation.acting_as(name).rotate(current=current) for name in ("ada", "bob")),
        return_exceptions=True,
    )
    assert isinstance(done, RotationReceipt)
    assert isinstance(refused, RotationRefusedError)
    assert scene.sent("POST") == [ROTATE]


async def test_keys_that_somebody_else_rotates_while_verifiers_are_asked_are_not_rotated_twice(
    scene: Scene,
) -> None:
    class Slow(FakeRevocable):
        async def refresh(self) -> None:
            self.kids = {scene.tenant.key("next").kid}
            scene.tenant.rotate()

    kid = scene.tenant.key().kid
    with pytest.raises(RotationRefusedError, match=f"{kid} was when they were looked at"):
        await scene.rotation(Slow()).rotate()
    assert scene.sent("POST") == []
    assert scene.steps == ["intended", "warned", "failed"]


async def test_expiry_that_no_date_can_express_is_not_told(scene: Scene) -> None:
    receipt = await scene.rotation(token_lifetime=timedelta.max).rotate()
    assert receipt.tokens_expire_by is None


# --- a leaked key ---


async def test_leaked_key_is_rotated_out_refused_and_revoked(scene: Scene) -> None:
    verifier = await scene.verifier()
    leaked, stolen = scene.tenant.key().kid, scene.tenant.token()
    rotation = scene.rotation(verifier, token_lifetime=timedelta(hours=2))
    receipt = await rotation.rotate_and_revoke(reason="found in a repository")
    assert scene.tenant.key(leaked).status == "revoked"
    assert await verdict(verifier, stolen) == "revoked_key"
    assert await verdict(verifier, scene.tenant.token()) == "accepted"
    assert scene.sent("POST") == [ROTATE]
    assert scene.sent("PUT") == [revoke_path(leaked)]
    assert scene.steps == [
        "intended",
        "warned",
        "rotated",
        "refused_by",
        "acknowledged",
        "left_jwks",
        "finished",
    ]
    assert receipt.complete
    assert receipt.emergency
    assert receipt.rotation is not None
    assert receipt.rotation.previous.kid == receipt.kid == leaked
    assert receipt.tokens_expire_by == receipt.rotation.tokens_expire_by
    assert receipt.to_dict()["rotation"] == receipt.rotation.to_dict()
    assert verifier.distrusted[leaked].reason == "found in a repository"
    assert f"All tokens signed by {leaked} are refused, " in receipt.consequences


async def test_receipt_says_plainly_which_tokens_die(scene: Scene) -> None:
    leaked = scene.tenant.key().kid
    receipt = await scene.rotation().rotate_and_revoke()
    assert receipt.consequences.startswith(
        f"All tokens signed by {leaked} are refused once a verifier notices the revocation, within "
        "its detection bound, also before they expire."
    )
    leaked = scene.tenant.key().kid
    rotation = scene.rotation(token_lifetime=timedelta(hours=2))
    receipt = await rotation.rotate_and_revoke(leaked)
    last = time_of(scene) + timedelta(hours=2)
    assert f"would have expired {last:%Y-%m-%d %H:%M:%S} UTC" in receipt.consequences
    assert receipt.to_dict()["consequences"] == receipt.consequences


async def test_leaked_key_that_is_not_current_any_more_costs_no_rotation(scene: Scene) -> None:
    leaked, stolen = scene.used_key()
    verifier = await scene.verifier()
    receipt = await scene.rotation(verifier).rotate_and_revoke(leaked)
    assert receipt.rotation is None
    assert receipt.emergency
    assert receipt.complete
    assert scene.sent("POST") == []
    assert await verdict(verifier, stolen) == "revoked_key"


async def test_next_key_can_not_be_rotated_and_revoked(scene: Scene) -> None:
    verifier = await scene.verifier()
    new = scene.tenant.key("next").kid
    with pytest.raises(RevocationRefusedError, match="Rotate first"):
        await scene.rotation(verifier).rotate_and_revoke(new)
    assert scene.sent("POST") == scene.sent("PUT") == []
    assert not verifier.distrusted
    assert scene.events == []


async def test_key_that_is_revoked_already_is_success_and_everybody_is_told(scene: Scene) -> None:
    leaked, stolen = scene.used_key()
    scene.tenant.revoke(leaked)
    scene.tenant.faults.rollback(1, age=None)
    verifier = await scene.verifier()
    assert await verdict(verifier, stolen) == "accepted"
    scene.tenant.faults.clear()
    receipt = await scene.rotation(verifier).rotate_and_revoke(leaked)
    assert receipt.complete
    assert receipt.inferred
    assert scene.sent("POST") == scene.sent("PUT") == []
    assert await verdict(verifier, stolen) == "revoked_key"


async def test_after_an_uncertain_rotation_no_verifier_refuses_and_the_error_says_how_to_go_on(
    scene: Scene, tmp_path: Path
) -> None:
    verifier = await scene.verifier()
    leaked, stolen = scene.tenant.key().kid, scene.tenant.token()
    rotation = scene.rotation(verifier, journal_path=tmp_path / "journal")
    scene.tenant.faults.status(502, path=ROTATE)
    with pytest.raises(RotationUncertainError) as raised:
        await rotation.rotate_and_revoke()
    (note,) = raised.value.__notes__
    assert "No verifier refuses the key yet" in note
    assert "Repeat this call with the kid" in note
    assert await verdict(verifier, stolen) == "accepted"
    assert scene.sent("PUT") == []

    scene.tenant.faults.clear()
    scene.tenant.rotate()  # it was applied after all, but late
    receipt = await rotation.rotate_and_revoke(leaked)
    assert receipt.complete
    assert await verdict(verifier, stolen) == "revoked_key"
    assert scene.sent("POST") == [ROTATE]


async def test_rotation_that_fails_in_an_emergency_leaves_everything_as_it_was(
    scene: Scene, tmp_path: Path
) -> None:
    verifier = await scene.verifier()
    token = scene.tenant.token()
    scene.tenant.faults.status(403, path=ROTATE)
    rotation = scene.rotation(verifier, journal_path=tmp_path / "journal")
    with pytest.raises(ForbiddenError):
        await rotation.rotate_and_revoke()
    assert await verdict(verifier, token) == "accepted"
    assert scene.steps == ["intended", "warned", "failed"]
    assert await rotation.resume() == []


@pytest.mark.parametrize("selector", ["current", "previous", None])
async def test_unreachable_tenant_in_an_emergency_is_answered_with_what_still_can_be_done(
    scene: Scene, selector: str | None
) -> None:
    scene.used_key()
    leaked = selector and scene.tenant.key(selector).kid
    scene.tenant.faults.status(503, path="/api/v2/keys/signing")
    with pytest.raises(UnavailableError) as raised:
        await scene.rotation().rotate_and_revoke(leaked)
    assert "verifier.distrust(kid" in raised.value.__notes__[0]
    assert scene.sent("POST") == []
    assert scene.events == []


async def test_operations_on_kids_and_for_reasons_that_are_no_text_are_refused_at_once(
    scene: Scene,
) -> None:
    rotation = scene.rotation()
    nothing: Any = None
    calls: list[Callable[[], Any]] = [
        lambda: rotation.rotate(reason=""),
        lambda: rotation.revoke("", reason="leaked"),
        lambda: rotation.revoke("kid", reason=nothing),
        lambda: rotation.rotate_and_revoke(reason=""),
        lambda: rotation.reinstate("kid", reason=""),
        lambda: rotation.reinstate(nothing, reason="mistake"),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError):
            await call()
    assert scene.sent("POST") == scene.sent("PUT") == []
    assert scene.events == []


async def test_readiness_of_everybody_can_be_asked_without_rotating(scene: Scene) -> None:
    verifier = await scene.verifier()
    await scene.rotation(verifier).require_prepared(await scene.keys.list())
    with pytest.raises(RotationRefusedError):
        await scene.rotation(FakeRevocable()).require_prepared(await scene.keys.list())
    assert scene.sent("POST") == []


async def test_verifier_on_another_loop_is_told_from_this_one(scene: Scene) -> None:
    leaked, stolen = scene.used_key()
    verifier = TokenVerifier(
        scene.tenant.issuer, scene.tenant.audience, algorithms=["ES256"], clock=scene.clock
    )
    with start_blocking_portal() as elsewhere:
        elsewhere.call(verifier.start)
        await scene.rotation(verifier).rotate()
        receipt = await scene.rotation(verifier).rotate_and_revoke(leaked)
        assert who_refuses(receipt) == [True]
        assert elsewhere.call(verdict, verifier, stolen) == "revoked_key"
        elsewhere.call(verifier.aclose)


async def test_steps_are_logged_at_levels_that_fit_them(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jwks_guard")
    scene.tenant.faults.status(403, path=ROTATE)
    with pytest.raises(ForbiddenError):
        await scene.rotation(actor="ops@acme").rotate()
    levels = {
        record.getMessage().split()[1]: record.levelno
        for record in caplog.records
        if record.getMessage().startswith("rotate ")
    }
    assert levels == {"intended": logging.INFO, "warned": logging.WARNING, "failed": logging.ERROR}
    assert "actor='ops@acme'" in caplog.text
    assert "''" not in caplog.text
