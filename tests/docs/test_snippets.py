"""Every Python block of the documentation runs: here, or where RUN says."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from jwks_guard import (
    InvalidTokenError,
    KeyStore,
    RevocationRefusedError,
    RevokedKeyError,
    SyncTokenVerifier,
    TokenVerifier,
)
from jwks_guard.admin import ClientCredentials, KeyRotation, SigningKeysClient
from jwks_guard.cli.tenant.serve import DEFAULT_PORT
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.profile import DEFAULT_AUDIENCE
from tests.docs.pages import DOCS, PAGES, PROJECT, blocks, name_of
from tests.process.programs import server, wait_until
from tests.redis_server import redis_server
from tests.test_docs import run_page

HERE = "tests/docs/test_snippets.py"
RUN = {
    "README.md": "tests/integrations/test_fastapi_example.py",
    "docs/claims.md": "tests/test_docs.py",
    "docs/configuration.md": "tests/test_configuration_document.py",
    "docs/console.md": "tests/test_docs.py",
    "docs/django.md": "tests/integrations/test_wsgi_examples.py",
    "docs/examples.md": "tests/docs/test_links.py",  # which looks for the files; others run them
    "docs/fastapi.md": "tests/integrations/test_fastapi_example.py",
    "docs/flask.md": "tests/integrations/test_wsgi_examples.py",
    "docs/frameworks.md": "tests/test_examples.py",
    "docs/grpc.md": "tests/integrations/test_grpc.py",
    "docs/leaked-key.md": HERE,
    "docs/litestar.md": "tests/integrations/test_litestar.py",
    "docs/local-tenant.md": "tests/testing/test_testing_docs.py",
    "docs/logging.md": "tests/process/test_logging.py",
    "docs/many-processes.md": HERE,
    "docs/mcp.md": "tests/integrations/test_mcp_docs.py",
    "docs/metrics.md": "tests/observability/test_metrics_document.py",
    "docs/migration.md": "tests/migration/test_migration.py",
    "docs/operating.md": HERE,
    "docs/providers.md": HERE,
    "docs/request-guard.md": "tests/test_examples.py",
    "docs/rotate-and-revoke.md": HERE,
    "docs/several-issuers.md": HERE,
    "docs/starlette.md": HERE,
    "docs/testing.md": "tests/testing/test_testing_docs.py",
    "docs/tracing.md": "tests/observability/test_measuring.py",
    "docs/troubleshooting.md": HERE,
    "docs/websockets-and-cors.md": HERE,
    "docs/without-a-framework.md": HERE,
}
"""Which test runs the Python blocks of a page."""


def test_every_page_with_python_is_run_by_a_test() -> None:
    assert {name_of(page) for page in PAGES if blocks(page, "python")} == RUN.keys()
    for page, test in RUN.items():
        name = Path(page).name
        assert name in (PROJECT / test).read_text() or name.removesuffix(".md") in test, page


def test_every_python_block_is_python() -> None:
    for page in PAGES:
        for code in blocks(page, "python"):
            if not code.startswith("--8<--"):
                flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                compile(code, name_of(page), "exec", flags=flags, dont_inherit=True)


@pytest.fixture
async def tenant() -> AsyncIterator[LocalTenant]:
    async with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


@pytest.fixture
async def verifier(tenant: LocalTenant) -> AsyncIterator[TokenVerifier]:
    async with TokenVerifier(tenant.issuer, tenant.audience) as verifier:
        yield verifier


async def status(app: Any, path: str, token: str | None = None, **headers: str) -> int:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        return (await client.get(path, headers=headers)).status_code


async def test_starlette_page_runs(tenant: LocalTenant) -> None:
    names = await run_page("starlette.md", tenant)
    assert names["route"].path == "/things"
    assert await status(names["app"], "/", tenant.token()) == 200
    await names["verifier"].aclose()


async def test_scope_that_the_starlette_page_requires_is_required(tenant: LocalTenant) -> None:
    code = blocks(DOCS / "starlette.md", "python")
    names: dict[str, Any] = {}
    text = code[0].replace("https://acme.eu.auth0.com/", tenant.issuer)
    exec(text.replace("https://api.acme.com", tenant.audience), names)
    exec(code[1], names)
    for scope, expected in (("read:things", 200), ("openid", 403)):
        assert await status(names["app"], "/me", tenant.token(scope=scope)) == expected
    await names["verifier"].aclose()


async def test_page_without_a_framework_runs(
    tenant: LocalTenant, capsys: pytest.CaptureFixture[str]
) -> None:
    names = await run_page("without-a-framework.md", tenant)
    token = tenant.token(sub="auth0|bob")
    await names["main"]([token, tenant.forged_token()])
    said = capsys.readouterr().out
    assert said == "accepted: auth0|bob\nrefused: invalid_signature\n"
    assert await asyncio.to_thread(names["subjects_of"], [token, token]) == ["auth0|bob"] * 2
    answer = await names["answer"]("GET", "https://api.acme.com/", {})
    assert answer[0] == 401
    await names["guard"].verifier.aclose()


@dataclass
class Customer:
    issuer: str
    jwks_uri: str


class Customers:
    """The application's own look-up, which the page leaves to it."""

    def __init__(self, tenant: LocalTenant) -> None:
        self._tenant = tenant

    async def by_issuer(self, issuer: str) -> Customer | None:
        known = issuer == self._tenant.issuer
        return Customer(issuer, f"{issuer}.well-known/jwks.json") if known else None


async def test_page_of_several_issuers_runs(tenant: LocalTenant) -> None:
    async with LocalTenant(algorithm="ES256") as other:
        names = await run_page("several-issuers.md", tenant, customers=Customers(other))
        verifier = names["verifier"]
        assert await verifier.verify(tenant.token())
        assert await verifier.verify(other.token(audience=tenant.audience))
        stranger = tenant.token(claims={"iss": "https://stranger.test/"})
        with pytest.raises(InvalidTokenError):
            await verifier.verify(stranger)
        await names["customer_changed"](other.issuer)
        assert other.issuer not in verifier.verifiers
        await verifier.aclose()
        for name, audience in (
            ("orders", "https://orders.acme.com"),
            ("stock", "https://stock.acme.com"),
        ):
            async with names["lifespan"](None):
                assert names["keys"].health().status == "ok"
                assert await names[name].verify(tenant.token(audience=audience))


NOT_THEIRS = {"scope": None, "azp": None}
"""What every token of the local tenant has, and these have not."""
ENTRA_API = "3d0e6a5c-71b2-4c8e-9f64-5a0c2b7d1e38"
GOOGLE_CLIENT = "1234-abcd.apps.googleusercontent.com"
PROVIDERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cognito": (
        {"client_id": "7abc0d1e2f3g4h5i6j7k8l9m0n", "token_use": "access", "aud": None},
        {"aud": "7abc0d1e2f3g4h5i6j7k8l9m0n", "token_use": "id"},
    ),
    "entra": (
        {"aud": ENTRA_API, "azp": "8c5b4a39-2817-4f06-a5f4-e3d2c1b0af9e", "scp": "read write"},
        {"aud": "api://things", "appid": "8c5b4a39-2817-4f06-a5f4-e3d2c1b0af9e"},
    ),
    "okta": (
        {"aud": "api://default", "cid": "0oa1b2c3d4", "scp": ["read", "write"]},
        {"aud": "0oa1b2c3d4"},
    ),
    "google": ({"aud": GOOGLE_CLIENT, "azp": GOOGLE_CLIENT}, {"aud": "another client"}),
    "google_without_scheme": ({"aud": GOOGLE_CLIENT}, {"iss": "https://accounts.google.com"}),
    "keycloak": (
        {"aud": ["account", "things"], "azp": "web", "typ": "Bearer"},
        {"aud": "things", "azp": "things", "typ": "ID"},
    ),
    "kubernetes": ({"aud": ["my-api"]}, {"aud": ["https://kubernetes.default.svc"]}),
}
"""For each verifier of the page, claims as the provider documents them: accepted, and refused."""


async def test_providers_page_accepts_what_each_provider_documents(tenant: LocalTenant) -> None:
    names = await run_page("providers.md", tenant)
    made: dict[str, TokenVerifier] = {}
    for name, (accepted, refused) in PROVIDERS.items():

        def at_tenant(issuer: str, audience: str | None, **options: Any) -> TokenVerifier:
            here = {"jwks_uri": tenant.jwks_uri, "http_client": None}
            return TokenVerifier(issuer, audience, **{**options, **here})

        known = {**names, "TokenVerifier": at_tenant}
        (code,) = (
            code
            for code in blocks(DOCS / "providers.md", "python")
            if f"\n{name} = " in f"\n{code}"
        )
        exec(code, known)
        made[name] = known[name]
        async with made[name] as verifier:
            others = {"iss": verifier.issuer, **NOT_THEIRS}
            token = await verifier.verify(tenant.token(claims={**others, **accepted}))
            assert sorted(token.scopes) == (["read", "write"] if "scp" in accepted else []), name
            with pytest.raises(InvalidTokenError):
                await verifier.verify(tenant.token(claims={**others, **refused}))
    assert {verifier.issuer for verifier in made.values()} == {
        names[name].issuer for name in PROVIDERS
    }


async def test_providers_page_asks_the_api_server_of_kubernetes_with_the_token_of_the_pod(
    tmp_path: Path,
) -> None:
    page = DOCS / "providers.md"
    (code,) = (code for code in blocks(page, "python") if "PodToken" in code)
    with LocalTenant(algorithm="ES256", tls=True) as tenant:
        code = code.replace("/var/run/secrets/kubernetes.io/serviceaccount", str(tmp_path))
        code = code.replace("https://kubernetes.default.svc/openid/v1/jwks", tenant.jwks_uri)
        (tmp_path / "ca.crt").write_text(tenant.ca_certificate)
        (tmp_path / "token").write_text("first")
        shown: list[str] = []

        async def look(request: httpx.Request) -> None:
            shown.append(request.headers["Authorization"])

        names: dict[str, Any] = {"TokenVerifier": TokenVerifier}
        exec(code, names)
        async with names["client"]() as client:
            client.event_hooks["request"].append(look)
            store = KeyStore("any issuer", jwks_uri=tenant.jwks_uri, http_client=client)
            async with store:
                (tmp_path / "token").write_text("renewed")
                await store.refresh()
    assert (shown[0], shown[-1]) == ("Bearer first", "Bearer renewed")


async def test_cors_snippet_answers_preflights(tenant: LocalTenant) -> None:
    names = await run_page("websockets-and-cors.md", tenant)
    transport = httpx.ASGITransport(names["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        headers = {
            "Origin": "https://app.acme.com",
            "Access-Control-Request-Headers": "Authorization",
        }
        for method, answered in (("GET", 200), ("POST", 200), ("DELETE", 400)):
            asked = {**headers, "Access-Control-Request-Method": method}
            assert (await client.options("/", headers=asked)).status_code == answered
        refused = await client.get("/", headers={"Origin": "https://app.acme.com"})
        assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://app.acme.com"
    await names["verifier"].aclose()


def client_of(tenant: LocalTenant) -> SigningKeysClient:
    return SigningKeysClient(
        tenant.issuer, auth=ClientCredentials(tenant.client_id, tenant.client_secret)
    )


async def test_page_of_many_processes_runs(
    tenant: LocalTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPS_SECRET", "STREAM_SECRET", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.setenv(name, "a-secret-of-16-characters")
    names = await run_page("many-processes.md", tenant)
    assert await status(names["app"], "/ops/livez") == 200
    assert await status(names["app"], "/ops/state") == 401
    assert await status(names["app"], "/ops/state", "a-secret-of-16-characters") == 200


def test_key_distrusted_at_one_process_of_the_trial_is_refused_by_both(tmp_path: Path) -> None:
    page = DOCS / "many-processes.md"
    (secret,) = re.findall(r"(?m)^export OPS_SECRET=(\S+)$", page.read_text())
    code = blocks(page, "python")[0]
    with LocalTenant() as tenant, redis_server() as redis:
        for shown, here in (
            ("redis://127.0.0.1:6379", redis.url),
            (f"http://127.0.0.1:{DEFAULT_PORT}/", tenant.issuer),
            (DEFAULT_AUDIENCE, tenant.audience),
        ):
            assert shown in code
            code = code.replace(shown, here)
        (tmp_path / "main.py").write_text(code)
        words = ["-m", "uvicorn", "--log-level=warning", f"--app-dir={tmp_path}", "main:app"]
        bearer = {"Authorization": f"Bearer {tenant.token()}"}
        with (
            server(*words, bind="--fd={}", OPS_SECRET=secret) as one,
            server(*words, bind="--fd={}", OPS_SECRET=secret) as other,
        ):
            assert [each.get("/things", headers=bearer).status_code for each in (one, other)] == [
                *(200, 200)
            ]
            body = {"kid": tenant.key().kid, "reason": "a trial"}
            auth = {"Authorization": f"Bearer {secret}"}
            assert one.post("/ops/distrust", json=body, headers=auth).status_code == 200
            assert one.get("/things", headers=bearer).status_code == 401
            wait_until(lambda: other.get("/things", headers=bearer).status_code == 401)


async def test_functions_of_the_rotation_page_rotate_and_revoke(
    tenant: LocalTenant,
    verifier: TokenVerifier,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(DOCS / "rotate-and-revoke.md", "python")
    assert '"acme.eu.auth0.com"' in code
    names: dict[str, Any] = {
        "verifier": verifier,
        "client_id": tenant.client_id,
        "client_secret": tenant.client_secret,
    }
    exec(code.replace("acme.eu.auth0.com", tenant.issuer), names)
    first = tenant.token()
    with pytest.raises(RevocationRefusedError):  # a day has not passed
        await names["rotate_and_revoke_later"]()
    assert await verifier.verify(first)
    second = tenant.token()
    receipt = await names["current_key_has_leaked"]()
    assert receipt.kid == tenant.key("revoked").kid
    with pytest.raises(RevokedKeyError):
        await verifier.verify(second)


async def test_page_of_a_leaked_key_runs(tenant: LocalTenant, verifier: TokenVerifier) -> None:
    kid = tenant.key().kid
    await run_page("leaked-key.md", tenant, verifier=verifier, kid=kid)
    assert await verifier.verify(tenant.token())
    assert not verifier.distrusted


async def test_incident_in_code_is_complete(tenant: LocalTenant, verifier: TokenVerifier) -> None:
    leaked = tenant.token()
    async with client_of(tenant) as keys:
        rotation = KeyRotation(keys, verifier)
        names = await run_page("operating.md", tenant, rotation=rotation, kid=tenant.key().kid)
    assert names["incident"].report.complete
    with pytest.raises(InvalidTokenError):
        await verifier.verify(leaked)


async def test_operations_of_the_configuration_page_take_the_secret_of_the_file(
    tenant: LocalTenant, verifier: TokenVerifier, tmp_path: Path
) -> None:
    file = tmp_path / "fleet"
    file.write_text("a-secret-of-16-characters")
    code = blocks(DOCS / "configuration.md", "python")[1]
    assert "/run/secrets/fleet" in code
    app = Starlette()
    exec(code.replace("/run/secrets/fleet", str(file)), {"app": app, "verifier": verifier})
    assert await status(app, "/ops/state") == 401
    assert await status(app, "/ops/state", "a-secret-of-16-characters") == 200


async def test_logging_of_the_troubleshooting_page_names_the_code(
    tenant: LocalTenant, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("jwks_guard")
    before = logger.level
    try:
        await run_page("troubleshooting.md", tenant)
        expired = tenant.token(lifetime=-60)
        with (
            SyncTokenVerifier(tenant.issuer, tenant.audience) as verifier,
            pytest.raises(InvalidTokenError),
        ):
            await asyncio.to_thread(verifier.verify, expired)
    finally:
        logger.setLevel(before)
    assert [
        getattr(each, "code", None)
        for each in caplog.records
        if getattr(each, "kind", "") == "token_refused"
    ] == ["token_expired"]
