"""An app of each framework that has a guard of the table at each path, as a server runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from jwks_guard.asgi import JWKSGuardMiddleware
from tests.integrations.issuing import Issuing
from tests.integrations.requests import GUARDS

METHODS = ["GET", "HEAD", "POST"]


@dataclass(frozen=True)
class Framework:
    """How an app is made; `interface` is how it is served.

    `body` takes the body of a refusal as parsed, and gives what ours has there; None where another
    format is the framework's habit.
    """

    name: str
    make: Callable[[Issuing], Any]
    interface: Literal["asgi", "wsgi"]
    body: Callable[[Any], Any] | None = lambda body: body


def starlette(issuing: Issuing) -> Starlette:
    async def hello(request: Request) -> PlainTextResponse:
        token = request.state.token
        return PlainTextResponse("anonymous" if token is None else token.subject)

    def guarded(path: str) -> Mount:
        app = Starlette(routes=[Route("/", hello, methods=METHODS)])
        verifier = issuing.verifier(path)
        return Mount(f"/{path}", JWKSGuardMiddleware(app, verifier=verifier, **GUARDS[path]))

    return Starlette(routes=[guarded(path) for path in GUARDS])


FRAMEWORKS = [
    Framework("starlette", starlette, "asgi"),
]
