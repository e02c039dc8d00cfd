"""Spans and attributes for OpenTelemetry, of fetches, exchanges, calls and requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Security
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from jwks_guard import (
    JWKSGuardError,
    KeysUnavailableError,
    ManagementAPIError,
    MultiIssuerVerifier,
    RequestGuard,
    RequestRefusedError,
    SyncTokenVerifier,
    TokenVerifier,
    VerifiedToken,
)
from jwks_guard.admin import ClientCredentials, SigningKeysClient
from jwks_guard.asgi import JWKSGuardMiddleware, operations
from jwks_guard.base.observer import Activity
from jwks_guard.fleet import HTTPFleet, RedisFleet
from jwks_guard.integrations.fastapi import Guard
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import ServerThread, listen
from tests.fleet.instances import eventually
from tests.observability.spans import (
    ISSUER,
    KID,
    OUTCOME,
    Telemetry,
    about,
    id_of,
    links_of,
    parent_of,
)
from tests.redis_server import RedisServer
from tests.redis_server import redis as redis
from tests.redis_server import running_redis as running_redis
from tests.support import JWKS, PATIENCE, HandClock, tenant_of, verifier_of

FETCH, EXCHANGE = "jwks_guard.fetch", "jwks_guard.exchange"
SECRET = "correct-horse-battery"


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
async def verifier(
    tenant: LocalTenant, clock: HandClock, telemetry: Telemetry
) -> AsyncIterator[TokenVerifier]:
    async with verifier_of(tenant, clock, observer=telemetry.observer) as verifier:
        yield verifier


# --- fetches ---


async def test_fetch_of_the_background_is_a_span_without_parent_and_link(
    tenant: LocalTenant, verifier: TokenVerifier, telemetry: Telemetry
) -> None:
    (span,) = telemetry.spans(FETCH)
    assert (span.kind, parent_of(span), links_of(span)) == (SpanKind.CLIENT, None, [])
    assert span.status.status_code is StatusCode.UNSET
    assert about(span) == {
        ISSUER: tenant.issuer,
        OUTCOME: "confirmed",
        "server.address": httpx.URL(tenant.issuer).host,
        "server.port": 443,
    }


async def test_failed_fetch_has_the_status_of_the_answer_and_says_why(
    tenant: LocalTenant, verifier: TokenVerifier, telemetry: Telemetry
) -> None:
    tenant.faults.status(500, path=JWKS)
    with pytest.raises(KeysUnavailableError):
        await verifier.keys.refresh()
    span = telemetry.spans(FETCH)[-1]
    assert (about(span)[OUTCOME], about(span)["error.type"]) == ("failed", "500")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "the server answered 500"
    assert not span.events


async def test_fetch_that_times_out_says_so(clock: HandClock, telemetry: Telemetry) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(PATIENCE)
        raise AssertionError

    def silent() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(never))

    issuer = "https://silent.test/"
    async with TokenVerifier(
        issuer,
        "https://api.test",
        http_client=silent,
        clock=clock,
        fetch_timeout=0.05,
        observer=telemetry.observer,
    ):
        (span,) = telemetry.spans(FETCH)
    assert (about(span)[OUTCOME], about(span)["error.type"]) == ("failed", "timeout")


async def test_fetch_that_is_cancelled_ends_its_span(
    clock: HandClock, telemetry: Telemetry
) -> None:
    begun = asyncio.Event()

    async def never(request: httpx.Request) -> httpx.Response:
        begun.set()
        await asyncio.sleep(PATIENCE)
        raise AssertionError

    async with TokenVerifier(
        "https://silent.test/",
        "https://api.test",
        http_client=lambda: httpx.AsyncClient(transport=httpx.MockTransport(never)),
        max_wait=0.01,
        observer=telemetry.observer,
    ):
        await begun.wait()
    spans = telemetry.spans(FETCH)  # on a slow machine a second one has begun
    assert {about(span)[OUTCOME] for span in spans} == {"cancelled"}


async def test_fetch_that_a_request_waits_for_is_a_child_of_its_span(
    tenant: LocalTenant, verifier: TokenVerifier, telemetry: Telemetry
) -> None:
    tenant.rotate()
    tenant.rotate()
    with telemetry.request() as request:
        await verifier.verify(tenant.token())
    span = telemetry.spans(FETCH)[-1]
    assert parent_of(span) == id_of(request)


async def test_fetch_that_a_request_only_caused_is_a_root_with_a_link_to_it(
    tenant: LocalTenant, clock: HandClock, telemetry: Telemetry
) -> None:
    options: dict[str, Any] = {"background": False, "observer": telemetry.observer}
    async with verifier_of(tenant, clock, **options) as verifier:
        clock.advance(70)
        with telemetry.request() as request:
            await verifier.verify(tenant.token())
        await settled(telemetry, FETCH, 2)
    span = telemetry.spans(FETCH)[-1]
    assert (parent_of(span), links_of(span)) == (None, [id_of(request)])


async def test_fetch_for_a_hint_is_a_root_with_a_link_to_the_request_that_gave_it(
    verifier: TokenVerifier, telemetry: Telemetry
) -> None:
    with telemetry.request() as request:
        verifier.keys.refresh_soon()
    await settled(telemetry, FETCH, 2)
    span = telemetry.spans(FETCH)[-1]
    assert (parent_of(span), links_of(span)) == (None, [id_of(request)])


async def settled(telemetry: Telemetry, name: str, number: int) -> None:
    await eventually(lambda: len(telemetry.spans(name)) >= number)


async def test_no_trace_header_goes_to_the_issuer_unless_the_apps_client_adds_it(
    tenant: LocalTenant, clock: HandClock, telemetry: Telemetry
) -> None:
    sent: list[httpx.Headers] = []

    async def send(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return await tenant.transport.handle_async_request(request)

    async def instrumented(request: httpx.Request) -> None:
        inject(request.headers)

    plain = httpx.AsyncClient(transport=httpx.MockTransport(send))
    tracing = httpx.AsyncClient(
        transport=httpx.MockTransport(send), event_hooks={"request": [instrumented]}
    )
    for client in (plain, tracing):
        options: dict[str, Any] = {"http_client": client, "observer": telemetry.observer}
        with telemetry.request():
            async with verifier_of(tenant, clock, **options):
                pass
    of_ours, of_theirs = sent[0], sent[-1]
    assert "traceparent" not in of_ours
    span_id = id_of(telemetry.spans(FETCH)[-1])
    assert f"{span_id:016x}" in of_theirs["traceparent"]


async def test_durations_of_fetches_are_a_histogram_by_outcome(
    tenant: LocalTenant, verifier: TokenVerifier, telemetry: Telemetry
) -> None:
    tenant.faults.status(503, path=JWKS)
    with suppress(KeysUnavailableError):
        await verifier.keys.refresh()
    name = "jwks_guard.fetch.duration"
    (good,) = telemetry.points(name, outcome="confirmed")
    (bad,) = telemetry.points(name, outcome="failed")
    assert (good.count, bad.count) == (1, 1)
    assert dict(bad.attributes) == {
        ISSUER: tenant.issuer,
        OUTCOME: "failed",
        "error.type": "503",
    }


# --- requests ---


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


class Traced:
    """An ASGI app within the span of each request, as an instrumentation has it."""

    def __init__(self, app: Any, telemetry: Telemetry) -> None:
        self._app, self._telemetry = app, telemetry

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._telemetry.request():
            await self._app(scope, receive, send)


async def asked(app: Any, telemetry: Telemetry, token: str | None, path: str = "/") -> ReadableSpan:
    """The span of a request with that token."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(Traced(app, telemetry))
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        await client.get(path, headers=headers)
    return telemetry.spans("GET /")[-1]


def guarded(kind: str, verifier: TokenVerifier) -> Any:
    """An app that requires the scope read:things."""
    if kind == "starlette":
        app = Starlette(routes=[Route("/", hello)])
        app.add_middleware(JWKSGuardMiddleware, verifier=verifier, required_scopes=["read:things"])
        return app
    api, guard = FastAPI(), Guard(verifier)

    async def things(token: Any) -> str:
        return "things"

    things.__annotations__["token"] = Annotated[
        VerifiedToken, Security(guard, scopes=["read:things"])
    ]
    api.get("/")(things)
    return api


@pytest.mark.parametrize("kind", ["starlette", "fastapi"])
async def test_requests_span_says_whose_token_was_accepted_and_why_one_was_refused(
    kind: str, tenant: LocalTenant, verifier: TokenVerifier, telemetry: Telemetry
) -> None:
    app, kid = guarded(kind, verifier), tenant.key().kid
    token = tenant.token(scope="read:things")
    for _ in range(2):  # the second time from the cache
        span = await asked(app, telemetry, token)
        assert about(span) == {ISSUER: tenant.issuer, KID: kid, OUTCOME: "accepted"}
        assert not span.events
    span = await asked(app, telemetry, tenant.token(claims={"exp": 1}))
    refused = {ISSUER: tenant.issuer, KID: kid, OUTCOME: "token_expired"}
    assert about(span) == refused
    (event,) = span.events
    assert (event.name, dict(event.attributes or {})) == ("jwks_guard.token_refused", refused)
    span = await asked(app, telemetry, tenant.token(scope="other"))
    assert about(span)[OUTCOME] == "insufficient_scope"
    span = await asked(app, telemetry, None)
    assert about(span) == {OUTCOME: "missing_credentials"}


async def test_no_kid_that_only_a_token_names_and_no_claim_is_in_any_span(
    tenant: LocalTenant, clock: HandClock, verifier: TokenVerifier, telemetry: Telemetry
) -> None:
    secret = "do-not-show-me"
    with tenant_of(clock, issuer="https://other.test/") as other:
        tokens = [
            tenant.token(kid=secret),
            tenant.forged_token(claims={"sub": secret}),
            tenant.token(claims={"sub": secret, "exp": 1}),
            tenant.token(claims={"aud": secret}),
            other.token(kid=secret),
            f"{secret}.{secret}.{secret}",
        ]
        with telemetry.request():
            for token in tokens:
                with suppress(JWKSGuardError):
                    await verifier.verify(token)
            await verifier.verify(tenant.token(claims={"sub": secret}))
    shown = "".join(span.to_json() for span in telemetry.spans())
    assert tenant.issuer in shown
    assert secret not in shown
    assert not any(token in shown for token in tokens)


async def test_kid_of_a_distrusted_and_of_a_removed_key_is_named(
    tenant: LocalTenant, verifier: TokenVerifier, telemetry: Telemetry
) -> None:
    old, token = tenant.key().kid, tenant.token()
    tenant.rotate()
    await verifier.keys.refresh()

    async def refused() -> tuple[str, str]:
        with telemetry.request(), suppress(JWKSGuardError):
            await verifier.verify(token)
        shown = about(telemetry.spans("GET /")[-1])
        return shown[KID], shown[OUTCOME]

    await verifier.distrust(old, reason="leaked")
    assert await refused() == (old, "revoked_key")
    await verifier.reinstate(old, reason="it was not")
    tenant.revoke(old)
    await verifier.keys.refresh()
    assert await refused() == (old, "removed_key")


async def test_kid_that_can_not_be_encoded_is_escaped(
    tenant: LocalTenant, telemetry: Telemetry
) -> None:
    with telemetry.request():
        telemetry.observer.accepted(tenant.issuer, "\ud800\n")
    (span,) = telemetry.spans("GET /")
    assert about(span)[KID] == r"\ud800\n"


async def test_verifier_of_several_issuers_names_the_issuer_of_each_token(
    tenant: LocalTenant, clock: HandClock, telemetry: Telemetry
) -> None:
    with tenant_of(clock, issuer="https://staff.test/") as staff:
        several = [
            verifier_of(each, clock, observer=telemetry.observer) for each in (tenant, staff)
        ]
        async with MultiIssuerVerifier(several) as verifier:
            app = Starlette(routes=[Route("/", hello)])
            app.add_middleware(JWKSGuardMiddleware, verifier=verifier)
            span = await asked(app, telemetry, staff.token())
            assert about(span)[ISSUER] == staff.issuer
    with tenant_of(clock, issuer="https://stranger.test/") as stranger:
        span = await asked(app, telemetry, stranger.token())
    assert about(span) == {OUTCOME: "invalid_claim"}


def test_sync_verifier_shows_its_tokens_and_the_fetch_that_its_thread_waits_for(
    telemetry: Telemetry,
) -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        verifier = SyncTokenVerifier(tenant.issuer, tenant.audience, observer=telemetry.observer)
        with verifier:
            tenant.rotate()
            tenant.rotate()
            with telemetry.request() as request:
                verifier.verify(tenant.token())
    assert about(telemetry.spans("GET /")[-1])[OUTCOME] == "accepted"
    assert id_of(request) in {parent_of(span) for span in telemetry.spans(FETCH)}


async def test_without_a_span_verification_goes_on_as_before(
    tenant: LocalTenant, verifier: TokenVerifier, telemetry: Telemetry
) -> None:
    await verifier.verify(tenant.token())
    with pytest.raises(JWKSGuardError):
        await verifier.verify("a.b.c")
    assert {span.name for span in telemetry.spans()} == {FETCH}


# --- fleets ---


@asynccontextmanager
async def in_fleet(
    tenant: LocalTenant, clock: HandClock, fleet: Any, telemetry: Telemetry
) -> AsyncIterator[TokenVerifier]:
    async with verifier_of(tenant, clock, fleet=fleet, observer=telemetry.observer) as verifier:
        yield verifier


async def test_exchange_over_redis_is_a_span_in_the_background_and_a_child_of_a_decision(
    tenant: LocalTenant, redis: RedisServer, telemetry: Telemetry
) -> None:
    clock = HandClock()
    async with in_fleet(tenant, clock, RedisFleet(redis.url), telemetry) as verifier:
        span = telemetry.spans(EXCHANGE)[0]
        assert (span.kind, parent_of(span)) == (SpanKind.INTERNAL, None)
        assert about(span) == {"jwks_guard.fleet": "RedisFleet", OUTCOME: "complete"}
        with telemetry.request() as request:
            await verifier.distrust("anything", reason="leaked")
        assert id_of(request) in {parent_of(span) for span in telemetry.spans(EXCHANGE)}
        redis.kill()
        with telemetry.request() as request, suppress(JWKSGuardError):
            await verifier.distrust("another", reason="leaked")
        (failed,) = (s for s in telemetry.spans(EXCHANGE) if parent_of(s) == id_of(request))
        assert about(failed)[OUTCOME] == "failed"
        assert failed.status.status_code is StatusCode.ERROR
    assert telemetry.points("jwks_guard.exchange.duration", outcome="complete")


@pytest.fixture
def instance(clock: HandClock, tenant: LocalTenant) -> Iterator[str]:
    """The address of the operations routes of another instance, which uvicorn serves."""
    verifier = TokenVerifier(
        tenant.issuer,
        tenant.audience,
        algorithms=["ES256"],
        http_client=lambda: httpx.AsyncClient(transport=tenant.transport),
    )
    app = Starlette(routes=[Mount("/ops", operations(verifier, operations_auth=SECRET))])
    listener = listen("127.0.0.1", 0)
    server = ServerThread(app, listener)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/ops"
    finally:
        server.stop()


async def test_exchange_over_http_is_a_span_that_says_which_instance_is_silent(
    tenant: LocalTenant, clock: HandClock, instance: str, telemetry: Telemetry
) -> None:
    fleet = HTTPFleet([instance], secret=SECRET, timeout=PATIENCE)
    async with in_fleet(tenant, clock, fleet, telemetry):
        (span, *_) = telemetry.spans(EXCHANGE)
    assert about(span) == {"jwks_guard.fleet": "HTTPFleet", OUTCOME: "complete"}
    with listen("127.0.0.1", 0) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/ops"
    fleet = HTTPFleet([instance, closed], secret=SECRET, timeout=PATIENCE)
    async with in_fleet(tenant, clock, fleet, telemetry):
        span = telemetry.spans(EXCHANGE)[-1]
    assert (about(span)[OUTCOME], about(span)["error.type"]) == ("failed", "incomplete")
    assert closed in (span.status.description or "")
    assert SECRET not in span.to_json()


# --- the Management API ---


async def test_each_call_of_the_management_api_is_a_span_of_an_http_client(
    telemetry: Telemetry,
) -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        auth = ClientCredentials(tenant.client_id, tenant.client_secret)
        async with SigningKeysClient(tenant.issuer, auth=auth, observer=telemetry.observer) as keys:
            with telemetry.request() as request:
                await keys.list()
                with pytest.raises(ManagementAPIError):
                    await keys.get("no-such-key")
        granted, listed, got = telemetry.spans()[:3]
    assert (granted.name, parent_of(granted)) == ("POST /oauth/token", id_of(request))
    assert (listed.name, parent_of(listed)) == ("GET /api/v2/keys/signing", id_of(request))
    assert listed.kind is SpanKind.CLIENT
    assert about(listed)["http.response.status_code"] == 200
    assert about(listed)["server.address"] == "127.0.0.1"
    assert got.name == "GET /api/v2/keys/signing/{kid}"
    assert about(got)["error.type"] == "404"
    assert got.status.status_code is StatusCode.ERROR
    shown = "".join(span.to_json() for span in telemetry.spans())
    assert auth.client_secret not in shown
    assert "eyJ" not in shown  # as every token begins


# --- an observer that fails ---


class Failing:
    """Raises wherever it is told of something, at the end of an activity too."""

    def __init__(self, telling: str) -> None:
        self.telling = telling

    def fail(self, *_: object) -> None:
        raise RuntimeError("a span processor's fault")

    accepted = refused = answered = fail

    @contextmanager
    def during(self, activity: Activity) -> Iterator[None]:
        if self.telling == "begin":
            self.fail()
        yield
        self.fail()


@pytest.mark.parametrize("telling", ["begin", "end"])
async def test_observer_that_raises_changes_nothing_but_the_log(
    clock: HandClock, telling: str, caplog: pytest.LogCaptureFixture
) -> None:
    with LocalTenant(in_process=True, algorithm="ES256", clock=clock) as tenant:
        async with verifier_of(tenant, clock, observer=Failing(telling)) as verifier:
            await verifier.keys.refresh()
            guard = RequestGuard(verifier)
            for token, accepted in ((tenant.token(), True), (tenant.forged_token(), False)):
                headers = {"Authorization": f"Bearer {token}"}
                asked = guard.authenticate(method="GET", url="/", headers=headers)
                if accepted:
                    assert (await asked).token is not None
                else:
                    with pytest.raises(RequestRefusedError):
                        await asked
    assert "the observer raised" in caplog.text
