from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from jwks_guard import MultiIssuerVerifier, TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, log_stream_webhook
from jwks_guard.asgi.webhook import MAX_DELIVERY_BYTES, MAX_ENTRIES, MAX_OBJECTS, tells_of_change
from jwks_guard.errors import ConfigurationError
from jwks_guard.keys.hints import PAUSE_SECONDS
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import ServerThread, listen
from tests.fleet.instances import eventually
from tests.support import JWKS, HandClock, tenant_of, verifier_of

SECRET = "correct-horse-battery"
ROTATE = {"method": "post", "path": "/api/v2/keys/signing/rotate"}
REVOKE = {"method": "PUT", "path": "/api/v2/keys/signing/a-b_c/revoke"}


def entry(request: dict[str, Any], kind: str = "sapi") -> dict[str, Any]:
    details = {"request": {**request, "query": {}}, "response": {"statusCode": 201}}
    return {"log_id": "900", "data": {"type": kind, "description": "", "details": details}}


@pytest.fixture
async def verifier(tenant: LocalTenant, clock: HandClock) -> AsyncIterator[TokenVerifier]:
    async with verifier_of(tenant, clock) as verifier:
        yield verifier


@asynccontextmanager
async def served(verifier: Any, secret: Any = SECRET) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=[log_stream_webhook(verifier, secret=secret)])
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": SECRET}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://api.test", headers=headers
    ) as client:
        yield client


async def fetches(tenant: LocalTenant, count: int) -> None:
    """Wait until the tenant was asked for its keys so often."""
    await eventually(lambda: tenant.requests.count(JWKS) >= count)
    await asyncio.sleep(0)
    assert tenant.requests.count(JWKS) == count


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": "wrong-horse-battery"}, 401),
        ({"Authorization": f"{SECRET}x"}, 401),
        ({"Authorization": f"Basic {SECRET}"}, 401),
        ({"Authorization": f"Bearer Bearer {SECRET}"}, 401),
        ({"X-Authorization": SECRET}, 401),
        ({"Authorization": SECRET}, 202),
        ({"Authorization": f"Bearer {SECRET}"}, 202),
    ],
)
async def test_only_who_shows_the_secret_causes_a_fetch(
    tenant: LocalTenant, verifier: TokenVerifier, headers: dict[str, str], status: int
) -> None:
    before = tenant.requests.count(JWKS)
    async with served(verifier) as client:
        client.headers.pop("Authorization")
        answer = await client.post("/log-stream", json=[entry(ROTATE)], headers=headers)
    assert (answer.status_code, answer.content) == (status, b"")
    await fetches(tenant, before + (status == 202))


async def test_two_authorization_headers_are_none(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    async with served(verifier) as client:
        client.headers.pop("Authorization")
        headers = [("Authorization", SECRET), ("Authorization", "another-horse-battery")]
        answer = await client.post("/log-stream", json=[entry(ROTATE)], headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize("secret", ["", "short", [], ["x" * 16] * 3, "é" * 20])
def test_a_secret_that_protects_nothing_is_refused(
    tenant: LocalTenant, clock: HandClock, secret: Any
) -> None:
    with pytest.raises(ConfigurationError):
        log_stream_webhook(verifier_of(tenant, clock), secret=secret)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([entry({"method": "GET", "path": "/"}), entry(ROTATE)]),
        json.dumps(entry(REVOKE)),
        "\n".join(json.dumps(each) for each in (entry({}), entry(ROTATE))) + "\n",
        "garbage\n" + json.dumps(entry(REVOKE)),
        json.dumps({"logs": [entry(REVOKE)]}),
        json.dumps({"type": "sapi", "details": {"request": ROTATE}}),
        json.dumps({"type": "sapi", **ROTATE}),
        json.dumps(
            entry({**ROTATE, "path": "https://acme.eu.auth0.com/api/v2/keys/signing/rotate"})
        ),
        json.dumps(entry({"method": "POST", "url": "/api/v2/keys/signing/rotate?x=y"})),
        json.dumps(entry({"method": "POST", "path": "keys/signing/rotate/"})),
        json.dumps(entry({"method": "POST", "path": None, "url": ROTATE["path"]})),
        json.dumps([entry({"method": "GET", "path": "/"})] * 999 + [entry(ROTATE)]),
        " " + json.dumps(entry(ROTATE)) + "\r\n" + json.dumps(entry({})),
    ],
)
def test_a_rotation_or_revocation_is_found_wherever_its_request_stands(body: str) -> None:
    assert tells_of_change(body.encode())


@pytest.mark.parametrize(
    "document",
    [
        entry(ROTATE, "fapi"),
        entry({"method": "GET", "path": ROTATE["path"]}),
        entry({"method": "PUT", "path": ROTATE["path"]}),
        entry({"method": "POST", "path": REVOKE["path"]}),
        entry({"method": "POST", "path": "/api/v2/keys/encryption/rotate"}),
        entry({"method": "POST", "path": "/api/v2/keys/signing/rotate/x"}),
        entry({"method": "POST", "path": "/api/v2/monkeys/signing/rotate"}),
        entry({"method": "PUT", "path": "/api/v2/keys/signing/a/b/revoke"}),
        entry({"method": ["POST"], "path": {"a": ROTATE["path"]}}),
        {"data": {"type": ["sapi"], "details": {"request": ROTATE}}},
        [ROTATE, {"type": "sapi"}],
        None,
        7,
        "sapi",
        [],
        {},
    ],
)
def test_nothing_else_is_a_change(document: Any) -> None:
    assert not tells_of_change(json.dumps(document).encode())


_SAPI = b'{"type":"sapi","a":['


@pytest.mark.parametrize(
    "body",
    [
        b"{}\n" * 349_000 + b'"sapi"',
        b"[\n" * 520_000 + b'"sapi"',
        b"[" + b"{}," * 349_000 + b'"sapi"]',
        _SAPI + b"{}," * 349_000 + b"{}]}",
        (b"[" * 500 + b"]" * 500 + b'"sapi"\n') * 1_000,
        _SAPI + b'{"a":{}},' * 110_000 + b"{}]}",
        b'{"type":"sapi","method":"POST","path":"' + b"/" * 1_000_000 + b'"}',
    ],
    ids=["lines", "open", "array", "entry", "deep", "nested", "path"],
)
def test_what_is_looked_at_of_a_delivery_is_bounded(body: bytes) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        assert not tells_of_change(body)
    finally:
        sys.setprofile(None)
    assert calls < 50 * MAX_OBJECTS


def test_what_comes_after_a_thousand_entries_is_not_looked_at() -> None:
    entries = [*[{}] * MAX_ENTRIES, entry(ROTATE)]
    assert not tells_of_change(json.dumps(entries).encode())
    assert not tells_of_change("\n".join(map(json.dumps, entries)).encode())


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["sapi", "POST"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "method", "path", "url", "x"]), inner)
    ),
    max_leaves=20,
)


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_make_it_raise(body: bytes) -> None:
    tells_of_change(body)


@pytest.mark.parametrize(
    "body", [b"[" * 1_000_000, b'{"type":' * 100_000, b"\xff\n" * 300_000, b"[]\n" * 300_000]
)
async def test_garbage_of_any_size_is_answered_and_fetches_nothing(
    tenant: LocalTenant, verifier: TokenVerifier, body: bytes
) -> None:
    before = tenant.requests.count(JWKS)
    async with served(verifier) as client:
        answer = await client.post("/log-stream", content=body)
        assert answer.status_code == 204
        await fetches(tenant, before)


async def test_what_is_too_large_is_not_read(tenant: LocalTenant, verifier: TokenVerifier) -> None:
    async with served(verifier) as client:
        answer = await client.post("/log-stream", content=b" " * (MAX_DELIVERY_BYTES + 1))
        assert answer.status_code == 413
        assert (await client.get("/log-stream")).status_code == 405


async def test_a_revocation_that_is_delivered_is_noticed_at_once(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    old = tenant.key().kid
    tenant.rotate()
    await verifier.keys.refresh()
    tenant.revoke(old)
    assert old in verifier.keys.kids
    async with served(verifier) as client:
        assert (await client.post("/log-stream", json=[entry(REVOKE)])).status_code == 202
        await eventually(lambda: old not in verifier.keys.kids)


async def test_what_a_delivery_says_is_not_believed(
    tenant: LocalTenant, verifier: TokenVerifier
) -> None:
    before, kids = tenant.requests.count(JWKS), verifier.keys.kids
    said = entry({"method": "PUT", "path": f"/api/v2/keys/signing/{kids[0]}/revoke"})
    async with served(verifier) as client:
        await client.post("/log-stream", json=[said])
        await fetches(tenant, before + 1)
    assert verifier.keys.kids == kids
    assert dict(verifier.distrusted) == {}


async def test_however_many_deliveries_there_is_one_fetch_in_five_seconds_and_one_after(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    before = tenant.requests.count(JWKS)
    async with served(verifier) as client:
        posts = [client.post("/log-stream", json=[entry(ROTATE)]) for _ in range(50)]
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {202}
        await fetches(tenant, before + 1)
        clock.advance(PAUSE_SECONDS)
        await client.post("/log-stream", json=[entry(ROTATE)])
        await fetches(tenant, before + 2)


async def test_the_last_hint_within_the_pause_is_not_lost(
    tenant: LocalTenant, verifier: TokenVerifier, clock: HandClock
) -> None:
    before = tenant.requests.count(JWKS)
    verifier.keys.refresh_soon()
    await fetches(tenant, before + 1)
    clock.advance(PAUSE_SECONDS - 0.01)
    tenant.rotate()
    for _ in range(10):
        verifier.keys.refresh_soon()
    await eventually(lambda: tenant.key("next").kid in verifier.keys.kids)
    assert tenant.requests.count(JWKS) == before + 2


async def test_each_issuer_behind_the_verifier_is_asked(
    tenant: LocalTenant, clock: HandClock
) -> None:
    with tenant_of(clock, issuer="https://second.test/") as second:
        both = MultiIssuerVerifier([verifier_of(tenant, clock), verifier_of(second, clock)])
        async with both, served(both) as client:
            await client.post("/log-stream", json=[entry(ROTATE)])
            await fetches(tenant, 2)
            await fetches(second, 2)


async def test_issuer_that_became_known_after_the_route_was_made_is_asked_too(
    tenant: LocalTenant, clock: HandClock
) -> None:
    async def resolve(issuer: str) -> TokenVerifier | None:
        return verifier_of(tenant, clock)

    multi = MultiIssuerVerifier([], resolve=resolve, clock=clock)
    async with multi, served(multi) as client:
        await multi.verify(tenant.token())
        before = tenant.requests.count(JWKS)
        await client.post("/log-stream", json=[entry(ROTATE)])
        await fetches(tenant, before + 1)


async def test_a_closed_verifier_is_asked_nothing(tenant: LocalTenant, clock: HandClock) -> None:
    verifier = verifier_of(tenant, clock)
    await verifier.start()
    await verifier.aclose()
    async with served(verifier) as client:
        assert (await client.post("/log-stream", json=[entry(ROTATE)])).status_code == 202
    await fetches(tenant, 1)


@pytest.fixture
def webhook_on_a_socket(tenant: LocalTenant, verifier: TokenVerifier) -> Iterator[str]:
    """In a thread of its own, whose event loop is not the verifier's."""
    app = Starlette(routes=[log_stream_webhook(verifier, secret=SECRET, path="/hooks/auth0")])
    app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/hooks/auth0"])
    listener = listen("127.0.0.1", 0)
    server = ServerThread(app, listener)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/hooks/auth0"
    server.stop()


async def test_over_real_http_the_fetch_is_made_on_the_verifiers_own_loop(
    tenant: LocalTenant, verifier: TokenVerifier, webhook_on_a_socket: str
) -> None:
    before = tenant.requests.count(JWKS)
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": SECRET}) as client:
        answer = await client.post(webhook_on_a_socket, json=[entry(ROTATE)])
        assert answer.status_code == 202
        await fetches(tenant, before + 1)
        assert (await client.post(webhook_on_a_socket, content=b"{")).status_code == 204


def test_it_is_a_route_like_any_other(tenant: LocalTenant, clock: HandClock) -> None:
    route = log_stream_webhook(verifier_of(tenant, clock), secret=SECRET, path="/hook")
    assert isinstance(route, Route)
    assert Mount("/auth0", routes=[route]).routes == [route]
