"""The keys of a tenant: what rotate and revoke do to them, and every set published so far."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, cast, get_args

from jwks_guard.testing.keys import SigningKey, Status, generate_signing_key

if TYPE_CHECKING:
    from jwks_guard.testing.settings import Settings

_FIRST_KEY_AGE = 30 * 86_400.0  # s; a tenant's keys are older than the test that uses them
_ORDER = ("current", "next", "previous", "revoked")


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """One version of the JWK Set; `changed_at` (seconds since 1970) is its Last-Modified."""

    keys: tuple[Mapping[str, Any], ...]
    changed_at: float

    @property
    def body(self) -> bytes:
        """The set as JSON (RFC 7517 section 5)."""
        return json.dumps({"keys": self.keys}, separators=(",", ":")).encode()

    def document(self) -> dict[str, Any]:
        """The set as anyone reads it, to keep and to change."""
        document: dict[str, Any] = json.loads(self.body)
        return document


@dataclass(frozen=True, slots=True)
class Contents:
    """Every key that was ever in the rotation, the latest first, and the set published last."""

    keys: tuple[SigningKey, ...]
    published: PublishedSet


class KeyInUseError(ValueError):
    """A key that is current, next or revoked already can't be revoked."""


class Keyring:
    """Current, next, previous and revoked keys, and the published sets in order.

    It goes on with the contents of `kept`; None: with new keys. Each change is given to `keep`
    first; what that raises undoes it. Safe from any thread. A key is made before the lock is taken,
    as RSA takes tens of milliseconds.
    """

    def __init__(
        self, settings: Settings, kept: Contents | None, keep: Callable[[Contents], None]
    ) -> None:
        self._settings = settings
        self._keep = keep
        self._clock = settings.clock
        self._lock = Lock()
        if kept is None:
            kept = self._first()
            keep(kept)
        self._keys = kept.keys
        self._versions = [kept.published]

    def _first(self) -> Contents:
        now = self._clock.time()
        since = now - _FIRST_KEY_AGE
        first = replace(self.generate(now=since), status="current", current_since=since)
        second = self.generate(now=since)
        # Dated with now: a set that looks older than the one of a tenant that ran here before is
        # refused as the answer of a cache that lags behind.
        return Contents((second, first), PublishedSet((first.jwk, second.jwk), now))

    def generate(
        self, *, algorithm: str | None = None, kid: str | None = None, now: float | None = None
    ) -> SigningKey:
        """A key like the tenant's own that is not published anywhere."""
        return generate_signing_key(
            algorithm or self._settings.algorithm,
            now=self._clock.time() if now is None else now,
            common_name=self._settings.host,
            kid=kid,
            make_rsa_key=self._settings.make_rsa_key,
        )

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """Every key ever in the rotation: current, next, previous (latest first), revoked."""
        return tuple(sorted(self._keys, key=lambda key: _ORDER.index(key.status)))

    @property
    def published(self) -> PublishedSet:
        """The set as it is now."""
        return self.version(0)

    def version(self, back: int) -> PublishedSet:
        """The set as it was `back` changes ago; raises LookupError if it never was."""
        with self._lock:
            if not 0 <= back < len(self._versions):
                raise LookupError(f"the set has changed {len(self._versions) - 1} times so far")
            return self._versions[-1 - back]

    def key(self, kid: str) -> SigningKey:
        """The key of that kid, revoked or not; raises LookupError if there is none."""
        for key in self._keys:
            if key.kid == kid:
                return key
        raise LookupError("no signing key has this kid")

    def select(self, selector: str) -> SigningKey:
        """The key of that status, the latest one, or of that kid; raises LookupError."""
        if selector in get_args(Status):
            return self.by_status(cast("Status", selector))
        return self.key(selector)

    def by_status(self, status: Status) -> SigningKey:
        """The current, the next or the latest previous or revoked key; raises LookupError."""
        for key in self.keys:
            if key.status == status:
                return key
        raise LookupError(f"no signing key is {status}")

    def rotate(self) -> SigningKey:
        """Make the next key current and the current one previous; gives the new next key."""
        new = self.generate()
        with self._lock:
            now = self._clock.time()
            keys = (new, *(_rotated(key, now) for key in self._keys))
            self._change(keys, (*self._listed, new.jwk))
        return new

    def revoke(self, kid: str) -> SigningKey:
        """Withdraw a previously used key for good and give it.

        Raises LookupError if it is unknown and KeyInUseError if it is current, next or revoked.
        """
        with self._lock:
            key = self.key(kid)
            if not key.previous:
                raise KeyInUseError(f"the {key.status} key can't be revoked")
            revoked = replace(key, status="revoked", revoked_at=self._clock.time())
            self._change(self._with(revoked, instead_of=key), _without(self._listed, kid))
        return revoked

    def remove(self, kid: str) -> None:
        """Publish the set without `kid`, although the key is not revoked."""
        with self._lock:
            self._change(self._keys, _without(self._listed, kid))

    def publish(self, jwk: Mapping[str, Any]) -> None:
        """Publish the set with one more JWK document, whatever it says."""
        with self._lock:
            self._change(self._keys, (*self._listed, dict(jwk)))

    def swap(self, kid: str) -> SigningKey:
        """Put new key material under a kid that is in use, and give the new key."""
        made = self.generate(kid=kid)
        with self._lock:
            key = self.key(kid)
            new = replace(key, private_key=made.private_key, certificate=made.certificate)
            listed = tuple(new.jwk if jwk.get("kid") == kid else jwk for jwk in self._listed)
            self._change(self._with(new, instead_of=key), listed)
        return new

    @property
    def _listed(self) -> tuple[Mapping[str, Any], ...]:
        return self._versions[-1].keys

    def _with(self, new: SigningKey, *, instead_of: SigningKey) -> tuple[SigningKey, ...]:
        return tuple(new if key is instead_of else key for key in self._keys)

    def _change(self, keys: tuple[SigningKey, ...], listed: tuple[Mapping[str, Any], ...]) -> None:
        published = self._versions[-1]
        if listed != published.keys:
            published = PublishedSet(listed, self._clock.time())
        self._keep(Contents(keys, published))
        self._keys = keys
        if published is not self._versions[-1]:
            self._versions.append(published)


def _rotated(key: SigningKey, now: float) -> SigningKey:
    if key.next:
        return replace(key, status="current", current_since=now)
    if key.current:
        return replace(key, status="previous", current_until=now)
    return key


def _without(keys: tuple[Mapping[str, Any], ...], kid: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(jwk for jwk in keys if jwk.get("kid") != kid)
