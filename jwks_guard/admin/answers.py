"""What an answer of the tenant means: a JSON document, or one of our errors (pure)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import msgspec

from jwks_guard.errors import (
    ForbiddenError,
    ManagementAPIError,
    NotFoundError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
)
from jwks_guard.net.caching import retry_after
from jwks_guard.net.exchange import Reply

_LONGEST_QUOTE = 200  # characters
_LONGEST_CODE = 64
_TELLING = 16
"""So many characters of a token or a secret in an answer are taken for a quotation of it."""
_LONGEST_MESSAGE = 1_000  # characters; the patterns below take the square of it
_EXPECTED = re.compile(r"expected any of: *([\w:,. -]+)")
_SCOPE = re.compile(r"\w+:\w+")
_JWS = re.compile(r"\beyJ[\w-]")  # a token or an assertion, which begins with '{"'
# What the error is where the body is not the tenant's own. A key is missing only if the tenant says
# so: else a proxy's page would be taken for the end of a key.
_FOREIGN: dict[int, type[ManagementAPIError]] = {
    HTTPStatus.UNAUTHORIZED: UnauthorizedError,
    HTTPStatus.FORBIDDEN: ForbiddenError,
    HTTPStatus.NOT_FOUND: ManagementAPIError,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def document(reply: Reply) -> Any:
    """The JSON of a good answer; raises ManagementAPIError when it is none."""
    parsed = _json(reply.body)
    if parsed is None:
        raise ManagementAPIError(
            f"The tenant answered {reply.status} with a body that is not JSON: look whether a "
            "proxy or a maintenance page stands before it.",
            status=reply.status,
        )
    return parsed


def api_error(reply: Reply, now: float, scopes: Sequence[str], secret: str) -> ManagementAPIError:
    """The error that a refusal of the Management API stands for.

    `now` is in seconds since the epoch; `scopes` are what the call needs. What the answer says is
    quoted unless `secret` is in it.
    """
    if reply.status in _FOREIGN and not isinstance(_json(reply.body), dict):
        return _foreign("The Management API", reply.status)
    body = _object(reply.body)
    said = _quoted(body.get("message"), secret)
    code = _clean(body.get("errorCode"), secret, _LONGEST_CODE)
    if reply.status == HTTPStatus.UNAUTHORIZED:
        return UnauthorizedError(
            f"The Management API rejects the token{said}. It has expired, its signing key was "
            "revoked, or it was issued for another audience or domain.",
            status=reply.status,
            error_code=code,
        )
    if reply.status == HTTPStatus.FORBIDDEN:
        return _forbidden(body, scopes, said, code)
    if reply.status == HTTPStatus.NOT_FOUND:
        return NotFoundError(
            f"The tenant has no such signing key{said}; `jwks-guard keys list` prints those that "
            "it has. If that fails too, look whether the domain is the tenant's.",
            status=reply.status,
            error_code=code,
        )
    return _general("The Management API", reply, now, said, code)


def grant_error(reply: Reply, now: float, secret: str | None) -> ManagementAPIError:
    """The error that a refusal of the token endpoint stands for (RFC 6749 section 5.2)."""
    if reply.status in _FOREIGN and not isinstance(_json(reply.body), dict):
        return _foreign("The token endpoint", reply.status)
    body = _object(reply.body)
    said = _quoted(body.get("error_description"), secret)
    code = _clean(body.get("error"), secret, _LONGEST_CODE)
    if reply.status == HTTPStatus.UNAUTHORIZED:
        return UnauthorizedError(
            f"The token endpoint rejects the client{said}. Check its ID and its secret or key, "
            "and that the application is one of this very tenant.",
            status=reply.status,
            error_code=code,
        )
    if reply.status == HTTPStatus.FORBIDDEN:
        return ForbiddenError(
            f"The token endpoint grants no token for the Management API{said}. Authorize the "
            "application for it, with the scopes that it needs; with a custom domain, give "
            "`audience` as https://{tenant}.auth0.com/api/v2/ has it.",
            status=reply.status,
            error_code=code,
        )
    return _general("The token endpoint", reply, now, said, code)


def reset_time(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until the limit has room again: of Retry-After, else of X-RateLimit-Reset."""
    seconds = retry_after(headers, now)
    if seconds is None:
        value = headers.get("x-ratelimit-reset", "").strip()
        seconds = max(0.0, float(value) - now) if value.isascii() and value.isdigit() else None
    return seconds if seconds is not None and math.isfinite(seconds) else None


def _general(who: str, reply: Reply, now: float, said: str, code: str | None) -> ManagementAPIError:
    pause = reset_time(reply.headers, now)
    answered = f"{who} answered {_status(reply.status)}{said}"
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        return _rate_limited(answered, now, pause, code)
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError(
            f"{answered}.",
            status=reply.status,
            error_code=code,
            retry_after=pause,
        )
    return ManagementAPIError(f"{answered}.", status=reply.status, error_code=code)


def _foreign(who: str, status: int) -> ManagementAPIError:
    return _FOREIGN[status](
        f"{who} answered {_status(status)} with a body that is not its own JSON: a firewall or a "
        "proxy on the way refuses the call, or the domain is not the tenant's. The tenant's scopes "
        "and credentials have no part in that.",
        status=status,
    )


def _rate_limited(
    answered: str, now: float, pause: float | None, code: str | None
) -> RateLimitedError:
    reset_at = None
    if pause is not None:
        try:
            reset_at = _EPOCH + timedelta(seconds=math.ceil(now + pause))
        except OverflowError:  # further off than dates go
            reset_at = None
    when = f"Try again at {reset_at:%Y-%m-%d %H:%M:%S} UTC" if reset_at else "Try again later"
    error = RateLimitedError(
        f"{answered}. {when}; the limit is the whole tenant's.",
        status=HTTPStatus.TOO_MANY_REQUESTS,
        error_code=code,
        retry_after=pause,
    )
    error.reset_at = reset_at
    return error


def _forbidden(
    body: Mapping[str, Any], scopes: Sequence[str], said: str, code: str | None
) -> ForbiddenError:
    expected = _EXPECTED.search((_text(body.get("message")) or "")[:_LONGEST_MESSAGE])
    named = tuple(_SCOPE.findall(expected[1])) if expected else ()
    required = named or tuple(scopes)
    error = ForbiddenError(
        f"The token does not allow this call{said}. Grant {' and '.join(required)} to the "
        "application: in the dashboard under Applications, APIs, Auth0 Management API.",
        status=HTTPStatus.FORBIDDEN,
        error_code=code,
    )
    error.required = required
    return error


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _object(body: bytes) -> Mapping[str, Any]:
    parsed = _json(body)
    return parsed if isinstance(parsed, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _quoted(value: object, secret: str | None) -> str:
    """What the tenant says of its reason, fit for a message and a terminal."""
    clean = _clean(value, secret, _LONGEST_QUOTE)
    return f' ("{clean}")' if clean else ""


def _clean(value: object, secret: str | None, longest: int) -> str | None:
    """Untrusted text as one line of printable characters; None where it quotes of the secret."""
    text = (_text(value) or "")[:longest]
    if not text or _JWS.search(text) or (secret is not None and _quotes(text, secret)):
        return None
    return "".join(c if c.isprintable() else " " for c in text)


def _quotes(text: str, secret: str) -> bool:
    """Whether a stretch of the secret is in `text`, long enough to be no accident."""
    pieces = range(max(1, len(secret) - _TELLING + 1))
    return any(secret[start : start + _TELLING] in text for start in pieces)


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
