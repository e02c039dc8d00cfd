"""A tenant on a socket, a server that answers by script, and a client whose pauses take no time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from jwks_guard.admin import SigningKeysClient
from jwks_guard.testing import LocalTenant
from tests.admin.support import Naps, Scripted, client_of, scripted
from tests.support import PATIENCE, HandClock


@pytest.fixture
def naps(clock: HandClock) -> Naps:
    return Naps(clock)


@pytest.fixture
def tenant(clock: HandClock) -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256", clock=clock) as local:
        yield local


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as listening:
        yield listening


@pytest.fixture
async def keys(server: Scripted, naps: Naps) -> AsyncIterator[SigningKeysClient]:
    async with client_of(server, naps, timeout=PATIENCE) as client:
        yield client
