"""Where a request carries its token: a header, a cookie, a WebSocket's subprotocols."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any, Protocol, TypeAlias

from jwks_guard.base.arguments import require_strings
from jwks_guard.errors import (
    ConfigurationError,
    InvalidRequestError,
    OriginNotAllowedError,
)
from jwks_guard.net import urls
from jwks_guard.net.bearer import (
    LONG,
    Header,
    credentials,
    more_than_one,
    require_terse,
    single_header,
)

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_TCHAR = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MOST_COOKIES = 1000
"""Browsers keep fewer than 200 for one site."""
_ORIGIN_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_:/[]")

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]


class Request(Protocol):
    """A request as token sources see it."""

    @property
    def method(self) -> str:
        """The method, as sent; GET for the handshake of a WebSocket."""

    @property
    def url(self) -> str:
        """The URL, as far as the server knows it."""

    @property
    def websocket(self) -> bool:
        """Whether it is the handshake of a WebSocket."""

    @property
    def headers(self) -> Iterable[Header]:
        """The header fields in their order, with lower-case names, each as often as it was sent."""

    @property
    def native(self) -> Any:
        """What the framework has for the request: an ASGI scope, a Flask or Django request."""


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """A request by its parts; all but the method may carry the token, and are not in its repr."""

    method: str
    url: str = field(repr=False)
    headers: tuple[Header, ...] = field(repr=False)
    native: Any = field(default=None, repr=False)

    @property
    def websocket(self) -> bool:
        """Whether it is the handshake of a WebSocket (RFC 6455 section 4.1, RFC 8441)."""
        return self.url.startswith(("ws:", "wss:")) or any(
            name == b"upgrade" and b"websocket" in value.lower() for name, value in self.headers
        )


TokenSource: TypeAlias = Callable[[Request], "str | bytes | None"]
"""Gives the token of a request, None if it carries none here.

Called on the event loop, for each request: it must not block.
"""


def header_fields(headers: Headers) -> tuple[Header, ...]:
    """`headers` as pairs of bytes with lower-case names."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return tuple((_bytes(name).lower(), _bytes(value)) for name, value in pairs)


def _bytes(text: str | bytes) -> bytes:
    # Names and values are Latin-1 where a server gives text. Nothing else can be in a token.
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")


class FromHeader:
    """The token of a header: by default what follows `Bearer` in `Authorization` (RFC 6750).

    Arguments:
        name: another header, such as "X-Forwarded-Access-Token". Have the gateway that sets it
            remove what clients send under that name.
        scheme: the authentication scheme before the token, in any case; None where the token is
            the whole value, as it is by default in all headers but `Authorization`.

    Raises ConfigurationError for a name or scheme that HTTP does not allow.

    """

    __slots__ = ("_name", "_scheme", "_usual")

    def __init__(self, name: str = "Authorization", *, scheme: str | None = "") -> None:
        self._name = _token(name, "FromHeader: the name of a header")
        if scheme == "":
            scheme = "bearer" if self._name == b"authorization" else None
        self._scheme = None if scheme is None else _token(scheme, "FromHeader: a scheme")
        self._usual = None if self._scheme is None else self._scheme.title()

    @property
    def name(self) -> str:
        """The header's name, in lower case."""
        return self._name.decode()

    def __call__(self, request: Request) -> bytes | None:
        """The token of `request`.

        Raises MissingCredentialsError for another scheme, InvalidRequestError for two headers.
        """
        wanted, value = self._name, None
        for name, content in request.headers:  # as single_header: a call less for each request
            if name == wanted:
                if value is not None:
                    raise more_than_one(wanted)
                value = content
        if value is None:
            return None
        scheme, _, token = value.partition(b" ")
        # As nearly all clients write it; the rest, also how long blanks may be, is the other's.
        if scheme == self._usual and token.strip() == token != b"" and len(value) <= LONG:
            return token
        if self._scheme is not None:
            return credentials(value, self._scheme)
        if len(value) > LONG:
            require_terse(value)
        return value.strip(b" \t") or None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FromHeader):
            return NotImplemented
        return (self._name, self._scheme) == (other._name, other._scheme)

    def __hash__(self) -> int:
        return hash((self._name, self._scheme))


class FromCookie:
    """The token of a cookie, for pages that keep it out of reach of scripts (HttpOnly).

    A browser sends cookies with requests that any page makes. So a request that may change
    something (any method but GET, HEAD and OPTIONS), and the handshake of a WebSocket, need an
    `Origin` header with one of `origins`; else they are refused with 403. Pages of another origin
    can't read the answer to a GET unless CORS lets them.

    Arguments:
        name: the cookie's name.
        origins: the origins whose pages may send it, like "https://app.acme.com", that of this API
            itself included if it serves such pages.

    Raises ConfigurationError for a name that is no cookie's and for what is no origin.

    """

    __slots__ = ("_name", "_origins")

    def __init__(self, name: str, *, origins: Collection[str]) -> None:
        _token(name, "FromCookie: the name of a cookie")
        self._name = name.encode()
        require_strings("FromCookie: origins", origins)
        self._origins = frozenset(map(_origin, origins))

    @property
    def name(self) -> str:
        """The cookie's name."""
        return self._name.decode()

    def __call__(self, request: Request) -> bytes | None:
        """The token of `request`; an empty cookie is none.

        Raises OriginNotAllowedError for a page of another origin, InvalidRequestError for two
        cookies of the name, and for more than a thousand of all names.
        """
        found = [value for name, value in _cookies(request.headers) if name == self._name]
        if len(found) > 1:  # a sibling domain or another path may have set one of them
            raise InvalidRequestError("the request has two cookies of the token's name")
        if not found or not found[0]:
            return None
        if request.method not in _SAFE_METHODS or request.websocket:
            origin = single_header(request.headers, b"origin")
            if origin not in self._origins:
                raise OriginNotAllowedError(
                    "the token is in a cookie, and the request has no Origin header"
                    if origin is None
                    else "the token is in a cookie, and the request is of another origin than "
                    "those of FromCookie"
                )
        return found[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FromCookie):
            return NotImplemented
        return (self._name, self._origins) == (other._name, other._origins)

    def __hash__(self) -> int:
        return hash((self._name, self._origins))


def token_sources(
    token_from: TokenSource | Sequence[TokenSource] | None,
) -> tuple[TokenSource, ...]:
    """The sources that `token_from` configures: one, several, or the Authorization header.

    Raises ConfigurationError.
    """
    if token_from is None:
        return (FromHeader(),)
    sources = tuple(token_from) if isinstance(token_from, list | tuple) else (token_from,)
    if not sources or not all(map(callable, sources)):
        raise ConfigurationError(
            "token_from must be FromHeader(...), FromCookie(...), a function of the request, or a "
            "list of these."
        )
    for source in sources:
        if iscoroutinefunction(source):
            raise ConfigurationError("token_from: an async function can't be a token source.")
    return sources


def varying(sources: tuple[TokenSource, ...]) -> tuple[str, ...]:
    """The request headers that `sources` read, for `Vary`; those of functions are not known."""
    cookie = ("Cookie",) if any(isinstance(each, FromCookie) for each in sources) else ()
    return (*(each.name.title() for each in sources if isinstance(each, FromHeader)), *cookie)


def find_token(sources: tuple[TokenSource, ...], request: Request) -> bytes | None:
    """The one token of `request`; None if no source has one.

    Raises MissingCredentialsError for a header of another scheme, InvalidRequestError for two
    tokens, OriginNotAllowedError, and ConfigurationError for a source that gives anything else.
    """
    found = [token for source in sources if (token := as_bytes(source(request))) is not None]
    if len(found) > 1:  # which one others have looked at can't be known
        raise InvalidRequestError("the request carries two tokens")
    return found[0] if found else None


def as_bytes(token: object) -> bytes | None:
    """The token that a source gave; raises ConfigurationError for anything else."""
    if token is None or type(token) is bytes:
        return token
    if isinstance(token, str):
        return token.encode("ascii", "replace")
    raise ConfigurationError(
        f"token_from gave {type(token).__name__}; it must give the token as str or bytes, or None."
    )


def _cookies(headers: Iterable[Header]) -> Iterator[tuple[bytes, bytes]]:
    """The cookies by name (RFC 6265 section 4.2.1); HTTP/2 may part them into several fields."""
    count = 0
    for header, value in headers:
        if header == b"cookie":
            count += value.count(b";") + 1
            if count > _MOST_COOKIES:
                raise InvalidRequestError("the request has too many cookies")
            for pair in value.split(b";"):
                name, _, content = pair.partition(b"=")
                yield name.strip(b" \t"), content.strip(b" \t")


def _origin(text: str) -> bytes:
    serialized = urls.serialized_origin(text)
    if serialized is None or not _ORIGIN_CHARS.issuperset(serialized) or "@" in text:
        raise ConfigurationError(
            f"FromCookie: {text!r} is no origin; write scheme and host, 'https://app.acme.com'."
        )
    return serialized.encode()


def _token(text: object, what: str) -> bytes:
    """`text` in lower case, which has the syntax of a token (RFC 9110 section 5.6.2)."""
    if not isinstance(text, str) or not text or not _TCHAR.issuperset(text):
        raise ConfigurationError(f"{what} can't be {text!r}.")
    return text.lower().encode()
