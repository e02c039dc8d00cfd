"""The actions: what each dialog shows and asks, what it does, and how it is refused."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from jwks_guard.console import console
from jwks_guard.errors import DistrustNotSharedError
from jwks_guard.readiness.state import InstanceState
from tests.admin.rotating import ROTATE, SIGNING_KEYS, verdict
from tests.console.support import FakeFleet
from tests.console.visiting import SECRETS, VIEWER, Browser, Stage, dialog, ending, running, staged

Answer = httpx.Response


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


@pytest.fixture
async def browser(stage: Stage) -> AsyncIterator[Browser]:
    async with stage.operator() as browser:
        yield browser


def text_of(answer: Answer) -> str:
    """What a person reads."""
    main = answer.text[answer.text.index("<main") :]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", main)))


async def act(browser: Browser, kid: str, action: str, **fields: str) -> Answer:
    fields = {"reason": "planned", "ending": ending(kid), **fields}
    return await browser.submit(dialog(kid, action), **fields)


async def accepts(stage: Stage, token: str) -> bool:
    return await verdict(stage.verifier, token) == "accepted"


# --- each of them ---


async def test_rotation_by_its_dialog(stage: Stage, browser: Browser) -> None:
    tenant = stage.scene.tenant
    current, following = tenant.key().kid, tenant.key("next").kid
    page = await browser.get(dialog(current, "rotate"))
    assert f"<code>jwks-guard keys show {following} --pem</code>" in page.text
    shown = text_of(page)
    assert "Signatures accepted after this step" in shown
    assert f"{current} current, becomes previously used accepted by 1 of 1 instance" in shown
    assert f"{following} next, becomes current" in shown
    assert "A rotation can't be undone" in shown
    assert "SAML and WS-Fed parties" in shown
    answer = await act(browser, current, "rotate")
    assert (answer.status_code, tenant.key().kid) == (200, following)
    assert f"Done. {following} signs new tokens." in text_of(answer)
    assert {event.intent.actor for event in stage.scene.events} == {"Ada, by operator secret"}
    assert stage.scene.events[0].intent.reason == "planned"
    told = (await browser.get("/timeline")).text
    assert f"<code>jwks-guard keys show {following} --pem</code>" in told


async def test_rotation_form_that_is_sent_twice_rotates_once(
    stage: Stage, browser: Browser
) -> None:
    tenant = stage.scene.tenant
    current, following = tenant.key().kid, tenant.key("next").kid
    path = dialog(current, "rotate")
    await browser.get(path)
    fields = {**browser.fields, "reason": "planned", "ending": ending(current)}
    answers = await asyncio.gather(*(browser.post(path, fields) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    again = await browser.post(path, fields)
    assert "The keys have changed meanwhile" in text_of(again)
    assert tenant.key().kid == following


async def test_double_click_on_rotate_and_revoke_rotates_once(
    stage: Stage, browser: Browser
) -> None:
    tenant = stage.scene.tenant
    leaked, following = tenant.key().kid, tenant.key("next").kid
    path = dialog(leaked, "rotate-and-revoke")
    await browser.get(path)
    fields = {**browser.fields, "reason": "leaked", "ending": ending(leaked)}
    answers = await asyncio.gather(*(browser.post(path, fields) for _ in range(2)))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert stage.scene.sent("POST").count(ROTATE) == 1
    assert tenant.key().kid == following


async def test_revocation_that_is_not_ready_is_refused_and_says_why(
    stage: Stage, browser: Browser
) -> None:
    kid, token = stage.scene.used_key()
    shown = text_of(await browser.get(dialog(kid, "revoke")))
    assert "The lifetime of the tenant's access tokens is not set" in shown
    assert "A revocation can't be undone" in shown
    assert f"{kid} previously used, becomes revoked" in shown
    answer = await act(browser, kid, "revoke", how="planned")
    assert answer.status_code == 409
    refused = text_of(answer)
    assert f"Nothing was done. {kid} is not ready to be revoked." in refused
    assert "has been watched for 0 s; the quiet period is 10 min." in refused
    assert await accepts(stage, token)
    assert not stage.scene.sent("PUT")


async def test_revocation_that_is_not_ready_is_forced_with_a_reason(
    stage: Stage, browser: Browser
) -> None:
    kid, token = stage.scene.used_key()
    answer = await act(browser, kid, "revoke", how="forced", reason="the auditors insist")
    assert answer.status_code == 200
    assert f"{kid} is revoked at the tenant." in text_of(answer)
    assert not await accepts(stage, token)
    assert "forced" in stage.scene.steps
    assert stage.scene.events[0].intent.reason == "the auditors insist"


async def test_leaked_key_is_refused_before_it_is_revoked(stage: Stage, browser: Browser) -> None:
    kid, token = stage.scene.used_key()
    answer = await act(browser, kid, "revoke", how="emergency")
    assert answer.status_code == 200
    steps = stage.scene.steps
    assert steps.index("refused_by") < steps.index("acknowledged")
    assert not await accepts(stage, token)


async def test_leaked_current_key_is_rotated_out_and_revoked(
    stage: Stage, browser: Browser
) -> None:
    tenant = stage.scene.tenant
    kid, token = tenant.key().kid, tenant.token()
    await stage.verifier.verify(token)
    shown = text_of(await browser.get(dialog(kid, "rotate-and-revoke")))
    assert f"{kid} current, becomes revoked accepted by 1 of 1 instance refused by every" in shown
    answer = await act(browser, kid, "rotate-and-revoke", reason="in a public repository")
    assert answer.status_code == 200
    assert not await accepts(stage, token)
    assert await accepts(stage, tenant.token())
    again = await browser.post(
        dialog(kid, "rotate-and-revoke"),
        {**browser.fields, "subject": kid, "reason": "again", "ending": ending(kid)},
    )
    assert again.status_code in (200, 403)  # the page that was answered has no token
    assert stage.scene.sent("POST") == ["/api/v2/keys/signing/rotate"]


async def test_current_key_is_never_revoked(stage: Stage, browser: Browser) -> None:
    kid = stage.scene.tenant.key().kid
    for how in ("planned", "forced", "emergency"):
        answer = await act(browser, kid, "revoke", how=how)
        assert answer.status_code in (400, 409)
    assert "current key" in text_of(answer)
    assert not stage.scene.sent("PUT")


async def test_key_is_distrusted_and_reinstated(stage: Stage, browser: Browser) -> None:
    kid, token = stage.scene.used_key()
    await stage.verifier.verify(stage.scene.tenant.token())
    answer = await act(browser, kid, "distrust", how="planned", reason="<b>odd</b>")
    assert answer.status_code == 200
    assert "1 of 1 confirm that they refuse it" in text_of(answer)
    assert not await accepts(stage, token)
    first = stage.scene.events[0].intent
    assert (first.action, first.actor) == ("distrust", "Ada, by operator secret")
    page = (await browser.get("/keys")).text
    assert "&lt;b&gt;odd&lt;/b&gt;" in page
    assert "<b>odd" not in page
    assert "by Ada, by operator secret" in text_of(await browser.get("/keys"))
    told = text_of(await browser.get("/timeline"))
    distrusted = "Distrusted: every instance is to refuse the key by Ada, by operator secret"
    assert distrusted in " ".join(told.split())
    answer = await act(browser, kid, "reinstate", reason="the wrong key")
    assert answer.status_code == 200
    assert await accepts(stage, token)
    timeline = text_of(await browser.get("/timeline"))
    assert "the wrong key" in timeline
    assert "Ada, by operator secret" in timeline


async def test_only_trusted_key_is_distrusted_by_a_choice_of_its_own(
    stage: Stage, browser: Browser
) -> None:
    tenant = stage.scene.tenant
    kid, token = tenant.key().kid, tenant.token()
    tenant.remove(tenant.key("next").kid)
    await stage.verifier.keys.refresh()
    answer = await act(browser, kid, "distrust", how="planned")
    assert answer.status_code == 409
    assert "This is the only trusted key" in text_of(answer)
    assert "with force=True or emergency=True it is a choice in the dialog" in text_of(
        answer
    ).replace("`", "")
    assert await accepts(stage, token)
    shown = text_of(await browser.get(dialog(kid, "distrust")))
    assert "An instance that trusts no other key then refuses every request" in shown
    answer = await act(browser, kid, "distrust", how="forced")
    assert answer.status_code == 200
    assert not await accepts(stage, token)


async def test_key_that_nobody_knows_can_be_distrusted(stage: Stage, browser: Browser) -> None:
    kid = "pasted-from-the-token"
    assert (await browser.get(dialog(kid, "revoke"))).status_code == 404
    assert "No instance knows this key" in text_of(await browser.get(dialog(kid, "distrust")))
    assert (await act(browser, kid, "distrust", how="planned")).status_code == 200
    assert kid in stage.verifier.distrusted


async def test_key_that_was_never_distrusted_can_not_be_reinstated(
    stage: Stage, browser: Browser
) -> None:
    answer = await act(browser, stage.scene.tenant.key().kid, "reinstate")
    assert answer.status_code == 409
    assert "Nothing was done." in text_of(answer)


# --- what a dialog asks ---


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"reason": ""}, "Write the reason"),
        ({"reason": "  \n"}, "Write the reason"),
        ({"reason": "x" * 1001}, "Write the reason"),
        ({"ending": ""}, "That is not how the kid ends"),
        ({"ending": "????"}, "That is not how the kid ends"),
        ({"how": ""}, "Choose how"),
        ({"how": "quietly"}, "Choose how"),
        ({"subject": "another"}, "about another key"),
        ({"subject": ""}, "about another key"),
    ],
)
async def test_form_that_is_not_filled_in_does_nothing_and_keeps_the_reason(
    stage: Stage, browser: Browser, fields: dict[str, str], why: str
) -> None:
    kid, token = stage.scene.used_key()
    usual = {"how": "emergency", "reason": "because"}
    answer = await act(browser, kid, "revoke", **{**usual, **fields})
    assert answer.status_code == 400
    assert why in text_of(answer)
    assert "Nothing was done" in text_of(answer)
    assert f">{fields.get('reason', 'because')}</textarea>" in answer.text
    assert await accepts(stage, token)
    assert not stage.scene.events


async def test_end_of_another_key_does_nothing(stage: Stage, browser: Browser) -> None:
    tenant = stage.scene.tenant
    answer = await act(
        browser, tenant.key().kid, "rotate-and-revoke", ending=ending(tenant.key("next").kid)
    )
    assert answer.status_code == 400
    assert not stage.scene.events


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a/b/../c",
    "..",
    "a%2Fb%00",
    "100%",
    "a?b#c",
    "x/revoke",
    "{{ 7*7 }}",
    "\u202egpj.exe",
    "k" * 512,
    "  spaced ",
)


@pytest.mark.parametrize("kid", HOSTILE)
async def test_kid_is_text_and_nothing_else(stage: Stage, browser: Browser, kid: str) -> None:
    await stage.verifier.distrust(kid, reason=f"{kid} {kid}"[:900], force=True)
    stage.scene.clock.advance(3)  # pages show what was seen 2 s ago
    for path in (dialog(kid, "reinstate"), "/keys", "/timeline"):
        if kid == ".." and path.startswith("/keys/"):
            continue  # no browser and no client can write that address
        answer = await browser.get(path)
        assert answer.status_code == 200
        assert html.escape(kid, quote=False)[:300] in answer.text.replace("&#34;", '"')
        for tag in ("<script>alert", "<img src=x"):
            assert tag not in answer.text
        assert set(answer.headers).isdisjoint({"x", "location"})
        assert "set-cookie" not in answer.headers
    if kid == "..":
        return
    answer = await act(browser, kid, "reinstate", ending=kid.strip()[-4:].strip())
    assert answer.status_code == 200, text_of(answer)
    assert kid not in stage.verifier.distrusted


async def test_kid_that_is_another_path_is_acted_on_as_it_was_shown(
    stage: Stage, browser: Browser
) -> None:
    """A browser shortens a/../b: the form then says for which key it was made."""
    victim = stage.scene.tenant.key().kid
    kid = f"x/../{victim}"
    await stage.verifier.distrust(kid, reason="odd", force=True)
    page = await browser.get(dialog(kid, "distrust"))
    action = re.search(r'action="(/keys/[^"]*)"', page.text)
    assert action is not None
    assert action[1] == f"/keys/x%2F..%2F{victim}/distrust"
    fields = {"reason": "odd", "how": "forced", "ending": ending(kid)}
    answer = await browser.post(dialog(victim, "distrust"), {**browser.fields, **fields})
    assert answer.status_code == 400
    assert await accepts(stage, stage.scene.tenant.token())


@pytest.mark.parametrize("kid", ["", "k" * 513, "a%0D%0ASet-Cookie:%20x=y"])
async def test_what_can_be_no_kid_is_no_page(stage: Stage, browser: Browser, kid: str) -> None:
    answer = await browser.get(f"/keys/{kid}/distrust")
    assert (answer.status_code, "set-cookie" in answer.headers) == (404, False)


# --- failures ---


async def test_tenant_that_is_down_is_told_with_the_next_step(
    stage: Stage, browser: Browser
) -> None:
    tenant = stage.scene.tenant
    kid, token = tenant.key().kid, tenant.token()
    await browser.get("/keys")
    page = await browser.get(dialog(kid, "rotate-and-revoke"))
    assert page.status_code == 200
    tenant.faults.status(503, path=SIGNING_KEYS)
    fields = {**browser.fields, "reason": "leaked", "ending": ending(kid)}
    answer = await browser.post(dialog(kid, "rotate-and-revoke"), fields)
    assert answer.status_code == 503
    assert "No verifier refuses the key yet." in text_of(answer)
    assert await accepts(stage, token)
    timeline = text_of(await browser.get("/timeline"))
    assert "Rotate and revoke the current key: not done" in timeline


async def test_viewer_spends_nothing_of_what_the_tenant_answers(stage: Stage) -> None:
    kid = stage.scene.tenant.key().kid
    async with stage.browser() as viewer:
        await viewer.log_in(VIEWER)
        await viewer.get("/keys")
        asked = len(stage.scene.tenant.requests)
        for _ in range(5):
            assert (await viewer.get(dialog(kid, "rotate"))).status_code == 403
        assert len(stage.scene.tenant.requests) == asked


async def test_page_that_is_opened_right_after_an_action_shows_it(
    stage: Stage, browser: Browser
) -> None:
    kid, _ = stage.scene.used_key()
    await browser.get("/keys")
    await act(browser, kid, "distrust", how="planned")
    assert "Distrusted since" in text_of(await browser.get("/keys"))


class Broken(FakeFleet):
    async def reinstate(self, kid: str, *, reason: str, actor: str | None = None) -> None:
        raise RuntimeError("a secret detail")


async def test_error_that_nobody_foresaw_is_told_and_audited(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jwks_guard")
    fleet = Broken()
    app = console(None, fleet, login=SECRETS, clock=stage.scene.clock)
    async with running(app), stage.operator(app=app) as browser:
        await act(browser, "a", "distrust", how="forced")
        answer = await act(browser, "a", "reinstate")
        assert answer.status_code == 500
        assert "RuntimeError, which was not expected" in text_of(answer)
        assert "secret detail" not in answer.text
        assert "Reinstate a key: not done" in text_of(await browser.get("/timeline"))
    records = [r.__dict__ for r in caplog.records if getattr(r, "kind", "") == "console_action"]
    assert [(r["result"], r["action"]) for r in records] == [
        ("done", "distrust"),
        ("refused", "reinstate"),
    ]
    caplog.clear()


async def test_lift_undoes_no_decision_that_was_made_after_its_page_was_opened(
    stage: Stage, browser: Browser
) -> None:
    kid, token = stage.scene.used_key()
    await act(browser, kid, "distrust", how="planned")
    await browser.get(dialog(kid, "reinstate"))
    old = {**browser.fields, "reason": "false alarm", "ending": ending(kid)}
    async with stage.operator() as other:
        await act(other, kid, "reinstate")
        stage.scene.clock.advance(60)
        await act(other, kid, "distrust", how="planned", reason="it did leak")
    answer = await browser.post(dialog(kid, "reinstate"), old)
    assert answer.status_code == 400
    assert "has changed since this page was opened" in text_of(answer)
    assert "it did leak" in text_of(answer)
    assert not await accepts(stage, token)
    assert (await act(browser, kid, "reinstate")).status_code == 200
    assert await accepts(stage, token)


class Slow(FakeFleet):
    """Distrusts when it is let go on, and can't store that."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> None:
        await self.go_on.wait()
        await super().distrust(kid, reason=reason, force=force)
        raise DistrustNotSharedError("the disk is full")


async def test_action_goes_on_without_the_page_that_waits_for_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jwks_guard")
    fleet = Slow()
    app = console(None, fleet, login=SECRETS, clock=stage.scene.clock, action_wait=0.05)
    async with running(app):
        async with stage.operator(app=app) as browser:
            answer = await act(browser, "a", "distrust", how="forced")
            assert answer.status_code == 202
            assert "goes on without this page" in text_of(answer)
            assert not fleet.decisions
        fleet.go_on.set()
    assert fleet.decisions["a"].reason == "planned"
    records = [r.__dict__ for r in caplog.records if getattr(r, "kind", "") == "console_action"]
    assert [(r["result"], r["action"], r["subject"], r["actor"]) for r in records] == [
        ("incomplete", "distrust", "a", "Ada, by operator secret")
    ]


async def test_action_that_the_end_of_the_console_cuts_off_is_audited(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = Slow()
    app = console(None, fleet, login=SECRETS, clock=stage.scene.clock, action_wait=0.05)
    before = asyncio.all_tasks()
    async with running(app), stage.operator(app=app) as browser:
        await act(browser, "a", "distrust", how="forced")
    cut_off = asyncio.all_tasks() - before
    for task in cut_off:  # as the end of an event loop does
        task.cancel()
    await asyncio.wait(cut_off)
    records = [r.__dict__ for r in caplog.records if getattr(r, "kind", "") == "console_action"]
    assert [(r["result"], r["actor"], r["reason"]) for r in records] == [
        ("incomplete", "Ada, by operator secret", "planned")
    ]
    assert "The console ended before the action did" in records[0]["detail"]


# --- without a Management API ---


class Remembering(FakeFleet):
    """A fleet with one instance that reports and one that has ended."""

    def __init__(self, now: float) -> None:
        super().__init__(self.shown("1" * 32, now), self.shown("2" * 32, now - 600))

    def shown(self, instance: str, at: float) -> InstanceState:
        return InstanceState(
            instance=instance,
            host="<i>web</i>",
            issuer=self.issuer,
            started_at=at,
            reported_at=at,
            status="ok",
            confirmed_at=at,
            trusted_until=at + 600,
            kids=("a", "b"),
        )

    async def dismiss(self, instance: str) -> int:
        before = len(self.states)
        self.states = tuple(state for state in self.states if state.instance != instance)
        return before - len(self.states)


async def test_without_a_tenant_keys_are_refused_and_nothing_else(stage: Stage) -> None:
    async with staged(with_tenant=False) as alone, alone.operator() as browser:
        kid, token = alone.scene.tenant.key().kid, alone.scene.tenant.token()
        await alone.verifier.verify(token)
        for action in ("rotate", "revoke", "rotate-and-revoke"):
            answer = await browser.get(dialog(kid, action))
            assert answer.status_code == 404
            answer = await browser.post(dialog(kid, action), browser.fields)
            assert answer.status_code in (403, 404)
        answer = await act(browser, kid, "distrust", how="forced", reason="leaked")
        assert answer.status_code == 200
        assert not await accepts(alone, token)
        timeline = text_of(await browser.get("/timeline"))
        assert "Ada, by operator secret" in timeline
        assert (await act(browser, kid, "reinstate")).status_code == 200
        assert await accepts(alone, token)


async def test_without_a_tenant_an_instance_is_dismissed(stage: Stage) -> None:
    fleet = Remembering(stage.scene.clock.time())
    app = console(None, fleet, login=SECRETS, clock=stage.scene.clock)
    async with running(app), stage.operator(app=app) as browser:
        answer = await browser.submit(f"/instances/{'2' * 32}/dismiss", reason="scaled down")
        assert answer.status_code == 200
        assert "scaled down" in text_of(await browser.get("/timeline"))
    assert len(fleet.states) == 1


async def test_key_that_is_revoked_stays_refused_when_it_is_reinstated(
    stage: Stage, browser: Browser
) -> None:
    kid, token = stage.scene.used_key()
    await act(browser, kid, "revoke", how="emergency")
    shown = text_of(await browser.get(dialog(kid, "reinstate")))
    assert "The tenant has revoked this key and does not list it: it stays refused" in shown
    assert "still refused: revoked" in shown
    assert not await accepts(stage, token)


async def test_tenant_whose_keys_are_unclear_is_shown_as_that(
    stage: Stage, browser: Browser
) -> None:
    tenant = stage.scene.tenant
    current = tenant.key().kid
    listed = await stage.scene.keys.list()
    body = json.dumps([{**key.to_dict(), "next": False} for key in listed])
    tenant.faults.garbage(body.encode(), content_type="application/json", path=SIGNING_KEYS)
    stage.scene.clock.advance(60)
    shown = text_of(await browser.get(dialog(current, "rotate")))
    assert "The tenant lists 0 next keys instead of one" in shown


async def test_instance_that_has_ended_is_dismissed_and_no_other(stage: Stage) -> None:
    fleet = Remembering(stage.scene.clock.time())
    rotation = stage.scene.rotation(fleet)
    app = console(rotation, fleet, login=SECRETS, clock=stage.scene.clock)
    async with running(app), stage.operator(app=app) as browser:
        page = await browser.get("/instances")
        assert "<i>web" not in page.text
        path = f"/instances/{'1' * 32}/dismiss"
        assert "still reports: this will be refused" in text_of(await browser.get(path))
        answer = await browser.submit(path, reason="scaled down")
        assert answer.status_code == 409
        assert "still reports" in text_of(answer)
        path = f"/instances/{'2' * 32}/dismiss"
        answer = await browser.submit(path, reason="scaled down")
        assert answer.status_code == 200
        assert "<i>web</i> (22222222) is forgotten" in text_of(answer)
        assert [state.instance[0] for state in fleet.states] == ["1"]
        assert (await browser.get(path)).status_code == 404
    assert stage.scene.events[-1].intent.instance == "2" * 32
    assert stage.scene.events[-1].intent.actor == "Ada, by operator secret"
