"""Every example runs, as it stands in docs/ or in examples/."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.testing import LocalTenant
from tests.process.programs import run_to_end
from tests.support import PATIENCE

ROOT = Path(__file__).parent.parent


def run(name: str) -> str:
    """What the example prints, once it has ended well."""
    done = run_to_end([sys.executable, "-m", f"examples.{name}"], cwd=ROOT, timeout=5 * PATIENCE)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["revoke_a_key", "threads"])
def test_script_runs_by_itself(name: str) -> None:
    assert run(name)


def test_rotation_example_refuses_no_valid_token_and_after_a_leak_every_stolen_one() -> None:
    printed = run("rotate_and_revoke")
    (served,) = re.findall(r"(?m)^planned: (\d+) requests served meanwhile, 0 refused;$", printed)
    assert int(served) > 100
    assert re.search(r"(?m)^  no: Tokens of .*, also those never used", printed)
    assert re.search(r"(?m)last token was accepted -?[\d.]+ s after the call;$", printed)
    assert re.search(r"(?m)^  \d+ requests were served after it$", printed)
    steps = re.findall(r"(?m)^  \d\d:\d\d:\d\d (\w+) [\w-]+: (\w+)$", printed)
    assert [action for action, step in steps if step == "finished"] == [
        "rotate",
        "revoke",
        "rotate_and_revoke",
    ]


def test_fleet_example_waits_for_all_instances_and_the_other_one_hears_of_a_leak() -> None:
    printed = run("fleet_over_http")
    verdicts = re.findall(r"(?m)^(no|unknown|yes), by what 2 instances show$", printed)
    assert verdicts[0] == "no"
    assert verdicts[-1] == "yes"
    assert re.search(r"(?m)^  \S+ \(\w{8}\) accepted \d+ tokens? of ", printed)
    assert re.search(r"(?m)^refused by the other one too, [\d.]+ s after", printed)
    assert "tokens of the new key are accepted by both" in printed


async def test_starlette_example_guards_its_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with LocalTenant(algorithm="ES256") as tenant:
        monkeypatch.setenv("JWKS_GUARD_ISSUER", tenant.issuer)
        monkeypatch.setenv("JWKS_GUARD_AUDIENCE", tenant.audience)
        example = importlib.import_module("examples.starlette_api")
        transport = httpx.ASGITransport(example.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:

            async def things(token: str | None) -> httpx.Response:
                sent = {} if token is None else {"Authorization": f"Bearer {token}"}
                return await client.get("/things", headers=sent)

            good = tenant.token(scope="read:things")
            tenant.faults.status(503)
            outage = await things(good)
            assert (outage.status_code, "retry-after" in outage.headers) == (503, True)
            tenant.faults.clear()
            await example.verifier.keys.refresh()
            assert (await things(good)).json()["owner"] == "auth0|alice"
            assert (await things(None)).headers["www-authenticate"] == "Bearer"
            for bad in ("junk", tenant.forged_token(), tenant.token(claims={"exp": 1})):
                assert (await things(bad)).status_code == 401
            assert (await things(tenant.token(scope="other"))).status_code == 403
            assert (await client.get("/health")).json()["status"] == "ok"
            await example.verifier.distrust(tenant.key().kid, reason="leaked", force=True)
            assert (await things(good)).status_code == 401
        await example.verifier.aclose()


def test_starlette_example_without_its_variables_names_them() -> None:
    environ = {name: text for name, text in os.environ.items() if "JWKS_GUARD_" not in name}
    script = [sys.executable, "-c", "import examples.starlette_api"]
    done = run_to_end(script, cwd=ROOT, env=environ)
    assert done.returncode == 1
    assert "set JWKS_GUARD_ISSUER (or JWKS_GUARD_DOMAIN) and JWKS_GUARD_AUDIENCE" in done.stderr


def snippet(
    name: str, tenant: LocalTenant, path: str = "docs/frameworks.md", **known: object
) -> dict[str, Any]:
    """What the code block after `<!-- name -->` defines, with the tenant in place of Auth0.

    It finds the names in `known`, as a file has them above the block.
    """
    text = (ROOT / path).read_text()
    (code,) = re.findall(rf"<!-- {name} -->\s*```python\n(.*?)```", text, re.DOTALL)
    assert "https://acme.eu.auth0.com/" in code
    code = code.replace("https://acme.eu.auth0.com/", tenant.issuer)
    names: dict[str, Any] = {"__name__": f"snippet_{name}", **known}
    exec(compile(code.replace("https://api.acme.com", tenant.audience), path, "exec"), names)
    return names


def test_page_of_starlette_wraps_any_asgi_app() -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        app = snippet("asgi", tenant, "docs/starlette.md")["app"]
        with TestClient(app) as client:  # with lifespan, as a server has it
            headers = {"Authorization": f"Bearer {tenant.token(sub='auth0|bob')}"}
            assert client.get("/").status_code == 401
            assert client.get("/", headers=headers).text == "hello auth0|bob"
            assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "name", "function", "said"),
    [
        ("docs/without-a-framework.md", "bare", "answer", b"auth0|bob"),
        ("docs/request-guard.md", "guard", "handle", b"hello auth0|bob"),
    ],
)
async def test_guard_without_a_framework_answers(
    path: str, name: str, function: str, said: bytes
) -> None:
    async with LocalTenant(algorithm="ES256") as tenant:
        names = snippet(name, tenant, path)
        headers = {"Authorization": f"Bearer {tenant.token(sub='auth0|bob', scope='read:things')}"}
        answer = names[function]
        assert await answer("GET", "https://api.acme.com/", headers) == (200, {}, said)
        status, fields, body = await answer("GET", "https://api.acme.com/", {})
        assert (status, fields["www-authenticate"]) == (401, "Bearer")
        assert int(fields["content-length"]) == len(body)
        await names["guard"].verifier.aclose()


@pytest.mark.parametrize("name", ["sources", "problem"])
def test_other_snippets_of_the_request_guard_run(name: str) -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        assert snippet(name, tenant, "docs/request-guard.md")


@pytest.mark.parametrize("challenge", [True, False])
async def test_route_of_starlette_is_refused_with_a_challenge_by_the_guard_alone(
    challenge: bool,
) -> None:
    async with LocalTenant(algorithm="ES256") as tenant:
        verifier = TokenVerifier(tenant.issuer, tenant.audience)
        guard = Middleware(JWKSGuardMiddleware, verifier=verifier, required_scopes=["read:things"])
        route = Route("/things", hello, middleware=[guard])
        if not challenge:
            route = Route("/things", requires("read:things")(hello))
        app = Starlette(routes=[route])
        app.add_middleware(JWKSGuardMiddleware, verifier=verifier)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            for scope, status in (("read:things", 200), ("openid", 403)):
                headers = {"Authorization": f"Bearer {tenant.token(scope=scope)}"}
                answer = await client.get("/things", headers=headers)
                assert answer.status_code == status
            assert ("www-authenticate" in answer.headers) is challenge
        await verifier.aclose()


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def test_quick_start_runs() -> None:
    async with LocalTenant() as tenant:
        names = snippet("quick start", tenant, "docs/starlette.md")
        transport = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            headers = {"Authorization": f"Bearer {tenant.token(sub='auth0|bob')}"}
            assert (await client.get("/me")).status_code == 401
            assert (await client.get("/me", headers=headers)).json() == {"sub": "auth0|bob"}
        await names["verifier"].aclose()
