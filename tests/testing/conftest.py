from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from jwks_guard.testing import LocalTenant, ManualClock
from tests.support import PATIENCE


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def algorithm() -> str:
    """Of the tenant's keys: quick to make, where a module doesn't say otherwise."""
    return "ES256"


@pytest.fixture(params=["served", "in process"])
async def tenant(
    request: pytest.FixtureRequest, clock: ManualClock, algorithm: str
) -> AsyncIterator[LocalTenant]:
    """The same tenant over a real socket and without one: every test sees both behave alike."""
    in_process = request.param == "in process"
    async with LocalTenant(clock=clock, in_process=in_process, algorithm=algorithm) as local:
        yield local


@pytest.fixture
async def client(
    request: pytest.FixtureRequest, tenant: LocalTenant
) -> AsyncIterator[httpx.AsyncClient]:
    in_process = "in process" in request.node.name
    transport = tenant.transport if in_process else None
    async with httpx.AsyncClient(
        base_url=tenant.issuer, transport=transport, trust_env=False, timeout=PATIENCE
    ) as http:
        yield http
