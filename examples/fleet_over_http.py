"""Two instances that share over HTTP what they refuse, and say when a key can be revoked.

Runs by itself on a local tenant: `python -m examples.fleet_over_http`. It serves `app` twice, in
processes of their own, and fails when a verdict comes too early, or a key that one instance was
told of is still accepted by the other one seconds later.
"""

import asyncio
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from jwks_guard import TokenVerifier
from jwks_guard.admin import ClientCredentials, KeyRotation, SigningKeysClient
from jwks_guard.asgi import JWKSGuardMiddleware, operations
from jwks_guard.fleet import HTTPFleet
from jwks_guard.testing import LocalTenant

TOKEN_LIFETIME = 3.0  # seconds; a real tenant's tokens live for hours
QUIET_PERIOD = 1.0  # seconds, in which nobody uses the key; minutes, where it counts
PATIENCE = 60.0  # seconds, at most, for anything that is waited for


def app() -> Starlette:
    """One instance; the environment says of what fleet. `uvicorn --factory` calls this."""
    issuer, secret = os.environ["ISSUER"], os.environ["OPS_SECRET"]
    fleet = HTTPFleet(os.environ["FLEET"].split(), secret=secret, poll_interval=0.5)
    verifier = TokenVerifier(
        issuer,
        os.environ["AUDIENCE"],
        fleet=fleet,
        refresh_interval=1.0,
        leeway=0.0,  # all here read one clock, and tokens live for seconds
    )
    keys = SigningKeysClient(
        issuer, auth=ClientCredentials(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"])
    )
    rotation = KeyRotation(
        keys,
        verifier,  # through which the whole fleet is asked
        token_lifetime=timedelta(seconds=TOKEN_LIFETIME),
        quiet_period=timedelta(seconds=QUIET_PERIOD),
        expected_instances=2,
    )
    routes = [
        Mount("/ops", operations(verifier, operations_auth=secret, readiness=rotation)),
        Route("/things", things),
    ]
    guarded = Starlette(routes=routes)
    guarded.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/ops/*"])
    return guarded


async def things(request: Request) -> JSONResponse:
    return JSONResponse({"owner": request.user.identity})


@asynccontextmanager
async def served(address: str, environment: dict[str, str]) -> AsyncIterator[None]:
    """uvicorn with `app` at `address`, in a process of its own."""
    port = address.rpartition(":")[2]
    uvicorn = ("-m", "uvicorn", "--factory", "examples.fleet_over_http:app", "--port", port)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *uvicorn, "--log-level=warning", env=os.environ | environment
    )
    try:
        yield
    finally:
        process.kill()  # at once: while it shuts down it would report that the others are gone
        await process.wait()


async def until(what: str, http: httpx.AsyncClient, url: str, answer: str, **options: str) -> None:
    """Ask again and again until `answer` is in what comes back."""
    given_up = time.monotonic() + PATIENCE
    while True:
        try:
            response = await http.get(url, headers=options)
            if answer in f"{response.status_code} {response.text}":
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > given_up:
            sys.exit(f"{what}: not within {PATIENCE:.0f} s")
        await asyncio.sleep(0.05)


async def main() -> None:
    secret = secrets.token_urlsafe(24)
    one, two = addresses = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    async with AsyncExitStack() as stack:
        tenant = await stack.enter_async_context(LocalTenant(token_lifetime=TOKEN_LIFETIME))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=PATIENCE))
        environment = {
            "ISSUER": tenant.issuer,
            "AUDIENCE": tenant.audience,
            "CLIENT_ID": tenant.client_id,
            "CLIENT_SECRET": tenant.client_secret,
            "OPS_SECRET": secret,
            "FLEET": " ".join(f"{each}/ops" for each in addresses),
        }
        for each in addresses:
            await stack.enter_async_context(served(each, environment))
        for each in addresses:
            await until("the fleet is complete", http, f"{each}/ops/readyz", "ok")
        await planned(tenant, http, one, two, secret)
        await leaked(tenant, http, one, two, secret)


async def planned(
    tenant: LocalTenant, http: httpx.AsyncClient, one: str, two: str, secret: str
) -> None:
    """Only the second instance has seen a token of the old key; the first one says so."""
    old, in_use, verdict = tenant.key().kid, True, ""
    while verdict != "yes":
        if in_use:
            bearer = {"Authorization": f"Bearer {tenant.token()}"}
            (await http.get(f"{two}/things", headers=bearer)).raise_for_status()
        answer = await http.get(
            f"{one}/ops/revocation-readiness/{old}", headers={"Authorization": f"Bearer {secret}"}
        )
        readiness = answer.raise_for_status().json()
        verdict = readiness["verdict"]
        print(f"{verdict}, by what {len(readiness['instances'])} instances show")
        for blocker in readiness["blockers"]:
            print(f"  {blocker['message']}")
            if in_use and blocker["code"] == "key_in_use":
                in_use = False
                tenant.rotate()
        await asyncio.sleep(0.5)
    if (await http.get(f"{two}/things", headers=bearer)).is_success:
        sys.exit("the key was said to be ready although its token was still accepted")
    tenant.revoke(old)


async def leaked(
    tenant: LocalTenant, http: httpx.AsyncClient, one: str, two: str, secret: str
) -> None:
    """The key has leaked: one instance decides so, and the other one hears of it."""
    kid, stolen = tenant.key().kid, f"Bearer {tenant.token(lifetime=3600)}"
    await until("it is accepted", http, f"{two}/things", "200", Authorization=stolen)
    tenant.rotate()
    told = HTTPFleet([f"{one}/ops"], secret=secret, issuer=tenant.issuer)
    began = time.monotonic()
    (refusal,) = await told.distrust(kid, reason="found in a public repository")
    print(f"refused by {refusal.who}")
    await until("it is refused", http, f"{two}/things", "401", Authorization=stolen)
    print(f"refused by the other one too, {time.monotonic() - began:.1f} s after the call")
    fresh = {"Authorization": f"Bearer {tenant.token()}"}
    for each in (one, two):
        (await http.get(f"{each}/things", headers=fresh)).raise_for_status()
    print("tokens of the new key are accepted by both")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    asyncio.run(main())
