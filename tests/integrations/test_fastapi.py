"""The Guard of FastAPI in apps of this process; on a real server it is in the tests beside.

FastAPI resolves annotations in a module's names: local guards need annotations that are no strings.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Security
from fastapi.openapi import models
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from starlette.types import Message

from jwks_guard import (
    ConfigurationError,
    FromCookie,
    FromHeader,
    InsufficientScopeError,
    KeysUnavailableError,
    MultiIssuerVerifier,
    Refusal,
    TokenVerifier,
    VerifiedToken,
    problem_json,
)
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.claims import organization
from jwks_guard.integrations.fastapi import CurrentToken, Guard, RefusedException, current_token
from jwks_guard.testing import LocalTenant, fake_token
from tests.support import HandClock, verifier_of

COOKIE = FromCookie("token", origins=["https://app.acme.com"])
ISSUER, AUDIENCE = "https://acme.eu.auth0.com/", "https://api.acme.com"


@pytest.fixture
async def verifier(tenant: LocalTenant, clock: HandClock) -> AsyncIterator[TokenVerifier]:
    async with verifier_of(tenant, clock) as verifier:
        yield verifier


def accepted(verifier: TokenVerifier) -> int:
    """How many tokens the verifier has accepted so far."""
    return sum(used.accepted for used in verifier.usage().values())


def sending(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def asked(
    app: FastAPI, token: str | None = None, path: str = "/", **options: Any
) -> httpx.Response:
    """The answer to a GET, also where the app raises."""
    headers = {} if token is None else sending(token)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        return await client.get(path, headers=headers | options.pop("headers", {}), **options)


async def subject(token: CurrentToken) -> str | None:
    return token.subject


def guarded(guard: Guard, *scopes: str, middleware: dict[str, Any] | None = None) -> FastAPI:
    """An app of one route, which needs `scopes`."""
    app = FastAPI()

    @app.get("/")
    async def me(
        token: Annotated[VerifiedToken | None, Security(guard, scopes=scopes)],
    ) -> str | None:
        return None if token is None else token.subject

    if middleware is not None:
        app.add_middleware(JWKSGuardMiddleware, **middleware)
    return app


# --- scopes ---


async def test_scopes_of_all_dependencies_on_the_way_are_required(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    guard = Guard(verifier)

    async def reader(
        token: Annotated[VerifiedToken, Security(guard, scopes=["read:things"])],
    ) -> VerifiedToken:
        return token

    app = FastAPI()

    @app.get("/")
    async def write(
        token: Annotated[VerifiedToken, Security(reader, scopes=["write:things"])],
    ) -> str | None:
        return token.subject

    for scope in ("read:things", "write:things", ""):
        refused = await asked(app, tenant.token(scope=scope))
        assert refused.status_code == 403
        assert 'scope="write:things read:things"' in refused.headers["www-authenticate"]
    assert (await asked(app, tenant.token(scope="read:things write:things"))).json()


async def test_each_route_has_scopes_of_its_own_and_a_request_is_verified_once(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    guard = Guard(verifier)
    app = FastAPI(dependencies=[Depends(guard)])
    read, write = (Security(guard, scopes=[scope]) for scope in ("read:things", "write:things"))
    app.add_api_route("/read", subject, dependencies=[read])
    app.add_api_route("/write", subject, dependencies=[write])
    app.add_api_route("/both", subject, dependencies=[read, write])
    token = tenant.token(scope="read:things")
    statuses = [
        (await asked(app, token, path)).status_code for path in ("/read", "/write", "/both")
    ]
    assert statuses == [200, 403, 403]
    assert accepted(verifier) == 3


async def test_options_of_the_guard_hold_beside_the_scopes_of_a_route(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    checks = [organization("org_1")]
    guard = Guard(verifier, required_scopes=["openid"], claim_checks=checks)
    app = guarded(guard, "read:things")
    good: dict[str, Any] = {"scope": "openid read:things", "claims": {"org_id": "org_1"}}
    assert (await asked(app, tenant.token(**good))).status_code == 200
    assert (await asked(app, tenant.token(**good | {"scope": "read:things"}))).status_code == 403
    assert (await asked(app, tenant.token(**good | {"claims": {}}))).status_code == 401


async def test_scope_that_can_be_none_lets_nobody_in(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    app = guarded(Guard(verifier), "read things")
    assert (await asked(app, tenant.token(scope="read things"))).status_code == 500


# --- refusals ---


async def test_apps_own_handler_gets_the_error_with_everything_that_the_answer_needs(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    app = guarded(Guard(verifier), "read:things")

    @app.exception_handler(RefusedException)
    async def handle(_: Request, refused: RefusedException) -> JSONResponse:
        assert isinstance(refused.error, InsufficientScopeError)
        return JSONResponse({"missing": refused.error.required}, 403, refused.headers)

    refused = await asked(app, tenant.token(scope=""))
    assert refused.json() == {"missing": ["read:things"]}
    assert refused.headers["www-authenticate"].startswith('Bearer error="insufficient_scope"')
    assert refused.headers["cache-control"] == "no-store"


def shout(refusal: Refusal, _: Exception) -> Refusal:
    headers = (
        (b"content-type", b"text/plain"),
        (b"content-language", b"en"),
        (b"x-why", b"because"),
    )
    return Refusal(418, headers, b"No \xff!")


@pytest.mark.parametrize(
    ("on_refusal", "status", "detail"),
    [
        (
            None,
            401,
            {"error": "unauthorized", "error_description": "This request needs a bearer token."},
        ),
        (
            problem_json,
            401,
            {
                "type": "about:blank",
                "title": "Unauthorized",
                "status": 401,
                "detail": "This request needs a bearer token.",
                "error": "unauthorized",
            },
        ),
        (shout, 418, "No \N{REPLACEMENT CHARACTER}!"),
    ],
)
async def test_body_of_a_refusal_is_the_detail_of_fastapis_answer(
    verifier: TokenVerifier, on_refusal: Any, status: int, detail: object
) -> None:
    refused = await asked(guarded(Guard(verifier, on_refusal=on_refusal)))
    assert (refused.status_code, refused.json()) == (status, {"detail": detail})
    assert refused.headers["content-type"] == "application/json"
    assert refused.headers.get("x-why") == ("because" if on_refusal is shout else None)
    assert refused.headers.get("content-language") == ("en" if on_refusal is shout else None)


# --- with the middleware ---


async def test_token_of_the_middleware_is_not_verified_again(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    app = guarded(Guard(verifier), "read:things", middleware={"verifier": verifier})
    assert (await asked(app, tenant.token(scope="read:things"))).json() == "auth0|alice"
    assert accepted(verifier) == 1
    assert (await asked(app, tenant.token(scope="write:things"))).status_code == 403


async def test_token_that_the_middleware_accepts_by_another_verifier_is_refused(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    token = tenant.token()
    other = TokenVerifier(
        tenant.issuer, "https://orders.acme.com", keys=verifier.keys, algorithms=["ES256"]
    )
    with_middleware_alone = FastAPI()
    with_middleware_alone.add_middleware(JWKSGuardMiddleware, verifier=verifier)
    with_middleware_alone.add_api_route("/", subject)
    assert (await asked(with_middleware_alone, token)).status_code == 200
    app = guarded(Guard(other), middleware={"verifier": verifier})
    assert (await asked(app, token)).status_code == 401


@pytest.mark.parametrize(
    "middleware", [{"optional": True}, {"exclude_paths": ["/"]}], ids=["optional", "excluded"]
)
async def test_anonymous_request_of_the_middleware_needs_a_token_at_the_guard(
    tenant: LocalTenant, verifier: TokenVerifier, middleware: dict[str, Any]
) -> None:
    app = guarded(Guard(verifier), middleware={"verifier": verifier, **middleware})
    assert (await asked(app)).status_code == 401
    assert (await asked(app, tenant.token())).status_code == 200


async def test_token_from_another_place_than_the_guards_is_refused(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    """A page of another origin sends the cookie; the guard's route is for clients with a header."""
    middleware = {"verifier": verifier, "token_from": COOKIE}
    cookie = {"Cookie": f"token={tenant.token()}"}
    app = guarded(Guard(verifier), middleware=middleware)
    app.add_api_route("/middleware-alone", subject)
    assert (await asked(app, path="/middleware-alone", headers=cookie)).status_code == 200
    assert (await asked(app, headers=cookie)).status_code == 401
    same = guarded(Guard(verifier, token_from=COOKIE), middleware=middleware)
    assert (await asked(same, headers=cookie)).status_code == 200


async def test_optional_guard_that_finds_nothing_leaves_the_token_of_the_middleware(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    by_cookie = Guard(verifier, token_from=COOKIE, optional=True)
    app = FastAPI(dependencies=[Depends(by_cookie)])
    app.add_api_route("/", subject)
    app.add_middleware(JWKSGuardMiddleware, verifier=verifier)
    assert (await asked(app, tenant.token())).json() == "auth0|alice"


@pytest.mark.parametrize("kind", ["guard", "current token"])
@pytest.mark.parametrize("end", ["distrusted", "expired"])
async def test_token_that_ends_while_the_body_is_read_is_refused_after_it(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock, kind: str, end: str
) -> None:
    """A leaked key may have signed tokens for many slow requests, begun before it is distrusted."""
    guard = Guard(verifier)
    kept = Annotated[VerifiedToken, Depends(current_token if kind == "current token" else guard)]
    app = FastAPI()
    app.add_middleware(JWKSGuardMiddleware, verifier=verifier)

    @app.post("/")
    async def change(body: list[int], token: kept) -> str | None:
        return "not reached"

    async def slowly() -> AsyncIterator[bytes]:
        yield b"["
        if end == "expired":
            clock.advance(700)
        else:
            old = tenant.key().kid
            tenant.rotate()
            verifier.keys.decisions.decide(old, reason="leaked")
        yield b"]"

    headers = sending(tenant.token(lifetime=600))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        assert (await client.post("/", headers=headers, json=[])).status_code == 200
        refused = await client.post("/", headers=headers, content=slowly())
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


async def _of_a_stream(request: Request) -> bytes:
    return b"".join([part async for part in request.stream()])


async def _of_a_form(request: Request) -> bytes:
    return str(await request.form()).encode()


async def _heedlessly(request: Request) -> bytes:
    with suppress(Exception):  # as careless code does, which then tries again
        await request.body()
    return await request.body()


@pytest.mark.parametrize("read", [Request.body, _of_a_stream, _of_a_form, _heedlessly])
async def test_body_that_comes_after_its_key_was_distrusted_reaches_no_route_that_reads_it(
    tenant: LocalTenant, verifier: TokenVerifier, read: Callable[[Request], Awaitable[bytes]]
) -> None:
    """With a leaked key, any number of requests can be held ready before it is distrusted."""
    guard, bodies = Guard(verifier), []
    app = FastAPI()

    @app.post("/")
    async def change(
        request: Request, token: Annotated[VerifiedToken, Security(guard)]
    ) -> str | None:
        bodies.append(await read(request))
        return token.subject

    async def slowly() -> AsyncIterator[bytes]:
        yield b"a="
        await verifier.distrust(tenant.key().kid, reason="leaked", force=True)
        yield b"1"
        yield b"2"

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    headers = sending(tenant.token()) | form
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        assert (await client.post("/", headers=headers, content=b"a=1")).status_code == 200
        assert len(bodies) == 1
        refused = await client.post("/", headers=headers, content=slowly())
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    assert len(bodies) == 1


async def test_rest_of_a_body_that_was_refused_is_never_given(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    """A route that goes on would take what is left for the whole body."""
    guard, kid = Guard(verifier), tenant.key().kid
    app = FastAPI()

    @app.post("/")
    async def change(request: Request, token: Annotated[VerifiedToken, Security(guard)]) -> str:
        with suppress(RefusedException):
            await request.body()
        await verifier.reinstate(kid, reason="it has not leaked")
        return (await request.body()).decode()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"all but "
        await verifier.distrust(kid, reason="leaked", force=True)
        yield b"mine; "
        yield b"delete everything"

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        headers = sending(tenant.token())
        refused = await client.post("/", headers=headers, content=slowly())
        assert refused.status_code == 401
        assert (await client.post("/", headers=headers, content=b"mine")).json() == "mine"


async def test_route_may_look_for_its_client_after_the_token_has_expired(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    app, guard = FastAPI(), Guard(verifier)

    @app.get("/", dependencies=[Security(guard)])
    async def look(request: Request) -> bool:
        clock.advance(700)
        return await request.is_disconnected()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}  # as uvicorn has it

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    fields = sending(tenant.token(lifetime=600)).items()
    headers = [(name.lower().encode(), value.encode()) for name, value in fields]
    line = {"type": "http", "method": "GET", "path": "/", "query_string": b""}
    await app({**line, "headers": headers}, receive, send)
    assert [each.get("status") for each in sent] == [200, None]


# --- the token of a guard that ran before ---


async def test_current_token_is_that_of_the_routers_guard(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    router = APIRouter(dependencies=[Security(Guard(verifier), scopes=["read:things"])])
    router.add_api_route("/", subject)
    app = FastAPI()
    app.include_router(router)
    assert (
        await asked(app, tenant.token(sub="auth0|bob", scope="read:things"))
    ).json() == "auth0|bob"
    assert (await asked(app, tenant.token(scope=""))).status_code == 403
    assert (await asked(app)).status_code == 401


@pytest.mark.parametrize("guards", ["none", "optional", "too late"])
async def test_current_token_without_one_is_a_fault_of_the_app(
    tenant: LocalTenant, verifier: TokenVerifier, guards: str
) -> None:
    app = FastAPI()
    if guards == "too late":
        guard = Guard(verifier)

        @app.get("/")
        async def late(first: CurrentToken, second: Annotated[object, Depends(guard)]) -> str:
            return "not reached"

    else:
        optional = Depends(Guard(verifier, optional=True))
        app.add_api_route("/", subject, dependencies=[optional] if guards == "optional" else [])
    token = tenant.token() if guards == "too late" else None
    assert (await asked(app, token)).status_code == 500


async def test_optional_guard_gives_none_and_refuses_a_bad_token(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    app = guarded(Guard(verifier, optional=True))
    assert (await asked(app)).json() is None
    assert (await asked(app, tenant.token())).json() == "auth0|alice"
    assert (await asked(app, tenant.forged_token())).status_code == 401


async def test_scopes_of_a_route_let_no_anonymous_request_in(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    app = guarded(Guard(verifier, optional=True), "read:things")
    refused = await asked(app)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert (await asked(app, tenant.token(scope="read:things"))).status_code == 200


@pytest.mark.parametrize("needed", ["by the route", "by what leads to it"])
async def test_scopes_asked_of_the_current_token_are_required(
    tenant: LocalTenant, verifier: TokenVerifier, needed: str
) -> None:
    app = FastAPI(dependencies=[Depends(Guard(verifier))])
    by_route = needed == "by the route"
    asked_of = Security(current_token if by_route else subject, scopes=["write:things"])
    app.add_api_route("/", subject, dependencies=[asked_of])
    app.add_api_route("/current", subject)
    for scope, status in (("read:things", 403), ("write:things", 200)):
        token = tenant.token(scope=scope)
        answer = await asked(app, token)
        assert answer.status_code == status
        assert (await asked(app, token, "/current")).status_code == 200
        if status == 403:
            assert 'scope="write:things"' in answer.headers["www-authenticate"]


async def test_client_can_not_put_the_token_of_an_optional_guard_in_place_of_the_routers(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    """Its second token, from a place that only some clients use, would pass for the first."""
    device = Guard(verifier, token_from=FromHeader("X-Device"), optional=True)
    router = APIRouter(dependencies=[Depends(Guard(verifier, required_scopes=["admin"]))])
    router.add_api_route("/", subject, dependencies=[Depends(device)])
    app = FastAPI()
    app.include_router(router)
    admin, other = tenant.token(scope="admin"), tenant.token(sub="auth0|bob")
    assert (await asked(app, admin)).json() == "auth0|alice"
    assert (await asked(app, admin, headers={"X-Device": admin})).json() == "auth0|alice"
    assert (await asked(app, admin, headers={"X-Device": other})).status_code == 500


# --- the verifier's life ---


async def test_verifier_starts_with_the_app_inside_of_its_own_lifespan(
    tenant: LocalTenant, clock: HandClock
) -> None:
    verifier = verifier_of(tenant, clock)
    guard = Guard(verifier)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with guard.lifespan(app):
            yield

    for app in (FastAPI(lifespan=guard.lifespan), FastAPI(lifespan=lifespan)):
        async with app.router.lifespan_context(app):
            assert verifier.health().status == "ok"
        with pytest.raises(KeysUnavailableError):
            await verifier.verify(tenant.token())


# --- what OpenAPI says ---


def scheme(guard: Guard) -> dict[str, Any]:
    app = guarded(guard, "read:things")
    document = app.openapi()
    assert document["paths"]["/"]["get"]["security"] == [{guard.scheme_name: ["read:things"]}]
    described: dict[str, Any] = document["components"]["securitySchemes"][guard.scheme_name]
    return described


DISCOVERY = f"{ISSUER}.well-known/openid-configuration"
OIDC = {"type": "openIdConnect", "openIdConnectUrl": DISCOVERY}
BEARER = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
KEYS_URI = "https://keys.acme.com/jwks.json"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: TokenVerifier(ISSUER, AUDIENCE), OIDC),
        (lambda: TokenVerifier.for_auth0("acme.eu.auth0.com", audience=AUDIENCE), OIDC),
        (lambda: TokenVerifier(ISSUER, AUDIENCE, jwks_uri=KEYS_URI), BEARER),
        (lambda: TokenVerifier("acme", AUDIENCE, jwks_uri=KEYS_URI), BEARER),
        (lambda: MultiIssuerVerifier([TokenVerifier(ISSUER, AUDIENCE)]), BEARER),
    ],
    ids=["issuer", "auth0", "jwks_uri", "not-a-url", "several-issuers"],
)
def test_scheme_leads_to_the_discovery_document_if_there_is_one(
    make: Callable[[], Any], expected: dict[str, str]
) -> None:
    assert scheme(Guard(make())) == expected


def own(request: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("token_from", "expected"),
    [
        (FromHeader(), OIDC),
        (COOKIE, {"type": "apiKey", "in": "cookie", "name": "token"}),
        (FromHeader("X-Token"), {"type": "apiKey", "in": "header", "name": "x-token"}),
        (
            FromHeader("Authorization", scheme=None),
            {"type": "apiKey", "in": "header", "name": "authorization"},
        ),
        ([own, COOKIE, FromHeader()], {"type": "apiKey", "in": "cookie", "name": "token"}),
    ],
)
def test_scheme_says_where_the_token_is(token_from: Any, expected: dict[str, str]) -> None:
    guard = Guard(TokenVerifier(ISSUER, AUDIENCE), token_from=token_from, description="Ask Ann.")
    assert scheme(guard) == expected | {"description": "Ask Ann."}


def test_token_from_functions_alone_is_described_by_the_app() -> None:
    verifier = TokenVerifier(ISSUER, AUDIENCE)
    with pytest.raises(ConfigurationError, match="model="):
        Guard(verifier, token_from=own)
    guard = Guard(verifier, token_from=own, model=models.HTTPBearer(), scheme_name="ours")
    assert scheme(guard) == {"type": "http", "scheme": "bearer"}
    assert guard.scheme_name == "ours"


async def test_guard_of_the_app_leaves_open_what_is_no_route_of_it_and_the_middleware_does_not(
    verifier: TokenVerifier,
) -> None:
    app, mounted = FastAPI(dependencies=[Depends(Guard(verifier))]), FastAPI()
    mounted.add_api_route("/route", lambda: "open")
    app.mount("/mounted", mounted)
    app.add_route("/plain", lambda _: JSONResponse("open"))
    for path in ("/mounted/route", "/plain"):
        assert (await asked(app, path=path)).json() == "open"
    whole: Any = JWKSGuardMiddleware(app, verifier=verifier)
    for path in ("/mounted/route", "/plain"):
        assert (await asked(whole, path=path)).status_code == 401


async def test_documentation_needs_no_token(verifier: TokenVerifier) -> None:
    app = FastAPI(dependencies=[Depends(Guard(verifier))])
    app.add_api_route("/", subject)
    for path in ("/docs", "/openapi.json", "/redoc"):
        assert (await asked(app, path=path)).status_code == 200
    assert (await asked(app)).status_code == 401


# --- in tests of the app ---


def test_module_level_verifier_serves_one_test_client_after_the_other() -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        guard = Guard(TokenVerifier(tenant.issuer, tenant.audience))
        app = FastAPI(lifespan=guard.lifespan, dependencies=[Depends(guard)])
        app.add_api_route("/", subject)
        for _ in range(2):  # each request without `with` has an event loop of its own
            assert TestClient(app).get("/", headers=sending(tenant.token())).status_code == 200
        for _ in range(2):
            with TestClient(app) as client:
                assert client.get("/", headers=sending(tenant.token())).status_code == 200
        assert TestClient(app).get("/", headers=sending(tenant.token())).status_code == 503


async def test_override_stands_for_the_guard_whatever_scopes_it_is_used_with(
    verifier: TokenVerifier,
) -> None:
    guard = Guard(verifier)
    app = guarded(guard, "read:things")

    @app.get("/write")
    async def write(
        token: Annotated[VerifiedToken, Security(guard, scopes=["write:things"])],
    ) -> list[str]:
        return sorted(token.scopes)

    app.add_api_route("/current", subject, dependencies=[Depends(guard)])
    app.dependency_overrides[guard] = lambda: fake_token(sub="auth0|bob", scope="read:things")
    assert (await asked(app)).json() == "auth0|bob"
    assert (await asked(app, path="/write")).json() == ["read:things"]
    assert (await asked(app, path="/current")).status_code == 500
    app.dependency_overrides[current_token] = lambda: fake_token(sub="auth0|eve")
    assert (await asked(app, path="/current")).json() == "auth0|eve"
    assert accepted(verifier) == 0
