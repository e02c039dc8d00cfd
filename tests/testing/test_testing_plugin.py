from __future__ import annotations

import sys
from pathlib import Path

import httpx

from jwks_guard.testing import LocalTenant
from tests.process.programs import run_to_end

LIGHT = """
import sys
import jwks_guard.testing.plugin
heavy = {"uvicorn", "starlette", "jwks_guard.testing.tenant"}
print(sorted(heavy & set(sys.modules)))
"""


async def test_served_fixture_is_a_tenant_on_a_socket(local_tenant: LocalTenant) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(local_tenant.jwks_uri)
    assert response.json() == local_tenant.jwks()


async def test_in_process_fixture_is_a_tenant_behind_its_transport(
    local_tenant_in_process: LocalTenant,
) -> None:
    tenant = local_tenant_in_process
    async with httpx.AsyncClient(transport=tenant.transport) as client:
        response = await client.get(tenant.jwks_uri)
    assert response.json() == tenant.jwks()


def test_plugin_costs_a_project_that_does_not_use_it_nearly_nothing() -> None:
    run = run_to_end([sys.executable, "-c", LIGHT])
    assert (run.returncode, run.stdout) == (0, "[]\n")


def test_installed_library_offers_its_fixtures_by_itself(tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text(
        "def test_token(local_tenant_in_process):\n"
        "    assert local_tenant_in_process.token().count('.') == 2\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    run = run_to_end(command, cwd=tmp_path)
    assert run.returncode == 0
    assert "1 passed" in run.stdout
