from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from jwks_guard import (
    ConfigurationError,
    Register,
    RevokedKeyError,
    SyncTokenVerifier,
    TokenVerifier,
)
from jwks_guard.admin import (
    AdminEvent,
    ClientCredentials,
    RevocationWatcher,
    SigningKeysClient,
    StaticToken,
)
from jwks_guard.asgi import operations
from jwks_guard.errors import ForbiddenError, UnavailableError
from jwks_guard.fleet import HTTPFleet
from jwks_guard.testing import LocalTenant
from tests.admin.support import Naps
from tests.support import HandClock, verifier_of

KEYS = "/api/v2/keys/signing"


@pytest.fixture
def tenant(clock: HandClock) -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256", clock=clock) as local:
        yield local


@pytest.fixture
async def keys(tenant: LocalTenant, naps: Naps) -> AsyncIterator[SigningKeysClient]:
    auth = ClientCredentials(tenant.client_id, tenant.client_secret)
    async with SigningKeysClient(
        tenant.issuer, auth=auth, clock=naps.clock, sleep=naps, retries=0
    ) as client:
        yield client


@pytest.fixture
async def verifier(tenant: LocalTenant, clock: HandClock) -> AsyncIterator[TokenVerifier]:
    async with verifier_of(tenant, clock) as started:
        yield started


async def test_key_that_was_revoked_elsewhere_is_refused_although_the_cached_set_lists_it(
    tenant: LocalTenant, keys: SigningKeysClient, verifier: TokenVerifier
) -> None:
    token, kid = tenant.token(), tenant.key().kid
    tenant.rotate()
    await verifier.verify(token)
    tenant.revoke(kid)
    assert (await verifier.verify(token)).kid == kid  # nobody has told it
    watcher = RevocationWatcher(keys, verifier)
    assert await watcher.tick() == (kid,)
    with pytest.raises(RevokedKeyError):
        await verifier.verify(token)
    assert await watcher.tick() == ()


async def test_keys_that_are_not_revoked_are_left_alone(
    tenant: LocalTenant, keys: SigningKeysClient, verifier: TokenVerifier
) -> None:
    tenant.rotate()
    assert await RevocationWatcher(keys, verifier).tick() == ()
    assert verifier.distrusted == {}


async def test_key_that_is_distrusted_already_is_left_alone_by_a_watcher_that_starts(
    tenant: LocalTenant, keys: SigningKeysClient, verifier: TokenVerifier
) -> None:
    kid = tenant.key().kid
    tenant.rotate()
    tenant.revoke(kid)
    events: list[AdminEvent] = []
    await verifier.distrust(kid, reason="leaked")
    before = verifier.keys.register.state
    for _ in range(3):
        watcher = RevocationWatcher(keys, verifier, on_event=events.append)
        assert await watcher.tick() == ()
    assert verifier.keys.register.state is before
    assert events == []


async def test_who_could_not_be_told_is_told_again(
    tenant: LocalTenant, keys: SigningKeysClient, verifier: TokenVerifier
) -> None:
    class Failing:
        """Fails the first time it is told."""

        issuer = "https://issuer.test/"
        keys = verifier.keys
        observe = verifier.observe
        reinstate = verifier.reinstate
        told = 0

        async def is_distrusted(self, kid: str) -> bool:
            return False

        async def distrust(
            self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
        ) -> None:
            self.told += 1
            if self.told == 1:
                raise OSError("no way through")

    kid = tenant.key().kid
    tenant.rotate()
    tenant.revoke(kid)
    failing = Failing()
    watcher = RevocationWatcher(keys, [failing, verifier])
    assert await watcher.tick() == ()
    assert kid in verifier.distrusted
    assert await watcher.tick() == (kid,)
    assert failing.told == 2


async def test_a_year_of_daily_restarts_makes_no_second_decision(
    tenant: LocalTenant, keys: SigningKeysClient, clock: HandClock, tmp_path: Path
) -> None:
    kid = tenant.key().kid
    tenant.rotate()
    tenant.revoke(kid)
    journal = tmp_path / "keys.json.tombstones"
    sizes = set()
    for _ in range(365):
        fresh = Register()
        verifier = verifier_of(tenant, clock, snapshot_path=tmp_path / "keys.json", register=fresh)
        await RevocationWatcher(keys, verifier).tick()
        assert len(fresh.state.flags[tenant.issuer, kid].made) == 1
        sizes.add(journal.stat().st_size)
        clock.advance(86_400)
    assert len(sizes) == 1


async def test_look_that_fails_changes_nothing_and_the_watch_goes_on(
    tenant: LocalTenant, keys: SigningKeysClient, verifier: TokenVerifier, naps: Naps
) -> None:
    kid = tenant.key().kid
    tenant.rotate()
    tenant.revoke(kid)
    tenant.faults.status(503, path=KEYS, times=1)
    events: list[AdminEvent] = []
    looked_again = asyncio.Event()
    naps.during[2] = looked_again.set
    async with RevocationWatcher(keys, verifier, interval=7.0, on_event=events.append) as watcher:
        await asyncio.wait_for(looked_again.wait(), 10)
    assert watcher.error is None
    assert kid in verifier.distrusted
    assert set(naps.seconds) == {7.0}
    assert [(event.step, event.intent.kid) for event in events] == [("refused_by", kid)]


async def test_failing_look_is_raised_to_whoever_looks_themselves(
    tenant: LocalTenant, keys: SigningKeysClient, verifier: TokenVerifier
) -> None:
    tenant.faults.status(503, path=KEYS, times=1)
    with pytest.raises(UnavailableError):
        await RevocationWatcher(keys, verifier).tick()
    weak = tenant.token(audience=tenant.management_audience, scope="update:signing_keys")
    async with SigningKeysClient(tenant.issuer, auth=StaticToken(weak)) as other:
        with pytest.raises(ForbiddenError, match="read:signing_keys"):
            await RevocationWatcher(other, verifier).tick()


def test_arguments_that_cannot_be_used_are_named(tenant: LocalTenant) -> None:
    client = SigningKeysClient(tenant.issuer, auth=StaticToken("token"))
    verifier = TokenVerifier(tenant.issuer, tenant.audience)
    sync = SyncTokenVerifier(tenant.issuer, tenant.audience)
    with pytest.raises(ConfigurationError, match="keys must"):
        RevocationWatcher("acme.eu.auth0.com", verifier)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="fleet must"):
        RevocationWatcher(client, sync)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="interval must"):
        RevocationWatcher(client, verifier, interval=0.0)


async def test_key_that_a_fleet_out_of_reach_was_not_told_of_is_tried_until_it_is(
    tenant: LocalTenant, keys: SigningKeysClient
) -> None:
    """At the second look the decision of the first one stands, in this process alone."""
    kid = tenant.key().kid
    tenant.rotate()
    tenant.revoke(kid)
    holding = TokenVerifier(
        tenant.issuer, tenant.audience, algorithms=["ES256"], register=Register()
    )
    secret = "correct-horse-battery"
    app = Starlette(routes=[Mount("/ops", operations(holding, operations_auth=secret))])
    reached = False

    class Wire(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if not reached:
                raise httpx.ConnectError("connection refused", request=request)
            return await httpx.ASGITransport(app).handle_async_request(request)

    fleet = HTTPFleet(
        ["https://one.test/ops"],
        secret=secret,
        issuer=tenant.issuer,
        timeout=30.0,
        http_client=lambda: httpx.AsyncClient(transport=Wire()),
    )
    watcher = RevocationWatcher(keys, fleet)
    for _ in range(2):
        await watcher.tick()
        assert kid not in holding.distrusted
    reached = True
    await watcher.tick()
    assert kid in holding.distrusted
