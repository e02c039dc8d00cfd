"""A guarded API whose keys are soon not trusted any more; it has a WebSocket."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware


def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def listen(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive()


app = Starlette(routes=[Route("/", hello), WebSocketRoute("/ws", listen)])
app.add_middleware(
    JWKSGuardMiddleware,
    verifier=TokenVerifier(
        os.environ["ISSUER"],
        os.environ["AUDIENCE"],
        leeway=0.0,
        refresh_interval=1.0,
        max_stale=float(os.environ["MAX_STALE"]),
    ),
)
