"""Where a token may be, and that nothing else counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from jwks_guard import (
    ConfigurationError,
    FromCookie,
    FromHeader,
    InvalidRequestError,
    MissingCredentialsError,
    OriginNotAllowedError,
    RequestRefusedError,
)
from jwks_guard.asgi.connection import ConnectionRequest
from jwks_guard.verify.sources import (
    HTTPRequest,
    Request,
    find_token,
    header_fields,
    token_sources,
)

APP = "https://app.acme.com"
COOKIE = FromCookie("token", origins=[APP, "http://localhost:3000"])


def request(
    *headers: tuple[str, str], method: str = "GET", url: str = "https://api.acme.com/things"
) -> HTTPRequest:
    return HTTPRequest(method, url, header_fields(headers))


# --- headers ---


@pytest.mark.parametrize(
    ("source", "headers", "token"),
    [
        (FromHeader(), [("Authorization", "Bearer a.b.c")], b"a.b.c"),
        (FromHeader("authorization"), [("AUTHORIZATION", "bearer a.b.c")], b"a.b.c"),
        (FromHeader(), [("X-Token", "a.b.c")], None),
        (FromHeader("X-Token"), [("x-token", " a.b.c ")], b"a.b.c"),
        (FromHeader("X-Token"), [("x-token", "")], None),
        (FromHeader("X-Token"), [("Authorization", "Bearer a.b.c")], None),
        (FromHeader("X-Auth", scheme="Bearer"), [("x-auth", "bearer a.b.c")], b"a.b.c"),
        (FromHeader(scheme="JWT"), [("Authorization", "jwt a.b.c")], b"a.b.c"),
        (FromHeader(scheme=None), [("Authorization", "a.b.c")], b"a.b.c"),
    ],
)
def test_token_is_taken_from_the_configured_header_alone(
    source: FromHeader, headers: list[tuple[str, str]], token: bytes | None
) -> None:
    assert source(request(*headers)) == token


@pytest.mark.parametrize(
    ("source", "headers", "error"),
    [
        (FromHeader(), [("Authorization", "Basic dTpw")], MissingCredentialsError),
        (FromHeader("X-Auth", scheme="Bearer"), [("X-Auth", "a.b.c")], MissingCredentialsError),
        (FromHeader(), [("Authorization", "Bearer ")], InvalidRequestError),
        (FromHeader("X-Token"), [("X-Token", "a"), ("x-token", "b")], InvalidRequestError),
        (FromHeader("X-Token"), [("X-Token", " " * 65_000)], InvalidRequestError),
    ],
)
def test_header_with_anything_else_is_refused(
    source: FromHeader, headers: list[tuple[str, str]], error: type[Exception]
) -> None:
    with pytest.raises(error):
        source(request(*headers))


@pytest.mark.parametrize("name", ["", "X Token", "X-Tökén", "X:Token", None])
def test_what_is_no_name_of_a_header_is_a_configuration_error(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="FromHeader: the name of a header can't be"):
        FromHeader(name)


# --- cookies ---


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([("Cookie", "token=a.b.c")], b"a.b.c"),
        ([("Cookie", "theme=dark; token=a.b.c ;lang=en")], b"a.b.c"),
        ([("Cookie", "theme=dark"), ("Cookie", "token=a.b.c")], b"a.b.c"),  # HTTP/2
        ([("Cookie", "token=")], None),
        ([("Cookie", "Token=a.b.c; xtoken=d")], None),
        ([("Cookie", "token")], None),
        ([("Authorization", "Bearer a.b.c")], None),
    ],
)
def test_token_is_taken_from_the_cookie_of_that_name(
    headers: list[tuple[str, str]], token: bytes | None
) -> None:
    assert COOKIE(request(*headers)) == token


def test_cookie_that_was_set_twice_is_an_invalid_request() -> None:
    for headers in (
        [("Cookie", "token=a.b.c; token=d.e.f")],
        [("Cookie", "token=a"), ("Cookie", "token=a")],
        [("Cookie", "token=; token=a.b.c")],
    ):
        with pytest.raises(InvalidRequestError, match="two cookies"):
            COOKIE(request(*headers))


UPGRADE = ("Upgrade", "WebSocket")


@pytest.mark.parametrize(
    "sent",
    [
        {"method": "POST"},
        {"method": "PUT"},
        {"method": "DELETE"},
        {"method": "PATCH"},
        {"method": "CONNECT"},
        {"method": "post"},
        {"method": "PROPFIND"},
        {"url": "wss://api.acme.com/live"},
        {"url": "ws://api.acme.com/live"},
    ],
)
@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "https://evil.test",
        "http://app.acme.com",
        "https://app.acme.com.evil.test",
        "https://app.acme.com:8443",
        "https://app.acme.com/",
        "HTTPS://APP.ACME.COM",
        "https://evil.test https://app.acme.com",
    ],
)
def test_page_of_another_origin_can_neither_change_anything_nor_open_a_websocket(
    sent: dict[str, str], origin: str | None
) -> None:
    headers = [("Cookie", "token=a.b.c")] + ([] if origin is None else [("Origin", origin)])
    with pytest.raises(OriginNotAllowedError) as caught:
        COOKIE(request(*headers, **sent))
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize("origin", [APP, "http://localhost:3000"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("url", ["https://api.acme.com/", "wss://api.acme.com/live"])
def test_page_of_an_allowed_origin_can(origin: str, method: str, url: str) -> None:
    headers = [("Cookie", "token=a.b.c"), ("Origin", origin)]
    assert COOKIE(request(*headers, method=method, url=url)) == b"a.b.c"


def test_handshake_is_known_by_its_upgrade_header_too() -> None:
    with pytest.raises(OriginNotAllowedError):
        COOKIE(request(("Cookie", "token=a.b.c"), UPGRADE))
    assert COOKIE(request(("Cookie", "token=a.b.c"), UPGRADE, ("Origin", APP))) == b"a.b.c"


def test_more_cookies_than_browsers_send_are_an_invalid_request() -> None:
    others = "; ".join(f"c{number}=x" for number in range(999))
    assert COOKIE(request(("Cookie", f"{others}; token=good"))) == b"good"
    # A loop over 65,000 of them takes a hundred times as long as verifying a token.
    for cookies in (";" * 65_000, "token;" * 10_000, f"{others}; {others}; token=good"):
        with pytest.raises(InvalidRequestError, match="too many cookies"):
            COOKIE(request(("Cookie", cookies)))
    with pytest.raises(InvalidRequestError, match="too many cookies"):
        COOKIE(request(*[("Cookie", ";" * 100)] * 11))  # as HTTP/2 may part them


def test_two_origin_headers_are_an_invalid_request() -> None:
    headers = [("Cookie", "token=a"), ("Origin", APP), ("Origin", "https://evil.test")]
    with pytest.raises(InvalidRequestError):
        COOKIE(request(*headers, method="POST"))


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_needs_no_origin(method: str) -> None:
    assert COOKIE(request(("Cookie", "token=a.b.c"), method=method)) == b"a.b.c"


def test_origins_are_compared_as_browsers_write_them() -> None:
    source = FromCookie("token", origins=["HTTPS://App.Acme.com:443/", "http://[::1]:8000"])
    for origin in ("https://app.acme.com", "http://[::1]:8000"):
        headers = [("Cookie", "token=a.b.c"), ("Origin", origin)]
        assert source(request(*headers, method="POST")) == b"a.b.c"


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "https://", "app.acme.com", "https://app.acme.com/page"),
        *("https://*.acme.com", "https://a@app.acme.com", "https://app.acme.com?x"),
        *("ftp://app.acme.com", "https://ä.com"),
    ],
)
def test_what_is_no_origin_is_a_configuration_error(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="is no origin; write scheme and host"):
        FromCookie("token", origins=[origin])


@pytest.mark.parametrize("origins", [[], "https://app.acme.com", None])
def test_cookie_without_a_list_of_origins_is_a_configuration_error(origins: Any) -> None:
    with pytest.raises(ConfigurationError, match="FromCookie: origins must be a list"):
        FromCookie("token", origins=origins)


# --- several, and functions ---


def test_only_configured_sources_count() -> None:
    sources = token_sources(COOKIE)
    both = request(("Authorization", "Bearer d.e.f"), ("Cookie", "token=a.b.c"))
    assert find_token(sources, both) == b"a.b.c"
    assert find_token(sources, request(("Authorization", "Bearer d.e.f"))) is None


def test_two_sources_that_carry_a_token_are_an_invalid_request() -> None:
    sources = token_sources([FromHeader(), COOKIE])
    header, cookie = ("Authorization", "Bearer a.b.c"), ("Cookie", "token=a.b.c")
    assert find_token(sources, request(header)) == find_token(sources, request(cookie)) == b"a.b.c"
    with pytest.raises(InvalidRequestError, match="two tokens"):
        find_token(sources, request(header, cookie))


def test_function_sees_the_request_and_gives_text_or_bytes() -> None:
    seen: list[Request] = []

    def from_path(request: Request) -> str:
        seen.append(request)
        return request.url.rpartition("/")[2]

    sources = token_sources(from_path)
    sent = HTTPRequest("GET", "https://api.acme.com/feeds/a.b.c", (), native="the framework's")
    assert find_token(sources, sent) == b"a.b.c"
    assert seen == [sent]
    assert find_token(token_sources(lambda _: "tökén"), sent) == b"t?k?n"


@pytest.mark.parametrize("given", [True, 5, ["a.b.c"], object()])
def test_function_that_gives_anything_else_is_a_configuration_error(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="it must give the token as str or bytes"):
        find_token(token_sources(lambda _: given), request())


async def from_elsewhere(_: Request) -> str:
    return "a.b.c"


@pytest.mark.parametrize("token_from", [[], "Authorization", 5, [FromHeader(), None]])
def test_what_is_no_source_is_a_configuration_error(token_from: Any) -> None:
    with pytest.raises(ConfigurationError, match="token_from must be"):
        token_sources(token_from)


def test_async_function_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="an async function can't be"):
        token_sources(from_elsewhere)  # type: ignore[arg-type]


def test_sources_that_read_the_same_are_equal() -> None:
    assert token_sources(None) == (FromHeader("AUTHORIZATION", scheme="bearer"),)
    assert FromHeader() != FromHeader("X-Token")
    assert FromCookie("token", origins=[APP]) == FromCookie("token", origins=[APP + "/"])
    assert len({FromHeader(), FromHeader("authorization"), COOKIE, COOKIE}) == 2


@given(
    st.lists(st.tuples(st.sampled_from([b"cookie", b"authorization", b"origin"]), st.binary())),
    st.sampled_from(["GET", "POST"]),
)
def test_no_headers_raise_a_foreign_error(headers: list[tuple[bytes, bytes]], method: str) -> None:
    sources = token_sources([FromHeader(), COOKIE])
    try:
        token = find_token(sources, HTTPRequest(method, "https://api", tuple(headers)))
    except RequestRefusedError:
        return
    assert token is None or isinstance(token, bytes)


@pytest.mark.parametrize("show", [repr, str, pretty_repr])
def test_request_shows_no_token_where_it_is_printed(show: Callable[[object], str]) -> None:
    headers = [(b"authorization", b"Bearer not-for-logs")]
    scope = {"type": "http", "method": "GET", "headers": headers}
    url = "https://api.test/?access_token=not-for-logs"
    for request in (ConnectionRequest(scope, headers), HTTPRequest("GET", url, tuple(headers))):
        assert "not-for-logs" not in show(request)
        assert "GET" in show(request)
