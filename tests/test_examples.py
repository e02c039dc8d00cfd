"""Every example runs, as it stands in the README or in examples/."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import httpx
import pytest

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
    assert re.search(r"(?m)^  no: Clients may hold tokens of ", printed)
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
    async with LocalTenant() as tenant:
        monkeypatch.setenv("ISSUER", tenant.issuer)
        monkeypatch.setenv("AUDIENCE", tenant.audience)
        example = importlib.import_module("examples.starlette_api")
        transport = httpx.ASGITransport(example.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            granted = {"Authorization": f"Bearer {tenant.token(scope='read:things')}"}
            other = {"Authorization": f"Bearer {tenant.token(scope='other')}"}
            assert (await client.get("/things")).status_code == 401
            assert (await client.get("/things", headers=other)).status_code == 403
            assert (await client.get("/things", headers=granted)).json()["owner"] == "auth0|alice"
            assert (await client.get("/health")).json()["status"] == "ok"
        await example.verifier.aclose()


async def test_readme_quick_start_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"<!-- quick start -->\s*```python\n(.*?)```", readme, re.DOTALL)
    async with LocalTenant() as tenant:
        made = {
            "https://acme.eu.auth0.com/": tenant.issuer,
            "https://api.acme.com": tenant.audience,
        }
        for placeholder, value in made.items():
            assert placeholder in code
            code = code.replace(placeholder, value)
        names: dict[str, object] = {}
        exec(compile(code, "README.md", "exec"), names)
        app, verifier = names["app"], names["verifier"]
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # made by the README
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            headers = {"Authorization": f"Bearer {tenant.token(sub='auth0|bob')}"}
            assert (await client.get("/me")).status_code == 401
            assert (await client.get("/me", headers=headers)).json() == {"sub": "auth0|bob"}
        await verifier.aclose()  # type: ignore[attr-defined]  # made by the README
