"""A drill on this machine: a local tenant, and guarded instances in processes of their own."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from http import HTTPStatus

import httpx

from jwks_guard.admin import ClientCredentials, KeyRotation, SigningKeysClient
from jwks_guard.cli.incident.drill_app import AUDIENCE, ISSUER, SECRET
from jwks_guard.cli.incident.drill_traffic import Stage, Traffic
from jwks_guard.fleet import HTTPFleet
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import listen

_INSTANCES = 2
_START_SECONDS = 60.0
"""A process has that long to start."""
_PAUSE_SECONDS = 0.005
_LOOK_SECONDS = 0.05
_END_SECONDS = 10.0
_CLIENTS = (
    {"azp": "web-shop", "org_id": "org_acme"},
    {"azp": "web-shop", "org_id": "org_initech"},
    {"azp": "mobile-app"},
)
"""Who uses tokens of the leaked key."""


@asynccontextmanager
async def local_stage() -> AsyncIterator[Stage]:
    """The stage; all of it ends with the block. Raises TimeoutError if it does not start."""
    secret = secrets.token_urlsafe(24)
    async with LocalTenant() as tenant:
        with ExitStack() as running:
            urls = [running.enter_context(_instance(tenant, secret)) for _ in range(_INSTANCES)]
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.gather(*map(_answering, urls))
            fleet = HTTPFleet([f"{url}/ops" for url in urls], secret=secret, issuer=tenant.issuer)
            auth = ClientCredentials(tenant.client_id, tenant.client_secret)
            try:
                async with SigningKeysClient(tenant.issuer, auth=auth) as client:
                    yield Stage(
                        f"{_INSTANCES} instances, each a process, over HTTP; local tenant",
                        tenant.key().kid,
                        KeyRotation(client, fleet),
                        _traffic(tenant, urls),
                    )
            finally:
                await fleet.aclose()


def _traffic(tenant: LocalTenant, urls: list[str]) -> Traffic:
    kid = tenant.key().kid

    async def new_token() -> str | None:
        return tenant.token() if tenant.key().kid != kid else None

    leaked = [tenant.token(key=kid, claims=claims) for claims in _CLIENTS]
    return Traffic([f"{url}/things" for url in urls], leaked, new_token, _PAUSE_SECONDS)


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
    async with httpx.AsyncClient(trust_env=False, timeout=_START_SECONDS) as client:
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get(f"{url}/things")).status_code == HTTPStatus.UNAUTHORIZED:
                    return
            await asyncio.sleep(_LOOK_SECONDS)
