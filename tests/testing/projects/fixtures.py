"""Tests as a user writes them; test_testing_plugin.py runs them in a project of their own."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from jwks_guard import Register, RevokedKeyError, SyncTokenVerifier
from jwks_guard.testing import LocalTenant

_first: dict[str, LocalTenant] = {}


@pytest.fixture(scope="session")
def local_tenant_options() -> dict[str, Any]:
    return {"audience": "https://things.test"}


def verifier_of(tenant: LocalTenant, register: Register | None = None) -> SyncTokenVerifier:
    return SyncTokenVerifier(
        tenant.issuer,
        "https://things.test",
        algorithms=["RS256"],
        register=register,
        http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
    )


def distrust_all(tenant: LocalTenant, register: Register | None = None) -> None:
    """Accept a token of each key, then distrust it; raises RevokedKeyError if it was before."""
    with verifier_of(tenant, register) as verifier:
        for key in tenant.signing_keys:
            assert verifier.verify(tenant.token(key=key)).issuer == tenant.issuer
            verifier.distrust(key.kid, reason="leaked", force=True)


@pytest.mark.parametrize("turn", [1, 2, 3])
@pytest.mark.parametrize("kind", ["local_tenant", "local_tenant_in_process"])
def test_tenant_of_a_test_knows_nothing_of_the_last_one(
    kind: str, turn: int, request: pytest.FixtureRequest
) -> None:
    tenant = request.getfixturevalue(kind)
    assert tenant is not _first.setdefault(kind, tenant) or turn == 1
    distrust_all(tenant)


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.parametrize("scope", ["module", "session"])
@pytest.mark.parametrize("kind", ["local_tenant", "local_tenant_in_process"])
def test_shared_tenant_keeps_what_tests_do_to_it(
    kind: str, scope: str, turn: int, request: pytest.FixtureRequest
) -> None:
    tenant = request.getfixturevalue(f"{kind}_{scope}")
    assert tenant is _first.setdefault(f"{kind}_{scope}", tenant)
    assert len(tenant.signing_keys) == 1 + turn
    distrust_all(tenant, Register())
    if turn == 1:
        distrust_all(tenant)
    else:
        with pytest.raises(RevokedKeyError):
            distrust_all(tenant)
    tenant.rotate()


def test_served_tenant_answers_over_http(local_tenant: LocalTenant) -> None:
    with httpx.Client(trust_env=False) as client:
        assert client.get(local_tenant.jwks_uri).json() == local_tenant.jwks()
