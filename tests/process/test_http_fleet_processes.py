"""Processes that share what they distrust over HTTP: killed, frozen, and with too many workers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from jwks_guard.errors import ConfigurationError
from jwks_guard.fleet import HTTPFleet
from jwks_guard.testing import LocalTenant
from tests.process.programs import program, wait_until
from tests.support import PATIENCE

SECRET = "correct-horse-battery"
APP = "tests.process.apps.operated:app"


class Instance:
    """An address, and the uvicorn that serves there while it runs."""

    def __init__(self, tenant: LocalTenant) -> None:
        self._tenant = tenant
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.address}/ops"
        self._running = ExitStack()
        self._pid = 0

    def start(self, urls: list[str], *options: str) -> None:
        environment = {
            "ISSUER": self._tenant.issuer,
            "AUDIENCE": self._tenant.audience,
            "URLS": " ".join(urls),
            "SECRET": SECRET,
        }
        uvicorn = ("-m", "uvicorn", APP, f"--port={self.port}", "--log-level=warning")
        self._pid = self._running.enter_context(
            program(*uvicorn, *options, env=os.environ | environment)
        ).pid

    def kill(self) -> None:
        self._running.close()

    def send(self, number: signal.Signals) -> None:
        os.killpg(self._pid, number)

    def status(self, token: str) -> int | None:
        """How it answers a request with `token`; None when it does not."""
        headers = {"Authorization": f"Bearer {token}"}
        try:
            return httpx.get(
                self.address, headers=headers, trust_env=False, timeout=PATIENCE
            ).status_code
        except httpx.TransportError:
            return None

    def is_whole(self) -> bool:
        """Whether it is ready, and hears all of its fleet."""
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False, timeout=PATIENCE).text == "ok\n"
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def running_tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


@pytest.fixture
def tenant(running_tenant: LocalTenant) -> LocalTenant:
    """It has just rotated: the previous key can be distrusted."""
    running_tenant.rotate()
    return running_tenant


@pytest.fixture(scope="module")
def running_fleet(running_tenant: LocalTenant) -> Iterator[list[Instance]]:
    """Three processes."""
    fleet = [Instance(running_tenant) for _ in range(3)]
    try:
        for each in fleet:
            each.start([each.url for each in fleet])
        yield fleet
    finally:
        for each in fleet:
            each.kill()


@pytest.fixture
def fleet(running_fleet: list[Instance], tenant: LocalTenant) -> Iterator[list[Instance]]:
    """Three processes that know the tenant's keys, and hear each other before and afterwards."""
    for each in running_fleet:
        wait_until(each.is_whole)
        assert each.status(tenant.token()) == 200
    yield running_fleet
    for each in running_fleet:
        wait_until(each.is_whole)


def fleet_of(fleet: list[Instance], tenant: LocalTenant, timeout: float = PATIENCE) -> HTTPFleet:
    urls = [each.url for each in fleet]
    return HTTPFleet(urls, secret=SECRET, issuer=tenant.issuer, timeout=timeout)


def test_when_the_receipt_is_there_no_process_accepts_the_key(
    tenant: LocalTenant, fleet: list[Instance]
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    assert [each.status(token) for each in fleet] == [200] * 3
    refusals = asyncio.run(fleet_of(fleet, tenant).distrust(old, reason="leaked"))
    assert [each.status(token) for each in fleet] == [401] * 3
    assert [each.status(tenant.token()) for each in fleet] == [200] * 3
    assert [refusal.error for refusal in refusals] == [None] * 3
    assert len({refusal.who for refusal in refusals}) == 3


def test_a_process_that_was_killed_during_the_revocation_refuses_when_it_is_back(
    tenant: LocalTenant, fleet: list[Instance]
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    fleet[2].kill()
    refusals = asyncio.run(fleet_of(fleet, tenant).distrust(old, reason="leaked"))
    assert [refusal.error is None for refusal in refusals] == [True, True, False]
    assert [each.status(token) for each in fleet] == [401, 401, None]
    fleet[2].start([each.url for each in fleet])
    wait_until(lambda: fleet[2].status(token) is not None)
    assert fleet[2].status(token) == 401


def test_a_frozen_process_acknowledges_nothing_and_refuses_soon_after_it_wakes(
    tenant: LocalTenant, fleet: list[Instance]
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    assert [each.status(token) for each in fleet] == [200] * 3
    fleet[2].send(signal.SIGSTOP)
    try:
        telling = fleet_of(fleet, tenant, timeout=3.0).distrust(old, reason="leaked")
        refusals = asyncio.run(telling)
        assert [refusal.error is None for refusal in refusals] == [True, True, False]
        assert refusals[2].since is None
        assert [each.status(token) for each in fleet[:2]] == [401, 401]
    finally:
        fleet[2].send(signal.SIGCONT)
    wait_until(lambda: fleet[2].status(token) == 401)


def test_two_workers_behind_one_url_are_found_out(tenant: LocalTenant) -> None:
    only = Instance(tenant)
    try:
        only.start([only.url], "--workers=2")
        wait_until(lambda: only.status(tenant.token()) == 200)

        fleet = fleet_of([only], tenant)

        def found_out() -> bool:
            try:
                asyncio.run(fleet.observe("k"))
            except ConfigurationError as error:
                return "RedisFleet" in str(error)
            return False

        wait_until(found_out)
        wait_until(lambda: not only.is_whole())
    finally:
        only.kill()
