"""Starlette with one bare signature check before each request, and no look at its token.

No guard that checks every signature can do with less.
"""

import os

import httpx
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.http_apps.starlette_plain import hello
from benchmarks.peers.bare import bare_checks

with httpx.Client(verify=False) as client:  # plain http to loopback
    jwks = client.get(os.environ["JWKS_URI"]).json()
(check,) = bare_checks([os.environ["TOKEN"]], jwks)


class BareCheck:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            check()
        await self.app(scope, receive, send)


app = Starlette(routes=[Route("/", hello)])
app.add_middleware(BareCheck)
