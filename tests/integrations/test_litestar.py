"""Litestar apps: which route needs what, what handlers have of the token, and WebSockets."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
import uvicorn
from litestar import Litestar, Request, Response, Router, WebSocket, asgi, get, post, websocket
from litestar.config.cors import CORSConfig
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.response import ServerSentEvent
from starlette.responses import PlainTextResponse
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jwks_guard import KeysUnavailableError, Refusal, TokenVerifier
from jwks_guard.integrations.litestar import Guard, RefusedException
from jwks_guard.testing import LocalTenant
from tests.integrations.pages import blocks
from tests.support import PATIENCE, HandClock, verifier_of


@pytest.fixture
async def verifier(tenant: LocalTenant, clock: HandClock) -> AsyncIterator[TokenVerifier]:
    made = verifier_of(tenant, clock)
    yield made
    await made.aclose()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def client_of(app: Litestar) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(cast("Any", app)), base_url="http://api.test"
    )


@get("/who")
async def who(request: Request[Any, Any, Any]) -> dict[str, Any]:
    if request.auth is None:
        return {"user": request.user}
    return {"user": request.user.identity, "scopes": sorted(request.auth.scopes)}


async def test_handler_has_the_token(tenant: LocalTenant, verifier: TokenVerifier) -> None:
    app = Litestar([who], on_app_init=[Guard(verifier).on_app_init])
    async with client_of(app) as client:
        answer = await client.get("/who", headers=bearer(tenant.token(scope="read write")))
        assert answer.json() == {"user": "auth0|alice", "scopes": ["read", "write"]}
        assert (await client.get("/nothing-here")).status_code == 404


async def test_route_asks_for_more_than_the_app(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    guard = Guard(verifier, required_scopes=["read"])

    @post("/", guards=[guard.requiring(required_scopes=["write"])])
    async def write() -> str:
        return "written"

    app = Litestar([who, write], on_app_init=[guard.on_app_init])
    async with client_of(app) as client:
        reader, writer = bearer(tenant.token(scope="read")), bearer(tenant.token(scope="write"))
        assert (await client.get("/who", headers=reader)).status_code == 200
        assert (await client.get("/who", headers=writer)).status_code == 403
        refused = await client.post("/", headers=reader)
        assert refused.status_code == 403
        assert refused.headers["www-authenticate"].endswith('scope="write"')
        assert refused.json()["error"] == "insufficient_scope"
        both = bearer(tenant.token(scope="read write"))
        assert (await client.post("/", headers=both)).status_code == 201


async def test_route_that_is_excluded_looks_at_no_token(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    public = Router("/public", route_handlers=[who], opt={"exclude_from_auth": True})
    app = Litestar([who, public], on_app_init=[Guard(verifier).on_app_init])
    async with client_of(app) as client:
        for headers in ({}, bearer("bad"), bearer(tenant.token())):
            assert (await client.get("/public/who", headers=headers)).json() == {"user": None}
        for path in ("/who", "/public/../who", "/public/..%2fwho", "//who"):
            assert (await client.get(path)).status_code in (401, 404)


@pytest.mark.parametrize("opt", [{}, {"exclude_from_auth": True}])
async def test_what_a_route_requires_no_anonymous_request_has(
    opt: dict[str, Any], tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    guard = Guard(verifier, optional=True)

    @get("/", guards=[guard.requiring()], opt=opt)
    async def index() -> str:
        return "let in"

    async with client_of(Litestar([index, who], on_app_init=[guard.on_app_init])) as client:
        assert (await client.get("/who")).json() == {"user": None}
        refused = await client.get("/")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        accepted = await client.get("/", headers=bearer(tenant.token()))
        assert accepted.status_code == (401 if opt else 200)


async def test_requirement_refuses_all_where_its_guard_does_not_stand(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    other = verifier_of(tenant, clock)
    required = Guard(verifier).requiring()
    unguarded = Router("/unguarded", route_handlers=[who], guards=[required])
    otherwise = Router(
        "/other", route_handlers=[who], guards=[required], middleware=[Guard(other).middleware]
    )
    async with client_of(Litestar([unguarded, otherwise])) as client:
        good = bearer(tenant.token())
        assert (await client.get("/unguarded/who", headers=good)).status_code == 401
        assert (await client.get("/other/who", headers=good)).status_code == 401
    await other.aclose()


async def test_router_can_be_guarded_alone(tenant: LocalTenant, verifier: TokenVerifier) -> None:
    @get("/open")
    async def open_to_all() -> str:
        return "hello"

    inside = Router("/inside", route_handlers=[who], middleware=[Guard(verifier).middleware])
    async with client_of(Litestar([open_to_all, inside])) as client:
        assert (await client.get("/open")).status_code == 200
        refused = await client.get("/inside/who")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.get("/inside/who", headers=bearer(tenant.token()))).is_success


async def test_mounted_asgi_app_is_guarded(tenant: LocalTenant, verifier: TokenVerifier) -> None:
    mounted = asgi("/mounted", is_mount=True, copy_scope=True)(PlainTextResponse("mounted"))
    async with client_of(Litestar([mounted], on_app_init=[Guard(verifier).on_app_init])) as client:
        assert (await client.get("/mounted/a")).status_code == 401
        assert (await client.get("/mounted/a", headers=bearer(tenant.token()))).text == "mounted"


async def test_cached_response_is_for_those_with_a_token(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    @get("/", cache=True)
    async def index() -> str:
        return "hello"

    async with client_of(Litestar([index], on_app_init=[Guard(verifier).on_app_init])) as client:
        assert (await client.get("/", headers=bearer(tenant.token()))).status_code == 200
        assert (await client.get("/")).status_code == 401


@pytest.mark.parametrize("caught", [401, RefusedException])
async def test_exception_handler_of_the_app_words_the_refusal(
    caught: Any, verifier: TokenVerifier
) -> None:
    def reworded(_: Request[Any, Any, Any], refused: RefusedException) -> Response[str]:
        assert "token" in str(refused.error)
        return Response("log in first", status_code=refused.status_code, headers=refused.headers)

    def in_english(refusal: Refusal, _: Exception) -> Refusal:
        language = (b"content-language", b"en")
        return Refusal(refusal.status, (*refusal.headers, language), refusal.body)

    guard = Guard(verifier, on_refusal=in_english)
    app = Litestar([who], on_app_init=[guard.on_app_init], exception_handlers={caught: reworded})
    async with client_of(app) as client:
        refused = await client.get("/who")
        assert (refused.status_code, refused.text) == (401, "log in first")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.headers["content-language"] == "en"


async def test_cors_preflight_needs_no_token(verifier: TokenVerifier) -> None:
    app = Litestar(
        [who],
        on_app_init=[Guard(verifier).on_app_init],
        cors_config=CORSConfig(allow_origins=["https://app.acme.com"]),
    )
    origin = {"Origin": "https://app.acme.com"}
    async with client_of(app) as client:
        asked = {**origin, "Access-Control-Request-Method": "GET"}
        assert (await client.options("/who", headers=asked)).status_code == 204
        refused = await client.get("/who", headers=origin)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://app.acme.com"


async def test_openapi_has_the_scheme_beside_those_of_the_app(verifier: TokenVerifier) -> None:
    key = Components(security_schemes={"Key": SecurityScheme("apiKey", name="k")})
    config = OpenAPIConfig("API", "1.0", components=[key], security=[{"Key": []}])
    for _ in range(2):
        app = Litestar([who], on_app_init=[Guard(verifier).on_app_init], openapi_config=config)
        schema = app.openapi_schema.to_schema()
        assert schema["components"]["securitySchemes"] == {
            "Key": {"type": "apiKey", "name": "k"},
            "BearerToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        }
        assert schema["security"] == [{"Key": []}, {"BearerToken": []}]
    guard = Guard(verifier, scheme=SecurityScheme("openIdConnect"), scheme_name="Acme")
    schema = Litestar([who], on_app_init=[guard.on_app_init]).openapi_schema.to_schema()
    assert schema["components"]["securitySchemes"] == {"Acme": {"type": "openIdConnect"}}
    assert Litestar([who], on_app_init=[guard.on_app_init], openapi_config=None)


@websocket("/echo")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    async for text in socket.iter_data("text"):
        await socket.send_text(f"{socket.user.identity if socket.user else None}: {text}")


@asynccontextmanager
async def served(app: Litestar) -> AsyncIterator[str]:
    """The address of `app` in a uvicorn of this event loop, with its lifespan."""
    config = uvicorn.Config(app, ws="websockets-sansio", log_config=None, lifespan="on")
    server, listener = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


def dial(address: str, path: str, token: str | None = None) -> connect:
    headers = {} if token is None else bearer(token)
    return connect(f"ws://{address}{path}", additional_headers=headers, proxy=None)


async def test_websocket_is_refused_before_it_is_accepted(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    guard = Guard(verifier)
    admins = Router(
        "/admin", route_handlers=[echo], guards=[guard.requiring(required_scopes=["admin"])]
    )
    public = Router("/public", route_handlers=[echo], opt={"exclude_from_auth": True})
    app = Litestar([echo, admins, public], on_app_init=[guard.on_app_init])
    async with served(app) as address:
        with pytest.raises(InvalidStatus) as refused:
            await dial(address, "/echo")
        assert refused.value.response.status_code == 401
        assert refused.value.response.headers["www-authenticate"] == "Bearer"
        with pytest.raises(InvalidStatus) as forbidden:
            await dial(address, "/admin/echo", tenant.token(scope="read"))
        assert forbidden.value.response.status_code == 403
        async with dial(address, "/admin/echo", tenant.token(scope="admin")) as open_one:
            await open_one.send("hello")
            assert await open_one.recv() == "auth0|alice: hello"
        async with dial(address, "/public/echo") as open_one:
            await open_one.send("hello")
            assert await open_one.recv() == "None: hello"


async def test_open_websocket_ends_once_its_key_is_distrusted(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    app = Litestar([echo], on_app_init=[Guard(verifier).on_app_init])
    async with served(app) as address, dial(address, "/echo", tenant.token()) as open_one:
        await open_one.send("hello")
        assert await open_one.recv() == "auth0|alice: hello"
        await verifier.distrust(tenant.key().kid, reason="leaked", force=True)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(open_one.recv(), PATIENCE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


@pytest.mark.parametrize("reworded", [False, True])
async def test_body_that_comes_after_its_key_was_distrusted_reaches_no_handler(
    reworded: bool, tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    reached, begun = [], asyncio.Event()

    async def note(_: Any) -> None:
        begun.set()

    @post("/", before_request=note)
    async def write(request: Request[Any, Any, Any]) -> None:
        reached.append(await request.body())

    def handler(_: Request[Any, Any, Any], refused: RefusedException) -> Response[str]:
        return Response(refused.error.code, status_code=refused.status_code)

    handlers: Any = {RefusedException: handler} if reworded else {}
    guard = Guard(verifier)
    app = Litestar([write], on_app_init=[guard.on_app_init], exception_handlers=handlers)

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await begun.wait()
        await verifier.distrust(tenant.key().kid, reason="leaked", force=True)
        yield b"}"

    headers = bearer(tenant.token()) | {"Content-Type": "application/json"}
    async with (
        served(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE) as client,
    ):
        refused = await client.post("/", headers=headers, content=slowly())
    assert refused.status_code == 401
    assert refused.text == "revoked_key" if reworded else "www-authenticate" in refused.headers
    assert reached == []


async def test_event_stream_ends_once_its_key_is_distrusted(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    @get("/")
    async def events() -> ServerSentEvent:
        async def one() -> AsyncIterator[str]:
            yield "one"
            await asyncio.Event().wait()

        return ServerSentEvent(one())

    app = Litestar([events], on_app_init=[Guard(verifier).on_app_init])
    async with (
        served(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE) as client,
        asyncio.timeout(PATIENCE),
        client.stream("GET", "/", headers=bearer(tenant.token())) as stream,
    ):
        lines = stream.aiter_lines()
        assert await anext(lines) == "data: one"
        await verifier.distrust(tenant.key().kid, reason="leaked", force=True)
        assert [line async for line in lines if line] == []


async def test_verifier_lives_as_long_as_the_app(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    app = Litestar([who], on_app_init=[Guard(verifier).on_app_init])
    good = tenant.token()
    async with app.lifespan():
        assert tenant.requests.count() > 0
        assert (await verifier.verify(good)).subject == "auth0|alice"
    with pytest.raises(KeysUnavailableError):
        await verifier.verify(good)


async def test_example_guards_its_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with LocalTenant(algorithm="ES256") as local:
        monkeypatch.setenv("JWKS_GUARD_ISSUER", local.issuer)
        monkeypatch.setenv("JWKS_GUARD_AUDIENCE", local.audience)
        example = importlib.import_module("examples.litestar_api")
        local.faults.status(503)
        async with (
            served(example.app) as address,
            httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE) as client,
        ):
            good = bearer(local.token(scope="write:things"))
            down = await client.get("/things", headers=good)
            assert (down.status_code, "retry-after" in down.headers) == (503, True)
            local.faults.clear()
            await example.verifier.keys.refresh()
            assert (await client.get("/things", headers=good)).json()["owner"] == "auth0|alice"
            assert (await client.post("/things", headers=good)).status_code == 201
            refused = await client.get("/things")
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            expired = bearer(local.token(claims={"exp": 1}))
            for bad in (bearer("bad"), expired):
                assert (await client.get("/things", headers=bad)).status_code == 401
            lacking = await client.post("/things", headers=bearer(local.token()))
            assert lacking.status_code == 403
            assert 'scope="write:things"' in lacking.headers["www-authenticate"]
            assert (await client.get("/health")).json() == {"status": "ok"}
            await example.verifier.distrust(local.key().kid, reason="leaked", force=True)
            assert (await client.get("/things", headers=good)).status_code == 401


async def test_short_version_guards_an_app() -> None:
    with (
        LocalTenant(algorithm="ES256") as local,
        blocks("docs/frameworks.md", local, "litestar") as (made,),
    ):
        async with client_of(made.app) as client:
            assert (await client.get("/me")).status_code == 401
            answer = await client.get("/me", headers=bearer(local.token(sub="auth0|bob")))
            assert answer.json() == {"sub": "auth0|bob"}
        await made.guard.verifier.aclose()


async def test_page_of_the_documentation_runs() -> None:
    with LocalTenant(algorithm="ES256") as local, blocks("docs/litestar.md", local) as made:
        good = bearer(local.token(sub="auth0|bob", scope="write:things"))
        first, second, third, tested = made
        async with client_of(first.app) as client:
            assert (await client.get("/me", headers=good)).json() == {"sub": "auth0|bob"}
            assert (await client.get("/health")).text == "ok"
            poor = bearer(local.token())
            assert (await client.post("/things", headers=poor)).status_code == 403
            assert (await client.post("/things", headers=good)).status_code == 201
        async with client_of(second.app) as client:
            assert (await client.get("/me", headers=good)).text == "auth0|bob"
        async with client_of(third.app) as client:
            refused = await client.get("/schema/openapi.json")
            assert (refused.status_code, refused.json()) == (
                401,
                {"problem": "missing_credentials"},
            )
        await asyncio.to_thread(tested.test_scope_is_required, local)
        for each in (first, second, third):
            await each.guard.verifier.aclose()


async def test_pages_of_openapi_can_be_opened_as_documented(verifier: TokenVerifier) -> None:
    router = Router("/schema", route_handlers=[], opt={"exclude_from_auth": True})
    config = OpenAPIConfig("API", "1.0", openapi_router=router)
    app = Litestar([who], on_app_init=[Guard(verifier).on_app_init], openapi_config=config)
    async with client_of(app) as client:
        assert (await client.get("/schema/openapi.json")).status_code == 200
        assert (await client.get("/who")).status_code == 401
