"""An API whose verifiers are used, and told to distrust a key, before `gunicorn --preload` forks.

The environment says whose tokens it accepts and where it keeps its snapshot, and has a token of the
key that leaked and one of another.
"""

from __future__ import annotations

import asyncio
import os

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from jwks_guard import JWKSGuardError, SyncTokenVerifier, TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware

ISSUER, AUDIENCE = os.environ["ISSUER"], os.environ["AUDIENCE"]
LEAKED, GOOD = os.environ["LEAKED"], os.environ["GOOD"]

verifier = TokenVerifier(
    ISSUER, AUDIENCE, refresh_interval=1.0, snapshot_path=os.environ["SNAPSHOT"]
)
sync_verifier = SyncTokenVerifier(ISSUER, AUDIENCE, refresh_interval=1.0)


async def use() -> None:
    await verifier.verify(GOOD)
    leaked = await verifier.verify(LEAKED)
    await verifier.distrust(leaked.kid, reason="leaked")


sync_verifier.verify(LEAKED)
sync_verifier.verify(GOOD)
asyncio.run(use())


def guarded(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.user.identity)


def in_thread(request: Request) -> PlainTextResponse:
    """What the middleware does, by the other verifier and in a worker thread."""
    try:
        token = sync_verifier.verify(request.headers["authorization"].removeprefix("Bearer "))
    except JWKSGuardError as error:
        return PlainTextResponse(error.code, error.http_status)
    return PlainTextResponse(token.subject)


def confirmed(request: Request) -> JSONResponse:
    return JSONResponse([each.health().confirmed_at for each in (verifier, sync_verifier)])


api = Starlette(
    routes=[
        Route("/guarded", guarded),
        Route("/in-thread", in_thread),
        Route("/confirmed", confirmed),
    ]
)
api.add_middleware(
    JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/in-thread", "/confirmed"]
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The API, whose answers say which process they come from."""

    async def signed(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Worker"] = str(os.getpid())
        await send(message)

    await api(scope, receive, signed)
