"""A server that was frozen with its process, and wakes when trust in its keys has ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from jwks_guard.testing import LocalTenant
from tests.process.programs import program
from tests.support import PATIENCE

TRUSTED_SECONDS = 1.0
VALID_SECONDS = 8.0


@dataclass
class Server:
    """The process, and the host and port it listens on."""

    process: subprocess.Popen[str]
    address: str

    async def answer(self, token: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            headers = {"Authorization": f"Bearer {token}"}
            return await client.get(f"http://{self.address}/", headers=headers)

    @contextmanager
    def frozen_until(self, instant: float) -> Iterator[None]:
        """Stop the process for the block and until `instant`, in seconds since the epoch."""
        self.process.send_signal(signal.SIGSTOP)
        yield
        time.sleep(max(0.0, instant - time.time()))  # it is what is tested, not waited for
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def served(tenant: LocalTenant, max_stale: float) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = {
            "ISSUER": tenant.issuer,
            "AUDIENCE": tenant.audience,
            "MAX_STALE": str(max_stale),
        }
        with program(
            *("-m", "uvicorn", "--ws=websockets-sansio", "tests.process.apps.freezing:app"),
            f"--fd={listener.fileno()}",
            pass_fds=[listener.fileno()],
            env=os.environ | environment,
        ) as process:
            yield Server(process, f"127.0.0.1:{listener.getsockname()[1]}")


async def test_first_requests_after_a_freeze_are_served_by_a_fetch_and_not_refused(
    local_tenant: LocalTenant,
) -> None:
    token = local_tenant.token()
    with served(local_tenant, TRUSTED_SECONDS) as server:
        assert (await server.answer(token)).is_success
        with server.frozen_until(time.time() + 2.5 * TRUSTED_SECONDS):
            waiting = [asyncio.create_task(server.answer(token)) for _ in range(10)]
            await asyncio.sleep(0.1)  # they are sent, and the kernel keeps them
        answers = await asyncio.gather(*waiting)
    assert {answer.status_code for answer in answers} == {200}


async def test_socket_whose_token_expired_in_a_freeze_is_closed_when_it_ends(
    local_tenant: LocalTenant,
) -> None:
    with served(local_tenant, 3600.0) as server:
        await server.answer(local_tenant.token())  # it is up
        token = local_tenant.token(lifetime=VALID_SECONDS)
        expired = time.time() + VALID_SECONDS
        async with connect(
            f"ws://{server.address}/ws",
            additional_headers={"Authorization": f"Bearer {token}"},
            open_timeout=PATIENCE,
            ping_interval=None,
            proxy=None,
        ) as websocket:
            with server.frozen_until(expired + 0.1):
                pass
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(websocket.recv(), PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
