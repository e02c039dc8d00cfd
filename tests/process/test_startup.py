"""A server comes up although nobody can tell it any key, and works as soon as somebody can."""

from __future__ import annotations

import httpx

from jwks_guard.testing import LocalTenant
from tests.process.programs import server, wait_until

UVICORN = ("-m", "uvicorn", "--ws=websockets-sansio", "tests.process.apps.guarded:app")


def test_a_tenant_that_never_answers_keeps_no_server_from_coming_up(
    local_tenant: LocalTenant,
) -> None:
    hold = local_tenant.faults.hold()
    credentials = {"Authorization": f"Bearer {local_tenant.token()}"}
    with server(
        *UVICORN,
        bind="--fd={}",
        ISSUER=local_tenant.issuer,
        AUDIENCE=local_tenant.audience,
    ) as client:
        assert client.get("/health").is_success
        refused = client.get("/", headers=credentials)
        assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert int(refused.headers["Retry-After"]) >= 1
        hold.release()
        local_tenant.faults.clear()
        wait_until(lambda: client.get("/", headers=credentials).is_success)


def test_a_tenant_that_is_down_keeps_no_server_from_coming_up(local_tenant: LocalTenant) -> None:
    local_tenant.stop()
    credentials = {"Authorization": f"Bearer {local_tenant.token()}"}
    with server(
        *UVICORN,
        bind="--fd={}",
        ISSUER=local_tenant.issuer,
        AUDIENCE=local_tenant.audience,
    ) as client:
        assert client.get("/health").is_success
        assert client.get("/", headers=credentials).status_code == httpx.codes.SERVICE_UNAVAILABLE
        local_tenant.start()
        wait_until(lambda: client.get("/", headers=credentials).is_success)
