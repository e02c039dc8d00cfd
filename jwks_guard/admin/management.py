"""Calls to a tenant's Management API v2: one HTTP exchange each, retried where that is safe."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from jwks_guard.admin.answers import api_error, document, grant_error
from jwks_guard.admin.attempts import FIRST_PAUSE_SECONDS, Attempts, Sleep
from jwks_guard.admin.auth import Auth, ClientCredentials, PrivateKeyJWT, StaticToken
from jwks_guard.base.clock import Clock
from jwks_guard.base.observer import Activity, Observer, observed
from jwks_guard.errors import (
    ConfigurationError,
    ManagementAPIError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
)
from jwks_guard.net import urls
from jwks_guard.net.exchange import USER_AGENT, ExchangeError, Reply, exchange

MAX_BODY_BYTES = 4 * 1024 * 1024
_MOST_DOUBLINGS = 40  # a thousand would overflow
_EXPIRY_MARGIN_SECONDS = 60.0
_DEFAULT_LIFETIME_SECONDS = 86_400.0
_KID_IN_PATH = re.compile(r"(/keys/signing/)(?!rotate$)[^/]+")
_T = TypeVar("_T")
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": USER_AGENT,
}


@dataclass(slots=True)
class ManagementAPI:
    """One tenant's Management API and token endpoint, at `base_url`, which ends in a slash.

    `timeout` bounds a whole exchange, from connecting to the last byte. Of `retries`, each waits
    `max_wait` at most. All in seconds.
    """

    base_url: str
    auth: Auth
    client: httpx.AsyncClient
    timeout: float
    retries: int
    max_wait: float
    clock: Clock
    sleep: Sleep
    observer: Observer | None = None
    _token: StaticToken | None = field(init=False, default=None, repr=False)
    _renew_at: float = field(init=False, default=0.0)
    _asking: asyncio.Task[StaticToken] | None = field(init=False, default=None, repr=False)

    async def read(self, path: str, scopes: Sequence[str]) -> Any:
        """GET `path`, repeated when it can't be answered at the moment; gives its JSON."""
        return await self.repeated(lambda: self.call("GET", path, scopes))

    async def call(self, method: str, path: str, scopes: Sequence[str]) -> Any:
        """One call; a second one with a new token if the first is answered 401."""
        token = await self.token()
        try:
            return await self.send(method, path, token, scopes)
        except UnauthorizedError:
            if isinstance(self.auth, StaticToken):
                raise
        self.drop_token(token)
        return await self.send(method, path, await self.token(), scopes)

    async def repeated(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Return what `attempt` returns; repeat it while the tenant can't answer at the moment."""
        asked, longest = 0.0, self.max_wait  # `asked`: by the latest answer, in seconds
        pauses = (min(longest, asked + _backoff(n, longest)) for n in range(self.retries))
        async for _ in Attempts(pauses, self.sleep):
            try:
                return await attempt()
            except (UnavailableError, RateLimitedError) as error:
                failure, asked = error, error.retry_after or 0.0
                if asked > longest:
                    raise
        raise failure

    async def token(self) -> StaticToken:
        """A token for the Management API; one that is held until shortly before it expires."""
        auth = self.auth
        if isinstance(auth, StaticToken):
            return auth
        if self._token is not None and self.clock.monotonic() < self._renew_at:
            return self._token
        asking = self._asking
        if asking is None or asking.done():
            asking = self._asking = asyncio.create_task(self._granted(auth))
            # Looked at, or its failure is logged as lost where every waiter was cancelled.
            asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        # Shared, its failure too, and left running for the others by a waiter that is cancelled.
        await asyncio.wait({asking})
        return asking.result()

    def drop_token(self, token: StaticToken | None = None) -> None:
        """Forget the held token, if it is still `token`; without one, whichever it is."""
        if token is None or token == self._token:
            self._token = None
            self._asking = None  # a token on its way may be signed by the same key

    async def _granted(self, auth: ClientCredentials | PrivateKeyJWT) -> StaticToken:
        """A new token by the client-credentials grant (RFC 6749 section 4.4)."""
        asked_at = self.clock.monotonic()
        reply = await self._exchange(self._grant_request(auth))
        if reply.status != httpx.codes.OK:
            raise grant_error(reply, self.clock.time(), getattr(auth, "client_secret", None))
        grant = _grant(reply)
        if grant is None:
            raise ManagementAPIError(
                f"The token endpoint answered {reply.status} without a usable access token.",
                status=reply.status,
            )
        token, lifetime = grant
        if asyncio.current_task() is self._asking:
            self._token = token
            self._renew_at = asked_at + lifetime - min(_EXPIRY_MARGIN_SECONDS, lifetime / 10)
        return token

    async def send(self, method: str, path: str, token: StaticToken, scopes: Sequence[str]) -> Any:
        """One call and no other, whatever becomes of it; gives the JSON of its answer."""
        reply = await self._exchange(self._api_request(method, path, token))
        if not httpx.codes.is_success(reply.status):
            raise api_error(reply, self.clock.time(), scopes, token.token)
        return document(reply)

    # Requests are made, and tokens read, in functions that have returned before anything can fail:
    # tools that print a traceback with its variables shall find no secret in them.

    def _grant_request(self, auth: ClientCredentials | PrivateKeyJWT) -> httpx.Request:
        parameters = {
            "grant_type": "client_credentials",
            "client_id": auth.client_id,
            "audience": auth.audience or self.base_url + "api/v2/",
            **auth.proof(self.base_url, self.clock.time()),
        }
        return self._request("POST", "oauth/token", json=parameters)

    def _api_request(self, method: str, path: str, token: StaticToken) -> httpx.Request:
        authorization = {"Authorization": f"Bearer {token.token}"}
        return self._request(method, f"api/v2/{path}", headers=authorization)

    def _request(self, method: str, path: str, **parts: Any) -> httpx.Request:
        """Built here and not by the client, whose own headers and parameters stay out."""
        request = httpx.Request(method, self.base_url + path, **parts)
        request.headers.update(_HEADERS)
        return request

    async def _exchange(self, request: httpx.Request) -> Reply:
        """Send `request` once; raises UnavailableError when no complete answer comes."""
        if self.client.is_closed:
            raise ConfigurationError("This client is closed; make a new one.")
        activity = _activity(self.base_url, request)
        with observed(self.observer, activity):
            try:
                reply = await exchange(
                    self.client,
                    request,
                    timeout=self.timeout,
                    connect_timeout=self.timeout / 3,
                    limit=MAX_BODY_BYTES,
                    any_status=True,
                )
            except ExchangeError as error:
                kind = "timeout" if error.timed_out else "no_answer"
                activity.ended("failed", kind, str(error))
                failure = _unavailable(error)
            else:
                status = str(reply.status)
                activity.ended(status, None if httpx.codes.is_success(reply.status) else status)
                return reply
        raise failure


def _activity(base_url: str, request: httpx.Request) -> Activity:
    """The method and path that an observer gets; which key it is about is in `url.full`."""
    path = request.url.path
    template = _KID_IN_PATH.sub(r"\1{kid}", path)
    details: dict[str, str | int] = {
        "http.request.method": request.method,
        "url.template": template,
        "url.full": base_url + path.removeprefix("/"),
    }
    return Activity("management", base_url, base_url, details)


def _unavailable(error: ExchangeError) -> UnavailableError:
    if error.sent:
        return UnavailableError(f"The tenant's answer was lost: {error}.")
    failure = UnavailableError(
        f"The tenant can't be reached: {error}. Nothing was sent: it is safe to try again."
    )
    failure.sent = False
    return failure


def _backoff(number: int, longest: float) -> float:
    """Full jitter: clients that failed together don't come back together."""
    bound = min(longest, FIRST_PAUSE_SECONDS * 2.0 ** min(number, _MOST_DOUBLINGS))
    return random.uniform(0, bound)  # noqa: S311 - not for secrets


def _grant(reply: Reply) -> tuple[StaticToken, float] | None:
    """The token and its lifetime in seconds, if there is one (RFC 6749 section 5.1)."""
    answer = document(reply)
    members = answer if isinstance(answer, dict) else {}
    try:
        token = StaticToken(members.get("access_token", ""))
    except ConfigurationError:
        return None
    lifetime = members.get("expires_in")
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or lifetime <= 0:
        return token, _DEFAULT_LIFETIME_SECONDS
    return token, float(min(lifetime, _DEFAULT_LIFETIME_SECONDS))


def base_url_of(domain: str) -> str:
    """The URL of a tenant given by domain or URL; raises ConfigurationError."""
    url = domain if isinstance(domain, str) else ""
    url = url if "://" in url else f"https://{url}"
    why = urls.refusal(url, http_on_loopback=True)
    if why is None and (urlsplit(url).path not in ("", "/") or "?" in url):
        why = "it has a path"
    if why is None and not _has_host(url):
        why = "it is no host name"
    if why is not None or ("." not in url and not urls.is_loopback(url)):
        raise ConfigurationError(
            f"domain can't be used: {why or 'it is no host name'}. Write the tenant's domain, for "
            "example 'acme.eu.auth0.com'."
        )
    return url.lower().rstrip("/") + "/"


def _has_host(url: str) -> bool:
    try:
        return bool(httpx.URL(url).host)
    except (httpx.InvalidURL, UnicodeError):  # an IDNA label that can't be read
        return False
