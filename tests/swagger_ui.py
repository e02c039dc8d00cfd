"""A real Swagger UI in a real Chromium: what tests of its Authorize button share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.environments import node_modules
from tests.process.programs import require_program
from tests.support import PATIENCE

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def swagger_ui() -> Path:
    """The folder with Swagger UI's files."""
    require_program("node", "apt-get install -y nodejs")
    require_program("npm", "apt-get install -y npm")
    manifest = Path(__file__).parent / "testing" / "clients" / "package.json"
    home = node_modules(manifest, "node-clients")
    assert home is not None
    return home / "node_modules" / "swagger-ui-dist"


@contextmanager
def chromium() -> Iterator[Browser]:
    require_program("chromium", "apt-get install -y chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@contextmanager
def page_of(browser: Browser, url: str) -> Iterator[Page]:
    """The page at `url`, in a profile of its own."""
    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        page.goto(url)
        yield page


def log_in(page: Page, user: str) -> None:
    """Click Authorize in the dialog that is open, through the tenant's page, and close it."""
    with page.expect_popup() as popup:
        page.locator(".auth-btn-wrapper .authorize").first.click()
    login = popup.value
    expect(login).to_have_title("Log in", timeout=PATIENCE * 1000)
    login.get_by_label("User").fill(user)
    with login.expect_event("close"):
        login.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Remove authorization").first.wait_for()
    page.get_by_role("button", name="Close").last.click()


def execute(page: Page, operation: str, url: str) -> tuple[int, object]:
    """Execute `GET /path`, as the page names it; gives status and body of the answer of `url`."""
    page.get_by_role("button", name=operation).first.click()
    page.get_by_role("button", name="Try it out").click()
    with page.expect_response(url) as answer:
        page.get_by_role("button", name="Execute").click()
    return answer.value.status, answer.value.json()
