"""The HTTP answers to requests that are refused (RFC 6750 section 3, RFC 9457). Pure functions."""

from __future__ import annotations

import json
import math
import re
from http import HTTPStatus
from typing import Protocol

from jwks_guard.errors import (
    ConfigurationError,
    InsufficientScopeError,
    KeysUnavailableError,
    MissingCredentialsError,
    OriginNotAllowedError,
    Refusal,
    RequestRefusedError,
)
from jwks_guard.net import urls

_QUOTABLE = re.compile(r"[\x20-\x7e]*")
_LONGEST_RETRY_AFTER = 86_400.0


def quotable_realm(realm: str) -> str:
    """`realm`, which can stand in a quoted-string (RFC 9110 section 5.6.4).

    Raises:
        ConfigurationError: it has control characters or anything outside ASCII.

    """
    if _QUOTABLE.fullmatch(realm) is None:
        raise ConfigurationError(f"realm is {realm!r}; write it in printable ASCII")
    return realm


class HasURL(Protocol):
    """Metadata that knows where it is."""

    @property
    def url(self) -> str:
        """The URL."""


def metadata_url(metadata: str | HasURL) -> str:
    """The URL where a protected resource's metadata is (RFC 9728 section 3).

    Raises:
        ConfigurationError: it is not https, or http on loopback.

    """
    url = metadata if isinstance(metadata, str) else metadata.url
    reason = urls.refusal(url, http_on_loopback=True)
    if reason is not None:
        raise ConfigurationError(f"resource_metadata is {url!r}, which can't be used: {reason}")
    return url


_GENERIC = {
    400: ("invalid_request", "The request's credentials are malformed."),
    401: ("invalid_token", "The access token is not valid."),
    403: ("insufficient_scope", "The access token does not grant what this request needs."),
    429: ("temporarily_unavailable", "This access token can't be verified at the moment."),
    503: ("temporarily_unavailable", "Access tokens can't be verified at the moment."),
}
_NO_CREDENTIALS = ("unauthorized", "This request needs a bearer token.")
_OTHER_ORIGIN = ("access_denied", "Pages of this origin may not send this request.")


def refusal(
    error: RequestRefusedError,
    *,
    realm: str | None = None,
    debug: bool = False,
    resource_metadata: str | None = None,
) -> Refusal:
    """The answer to a request that failed with `error` (RFC 6750 section 3).

    Status, challenge and a JSON body say no more than the kind of refusal: what exactly is wrong
    with a token helps an attacker. With `debug` the body has the error's code and message.
    `resource_metadata` is a URL for the challenge (RFC 9728 section 5.1). 503 and 429 say nothing
    of the token, so they carry Retry-After (whole seconds) and no challenge; nor has the refusal of
    an origin one.
    """
    kind, description = _worded(error)
    content = {"error": kind, "error_description": description}
    if debug:
        content |= {"error_description": str(error), "code": error.code}
    body = json.dumps(content).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if isinstance(error, KeysUnavailableError):
        headers.append((b"retry-after", b"%d" % _retry_after(error.retry_after)))
    elif not isinstance(error, OriginNotAllowedError):
        named = {"realm": realm, "resource_metadata": resource_metadata}
        headers.append((b"www-authenticate", _challenge(error, named, kind, description)))
    return Refusal(error.http_status, tuple(headers), body)


def problem_json(answer: Refusal, error: RequestRefusedError) -> Refusal:
    """`answer` with a body as RFC 9457 describes it; for `on_refusal`."""
    said = json.loads(answer.body)
    problem = {
        "type": "about:blank",
        "title": HTTPStatus(answer.status).phrase,
        "status": answer.status,
        "detail": said.pop("error_description"),
        **said,
    }
    body = json.dumps(problem).encode()
    changed = {
        b"content-type": b"application/problem+json",
        b"content-length": b"%d" % len(body),
    }
    headers = tuple((name, changed.get(name, value)) for name, value in answer.headers)
    return Refusal(answer.status, headers, body)


def description(answer: Refusal) -> str:
    """What the body of `answer` says in words; empty if it is neither ours nor RFC 9457's."""
    try:
        said = json.loads(answer.body)
        return str(said.get("error_description") or said["detail"])
    except (ValueError, KeyError, AttributeError):  # of an `on_refusal` that answers otherwise
        return ""


def _worded(error: RequestRefusedError) -> tuple[str, str]:
    """The kind of refusal, and what is said about it."""
    if isinstance(error, MissingCredentialsError):
        return _NO_CREDENTIALS
    if isinstance(error, OriginNotAllowedError):
        return _OTHER_ORIGIN
    return _GENERIC.get(error.http_status, _GENERIC[401])  # an application may have its own errors


def _challenge(
    error: RequestRefusedError, named: dict[str, str | None], kind: str, description: str
) -> bytes:
    params = {name: value for name, value in named.items() if value is not None}
    # RFC 6750 section 3.1: a request without credentials gets no error code.
    if not isinstance(error, MissingCredentialsError):
        params |= {"error": kind, "error_description": description}
    if isinstance(error, InsufficientScopeError):
        # Of a claim check they may be made of a claim's value, which could end the header.
        scopes = [each for each in error.required if _QUOTABLE.fullmatch(each) is not None]
        params |= {"scope": " ".join(scopes)} if scopes else {}
    return ("Bearer " + ", ".join(f"{k}={_quoted(v)}" for k, v in params.items())).rstrip().encode()


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _retry_after(seconds: float) -> int:
    return math.ceil(min(_LONGEST_RETRY_AFTER, max(1.0, seconds)))
