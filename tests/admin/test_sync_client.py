"""The client for threads does what the one for event loops does."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from jwks_guard import ConfigurationError
from jwks_guard.admin import (
    ClientCredentials,
    SigningKey,
    SigningKeysClient,
    StaticToken,
    SyncSigningKeysClient,
)
from jwks_guard.admin.signing_keys import ClientOptions
from jwks_guard.base.portal import process_portal
from jwks_guard.errors import (
    JWKSGuardError,
    NotFoundError,
    RateLimitedError,
    RevocationRefusedError,
    RotationUncertainError,
    UnauthorizedError,
    UnavailableError,
)
from jwks_guard.testing import LocalTenant
from tests.admin.support import KEYS, ROTATE, TOKEN, Naps


def options(tenant: LocalTenant, naps: Naps) -> ClientOptions:
    auth = ClientCredentials(tenant.client_id, tenant.client_secret)
    return {"auth": auth, "clock": naps.clock, "sleep": naps, "timeout": 2.0}


@pytest.fixture
def keys(tenant: LocalTenant, naps: Naps) -> Iterator[SyncSigningKeysClient]:
    with SyncSigningKeysClient(tenant.issuer, **options(tenant, naps)) as client:
        yield client


def asynchronously(tenant: LocalTenant, naps: Naps, call: str, *arguments: str) -> Any:
    async def once() -> Any:
        async with SigningKeysClient(tenant.issuer, **options(tenant, naps)) as client:
            return await getattr(client, call)(*arguments)

    return asyncio.run(once())


# --- the same ---


def test_calls_and_options_are_those_of_the_async_client() -> None:
    ours = inspect.signature(SigningKeysClient).parameters
    keywords = [name for name, each in ours.items() if each.kind is each.KEYWORD_ONLY]
    assert list(ClientOptions.__annotations__) == keywords
    for call in ("list", "get", "rotate", "revoke"):
        mine = inspect.signature(getattr(SyncSigningKeysClient, call))
        theirs = inspect.signature(getattr(SigningKeysClient, call))
        assert mine.parameters == theirs.parameters
        assert mine.return_annotation == theirs.return_annotation


def test_both_read_the_same_keys(
    keys: SyncSigningKeysClient, tenant: LocalTenant, naps: Naps
) -> None:
    tenant.rotate()
    tenant.revoke(tenant.key("previous").kid)
    listed = keys.list()
    assert listed == asynchronously(tenant, naps, "list")
    for key in listed:
        assert keys.get(key.kid) == key == asynchronously(tenant, naps, "get", key.kid)


def test_rotation_and_revocation_are_done_and_given_alike(
    keys: SyncSigningKeysClient, tenant: LocalTenant, naps: Naps
) -> None:
    first = tenant.key()
    new = keys.rotate()
    assert (new.kid, new.state, new.inferred) == (tenant.key("next").kid, "next", False)
    other = asynchronously(tenant, naps, "rotate")
    assert replace(other, kid=new.kid, cert=new.cert) != first
    revoked = keys.revoke(first.kid)
    assert (revoked.kid, revoked.state, revoked.cert) == (first.kid, "revoked", first.cert)
    again = asynchronously(tenant, naps, "revoke", first.kid)
    assert keys.revoke(first.kid) == again
    assert again.inferred


def test_lost_answers_are_inferred(
    keys: SyncSigningKeysClient, tenant: LocalTenant, naps: Naps
) -> None:
    old = tenant.key().kid
    tenant.faults.truncated(path=ROTATE)
    assert keys.rotate().inferred
    tenant.faults.reset(path=f"{KEYS}/{old}/revoke")
    assert keys.revoke(old).inferred
    assert tenant.requests.count(ROTATE) == 1
    assert naps.seconds == []


def test_failures_are_the_same_errors(
    keys: SyncSigningKeysClient, tenant: LocalTenant, naps: Naps
) -> None:
    current = tenant.key().kid
    with pytest.raises(NotFoundError):
        keys.get("nobody")
    with pytest.raises(ConfigurationError):
        keys.get("")
    with pytest.raises(RevocationRefusedError):
        keys.revoke(current)
    tenant.faults.status(502, path=ROTATE)
    with pytest.raises(RotationUncertainError) as uncertain:
        keys.rotate()
    assert [key.kid for key in uncertain.value.before] == [current, tenant.key("next").kid]
    tenant.faults.status(429, retry_after=900, path=KEYS)
    with pytest.raises(RateLimitedError):
        keys.list()
    assert sum(naps.seconds) == 30.0


def test_reading_is_repeated_with_the_given_sleep(
    keys: SyncSigningKeysClient, tenant: LocalTenant, naps: Naps
) -> None:
    tenant.faults.status(503, path=KEYS, times=2)
    assert len(keys.list()) == 2
    assert len(naps.seconds) == 2
    tenant.stop()
    with pytest.raises(UnavailableError):
        keys.list()


@pytest.mark.parametrize("domain", ["", "acme", "http://acme.auth0.com", "acme.auth0.com/api"])
def test_domain_that_cannot_be_used_is_refused_at_construction(domain: str) -> None:
    with pytest.raises(ConfigurationError, match="domain"):
        SyncSigningKeysClient(domain, auth=StaticToken("token"))


def test_address_is_that_of_the_tenant(keys: SyncSigningKeysClient, tenant: LocalTenant) -> None:
    assert keys.base_url == tenant.issuer


# --- threads ---


def test_many_threads_share_one_client_and_one_token(
    keys: SyncSigningKeysClient, tenant: LocalTenant
) -> None:
    def listed(_: int) -> list[SigningKey]:
        return keys.list()

    with ThreadPoolExecutor(16) as threads:
        lists = list(threads.map(listed, range(48)))
    assert all(each == lists[0] for each in lists)
    assert tenant.requests.count(TOKEN) == 1
    assert tenant.requests.count(KEYS) == 48


def test_thread_that_fails_takes_no_other_with_it(
    keys: SyncSigningKeysClient, tenant: LocalTenant
) -> None:
    def read(kid: str) -> str:
        try:
            return keys.get(kid).kid
        except JWKSGuardError as error:
            return type(error).__name__

    current = tenant.key().kid
    with ThreadPoolExecutor(8) as threads:
        read_by_them = list(threads.map(read, [current, "nobody"] * 10))
    assert read_by_them == [current, "NotFoundError"] * 10


def test_thread_with_a_running_loop_can_use_it_too(keys: SyncSigningKeysClient) -> None:
    async def blocking() -> int:
        return len(keys.list())

    assert asyncio.run(blocking()) == 2


# --- closed ---


def test_client_is_closed_when_the_block_is_left(tenant: LocalTenant, naps: Naps) -> None:
    with SyncSigningKeysClient(tenant.issuer, **options(tenant, naps)) as keys:
        keys.list()
    keys.close()
    with pytest.raises(ConfigurationError, match="closed"):
        keys.list()
    assert tenant.requests.count(KEYS) == 1


def test_client_is_closed_when_the_block_fails(tenant: LocalTenant) -> None:
    with (
        pytest.raises(UnauthorizedError),
        SyncSigningKeysClient(tenant.issuer, auth=StaticToken("token")) as keys,
    ):
        keys.list()
    with pytest.raises(ConfigurationError, match="closed"):
        keys.list()


def test_foreign_http_client_is_used_and_left_open(tenant: LocalTenant, naps: Naps) -> None:
    http = httpx.AsyncClient(verify=False, trust_env=False)
    for _ in range(2):
        given: ClientOptions = {**options(tenant, naps), "http_client": http}
        with SyncSigningKeysClient(tenant.issuer, **given) as keys:
            assert len(keys.list()) == 2
    assert not http.is_closed
    process_portal.run(http.aclose)
