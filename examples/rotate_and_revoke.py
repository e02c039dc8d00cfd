"""A planned rotation and an emergency, of an API that ten clients never stop calling.

Runs by itself on a local tenant: `python -m examples.rotate_and_revoke`. It fails when the planned
one refuses a single request, or when a token of the leaked key is accepted once it is refused.
"""

import asyncio
import logging
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from jwks_guard import TokenVerifier
from jwks_guard.admin import AdminEvent, ClientCredentials, KeyRotation, SigningKeysClient
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.testing import LocalTenant

CLIENTS = 10
SOME = 50  # requests, to see what becomes of them
TOKEN_LIFETIME = 4.0  # seconds; a real tenant's tokens live for hours
QUIET_PERIOD = 1.0  # seconds, in which nobody uses the key; minutes, where it counts
PATIENCE = 60.0  # seconds, at most, for anything that is waited for


class API:
    """What it answered, by status, and when it last accepted a token of each key."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self.answers: Counter[int] = Counter()
        self.accepted_at: dict[str, float] = {}
        self.app = Starlette(routes=[Route("/things", self.things)])
        self.app.add_middleware(JWKSGuardMiddleware, verifier=verifier)

    async def things(self, request: Request) -> JSONResponse:
        self.accepted_at[request.state.token.kid] = time.time()
        return JSONResponse({"things": []})

    async def served(self, number: int) -> None:
        """Wait until so many more requests were answered with 200."""
        goal = self.answers[200] + number
        async with asyncio.timeout(PATIENCE):
            while self.answers[200] < goal:  # noqa: ASYNC110 - the simplest way to wait here
                await asyncio.sleep(0.01)


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    """The address at which uvicorn serves `app`; the middleware starts and closes its verifier."""
    config = uvicorn.Config(app, ws="none", log_level="warning", timeout_keep_alive=3600)
    server = uvicorn.Server(config)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # connections wait here until the server is ready
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/things"
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def in_use(api: API, url: str, tenant: LocalTenant) -> AsyncIterator[None]:
    """Clients that call without a pause, and get a new token when theirs gets old or is refused."""
    enough = asyncio.Event()

    async def client(name: str) -> None:
        renew_at = 0.0
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            while not enough.is_set():
                if time.monotonic() >= renew_at:
                    token = tenant.token(sub=name)
                    renew_at = time.monotonic() + TOKEN_LIFETIME * random.uniform(0.4, 0.6)
                response = await http.get(url, headers={"Authorization": f"Bearer {token}"})
                api.answers[response.status_code] += 1
                if response.status_code == httpx.codes.UNAUTHORIZED:
                    renew_at = 0.0

    async with asyncio.TaskGroup() as calling:
        for number in range(CLIENTS):
            calling.create_task(client(f"client|{number}"))
        try:
            yield
        finally:
            enough.set()


async def planned(rotation: KeyRotation, api: API) -> None:
    """Rotate, wait until nobody needs the previous key any more, and only then revoke."""
    rotated = await rotation.rotate(reason="quarterly rotation")
    old = rotated.previous.kid
    while (readiness := await rotation.revocation_readiness(old)).verdict != "yes":
        print(f"  {readiness.verdict}: {readiness.blockers[0].message}")
        await asyncio.sleep(1)
    revoked = await rotation.revoke(old, reason="quarterly rotation")
    await api.served(SOME)

    idle = revoked.acknowledged_at.timestamp() - api.accepted_at[old]
    print(f"planned: {api.answers.total()} requests served meanwhile, {refused(api)} refused;")
    print(f"  the old key's last token came {idle:.1f} s before the revocation")
    if refused(api) or not revoked.complete:
        sys.exit(f"the planned rotation broke something: {api.answers}, {revoked}")


async def emergency(rotation: KeyRotation, api: API) -> None:
    """A key has leaked: its tokens are refused, and their holders have to get new ones."""
    began = time.time()
    receipt = await rotation.rotate_and_revoke(reason="found in a public repository")
    await api.served(SOME)

    last = api.accepted_at[receipt.kid]
    print(
        f"emergency: the leaked key's last token was accepted {last - began:.3f} s after the call;"
    )
    print(f"  {refused(api)} requests were refused, and their clients got new tokens:")
    print(f"  {SOME} requests were served after it")
    since = [each.since.timestamp() for each in receipt.refusals if each.since is not None]
    if not receipt.complete or last > min(since):
        sys.exit(f"the emergency was not mastered: {api.answers}, {receipt}")


def refused(api: API) -> int:
    return api.answers.total() - api.answers[200]


def tell(event: AdminEvent) -> None:
    print(f"  {event.at:%H:%M:%S} {event.intent.action} {event.intent.kid}: {event.step}")


async def main() -> None:
    logging.getLogger("jwks_guard").setLevel(logging.ERROR)  # `tell` says the same
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        tenant = await stack.enter_async_context(LocalTenant(token_lifetime=TOKEN_LIFETIME))
        verifier = TokenVerifier(tenant.issuer, tenant.audience, refresh_interval=1.0)
        api = API(verifier)
        url = await stack.enter_async_context(served(api.app))
        auth = ClientCredentials(tenant.client_id, tenant.client_secret)
        keys = await stack.enter_async_context(SigningKeysClient(tenant.issuer, auth=auth))
        rotation = KeyRotation(
            keys,
            verifier,
            token_lifetime=timedelta(seconds=TOKEN_LIFETIME),
            quiet_period=timedelta(seconds=QUIET_PERIOD),
            journal_path=Path(folder) / "journal",  # so that a crash leaves nothing half done
            on_event=tell,
        )
        for do in (planned, emergency):
            api.answers.clear()
            async with in_use(api, url, tenant):
                await api.served(SOME)
                await do(rotation, api)


if __name__ == "__main__":
    asyncio.run(main())
