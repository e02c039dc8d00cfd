"""A guarded API with WebSockets; the environment says whose tokens it accepts.

What is below /public/ needs no token; tests call it to change what the verifier trusts.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware

verifier = TokenVerifier(os.environ["ISSUER"], os.environ["AUDIENCE"])
uploads: list[str] = []


async def distrust(request: Request) -> PlainTextResponse:
    await verifier.distrust(request.path_params["kid"], reason="rehearsal")
    return PlainTextResponse("distrusted")


async def trust_nothing(request: Request) -> PlainTextResponse:
    await verifier.aclose()
    return PlainTextResponse("closed")


async def trust_again(request: Request) -> PlainTextResponse:
    await verifier.start()
    return PlainTextResponse("started")


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {request.user.display_name}")


async def upload(request: Request) -> PlainTextResponse:
    uploads.append("begun")
    await request.body()
    uploads.append("read")
    return PlainTextResponse("read")


async def uploaded(request: Request) -> PlainTextResponse:
    return PlainTextResponse(" ".join(uploads))


async def stream(request: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        yield "data: one\n\n"
        await asyncio.Event().wait()

    return StreamingResponse(parts(), media_type=request.query_params["type"])


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app = Starlette(
    routes=[
        Route("/public/distrust/{kid}", distrust, methods=["POST"]),
        Route("/public/close", trust_nothing, methods=["POST"]),
        Route("/public/start", trust_again, methods=["POST"]),
        Route("/public/uploads", uploaded),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        WebSocketRoute("/public/echo", echo),
        WebSocketRoute("/echo", echo),
        Route("/{rest:path}", hello),
    ]
)
app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/public/*"])


async def without_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """The same as an app that takes no part in lifespan, and does not hand it on."""
    if scope["type"] == "lifespan":
        raise RuntimeError("this app has no lifespan")
    await app(scope, receive, send)
