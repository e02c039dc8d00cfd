"""The Authorize button of a real Swagger UI in a real browser, against a local tenant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import ServerThread, listen
from tests.swagger_ui import chromium, execute, log_in, page_of, swagger_ui

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
    return swagger_ui()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


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


def test_authorize_button_of_swagger_ui_gets_a_token_that_the_api_accepts(
    browser: Browser, swagger: Path, local_tenant: LocalTenant
) -> None:
    with api(local_tenant, swagger) as url, page_of(browser, url + "/docs") as page:
        page.get_by_role("button", name="Authorize").first.click()
        page.locator("label[for^='read:things']").click()  # the box is hidden behind its style
        log_in(page, "auth0|carol")
        answer = execute(page, "GET /me", url + "/me")
        assert answer == (200, {"you": "auth0|carol", "scopes": ["read:things"]})
