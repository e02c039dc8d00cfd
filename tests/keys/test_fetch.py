"""What a server, a cache, a proxy or the caller's own client may do to a fetch."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.base.clock import Instant
from jwks_guard.keys.fetch import (
    OFF_LOOP_BYTES,
    Answer,
    FetchError,
    Held,
    HTTPKeyFetcher,
)
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.keys import generate_signing_key
from tests.net.support import Stream, streamed
from tests.support import HandClock

ISSUER = "https://issuer.test/"
URI = "https://issuer.test/jwks"
DISCOVERY = "https://issuer.test/.well-known/openid-configuration"
LIMIT = 20_000
NOW = Instant(1_800_000_000.0, 5_000.0)
KEYS = [generate_signing_key("ES256", now=0, common_name="issuer.test") for _ in range(2)]
JWKS = json.dumps({"keys": [key.jwk for key in KEYS]}).encode()
KIDS = [key.kid for key in KEYS]
FIELDS = b"age cache-control content-encoding date etag last-modified location retry-after".split()

Reply = httpx.Response | Exception | Callable[[httpx.Request], Awaitable[httpx.Response]]


@dataclass
class Server:
    """Replies by address; of several replies to one address each is given once, the last on."""

    replies: dict[str, list[Reply]] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    def on(self, url: str, *replies: Reply) -> None:
        self.replies[url] = list(replies)

    def discovers(self, uri: object = URI, **changes: object) -> None:
        self.on(DISCOVERY, lambda _: ok(document(jwks_uri=uri, **changes)))

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        replies = self.replies[str(request.url)]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, httpx.Response) else await reply(request)

    @property
    def asked(self) -> list[str]:
        return [str(request.url) for request in self.requests]


def document(**members: object) -> bytes:
    return json.dumps({"issuer": ISSUER, "jwks_uri": URI, **members}).encode()


async def ok(body: bytes = JWKS, **headers: str) -> httpx.Response:
    return answer(body, 200, **headers)


def answer(body: bytes = JWKS, status: int = 200, **headers: str) -> httpx.Response:
    return streamed(body, status, **headers)


@pytest.fixture
def server() -> Server:
    return Server({URI: [lambda _: ok()]})


def fetcher_of(
    server: Server, uri: str | None = URI, max_bytes: int = LIMIT, **options: Any
) -> HTTPKeyFetcher:
    options.setdefault("client", httpx.AsyncClient(transport=httpx.MockTransport(server)))
    return HTTPKeyFetcher(ISSUER, uri, max_bytes, 3600.0, **options)


async def fetched(server: Server, held: Held | None = None, **options: Any) -> Answer:
    return await fetcher_of(server, **options).fetch(held, NOW)


async def failure(server: Server, **options: Any) -> FetchError:
    with pytest.raises(FetchError) as error:
        await fetched(server, **options)
    return error.value


def kids(of: Answer) -> list[str] | None:
    return None if of.keys is None else [key.kid for key in of.keys]


# --- one good answer ---


async def test_keys_come_with_their_dates_and_what_to_ask_with_next_time(server: Server) -> None:
    server.on(URI, answer(age="7", etag='"v1"', cache_control="max-age=15"))
    got = await fetched(server)
    assert kids(got) == KIDS
    assert got.skipped == ()
    assert (got.dating.age, got.dating.lifetime, got.confirmed_before) == (7.0, 15.0, 0.0)
    assert got.held == Held(URI, '"v1"')


async def test_request_has_our_own_headers_and_asks_caches_to_revalidate(server: Server) -> None:
    await fetched(server)
    (request,) = server.requests
    assert request.method == "GET"
    assert dict(request.headers) == {
        "host": "issuer.test",
        "accept": "application/json, application/jwk-set+json",
        "accept-encoding": "gzip, deflate",
        "cache-control": "no-cache",
        "user-agent": "jwks-guard",
    }


def callers(server: Server, **options: Any) -> httpx.AsyncClient:
    """A client that the caller has set up for a tenant with its own ideas."""
    return httpx.AsyncClient(
        transport=httpx.MockTransport(server),
        base_url="https://elsewhere.test/api",
        headers={"User-Agent": "theirs", "X-Key": "secret", "Accept": "text/html"},
        cookies={"session": "secret"},
        params={"token": "secret"},
        timeout=None,
        follow_redirects=True,
        **{"auth": ("user", "secret"), **options},
    )


async def test_headers_and_auth_of_the_callers_client_are_sent_and_nothing_else_of_it(
    server: Server,
) -> None:
    server.on(URI, httpx.Response(302, headers={"Location": "https://issuer.test/elsewhere"}))
    client = callers(server)
    assert str(await failure(server, client=client, timeout=2.0)) == "the server answered 302"
    (request,) = server.requests
    assert str(request.url) == URI
    assert request.headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert request.headers["x-key"] == "secret"
    assert request.headers["user-agent"] == "theirs"
    assert request.headers.get_list("accept") == ["application/json, application/jwk-set+json"]
    assert "cookie" not in request.headers
    assert request.extensions["timeout"] == dict.fromkeys(["connect", "read", "write", "pool"], 2.0)
    assert not client.is_closed


def knows_nothing(request: httpx.Request) -> bool:
    return (
        {"authorization", "cookie", "x-key"}.isdisjoint(request.headers)
        and "secret" not in repr(request.headers.raw)
        and request.headers["user-agent"] == "jwks-guard"
    )


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://keys.issuer.test/jwks",
        "https://issuer.test.evil.test/jwks",
        "https://issuer.test:8443/jwks",
        "https://evil.test/?issuer.test",
    ],
)
async def test_another_origin_that_discovery_names_gets_nothing_of_the_callers_client(
    server: Server, elsewhere: str
) -> None:
    server.discovers(elsewhere)
    server.on(elsewhere, lambda _: ok())
    got = await fetched(server, uri=None, client=callers(server))
    assert kids(got) == KIDS
    discovery, keys = server.requests
    assert discovery.headers["x-key"] == "secret"
    assert "authorization" in discovery.headers
    assert knows_nothing(keys)


async def test_jwks_uri_that_is_given_gets_headers_and_auth_wherever_it_is(server: Server) -> None:
    uri = "https://cluster.test:6443/openid/v1/jwks"
    server.on(uri, lambda _: ok())
    await fetched(server, uri=uri, client=callers(server))
    assert server.requests[0].headers["x-key"] == "secret"


@pytest.mark.parametrize("issuer", ["http://keycloak/realms/a", "https://keycloak/realms/a"])
async def test_plain_http_gets_nothing_that_was_meant_for_https(
    server: Server, issuer: str
) -> None:
    uri = "http://keycloak/jwks"
    server.on(
        f"{issuer}/.well-known/openid-configuration",
        lambda _: ok(document(issuer=issuer, jwks_uri=uri)),
    )
    server.on(uri, lambda _: ok())
    fetcher = HTTPKeyFetcher(
        issuer, None, LIMIT, 3600.0, callers(server), http_hosts=frozenset({"keycloak"})
    )
    await fetcher.fetch(None, NOW)
    assert knows_nothing(server.requests[1]) is issuer.startswith("https")


async def test_auth_of_the_callers_client_that_fails_is_a_failed_fetch(server: Server) -> None:
    def auth(request: httpx.Request) -> httpx.Request:
        raise RuntimeError("secret")

    why = await failure(server, client=callers(server, auth=auth))
    assert "RuntimeError in " in str(why)
    assert "secret" not in str(why)


async def test_own_headers_of_a_client_that_the_caller_did_not_set_up_are_not_sent(
    server: Server,
) -> None:
    await fetched(server)
    assert server.requests[0].headers["user-agent"] == "jwks-guard"
    assert "connection" not in server.requests[0].headers


async def test_unusable_keys_are_skipped_with_their_reason(server: Server) -> None:
    keys = [KEYS[0].jwk, {"kid": "secret", "kty": "oct", "k": "c2VjcmV0"}, 5]
    server.on(URI, answer(json.dumps({"keys": keys}).encode()))
    got = await fetched(server)
    assert kids(got) == KIDS[:1]
    assert [(key.kid, key.reason) for key in got.skipped] == [
        ("secret", "`kty` is not RSA, EC or OKP"),
        (None, "not a JSON object"),
    ]


# --- conditional requests ---


async def test_entity_tag_makes_the_request_conditional_and_304_confirms_what_is_held(
    server: Server,
) -> None:
    server.on(URI, httpx.Response(304, headers={"Age": "5", "ETag": '"v2"'}))
    held = Held(URI, '"v1"')
    got = await fetched(server, held)
    assert server.requests[0].headers["If-None-Match"] == '"v1"'
    assert got.keys is None
    assert got.held is held
    assert got.dating.age == 5.0


async def test_changed_set_replaces_the_tag_or_leaves_none(server: Server) -> None:
    server.on(URI, answer(etag='"v2"'), answer())
    assert (await fetched(server, Held(URI, '"v1"'))).held == Held(URI, '"v2"')
    assert (await fetched(server, Held(URI, '"v2"'))).held == Held(URI, None)


@pytest.mark.parametrize("held", [None, Held(URI, None), Held("https://old.test/jwks", '"v1"')])
async def test_304_that_was_not_asked_for_is_no_answer(server: Server, held: Held | None) -> None:
    server.on(URI, httpx.Response(304))
    with pytest.raises(FetchError, match=r"^the server answered 304$"):
        await fetched(server, held)
    assert "If-None-Match" not in server.requests[0].headers


async def test_tag_of_one_address_is_not_sent_to_another(server: Server) -> None:
    server.discovers()
    got = await fetched(server, Held("https://old.test/jwks", '"v1"'), uri=None)
    assert kids(got) == KIDS
    assert server.asked == [DISCOVERY, URI]
    assert all("If-None-Match" not in request.headers for request in server.requests)


async def test_last_modified_is_never_asked_with(server: Server) -> None:
    """A cache that lags behind would answer 304 to it, too, and confirm what it does not hold."""
    date, modified = (formatdate(NOW.wall - ago, usegmt=True) for ago in (0, 60))
    server.on(URI, lambda _: ok(date=date, last_modified=modified))
    got = await fetched(server)
    await fetched(server, got.held)
    assert got.held == Held(URI, None)
    assert all("If-Modified-Since" not in request.headers for request in server.requests)


# --- answers that can't be used ---


@pytest.mark.parametrize("status", [201, 204, 206, 301, 302, 307, 400, 401, 403, 404, 429, 500])
async def test_every_status_but_200_is_a_failure(server: Server, status: int) -> None:
    server.on(URI, answer(status=status, location="https://elsewhere.test/jwks"))
    why = str(await failure(server))
    assert why.startswith(f"the server answered {status}")
    assert ("give jwks_uri and an http_client with" in why) is (status in (401, 403))
    assert server.asked == [URI]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not a JSON object"),
        (b"<!doctype html>", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"\xef\xbb\xbf", "not a JSON object"),
        (b"\xef\xbb\xbf\xef\xbb\xbf" + JWKS, "not a JSON object"),
        (JWKS + b"\xef\xbb\xbf", "not a JSON object"),
        (JWKS.decode().encode("utf-16"), "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (JWKS[:-20], "not a JSON object"),
        (b"{}", "no array `keys`"),
        (b'{"keys": {}}', "no array `keys`"),
        (b'{"keys": null}', "no array `keys`"),
        (b'{"keys": []}', "no usable key"),
        (b'{"keys": [{"kid": "a"}]}', "no usable key: `kty` is not a string"),
        (b'{"keys": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", "not a"),
        (b'{"keys": [], "n": 1' + b"0" * 400 + b"}", "no"),
    ],
)
async def test_body_without_a_usable_key_is_a_failure(
    server: Server, body: bytes, why: str
) -> None:
    server.on(URI, answer(body))
    assert why in str(await failure(server))


@pytest.mark.parametrize("age", ["3600", "86400", "9" * 500, "3600, 0"])
@pytest.mark.parametrize("status", [200, 304])
async def test_answer_older_than_max_stale_is_a_failure(
    server: Server, age: str, status: int
) -> None:
    server.on(URI, answer(status=status, age=age))
    with pytest.raises(FetchError, match=r"Age of .* s is past max_stale"):
        await fetched(server, Held(URI, '"v1"'))


@pytest.mark.parametrize("status", [200, 304])
async def test_answer_that_the_issuer_itself_calls_fresh_is_none(
    server: Server, status: int
) -> None:
    held = Held(URI, '"v1"')
    server.on(URI, answer(status=status, age="5059", cache_control="public, max-age=24873"))
    got = await fetched(server, held)
    assert (got.dating.age, got.confirmed_before) == (5059.0, 0.0)


async def test_fresh_answer_past_max_upstream_age_is_a_failure(server: Server) -> None:
    server.on(URI, answer(age="86401", cache_control="max-age=3828277"))
    assert "is past max_stale" in str(await failure(server))


async def test_old_date_is_told_apart_from_an_old_age(server: Server) -> None:
    server.on(URI, answer(date=formatdate(NOW.wall - 7200, usegmt=True)))
    assert "s old by its Date, past max_stale" in str(await failure(server))


async def test_answer_just_inside_max_stale_is_none(server: Server) -> None:
    server.on(URI, answer(age="3599"))
    assert (await fetched(server)).dating.age == 3599.0


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("soon", None),
        ("-1", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_comes_with_the_failure(
    server: Server, status: int, retry_after: str, seconds: float | None
) -> None:
    server.on(URI, answer(b"", status, retry_after=retry_after))
    assert (await failure(server)).retry_after == seconds


async def test_old_error_page_still_says_when_to_come_back(server: Server) -> None:
    server.on(URI, answer(b"", 503, retry_after="7", age="86400"))
    error = await failure(server)
    assert (str(error), error.retry_after) == ("the server answered 503", 7.0)


async def test_error_page_is_not_read_however_long_or_broken(server: Server) -> None:
    page = Stream(b"x" * 1000, repeat=1000)
    headers = {"Content-Encoding": "br", "Retry-After": "7"}
    server.on(URI, httpx.Response(503, stream=page, headers=headers))
    error = await failure(server)
    assert (str(error), error.retry_after) == ("the server answered 503", 7.0)
    assert page.read == 0


# --- no answer ---


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (httpx.ConnectError("refused"), "no connection (refused)"),
        (httpx.ReadError(""), "no complete answer (ReadError)"),
        (httpx.ReadTimeout(""), "no complete answer within 30 s"),
        (answer(b" " * (LIMIT + 1)), f"the answer is larger than {LIMIT} bytes"),
        (answer(content_encoding="gzip"), "the compressed answer is damaged"),
    ],
)
async def test_exchange_without_a_complete_answer_is_a_failure(
    server: Server, reply: Reply, why: str
) -> None:
    server.on(URI, reply)
    assert str(await failure(server)) == why


async def test_compressed_key_set_is_read(server: Server) -> None:
    server.on(URI, answer(gzip.compress(JWKS), content_encoding="gzip"))
    assert kids(await fetched(server)) == KIDS


@given(
    status=st.sampled_from([200, 302, 304, 404, 503]),
    body=st.binary(max_size=200) | st.sampled_from([JWKS, gzip.compress(JWKS), JWKS[:-1]]),
    fields=st.lists(
        st.tuples(
            st.sampled_from(FIELDS),
            st.binary(max_size=30) | st.sampled_from([b"gzip", b"deflate", b"0", b"//", b"["]),
        )
    ),
)
def test_whatever_a_server_answers_is_a_key_set_or_a_failure(
    status: int, body: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    async def answered() -> None:
        response = httpx.Response(status, stream=Stream(body), headers=httpx.Headers(fields))
        got = await fetched(Server({URI: [response]}), Held(URI, '"v1"'))
        assert kids(got) in (KIDS, None)

    with suppress(FetchError):
        asyncio.run(answered())


# --- where the client comes from ---


async def test_client_is_made_by_the_callers_callable_and_left_open(server: Server) -> None:
    made: list[httpx.AsyncClient] = []

    def make() -> httpx.AsyncClient:
        made.append(httpx.AsyncClient(transport=httpx.MockTransport(server)))
        return made[-1]

    fetcher = fetcher_of(server, client=make)
    for _ in range(2):
        assert kids(await fetcher.fetch(None, NOW)) == KIDS
    assert [client.is_closed for client in made] == [False]


async def test_callable_that_raises_fails_the_fetch(server: Server) -> None:
    def make() -> httpx.AsyncClient:
        raise FileNotFoundError(2, "No such file", "ca.pem")

    why = "the HTTP client can't be made (FileNotFoundError: No such file)"
    assert str(await failure(server, client=make)) == why


async def test_without_a_client_one_is_opened_for_each_fetch() -> None:
    with LocalTenant(algorithm="ES256") as tenant:
        fetcher = HTTPKeyFetcher(tenant.issuer, None, LIMIT, 3600.0)
        for _ in range(2):
            assert kids(await fetcher.fetch(None, Instant.now(time))) == [
                tenant.key("current").kid,
                tenant.key("next").kid,
            ]
    with pytest.raises(FetchError, match=r"^no connection \("):
        await fetcher.fetch(None, NOW)


# --- the deadline ---


async def test_deadline_covers_a_client_that_never_answers(server: Server) -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    server.on(URI, never)
    assert str(await failure(server, timeout=0.05)) == "no complete answer within 0.05 s"


async def test_slow_discovery_leaves_half_of_the_deadline_to_the_key_set(server: Server) -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    server.discovers()
    fetcher = fetcher_of(server, None, timeout=1.0)
    await fetcher.fetch(None, NOW)
    server.on(DISCOVERY, never)
    assert kids(await fetcher.fetch(None, NOW.shifted(3600))) == KIDS
    cold = fetcher_of(server, None, timeout=1.0)
    with pytest.raises(FetchError, match=r"^discovery: no complete answer within 0\.5 s$"):
        await cold.fetch(None, NOW)


# --- discovery ---


async def test_configured_address_is_never_discovered(server: Server) -> None:
    server.on(URI, answer(status=404))
    await failure(server)
    assert server.asked == [URI]


async def test_discovered_address_is_asked_for_again_after_an_hour(server: Server) -> None:
    server.discovers()
    fetcher = fetcher_of(server, None)
    for seconds in (0, 60, 3599):
        await fetcher.fetch(None, NOW.shifted(seconds))
    assert server.asked == [DISCOVERY, URI, URI, URI]
    server.discovers("https://keys.test/new")
    server.on("https://keys.test/new", lambda _: ok())
    got = await fetcher.fetch(None, NOW.shifted(3600))
    assert got.held.jwks_uri == "https://keys.test/new"
    assert server.asked[4:] == [DISCOVERY, "https://keys.test/new"]


@pytest.mark.parametrize("issuer", ["https://issuer.test/", "https://issuer.test"])
async def test_discovery_address_follows_from_the_issuer_with_and_without_slash(
    server: Server, issuer: str
) -> None:
    server.discovers(issuer=issuer)
    client = httpx.AsyncClient(transport=httpx.MockTransport(server))
    await HTTPKeyFetcher(issuer, None, LIMIT, 3600.0, client).fetch(None, NOW)
    assert server.asked == [DISCOVERY, URI]


async def test_byte_order_mark_before_a_document_is_ignored(server: Server) -> None:
    mark = b"\xef\xbb\xbf"
    server.on(DISCOVERY, lambda _: ok(mark + document()))
    server.on(URI, lambda _: ok(mark + JWKS))
    assert kids(await fetched(server, uri=None)) == KIDS


async def test_key_that_names_another_issuer_is_skipped(server: Server) -> None:
    keys = [KEYS[0].jwk | {"issuer": ISSUER}, KEYS[1].jwk | {"issuer": "https://other.test/"}]
    server.on(URI, answer(json.dumps({"keys": keys}).encode()))
    got = await fetched(server)
    assert kids(got) == KIDS[:1]
    assert [key.reason for key in got.skipped] == ["`issuer` is not the configured issuer"]


@pytest.mark.parametrize(
    ("issuer", "why"),
    [
        ("https://issuer.test", "the issuer says 'https://issuer.test': remove the slash"),
        ("https://issuer.test//", "the issuer says 'https://issuer.test//': add the slash"),
        (
            "https://ISSUER.test/",
            "the issuer says 'https://ISSUER.test/': configure that one, if its tokens name it",
        ),
        (None, "the issuer's document names no issuer"),
        (5, "the issuer's document names no issuer"),
        ("https://issuer.test/\n", "the issuer's document names no issuer"),
        ("https://" + "x" * 600, "the issuer's document names no issuer"),
    ],
)
async def test_document_of_another_issuer_is_refused_with_both_values(
    server: Server, issuer: object, why: str
) -> None:
    server.discovers(issuer=issuer)
    assert str(await failure(server, uri=None)) == f"discovery: configured {ISSUER!r}, {why}"
    assert server.asked == [DISCOVERY]


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize(
    ("issuer", "other"),
    [
        ("https://issuer.test/", "https://issuer.test/.well-known/oauth-authorization-server"),
        ("https://issuer.test", "https://issuer.test/.well-known/oauth-authorization-server"),
        ("https://issuer.test/a", "https://issuer.test/.well-known/oauth-authorization-server/a"),
        (
            "https://issuer.test:8443/a/b/",
            "https://issuer.test:8443/.well-known/oauth-authorization-server/a/b",
        ),
    ],
)
async def test_issuer_without_openid_configuration_is_asked_by_rfc_8414(
    server: Server, status: int, issuer: str, other: str
) -> None:
    first = issuer.removesuffix("/") + "/.well-known/openid-configuration"
    server.on(first, answer(b"<html>", status))
    server.on(other, lambda _: ok(document(issuer=issuer)))
    client = httpx.AsyncClient(transport=httpx.MockTransport(server))
    assert kids(await HTTPKeyFetcher(issuer, None, LIMIT, 3600.0, client).fetch(None, NOW)) == KIDS
    assert server.asked == [first, other, URI]


async def test_issuer_without_any_document_is_told_of_with_the_argument_to_pass(
    server: Server,
) -> None:
    other = "https://issuer.test/.well-known/oauth-authorization-server"
    server.on(DISCOVERY, answer(status=404))
    server.on(other, answer(status=404))
    assert str(await failure(server, uri=None)) == (
        f"discovery: the issuer has no document at {DISCOVERY} and none at {other}; "
        "pass jwks_uri= with the address of its keys"
    )


async def test_server_that_fails_is_not_asked_by_rfc_8414(server: Server) -> None:
    server.on(DISCOVERY, answer(status=503))
    assert str(await failure(server, uri=None)) == "discovery: the server answered 503"
    assert server.asked == [DISCOVERY]


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        (None, "the document has no jwks_uri; pass jwks_uri= to the verifier"),
        ([URI], "the document has no jwks_uri; pass jwks_uri= to the verifier"),
        ("http://issuer.test/jwks", "the jwks_uri can't be used: it is not https"),
        ("http://127.0.0.1/jwks", "the jwks_uri can't be used: it is not https"),
        ("file:///etc/passwd", "the jwks_uri can't be used: it has no host"),
        (
            "https://u:p@issuer.test/jwks",
            "the jwks_uri can't be used: it carries a user name or password",
        ),
        ("https://issuer.test/jwks#x", "the jwks_uri can't be used: it has a fragment"),
        ("/jwks", "the jwks_uri can't be used: it has no host"),
    ],
)
async def test_discovered_address_must_be_one_that_keys_may_come_from(
    server: Server, uri: object, why: str
) -> None:
    server.discovers(uri)
    assert str(await failure(server, uri=None)) == f"discovery: {why}"
    assert server.asked == [DISCOVERY]


async def test_loopback_issuer_may_point_to_plain_http_on_loopback_and_no_further() -> None:
    issuer, here = "http://localhost:1234/", "http://127.0.0.1:1234/jwks"
    found = "http://localhost:1234/.well-known/openid-configuration"
    server = Server({here: [lambda _: ok()]})
    client = httpx.AsyncClient(transport=httpx.MockTransport(server))
    server.on(found, lambda _: ok(document(issuer=issuer, jwks_uri=here)))
    await HTTPKeyFetcher(issuer, None, LIMIT, 3600.0, client).fetch(None, NOW)
    server.on(found, lambda _: ok(document(issuer=issuer, jwks_uri="http://keys.test/")))
    with pytest.raises(FetchError, match=r"it is not https$"):
        await HTTPKeyFetcher(issuer, None, LIMIT, 3600.0, client).fetch(None, NOW)


def broken_discoveries() -> list[Reply]:
    return [
        httpx.ConnectError("refused"),
        OSError("a transport of the caller's"),
        answer(status=503, retry_after="9"),
        answer(status=302, location=URI),
        answer(b"<html>"),
        answer(b" " * (LIMIT + 1)),
        answer(document(), content_encoding="gzip"),
        answer(document(issuer="https://other.test/")),
        answer(document(jwks_uri="http://other.test/")),
    ]


@pytest.mark.parametrize("reply", broken_discoveries())
async def test_while_discovery_fails_the_address_found_before_stays_in_use(
    server: Server, reply: Reply
) -> None:
    server.discovers()
    fetcher = fetcher_of(server, None)
    await fetcher.fetch(None, NOW)
    server.on(DISCOVERY, reply)
    assert kids(await fetcher.fetch(None, NOW.shifted(3600))) == KIDS
    assert kids(await fetcher.fetch(None, NOW.shifted(3899))) == KIDS
    assert server.asked[2:] == [DISCOVERY, URI, URI], "it is tried again after five minutes"
    server.discovers()
    await fetcher.fetch(None, NOW.shifted(3900))
    assert server.asked[5:] == [DISCOVERY, URI]


@pytest.mark.parametrize("reply", broken_discoveries())
async def test_first_discovery_that_fails_is_said_to_be_the_cause(
    server: Server, reply: Reply
) -> None:
    server.on(DISCOVERY, reply)
    error = await failure(server, uri=None)
    assert str(error).startswith("discovery: ")
    unavailable = isinstance(reply, httpx.Response) and reply.status_code == 503
    assert error.retry_after == (9.0 if unavailable else None)
    assert server.asked == [DISCOVERY]


@pytest.mark.parametrize("status", [404, 410])
async def test_address_that_is_gone_is_discovered_anew_within_the_same_fetch(
    server: Server, status: int
) -> None:
    moved = "https://keys.test/moved"
    server.discovers()
    fetcher = fetcher_of(server, None)
    held = (await fetcher.fetch(None, NOW)).held
    server.on(URI, answer(b"<html>", status, content_encoding="br"))
    server.on(moved, lambda _: ok(etag='"m"'))
    server.discovers(moved)
    got = await fetcher.fetch(held, NOW.shifted(60))
    assert kids(got) == KIDS
    assert got.held == Held(moved, '"m"')
    assert server.asked[2:] == [URI, DISCOVERY, moved]
    await fetcher.fetch(got.held, NOW.shifted(120))
    assert server.asked[5:] == [moved]


async def test_address_that_is_gone_and_was_not_moved_is_asked_once(server: Server) -> None:
    server.discovers()
    server.on(URI, answer(status=404))
    assert str(await failure(server, uri=None)) == "the server answered 404"
    assert server.asked == [DISCOVERY, URI, DISCOVERY]


async def test_address_that_is_gone_while_discovery_fails_is_asked_once(server: Server) -> None:
    server.discovers()
    fetcher = fetcher_of(server, None)
    await fetcher.fetch(None, NOW)
    server.on(URI, answer(status=410))
    server.on(DISCOVERY, httpx.ConnectError("refused"))
    with pytest.raises(FetchError, match=r"^the server answered 410$"):
        await fetcher.fetch(None, NOW.shifted(60))
    assert server.asked[2:] == [URI, DISCOVERY]


async def test_faults_of_a_whole_tenant_end_in_failures_with_reasons(clock: HandClock) -> None:
    with LocalTenant(in_process=True, algorithm="ES256", clock=clock) as tenant:
        client = httpx.AsyncClient(transport=tenant.transport)
        fetcher = HTTPKeyFetcher(tenant.issuer, None, LIMIT, 3600.0, client)
        for switch_on in (
            tenant.faults.truncated,
            tenant.faults.reset,
            tenant.faults.oversized,
            tenant.faults.gzip_bomb,
            tenant.faults.redirect,
            tenant.faults.garbage,
            tenant.faults.empty,
        ):
            switch_on()
            with pytest.raises(FetchError) as error:
                await fetcher.fetch(None, NOW)
            assert str(error.value)
            tenant.faults.clear()
        assert kids(await fetcher.fetch(None, NOW)) == [key.kid for key in tenant.signing_keys]


# --- what a key set costs ---


class CountingExecutor(ThreadPoolExecutor):
    """Counts what is handed to threads of the event loop."""

    count = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self.count += 1
        return super().submit(*args, **kwargs)


def large(kid: str = "large") -> bytes:
    """A key set that is long enough for another thread."""
    jwk = {**KEYS[0].jwk, "kid": kid, "x5c": ["M" * OFF_LOOP_BYTES]}
    return json.dumps({"keys": [jwk]}).encode()


@pytest.mark.parametrize(("body", "threads"), [(JWKS, 0), (large(), 1)])
async def test_large_key_set_is_parsed_off_the_event_loop(body: bytes, threads: int) -> None:
    executor = CountingExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    server = Server()
    server.on(URI, lambda _: ok(body))
    fetcher = fetcher_of(server, max_bytes=200_000)
    first = await fetcher.fetch(None, NOW)
    assert first.keys
    assert executor.count == threads
    again = await fetcher.fetch(None, NOW)
    assert again.keys is first.keys, "the same bytes are the same keys"
    assert executor.count == threads


async def test_other_bytes_are_parsed_anew() -> None:
    server = Server()
    server.on(URI, lambda _: ok(large("one")), lambda _: ok(large("two")))
    fetcher = fetcher_of(server, max_bytes=200_000)
    kids = [(await fetcher.fetch(None, NOW)).keys for _ in range(2)]
    assert [key.kid for keys in kids for key in keys or ()] == ["one", "two"]


async def test_large_key_set_is_parsed_where_no_thread_begins_any_more() -> None:
    await asyncio.get_running_loop().shutdown_default_executor()
    server = Server()
    server.on(URI, lambda _: ok(large()))
    answered = await fetcher_of(server, max_bytes=200_000).fetch(None, NOW)
    assert answered.keys
