"""A leak, from the first look to the record, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from jwks_guard.console import OperatorSecrets
from tests.admin.rotating import revoke_path
from tests.console.axe import axe_source, violations
from tests.console.browsing import (
    OPERATOR,
    VIEWER,
    Served,
    Stage,
    fill_in,
    log_in,
    opened,
    served,
    staged,
    tab_to,
)
from tests.swagger_ui import chromium as running_chromium

pytestmark = pytest.mark.outside
SIZES = [ViewportSize(width=360, height=740), ViewportSize(width=1280, height=900)]
REASON = "found in a public repository"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def axe() -> str:
    return axe_source()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as stage:
        yield stage


@pytest.fixture
def console(stage: Stage) -> Iterator[Served]:
    with served(stage, OperatorSecrets(operator=OPERATOR, viewer=VIEWER)) as console:
        yield console


def require_usable(page: Page, axe: str) -> None:
    """The page as it is now is accessible and fits: light and dark, on a phone and on a desk."""
    usual = page.viewport_size
    for folded in page.locator("details").all():
        folded.evaluate("each => { each.open = true }")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for size in SIZES:
            page.set_viewport_size(size)
            assert violations(page, axe) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert usual is not None
    page.set_viewport_size(usual)


def test_emergency_by_mouse_goes_on_without_its_page_and_everybody_sees_it(
    browser: Browser, stage: Stage, console: Served, axe: str
) -> None:
    kid = stage.tenant.key().kid
    token = stage.tenant.token(claims={"azp": "shop-frontend", "org_id": "org_Xk2pQ9"})
    assert stage.answers(token) == {kid}
    coming = stage.tenant.key("next").kid
    hold = stage.tenant.faults.hold(path=revoke_path(kid))
    with opened(browser, console, "/incident") as viewer:
        log_in(viewer, stage, VIEWER, "Vera")
        viewer.wait_for_url("**/incident*")
        expect(viewer.get_by_role("main")).to_contain_text("An operator begins one")
        viewer.evaluate("window.same = true")
        with opened(browser, console, "/incident") as page:
            log_in(page, stage)
            page.wait_for_url("**/incident*")
            expect(page.get_by_role("main")).to_contain_text("2 tokens of 1 client")
            require_usable(page, axe)
            page.get_by_role("link", name=f"This one has leaked {kid}", exact=True).click()
            dialog = page.get_by_role("dialog")
            expect(dialog).to_contain_text("shop-frontend, organization org_Xk2pQ9")
            expect(dialog).to_contain_text("refused by every instance")
            require_usable(page, axe)
            expect(dialog.get_by_label("Rotate first, then refuse it")).to_be_checked()
            fill_in(dialog, kid, REASON)
            dialog.get_by_role("button", name="Begin now").click()
            page.wait_for_url("**/incident")
            expect(page.locator("[id$=-revoke]")).to_contain_text("running")
        assert stage.answers(token) == {"revoked_key"}
        assert stage.answers(stage.tenant.token()) == {coming}
        # The page of the operator is closed; that of the viewer shows it, without a reload.
        main = viewer.get_by_role("main")
        expect(main).to_contain_text("Running. It goes on when you close this page.")
        expect(main).to_contain_text("2 of 2 acknowledged that they refuse the key.")
        expect(viewer.locator("[id$=-revoke]")).to_contain_text("running")
        require_usable(viewer, axe)
        hold.release()
        expect(main).to_contain_text("All of it is done.")
        assert viewer.evaluate("window.same")
        require_usable(viewer, axe)
        with viewer.expect_download() as download:
            viewer.get_by_role("link", name="Record as Markdown").click()
        assert REASON in Path(download.value.path()).read_text()
        viewer.goto(f"{console.url}/keys")
        revoked = viewer.get_by_role("region", name="List of Revoked Keys")
        expect(revoked.locator(f"[id='clients-{kid}']")).to_contain_text("2 tokens of 1 client")
        require_usable(viewer, axe)
    assert stage.tenant.key("revoked").kid == kid


def test_emergency_by_keyboard_alone(browser: Browser, stage: Stage, console: Served) -> None:
    kid, token = stage.used_key()
    with opened(browser, console) as page:
        log_in(page, stage)
        page.wait_for_url("**/keys*")
        keyboard = page.keyboard
        tab_to(page, "Incident")
        keyboard.press("Enter")
        page.wait_for_url("**/incident")
        tab_to(page, f"This one has leaked {kid}")
        keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        tab_to(page, "Rotate first, then refuse it")
        keyboard.press("ArrowDown")
        expect(page.get_by_label("Refuse it first")).to_be_checked()
        keyboard.press("ArrowUp")
        tab_to(page, "Reason")
        keyboard.type(REASON)
        tab_to(page, "The last 4 characters of the kid")
        keyboard.type(kid[-4:])
        tab_to(page, "Begin now")
        keyboard.press("Space")
        page.wait_for_url("**/incident")
        expect(page.get_by_role("main")).to_contain_text("All of it is done.")
        assert stage.answers(token) == {"revoked_key"}
        tab_to(page, "Record as JSON")
        with page.expect_download() as download:
            keyboard.press("Enter")
        assert kid in Path(download.value.path()).read_text()


def test_incident_that_could_not_be_completed_says_what_is_left_and_is_begun_again(
    browser: Browser, stage: Stage, console: Served, axe: str
) -> None:
    kid = stage.tenant.key().kid
    stage.tenant.faults.status(500, path=revoke_path(kid))
    with opened(browser, console, "/incident") as page:
        log_in(page, stage)
        page.wait_for_url("**/incident*")
        page.get_by_role("link", name=f"This one has leaked {kid}", exact=True).click()
        fill_in(page.get_by_role("dialog"), kid, REASON)
        page.get_by_role("button", name="Begin now").click()
        main = page.get_by_role("main")
        expect(main).to_contain_text("Not everything is done or known.")
        require_usable(page, axe)
        console.stop()
        console.start()
        page.goto(f"{console.url}/incident")
        log_in(page, stage)
        expect(main).to_contain_text("Not finished, as far as the journal tells.")
        require_usable(page, axe)
        stage.tenant.faults.clear()
        page.get_by_role("link", name=f"Begin again {kid}", exact=True).click()
        fill_in(page.get_by_role("dialog"), kid, REASON)
        page.get_by_role("button", name="Begin now").click()
        expect(main).to_contain_text("All of it is done.")
