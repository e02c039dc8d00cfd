"""A planned rotation under load, of an API in two processes, asked at each stage if it is time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta

import httpx
import pytest

from jwks_guard.admin import ClientCredentials, KeyRotation, SigningKeysClient
from jwks_guard.errors import RevocationRefusedError
from jwks_guard.fleet import RedisFleet
from jwks_guard.readiness.verdict import RevocationReadiness
from jwks_guard.testing import LocalTenant
from tests.process.programs import server, wait_until
from tests.redis_server import redis_server
from tests.support import PATIENCE

UVICORN = ("-m", "uvicorn", "--log-level=warning", "tests.process.apps.reporting:app")
INSTANCES = 2
QUIET = 1.5  # s
RENEWAL = 1.0  # s, after which a busy client has a new token


class Load:
    """A thread that calls every instance in turn, with tokens that it renews."""

    def __init__(self, tenant: LocalTenant) -> None:
        self.refused: list[tuple[int, str]] = []
        self.served = 0
        self.renewing = True
        self._tenant = tenant
        self._lifetime = 0.0
        self._clients: list[httpx.Client] = []
        self._change = threading.Lock()
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @asynccontextmanager
    async def running(self, lifetime: float) -> AsyncIterator[None]:
        """Call while the block runs, with tokens that live for so many seconds."""
        self._lifetime = lifetime
        self._thread.start()
        try:
            yield
        finally:
            self._enough.set()
            await asyncio.to_thread(self._thread.join, PATIENCE)

    def instead(self, clients: list[httpx.Client]) -> None:
        """Call these from now on, and none of the others any more."""
        with self._change:
            self._clients = clients

    def _run(self) -> None:
        renew_at = 0.0
        while not self._enough.is_set():
            if self.renewing and time.monotonic() >= renew_at:
                renew_at = time.monotonic() + RENEWAL
                token = self._tenant.token(lifetime=self._lifetime)
            with self._change:
                for client in self._clients:
                    answer = client.get("/", headers={"Authorization": f"Bearer {token}"})
                    self.served += answer.is_success
                    if not answer.is_success:
                        self.refused.append((answer.status_code, answer.text))
            time.sleep(0.01)


class Fleet:
    """The instances, who can be replaced one after the other."""

    def __init__(self, stack: ExitStack, environment: dict[str, str], load: Load) -> None:
        self._stack = stack
        self._environment = environment
        self._load = load
        self._running: list[tuple[ExitStack, httpx.Client]] = []

    def start(self) -> None:
        for _ in range(INSTANCES):
            self._running.append(self._started())
        self._load.instead([client for _, client in self._running])

    def restart_one_after_the_other(self) -> None:
        for number in range(INSTANCES):
            old, _ = self._running[number]
            self._running[number] = self._started()
            self._load.instead([client for _, client in self._running])
            old.close()

    def call(self, token: str) -> list[int]:
        headers = {"Authorization": f"Bearer {token}"}
        return [client.get("/", headers=headers).status_code for _, client in self._running]

    def _started(self) -> tuple[ExitStack, httpx.Client]:
        own = self._stack.enter_context(ExitStack())
        client = own.enter_context(server(*UVICORN, bind="--fd={}", **self._environment))
        # It waits on the socket until it is up.
        wait_until(lambda: client.get("/").status_code == httpx.codes.UNAUTHORIZED)
        return own, client


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as local:
        yield local


@asynccontextmanager
async def asked(tenant: LocalTenant, url: str, lifetime: float) -> AsyncIterator[KeyRotation]:
    """The operator's side, in a process that verifies nothing itself."""
    auth = ClientCredentials(tenant.client_id, tenant.client_secret)
    fleet = RedisFleet(url, issuer=tenant.issuer)
    async with SigningKeysClient(tenant.issuer, auth=auth) as keys:
        yield KeyRotation(
            keys,
            fleet,
            token_lifetime=timedelta(seconds=lifetime),
            quiet_period=timedelta(seconds=QUIET),
            expected_instances=INSTANCES,
        )
    await fleet.aclose()


def codes(readiness: RevocationReadiness) -> set[str]:
    return {blocker.code for blocker in readiness.blockers}


async def until(
    rotation: KeyRotation,
    kid: str,
    condition: Callable[[RevocationReadiness], bool],
    meanwhile: Callable[[], object] = int,
) -> RevocationReadiness:
    """The first verdict of which it holds; it comes with time, while `meanwhile` is called."""
    given_up = time.monotonic() + PATIENCE
    while True:
        await asyncio.to_thread(meanwhile)
        readiness = await rotation.revocation_readiness(kid)
        if condition(readiness):
            return readiness
        assert time.monotonic() < given_up, readiness.blockers
        await asyncio.sleep(0.05)


async def test_key_is_ready_once_every_token_has_expired_and_everybody_was_watched(
    tenant: LocalTenant,
) -> None:
    load = Load(tenant)
    with redis_server() as redis, ExitStack() as stack:
        environment = {
            "ISSUER": tenant.issuer,
            "AUDIENCE": tenant.audience,
            "FLEET": redis.url,
        }
        fleet = Fleet(stack, environment, load)
        began = time.monotonic()
        await asyncio.to_thread(fleet.start)
        # The idle client's token outlives all but the wait for it, on a slow machine too.
        lifetime = 3.0 + 3.0 * (time.monotonic() - began)
        async with asked(tenant, redis.url, lifetime) as rotation, load.running(lifetime):
            old, following = tenant.key("current").kid, tenant.key("next").kid

            # Before it.
            before = await until(rotation, old, lambda r: len(r.instances) == INSTANCES)
            assert (before.verdict, codes(before) >= {"key_is_current"}) == ("no", True)
            assert "key_is_next" in codes(await rotation.revocation_readiness(following))

            # Just after it: an idle client has the last token, busy ones still use theirs.
            load.renewing = False
            idle = tenant.token(sub="auth0|idle", lifetime=lifetime)
            rotated_at = time.time()
            await rotation.rotate()
            used = {"tokens_unexpired", "key_in_use"}
            after = await until(rotation, old, lambda r: codes(r) >= used)
            assert after.verdict == "no"
            with pytest.raises(RevocationRefusedError) as refused:
                await rotation.revoke(old)
            assert refused.value.report is not None

            # Nobody uses it any more, as far as can be seen.
            load.renewing = True
            unused = await until(rotation, old, lambda r: codes(r) == {"tokens_unexpired"})
            assert unused.verdict == "no"

            # A rolling restart erases what the instances had counted.
            await asyncio.to_thread(fleet.restart_one_after_the_other)
            restarted = await until(rotation, old, lambda r: len(r.instances) == INSTANCES)
            assert restarted.verdict == "no"
            assert codes(restarted) >= {"tokens_unexpired", "instance_watched_too_short"}
            assert restarted.earliest_safe_time is not None
            assert restarted.earliest_safe_time >= rotated_at + lifetime - 1

            # The idle client comes back with its token, which is as good as ever.
            assert await asyncio.to_thread(fleet.call, idle) == [200, 200]
            back = await until(
                rotation, old, lambda r: "key_in_use" in codes(r), lambda: fleet.call(idle)
            )
            assert back.verdict == "no"

            # All have passed.
            ready = await until(rotation, old, lambda r: r.verdict == "yes")
            assert ready.blockers == ()
            assert ready.assessed_at >= (restarted.earliest_safe_time or 0.0)
            served = load.served
            receipt = await rotation.revoke(old)
            assert receipt.refused_everywhere
            assert len(receipt.refusals) == INSTANCES
            await until(rotation, old, lambda _: load.served > served + 50)
            assert await asyncio.to_thread(fleet.call, idle) == [401, 401]
    assert load.refused == []
