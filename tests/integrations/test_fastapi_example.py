"""examples/fastapi_api.py in uvicorn and by a type checker, and what the documents show."""

import asyncio
import importlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from jwks_guard import TokenVerifier
from jwks_guard.integrations.fastapi import Guard
from jwks_guard.testing import LocalTenant
from tests.integrations.servers import served_asgi
from tests.process.programs import PROJECT, require_program, run_to_end
from tests.support import PATIENCE
from tests.test_docs import run_page
from tests.test_examples import snippet

TENANT_PAGE = PROJECT / "docs" / "local-tenant.md"
NAME = "examples.fastapi_api"


@dataclass
class Example:
    """The running example and its tenant."""

    module: Any
    tenant: LocalTenant
    client: httpx.Client

    def get(self, token: str | None, path: str = "/things") -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.client.get(path, headers=headers)


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch, tenant: LocalTenant) -> Iterator[Example]:
    monkeypatch.setenv("JWKS_GUARD_ISSUER", tenant.issuer)
    monkeypatch.setenv("JWKS_GUARD_AUDIENCE", tenant.audience)
    sys.modules.pop(NAME, None)
    module = importlib.import_module(NAME)
    with (
        served_asgi(module.app, at_end=[module.verifier.aclose]) as address,
        httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client,
    ):
        yield Example(module, tenant, client)


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tenant: LocalTenant) -> Iterator[Example]:
    with running(monkeypatch, tenant) as example:
        yield example


def test_example_lets_in_who_may_and_refuses_the_others(example: Example) -> None:
    token = example.tenant.token(scope="read:things")
    assert example.get(token).json() == {"owner": "auth0|alice"}
    assert example.get(token, "/account/scopes").json() == ["read:things"]
    assert example.get(token, "/").json() == "hello auth0|alice"
    assert example.get(None, "/").json() == "hello"
    assert example.get(None, "/account/scopes").status_code == 401
    assert example.get(None).headers["www-authenticate"] == "Bearer"
    for bad in (example.tenant.forged_token(), example.tenant.token(lifetime=-60)):
        refused = example.get(bad)
        assert refused.status_code == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    poor = example.get(example.tenant.token(scope="openid"))
    assert poor.status_code == 403
    assert 'scope="read:things"' in poor.headers["www-authenticate"]
    assert example.get(None, "/health").json() == {"status": "ok"}


def test_example_refuses_a_revoked_key(example: Example) -> None:
    token, old = example.tenant.token(scope="read:things"), example.tenant.key().kid
    example.tenant.rotate()
    assert example.get(token).status_code == 200
    url = str(example.client.base_url.copy_with(scheme="ws", path="/echo"))
    headers = {"Authorization": f"Bearer {token}"}
    with connect(url, additional_headers=headers, proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=PATIENCE) == "auth0|alice: hello"
        example.module.verifier.keys.decisions.decide(old, reason="leaked")
        assert example.get(token).status_code == 401
        with pytest.raises(ConnectionClosed):
            websocket.recv(timeout=PATIENCE)
        assert websocket.close_code == 1008


def test_example_that_never_got_keys_asks_for_patience(
    monkeypatch: pytest.MonkeyPatch, tenant: LocalTenant
) -> None:
    tenant.faults.status(503, path="*")
    with running(monkeypatch, tenant) as example:
        answer = example.get(tenant.token(scope="read:things"))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert example.get(None, "/health").status_code == 503


@pytest.mark.outside
def test_example_has_no_type_errors_by_pyright(tmp_path: Path) -> None:
    require_program("node", "apt-get install -y nodejs")
    (tmp_path / "fastapi_api.py").write_text((PROJECT / "examples" / "fastapi_api.py").read_text())
    strict = {"typeCheckingMode": "strict", "extraPaths": [str(PROJECT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(strict))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    assert run_to_end(command, timeout=5 * PATIENCE).returncode == 0


# --- README.md, docs/frameworks.md, docs/fastapi.md and docs/local-tenant.md ---


async def statuses(app: Any, path: str, *tokens: str | None) -> list[int]:
    found = []
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        for token in tokens:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            found.append((await client.get(path, headers=headers)).status_code)
    return found


@pytest.mark.parametrize("path", ["README.md", "docs/frameworks.md"])
async def test_short_snippet_runs(path: str, tenant: LocalTenant) -> None:
    names = snippet("fastapi", tenant, path)
    good, poor = tenant.token(scope="read:things"), tenant.token(scope="openid")
    assert await statuses(names["app"], "/things", good, poor, None) == [200, 403, 401]
    await names["guard"].verifier.aclose()


async def test_page_runs(tenant: LocalTenant) -> None:
    names = await run_page("fastapi.md", tenant)
    app = names["app"]
    good, poor, bad = tenant.token(scope="read:things"), tenant.token(scope=""), "bad"
    assert await statuses(app, "/things", None, bad) == [200, 200]  # as the last block overrides it
    app.dependency_overrides.clear()
    assert await statuses(app, "/things", good, poor, bad, None) == [200, 403, 401, 401]
    assert await statuses(app, "/account/scopes", good, poor, bad, None) == [200, 200, 401, 401]
    assert await statuses(app, "/greeting", good, poor, bad, None) == [200, 200, 401, 200]
    assert await statuses(names["documented"], "/docs", None) == [200]
    verifier = next(names["verifier"].__wrapped__(tenant))
    await asyncio.to_thread(names["test_things_need_a_scope"], tenant)
    await asyncio.to_thread(names["test_token_of_a_distrusted_key_is_refused"], verifier, tenant)
    await names["guard"].verifier.aclose()


async def test_page_of_the_tenant_names_its_client_to_the_docs_page() -> None:
    (code,) = re.findall(
        r"<!-- authorize button -->\s*```python\n(.*?)```", TENANT_PAGE.read_text(), re.DOTALL
    )
    known = {"Guard": Guard, "TokenVerifier": TokenVerifier, "FastAPI": FastAPI}
    names: dict[str, Any] = {**known, "CLIENT_ID": "local-client"}
    exec(compile(code, str(TENANT_PAGE), "exec"), names)
    assert await statuses(names["app"], "/docs", None) == [200]
