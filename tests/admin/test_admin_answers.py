"""What is made of every kind of answer, how long is waited, and that no answer gets through."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jwks_guard import JWKSGuardError
from jwks_guard.admin import SigningKeysClient, StaticToken
from jwks_guard.admin.answers import api_error, grant_error
from jwks_guard.admin.management import ManagementAPI
from jwks_guard.errors import (
    ForbiddenError,
    ManagementAPIError,
    NotFoundError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
)
from jwks_guard.net.exchange import Reply
from jwks_guard.testing import LocalTenant
from tests.admin.support import (
    AUTH,
    BEARER,
    CREDENTIALS,
    HTML,
    KEY_SET,
    KEYS,
    ROTATE,
    SECRET,
    TOKEN,
    Naps,
    Scripted,
    answer,
    client_of,
    grant,
    scripted,
    shown,
)
from tests.support import HandClock

NOW = HandClock().wall
Call = Callable[[SigningKeysClient], Awaitable[object]]


# --- the error that an answer stands for ---


def body(status: int, message: object = "Because", code: object = None) -> dict[str, object]:
    told = {"statusCode": status, "error": "Oh", "message": message, "errorCode": code}
    return {name: value for name, value in told.items() if value is not None}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ManagementAPIError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ManagementAPIError),
        (429, RateLimitedError),
        (500, UnavailableError),
        (503, UnavailableError),
    ],
)
@pytest.mark.parametrize("code", [None, "a_code", 5, {"a": 1}])
async def test_status_chooses_the_error_and_the_body_tells_code_and_reason(
    server: Scripted, status: int, kind: type[ManagementAPIError], code: object
) -> None:
    server.on("GET", KEYS, answer(status, body(status, code=code)))
    async with client_of(server, retries=0) as keys:
        with pytest.raises(ManagementAPIError, match=r'\("Because"\)') as refused:
            await keys.list()
    assert type(refused.value) is kind
    assert refused.value.status == status
    assert refused.value.error_code == (code if isinstance(code, str) else None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 503])
@pytest.mark.parametrize(
    "content",
    [
        *(b"", HTML, b"null", b"[]", b"5", b"{", b"\xff", b'{"message": 5}', b'{"message": null}'),
        *(b'{"message": ""}', b'{"message": ["a"], "errorCode": []}', b"[" * 5_000),
    ],
)
async def test_body_that_tells_nothing_leaves_the_error_of_the_status(
    server: Scripted, status: int, content: bytes
) -> None:
    server.on("GET", KEYS, answer(status, content))
    async with client_of(server, retries=0) as keys:
        with pytest.raises(ManagementAPIError) as refused:
            await keys.list()
    assert (refused.value.status, refused.value.error_code) == (status, None)
    assert "(" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", HTML, b"[]", b"\xff", b'"denied"'])
@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, UnauthorizedError), (403, ForbiddenError), (404, ManagementAPIError)],
)
async def test_refusal_that_is_not_the_tenants_own_is_not_blamed_on_scopes_or_keys(
    server: Scripted, status: int, kind: type[ManagementAPIError], content: bytes
) -> None:
    server.on("GET", KEYS, answer(status, content))
    async with client_of(server, retries=0) as keys:
        with pytest.raises(ManagementAPIError, match="a firewall or a proxy on the way") as refused:
            await keys.list()
    assert type(refused.value) is kind
    assert "Grant" not in str(refused.value)
    assert "such signing key" not in str(refused.value)
    if isinstance(refused.value, ForbiddenError):
        assert refused.value.required == ()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refusal_of_a_token_that_is_not_the_tenants_own_is_not_blamed_on_the_client(
    status: int,
) -> None:
    error = grant_error(Reply(status, {}, HTML), NOW, None)
    assert str(error).startswith(f"The token endpoint answered {status} ")
    assert "a firewall or a proxy on the way" in str(error)


async def test_refusal_in_gzip_is_read_like_another(server: Scripted) -> None:
    content = gzip.compress(json.dumps(body(403, code="insufficient_scope")).encode())
    server.on("GET", KEYS, answer(403, content, content_encoding="gzip"))
    async with client_of(server) as keys:
        with pytest.raises(ForbiddenError) as refused:
            await keys.list()
    assert refused.value.error_code == "insufficient_scope"


@pytest.mark.parametrize(
    ("message", "required"),
    [
        ("Insufficient scope, expected any of: read:signing_keys", ("read:signing_keys",)),
        ("Insufficient scope, expected any of: a:b,c:d", ("a:b", "c:d")),
        ("Insufficient scope, expected any of: a:b, c:d.", ("a:b", "c:d")),
        ("Insufficient scope, expected any of: ", ("read:signing_keys",)),
        ("Insufficient scope, expected any of: <script>", ("read:signing_keys",)),
        ("No", ("read:signing_keys",)),
        (None, ("read:signing_keys",)),
        (5, ("read:signing_keys",)),
        ("x" * 2_000 + "expected any of: a:b", ("read:signing_keys",)),
    ],
)
async def test_missing_scope_is_named_for_it_to_be_granted(
    server: Scripted, message: object, required: tuple[str, ...]
) -> None:
    server.on("GET", KEYS, answer(403, body(403, message)))
    async with client_of(server) as keys:
        with pytest.raises(ForbiddenError, match=f"Grant {' and '.join(required)} to") as refused:
            await keys.list()
    assert refused.value.required == required


async def test_scopes_of_each_call_are_those_of_the_real_tenant(
    tenant: LocalTenant, naps: Naps
) -> None:
    read = "read:signing_keys"
    tenant.rotate()
    previous = tenant.key("previous").kid
    cases: list[tuple[str, Call, tuple[str, ...]]] = [
        ("", lambda keys: keys.list(), (read,)),
        ("", lambda keys: keys.get("any"), (read,)),
        (read, lambda keys: keys.rotate(), ("create:signing_keys", "update:signing_keys")),
        (read, lambda keys: keys.revoke(previous), ("update:signing_keys",)),
    ]
    for scope, call, required in cases:
        token = tenant.token(audience=tenant.management_audience, scope=scope)
        async with client_of(tenant, naps, auth=StaticToken(token)) as keys:
            with pytest.raises(ForbiddenError) as refused:
                await call(keys)
        assert (refused.value.required, refused.value.error_code) == (
            required,
            "insufficient_scope",
        )


@pytest.mark.parametrize(
    ("message", "quoted"),
    [
        ("a\nb\x1b[31m\u202e", "a b [31m "),
        ("x" * 5_000, "x" * 200),
        ("x" * 195 + BEARER, "x" * 195 + BEARER[:5]),
        ("\N{SNOWMAN}", "\N{SNOWMAN}"),
    ],
)
async def test_reason_is_quoted_fit_for_a_terminal(
    server: Scripted, message: str, quoted: str
) -> None:
    server.on("GET", KEYS, answer(400, body(400, message)))
    async with client_of(server) as keys:
        with pytest.raises(ManagementAPIError) as refused:
            await keys.list()
    assert f'("{quoted}")' in str(refused.value)


def test_scopes_are_looked_for_in_the_beginning_of_a_long_message_only() -> None:
    """The patterns take the square of its length: a few megabytes would take hours."""
    endless = body(403, "expected any of: " + "a" * 4_000_000)
    reply = Reply(403, {}, json.dumps(endless).encode())
    error = api_error(reply, NOW, ("read:signing_keys",), BEARER)
    assert isinstance(error, ForbiddenError)
    assert error.required == ("read:signing_keys",)


# --- how long is waited ---


async def test_pauses_are_jittered_below_a_bound_that_doubles(server: Scripted, naps: Naps) -> None:
    server.on("GET", KEYS, answer(503))
    async with client_of(server, naps, retries=8) as keys:
        for _ in range(20):
            with pytest.raises(UnavailableError):
                await keys.list()
    for number in range(8):
        pauses = naps.seconds[number::8]
        bound = min(30.0, 0.5 * 2**number)
        assert all(0 <= pause <= bound for pause in pauses)
        assert len(set(pauses)) == 20
        assert max(pauses) > bound / 2


async def test_very_many_retries_never_wait_beyond_max_wait(naps: Naps) -> None:
    async def fail() -> None:
        raise UnavailableError("")

    async with httpx.AsyncClient(verify=False) as http:
        url = "https://tenant.test/"
        api = ManagementAPI(url, AUTH, http, 1.0, 1_100, 2.0, naps.clock, naps)
        with pytest.raises(UnavailableError):
            await api.repeated(fail)
    assert len(naps.seconds) == 1_100
    assert 1.0 < max(naps.seconds) <= 2.0


def dated(seconds: float) -> str:
    return formatdate(NOW + seconds, usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": dated(7)}, 7.0),
        ({"retry_after": "30"}, 30.0),
        ({"x_ratelimit_reset": f"{NOW + 7:.0f}"}, 7.0),
        ({"retry_after": "7", "x_ratelimit_reset": f"{NOW + 900:.0f}"}, 7.0),
        ({"retry_after": "soon", "x_ratelimit_reset": f"{NOW + 7:.0f}"}, 7.0),
    ],
)
async def test_time_that_the_tenant_names_is_waited(
    keys: SigningKeysClient,
    server: Scripted,
    naps: Naps,
    status: int,
    headers: dict[str, str],
    pause: float,
) -> None:
    for _ in range(3):
        server.on("GET", KEYS, answer(status, **headers), answer(200, KEY_SET))
        await keys.list()
        naps.clock.set_back(naps.seconds[-1])
    assert all(pause <= nap <= min(30.0, pause + 0.5) for nap in naps.seconds)
    assert len(set(naps.seconds)) == (1 if pause == 30.0 else 3)  # jittered, upwards only


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"retry_after": "-5"},
        {"retry_after": "0"},
        {"retry_after": "1e3"},
        {"retry_after": "soon"},
        {"retry_after": ""},
        {"retry_after": "9" * 400},
        {"retry_after": "9" * 5_000},
        {"retry_after": dated(-900)},
        {"retry_after": "Fri, 99 Foo 2027 08:00:30 GMT"},
        {"retry_after": "\xb2"},
        {"x_ratelimit_reset": f"{NOW - 900:.0f}"},
        {"x_ratelimit_reset": "-1"},
        {"x_ratelimit_reset": "soon"},
        {"x_ratelimit_reset": "9" * 400},
        {"x_ratelimit_reset": "\xb2"},
    ],
)
async def test_time_that_is_past_or_unreadable_leaves_the_usual_pause(
    keys: SigningKeysClient, server: Scripted, naps: Naps, status: int, headers: dict[str, str]
) -> None:
    server.on("GET", KEYS, answer(status, **headers), answer(200, KEY_SET))
    await keys.list()
    (pause,) = naps.seconds
    assert 0 <= pause <= 0.5


@pytest.mark.parametrize(
    "headers",
    [
        {"retry_after": "31"},
        {"retry_after": dated(31)},
        {"x_ratelimit_reset": f"{NOW + 31:.0f}"},
    ],
)
@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitedError), (503, UnavailableError)])
async def test_time_beyond_max_wait_is_raised_at_once(
    keys: SigningKeysClient,
    server: Scripted,
    naps: Naps,
    headers: dict[str, str],
    status: int,
    kind: type[ManagementAPIError],
) -> None:
    server.on("GET", KEYS, answer(status, **headers))
    with pytest.raises(kind) as refused:
        await keys.list()
    assert refused.value.retry_after == 31.0
    assert naps.seconds == []
    assert server.count("GET") == 1


async def test_rate_limit_error_says_when_there_is_room_again(
    keys: SigningKeysClient, server: Scripted
) -> None:
    server.on("GET", KEYS, answer(429, retry_after="86400"))
    with pytest.raises(RateLimitedError, match=r"Try again at 2027-01-16 08:00:00 UTC") as refused:
        await keys.list()
    assert refused.value.reset_at is not None
    assert refused.value.reset_at.timestamp() == NOW + 86_400
    assert refused.value.retry_after == 86_400.0


async def test_time_that_no_calendar_has_is_raised_at_once_without_a_date(
    keys: SigningKeysClient, server: Scripted, naps: Naps
) -> None:
    server.on("GET", KEYS, answer(429, retry_after="9" * 30))
    with pytest.raises(RateLimitedError, match="Try again later") as refused:
        await keys.list()
    assert refused.value.reset_at is None
    assert refused.value.retry_after == 1e30
    assert naps.seconds == []


async def test_real_rate_limit_is_waited_for_by_its_own_reset(
    tenant: LocalTenant, naps: Naps
) -> None:
    async with client_of(tenant, naps) as keys:
        for _ in range(51):
            await keys.list()
    assert tenant.requests.count(KEYS) == 52
    assert [int(pause) for pause in naps.seconds] == [1]


# --- whatever an answer is ---


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"{}", b"5", b'"keys"', HTML, b"\xff\xfe", b"\xef\xbb\xbf[]", b"[", b"[5]"),
        *(b"[{}]", b'[{"kid": 5}]', b'[{"kid": "a", "current": "yes"}]', b'[{"kid": "\xff"}]'),
        *(b"[" * 9_000 + b"]" * 9_000, b'[{"kid": "a", "n": 1' + b"0" * 5_000 + b"}]"),
        *(b'[{"kid": "\\ud800"}]', b'[{"kid": "a", "n": NaN}]', b'[{"kid": "a"}] trailing'),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 206])
async def test_answer_that_is_no_list_of_keys_is_an_error_of_the_api_and_final(
    keys: SigningKeysClient, server: Scripted, naps: Naps, status: int, body: bytes
) -> None:
    server.on("GET", KEYS, answer(status, body))
    with pytest.raises(ManagementAPIError) as failed:
        await keys.list()
    assert type(failed.value) is ManagementAPIError
    assert failed.value.status in (200, status)
    assert naps.seconds == []


@pytest.mark.parametrize("body", [KEY_SET, [], {}, None, {"kid": None}, {"kid": 5}])
async def test_answer_that_is_not_one_key_is_an_error_of_the_api(
    keys: SigningKeysClient, server: Scripted, body: object
) -> None:
    server.on("GET", f"{KEYS}/one", answer(200, body))
    with pytest.raises(ManagementAPIError):
        await keys.get("one")


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 abc Odd\r\n\r\n", HTML, b"\0" * 99),
        *(b"HTTP/1.1 200 OK\r\nAuthorization echo\r\n\r\n", b"HTTP/1.1 99 OK\r\n\r\n"),
        *(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"),
        *(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 20\r\n\r\n",),
        *(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",),
        *(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",),
        *(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n[]",),
        *(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n[]",),
    ],
)
async def test_answer_that_is_no_http_is_unavailable(
    keys: SigningKeysClient, server: Scripted, raw: bytes
) -> None:
    server.on("GET", KEYS, raw)
    with pytest.raises(UnavailableError) as failed:
        await keys.list()
    assert failed.value.sent


async def test_answer_of_every_status_raises_our_errors_only(
    keys: SigningKeysClient, server: Scripted
) -> None:
    for status in (*range(200, 600, 7), 600, 999):
        server.on("GET", KEYS, answer(status, HTML))
        with pytest.raises(ManagementAPIError) as failed:
            await keys.list()
        assert f"{failed.value.status}" in str(failed.value) or status in (401, 403, 404)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kid", "cert", "current", "next", "message", "errorCode", "error"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
BODIES = (
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.sampled_from([json.dumps(KEY_SET).encode(), json.dumps(KEY_SET[2]).encode(), HTML])
)
STATUSES = st.sampled_from([200, 200, 201, 204, 302, 400, 401, 403, 404, 409, 429, 500, 503])
HEADERS = st.dictionaries(
    st.sampled_from(["retry_after", "x_ratelimit_reset", "content_encoding", "location"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
    | st.sampled_from(["gzip", "1", "99999999999999999999", "//", "["]),
)
REPLIES = st.builds(lambda s, b, h: answer(s, b, **h), STATUSES, BODIES, HEADERS)
CALLS: list[Call] = [
    lambda keys: keys.list(),
    lambda keys: keys.get("previous"),
    lambda keys: keys.rotate(),
    lambda keys: keys.revoke("previous"),
    lambda keys: keys.published_kids(),
]


@settings(max_examples=40)
@given(replies=st.lists(REPLIES, min_size=5, max_size=5), tokens=st.lists(REPLIES, max_size=2))
async def test_whatever_the_tenant_answers_only_our_errors_come_out_and_no_secret(
    replies: list[bytes], tokens: list[bytes]
) -> None:
    one = f"{KEYS}/previous"
    async with scripted() as server:
        server.on("GET", KEYS, *replies[:1], answer(200, KEY_SET))
        server.on("GET", one, replies[1])
        server.on("POST", ROTATE, replies[2])
        server.on("PUT", f"{one}/revoke", replies[3])
        server.on("GET", "/.well-known/jwks.json", replies[4])
        server.on("POST", TOKEN, *tokens, grant())
        async with client_of(server, auth=CREDENTIALS, retries=1) as keys:
            done = [await asyncio.gather(call(keys), return_exceptions=True) for call in CALLS]
    for (outcome,) in done:
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, JWKSGuardError)
            assert SECRET not in shown(outcome)
            assert BEARER not in shown(outcome)


@settings(max_examples=40)
@given(raw=st.binary(max_size=80), head=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n"]))
async def test_whatever_bytes_come_back_only_our_errors_come_out(raw: bytes, head: bytes) -> None:
    async with scripted() as server:
        server.on("GET", KEYS, head + raw)
        async with client_of(server, retries=0) as keys:
            (raised,) = await asyncio.gather(keys.list(), return_exceptions=True)
    assert isinstance(raised, list | JWKSGuardError)
    assert isinstance(raised, list) or BEARER not in shown(raised)
