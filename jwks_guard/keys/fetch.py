"""What the verify side asks of the issuer: its discovery document and its JWK Set."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from hashlib import sha256
from http import HTTPStatus
from typing import TypeAlias

from jwks_guard.base.clock import EPOCH, Instant
from jwks_guard.jose.compact import json_document
from jwks_guard.jose.jwk import SkippedKey, VerificationKey, jwk_set, load_jwk_set
from jwks_guard.jose.rsa_engine import RSAEngine
from jwks_guard.net import urls
from jwks_guard.net.caching import Dating, dating, entity_tag, retry_after
from jwks_guard.net.clients import Clients, HTTPClient, headers_of
from jwks_guard.net.exchange import (
    USER_AGENT,
    Client,
    ExchangeError,
    Reply,
    exchange,
    new_request,
)

CONNECT_SECONDS = 5.0
"""For a connection. An address where nobody answers is given up earlier than a slow server."""
OFF_LOOP_BYTES = 32_768
"""A longer key set is parsed in another thread: it would hold up the event loop for too long."""
REDISCOVERY_SECONDS = 3600.0
REDISCOVERY_RETRY_SECONDS = 300.0
_NOT_THERE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_LONGEST_QUOTED = 512
_HEADERS = {
    "accept": "application/json, application/jwk-set+json",
    "accept-encoding": "gzip, deflate",
    "cache-control": "no-cache",
}
_ASKS_FOR_CREDENTIALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


KeySet: TypeAlias = tuple[tuple[VerificationKey, ...], tuple[SkippedKey, ...]]


class FetchError(Exception):
    """The issuer gave no answer that can be used; the text says why, without secrets.

    `kind` says it in a word: "timeout", "no_answer", "unusable_answer", or the HTTP status.
    """

    def __init__(
        self, reason: str, retry_after: float | None = None, kind: str = "unusable_answer"
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Answer:
    """A key set as the issuer sent it; `keys` is None for a 304 to `held`.

    It was confirmed `confirmed_before` seconds before the request began.
    """

    keys: tuple[VerificationKey, ...] | None
    skipped: tuple[SkippedKey, ...]
    dating: Dating
    held: Held
    confirmed_before: float = 0.0


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

    `max_bytes` bounds each decoded body; `timeout` is for everything that one fetch does, discovery
    included, in seconds. An answer that confirms less than `max_stale` ago is one; up to
    `max_upstream_age` old it may be fresh (RFC 9111). `client` is an httpx.AsyncClient or makes
    one, for transport, TLS and proxies; it is never closed here. Without it a client is opened for
    each fetch. Its headers and `auth` go to the origin of `issuer` or of `jwks_uri` alone:
    discovery may name any other. `http_hosts` may be asked over plain http. `rsa` is loaded before
    the first set with RSA keys is given.
    """

    issuer: str
    jwks_uri: str | None
    max_bytes: int
    max_stale: float
    client: InitVar[HTTPClient | None] = None
    max_upstream_age: float = 86_400.0
    timeout: float = 30.0
    http_hosts: frozenset[str] = frozenset()
    rsa: RSAEngine | None = None
    discovered: str | None = field(init=False, default=None)
    _discover_again: Instant = field(init=False, default=EPOCH)
    _clients: Clients = field(init=False)
    _last: tuple[bytes, KeySet] | None = field(init=False, default=None)

    def __post_init__(self, client: HTTPClient | None) -> None:
        self._clients = Clients(client)

    async def fetch(self, held: Held | None, now: Instant, within: float | None = None) -> Answer:
        """Ask for the key set, conditionally when `held` has a tag for it; raises FetchError.

        `within` is what is left of the time, in seconds.
        """
        seconds = self.timeout if within is None else within
        try:
            async with asyncio.timeout(seconds), self._clients.opened() as client:
                return await self._fetch(client, held, now)
        except TimeoutError:
            raise FetchError(f"no complete answer within {seconds:g} s", kind="timeout") from None
        except ExchangeError as error:
            raise FetchError(str(error), kind=_kind_of(error)) from None

    async def _fetch(self, client: Client, held: Held | None, now: Instant) -> Answer:
        begun = _loop_time()
        uri = self.jwks_uri or await self._discover(client, now)
        reply = await self._get(client, uri, held)
        if reply.status in _NOT_THERE and self.jwks_uri is None:
            moved = await self._discover(client, now, again=True)
            if moved != uri:
                uri = moved
                reply = await self._get(client, uri, held)
        dates = dating(reply.headers, now.wall, now.wall + _loop_time() - begun)
        return await self._answer(reply, dates, uri, held, now)

    async def _answer(
        self, reply: Reply, dates: Dating, uri: str, held: Held | None, now: Instant
    ) -> Answer:
        before = dates.confirms(self.max_upstream_age)
        if reply.status == HTTPStatus.NOT_MODIFIED and held and held.tag_for(uri):
            answer = Answer(None, (), dates, held, before)
        else:
            _require_ok(reply, now)
            keys, skipped = await self._key_set(reply.body)
            new = Held(uri, entity_tag(reply.headers))
            answer = Answer(keys, skipped, dates, new, before)
        if before >= self.max_stale:
            raise FetchError(_too_old(dates))
        return answer

    async def _key_set(self, body: bytes) -> KeySet:
        """The keys in `body`: those of the last answer if it is the same, byte by byte."""
        digest = sha256(body).digest()
        if self._last is None or self._last[0] != digest:
            found = await _parsed(body, self.issuer)
            if self.rsa is not None and not self.rsa.is_ready_for(found[0]):
                with suppress(RuntimeError):  # the interpreter is ending, as below
                    await asyncio.to_thread(self.rsa.load)
            self._last = digest, found
        return self._last[1]

    async def _discover(self, client: Client, now: Instant, *, again: bool = False) -> str:
        """The issuer's `jwks_uri` by OpenID Connect Discovery 1.0 section 4, asked for hourly.

        While a later discovery fails, the address that an earlier one gave stays in use.
        """
        if self.discovered is not None and not again and not self._discover_again.reached(now):
            return self.discovered
        try:
            self.discovered = await self._discovery_document(client, now)
            self._discover_again = now.shifted(REDISCOVERY_SECONDS)
        except (ExchangeError, FetchError) as error:
            if self.discovered is None:
                seconds = error.retry_after if isinstance(error, FetchError) else None
                raise FetchError(f"discovery: {error}", seconds, _kind_of(error)) from None
            self._discover_again = now.shifted(REDISCOVERY_RETRY_SECONDS)
        return self.discovered

    async def _discovery_document(self, client: Client, now: Instant) -> str:
        """The address in OpenID Connect's document or, without one, in RFC 8414's."""
        # Half of the time: the rest is for the key set.
        url = urls.discovery_url(self.issuer)
        reply = await self._get(client, url, None, self.timeout / 2)
        if reply.status in _NOT_THERE:
            other = authorization_server_metadata(self.issuer)
            reply = await self._get(client, other, None, self.timeout / 2)
            if reply.status in _NOT_THERE:
                raise FetchError(
                    f"the issuer has no document at {url} and none at {other}; "
                    "pass jwks_uri= with the address of its keys"
                )
        _require_ok(reply, now)
        try:
            document = json_document(reply.body)
        except ValueError as error:
            raise FetchError(f"the document is {error}") from None
        if document.get("issuer") != self.issuer:
            raise FetchError(_another_issuer(self.issuer, document.get("issuer")))
        uri = document.get("jwks_uri")
        if not isinstance(uri, str):
            raise FetchError("the document has no jwks_uri; pass jwks_uri= to the verifier")
        loopback = urls.is_loopback(self.issuer)
        if why := urls.refusal(uri, http_on_loopback=loopback, http_hosts=self.http_hosts):
            raise FetchError(f"the jwks_uri can't be used: {why}")
        return uri

    async def _get(
        self, client: Client, url: str, held: Held | None, seconds: float | None = None
    ) -> Reply:
        etag = held.tag_for(url) if held is not None else None
        conditions = {} if etag is None else {"if-none-match": etag}
        own = urls.origin(url) in (urls.origin(self.issuer), urls.origin(self.jwks_uri or ""))
        callers = headers_of(client) if own else {}
        headers = {"user-agent": USER_AGENT, **callers, **_HEADERS, **conditions}
        # Of an error only the head counts: its page may be as long and as broken as it likes.
        return await exchange(
            client,
            new_request("GET", url, headers),
            timeout=seconds or self.timeout,
            connect_timeout=min(CONNECT_SECONDS, self.timeout),
            limit=self.max_bytes,
            authenticated=own,
        )


def authorization_server_metadata(issuer: str) -> str:
    """Where RFC 8414 section 3.1 has the metadata of `issuer`: between its host and its path."""
    scheme, _, rest = issuer.partition("://")
    host, slash, path = rest.removesuffix("/").partition("/")
    return f"{scheme}://{host}/.well-known/oauth-authorization-server{slash}{path}"


def _another_issuer(configured: str, named: object) -> str:
    """Both values, as an issuer is compared to the letter; what is long or odd is not quoted."""
    said = named if isinstance(named, str) and named.isprintable() else ""
    if not said or len(said) > _LONGEST_QUOTED:
        return f"configured {configured!r}, the issuer's document names no issuer"
    advice = "configure that one, if its tokens name it"
    if said.rstrip("/") == configured.rstrip("/"):
        advice = "add the slash" if said.endswith("/") else "remove the slash"
    return f"configured {configured!r}, the issuer says {said!r}: {advice}"


def _too_old(dates: Dating) -> str:
    if dates.age == dates.reported_age:
        return f"the answer's Age of {dates.age:g} s is past max_stale"
    return (
        f"the answer is {dates.age:.0f} s old by its Date, past max_stale: a cache keeps it, or "
        "this machine's clock and the issuer's are that far apart"
    )


def _kind_of(error: ExchangeError | FetchError) -> str:
    if isinstance(error, FetchError):
        return error.kind
    return "timeout" if error.timed_out else "no_answer"


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _require_ok(reply: Reply, now: Instant) -> None:
    if reply.status != HTTPStatus.OK:
        hint = ""
        if reply.status in _ASKS_FOR_CREDENTIALS:
            hint = (
                "; if it asks for credentials, give jwks_uri and an http_client with the headers "
                "or auth for it"
            )
        raise FetchError(
            f"the server answered {reply.status}{hint}",
            retry_after(reply.headers, now.wall),
            kind=str(reply.status),
        )


async def _parsed(body: bytes, issuer: str) -> KeySet:
    if len(body) > OFF_LOOP_BYTES:
        with suppress(RuntimeError):  # the interpreter is ending: no thread begins any more
            return await asyncio.to_thread(_key_set, body, issuer)
    return _key_set(body, issuer)


def _key_set(body: bytes, issuer: str) -> KeySet:
    try:
        keys, skipped = load_jwk_set(jwk_set(body), issuer)
    except ValueError as error:
        raise FetchError(f"the answer is not a JWK Set ({error})") from None
    if not keys:
        why = f": {skipped[0].reason}" if skipped else ""
        raise FetchError(f"the JWK Set holds no usable key{why}")
    return keys, skipped
