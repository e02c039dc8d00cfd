"""Bearer tokens in HTTP headers (RFC 6750 section 2.1). Pure functions on header values."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import TypeAlias

from jwks_guard.errors import InvalidRequestError, MissingCredentialsError

Header: TypeAlias = tuple[bytes, bytes]

_B64TOKEN_CHARACTERS = (string.ascii_letters + string.digits + "-._~+/").encode()
LONG, _MOST_BLANKS = 4096, 64


def bearer_token(headers: Iterable[Header]) -> bytes | None:
    """The token of the request's one Authorization header; None if there is no such header.

    `headers` are ASGI's: lower-case names. A token in the query or in a form body ends up in logs
    and histories, and is no credential here.

    Raises:
        MissingCredentialsError: the header is of another scheme, or empty.
        InvalidRequestError: two headers, or no b64token after `Bearer`.

    """
    value = single_header(headers, b"authorization")
    return None if value is None else b64token(credentials(value))


def single_header(headers: Iterable[Header], name: bytes) -> bytes | None:
    """The value of the header `name`, in lower case; None if there is none.

    Raises:
        InvalidRequestError: it is there twice.

    """
    value: bytes | None = None
    for each, content in headers:
        if each == name:
            if value is not None:  # which one a proxy in front looked at can't be known
                raise more_than_one(name)
            value = content
    return value


def more_than_one(name: bytes) -> InvalidRequestError:
    """The error for a header that was sent twice."""
    return InvalidRequestError(f"the request has more than one {_title(name)} header")


def credentials(value: bytes, scheme: bytes = b"bearer") -> bytes:
    """What follows `scheme`, in lower case, in the value of an Authorization header.

    It need not be a b64token.

    Raises:
        MissingCredentialsError: the value is of another scheme, or empty.
        InvalidRequestError: nothing follows, or thousands of blanks or of padding characters.

    """
    if len(value) > LONG:
        require_terse(value)
    named, _, rest = value.strip(b" \t").partition(b" ")
    if named.lower() != scheme:
        raise MissingCredentialsError(
            f"the Authorization header is not of the scheme {_title(scheme)}"
        )
    token = rest.lstrip(b" ")
    if not token:
        raise InvalidRequestError(f"nothing follows {_title(scheme)} in the Authorization header")
    return token


def require_terse(value: bytes) -> None:
    """Raise InvalidRequestError for many blanks around the scheme, or much padding at the end.

    To strip these takes up to 8 ns for each, and servers let 65,000 through; up to LONG they do not
    matter.
    """
    begin = value[:_MOST_BLANKS].lstrip(b" \t")
    rest = value[_MOST_BLANKS - len(begin) :].partition(b" ")[2]
    for part in (value[:_MOST_BLANKS], value[-_MOST_BLANKS:], rest[:_MOST_BLANKS]):
        if part and not part.strip(b" \t="):
            raise InvalidRequestError("the credentials have too many blanks or padding")


def b64token(value: bytes) -> bytes:
    """`value`, which has the syntax of a bearer token (RFC 6750 section 2.1).

    Raises:
        InvalidRequestError: it has not.

    """
    characters = value.rstrip(b"=")
    # What deleting leaves over; a regular expression takes three times as long.
    if not characters or characters.translate(None, _B64TOKEN_CHARACTERS):
        if value[:7].lower() == b"bearer ":
            raise InvalidRequestError("the credentials begin with `Bearer ` once more")
        raise InvalidRequestError("the bearer credentials are not one b64token")
    return value


def _title(name: bytes) -> str:
    return name.decode("latin-1").title()
