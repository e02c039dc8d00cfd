"""An app of each framework that has a guard of the table at each path, as a server runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from fastapi import Depends, FastAPI
from flask import Flask, g
from litestar import Litestar
from litestar import Request as LitestarRequest
from litestar import route as litestar_route
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.integrations.fastapi import Guard
from jwks_guard.integrations.flask import authenticate, init_app
from jwks_guard.integrations.litestar import Guard as LitestarGuard
from tests.integrations import django_project as django_project  # configures Django
from tests.integrations.issuing import Issuing
from tests.integrations.requests import GUARDS

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from starlette.types import ASGIApp

METHODS: list[Literal["GET", "HEAD", "POST"]] = ["GET", "HEAD", "POST"]


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
    lets_in: frozenset[str] = frozenset()
    """The cases that the framework's own rules let in as anonymous."""


def starlette(issuing: Issuing) -> Starlette:
    async def hello(request: Request) -> PlainTextResponse:
        token = request.state.token
        return PlainTextResponse("anonymous" if token is None else token.subject)

    def guarded(path: str) -> Mount:
        app = Starlette(routes=[Route("/", hello, methods=METHODS)])
        verifier = issuing.verifier(path)
        return Mount(f"/{path}", JWKSGuardMiddleware(app, verifier=verifier, **GUARDS[path]))

    return Starlette(routes=[guarded(path) for path in GUARDS])


def fastapi(issuing: Issuing) -> FastAPI:
    app = FastAPI()

    def guarded(path: str) -> None:
        guard = Depends(Guard(issuing.verifier(path), **GUARDS[path]))

        async def hello(token: Any = guard) -> str:
            return "anonymous" if token is None else token.subject

        app.add_api_route(f"/{path}/", hello, methods=[*METHODS], response_class=PlainTextResponse)

    for path in GUARDS:
        guarded(path)
    return app


def django_settings(issuing: Issuing) -> dict[str, dict[str, Any]]:
    """The setting JWKS_GUARD of each path: a process has one project, which has one guard."""
    return {
        path: {
            "VERIFIER": issuing.sync_verifier(path),
            **{name.upper(): option for name, option in options.items()},
        }
        for path, options in GUARDS.items()
    }


def django_wsgi(issuing: Issuing) -> WSGIApplication:
    made, project = django_settings(issuing), get_wsgi_application()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with override_settings(JWKS_GUARD=made[environ["PATH_INFO"].split("/")[1]]):
            return project(environ, start_response)

    return app


def django_asgi(issuing: Issuing) -> ASGIApp:
    made, project = django_settings(issuing), get_asgi_application()
    one_at_a_time = asyncio.Lock()  # a client has its answer before the project is done

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with one_at_a_time:
            with override_settings(JWKS_GUARD=made[scope["path"].split("/")[1]]):
                await project(scope, receive, send)

    return app


def rest_framework(issuing: Issuing) -> WSGIApplication:
    made = django_settings(issuing)
    with override_settings(MIDDLEWARE=[]):  # read here; the guard would answer before DRF does
        project = get_wsgi_application()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        environ["PATH_INFO"] = f"/drf{path}"
        with override_settings(JWKS_GUARD=made[path.split("/")[1]]):
            return project(environ, start_response)

    return app


def flask(issuing: Issuing) -> WSGIApplication:
    def guarded(path: str) -> Flask:
        app = Flask(path)
        init_app(app, issuing.sync_verifier(path), **GUARDS[path])

        @app.before_request
        def guard() -> None:
            authenticate()

        @app.route("/", methods=METHODS)
        def hello() -> str:
            return "anonymous" if g.token is None else str(g.token.subject)

        return app

    return DispatcherMiddleware(NotFound(), {f"/{path}": guarded(path) for path in GUARDS})


def litestar(issuing: Issuing) -> Starlette:
    @litestar_route("/", http_method=METHODS, status_code=200, media_type="text/plain")
    async def hello(request: LitestarRequest[Any, Any, Any]) -> str:
        token = request.auth
        return "anonymous" if token is None else str(token.subject)

    def guarded(path: str) -> Mount:
        guard = LitestarGuard(issuing.verifier(path), **GUARDS[path])
        app: Any = Litestar([hello], on_app_init=[guard.on_app_init], logging_config=None)
        return Mount(f"/{path}", app)

    return Starlette(routes=[guarded(path) for path in GUARDS])


FRAMEWORKS = [
    Framework("starlette", starlette, "asgi"),
    Framework("fastapi", fastapi, "asgi", lambda body: body["detail"]),
    Framework("django-wsgi", django_wsgi, "wsgi"),
    Framework("django-asgi", django_asgi, "asgi"),
    Framework(
        "rest_framework",
        rest_framework,
        "wsgi",
        body=None,
        lets_in=frozenset({"Basic where no token is needed"}),
    ),
    Framework("flask", flask, "wsgi"),
    Framework("litestar", litestar, "asgi"),
]
