"""Bearer tokens in HTTP headers: read the credentials, word the refusal (RFC 6750).

Pure functions on header values; nothing here knows a web framework.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from jwks_guard.errors import (
    ConfigurationError,
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    JWKSGuardError,
    KeysUnavailableError,
)

Header: TypeAlias = tuple[bytes, bytes]

_B64TOKEN_CHARACTERS = (string.ascii_letters + string.digits + "-._~+/").encode()
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_QUOTABLE = re.compile(r"[\x20-\x7e]*")
LONG, _MOST_BLANKS = 4096, 64
_LONGEST_RETRY_AFTER = 86_400.0


class MissingCredentialsError(JWKSGuardError):
    """The request carries no bearer token; the middleware answers it and never lets it out."""

    code = "missing_credentials"
    http_status = 401


Refused: TypeAlias = (
    MissingCredentialsError
    | InvalidRequestError
    | InvalidTokenError
    | InsufficientScopeError
    | KeysUnavailableError
)
"""The errors that are an answer to the client; any other is a fault of this service."""

REFUSED = (
    MissingCredentialsError,
    InvalidRequestError,
    InvalidTokenError,
    InsufficientScopeError,
    KeysUnavailableError,
)


def bearer_token(headers: Iterable[Header]) -> bytes | None:
    """The token of the request's one Authorization header; None if there is no such header.

    `headers` are ASGI's: lower-case names. Only RFC 6750 section 2.1 is supported: a token in the
    query or in a form body ends up in logs and histories, and is no credential here.

    Raises:
        MissingCredentialsError: the header is of another scheme, or empty.
        InvalidRequestError: two headers, or no b64token after `Bearer`.

    """
    value: bytes | None = None
    for name, content in headers:
        if name == b"authorization":
            if value is not None:  # which one a proxy in front looked at can't be known
                raise InvalidRequestError("the request has more than one Authorization header")
            value = content
    if value is None:
        return None
    if len(value) > LONG:
        require_terse(value)
    scheme, _, rest = value.strip(b" \t").partition(b" ")
    if scheme.lower() != b"bearer":
        raise MissingCredentialsError("the Authorization header is not of the scheme Bearer")
    return b64token(rest.lstrip(b" "))


def require_terse(value: bytes) -> None:
    """Raise InvalidRequestError for many blanks around the scheme, or much padding at the end.

    To strip these takes up to 8 ns for each, and servers let 65,000 through; up to LONG they do not
    matter.
    """
    begin = value[:_MOST_BLANKS].lstrip(b" \t")
    credentials = value[_MOST_BLANKS - len(begin) :].partition(b" ")[2]
    for part in (value[:_MOST_BLANKS], value[-_MOST_BLANKS:], credentials[:_MOST_BLANKS]):
        if part and not part.strip(b" \t="):
            raise InvalidRequestError("the credentials have too many blanks or padding")


def b64token(value: bytes) -> bytes:
    """`value`, which has the syntax of a bearer token (RFC 6750 section 2.1).

    Raises:
        InvalidRequestError: it has not.

    """
    characters = value.rstrip(b"=")
    # What deleting leaves over; a regular expression takes three times as long on every request.
    if not characters or characters.translate(None, _B64TOKEN_CHARACTERS):
        if value[:7].lower() == b"bearer ":
            raise InvalidRequestError("the credentials begin with `Bearer ` once more")
        raise InvalidRequestError("the bearer credentials are not one b64token")
    return value


class Granted(Protocol):
    """What a token grants."""

    @property
    def scopes(self) -> frozenset[str]:
        """To the client."""
        ...

    @property
    def permissions(self) -> frozenset[str]:
        """To its user."""
        ...


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a token has to grant: all of `scopes`, one of `any_scopes`, all of `permissions`.

    Scopes are what the client was granted, permissions what its user may do (Auth0 RBAC): neither
    counts for the other.
    """

    scopes: tuple[str, ...] = ()
    any_scopes: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.scopes or self.any_scopes or self.permissions)

    def check(self, token: Granted) -> None:
        """Raise InsufficientScopeError unless `token` is enough; it names scopes that would be."""
        scopes = token.scopes
        one = not self.any_scopes or not scopes.isdisjoint(self.any_scopes)
        if not one or not scopes.issuperset(self.scopes):
            # Of several that would do, the first: no client should ask for more than it needs.
            wanted = self.scopes if one else (*self.scopes, *self.any_scopes[:1])
            raise InsufficientScopeError("the token does not grant the required scopes", wanted)
        if self.permissions and not token.permissions.issuperset(self.permissions):
            raise InsufficientScopeError("the token does not grant every required permission")


def requirement(
    scopes: Iterable[str] = (), any_scopes: Iterable[str] = (), permissions: Iterable[str] = ()
) -> Requirement:
    """The requirement that required_scopes, any_scopes and required_permissions make.

    Raises:
        ConfigurationError: one of them is a single string instead of a list, or has items that can
            be none.

    """
    return Requirement(
        scope_tokens(scopes),
        scope_tokens(any_scopes, "any_scopes"),
        _permissions(permissions),
    )


def scope_tokens(values: Iterable[str], name: str = "required_scopes") -> tuple[str, ...]:
    """`values` as configured under `name`, each a scope-token of RFC 6749 section 3.3.

    Raises:
        ConfigurationError: a single string instead of a list, or a value with white space,
            quotes, a backslash or anything outside ASCII.

    """
    if isinstance(values, str):
        raise ConfigurationError(f"{name} is a string; write a list: ['read:things']")
    tokens = tuple(values)
    for token in tokens:
        if not isinstance(token, str) or _SCOPE_TOKEN.fullmatch(token) is None:
            raise ConfigurationError(
                f"{name} holds {token!r}; write one scope per item, in printable ASCII "
                "without spaces, quotes and backslashes"
            )
    return tokens


def _permissions(values: Iterable[str]) -> tuple[str, ...]:
    permissions = () if isinstance(values, str) else tuple(values)
    if isinstance(values, str) or not all(isinstance(p, str) and p for p in permissions):
        raise ConfigurationError("required_permissions must be a list of strings: ['read:things']")
    return permissions


def quotable_realm(realm: str) -> str:
    """`realm`, which can stand in a quoted-string (RFC 9110 section 5.6.4).

    Raises:
        ConfigurationError: it has control characters or anything outside ASCII.

    """
    if _QUOTABLE.fullmatch(realm) is None:
        raise ConfigurationError(f"realm is {realm!r}; write it in printable ASCII")
    return realm


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer to a request that is not let through."""

    status: int
    headers: tuple[Header, ...]
    body: bytes


_GENERIC = {
    400: ("invalid_request", "The request's credentials are malformed."),
    401: ("invalid_token", "The access token is not valid."),
    403: ("insufficient_scope", "The access token does not grant what this request needs."),
    429: ("temporarily_unavailable", "This access token can't be verified at the moment."),
    503: ("temporarily_unavailable", "Access tokens can't be verified at the moment."),
}
_NO_CREDENTIALS = ("unauthorized", "This request needs a bearer token.")


def refusal(error: Refused, *, realm: str | None = None, debug: bool = False) -> Refusal:
    """The answer to a request that failed with `error` (RFC 6750 section 3).

    Status, challenge and a JSON body say no more than the kind of refusal: what exactly is wrong
    with a token helps an attacker. With `debug` the body has the error's code and message.
    503 and 429 say nothing of the token, so they carry Retry-After (whole seconds) and no
    challenge.
    """
    missing = isinstance(error, MissingCredentialsError)
    kind, description = _NO_CREDENTIALS if missing else _GENERIC[error.http_status]
    content = {"error": kind, "error_description": description}
    if debug:
        content |= {"error_description": str(error), "code": error.code}
    body = json.dumps(content).encode()
    if isinstance(error, KeysUnavailableError):
        reason = (b"retry-after", b"%d" % _retry_after(error.retry_after))
    else:
        # RFC 6750 section 3.1: a request without credentials gets no error code
        params = {} if missing else {"error": kind, "error_description": description}
        if isinstance(error, InsufficientScopeError) and error.required:
            params["scope"] = " ".join(error.required)
        reason = (b"www-authenticate", _challenge(realm, params))
    headers = (
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        reason,
    )
    return Refusal(error.http_status, headers, body)


def _challenge(realm: str | None, params: dict[str, str]) -> bytes:
    named = params if realm is None else {"realm": realm, **params}
    return ("Bearer " + ", ".join(f"{k}={_quoted(v)}" for k, v in named.items())).rstrip().encode()


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _retry_after(seconds: float) -> int:
    return math.ceil(min(_LONGEST_RETRY_AFTER, max(1.0, seconds)))
