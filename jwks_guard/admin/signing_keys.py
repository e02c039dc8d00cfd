"""SigningKeysClient: a tenant's signing keys by the Management API v2."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import NotRequired, Self, TypedDict, TypeVar
from urllib.parse import quote

import httpx

from jwks_guard.admin.attempts import Attempts, Sleep
from jwks_guard.admin.auth import Auth, require_auth
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.management import ManagementAPI, base_url_of
from jwks_guard.admin.signing_key import (
    SigningKey,
    UnexpectedAnswerError,
    parse_change,
    parse_key,
    parse_keys,
)
from jwks_guard.base.arguments import require_count, require_seconds, require_text
from jwks_guard.base.clock import Clock, Instant
from jwks_guard.base.observer import Observer
from jwks_guard.errors import (
    ConfigurationError,
    ManagementAPIError,
    NotFoundError,
    RateLimitedError,
    RotationUncertainError,
    UnavailableError,
)
from jwks_guard.keys.fetch import FetchError, HTTPKeyFetcher
from jwks_guard.net.clients import new_client

SETTLE_SECONDS = 30.0
"""For so long the keys are listed again when a rotation's answer was lost."""
READ_SCOPES = ("read:signing_keys",)
ROTATE_SCOPES = ("create:signing_keys", "update:signing_keys")
REVOKE_SCOPES = ("update:signing_keys",)
MAX_JWKS_BYTES = 524_288
_PATH = "keys/signing"
_NOTHING_DONE = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
)
_LONGEST_KID = 4_096  # characters, quoted
_Keys = list[SigningKey]
_T = TypeVar("_T")


class ClientOptions(TypedDict):
    """The keyword arguments of SigningKeysClient, where they are handed through."""

    auth: Auth
    timeout: NotRequired[float]
    retries: NotRequired[int]
    max_wait: NotRequired[float]
    http_client: NotRequired[httpx.AsyncClient | None]
    clock: NotRequired[Clock]
    sleep: NotRequired[Sleep]
    observer: NotRequired[Observer | None]


class SigningKeysClient:
    """Lists, rotates and revokes the signing keys of one tenant.

    Arguments:
        domain: the tenant's domain, like "acme.eu.auth0.com", or its URL (http on loopback only).
            The token request goes to the same domain.
        auth: ClientCredentials, PrivateKeyJWT or StaticToken.
        timeout: for one exchange, from connecting to the last byte, in seconds.
        retries: how often a call that may be repeated is repeated when the tenant can't be reached,
            fails (5xx) or is busy (429). `rotate` never is.
        max_wait: the longest wait before one of them, in seconds. A Retry-After or
            X-RateLimit-Reset beyond it is raised at once as RateLimitedError.
        http_client: an httpx.AsyncClient for transport, TLS and proxies; not closed here. Its
            transport must not repeat requests: it would rotate twice.
        clock: anything with time() and monotonic().
        sleep: how to wait, in seconds; asyncio.sleep.
        observer: an OpenTelemetryObserver, which makes a span of each call.

    Use it with `async with`, or call `aclose`. All calls raise ManagementAPIError or one of its
    kinds; ConfigurationError is for an argument that can't be used.

    """

    def __init__(
        self,
        domain: str,
        *,
        auth: Auth,
        timeout: float = 10.0,
        retries: int = 3,
        max_wait: float = 30.0,
        http_client: httpx.AsyncClient | None = None,
        clock: Clock = time,
        sleep: Sleep = asyncio.sleep,
        observer: Observer | None = None,
    ) -> None:
        self.base_url = base_url_of(domain)
        require_auth(auth)
        require_seconds("timeout", timeout)
        require_count("retries", retries, minimum=0)
        require_seconds("max_wait", max_wait, positive=False)
        if http_client is not None and not isinstance(http_client, httpx.AsyncClient):
            raise ConfigurationError("http_client must be an httpx.AsyncClient.")
        self._client = http_client or new_client()
        self._owns_client = http_client is None
        self._api = ManagementAPI(
            self.base_url, auth, self._client, timeout, retries, max_wait, clock, sleep, observer
        )
        self.clock = clock
        self.sleep = sleep

    async def aclose(self) -> None:
        """Close the connections, unless they are those of an `http_client`."""
        if self._owns_client:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def list(self) -> _Keys:
        """Every signing key that the tenant tells of, revoked ones among them.

        GET /api/v2/keys/signing, scope read:signing_keys.
        """
        return _read(parse_keys, await self._api.read(_PATH, READ_SCOPES))

    async def get(self, kid: str) -> SigningKey:
        """The signing key `kid`; raises NotFoundError.

        GET /api/v2/keys/signing/{kid}, scope read:signing_keys.
        """
        return _named(kid, await self._api.read(_path_of(kid), READ_SCOPES))

    async def rotate(self, *, current: str | None = None) -> SigningKey:
        """Make the next key current; gives the new next key.

        POST /api/v2/keys/signing/rotate, scopes create:signing_keys and update:signing_keys, sent
        once and never again: a second one would rotate a second time. If its answer is lost or an
        error of the server, the keys are listed for up to 30 s; where they are exactly one step on,
        that is success, marked as `inferred`, and anything else raises RotationUncertainError.
        A rotation that somebody else makes at that very moment can't be told from this one. On a
        401 there is no second attempt either: the list before has just been answered with this
        token. An UnavailableError means that nothing was sent.

        `current` is the kid that the caller believes to be current: raises RotationRefusedError,
        and nothing is sent, if the list before says otherwise.
        """
        try:
            before = SigningKeys(await self.list())
            if current is not None:
                before.require_current(current)
            token = await self._api.token()
        except UnavailableError as error:
            error.sent = False
            raise
        try:
            answer = await self._api.send("POST", f"{_PATH}/rotate", token, ROTATE_SCOPES)
            return _read(partial(parse_change, state="next"), answer)
        except ManagementAPIError as error:
            if not _may_have_rotated(error):
                raise
            lost = error
        finally:
            self._api.drop_token()
        return await self._settled(before, lost)

    async def revoke(self, kid: str) -> SigningKey:
        """Withdraw a previously used key for good; gives it, or what was read of it.

        PUT /api/v2/keys/signing/{kid}/revoke, scope update:signing_keys. Safe to repeat: whatever
        the tenant answers, a key that reads as revoked is success. Raises RevocationRefusedError,
        before anything is sent, for the current and the next key: nothing forces that.
        """
        key = await self.revocable(kid)
        if key.revoked:
            return replace(key, inferred=True)
        try:
            return await self._api.repeated(lambda: self._revoked(kid))
        finally:
            self._api.drop_token()

    async def revocable(self, kid: str) -> SigningKey:
        """The key `kid` as it is now, which may be revoked or is already.

        Raises RevocationRefusedError if it is the current or the next key, NotFoundError.
        """
        path = _path_of(kid)
        keys = SigningKeys(await self.list())
        key = keys.get(kid) or _named(kid, await self._api.read(path, READ_SCOPES))
        keys.require_revocable(key)
        return key

    async def published_kids(self, jwks_uri: str | None = None) -> frozenset[str]:
        """The kids in the tenant's JWK Set now, asked for past caches (`no-cache`).

        `jwks_uri` is by default the one of `domain`. Raises UnavailableError.
        """
        uri = jwks_uri or f"{self.base_url}.well-known/jwks.json"
        fetcher = HTTPKeyFetcher(self.base_url, uri, MAX_JWKS_BYTES, math.inf, self._client)
        try:
            answer = await fetcher.fetch(None, Instant.now(self.clock))
        except FetchError as error:
            raise UnavailableError(f"The tenant's key set can't be read: {error}.") from None
        kids = [key.kid for key in answer.keys or ()] + [key.kid for key in answer.skipped]
        return frozenset(kid for kid in kids if kid is not None)

    async def _revoked(self, kid: str) -> SigningKey:
        """One request to revoke; if that is not plainly done, what reading the key again says."""
        try:
            answer = await self._api.call("PUT", f"{_path_of(kid)}/revoke", REVOKE_SCOPES)
            return _read(partial(parse_change, state="revoked"), answer)
        except RateLimitedError:
            raise
        except ManagementAPIError as error:
            key = await self._as_read_again(kid)
            if key is None or not key.revoked:
                raise error from None
            return replace(key, inferred=True)

    async def _as_read_again(self, kid: str) -> SigningKey | None:
        self._api.drop_token()
        try:
            return _named(kid, await self._api.call("GET", _path_of(kid), READ_SCOPES))
        except ManagementAPIError:
            return None

    async def _settled(self, before: SigningKeys, lost: ManagementAPIError) -> SigningKey:
        """The new next key, once the list is exactly one step on from `before`."""
        after, unread = SigningKeys(), ""
        async for _ in Attempts.within(SETTLE_SECONDS, self.clock, self.sleep):
            try:
                answer = await self._api.call("GET", _PATH, READ_SCOPES)
                after, unread = SigningKeys(_read(parse_keys, answer)), ""
            except ManagementAPIError as error:
                unread = f" Then the keys could not be listed: {error}"
            if (key := after.one_step_from(before)) is not None:
                return replace(key, inferred=True)
        raise RotationUncertainError(
            f"It is not known whether the tenant rotated its keys. {lost}{unread} Don't rotate "
            f"again yet: look which key is current. Before, {before.summary}; last seen, "
            f"{after.summary}. If current and next are the same a few minutes from now, nothing "
            "happened and you can rotate again.",
            before=before,
            after=after,
        )


def _may_have_rotated(error: ManagementAPIError) -> bool:
    """Whether the tenant may have rotated although the call ended with `error`.

    Only an answer that comes before anything is done says no: a gateway's 408 or 499 does not.
    """
    if isinstance(error, UnavailableError):
        return error.sent
    return error.status not in _NOTHING_DONE


def _read(parse: Callable[[object], _T], document: object) -> _T:
    """What `parse` makes of an answer; one that is not as documented is a ManagementAPIError."""
    try:
        return parse(document)
    except UnexpectedAnswerError as error:
        raise ManagementAPIError(
            f"The Management API answered with something else than signing keys: {error}.",
            status=HTTPStatus.OK,
        ) from None


def _named(kid: str, document: object) -> SigningKey:
    """The key in an answer about `kid`; one about another key is a ManagementAPIError."""
    key = _read(parse_key, document)
    if key.kid != kid:
        raise ManagementAPIError(
            "The Management API answered about another key than it was asked for.",
            status=HTTPStatus.OK,
        )
    return key


def _path_of(kid: str) -> str:
    require_text("kid", kid)
    quoted = quote(kid, safe="")
    # The first two would name another path; the rest is more than a URL can hold.
    if kid in (".", "..") or len(quoted) > _LONGEST_KID:
        raise NotFoundError(f"The tenant has no signing key {kid[:20]!r}.")
    return f"{_PATH}/{quoted}"
