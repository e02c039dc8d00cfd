"""What operators do at the console, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from jwks_guard.console import OpenIDConnect, OperatorSecrets
from tests.console.browsing import (
    OPERATOR,
    VIEWER,
    Served,
    Stage,
    act,
    fill_in,
    key,
    log_in,
    opened,
    served,
    staged,
    tab_to,
)
from tests.swagger_ui import chromium as running_chromium

pytestmark = pytest.mark.outside
HIDES = """
  let hidden = false;
  Object.defineProperty(document, "hidden", { get: () => hidden });
  globalThis.hide = (how) => {
    hidden = how;
    document.dispatchEvent(new Event("visibilitychange"));
  };
"""  # what a browser does by itself where it has a window
IDLE_SECONDS = 1_800.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("console")) as stage:
        yield stage


@pytest.fixture(scope="module")
def console(stage: Stage) -> Iterator[Served]:
    with served(stage, OperatorSecrets(operator=OPERATOR, viewer=VIEWER)) as console:
        yield console


@pytest.fixture
def page(browser: Browser, console: Served, stage: Stage) -> Iterator[Page]:
    """The list of keys, for an operator."""
    with opened(browser, console) as page:
        log_in(page, stage)
        page.wait_for_url("**/keys*")
        yield page


def test_pages_in_tabs_behind_keep_none_from_loading(page: Page, console: Served) -> None:
    """A browser opens 6 connections to one host, and each stream takes one."""
    context = page.context
    context.add_init_script(HIDES)
    for _ in range(7):
        tab = context.new_page()
        tab.goto(f"{console.url}/keys")
        expect(tab.locator(".freshness")).to_be_visible()
        tab.evaluate("hide(true)")
    tab.evaluate("hide(false)")
    with tab.expect_response(lambda answer: answer.url.endswith("/keys/live")):
        tab.evaluate("hide(true)")
        tab.evaluate("hide(false)")
    expect(tab.locator("#connection")).to_be_hidden()


def test_planned_rotation_by_mouse(page: Page, stage: Stage) -> None:
    old, token = stage.used_key()
    coming = stage.tenant.key("next").kid
    dialog = act(page, old, "Rotate")
    expect(dialog.get_by_role("table")).to_contain_text(coming)
    fill_in(dialog, old, "the quarterly rotation")
    dialog.get_by_role("button", name="Rotate now").click()
    expect(page.get_by_role("status")).to_contain_text("Done.")
    page.get_by_role("link", name="To the keys").click()
    expect(key(page, coming)).to_contain_text("current")
    expect(key(page, old)).to_contain_text("previously used")
    expect(key(page, old).locator(".verdict")).to_contain_text("No")
    assert stage.answers(token) == {old}

    stage.tokens_expire()
    verdict = key(page, old).locator(".verdict")
    expect(verdict).to_contain_text("Yes")  # without a reload
    dialog = act(page, old, "Revoke")
    fill_in(dialog, old, "the quarterly rotation")
    dialog.get_by_role("button", name="Revoke now").click()
    expect(page.get_by_role("status")).to_contain_text("Done.")
    page.get_by_role("link", name="To the keys").click()
    expect(page.get_by_role("region", name="List of Revoked Keys")).to_contain_text(old)
    assert stage.answers(stage.tenant.token(key=old)) == {"revoked_key"}

    page.get_by_role("link", name="Timeline", exact=True).click()
    expect(page.get_by_role("main")).to_contain_text("the quarterly rotation")
    expect(page.get_by_role("main")).to_contain_text("Ada")


def test_planned_rotation_by_keyboard_alone(
    browser: Browser, console: Served, stage: Stage
) -> None:
    old, _ = stage.used_key()
    coming = stage.tenant.key("next").kid
    stage.clock.advance(60.0)
    with opened(browser, console) as page:
        keyboard = page.keyboard
        tab_to(page, "Your name")
        keyboard.type("Grace")
        tab_to(page, "Secret")
        keyboard.type(OPERATOR)
        keyboard.press("Enter")
        page.wait_for_url("**/keys*")

        tab_to(page, f"Rotate {old}")
        keyboard.press("Enter")
        expect(page.locator("#dialog")).to_be_visible()
        tab_to(page, "Reason")
        keyboard.type("by keyboard")
        tab_to(page, "The last 4 characters of the kid")
        keyboard.type(old[-4:])
        keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("Done.")
        tab_to(page, "To the keys")
        keyboard.press("Enter")
        expect(key(page, coming)).to_contain_text("current")

        stage.tokens_expire()
        expect(key(page, old).locator(".verdict")).to_contain_text("Yes")
        tab_to(page, f"Revoke {old}")
        keyboard.press("Enter")
        expect(page.locator("#dialog")).to_be_visible()
        keyboard.press("Escape")
        expect(page.locator("#dialog")).to_be_hidden()
        keyboard.press("Enter")  # the focus is where it was
        expect(page.locator("#dialog")).to_be_visible()
        tab_to(page, "Reason")
        keyboard.type("by keyboard")
        tab_to(page, "The last 4 characters of the kid")
        keyboard.type(old[-4:])
        tab_to(page, "Revoke now")
        keyboard.press("Space")
        expect(page.get_by_role("status")).to_contain_text("Done.")
    assert stage.answers(stage.tenant.token(key=old)) == {"revoked_key"}


def test_leaked_key_is_rotated_out_and_revoked_at_once(page: Page, stage: Stage) -> None:
    leaked, token = stage.used_key()
    coming = stage.tenant.key("next").kid
    dialog = act(page, leaked, "Rotate and revoke")
    expect(dialog).to_contain_text("can't be undone")
    fill_in(dialog, leaked, "found in a public repository")
    dialog.get_by_role("button", name="Rotate and revoke now").click()
    expect(page.get_by_role("status")).to_contain_text("Done.")
    assert stage.answers(token) == {"revoked_key"}
    assert stage.answers(stage.tenant.token()) == {coming}


def test_wrong_end_of_a_kid_does_nothing(page: Page, stage: Stage) -> None:
    kid, token = stage.used_key()
    dialog = act(page, kid, "Rotate and revoke")
    fill_in(dialog, "not-it", "a slip")
    dialog.get_by_role("button", name="Rotate and revoke now").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done.")
    assert (stage.tenant.key().kid, stage.answers(token)) == (kid, {kid})


def test_key_is_distrusted_and_reinstated(page: Page, stage: Stage) -> None:
    kid, token = stage.used_key()
    dialog = act(page, kid, "Distrust")
    fill_in(dialog, kid, "a report of a leak")
    dialog.get_by_role("button", name="Distrust now").click()
    expect(page.get_by_role("status")).to_contain_text("Done.")
    assert stage.answers(token) == {"revoked_key"}
    page.get_by_role("link", name="To the keys").click()
    expect(key(page, kid)).to_contain_text("a report of a leak")
    expect(key(page, kid)).to_contain_text("2 of 2 refuse it")

    dialog = act(page, kid, "Reinstate")
    fill_in(dialog, kid, "it was another key")
    dialog.get_by_role("button", name="Reinstate now").click()
    expect(page.get_by_role("status")).to_contain_text("Done.")
    assert stage.answers(token) == {kid}
    page.get_by_role("link", name="To the keys").click()
    expect(key(page, kid)).to_contain_text("2 of 2 trust it")


def test_revocation_that_would_refuse_tokens_is_refused_and_says_why(
    page: Page, stage: Stage, console: Served
) -> None:
    kid, token = stage.used_key()
    stage.tenant.rotate()
    page.goto(f"{console.url}/keys/{kid}/revoke")  # the dialog as a page: it looks anew
    dialog = page.get_by_role("main")
    expect(dialog).to_contain_text("may be valid until")
    fill_in(dialog, kid, "too early")
    dialog.get_by_role("button", name="Revoke now").click()
    expect(page.get_by_role("alert")).to_contain_text("is not ready to be revoked")
    expect(page.get_by_role("main")).to_contain_text("may be valid until")
    assert stage.answers(token) == {kid}
    assert kid in stage.answers(stage.tenant.token(key=kid))


def test_page_says_that_the_connection_is_lost_and_lives_again_after_a_restart(
    page: Page, stage: Stage, console: Served
) -> None:
    banner = page.locator("#connection")
    expect(banner).to_be_hidden()
    console.stop()
    expect(banner).to_contain_text("Connection lost since")
    console.start()
    expect(banner).to_contain_text("Log in again")  # sessions are in the memory of a run
    banner.get_by_role("link").click()
    log_in(page, stage)
    page.wait_for_url("**/keys*")
    coming = stage.tenant.key("next").kid
    stage.instances[0].distrust(coming, reason="decided at an instance")
    expect(key(page, coming)).to_contain_text("decided at an instance")
    expect(banner).to_be_hidden()
    stage.instances[0].reinstate(coming, reason="the test is over")
    expect(key(page, coming)).not_to_contain_text("decided at an instance")


def test_viewer_sees_and_may_not_act(browser: Browser, console: Served, stage: Stage) -> None:
    kid, token = stage.used_key()
    with opened(browser, console) as page:
        log_in(page, stage, VIEWER, "Vera")
        expect(page.locator(".role")).to_have_text("viewer")
        expect(key(page, kid)).to_contain_text("2 of 2 trust it")
        expect(page.get_by_role("link", name="Distrust")).to_have_count(0)
        answer = page.goto(f"{console.url}/keys/{kid}/distrust")
        assert answer is not None
        assert answer.status == 403
        expect(page.get_by_role("alert")).to_contain_text("Your log-in only looks.")
    assert stage.answers(token) == {kid}


def test_wrong_secret_opens_nothing(browser: Browser, console: Served, stage: Stage) -> None:
    with opened(browser, console) as page:
        log_in(page, stage, "not-the-secret-at-all")
        expect(page.get_by_role("alert")).to_contain_text("The secret is wrong.")
        page.goto(f"{console.url}/keys")
        expect(page).to_have_title("Log in · Signing keys")


def test_open_page_says_that_its_session_has_ended(page: Page, stage: Stage) -> None:
    stage.clock.advance(IDLE_SECONDS + 1.0)
    banner = page.locator("#connection")
    expect(banner).to_contain_text("Nobody used it for 30 min.")
    banner.get_by_role("link", name="Log in again").click()
    expect(page).to_have_title("Log in · Signing keys")


def test_log_in_at_the_guarded_issuer_takes_the_operator_secret_for_each_action(
    browser: Browser, stage: Stage
) -> None:
    tenant = stage.tenant
    login = OpenIDConnect(
        tenant.issuer,
        tenant.client_id,
        tenant.client_secret,
        roles={"sub": {"auth0|olga": "operator"}},
        operator_secret=OPERATOR,
        clock=stage.clock,
    )
    kid, token = stage.used_key()
    with served(stage, login) as console, opened(browser, console) as page:
        page.get_by_role("link", name="Log in at the provider").click()
        expect(page).to_have_title("Log in")  # the tenant's own page
        page.get_by_label("User").fill("auth0|olga")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/keys*")
        expect(page.locator(".role")).to_have_text("operator")
        dialog = act(page, kid, "Distrust")
        fill_in(dialog, kid, "a report of a leak")
        dialog.get_by_label("Operator secret").fill("a-wrong-secret-of-somebody")
        dialog.get_by_role("button", name="Distrust now").click()
        expect(page.get_by_role("alert")).to_contain_text("The operator secret is wrong.")
        assert stage.answers(token) == {kid}
        fill_in(page.get_by_role("main"), kid, "a report of a leak")
        page.get_by_label("Operator secret").fill(OPERATOR)
        page.get_by_role("button", name="Distrust now").click()
        expect(page.get_by_role("status")).to_contain_text("Done.")
        assert stage.answers(token) == {"revoked_key"}
        # The key that signed the ID token is refused: the session ends with it.
        page.goto(f"{console.url}/keys")
        expect(page.get_by_role("main")).to_contain_text("The key that signed your ID token is")
