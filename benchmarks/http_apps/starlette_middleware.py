"""Starlette with a middleware that does nothing: what any middleware costs."""

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.http_apps.starlette_plain import hello


class DoNothing:
    """Passes every call on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


app = Starlette(routes=[Route("/", hello)])
app.add_middleware(DoNothing)
