"""The Incident page: what it shows before, during and after, who may begin one, and how many."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from jwks_guard.console import console
from jwks_guard.console.incidents import Incidents
from jwks_guard.readiness.clients import ClientUsage
from jwks_guard.readiness.state import Refusal
from jwks_guard.readiness.usage import KeyUsage
from tests.admin.rotating import ROTATE, SIGNING_KEYS, revoke_path, verdict
from tests.console.providing import provided
from tests.console.support import FakeFleet, instance
from tests.console.test_actions import text_of
from tests.console.visiting import (
    OPERATOR,
    SECRETS,
    VIEWER,
    Browser,
    Stage,
    dialog,
    ending,
    running,
    staged,
)
from tests.support import PATIENCE

LEAKED = "found in a public repository"
Answer = httpx.Response


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


@pytest.fixture
async def browser(stage: Stage) -> AsyncIterator[Browser]:
    async with stage.operator() as browser:
        yield browser


async def begin(browser: Browser, kid: str, **fields: str) -> Answer:
    fields = {"reason": LEAKED, "ending": ending(kid), "how": "rotate-first", **fields}
    return await browser.submit(dialog(kid, "incident"), **fields)


async def settled(browser: Browser) -> Answer:
    """The page once no incident is running, or once the session has ended."""
    async with asyncio.timeout(PATIENCE):
        while True:
            page = await browser.get("/incident")
            if "Running." not in page.text:
                return page
            await asyncio.sleep(0)


async def ended(browser: Browser) -> str:
    """What the page says once no incident is running."""
    page = await settled(browser)
    assert page.status_code == 200
    return text_of(page)


async def accepts(stage: Stage, token: str) -> bool:
    return await verdict(stage.verifier, token) == "accepted"


# --- what it does ---


async def test_leaked_current_key_is_rotated_out_refused_and_revoked(
    stage: Stage, browser: Browser
) -> None:
    tenant = stage.scene.tenant
    kid, token = tenant.key().kid, tenant.token(claims={"azp": "shop", "org_id": "org_1"})
    for _ in range(3):
        await stage.verifier.verify(token)
    answer = await begin(browser, kid)
    assert (answer.status_code, answer.headers["location"]) == (303, "/incident")
    page = await ended(browser)
    assert "All of it is done. The key is refused by every instance, revoked, and gone" in page
    assert LEAKED in page
    assert "by Ada, by operator secret" in page
    assert "1 of 1 acknowledged that it refuses the key." in page
    assert "3 tokens of 1 client in the last hour , as 1 instance shows." in page
    assert "3 of client shop , organization org_1" in page
    assert not await accepts(stage, token)
    assert await accepts(stage, tenant.token())
    assert stage.scene.sent("POST") == [ROTATE]
    assert {event.intent.actor for event in stage.scene.events} == {"Ada, by operator secret"}
    assert stage.scene.steps.index("rotated") < stage.scene.steps.index("refused_by")
    await browser.get(dialog(tenant.key().kid, "rotate"))  # which looks anew
    timeline = text_of(await browser.get("/timeline"))
    assert "Rotate and revoke: whose tokens were accepted" in timeline


async def test_refuse_first_is_a_choice_of_its_own(stage: Stage, browser: Browser) -> None:
    kid = stage.scene.tenant.key().kid
    shown = text_of(await browser.get(dialog(kid, "incident")))
    assert "every valid token is refused, until the tenant has rotated" in shown
    await begin(browser, kid, how="refuse-first")
    assert "All of it is done." in await ended(browser)
    assert stage.scene.steps.index("refused_by") < stage.scene.steps.index("rotated")


async def test_previously_used_key_is_refused_although_the_tenant_is_down(
    stage: Stage, browser: Browser
) -> None:
    kid, token = stage.scene.used_key()
    shown = text_of(await browser.get(dialog(kid, "incident")))
    assert "Rotate first" not in shown
    stage.scene.tenant.faults.status(503, path=SIGNING_KEYS)
    fields = {**browser.fields, "reason": LEAKED, "ending": ending(kid)}
    assert (await browser.post(dialog(kid, "incident"), fields)).status_code == 303
    page = await ended(browser)
    assert "Not everything is done or known." in page
    assert "Begin again" in page
    assert not await accepts(stage, token)


async def test_current_key_of_a_tenant_that_is_down_is_refused_only_by_choice(
    stage: Stage, browser: Browser
) -> None:
    kid, token = stage.scene.tenant.key().kid, stage.scene.tenant.token()
    await browser.get(dialog(kid, "incident"))
    stage.scene.tenant.faults.status(503, path=SIGNING_KEYS)
    shown = text_of(await browser.get(dialog(kid, "incident")))
    assert "The tenant does not answer at the moment." in shown
    await begin(browser, kid)
    page = await ended(browser)
    assert "Nothing was done. Remove the cause that a step names" in page
    assert await accepts(stage, token)
    await begin(browser, kid, how="refuse-first")
    assert "Not everything is done or known." in await ended(browser)
    assert not await accepts(stage, token)


async def test_key_of_a_tenant_that_never_answered_may_be_the_current_one(
    stage: Stage, browser: Browser
) -> None:
    stage.scene.tenant.faults.status(503, path=SIGNING_KEYS)
    kid, token = stage.scene.tenant.key().kid, stage.scene.tenant.token()
    shown = text_of(await browser.get(dialog(kid, "incident")))
    assert "The tenant has not answered this console" in shown
    assert "If it is the current key, the tenant rotates" in shown
    assert "Refuse it first" in shown
    await begin(browser, kid)
    assert "Nothing was done." in await ended(browser)
    assert await accepts(stage, token)


async def test_run_again_it_does_what_is_left_and_never_rotates_twice(
    stage: Stage, browser: Browser
) -> None:
    kid = stage.scene.tenant.key().kid
    stage.scene.tenant.faults.status(500, path=revoke_path(kid))
    await begin(browser, kid)
    assert "Not everything is done or known." in await ended(browser)
    stage.scene.tenant.faults.clear()
    await begin(browser, kid)
    page = await ended(browser)
    assert "All of it is done." in page
    assert "Earlier incidents" in page
    assert stage.scene.sent("POST") == [ROTATE]


async def test_without_a_tenant_the_key_is_refused_and_that_is_said_before() -> None:
    async with staged(with_tenant=False) as alone, alone.operator() as browser:
        kid, token = alone.scene.tenant.key().kid, alone.scene.tenant.token()
        await alone.verifier.verify(token)
        shown = text_of(await browser.get(dialog(kid, "incident")))
        assert "This console has no access to a Management API" in shown
        await begin(browser, kid)
        page = await ended(browser)
        assert "At the tenant nothing was changed: rotate and revoke it there." in page
        assert not await accepts(alone, token)
        assert "a verifier refuses the key" in text_of(await browser.get("/timeline"))


async def test_key_that_nobody_knows_is_refused(stage: Stage, browser: Browser) -> None:
    shown = text_of(await browser.get(dialog("of-an-attacker", "incident")))
    assert "The tenant does not know this key" in shown
    assert (await begin(browser, "of-an-attacker")).status_code == 303
    await ended(browser)
    assert "of-an-attacker" in stage.verifier.distrusted


# --- what it shows before ---


async def test_dialog_shows_the_plan_and_whom_it_hits(stage: Stage, browser: Browser) -> None:
    tenant = stage.scene.tenant
    kid = tenant.key().kid
    await stage.verifier.verify(tenant.token(claims={"azp": "shop"}))
    shown = text_of(await browser.get(dialog(kid, "incident")))
    assert "1 token of 1 client" in shown
    page = text_of(await browser.get("/incident"))
    assert "1 token of 1 client in the last hour" in page
    assert f"{kid} current, becomes revoked accepted by 1 of 1 instance refused by every" in shown
    order = ["Whose tokens", "The tenant is asked", "The tenant rotates", "Every instance refuses"]
    places = [
        shown.index(text) for text in [*order, "The tenant revokes", "It waits until the key"]
    ]
    assert places == sorted(places)
    assert "A revocation can't be undone" in shown
    assert "SAML and WS-Fed parties" in shown


async def test_names_of_clients_are_text_and_nothing_else(stage: Stage) -> None:
    clock = stage.scene.clock
    clients = (ClientUsage("<b>shop</b>", "<i>org</i>", 7),)
    usage = {"k": KeyUsage(accepted=9, clients=clients, other_clients=2)}
    fleet = FakeFleet(instance("a", clock, kids=("k",), usage=usage))
    app = console(None, fleet, login=SECRETS, clock=clock)
    async with running(app), stage.operator(app=app) as browser:
        for path in ("/keys", "/incident", dialog("k", "incident")):
            page = await browser.get(path)
            assert "9 tokens of 1 client and others" in text_of(page)
            assert "<b>shop" not in page.text
            assert "<i>org" not in page.text
        assert "7 of client <b>shop</b> , organization <i>org</i> 2 all others" in text_of(
            await browser.get("/keys")
        )


# --- who may ---


async def test_viewer_sees_it_and_begins_none(stage: Stage) -> None:
    kid, token = stage.scene.tenant.key().kid, stage.scene.tenant.token()
    async with stage.browser() as browser:
        await browser.log_in(VIEWER, "Vera")
        page = await browser.get("/incident")
        assert page.status_code == 200
        assert "has leaked</a>" not in page.text
        assert "An operator begins one" in text_of(page)
        fields = {**browser.fields, "subject": kid, "reason": LEAKED, "ending": ending(kid)}
        assert (await browser.get(dialog(kid, "incident"))).status_code == 403
        answer = await browser.post(dialog(kid, "incident"), {**fields, "how": "refuse-first"})
        assert answer.status_code == 403
    assert await accepts(stage, token)
    assert not stage.scene.events


async def test_form_of_another_site_or_session_begins_none(stage: Stage, browser: Browser) -> None:
    kid, token = stage.scene.tenant.key().kid, stage.scene.tenant.token()
    await browser.get(dialog(kid, "incident"))
    fields = {**browser.fields, "reason": LEAKED, "ending": ending(kid), "how": "rotate-first"}
    path = dialog(kid, "incident")
    for headers in (
        {"origin": "https://evil.test", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert (await browser.post(path, fields, **headers)).status_code == 403
    assert (await browser.post(path, {**fields, "csrf": "guessed"})).status_code == 403
    assert await accepts(stage, token)
    assert not stage.scene.events
    assert (await browser.post(path, fields)).status_code == 303


@pytest.mark.parametrize(
    "fields",
    [{"reason": " "}, {"ending": "????"}, {"how": ""}, {"how": "planned"}, {"subject": "other"}],
)
async def test_form_that_is_not_filled_in_begins_none(
    stage: Stage, browser: Browser, fields: dict[str, str]
) -> None:
    answer = await begin(browser, stage.scene.tenant.key().kid, **fields)
    assert answer.status_code == 400
    assert "Nothing was done." in text_of(answer)
    assert not stage.scene.events


async def test_log_in_at_the_guarded_issuer_takes_the_operator_secret_too() -> None:
    async with provided(guarded=True, operator_secret=OPERATOR) as setting:
        kid = setting.provider.key().kid
        async with setting.browser() as browser:
            await setting.log_in(browser)
            for secret in ("", "a-guess-of-a-secret"):
                answer = await begin(browser, kid, secret=secret)
                assert answer.status_code == 400
                assert "The operator secret is wrong." in answer.text
            assert not setting.stage.scene.events
            assert (await begin(browser, kid, secret=OPERATOR)).status_code == 303
            # The key of the ID token is refused, which ends the session, and nothing else.
            assert (await settled(browser)).status_code == 303
    assert setting.stage.scene.steps[-1] == "finished"


async def test_log_in_at_the_guarded_issuer_without_that_secret_begins_none() -> None:
    async with provided(guarded=True) as setting, setting.browser() as browser:
        await setting.log_in(browser)
        answer = await browser.get(dialog(setting.provider.key().kid, "incident"))
        assert answer.status_code == 403


# --- one at a time, seen by everybody ---


async def test_second_one_is_refused_while_one_runs_and_everybody_sees_that_one(
    stage: Stage, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jwks_guard")
    tenant = stage.scene.tenant
    kid, other = tenant.key().kid, tenant.key("next").kid
    await browser.get(dialog(kid, "incident"))
    fields = {**browser.fields, "reason": LEAKED, "ending": ending(kid), "how": "rotate-first"}
    hanging = tenant.faults.hold(path=revoke_path(kid))
    path = dialog(kid, "incident")
    answers = await asyncio.gather(*(browser.post(path, fields) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [303, 409, 409]
    (first, *_) = [answer for answer in answers if answer.status_code == 409]
    assert f"An incident is running, for the key {kid}. Nothing was done." in text_of(first)
    assert (await browser.get(dialog(other, "incident"))).status_code == 409
    async with stage.browser() as viewer:
        await viewer.log_in(VIEWER, "Vera")
        await hanging.arrived.wait(PATIENCE)
        shown = text_of(await viewer.get("/incident"))
        assert "Revoke began" in shown
        assert "Running. It goes on when you close this page." in shown
        assert "Which key has leaked?" not in shown
        assert "1 of 1 acknowledged" in shown
        assert "An incident is running for" in text_of(await viewer.get("/keys"))
        hanging.release()
        assert "All of it is done." in await ended(viewer)
    assert stage.scene.sent("POST") == [ROTATE]
    records = [r.__dict__ for r in caplog.records if getattr(r, "kind", "") == "console_action"]
    assert [(r["result"], r["action"], r["subject"], r["actor"]) for r in records] == [
        ("done", "incident", kid, "Ada, by operator secret")
    ]


async def test_error_that_nobody_expected_is_said_and_ends_a_step_alone(stage: Stage) -> None:
    fleet = FakeFleet()
    fleet.failure = RuntimeError("a bug of the fleet")
    app = console(None, fleet, login=SECRETS, clock=stage.scene.clock)
    async with running(app), stage.operator(app=app) as browser:
        assert (await begin(browser, "k")).status_code == 303
        page = await ended(browser)
        assert "RuntimeError, which was not expected; see the log." in page
        assert "acknowledge" in page, "the steps after it were done"
        assert (await begin(browser, "k")).status_code == 303  # it keeps no other from beginning


class HalfDeaf(FakeFleet):
    """One instance refuses what it is told; another one has fallen silent."""

    async def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> Sequence[Refusal]:
        hears, deaf = self.states
        at = datetime.fromtimestamp(hears.reported_at, UTC)
        self.states = (replace(hears, refused={kid: hears.reported_at}), deaf)
        return [Refusal(hears.name, at), Refusal(deaf.name, None, "it is silent")]


async def test_instance_that_has_not_acknowledged_is_named(stage: Stage) -> None:
    clock = stage.scene.clock
    long_ago = clock.time() - 600
    fleet = HalfDeaf(
        instance("a", clock, kids=("k",)), instance("b", clock, reported_at=long_ago, kids=("k",))
    )
    app = console(None, fleet, login=SECRETS, clock=clock)
    async with running(app), stage.operator(app=app) as browser:
        await begin(browser, "k")
        page = await ended(browser)
        assert "Not everything is done or known." in page
        assert "1 of 2 acknowledged that they refuse the key. Missing host-b" in page
        assert "it has not acknowledged the decision" in page


# --- the record, and what is known after a restart ---


async def test_record_is_downloaded_by_whoever_may_look(stage: Stage, browser: Browser) -> None:
    kid = stage.scene.tenant.key().kid
    await begin(browser, kid)
    await ended(browser)
    operation = stage.scene.events[0].intent.operation
    async with stage.browser() as viewer:
        assert (await viewer.get(f"/incident/{operation}/record.md")).status_code == 303
        await viewer.log_in(VIEWER, "Vera")
        text = await viewer.get(f"/incident/{operation}/record.md")
        assert text.headers["content-type"] == "text/markdown; charset=utf-8"
        assert text.headers["content-disposition"].startswith('attachment; filename="incident-')
        assert text.text.startswith(f"# A leaked key: `{kid}`")
        assert LEAKED in text.text
        told = json.loads((await viewer.get(f"/incident/{operation}/record.json")).text)
        assert (told["kid"], told["complete"], told["operation"]) == (kid, True, operation)
        assert told["actor"] == "Ada, by operator secret"
        missing = await viewer.get("/incident/0123456789abcdef/record.md")
        assert missing.status_code == 404
        assert "There is no such record." in text_of(missing)


async def test_after_a_restart_the_page_says_what_the_journal_tells(
    stage: Stage, tmp_path: Path
) -> None:
    tenant = stage.scene.tenant
    kid = tenant.key().kid
    rotation = stage.scene.rotation(stage.verifier, journal_path=tmp_path / "journal.jsonl")
    clock = stage.scene.clock
    tenant.faults.status(500, path=revoke_path(kid))
    app = console(rotation, stage.verifier, login=SECRETS, clock=clock)
    async with running(app), stage.operator(app=app) as browser:
        await begin(browser, kid)
        assert "In the journal" not in await ended(browser)
    tenant.faults.clear()
    page = await page_after_restart(stage, tmp_path)
    assert "Not finished, as far as the journal tells." in page
    assert LEAKED in page
    assert "by Ada, by operator secret" in page
    assert "Rotate and revoke: the tenant has rotated" in page
    assert "Begin again" in page

    restarted = stage.scene.rotation(stage.verifier, journal_path=tmp_path / "journal.jsonl")
    app = console(restarted, stage.verifier, login=SECRETS, clock=clock)
    async with running(app), stage.operator(app=app) as browser:
        await begin(browser, kid)
        assert "All of it is done." in await ended(browser)
    assert "All of it was done , by an earlier run" in await page_after_restart(stage, tmp_path)
    assert stage.scene.sent("POST") == [ROTATE]


async def page_after_restart(stage: Stage, folder: Path) -> str:
    """What another run of the console, with the same journal, says."""
    rotation = stage.scene.rotation(stage.verifier, journal_path=folder / "journal.jsonl")
    app = console(rotation, stage.verifier, login=SECRETS, clock=stage.scene.clock)
    async with running(app), stage.operator(app=app) as browser:
        return text_of(await browser.get("/incident"))


async def test_page_that_can_not_be_drawn_does_not_keep_the_key_accepted(stage: Stage) -> None:
    def broken() -> None:
        raise RuntimeError("a bug of a page")

    kid, token = stage.scene.tenant.key().kid, stage.scene.tenant.token()
    incidents = Incidents(
        stage.rotation, stage.verifier, stage.scene.clock, stage.scene.events.append
    )
    incidents.begin(kid, LEAKED, refuse_first=False, actor="Ada")
    report = await incidents.follow(broken)
    assert report.complete
    assert not incidents.shown()[0].running
    assert not await accepts(stage, token)
