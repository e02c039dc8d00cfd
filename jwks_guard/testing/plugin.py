"""pytest fixtures: local tenants. pytest finds them once the library is installed.

Nothing of the library is imported before a test asks for a tenant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jwks_guard.testing import LocalTenant
    from jwks_guard.testing.primes import SharedPrimes


@pytest.fixture(scope="session")
def local_tenant_options() -> dict[str, Any]:
    """Override it: the arguments of LocalTenant that every tenant of the fixtures is made with."""
    return {}


@pytest.fixture(scope="session")
def _local_tenant_primes() -> SharedPrimes:
    from jwks_guard.testing.primes import SharedPrimes

    return SharedPrimes()


@pytest.fixture
def local_tenant(
    local_tenant_options: Mapping[str, Any], _local_tenant_primes: SharedPrimes
) -> Iterator[LocalTenant]:
    """A tenant of the test's own, which serves HTTP on a free port of 127.0.0.1."""
    yield from _tenant(local_tenant_options, _local_tenant_primes)


@pytest.fixture(scope="module")
def local_tenant_module(
    local_tenant_options: Mapping[str, Any], _local_tenant_primes: SharedPrimes
) -> Iterator[LocalTenant]:
    """The same for all tests of a module: what one does to it, the next ones see."""
    yield from _tenant(local_tenant_options, _local_tenant_primes)


@pytest.fixture(scope="session")
def local_tenant_session(
    local_tenant_options: Mapping[str, Any], _local_tenant_primes: SharedPrimes
) -> Iterator[LocalTenant]:
    """The same for all tests of the run, or of one worker of pytest-xdist."""
    yield from _tenant(local_tenant_options, _local_tenant_primes)


@pytest.fixture
def local_tenant_in_process(
    local_tenant_options: Mapping[str, Any], _local_tenant_primes: SharedPrimes
) -> Iterator[LocalTenant]:
    """A tenant of the test's own without a port: give its `transport` to `httpx.AsyncClient`."""
    yield from _tenant(local_tenant_options, _local_tenant_primes, in_process=True)


@pytest.fixture(scope="module")
def local_tenant_in_process_module(
    local_tenant_options: Mapping[str, Any], _local_tenant_primes: SharedPrimes
) -> Iterator[LocalTenant]:
    """The same for all tests of a module: what one does to it, the next ones see."""
    yield from _tenant(local_tenant_options, _local_tenant_primes, in_process=True)


@pytest.fixture(scope="session")
def local_tenant_in_process_session(
    local_tenant_options: Mapping[str, Any], _local_tenant_primes: SharedPrimes
) -> Iterator[LocalTenant]:
    """The same for all tests of the run, or of one worker of pytest-xdist."""
    yield from _tenant(local_tenant_options, _local_tenant_primes, in_process=True)


def _tenant(
    options: Mapping[str, Any], primes: SharedPrimes, **kind: bool
) -> Iterator[LocalTenant]:
    from jwks_guard.testing import LocalTenant

    with LocalTenant(**{"make_rsa_key": primes.key, **options, **kind}) as tenant:
        yield tenant
