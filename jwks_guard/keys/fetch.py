"""The only HTTP of the verify side: one discovery document, one JWK Set, within one deadline."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from jwks_guard.base.clock import EPOCH, Instant
from jwks_guard.errors import ConfigurationError
from jwks_guard.jose.compact import json_object
from jwks_guard.jose.jwk import SkippedKey, VerificationKey, load_jwk_set
from jwks_guard.net import urls
from jwks_guard.net.bodies import BodyError, read_body
from jwks_guard.net.caching import Dating, dating, entity_tag, retry_after

DEADLINE_SECONDS = 5.0
"""For everything that one fetch does, discovery included, from connecting to the last byte."""
REDISCOVERY_SECONDS = 3600.0
REDISCOVERY_RETRY_SECONDS = 300.0
USER_AGENT = "jwks-guard"
HTTPClient = httpx.AsyncClient | Callable[[], httpx.AsyncClient]


class FetchError(Exception):
    """The issuer gave no answer that can be used; the text says why, without secrets."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """A key set as the issuer sent it; `keys` is None for a 304 to `held`."""

    keys: tuple[VerificationKey, ...] | None
    skipped: tuple[SkippedKey, ...]
    dating: Dating
    held: Held


@dataclass(frozen=True, slots=True)
class Held:
    """What to ask with next time: the entity tag, good only for the address that sent it."""

    jwks_uri: str
    etag: str | None

    def tag_for(self, uri: str) -> str | None:
        """The tag that makes a request to `uri` conditional, and its 304 meant for us."""
        return self.etag if self.jwks_uri == uri else None


@dataclass(slots=True)
class HTTPKeyFetcher:
    """Fetches the JWK Set of `issuer`, from `jwks_uri` or from where its discovery points.

    `max_bytes` bounds each decoded body. `client` is an httpx.AsyncClient, or makes one; it
    brings transport, TLS and proxies, and is never closed here. Redirects, time-outs, headers and
    authentication are set per request, whatever it says. Without it a client is opened per fetch.
    """

    issuer: str
    jwks_uri: str | None
    max_bytes: int
    max_stale: float
    client: HTTPClient | None = None
    deadline: float = DEADLINE_SECONDS
    discovered: str | None = field(init=False, default=None)
    _discover_again: Instant = field(init=False, default=EPOCH)
    _made: httpx.AsyncClient | None = field(init=False, default=None)

    def forget_client(self) -> None:
        """Let a client that was made for another loop or process go."""
        self._made = None

    async def fetch(self, held: Held | None, now: Instant) -> Answer:
        """Ask for the key set, conditionally when `held` has a tag for it; raises FetchError."""
        try:
            async with asyncio.timeout(self.deadline), self._opened() as client:
                return await self._fetch(client, held, now)
        except FetchError:
            raise
        except Exception as error:
            raise _failure(error, self.deadline) from error

    async def _fetch(self, client: httpx.AsyncClient, held: Held | None, now: Instant) -> Answer:
        uri = self.jwks_uri or await self._discover(client, now)
        response, body = await self._get(client, uri, held)
        if response.status_code in (404, 410) and self.jwks_uri is None:
            moved = await self._discover(client, now, again=True)
            if moved != uri:
                uri = moved
                response, body = await self._get(client, uri, held)
        return self._answer(response, body, uri, held, now)

    def _answer(
        self, response: httpx.Response, body: bytes, uri: str, held: Held | None, now: Instant
    ) -> Answer:
        dates = dating(response.headers, latest=now.wall + self.deadline)
        if response.status_code == httpx.codes.NOT_MODIFIED and held and held.tag_for(uri):
            answer = Answer(None, (), dates, held)
        else:
            _require_ok(response, now)
            keys, skipped = _key_set(body)
            answer = Answer(keys, skipped, dates, Held(uri, entity_tag(response.headers)))
        if dates.age >= self.max_stale:
            raise FetchError(f"the answer's Age of {dates.age:g} s is past max_stale")
        return answer

    async def _discover(
        self, client: httpx.AsyncClient, now: Instant, *, again: bool = False
    ) -> str:
        """The issuer's `jwks_uri` by OpenID Connect Discovery 1.0 section 4, asked for hourly.

        While a later discovery fails, the address that an earlier one gave stays in use.
        """
        if self.discovered is not None and not again and not self._discover_again.reached(now):
            return self.discovered
        try:
            async with asyncio.timeout(self.deadline / 2):  # the rest is for the key set
                self.discovered = await self._discovery_document(client, now)
            self._discover_again = now.shifted(REDISCOVERY_SECONDS)
        except Exception as error:
            if self.discovered is None:
                raise _failure(error, self.deadline / 2, "discovery: ") from error
            self._discover_again = now.shifted(REDISCOVERY_RETRY_SECONDS)
        return self.discovered

    async def _discovery_document(self, client: httpx.AsyncClient, now: Instant) -> str:
        url = self.issuer.removesuffix("/") + "/.well-known/openid-configuration"
        response, body = await self._get(client, url, None)
        _require_ok(response, now)
        try:
            document = json_object(body)
        except ValueError as error:
            raise FetchError(f"the document is {error}") from None
        if document.get("issuer") != self.issuer:
            raise FetchError("the document names another issuer than the configured one")
        uri = document.get("jwks_uri")
        if not isinstance(uri, str):
            raise FetchError("the document has no jwks_uri")
        if why := urls.refusal(uri, http_on_loopback=urls.is_loopback(self.issuer)):
            raise FetchError(f"the jwks_uri can't be used: {why}")
        return uri

    async def _get(
        self, client: httpx.AsyncClient, url: str, held: Held | None
    ) -> tuple[httpx.Response, bytes]:
        headers = {
            "Accept": "application/json, application/jwk-set+json",
            "Accept-Encoding": "gzip, deflate",
            "Cache-Control": "no-cache",
            "User-Agent": USER_AGENT,
        }
        if held is not None and (etag := held.tag_for(url)) is not None:
            headers["If-None-Match"] = etag
        timeout = httpx.Timeout(self.deadline).as_dict()
        # Built here and not by the client, whose own headers, cookies and parameters stay out.
        request = httpx.Request("GET", url, headers=headers, extensions={"timeout": timeout})
        response = await client.send(request, stream=True, auth=None, follow_redirects=False)
        try:
            # Of an error only the head counts: its page may be as long and as broken as it likes.
            good = response.status_code == httpx.codes.OK
            return response, await read_body(response, self.max_bytes) if good else b""
        finally:
            await response.aclose()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[httpx.AsyncClient]:
        if isinstance(self.client, httpx.AsyncClient):
            yield self.client
        elif self.client is not None:
            self._made = self._made or self.client()
            yield self._made
        else:
            context = _tls.context
            if context is None:
                context = await asyncio.to_thread(_tls.build)
            # Plain http is only ever spoken on loopback: past any proxy, it stays on the machine.
            async with httpx.AsyncClient(verify=context, mounts={"http://": None}) as client:
                yield client


def require_http_client(client: Any) -> None:
    """Raise ConfigurationError unless `client` is an httpx.AsyncClient, callable, or None."""
    if client is not None and not isinstance(client, httpx.AsyncClient) and not callable(client):
        raise ConfigurationError(
            "http_client must be an httpx.AsyncClient or a callable that returns one."
        )


class _TLS:
    """One context for the process. Building it takes tens of milliseconds, so not on the loop."""

    context: ssl.SSLContext | None = None

    def build(self) -> ssl.SSLContext:
        self.context = self.context or httpx.create_ssl_context()
        return self.context


_tls = _TLS()


def _failure(error: Exception, deadline: float, prefix: str = "") -> FetchError:
    if isinstance(error, FetchError):
        return FetchError(f"{prefix}{error}", error.retry_after)
    if isinstance(error, BodyError):
        return FetchError(f"{prefix}{error}")
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return FetchError(f"{prefix}no complete answer within {deadline:g} s")
    return FetchError(f"{prefix}{type(error).__name__}: {error}".removesuffix(": "))


def _require_ok(response: httpx.Response, now: Instant) -> None:
    if response.status_code != httpx.codes.OK:
        raise FetchError(
            f"the server answered {response.status_code}", retry_after(response.headers, now.wall)
        )


def _key_set(body: bytes) -> tuple[tuple[VerificationKey, ...], tuple[SkippedKey, ...]]:
    try:
        keys, skipped = load_jwk_set(json_object(body))
    except ValueError as error:
        raise FetchError(f"the answer is not a JWK Set ({error})") from None
    if not keys:
        why = f": {skipped[0].reason}" if skipped else ""
        raise FetchError(f"the JWK Set holds no usable key{why}")
    return keys, skipped
