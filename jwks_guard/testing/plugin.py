"""pytest fixtures: a tenant for each test. pytest finds them once the library is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jwks_guard.testing import LocalTenant


@pytest.fixture
def local_tenant() -> Iterator[LocalTenant]:
    """A tenant that serves HTTP on a free port of 127.0.0.1."""
    from jwks_guard.testing import LocalTenant

    with LocalTenant() as tenant:
        yield tenant


@pytest.fixture
def local_tenant_in_process() -> Iterator[LocalTenant]:
    """A tenant without a port: give its `transport` to your `httpx.AsyncClient`."""
    from jwks_guard.testing import LocalTenant

    with LocalTenant(in_process=True) as tenant:
        yield tenant
