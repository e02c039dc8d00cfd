"""The pages in a real Chromium: accessible, live, and honest about a lost connection."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from jwks_guard.console import OperatorSecrets
from tests.console.axe import axe_source, violations
from tests.console.staging import Stage, staged
from tests.process.programs import wait_until
from tests.redis_server import RedisServer
from tests.support import PATIENCE
from tests.swagger_ui import chromium

pytestmark = pytest.mark.outside
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
PATHS = ["/keys", "/instances", "/timeline"]

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def axe() -> str:
    return axe_source()


@pytest.fixture
def stage(redis: RedisServer) -> Iterator[Stage]:
    with staged(redis) as stage:
        yield stage


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """The page, in a profile of its own; no error may reach its console."""
    wrong: list[str] = []
    with browser.new_context(**options) as context:
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url)
        yield page
    assert not wrong


def leaked(stage: Stage) -> str:
    """The kid of a key that was rotated out, and that every verifier distrusts."""
    stage.call()
    kid = stage.tenant.key().kid
    stage.tenant.rotate()
    stage.verifiers[0].distrust(kid, reason="found in a public repository")
    return kid


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_pages_are_accessible_and_fit(
    scheme: str, size: dict[str, int], browser: Browser, stage: Stage, axe: str
) -> None:
    kid = leaked(stage)
    for path in PATHS:
        with opened(browser, f"{stage.url}{path}", color_scheme=scheme, viewport=size) as page:
            expect(page.locator("main")).to_contain_text(kid)
            for folded in page.locator("details").all():
                folded.evaluate("each => { each.open = true }")
            assert violations(page, axe) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_the_page_of_a_fleet_that_does_not_answer_is_accessible(
    browser: Browser, stage: Stage, axe: str
) -> None:
    with opened(browser, f"{stage.url}/keys") as page:
        expect(page.locator(".key")).to_have_count(2)
        stage.redis.kill()
        expect(page.get_by_text("The fleet does not answer")).to_be_visible()
        expect(page.locator(".key")).to_have_count(2)  # as they were
        assert violations(page, axe) == []
        stage.redis.start()
        expect(page.get_by_text("The fleet does not answer")).to_have_count(0)


def test_a_decision_appears_without_loading_the_page_again(browser: Browser, stage: Stage) -> None:
    with opened(browser, f"{stage.url}/keys") as page:
        expect(page.locator(".key")).to_have_count(2)
        page.evaluate("window.same = true")
        kid = leaked(stage)
        row = page.locator(f"[id='key-{kid}']")
        expect(row).to_contain_text("Distrusted since")
        expect(row).to_contain_text("2 of 2 refuse it")
        expect(row).to_contain_text("found in a public repository")
        assert page.evaluate("window.same")


def test_an_update_keeps_what_is_open_and_where_the_focus_is(
    browser: Browser, stage: Stage
) -> None:
    with opened(browser, f"{stage.url}/keys") as page:
        row = page.locator(f"[id='key-{stage.tenant.key().kid}']")
        row.locator(".instances summary").first.click()
        action = row.get_by_role("link", name="Distrust")
        action.focus()
        stage.call()
        expect(row.locator(".rate strong")).not_to_have_text("0")
        expect(action).to_be_focused()
        expect(row.locator(".instances details li").first).to_be_visible()


def test_a_lost_connection_is_said_and_mends_itself(browser: Browser, stage: Stage) -> None:
    with opened(browser, f"{stage.url}/keys") as page:
        expect(page.locator(".key")).to_have_count(2)
        page.evaluate("window.same = true")
        stage.stop()
        banner = page.get_by_role("alert")
        expect(banner).to_contain_text("Connection lost since")
        expect(page.locator(".key")).to_have_count(2)
        stage.tenant.rotate()
        stage.serve()
        expect(banner).to_be_hidden()
        expect(page.locator(".key")).to_have_count(3)
        assert page.evaluate("window.same")


def test_the_end_of_a_session_is_said_and_ends_the_updates(browser: Browser, stage: Stage) -> None:
    with opened(browser, f"{stage.url}/keys") as page:
        expect(page.locator(".key")).to_have_count(2)
        stage.pages.ended.append("You have logged out.")
        banner = page.get_by_role("alert")
        expect(banner).to_contain_text("Your session has ended. You have logged out.")
        expect(banner.get_by_role("link", name="Log in again")).to_be_visible()


def test_pages_work_without_the_script(browser: Browser, stage: Stage) -> None:
    kid = leaked(stage)
    with opened(browser, f"{stage.url}/keys", java_script_enabled=False) as page:
        expect(page.locator("main")).to_contain_text(kid)
        expect(page.get_by_text("This page shows one moment.")).to_be_visible()
        expect(page.get_by_role("button", name="Copy")).to_have_count(0)
        page.locator(f"[id='key-{kid}']").get_by_role("link", name="Timeline").click()

        def shows_the_decision() -> bool:
            page.reload()  # the page of one moment may be of the one before the console heard of it
            return "Distrusted" in page.locator(".timeline").inner_text()

        wait_until(shows_the_decision)
        page.get_by_label("Key").select_option("")
        page.get_by_role("button", name="Show").click()
        expect(page).to_have_url(f"{stage.url}/timeline?kid=")


def test_ages_are_right_where_the_clock_of_the_browser_is_wrong(
    browser: Browser, stage: Stage
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.clock.set_system_time(0)  # 1970
        page.goto(f"{stage.url}/instances")
        report = page.locator("td[data-label='Last report']").first
        expect(report).to_have_text(re.compile(r"^\d s ago$"))
        expect(report.locator("time")).to_have_attribute("title", re.compile("UTC"))


def test_a_key_id_is_copied_whole(browser: Browser, stage: Stage) -> None:
    kid = stage.tenant.key().kid
    permissions = ["clipboard-read", "clipboard-write"]
    with opened(browser, f"{stage.url}/keys", permissions=permissions) as page:
        page.get_by_role("button", name=f"Copy the key ID {kid}").click()
        assert page.evaluate("navigator.clipboard.readText()") == kid


def test_the_content_is_one_key_away(browser: Browser, stage: Stage) -> None:
    with opened(browser, f"{stage.url}/keys") as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_log_in_and_dialogs_are_accessible(
    scheme: str, browser: Browser, stage: Stage, axe: str
) -> None:
    old, current = leaked(stage), stage.tenant.key().kid
    stage.stop()
    stage.serve(OperatorSecrets(operator="the-operators-own-secret"))
    with opened(browser, f"{stage.url}/keys", color_scheme=scheme, viewport=PHONE) as page:
        assert violations(page, axe) == []
        page.get_by_label("Your name").fill("Ada")
        page.get_by_label("Secret").fill("the-operators-own-secret")
        page.get_by_role("button", name="Log in").click()
        for kid, action in ((current, "Rotate and revoke"), (old, "Revoke"), (old, "Reinstate")):
            page.get_by_role("link", name=f"{action} {kid}", exact=True).click()
            expect(page.get_by_role("dialog")).to_contain_text(kid)
            assert violations(page, axe) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            page.get_by_role("link", name="Cancel").click()
            expect(page.get_by_role("dialog")).to_be_hidden()
        page.get_by_role("link", name=f"Reinstate {old}", exact=True).click()
        page.get_by_label("Reason").fill("it was another key")
        page.get_by_label("The last 4 characters of the kid").fill(old[-4:])
        page.get_by_role("dialog").get_by_role("button").click()
        expect(page.get_by_role("status").first).to_contain_text("Done.")
        assert violations(page, axe) == []
