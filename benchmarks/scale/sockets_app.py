"""A guarded API with WebSockets, which can be told to distrust a key; /open is not guarded."""

from __future__ import annotations

import logging
import os
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware

logging.getLogger("jwks_guard").setLevel(logging.ERROR)  # each revocation is a warning
verifier = TokenVerifier(os.environ["ISSUER"], os.environ["AUDIENCE"])


async def listen(socket: WebSocket) -> None:
    """Wait for messages that never come, as most open WebSockets do most of the time."""
    await socket.accept()
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        pass


async def distrust(request: Request) -> JSONResponse:
    """When the call began; on Linux all processes have one monotonic clock."""
    began = time.monotonic()
    await verifier.distrust(request.path_params["kid"], reason="revoked by the benchmark")
    return JSONResponse({"at": began})


app = Starlette(
    routes=[
        WebSocketRoute("/guarded", listen),
        WebSocketRoute("/open", listen),
        Route("/distrust/{kid}", distrust, methods=["POST"]),
    ]
)
app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/distrust/*", "/open"])
