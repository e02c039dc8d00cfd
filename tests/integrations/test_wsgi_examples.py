"""The examples and documents of Django and Flask, as they stand, with a local tenant in them."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.test import Client, override_settings
from django.urls import path
from flask import Flask

from jwks_guard.testing import LocalTenant
from tests.integrations.django_project import APIClient
from tests.integrations.servers import served_wsgi
from tests.process.programs import server, wait_until
from tests.support import PATIENCE
from tests.test_docs import BLOCK, DOCS, run_page
from tests.test_examples import snippet

GUNICORN = ("-m", "gunicorn", "--no-control-socket", "--preload", "--workers=2", "--threads=4")


@pytest.fixture
def issuer() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as local:
        yield local


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def see_every_answer(client: httpx.Client, tenant: LocalTenant) -> None:
    """Ask a server that has no keys yet, of a tenant that is down, and then of one that is up."""
    good = bearer(tenant.token(scope="read:things", sub="auth0|bob"))
    outage = client.get("/things", headers=good)
    assert outage.status_code == 503
    assert int(outage.headers["retry-after"]) >= 1
    tenant.faults.clear()
    wait_until(lambda: client.get("/things", headers=good).status_code == 200)
    assert client.get("/things", headers=good).json() == {"owner": "auth0|bob", "things": []}
    assert client.get("/me", headers=bearer(tenant.token())).json() == {"sub": "auth0|alice"}
    assert client.get("/health").json()["status"] == "ok"
    missing = client.get("/things")
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, "Bearer")
    ended = tenant.token(claims={"exp": int(time.time()) - 3600})
    for token in (ended, tenant.forged_token(), "junk"):
        answer = client.get("/things", headers=bearer(token))
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    lacking = client.get("/things", headers=bearer(tenant.token(scope="openid")))
    assert lacking.status_code == 403
    assert 'scope="read:things"' in lacking.headers["www-authenticate"]
    leaked = tenant.key().kid
    tenant.rotate()
    tenant.revoke(leaked)
    wait_until(lambda: client.get("/things", headers=good).status_code == 401)


def environment(tenant: LocalTenant) -> dict[str, str]:
    return {
        "JWKS_GUARD_ISSUER": tenant.issuer,
        "JWKS_GUARD_AUDIENCE": tenant.audience,
        "JWKS_GUARD_REFRESH_INTERVAL": "0.5",
    }


def test_django_example_answers_under_asgi(issuer: LocalTenant) -> None:
    issuer.faults.status(500)
    command = ("-m", "uvicorn", "--lifespan=off", "--log-level=warning", "examples.django_api:asgi")
    with server(*command, bind="--fd={}", **environment(issuer)) as client:
        see_every_answer(client, issuer)


@pytest.mark.outside
def test_django_example_answers_under_gunicorn_that_forks_after_loading(
    issuer: LocalTenant,
) -> None:
    command = (*GUNICORN, "examples.django_api:wsgi")
    with server(*command, bind="--bind=fd://{}", **environment(issuer)) as client:
        for _ in range(20):  # of either worker
            token = issuer.token(scope="read:things")
            assert client.get("/things", headers=bearer(token)).status_code == 200
            assert client.get("/me", headers=bearer(issuer.forged_token())).status_code == 401


def test_flask_example_answers(issuer: LocalTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(issuer).items():
        monkeypatch.setenv(name, value)
    example: Any = importlib.import_module("examples.flask_api")
    issuer.faults.status(500)
    with (
        served_wsgi(example.app) as address,
        httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client,
    ):
        see_every_answer(client, issuer)
        reader = bearer(issuer.token(scope="read:reports"))
        assert client.get("/reports/", headers=reader).json()["owner"] == "auth0|alice"
        assert client.get("/reports/").status_code == 401
        example.verifier.distrust(issuer.key().kid, reason="leaked", force=True)
        assert client.get("/reports/", headers=reader).status_code == 401
    example.verifier.close()


def test_short_django_snippet_runs(issuer: LocalTenant) -> None:
    names = snippet("django", issuer, MIDDLEWARE=["django.middleware.common.CommonMiddleware"])
    with override_settings(
        MIDDLEWARE=names["MIDDLEWARE"],
        JWKS_GUARD=names["JWKS_GUARD"],
        ROOT_URLCONF=(path("things", names["things"]),),
    ):
        answer = Client().get("/things", headers=bearer(issuer.token(scope="read:things")))
        assert answer.json() == {"owner": "auth0|alice"}
        assert Client().get("/things", headers=bearer(issuer.token(scope="a"))).status_code == 403
        assert Client().get("/nothing").status_code == 401
        assert Client().get("/health").status_code == 404


def test_short_flask_snippet_runs(issuer: LocalTenant) -> None:
    client = snippet("flask", issuer)["app"].test_client()
    answer = client.get("/me", headers=bearer(issuer.token(sub="auth0|bob")))
    assert answer.get_json() == {"sub": "auth0|bob"}
    assert client.get("/me").status_code == 401


async def test_django_page_runs(issuer: LocalTenant) -> None:
    names = await run_page("django.md", issuer)
    urls = (
        path("me", names["me"]),
        path("things", names["things"]),
        path("things/<int:number>", names["Thing"].as_view()),
        path("health", names["health"]),
        path("api/things", names["Things"].as_view()),
        path("api/reports", names["Reports"].as_view()),
    )
    middleware = ["django.middleware.csrf.CsrfViewMiddleware", *names["MIDDLEWARE"]]
    with override_settings(
        MIDDLEWARE=middleware, JWKS_GUARD=names["JWKS_GUARD"], ROOT_URLCONF=urls
    ):
        # In a thread: a synchronous client runs no async view on an event loop.
        await asyncio.to_thread(see_the_pages_views, issuer)
        await asyncio.to_thread(names["test_things_need_a_scope"])


def see_the_pages_views(issuer: LocalTenant) -> None:
    writer = bearer(issuer.token(scope="write:things read:reports"))
    assert Client().get("/me", headers=writer).json() == {"sub": "auth0|alice"}
    client = Client(enforce_csrf_checks=True)  # as a new project of Django does
    assert client.post("/things/7", headers=writer).json() == {"number": 7}
    assert Client().get("/things", headers=writer).status_code == 403
    assert Client().get("/health").json()["status"] == "ok"
    assert APIClient().get("/api/things", headers=writer).json() == {"owner": "auth0|alice"}
    assert APIClient().get("/api/reports", headers=writer).json() == {"reports": []}
    assert APIClient().get("/api/things").status_code == 401


def test_flask_page_runs(
    issuer: LocalTenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (DOCS / "flask.md").read_text().replace("https://acme.eu.auth0.com/", issuer.issuer)
    for block in BLOCK.findall(page.replace("https://api.acme.com", issuer.audience)):
        (tmp_path / block.partition("\n")[0].removeprefix("# ")).write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    page_app, errors, tests = map(importlib.import_module, ("app", "errors", "test_app"))
    for module in (page_app, errors, tests):
        monkeypatch.delitem(sys.modules, module.__name__)
    tests.test_reports_need_a_scope(issuer)
    app: Flask = page_app.app
    errors.add_handlers(app)
    client = app.test_client()
    reader = bearer(issuer.token(scope="read:reports"))
    assert client.get("/reports/", headers=reader).get_json()["owner"] == "auth0|alice"
    assert client.delete("/reports/7", headers=reader).status_code == 403
    deleting = issuer.token(scope="read:reports", permissions=["delete:reports"])
    assert client.delete("/reports/7", headers=bearer(deleting)).status_code == 204
    refused = client.get("/reports/")
    assert refused.get_json() == {"message": "sign in"}
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    page_app.verifier.close()
