from __future__ import annotations

import shutil
import sys
from pathlib import Path

import httpx
import pytest

from jwks_guard.testing import LocalTenant
from tests.process.programs import PROJECT, run_to_end

FOREIGN = ("faker", "hypothesispytest", "pytest_cov")
"""Plugins of this environment that the fixtures have nothing to do with: each process loads all."""
SUITE = PROJECT / "tests" / "testing" / "projects" / "fixtures.py"
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


@pytest.mark.parametrize(
    ("modules", "plugins"),
    [
        (1, ["-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]),
        (2, ["-p", "no:asyncio", "-n", "2", "--dist", "loadfile"]),
    ],
    ids=["with pytest-asyncio", "without it, in two workers of pytest-xdist"],
)
def test_fixtures_hold_in_a_project_of_its_own(
    tmp_path: Path, modules: int, plugins: list[str]
) -> None:
    for number in range(modules):
        shutil.copy(SUITE, tmp_path / f"test_{number}.py")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    without = [f"-pno:{name}" for name in FOREIGN]
    run = run_to_end([*command, *without, *plugins, str(tmp_path)], cwd=tmp_path)
    assert run.returncode == 0
    assert f"{15 * modules} passed" in run.stdout
