from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jwks_guard import FromCookie
from jwks_guard.asgi import JWKSGuardMiddleware, TokenUser, get_token
from jwks_guard.asgi.connection import ConnectionRequest
from jwks_guard.errors import (
    ConfigurationError,
    InvalidTokenError,
    KeysUnavailableError,
    LookUpThrottledError,
    MalformedTokenError,
    RevokedKeyError,
)
from jwks_guard.verify.token import VerifiedToken

GOOD = {"Authorization": "Bearer good"}
PREFLIGHT = {"Origin": "https://web.test", "Access-Control-Request-Method": "GET"}


def token(**claims: Any) -> VerifiedToken:
    return VerifiedToken({"kid": "k1"}, claims, None, math.inf)


@dataclass
class StubVerifier:
    """Accepts the tokens `good` and `machine`, and raises what it is told to for others."""

    errors: dict[bytes, Exception] = field(default_factory=dict)
    asked: list[bytes] = field(default_factory=list)

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    async def verify(self, compact: str | bytes) -> VerifiedToken:
        assert isinstance(compact, bytes)
        self.asked.append(compact)
        if compact in self.errors:
            raise self.errors[compact]
        tokens = {
            b"good": token(sub="auth0|alice", scope="read:things", permissions=["delete:things"]),
            b"machine": token(scope=None),
        }
        if compact not in tokens:
            raise MalformedTokenError("three segments are needed")
        return tokens[compact]

    def remaining(self, token: VerifiedToken) -> float:
        raise NotImplementedError

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        raise NotImplementedError


def who(request: Request) -> JSONResponse:
    token = request.state.token
    return JSONResponse(
        {
            "user": request.user.identity,
            "name": request.user.display_name,
            "authenticated": request.user.is_authenticated,
            "scopes": sorted(request.auth.scopes),
            "token": token.subject if token else None,
        }
    )


ALICE = {
    "user": "auth0|alice",
    "name": "auth0|alice",
    "authenticated": True,
    "scopes": ["authenticated", "read:things"],
    "token": "auth0|alice",
}
NOBODY = {"user": "", "name": "", "authenticated": False, "scopes": [], "token": None}


@requires("read:things")
async def things(request: Request) -> PlainTextResponse:
    return PlainTextResponse("things")


@requires("write:things")
async def write(request: Request) -> PlainTextResponse:
    return PlainTextResponse("written")


@requires("delete:things")
async def delete(request: Request) -> PlainTextResponse:
    return PlainTextResponse("deleted")


METHODS = ["GET", "POST", "OPTIONS"]
ROUTES = [
    Route("/", who, methods=METHODS),
    Route("/health", who),
    Route("/things", things),
    Route("/write", write),
    Route("/delete", delete),
    Route("/public/{name}", who),
]


async def silent() -> Message:
    raise AssertionError("nothing is read")


async def mute(message: Message) -> None:
    raise AssertionError("nothing is sent")


def client(app: ASGIApp, root_path: str = "") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, root_path=root_path)
    return httpx.AsyncClient(transport=transport, base_url="http://api.test")


def guarded(verifier: StubVerifier | None = None, **options: Any) -> httpx.AsyncClient:
    app = Starlette(routes=ROUTES)
    app.add_middleware(JWKSGuardMiddleware, verifier=verifier or StubVerifier(), **options)
    return client(app)


async def test_an_accepted_token_is_introduced_to_the_app() -> None:
    async with guarded() as api:
        answer = await api.get("/", headers=GOOD)
    assert answer.status_code == 200
    assert answer.json() == ALICE


async def test_a_token_without_a_subject_has_an_empty_identity() -> None:
    async with guarded() as api:
        answer = await api.get("/", headers={"Authorization": "bearer machine"})
    assert answer.json() == {
        "user": "",
        "name": "",
        "authenticated": True,
        "scopes": ["authenticated"],
        "token": None,
    }


async def test_starlettes_requires_sees_scopes() -> None:
    async with guarded() as api:
        assert (await api.get("/things", headers=GOOD)).text == "things"
        assert (await api.get("/write", headers=GOOD)).status_code == 403


async def test_no_credentials_get_401_with_a_bare_challenge() -> None:
    verifier = StubVerifier()
    async with guarded(verifier) as api:
        missing = await api.get("/")
        basic = await api.get("/", auth=("user", "password"))
    for answer in (missing, basic):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"] == "unauthorized"
    assert verifier.asked == []


async def test_a_token_in_query_body_or_cookie_is_no_credential() -> None:
    verifier = StubVerifier()
    async with guarded(verifier) as api:
        answers = [
            await api.get("/", params={"access_token": "good"}),
            await api.post("/", data={"access_token": "good"}),
            await api.get("/", headers={"Cookie": "access_token=good; Authorization=Bearer good"}),
        ]
    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert verifier.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer good or bad")],
        [("Authorization", "Bearer good"), ("Authorization", "Bearer good")],
        [("Authorization", "Bearer good"), ("authorization", "Basic dTpw")],
    ],
)
async def test_malformed_credentials_get_400(headers: list[tuple[str, str]]) -> None:
    verifier = StubVerifier()
    async with guarded(verifier, optional=True) as api:
        answer = await api.get("/", headers=headers)
    assert answer.status_code == 400
    assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_request"')
    assert answer.json()["error"] == "invalid_request"
    assert set(verifier.asked) <= {b"good or bad"}


async def test_a_refused_token_gets_401_without_a_hint_why() -> None:
    verifier = StubVerifier({b"revoked": RevokedKeyError("distrusted since noon")})
    async with guarded(verifier, realm="things") as api:
        revoked = await api.get("/", headers={"Authorization": "Bearer revoked"})
        junk = await api.get("/", headers={"Authorization": "Bearer junk"})
    assert revoked.status_code == 401
    assert revoked.headers["www-authenticate"].startswith(
        'Bearer realm="things", error="invalid_token", '
    )
    assert revoked.headers["cache-control"] == "no-store"
    assert (revoked.content, revoked.headers) == (junk.content, junk.headers)


async def test_debugging_tells_the_clients_why() -> None:
    async with guarded(debug_errors=True) as api:
        answer = await api.get("/", headers={"Authorization": "Bearer junk"})
    assert answer.json() == {
        "error": "invalid_token",
        "error_description": "three segments are needed",
        "code": "malformed_token",
    }


@pytest.mark.parametrize(
    ("kind", "status"), [(KeysUnavailableError, 503), (LookUpThrottledError, 429)]
)
async def test_what_says_nothing_of_the_token_gets_retry_after_and_no_challenge(
    kind: type[KeysUnavailableError], status: int
) -> None:
    verifier = StubVerifier({b"good": kind("the JWKS is down", 4.2)})
    async with guarded(verifier, optional=True) as api:
        answer = await api.get("/", headers=GOOD)
    assert answer.status_code == status
    assert answer.headers["retry-after"] == "5"
    assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize(
    "options",
    [
        {"required_scopes": ["read:things"]},
        {"any_scopes": ["admin", "read:things"]},
        {"required_permissions": ["delete:things"]},
        {"required_scopes": ["read:things"], "required_permissions": ["delete:things"]},
    ],
)
async def test_a_token_that_grants_what_is_required_passes(options: dict[str, Any]) -> None:
    async with guarded(**options) as api:
        assert (await api.get("/", headers=GOOD)).json() == ALICE


@pytest.mark.parametrize(
    ("options", "scope"),
    [
        ({"required_scopes": ["delete:things"]}, 'scope="delete:things"'),
        ({"any_scopes": ["delete:things", "admin"]}, 'scope="delete:things"'),
        ({"required_permissions": ["read:things"]}, None),
    ],
)
async def test_what_a_user_may_do_is_not_what_its_client_was_granted(
    options: dict[str, Any], scope: str | None
) -> None:
    async with guarded(**options) as api:
        answer = await api.get("/", headers=GOOD)
    assert answer.status_code == 403
    challenge = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert (scope in challenge) if scope else ("scope=" not in challenge)


async def test_requires_of_starlette_counts_no_permissions() -> None:
    async with guarded() as api:
        assert (await api.get("/things", headers=GOOD)).status_code == 200
        assert (await api.get("/delete", headers=GOOD)).status_code == 403


async def test_a_token_without_a_required_scope_gets_403_that_names_all_of_them() -> None:
    async with guarded(required_scopes=["read:things", "write:things"]) as api:
        answer = await api.get("/", headers=GOOD)
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert 'scope="read:things write:things"' in answer.headers["www-authenticate"]


async def test_head_gets_the_headers_of_a_refusal_without_its_body() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    guard = JWKSGuardMiddleware(Starlette(routes=ROUTES), verifier=StubVerifier())
    for method in ("GET", "HEAD"):
        scope: Scope = {"type": "http", "method": method, "path": "/", "headers": []}
        await guard(scope, silent, send)
    get, body, head, nothing = sent
    assert head == get
    assert body["body"]
    assert nothing == {"type": "http.response.body", "body": b""}


async def test_with_optional_only_a_request_without_authorization_is_anonymous() -> None:
    async with guarded(optional=True, required_scopes=["write:things"]) as api:
        assert (await api.get("/")).json() == NOBODY
        assert (await api.get("/", auth=("user", "password"))).status_code == 401
        assert (await api.get("/", headers={"Authorization": ""})).status_code == 401
        assert (await api.get("/", headers={"Authorization": "Bearer junk"})).status_code == 401
        assert (await api.get("/", headers=GOOD)).status_code == 403


async def test_at_an_excluded_path_no_token_is_looked_at() -> None:
    verifier = StubVerifier()
    async with guarded(verifier, exclude_paths=["/health", "/public/*"]) as api:
        for path in ("/health", "/public/logo"):
            answers = [
                await api.get(path),
                await api.get(path, headers=GOOD),
                await api.get(path, headers={"Authorization": "Bearer"}),
            ]
            assert [answer.json() for answer in answers] == [NOBODY] * 3
        assert (await api.get("/public/..%2fthings")).status_code == 401
        assert (await api.get("/healthy")).status_code == 401
    assert verifier.asked == []


async def test_excluded_paths_of_a_mounted_guard_are_below_the_mount() -> None:
    guard = Middleware(JWKSGuardMiddleware, verifier=StubVerifier(), exclude_paths=["/health"])
    inner = Starlette(routes=ROUTES, middleware=[guard])
    outer = Starlette(routes=[Mount("/inner", inner), Route("/health", PlainTextResponse("up"))])
    async with client(outer) as api:
        assert (await api.get("/inner/health")).json() == NOBODY
        assert (await api.get("/inner/things")).status_code == 401
        assert (await api.get("/health")).text == "up"


async def test_excluded_paths_are_below_the_servers_root_path() -> None:
    app = Starlette(routes=ROUTES)
    app.add_middleware(JWKSGuardMiddleware, verifier=StubVerifier(), exclude_paths=["/health"])
    async with client(app, root_path="/v1") as api:
        assert (await api.get("/v1/health")).json() == NOBODY
        assert (await api.get("/v1/things")).status_code == 401


async def content(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer whatever the method with what nobody may see without a token."""
    await PlainTextResponse("content")(scope, receive, send)


class Endpoint:
    """An endpoint of Starlette that is an ASGI app, and gets every method."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await content(scope, receive, send)


BLIND_APPS: dict[str, ASGIApp] = {
    "bare": content,
    "mounted": Starlette(routes=[Mount("/", content)]),
    "endpoint": Starlette(routes=[Route("/", Endpoint())]),
}


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("app", BLIND_APPS.values(), ids=BLIND_APPS)
async def test_a_preflight_does_not_run_the_app(
    app: ASGIApp, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(JWKSGuardMiddleware(app, verifier=StubVerifier())) as api:
        for _ in range(3):
            answer = await api.options("/", headers=PREFLIGHT)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert "content" not in answer.text
    (warning,) = warnings_of(caplog)
    assert "Put CORSMiddleware outside" in warning


@pytest.mark.parametrize("app", BLIND_APPS.values(), ids=BLIND_APPS)
async def test_with_cors_outside_a_preflight_of_a_blind_app_is_answered_for_it(
    app: ASGIApp, caplog: pytest.LogCaptureFixture
) -> None:
    guard = JWKSGuardMiddleware(app, verifier=StubVerifier())
    async with client(CORSMiddleware(guard, allow_origins=["https://web.test"])) as api:
        answer = await api.options("/", headers=PREFLIGHT)
    assert (answer.status_code, answer.text) == (200, "OK")
    assert warnings_of(caplog) == []


async def test_a_preflight_passes_as_anonymous_where_that_was_asked_for() -> None:
    async with guarded(preflight="pass") as api:
        answer = await api.options("/", headers=PREFLIGHT)
        assert answer.json() == NOBODY


@pytest.mark.parametrize("options", [{"optional": True}, {"exclude_paths": ["/"]}])
async def test_a_preflight_passes_where_any_request_without_credentials_does(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with guarded(**options) as api:
        assert (await api.options("/", headers=PREFLIGHT)).json() == NOBODY
    assert warnings_of(caplog) == []


async def test_a_preflight_with_a_token_is_judged_by_it(caplog: pytest.LogCaptureFixture) -> None:
    async with guarded() as api:
        assert (await api.options("/", headers=PREFLIGHT | GOOD)).json() == ALICE
        bad = {"Authorization": "Bearer bad"}
        assert (await api.options("/", headers=PREFLIGHT | bad)).status_code == 401
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("preflight", ["allow", True, None, ["pass"]])
def test_a_preflight_option_that_is_not_meant_so_is_a_configuration_error(preflight: Any) -> None:
    with pytest.raises(ConfigurationError, match="write 'refuse' or 'pass'"):
        JWKSGuardMiddleware(content, verifier=StubVerifier(), preflight=preflight)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("OPTIONS", {}),
        ("OPTIONS", {"Origin": "https://web.test"}),
        ("OPTIONS", {"Access-Control-Request-Method": "GET"}),
        ("GET", PREFLIGHT),
        ("POST", PREFLIGHT),
    ],
)
async def test_what_is_not_quite_a_preflight_needs_a_token(
    method: str, headers: dict[str, str]
) -> None:
    async with guarded(preflight="pass") as api:
        assert (await api.request(method, "/", headers=headers)).status_code == 401


async def test_with_cors_outermost_browsers_get_preflights_answered_and_can_read_refusals() -> None:
    app = Starlette(routes=ROUTES)
    app.add_middleware(JWKSGuardMiddleware, verifier=StubVerifier())
    app.add_middleware(
        CORSMiddleware, allow_origins=["https://web.test"], allow_headers=["Authorization"]
    )
    async with client(app) as api:
        preflight = await api.options("/", headers=PREFLIGHT)
        refused = await api.get("/", headers={"Origin": "https://web.test"})
    assert (preflight.status_code, preflight.text) == (200, "OK")
    assert refused.status_code == 401
    for answer in (preflight, refused):
        assert answer.headers["access-control-allow-origin"] == "https://web.test"


async def test_a_verifier_that_can_not_be_used_is_503_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = StubVerifier({b"good": ConfigurationError("used from a second loop")})
    async with guarded(broken) as api:
        for _ in range(3):
            answer = await api.get("/", headers=GOOD)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert "second loop" not in answer.text
        (logged,) = warnings_of(caplog)
        assert "tokens are refused with 503: used from a second loop" in logged
        broken.errors.clear()
        assert (await api.get("/", headers=GOOD)).status_code == 200


async def test_errors_that_are_not_of_this_library_go_through() -> None:
    broken = StubVerifier({b"good": ZeroDivisionError("bug")})
    async with guarded(broken) as api:
        with pytest.raises(ZeroDivisionError, match="bug"):
            await api.get("/", headers=GOOD)


async def test_an_app_that_raises_a_configuration_error_is_not_taken_for_a_refusal() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ConfigurationError("of the app's own verifier")

    async with client(JWKSGuardMiddleware(app, verifier=StubVerifier())) as api:
        with pytest.raises(ConfigurationError, match="own verifier"):
            await api.get("/", headers=GOOD)


async def test_an_app_that_raises_one_of_our_errors_is_not_taken_for_a_refusal() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise InvalidTokenError("about another token")

    async with client(JWKSGuardMiddleware(app, verifier=StubVerifier())) as api:
        with pytest.raises(InvalidTokenError, match="about another token"):
            await api.get("/", headers=GOOD)


async def test_state_that_others_set_is_kept() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope["state"], user=scope["user"])

    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"authorization", b"Bearer good")],
        "state": {"pool": "open"},
    }
    await JWKSGuardMiddleware(app, verifier=StubVerifier())(scope, silent, mute)
    assert seen["pool"] == "open"
    assert isinstance(seen["user"], TokenUser)
    assert seen["user"].token is seen["token"]


async def test_what_a_request_does_to_its_scopes_the_next_does_not_see() -> None:
    lists: list[list[str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["auth"].scopes is scope["auth"].scopes
        lists.append(list(scope["auth"].scopes))
        scope["auth"].scopes.append("admin")
        assert scope["auth"].scopes[-1] == "admin"
        scope["auth"].scopes = ["replaced"]
        assert scope["auth"].scopes == ["replaced"]

    guard = JWKSGuardMiddleware(app, verifier=StubVerifier())
    for _ in range(2):
        headers = [(b"authorization", b"Bearer good")]
        scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        await guard(scope, silent, mute)
    assert lists[0] == lists[1]
    assert "authenticated" in lists[0]


async def test_a_connection_of_an_unknown_type_is_not_let_through() -> None:
    guard = JWKSGuardMiddleware(Starlette(), verifier=StubVerifier(), optional=True)
    with pytest.raises(RuntimeError, match="unknown type"):
        await guard({"type": "webtransport", "headers": []}, silent, mute)


@pytest.mark.parametrize(
    "options",
    [{"exclude_paths": ["health"]}, {"required_scopes": ["a b"]}, {"realm": "a\nb"}],
)
def test_wrong_options_are_configuration_errors(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        JWKSGuardMiddleware(Starlette(), verifier=StubVerifier(), **options)


@pytest.mark.parametrize(("sent", "status"), [(GOOD, 200), ({}, 500)])
async def test_get_token_gives_the_token_and_fails_where_a_request_is_anonymous(
    sent: dict[str, str], status: int
) -> None:
    def typed(request: Request) -> PlainTextResponse:
        return PlainTextResponse(get_token(request).subject or "")

    app = Starlette(routes=[Route("/", typed)])
    app.add_middleware(JWKSGuardMiddleware, verifier=StubVerifier(), optional=True)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        answer = await client.get("/", headers=sent)
    assert answer.status_code == status
    assert status == 500 or answer.text == "auth0|alice"


def test_get_token_where_no_guard_is_names_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="Guard its route with JWKSGuardMiddleware"):
        get_token(Request({"type": "http", "state": {"token": token()}}))


async def test_cookie_is_a_credential_of_pages_of_the_named_origins_only() -> None:
    async with guarded(
        StubVerifier(), token_from=FromCookie("token", origins=["https://app.acme.com"])
    ) as api:
        cookie = {"Cookie": "token=good"}
        assert (await api.get("/", headers=cookie)).status_code == 200
        assert (await api.get("/", headers=GOOD)).status_code == 401
        answers = [
            await api.post("/", headers={**cookie, "Origin": origin})
            for origin in ("https://app.acme.com", "https://evil.test")
        ]
        assert [each.status_code for each in answers] == [200, 403]


def test_url_of_a_query_in_no_encoding_is_ascii_text() -> None:
    address = {"scheme": "https", "server": ("api.test", 443), "path": "/"}
    scope: Scope = {"type": "http", "headers": [], "query_string": b"a=%20&b=\xff", **address}
    assert ConnectionRequest(scope, []).url == "https://api.test/?a=%20&b=%FF"


async def test_function_is_given_the_url_and_the_scope() -> None:
    def from_query(request: Any) -> str | None:
        assert request.method == "GET"
        assert request.native["type"] == "http"
        assert (b"host", b"api.test") in request.headers
        url: str = request.url
        return url.partition("http://api.test/?secret=")[2] or None

    async with guarded(StubVerifier(), token_from=from_query) as api:
        assert (await api.get("/?secret=good")).status_code == 200
        assert (await api.get("/", headers=GOOD)).status_code == 401
