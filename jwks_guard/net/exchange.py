"""The one way to make an HTTP request: a single exchange within bounds of time and size.

Exceptions of httpx, of the operating system and of the caller's client are mapped here and nowhere
else. An ExchangeError quotes nothing that was sent or received.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import httpx

from jwks_guard.net.bodies import BodyError, read_body

USER_AGENT = "jwks-guard"
Client: TypeAlias = httpx.AsyncClient
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class ExchangeError(Exception):
    """There is no complete answer; the text says why.

    `sent` is False where the request certainly never left this machine: it is safe to repeat.
    """

    def __init__(self, reason: str, *, sent: bool = True, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.sent = sent
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: its status, its headers by lower-case name, and the decoded body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def new_request(
    method: str, url: str, headers: Mapping[str, str], content: bytes | None = None
) -> httpx.Request:
    """Build a request with these headers alone; raises ExchangeError where `url` is no address.

    A request that a client builds carries the client's own headers, cookies and parameters.
    """
    try:
        return httpx.Request(method, url, headers=headers, content=content)
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: a host that IDNA can't encode
        raise ExchangeError(f"the address can't be used ({kind_of(error)})", sent=False) from None


async def exchange(
    client: Client,
    request: httpx.Request,
    *,
    timeout: float,
    limit: int,
    connect_timeout: float | None = None,
    any_status: bool = False,
    authenticated: bool = False,
) -> Reply:
    """Send `request` once, without redirects, and return the answer.

    Arguments:
        client: brings transport, TLS and proxies; it is not closed.
        request: what to send, from `new_request` or built as there.
        timeout: for everything from connecting to the last byte, in seconds.
        limit: how many bytes the decoded body may have.
        connect_timeout: gives up earlier where no connection can be had, so that the request is
            known not to be sent; in seconds.
        any_status: read the body of every answer; otherwise only that of a 200.
        authenticated: use the client's own `auth`, which may send more requests; otherwise none.

    Raises ExchangeError, without a cause or context: their frames hold the request and the answer.

    """
    if client.is_closed:
        raise ExchangeError("the HTTP client is closed", sent=False)
    seconds = httpx.Timeout(timeout, connect=connect_timeout or timeout)
    seconds.pool = seconds.connect  # waiting for a free connection is connecting, too
    request.extensions = {**request.extensions, "timeout": seconds.as_dict()}
    try:
        async with asyncio.timeout(timeout):
            auth = client.auth if authenticated else None
            return await _answered(client, request, auth, limit, any_status=any_status)
    except Exception as error:  # noqa: BLE001 - a transport or an event hook may raise anything
        failure = _failure(error, request, timeout)
    raise failure


async def _answered(
    client: Client, request: httpx.Request, auth: httpx.Auth | None, limit: int, *, any_status: bool
) -> Reply:
    response = await client.send(request, stream=True, auth=auth, follow_redirects=False)
    try:
        wanted = any_status or response.status_code == httpx.codes.OK
        body = await read_body(response, limit) if wanted else b""
    finally:
        with suppress(Exception):  # it takes nothing from an answer that was read
            await response.aclose()
    return Reply(response.status_code, dict(response.headers), body)


def _failure(error: Exception, request: httpx.Request, timeout: float) -> ExchangeError:
    if isinstance(error, BodyError):
        return ExchangeError(str(error))
    sent = not (isinstance(error, _NEVER_SENT) and _concerns(error, request))
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        why = f"no complete answer within {timeout:g} s" if sent else "no connection in time"
        return ExchangeError(why, sent=sent, timed_out=True)
    if not sent:
        return ExchangeError(f"no connection ({error})", sent=False)
    return ExchangeError(f"no complete answer ({kind_of(error)})")


def _concerns(error: httpx.RequestError, request: httpx.Request) -> bool:
    """Whether `error` is about `request`: an event hook may fail to connect elsewhere, later."""
    try:
        return error.request is request
    except RuntimeError:  # it is about none
        return False


def kind_of(error: Exception) -> str:
    """The class of `error` and where it was raised, since its text may quote a secret."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.strerror:  # the operating system's own words
        return f"{name}: {error.strerror}"
    if isinstance(error, httpx.HTTPError):
        return name
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return f"{name} in {frame.f_code.co_qualname}"
