"""The Authorize button of a real Swagger UI in a real browser, against a local tenant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from benchmarks.environments import node_modules
from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import ServerThread, listen
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
PAGE = """<!doctype html>
<link rel="stylesheet" href="/swagger/swagger-ui.css">
<div id="ui"></div>
<script src="/swagger/swagger-ui-bundle.js"></script>
<script>
const ui = SwaggerUIBundle({{
  dom_id: "#ui", spec: {spec}, oauth2RedirectUrl: location.origin + "/swagger/oauth2-redirect.html"
}})
ui.initOAuth({{clientId: {client_id}, usePkceWithAuthorizationCodeGrant: true}})
</script>"""

pytestmark = pytest.mark.outside


@pytest.fixture(scope="module")
def swagger() -> Path:
    """The folder with Swagger UI's files."""
    require_program("node", "apt-get install -y nodejs")
    require_program("npm", "apt-get install -y npm")
    home = node_modules(Path(__file__).parent / "clients" / "package.json", "node-clients")
    assert home is not None
    return home / "node_modules" / "swagger-ui-dist"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require_program("chromium", "apt-get install -y chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


def specification(tenant: LocalTenant) -> dict[str, Any]:
    """An API of one operation, whose tokens come from `tenant`."""
    flow = {
        "authorizationUrl": tenant.issuer + "authorize",
        "tokenUrl": tenant.issuer + "oauth/token",
        "scopes": {"read:things": "Read things", "write:things": "Write things"},
    }
    scheme = {"type": "oauth2", "flows": {"authorizationCode": flow}}
    operation = {"security": [{"tenant": ["read:things"]}], "responses": {"200": {}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "An API", "version": "1"},
        "paths": {"/me": {"get": operation | {"responses": {"200": {"description": "You"}}}}},
        "components": {"securitySchemes": {"tenant": scheme}},
    }


@contextmanager
def api(tenant: LocalTenant, swagger: Path) -> Iterator[str]:
    """The URL of a guarded API that shows its Swagger UI to everyone."""

    async def docs(_: Request) -> Response:
        spec, client_id = json.dumps(specification(tenant)), json.dumps(tenant.client_id)
        return HTMLResponse(PAGE.format(spec=spec, client_id=client_id))

    async def me(request: Request) -> Response:
        token = request.user.token
        return JSONResponse({"you": token.subject, "scopes": sorted(token.scopes)})

    app = Starlette(
        routes=[
            Route("/docs", docs),
            Route("/me", me),
            Mount("/swagger", StaticFiles(directory=swagger)),
        ]
    )
    verifier = TokenVerifier(tenant.issuer, tenant.audience)
    guarded = JWKSGuardMiddleware(
        app,
        verifier=verifier,
        exclude_paths=["/docs", "/swagger/*"],
        required_scopes=["read:things"],
    )
    listener = listen("127.0.0.1", 0)
    url = f"http://localhost:{listener.getsockname()[1]}"
    server = ServerThread(guarded, listener)
    try:
        yield url
    finally:
        server.stop()


def authorize(page: Page, user: str) -> None:
    """Click through Swagger UI's dialog and the tenant's page."""
    page.get_by_role("button", name="Authorize").first.click()
    page.locator("label[for^='read:things']").click()  # the box itself is hidden behind its style
    with page.expect_popup() as popup:
        page.locator(".auth-btn-wrapper .authorize").click()
    login = popup.value
    expect(login).to_have_title("Log in", timeout=PATIENCE * 1000)
    login.get_by_label("User").fill(user)
    with login.expect_event("close"):
        login.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Remove authorization").wait_for()
    page.get_by_role("button", name="Close").last.click()


def test_authorize_button_of_swagger_ui_gets_a_token_that_the_api_accepts(
    browser: Browser, swagger: Path, local_tenant: LocalTenant
) -> None:
    with api(local_tenant, swagger) as url, browser.new_context() as context:
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        page.goto(url + "/docs")
        authorize(page, "auth0|carol")
        page.get_by_role("button", name="GET /me", exact=True).click()
        page.get_by_role("button", name="Try it out").click()
        with page.expect_response(url + "/me") as answer:
            page.get_by_role("button", name="Execute").click()
        assert answer.value.json() == {"you": "auth0|carol", "scopes": ["read:things"]}
