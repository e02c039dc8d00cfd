"""A revoked key in several servers while Redis dies, the network is cut or one stands still.

`make bench-fleet` measures how many seconds all of this takes; here it takes as long as it takes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import httpx
import pytest

from jwks_guard.fleet import RedisFleet
from jwks_guard.readiness.state import Refusal
from jwks_guard.testing import LocalTenant
from tests.process.programs import program, server, wait_until
from tests.redis_server import RedisServer, redis_server
from tests.support import PATIENCE


class Member:
    """One server process of the fleet."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.pid = self.health()["pid"]

    def accepts(self, token: str) -> bool:
        answer = self._client.get("/", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code in (200, 401)
        return answer.status_code == 200

    def health(self) -> dict[str, Any]:
        report: dict[str, Any] = self._client.get("/health").json()
        return report

    def distrust(self, kid: str) -> bool:
        """Whether the others could be told; here it is refused in any case."""
        return self._client.post(f"/distrust/{kid}").is_success

    @contextmanager
    def frozen(self) -> Iterator[None]:
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


class Cable:
    """A TCP connection to Redis that can be cut without either side being told."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.set()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                self._open.wait()
                far = socket.create_connection(self._target)
                self._sockets.append(far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._open.wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def serving(tenant: LocalTenant, url: str) -> AbstractContextManager[httpx.Client]:
    return server(
        *("-m", "uvicorn", "--log-level=warning", "tests.process.apps.fleet_member:app"),
        bind="--fd={}",
        ISSUER=tenant.issuer,
        AUDIENCE=tenant.audience,
        REDIS=url,
    )


@contextmanager
def member(tenant: LocalTenant, url: str) -> Iterator[Member]:
    with serving(tenant, url) as client:
        yield Member(client)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    """It has rotated: the previous key can be distrusted."""
    with LocalTenant(algorithm="ES256") as tenant:
        tenant.rotate()
        yield tenant


def wait_until_refused(one: Member, token: str) -> None:
    wait_until(lambda: not one.accepts(token))


def test_every_process_refuses_a_moment_after_one_was_told(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    with member(tenant, redis.url) as one, member(tenant, redis.url) as other:
        assert one.accepts(token)
        assert other.accepts(token)
        assert one.distrust(old)
        assert not one.accepts(token)
        wait_until_refused(other, token)
        assert other.accepts(tenant.token())


def test_a_redis_that_is_killed_during_a_revocation_and_comes_back_empty_delays_it_only(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    with member(tenant, redis.url) as one, member(tenant, redis.url) as other:
        assert other.accepts(token)
        redis.kill()
        assert not one.distrust(old)
        assert not one.accepts(token)
        assert other.accepts(token)  # nobody could tell it
        assert other.health()["status"] in ("ok", "degraded")
        redis.start()
        wait_until_refused(other, token)
        redis.kill()
        redis.start()
        with member(tenant, redis.url) as late:
            wait_until_refused(late, token)
            assert late.accepts(tenant.token())
        assert not other.accepts(token)


def test_who_is_cut_off_refuses_what_the_tenant_revoked_and_the_rest_when_the_network_is_back(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    cable = Cable(redis.port)
    with member(tenant, redis.url) as one, member(tenant, cable.url) as other:
        assert other.accepts(token)
        cable.cut()
        assert one.distrust(old)
        assert other.accepts(token)  # it can't know
        wait_until(lambda: other.health()["status"] == "degraded")
        assert other.accepts(tenant.token())
        tenant.revoke(old)
        wait_until_refused(other, token)
        assert old not in other.health()["distrusted"]
        cable.mend()
        wait_until(lambda: old in dict(other.health()["distrusted"]))
        wait_until(lambda: other.health()["status"] == "ok")
    cable.close()


def told(redis: RedisServer, tenant: LocalTenant, kid: str) -> list[Refusal]:
    async def tell() -> list[Refusal]:
        async with RedisFleet(redis.url, issuer=tenant.issuer) as fleet:
            return await fleet.distrust(kid, reason="leaked")

    return asyncio.run(tell())


def test_a_frozen_process_never_acknowledges_and_refuses_soon_after_it_wakes(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    with member(tenant, redis.url) as one, member(tenant, redis.url) as other:
        assert one.accepts(token)
        assert other.accepts(token)
        with other.frozen():
            refusals = {refusal.who: refusal for refusal in told(redis, tenant, old)}
            (asleep,) = [each for who, each in refusals.items() if f":{other.pid} " in who]
            (awake,) = [each for who, each in refusals.items() if f":{one.pid} " in who]
            assert asleep.since is None
            assert "not acknowledged" in str(asleep.error)
            assert awake.since is not None
        wait_until_refused(other, token)
        wait_until(lambda: all(each.error is None for each in told(redis, tenant, old)))


def test_a_process_that_starts_later_refuses_from_its_first_request(
    tenant: LocalTenant, redis: RedisServer
) -> None:
    old, token = tenant.key("previous").kid, tenant.token(key="previous")
    with member(tenant, redis.url) as one:
        assert one.distrust(old)
    with serving(tenant, redis.url) as late:
        answer = late.get("/", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401


def test_a_forked_child_takes_part_on_its_own_and_leaves_its_parents_part_alone(
    redis: RedisServer,
) -> None:
    with program("-m", "tests.process.apps.fleet_forking", redis.url) as process:
        printed, _ = process.communicate(timeout=5 * PATIENCE)
    assert json.loads(printed) == {
        "constructed": {
            "before": ["accepted", "accepted", "accepted", "ok"],
            "child": ["revoked_key", "revoked_key", "revoked_key", "ok"],
        },
        "running": {"child": ["revoked_key", True], "parent": True, "names": 2, "after": "ok"},
    }
