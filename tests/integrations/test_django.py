from __future__ import annotations

import asyncio
import gc
import http.client
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import httpx
import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import resolve
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard import (
    ConfigurationError,
    FromCookie,
    FromHeader,
    SyncTokenVerifier,
    TokenVerifier,
)
from jwks_guard.asgi import JWKSGuardMiddleware
from jwks_guard.integrations.django import (
    DjangoGuardMiddleware,
    get_token,
    get_verifier,
    require_token,
)
from jwks_guard.integrations.django_guard import project_guard
from jwks_guard.testing import LocalTenant, fake_token
from tests.integrations import django_project
from tests.integrations.django_project import GUARD, verifier
from tests.integrations.servers import served_asgi, served_wsgi
from tests.support import PATIENCE

Ask = Callable[..., Awaitable[Any]]
WRITING = [
    "/writing",
    "/writing-async",
    "/writing-class",
    "/writing-async-class",
    "/writing-async-method",
]


def setting(tenant: LocalTenant, **more: Any) -> dict[str, Any]:
    return {"ISSUER": tenant.issuer, "AUDIENCE": tenant.audience, **more}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as local:
        yield local


@pytest.fixture
def served(issuer: LocalTenant) -> Iterator[LocalTenant]:
    """A tenant whose tokens the project accepts, by a verifier of the test's own."""
    with override_settings(JWKS_GUARD=setting(issuer)):
        yield issuer
        get_verifier().close()
    issuer.faults.clear()


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Sends a GET to the project, in a thread as WSGI servers do, or on the event loop."""

    async def by_wsgi(path: str, **headers: str) -> Any:
        return await asyncio.to_thread(Client().get, path, headers=headers)

    async def by_asgi(path: str, **headers: str) -> Any:
        return await AsyncClient().get(path, headers=headers)

    return by_wsgi if request.param == "wsgi" else by_asgi


# --- the middleware ---


@pytest.mark.parametrize("path", ["/hello", "/hello-async"])
async def test_view_gets_the_token_of_a_request_that_is_let_in(
    path: str, ask: Ask, served: LocalTenant
) -> None:
    answer = await ask(path, **bearer(served.token(sub="auth0|bob")))
    assert (answer.status_code, answer.content) == (200, b"auth0|bob")
    refused = await ask(path)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == "Bearer"


async def test_token_of_a_key_that_is_distrusted_is_refused_at_once(
    ask: Ask, served: LocalTenant
) -> None:
    token = served.token()
    assert (await ask("/hello", **bearer(token))).status_code == 200
    get_verifier().distrust(served.key().kid, reason="leaked", force=True)
    assert (await ask("/hello", **bearer(token))).status_code == 401


@pytest.mark.parametrize(
    ("path", "middleware"),
    [
        ("/reading-body", [GUARD]),
        ("/reading-form", [GUARD]),
        ("/reading-lines", [GUARD]),
        ("/reading-heedlessly", [GUARD]),
        ("/reading-environ", [GUARD]),
        ("/reading-underneath", [GUARD]),
        ("/reading-required", [GUARD]),
        ("/reading-required", []),
        ("/reading-drf", [GUARD]),
        ("/reading-drf", []),
    ],
)
def test_body_that_comes_after_its_key_was_distrusted_reaches_no_view(
    path: str, middleware: list[str], served: LocalTenant
) -> None:
    """With a leaked key, any number of requests can be held ready before it is distrusted."""
    django_project.bodies.clear()
    django_project.begun.clear()
    with override_settings(MIDDLEWARE=middleware):
        project = get_wsgi_application()
    with served_wsgi(project) as address:
        host, port = address.removeprefix("http://").split(":")
        head = (
            f"POST {path} HTTP/1.1",
            f"Host: {host}",
            f"Authorization: Bearer {served.token()}",
            "Content-Type: application/x-www-form-urlencoded",
            "Content-Length: 3",
        )
        with socket.create_connection((host, int(port)), PATIENCE) as raw:
            raw.sendall("\r\n".join((*head, "", "a=")).encode())
            assert django_project.begun.wait(PATIENCE)
            get_verifier().distrust(served.key().kid, reason="leaked", force=True)
            raw.sendall(b"1")
            raw.shutdown(socket.SHUT_WR)
            answer = raw.makefile("rb").read()
    assert answer.split()[1] == b"401"
    assert b'error="invalid_token"' in answer
    assert django_project.bodies == []


async def test_middleware_of_asgi_ends_the_event_stream_of_a_view(served: LocalTenant) -> None:
    django_project.bodies.clear()
    guard = TokenVerifier(served.issuer, served.audience)
    app = JWKSGuardMiddleware(cast("Any", get_asgi_application()), verifier=guard)
    with served_asgi(app, at_end=[guard.aclose]) as address:
        async with (
            httpx.AsyncClient(base_url=address, timeout=PATIENCE, trust_env=False) as client,
            client.stream("GET", "/events", headers=bearer(served.token())) as stream,
        ):
            parts = stream.aiter_text()
            assert await anext(parts) == "data: one\n\n"
            await guard.distrust(served.key().kid, reason="leaked", force=True)
            assert [part async for part in parts] == []
    assert django_project.bodies == ["ended"]


@pytest.mark.parametrize("path", ["/reading-body", "/reading-form", "/reading-lines"])
async def test_view_reads_the_body_of_a_good_request(path: str, served: LocalTenant) -> None:
    django_project.bodies.clear()
    headers = bearer(served.token())
    answer = await asyncio.to_thread(Client().post, path, {"a": "1"}, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"read")
    assert len(django_project.bodies) == 1


@pytest.mark.parametrize("path", ["/reading-body", "/reading-lines", "/reading-required"])
def test_request_is_freed_with_its_body_when_it_has_ended(path: str, served: LocalTenant) -> None:
    """A cycle would keep both until a garbage collection: uploads fill the memory until then."""
    project, not_used = get_wsgi_application(), cast("Any", lambda *_: None)
    django_project.requests.clear()
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            headers = bearer(served.token())
            environ = RequestFactory().post(path, {"a": "1"}, headers=headers).environ
            response = project(environ, not_used)
            assert b"".join(response) == b"read"
            cast("HttpResponse", response).close()
        del environ, response
        assert len(django_project.requests) == 0
    finally:
        gc.enable()


async def test_sync_and_async_code_of_one_process_share_verifier_and_keys(
    served: LocalTenant,
) -> None:
    fetches = served.requests.count()
    token = served.token()
    for _ in range(2):
        assert (await asyncio.to_thread(Client().get, "/hello", headers=bearer(token))).content
        assert (await AsyncClient().get("/hello", headers=bearer(token))).content
        answer = await asyncio.to_thread(Client().get, "/hello-async", headers=bearer(token))
        assert answer.content
    assert served.requests.count() == fetches + 1
    (used,) = get_verifier().usage().values()
    assert used.accepted == 6


async def test_async_project_serves_others_while_keys_are_fetched(served: LocalTenant) -> None:
    client, known = AsyncClient(), bearer(served.token())
    await client.get("/hello-async", headers=known)
    hold = served.faults.hold()
    asked = [
        asyncio.create_task(client.get(path, headers=bearer(served.forged_token(kid=path))))
        for path in ("/hello-async", "/writing-async-class")
    ]
    await hold.arrived.wait()
    assert (await client.get("/hello-async", headers=known)).status_code == 200
    served.faults.clear()
    assert {(await each).status_code for each in asked} == {401}


@override_settings(MIDDLEWARE=[])
async def test_async_class_alone_does_not_block_the_event_loop_for_a_fetch(
    served: LocalTenant,
) -> None:
    client = AsyncClient()
    hold = served.faults.hold()
    asked = asyncio.create_task(
        client.get("/writing-async-class", headers=bearer(served.token(scope="write:things")))
    )
    await hold.arrived.wait()  # here, on the loop that serves the request
    assert not asked.done()
    served.faults.clear()
    assert (await asked).content == b"written"


async def test_outage_is_answered_with_503_and_when_to_ask_again(
    ask: Ask, served: LocalTenant
) -> None:
    served.faults.status(500)
    answer = await ask("/hello", **bearer(served.token()))
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "WWW-Authenticate" not in answer.headers


async def test_optional_lets_anonymous_requests_in_and_no_bad_token(
    ask: Ask, issuer: LocalTenant
) -> None:
    with override_settings(JWKS_GUARD=setting(issuer, OPTIONAL=True)):
        assert (await ask("/hello")).content == b"anonymous"
        assert (await ask("/hello", **bearer("junk"))).status_code == 401
        assert (await ask("/required")).status_code == 401


# --- require_token ---


@pytest.mark.parametrize("middleware", [[], [GUARD]], ids=["alone", "with the middleware"])
@pytest.mark.parametrize("path", WRITING)
async def test_required_scopes_are_needed_in_every_kind_of_view(
    path: str, middleware: list[str], ask: Ask, served: LocalTenant
) -> None:
    with override_settings(MIDDLEWARE=middleware):
        granted = bearer(served.token(scope="write:things"))
        assert (await ask(path, **granted)).content == b"written"
        assert (await ask(path)).status_code == 401
        assert (await ask(path, **bearer(served.forged_token()))).status_code == 401
        lacking = await ask(path, **bearer(served.token(scope="read:things")))
        assert lacking.status_code == 403
        assert 'scope="write:things"' in lacking.headers["WWW-Authenticate"]


async def test_token_is_verified_once_for_middleware_and_view(
    ask: Ask, served: LocalTenant
) -> None:
    assert (await ask("/required", **bearer(served.token()))).status_code == 200
    (used,) = get_verifier().usage().values()
    assert used.accepted == 1


async def test_excluded_path_of_a_view_that_requires_a_token_needs_one(
    ask: Ask, issuer: LocalTenant
) -> None:
    with override_settings(JWKS_GUARD=setting(issuer, EXCLUDE_PATHS=["/required", "/hello"])):
        assert (await ask("/hello", **bearer(issuer.token()))).content == b"anonymous"
        assert (await ask("/required")).status_code == 401
        answer = await ask("/required", **bearer(issuer.token(sub="auth0|bob")))
        assert answer.content == b"auth0|bob"


async def test_scopes_of_the_setting_are_required_by_the_decorator_too(
    ask: Ask, issuer: LocalTenant
) -> None:
    with override_settings(JWKS_GUARD=setting(issuer, REQUIRED_SCOPES=["a"]), MIDDLEWARE=[]):
        answer = await ask("/writing", **bearer(issuer.token(scope="write:things")))
        assert answer.status_code == 403
        answer = await ask("/writing", **bearer(issuer.token(scope="a write:things")))
        assert answer.status_code == 200


def test_an_attribute_token_that_others_set_lets_nobody_in(served: LocalTenant) -> None:
    request = RequestFactory().get("/")
    request.token = fake_token()  # type: ignore[attr-defined]
    view: Callable[[HttpRequest], HttpResponse] = require_token(lambda _: HttpResponse("secret"))
    assert view(request).status_code == 401
    with pytest.raises(ConfigurationError, match="@require_token"):
        get_token(request)


def test_defect_of_a_claim_check_is_logged_once_for_all_requests(
    served: LocalTenant, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(claims: Any) -> None:
        raise KeyError(claims["sub"])

    @require_token(claim_checks=[broken])
    def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse("let in")

    for _ in range(3):
        request = RequestFactory().get("/", headers=bearer(served.token()))
        assert view(request).status_code == 401
    assert caplog.text.count("raised KeyError") == 1


@pytest.mark.parametrize("path", ["/cached", "/hello"])
@pytest.mark.parametrize("place", ["Authorization", "X-Token", "Cookie"])
def test_page_that_django_caches_is_given_to_nobody_else(
    path: str, place: str, issuer: LocalTenant
) -> None:
    sources = [FromHeader(), FromHeader("X-Token"), FromCookie("token", origins=["https://a.test"])]
    start = {"Authorization": "Bearer ", "X-Token": "", "Cookie": "token="}[place]
    caching: dict[str, Any] = {
        "JWKS_GUARD": setting(issuer, OPTIONAL=True, TOKEN_FROM=sources),
        "CACHES": {
            "default": {
                "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
                "LOCATION": f"{path} {place}",
            }
        },
        "MIDDLEWARE": [
            "django.middleware.cache.UpdateCacheMiddleware",
            GUARD,
            "django.middleware.cache.FetchFromCacheMiddleware",
        ],
    }
    tokens = {name: issuer.token(sub=name) for name in ("alice", "bob")}
    with override_settings(**caching):
        for _ in range(2):
            for name, token in tokens.items():
                answer = Client().get(path, headers={place: start + token})
                assert answer.content.decode() == name
            assert Client().get(path).content.decode() not in tokens


def test_decorator_refuses_what_cannot_be_meant_where_it_is_written() -> None:
    with pytest.raises(ConfigurationError, match="required_scopes"):
        require_token(required_scopes="write:things")
    with pytest.raises(TypeError):
        require_token(scopes=["write:things"])  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "must be a dict"),
        ({}, "AUDIENCE"),
        ({"issuer": "https://issuer.test/", "audience": "a"}, "in capitals"),
        ({"ISSUER": "https://issuer.test/"}, "has no AUDIENCE: add it"),
        ({"ISUER": "https://issuer.test/", "AUDIENCE": "a"}, "no ISUER: did you mean ISSUER?"),
        ({"AUDIENCE": "a", "EXCLUDE_PATH": []}, "did you mean EXCLUDE_PATHS?"),
        ({"AUDIENCE": "a", "COLOUR": "red"}, "takes no COLOUR: correct the name, or remove it"),
        ({"ISSUER": "http://issuer.test/", "AUDIENCE": "a"}, "issuer"),
        ({"ISSUER": "https://issuer.test/", "AUDIENCE": "a", "EXCLUDE_PATHS": "/a"}, "EXCLUDE"),
        ({"VERIFIER": TokenVerifier("https://issuer.test/", "a")}, "SyncTokenVerifier"),
        ({"VERIFIER": "tests.integrations.django_project.hello"}, "SyncTokenVerifier"),
        ({"VERIFIER": SyncTokenVerifier("https://issuer.test/", "a"), "AUDIENCE": "b"}, "AUDIENCE"),
    ],
)
def test_setting_that_cannot_be_meant_so_is_an_error_at_the_start(given: Any, message: str) -> None:
    with (
        override_settings(JWKS_GUARD=given),
        pytest.raises(ConfigurationError, match=f"(?i){message}"),
    ):
        DjangoGuardMiddleware(lambda request: HttpResponse())


@pytest.mark.parametrize("given", [verifier, "tests.integrations.django_project.verifier"])
def test_verifier_can_be_the_projects_own(given: object) -> None:
    with override_settings(JWKS_GUARD={"VERIFIER": given}):
        assert get_verifier() is verifier


# --- paths ---

EXCLUDED = ["/public/*", "/health"]


@pytest.fixture(scope="module")
def address(issuer: LocalTenant) -> Iterator[str]:
    with (
        override_settings(JWKS_GUARD=setting(issuer, EXCLUDE_PATHS=EXCLUDED)),
        served_wsgi(get_wsgi_application()) as address,
    ):
        yield address.removeprefix("http://")


def status_of(address: str, path: str) -> int:
    """Of a request whose path is sent as it is."""
    connection = http.client.HTTPConnection(address)
    try:
        connection.putrequest("GET", path)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path", ["/public/", "/public/a/b", "/public/%C3%A9", "/health", "/health?x"]
)
def test_excluded_path_needs_no_token(path: str, address: str) -> None:
    assert status_of(address, path) == 200


@pytest.mark.parametrize(
    "path",
    [
        "/admin",
        "/public//admin",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/..%2fadmin",
        "/public%2f..%2fadmin",
        "/public/..%5cadmin",
        "/public/..;/admin",
        "/public/%252e%252e/admin",
        "/public/..%252fadmin",
        "/public",
        "/health/",
        "/health%00",
        "/Health",
        "/admin?/health",
        "/admin#/health",
        "/admin%3f/../health",
        "/admin/%2e%2e/health",
        "http://127.0.0.1/health",
    ],
)
def test_path_that_can_be_read_in_two_ways_needs_a_token(path: str, address: str) -> None:
    assert status_of(address, path) == 401


PIECES = st.lists(
    st.sampled_from(["/", ".", "..", "public", "health", "admin", ";", "\\", "//", "%2e", "%2f"])
)


@given(PIECES)
def test_excluded_path_never_resolves_to_another_view(pieces: list[str]) -> None:
    request = RequestFactory().get("/", PATH_INFO="/" + "".join(pieces))
    with override_settings(
        JWKS_GUARD={"VERIFIER": verifier, "EXCLUDE_PATHS": ["/public/*"]},
    ):
        if project_guard().pass_excluded(request) is not None:
            assert resolve(request.path_info).args[0] == "public"


@pytest.mark.parametrize("path", ["//health", "//public/a", "/public/../a", "/public/a;b", ""])
def test_path_that_another_server_passes_on_as_it_is_is_not_excluded(path: str) -> None:
    request = RequestFactory().get("/")
    request.path_info = path
    with override_settings(JWKS_GUARD={"VERIFIER": verifier, "EXCLUDE_PATHS": EXCLUDED}):
        assert project_guard().pass_excluded(request) is None


def test_script_name_is_not_a_part_of_the_path() -> None:
    with override_settings(JWKS_GUARD={"VERIFIER": verifier, "EXCLUDE_PATHS": EXCLUDED}):
        guard = project_guard()
        below = RequestFactory().get("/", SCRIPT_NAME="/api", PATH_INFO="/health")
        assert guard.pass_excluded(below) is not None
        above = RequestFactory().get("/", SCRIPT_NAME="/public", PATH_INFO="/a")
        assert guard.pass_excluded(above) is None


# --- requests as they should not be ---


@pytest.mark.parametrize(
    ("header", "status"),
    [("Bearer {0},Bearer {0}", 400), ("Basic dTpw,Bearer {0}", 401), ("Bearer {0},", 400)],
)
async def test_two_authorization_headers_that_a_server_joined_are_refused(
    header: str, status: int, ask: Ask, served: LocalTenant
) -> None:
    answer = await ask("/hello", Authorization=header.format(served.token()))
    assert answer.status_code == status


async def test_host_that_is_not_allowed_gets_django_s_own_400(
    ask: Ask, served: LocalTenant
) -> None:
    with override_settings(MIDDLEWARE=[GUARD]):
        answer = await ask("/hello", Host="evil.test", **bearer(served.token()))
    assert answer.status_code == 400
