"""Where the drill takes place: a local tenant, instances in processes, and their clients."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from time import perf_counter

import httpx

from jwks_guard.cli.incident.drill_app import AUDIENCE, ISSUER, SECRET
from jwks_guard.fleet import HTTPFleet
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import listen

START_SECONDS = 60.0
"""A process has that long to start."""
_PAUSE_SECONDS = 0.005
_END_SECONDS = 10.0
_CLIENTS = (
    {"azp": "web-shop", "org_id": "org_acme"},
    {"azp": "web-shop", "org_id": "org_initech"},
    {"azp": "mobile-app"},
)
"""Who uses tokens of the leaked key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: whether its token was of the leaked key, when it was, and what came back."""

    leaked: bool
    sent: float
    received: float
    status: int

    @property
    def accepted(self) -> bool:
        """Whether the token was accepted."""
        return self.status == HTTPStatus.OK


@dataclass(slots=True)
class Stage:
    """A tenant and the instances that are guarded for it; `answers` are those of all clients."""

    tenant: LocalTenant
    urls: Sequence[str]
    fleet: HTTPFleet
    answers: list[Answer] = field(default_factory=list)

    @asynccontextmanager
    async def used(self, kid: str) -> AsyncIterator[None]:
        """Clients of every instance, with tokens of `kid` and of whichever key is current then."""
        over = asyncio.Event()
        leaked = [self.tenant.token(key=kid, claims=claims) for claims in _CLIENTS]
        async with httpx.AsyncClient(trust_env=False, timeout=START_SECONDS) as client:
            calls = [
                self._keep_calling(client, url, token, over)
                for url in self.urls
                for token in leaked
            ]
            calls += [self._keep_getting_new(client, url, kid, over) for url in self.urls]
            tasks = [asyncio.create_task(call) for call in calls]
            try:
                yield
            finally:
                over.set()
                await asyncio.gather(*tasks)

    async def _keep_calling(
        self, client: httpx.AsyncClient, url: str, token: str, over: asyncio.Event
    ) -> None:
        while not over.is_set():
            await self._call(client, url, token, leaked=True)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _keep_getting_new(
        self, client: httpx.AsyncClient, url: str, kid: str, over: asyncio.Event
    ) -> None:
        """Clients that get a new token once the tenant has rotated."""
        while not over.is_set():
            if self.tenant.key().kid != kid:
                await self._call(client, url, self.tenant.token(), leaked=False)
            await asyncio.sleep(10 * _PAUSE_SECONDS)

    async def _call(self, client: httpx.AsyncClient, url: str, token: str, *, leaked: bool) -> None:
        sent = perf_counter()
        headers = {"Authorization": f"Bearer {token}"}
        response = await client.get(f"{url}/things", headers=headers)
        self.answers.append(Answer(leaked, sent, perf_counter(), response.status_code))


@asynccontextmanager
async def opened_stage(instances: int) -> AsyncIterator[Stage]:
    """The stage; all of it ends with the block. Raises TimeoutError if it does not start."""
    secret = secrets.token_urlsafe(24)
    async with LocalTenant() as tenant:
        with ExitStack() as running:
            urls = [running.enter_context(_instance(tenant, secret)) for _ in range(instances)]
            async with asyncio.timeout(START_SECONDS):
                await asyncio.gather(*map(_answering, urls))
            fleet = HTTPFleet([f"{url}/ops" for url in urls], secret=secret, issuer=tenant.issuer)
            try:
                yield Stage(tenant, urls, fleet)
            finally:
                await fleet.aclose()


@contextmanager
def _instance(tenant: LocalTenant, secret: str) -> Iterator[str]:
    """A process that guards an API; gives its URL."""
    listener = listen("127.0.0.1", 0)
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("JWKS_GUARD_", "UVICORN_"))}
    process = subprocess.Popen(  # noqa: S603 - this interpreter, with arguments of our own
        [
            *(sys.executable, "-m", "uvicorn", "--factory", "--log-level=critical", "--ws=none"),
            *("--no-access-log", f"--fd={listener.fileno()}", f"{__package__}.drill_app:app"),
        ],
        pass_fds=[listener.fileno()],
        env={**kept, ISSUER: tenant.issuer, AUDIENCE: tenant.audience, SECRET: secret},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the command
    )
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        listener.close()


async def _answering(url: str) -> None:
    """Return once the instance answers: it refuses a request without a token."""
    async with httpx.AsyncClient(trust_env=False, timeout=START_SECONDS) as client:
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get(f"{url}/things")).status_code == HTTPStatus.UNAUTHORIZED:
                    return
            await asyncio.sleep(10 * _PAUSE_SECONDS)
