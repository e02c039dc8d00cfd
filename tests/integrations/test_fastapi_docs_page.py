"""The Authorize button on /docs of a FastAPI app with a Guard, in a real browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import pytest
from fastapi import FastAPI, Security
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from playwright.sync_api import expect

from jwks_guard import TokenVerifier, VerifiedToken
from jwks_guard.integrations.fastapi import Guard
from jwks_guard.testing import LocalTenant
from tests.integrations.servers import served_asgi
from tests.swagger_ui import chromium, execute, log_in, page_of, swagger_ui

pytestmark = pytest.mark.outside


@contextmanager
def served(tenant: LocalTenant) -> Iterator[str]:
    """An app whose /docs has its files from this machine; its own come from a CDN."""
    guard = Guard(TokenVerifier(tenant.issuer, tenant.audience))
    app = FastAPI(
        docs_url=None,
        swagger_ui_init_oauth={
            "clientId": tenant.client_id,
            "usePkceWithAuthorizationCodeGrant": True,
            "scopes": "read:things",
            "additionalQueryStringParams": {"audience": tenant.audience},
        },
    )
    app.mount("/files", StaticFiles(directory=swagger_ui()))

    @app.get("/docs/oauth2-redirect", include_in_schema=False)
    async def redirect() -> HTMLResponse:
        return get_swagger_ui_oauth2_redirect_html()

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="docs",
            swagger_js_url="/files/swagger-ui-bundle.js",
            swagger_css_url="/files/swagger-ui.css",
            swagger_favicon_url="/files/favicon-16x16.png",
            oauth2_redirect_url="/docs/oauth2-redirect",
            init_oauth=app.swagger_ui_init_oauth,
        )

    @app.get("/things")
    async def things(
        token: Annotated[VerifiedToken, Security(guard, scopes=["read:things"])],
    ) -> dict[str, str | None]:
        return {"owner": token.subject}

    with served_asgi(app, at_end=[guard.verifier.aclose]) as address:
        yield address.replace("127.0.0.1", "localhost")


def test_authorize_button_of_the_docs_page_gets_a_token_that_the_guard_accepts(
    local_tenant: LocalTenant,
) -> None:
    with (
        served(local_tenant) as url,
        chromium() as browser,
        page_of(browser, url + "/docs") as page,
    ):
        page.get_by_role("button", name="Authorize").first.click()
        expect(page.get_by_text("/.well-known/openid-configuration").first).to_be_visible()
        log_in(page, "auth0|carol")
        answer = execute(page, "GET /things", url + "/things")
        assert answer == (200, {"owner": "auth0|carol"})
