"""A tenant that is started anew, with other keys, under a running API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from jwks_guard import TokenVerifier
from jwks_guard.errors import InvalidTokenError, RemovedKeyError
from jwks_guard.testing import LocalTenant, ManualClock


@dataclass
class Running:
    """An API's verifier that has seen the first tenant, and a token of that one."""

    verifier: TokenVerifier
    first: LocalTenant
    token: str

    def successor(self, clock: ManualClock) -> LocalTenant:
        port = int(self.first.issuer.rstrip("/").rpartition(":")[2])
        return LocalTenant(port=port, clock=clock, algorithm="ES256")


@pytest.fixture
async def running(clock: ManualClock) -> AsyncIterator[Running]:
    first = LocalTenant(clock=clock, algorithm="ES256")
    async with first:
        verifier = TokenVerifier(
            first.issuer, first.audience, algorithms=["ES256"], clock=clock, refresh_interval=60
        )
        clock.advance(60)
        first.rotate()  # what is held now was published a minute after the first start
        async with verifier:
            token = first.token()
            await verifier.verify(token)
            first.stop()
            clock.advance(10)
            yield Running(verifier, first, token)


async def test_running_api_accepts_the_first_token_of_a_restarted_tenant(
    running: Running, clock: ManualClock
) -> None:
    """The new set must not look older than the one that the API holds."""
    async with running.successor(clock) as second:
        assert second.issuer == running.first.issuer
        assert (await running.verifier.verify(second.token())).subject == "auth0|alice"
        with pytest.raises(InvalidTokenError):
            await running.verifier.verify(running.token)


async def test_running_api_refuses_the_keys_of_before_within_its_detection_bound(
    running: Running, clock: ManualClock
) -> None:
    async with running.successor(clock):
        clock.advance(running.verifier.health().detection_bound)
        await running.verifier.keys.tick()
        with pytest.raises(RemovedKeyError):
            await running.verifier.verify(running.token)


async def test_set_of_a_new_tenant_is_dated_with_now_and_its_keys_are_older(
    clock: ManualClock,
) -> None:
    async with LocalTenant(clock=clock, algorithm="ES256", in_process=True) as tenant:
        since = tenant.key().current_since
        assert since is not None
        assert since < clock.time()
        assert tenant.key().certificate.not_valid_before_utc.timestamp() < clock.time()
