"""What a server, a network or the caller's own client may do to one exchange."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwks_guard.net.clients import Clients
from jwks_guard.net.exchange import Client, ExchangeError, Reply, exchange, new_request
from jwks_guard.testing import LocalTenant
from tests.admin.support import shown
from tests.net.support import Stream, streamed

URL = "https://server.test/path"
SECRET = "correct-horse-battery-staple"
LIMIT = 20_000
BODY = b'{"keys": []}'
EXCEPTIONS = [
    each for each in vars(httpx).values() if isinstance(each, type) and issubclass(each, Exception)
]


def client_of(
    answer: httpx.Response | Exception | Callable[[httpx.Request], Any], **options: Any
) -> Client:
    """A client whose transport gives `answer`, raises it, or calls it."""

    def handler(request: httpx.Request) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    return httpx.AsyncClient(transport=httpx.MockTransport(handler), **options)


def get(url: str = URL) -> httpx.Request:
    return new_request("GET", url, {"Authorization": f"Bearer {SECRET}"})


async def exchanged(client: Client | httpx.Response | Exception, **options: Any) -> Reply:
    client = client if isinstance(client, httpx.AsyncClient) else client_of(client)
    options = {"timeout": 5.0, "limit": LIMIT, **options}
    return await exchange(client, options.pop("request", None) or get(), **options)


async def failure(client: Client | httpx.Response | Exception, **options: Any) -> ExchangeError:
    with pytest.raises(ExchangeError) as failed:
        await exchanged(client, **options)
    return failed.value


def noting(
    requests: list[httpx.Request], response: httpx.Response
) -> Callable[[httpx.Request], httpx.Response]:
    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return response

    return handler


async def never(_: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError


# --- what is sent ---


async def test_answer_is_given_with_lower_case_header_names_and_shows_no_content() -> None:
    reply = await exchanged(streamed(BODY, 200, ETag='"secret"'))
    assert (reply.status, reply.headers["etag"], reply.body) == (200, '"secret"', BODY)
    assert repr(reply) == "Reply(status=200)"


async def test_request_has_the_headers_it_was_given_and_no_others() -> None:
    requests: list[httpx.Request] = []
    client = client_of(noting(requests, streamed(BODY)))
    request = new_request("POST", URL, {"X-Key": "value"}, b"content")
    await exchanged(client, request=request)
    assert requests == [request]
    assert request.method == "POST"
    assert request.content == b"content"
    assert dict(request.headers) == {
        "host": "server.test",
        "x-key": "value",
        "content-length": "7",
    }


async def test_nothing_of_the_callers_client_is_sent_or_followed_and_it_stays_open() -> None:
    requests: list[httpx.Request] = []
    away = streamed(b"", 302, location="https://elsewhere.test/", set_cookie="a=theirs")
    client = client_of(
        noting(requests, away),
        base_url="https://elsewhere.test/api",
        headers={"X-Key": "theirs", "User-Agent": "theirs"},
        cookies={"session": "theirs"},
        params={"token": "theirs"},
        auth=("user", "theirs"),
        timeout=None,
        follow_redirects=True,
    )
    for _ in range(2):
        assert (await exchanged(client)).status == 302
    assert [str(request.url) for request in requests] == [URL, URL]
    assert {name for request in requests for name in request.headers} == {"host", "authorization"}
    assert "theirs" not in "".join(repr(request.headers.raw) for request in requests)
    assert not client.is_closed


@pytest.mark.parametrize(("connect", "expected"), [(None, 6.0), (2.0, 2.0)])
async def test_client_is_told_the_time_limits_and_its_own_do_not_count(
    connect: float | None, expected: float
) -> None:
    client, request = client_of(streamed(BODY), timeout=None), get()
    await exchanged(client, request=request, timeout=6.0, connect_timeout=connect)
    assert request.extensions["timeout"] == {
        "connect": expected,
        "pool": expected,
        "read": 6.0,
        "write": 6.0,
    }


@pytest.mark.parametrize("url", ["https://xn--0.b/", "https://a\0b/", "https://" + "a" * 70_000])
def test_address_that_httpx_refuses_is_not_asked_and_not_quoted(url: str) -> None:
    with pytest.raises(ExchangeError, match=r"^the address can't be used \(\w+ in ") as failed:
        new_request("GET", url, {})
    assert not failed.value.sent
    assert url not in str(failed.value)


# --- the body ---


@pytest.mark.parametrize("status", [200, 204, 302, 304, 404, 503])
@pytest.mark.parametrize("any_status", [False, True])
async def test_body_is_read_of_a_200_or_of_every_answer_and_each_is_closed(
    status: int, *, any_status: bool
) -> None:
    stream = Stream(BODY)
    reply = await exchanged(httpx.Response(status, stream=stream), any_status=any_status)
    assert reply.body == (BODY if any_status or status == 200 else b"")
    assert stream.read == len(reply.body) / len(BODY)
    assert stream.closed


async def test_body_of_exactly_the_limit_is_read() -> None:
    assert len((await exchanged(streamed(bytes(LIMIT)))).body) == LIMIT


async def test_reading_stops_at_the_limit() -> None:
    stream = Stream(b" " * 1000, repeat=1000)
    failed = await failure(httpx.Response(200, stream=stream))
    assert str(failed) == f"the answer is larger than {LIMIT} bytes"
    assert stream.read == LIMIT // 1000 + 1
    assert stream.closed


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
async def test_compressed_bomb_is_decoded_no_further_than_the_limit(
    compress: Callable[[bytes], bytes],
) -> None:
    bomb = compress(bytes(15_000_000))
    assert len(bomb) < LIMIT
    encoding = "gzip" if compress is gzip.compress else "deflate"
    failed = await failure(streamed(bomb, content_encoding=encoding))
    assert str(failed) == f"the answer is larger than {LIMIT} bytes"


@pytest.mark.parametrize("length", [len(BODY), LIMIT], ids=["usual", "at the limit"])
@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        (" X-GZip ", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        ("", bytes),
    ],
)
async def test_encoded_body_is_decoded(
    encoding: str, encode: Callable[[bytes], bytes], length: int
) -> None:
    body = BODY.ljust(length)
    reply = await exchanged(streamed(encode(body), content_encoding=encoding))
    assert reply.body == body


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "\xe9"])
async def test_encoding_that_was_not_asked_for_is_refused(encoding: str) -> None:
    headers = httpx.Headers([(b"Content-Encoding", encoding.encode("latin-1"))])
    failed = await failure(httpx.Response(200, stream=Stream(BODY), headers=headers))
    assert str(failed) == "the answer has a content encoding that was not asked for"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (gzip.compress(BODY)[:-1], "truncated"),
        (gzip.compress(BODY)[:15], "truncated"),
        (b"", "truncated"),
        (BODY, "damaged"),
        (gzip.compress(BODY)[:-8] + bytes(8), "damaged"),
        (zlib.compress(BODY)[2:-4], "damaged"),
    ],
    ids=["end missing", "most missing", "empty", "not encoded", "checksum", "no frame"],
)
async def test_damaged_encoding_is_a_failure(body: bytes, why: str) -> None:
    failed = await failure(streamed(body, content_encoding="gzip"))
    assert str(failed) == f"the compressed answer is {why}"


async def test_transport_may_answer_with_the_whole_body_at_once() -> None:
    gzipped = httpx.Response(200, content=gzip.compress(BODY), headers={"Content-Encoding": "gzip"})
    assert (await exchanged(httpx.Response(200, content=BODY))).body == BODY
    assert (await exchanged(gzipped)).body == BODY
    failed = await failure(httpx.Response(200, content=bytes(LIMIT + 1)))
    assert str(failed) == f"the answer is larger than {LIMIT} bytes"


async def test_event_hook_may_have_read_the_body() -> None:
    async def hook(response: httpx.Response) -> None:
        await response.aread()

    client = client_of(streamed(BODY), event_hooks={"response": [hook]})
    assert (await exchanged(client)).body == BODY


async def test_status_stands_although_closing_the_answer_fails() -> None:
    class Unclosable(Stream):
        async def aclose(self) -> None:
            raise httpx.CloseError("broken pipe")

    assert (await exchanged(httpx.Response(503, stream=Unclosable()))).status == 503


# --- failures ---


def example(kind: type[Exception]) -> Exception:
    if kind is httpx.HTTPStatusError:
        return httpx.HTTPStatusError(SECRET, request=get(), response=httpx.Response(500))
    bare = issubclass(kind, httpx.StreamError) and kind is not httpx.StreamError
    return kind() if bare else kind(SECRET)


@pytest.mark.parametrize("kind", EXCEPTIONS)
async def test_every_exception_of_httpx_is_mapped_and_tells_whether_anything_was_sent(
    kind: type[Exception],
) -> None:
    failed = await failure(example(kind))
    unsent = {httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout}
    assert failed.sent == (kind not in unsent)
    assert failed.timed_out == issubclass(kind, httpx.TimeoutException)
    assert (SECRET in str(failed)) == (kind is httpx.ConnectError), "which says why in words"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (httpx.ConnectError("refused"), "no connection (refused)"),
        (httpx.ConnectTimeout(""), "no connection in time"),
        (httpx.PoolTimeout(""), "no connection in time"),
        (httpx.ReadTimeout(SECRET), "no complete answer within 5 s"),
        (TimeoutError(SECRET), "no complete answer within 5 s"),
        (httpx.RemoteProtocolError(SECRET), "no complete answer (RemoteProtocolError)"),
        (OSError(24, "Too many files"), "no complete answer (OSError: Too many files)"),
        (RuntimeError(SECRET), "no complete answer (RuntimeError in client_of.<locals>.handler)"),
        (UnicodeError(SECRET), "no complete answer (UnicodeError in client_of.<locals>.handler)"),
    ],
)
async def test_reason_is_told_without_what_an_exception_quotes(error: Exception, why: str) -> None:
    assert str(await failure(error)) == why


@pytest.mark.parametrize("event", ["request", "response"])
async def test_event_hook_that_raises_fails_the_exchange_and_is_named(event: str) -> None:
    async def defective_hook(_: object) -> None:
        raise LookupError(SECRET)

    failed = await failure(client_of(streamed(BODY), event_hooks={event: [defective_hook]}))
    assert str(failed).startswith("no complete answer (LookupError in ")
    assert str(failed).endswith("<locals>.defective_hook)")


@pytest.mark.parametrize("request_of", [None, get])
async def test_event_hook_that_can_not_connect_elsewhere_does_not_mean_that_nothing_was_sent(
    request_of: Callable[[], httpx.Request] | None,
) -> None:
    request = request_of() if request_of is not None else None

    async def reporting(_: httpx.Response) -> None:
        raise httpx.ConnectError("the collector is away", request=request)

    failed = await failure(client_of(streamed(BODY), event_hooks={"response": [reporting]}))
    assert failed.sent
    assert str(failed) == "no complete answer (ConnectError)"


async def test_closed_client_sends_nothing() -> None:
    client = client_of(streamed(BODY))
    await client.aclose()
    failed = await failure(client)
    assert (str(failed), failed.sent) == ("the HTTP client is closed", False)


@pytest.mark.parametrize("location", ["//", "http://[::1", "https://xn--0.b/", "http://\udcff/"])
async def test_location_that_is_no_address_raises_nothing_foreign(location: str) -> None:
    headers = httpx.Headers([(b"Location", location.encode("utf-8", "surrogateescape"))])
    with suppress(ExchangeError):
        assert (await exchanged(httpx.Response(302, headers=headers))).status == 302


@given(
    status=st.sampled_from([200, 302, 304, 404, 503]),
    body=st.binary(max_size=200) | st.sampled_from([gzip.compress(BODY), gzip.compress(BODY)[:-1]]),
    fields=st.lists(
        st.tuples(
            st.sampled_from([b"content-encoding", b"location", b"set-cookie", b"etag"]),
            st.binary(max_size=30) | st.sampled_from([b"gzip", b"deflate", b"//", b"["]),
        )
    ),
)
def test_whatever_a_server_answers_is_a_reply_or_a_failure(
    status: int, body: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    async def answered() -> None:
        response = httpx.Response(status, stream=Stream(body), headers=httpx.Headers(fields))
        reply = await exchanged(response, any_status=True)
        assert reply.status == status

    with suppress(ExchangeError):
        asyncio.run(answered())


# --- secrets ---


def echoing(request: httpx.Request) -> httpx.Response:
    said = request.headers["Authorization"]
    return streamed(said.encode() * 1000, 200, location=f"x:{said}")


def quoting(request: httpx.Request) -> httpx.Response:
    raise ValueError(request.headers["Authorization"])


def breaking(request: httpx.Request) -> httpx.Response:
    class Cut(Stream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield request.headers["Authorization"].encode()
            raise httpx.ReadError(request.headers["Authorization"])

    return httpx.Response(200, stream=Cut())


@pytest.mark.parametrize("answer", [echoing, quoting, breaking, never])
async def test_failure_shows_no_secret_in_its_text_its_frames_and_its_causes(
    answer: Callable[[httpx.Request], httpx.Response],
) -> None:
    failed = await failure(client_of(answer), timeout=0.2)
    assert failed.__cause__ is None
    assert failed.__context__ is None
    assert "exchange" in shown(failed)
    assert SECRET not in shown(failed)


# --- the time limit ---


async def test_time_limit_covers_a_client_that_never_answers() -> None:
    failed = await failure(client_of(never), timeout=0.05)
    assert str(failed) == "no complete answer within 0.05 s"
    assert failed.timed_out
    assert failed.sent


async def test_exchange_that_is_cancelled_stays_cancelled() -> None:
    arrived = asyncio.Event()

    async def arriving(request: httpx.Request) -> httpx.Response:
        arrived.set()
        return await never(request)

    task = asyncio.create_task(exchanged(client_of(arriving)))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- over a socket ---


@pytest.fixture
def server() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


async def over_a_socket(server: LocalTenant, **options: Any) -> Reply:
    request = new_request("GET", server.jwks_uri, {"Accept-Encoding": "gzip, deflate"})
    async with Clients(None).opened() as client:
        return await exchanged(client, request=request, **options)


async def test_server_on_a_socket_answers(server: LocalTenant) -> None:
    reply = await over_a_socket(server)
    assert reply.status == 200
    assert reply.body.startswith(b'{"keys"')


@pytest.mark.parametrize("in_process", [True, False])
async def test_body_that_drips_is_cut_at_the_time_limit(*, in_process: bool) -> None:
    """Each drip comes in time, all of them don't."""
    with LocalTenant(in_process=in_process, algorithm="ES256") as tenant:
        tenant.faults.drip(size=8, interval=0.05)
        client = httpx.AsyncClient(transport=tenant.transport) if in_process else None
        async with Clients(client).opened() as opened:
            failed = await failure(opened, request=get(tenant.jwks_uri), timeout=0.3)
    assert str(failed) == "no complete answer within 0.3 s"
    assert failed.timed_out


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("truncated", r"no complete answer \(RemoteProtocolError\)"),
        ("reset", r"no complete answer \(ReadError\)"),
        ("oversized", r"the answer is larger than 20000 bytes"),
        ("gzip_bomb", r"the answer is larger than 20000 bytes"),
    ],
)
async def test_broken_answer_on_a_socket_is_a_failure(
    server: LocalTenant, fault: str, why: str
) -> None:
    getattr(server.faults, fault)()
    with pytest.raises(ExchangeError, match=f"^{why}$") as failed:
        await over_a_socket(server)
    assert failed.value.sent


async def test_refused_connection_is_safe_to_repeat(server: LocalTenant) -> None:
    server.stop()
    with pytest.raises(ExchangeError, match=r"^no connection \(.+\)$") as failed:
        await over_a_socket(server)
    assert not failed.value.sent
    assert not failed.value.timed_out


async def test_full_pool_is_given_up_sooner_and_is_safe_to_repeat(server: LocalTenant) -> None:
    hold = server.faults.hold()
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(verify=False, trust_env=False, limits=limits) as client:
        other = asyncio.create_task(client.get(server.jwks_uri, timeout=60))
        await hold.arrived.wait()
        request = get(server.jwks_uri)
        failed = await failure(client, request=request, timeout=60.0, connect_timeout=0.1)
        hold.release()
        await other
    assert str(failed) == "no connection in time"
    assert failed.timed_out
    assert not failed.sent
