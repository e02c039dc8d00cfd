"""What is trusted at one moment: an immutable value that readers take without a lock."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from jwks_guard.base.clock import EPOCH, Instant
from jwks_guard.errors import (
    AlgorithmNotAllowedError,
    MalformedTokenError,
    RevokedKeyError,
    UnusableKeyError,
)
from jwks_guard.jose.algorithms import ALL, AllowList
from jwks_guard.jose.jwk import SkippedKey, VerificationKey

REMEMBERED_KIDS = 1024
"""Removed kids are told from unknown ones as long as there are no more than these."""
REMEMBERED_THUMBPRINTS = 10_000
"""Of the keys that were ever listed under a kid. An issuer that exchanges its key each hour, and
not its kid, gets there after more than a year; then no further key is taken under that kid."""
_NO_ROOM = (
    f"more than {REMEMBERED_THUMBPRINTS} keys were published under the kids that are in use: let "
    "the issuer give each key a kid of its own, and restart this process"
)
SHOWN_SKIPPED = 1024
"""As many unusable keys are known by their reason: a set has room for tens of thousands."""


Listing: TypeAlias = tuple[str, str]
"""A kid and the RFC 7638 thumbprint of a key under it."""


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """The issuer's key set as it was last confirmed, before distrust is subtracted.

    `confirmed` is as of when the issuer confirmed it (RFC 9111, as net.caching reads it). `origin`
    is when it made the newest answer that was ever taken, at the latest, and `listed` are the kids
    and thumbprints in that one: they outlive trust. `source` is when it made the answer that `keys`
    are from: an earlier one, once trust ran out and only caches answer. `seen` are the thumbprints
    of the keys that were listed under a kid, in this set or an earlier one.
    """

    keys: tuple[VerificationKey, ...] = ()
    skipped: tuple[SkippedKey, ...] = ()
    confirmed: Instant = EPOCH
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict)
    origin: Instant = EPOCH
    source: Instant = EPOCH
    listed: frozenset[Listing] = frozenset()

    @property
    def is_newest(self) -> bool:
        """Whether the keys are from the newest answer."""
        return self.origin.reached(self.source)

    @property
    def removed(self) -> frozenset[str]:
        """The kids that neither this set nor the newest one lists, and an earlier one did."""
        kids = frozenset(self.seen).difference(kid for kid, _ in self.listed)
        return kids.difference(key.kid for key in self.keys)

    def still_listed(self, keys: tuple[VerificationKey, ...]) -> tuple[VerificationKey, ...]:
        """Those of `keys` that the newest set lists, too."""
        return tuple(key for key in keys if (key.kid, key.thumbprint) in self.listed)

    def ended(self) -> PublishedSet:
        """What is known of the issuer's keys when none is trusted any more."""
        return PublishedSet(
            seen=self.seen, origin=self.origin, source=self.origin, listed=self.listed
        )

    def same_keys(self, keys: tuple[VerificationKey, ...]) -> bool:
        """Whether `keys` are these keys."""
        return keys == self.keys or (
            {key.identity for key in keys} == {key.identity for key in self.keys}
        )

    def _recent(self) -> Mapping[str, frozenset[str]]:
        """What was seen, or if that is too much, what was seen under the kids that are in use."""
        total = sum(map(len, self.seen.values()))
        if len(self.seen) <= REMEMBERED_KIDS and total <= REMEMBERED_THUMBPRINTS:
            return self.seen
        used = {kid for kid, _ in self.listed}.union(key.kid for key in self.keys)
        return {kid: self.seen[kid] for kid in used.intersection(self.seen)}

    def succeeded_by(
        self,
        keys: tuple[VerificationKey, ...],
        skipped: tuple[SkippedKey, ...],
        confirmed: Instant,
        origin: Instant | None = None,
    ) -> PublishedSet:
        """The set after an answer made at `origin`, or as of `confirmed`, confirmed `keys`.

        Unchanged keys stay the same objects. An aged answer with the same keys that dates before
        the present confirmation, on both clocks (one of them may have stood still or been set),
        changes no date. Other keys are as old as the answer that lists them.
        """
        origin = confirmed if origin is None else origin
        newest = self.origin.reached(origin)
        same = self.same_keys(keys)
        if same and not self.confirmed.reached(confirmed):
            confirmed = self.confirmed
        if same and self.is_newest:
            latest = origin if newest else self.origin
            return replace(
                self,
                skipped=skipped[:SHOWN_SKIPPED],
                confirmed=confirmed,
                origin=latest,
                source=latest,
            )
        known = {key.identity: key for key in self.keys}
        kept = {key.identity: known.get(key.identity, key) for key in keys}
        taken, seen, refused = _remembered(self._recent(), tuple(kept.values()))
        listed = frozenset((key.kid, key.thumbprint) for key in keys)
        return PublishedSet(
            keys=taken,
            skipped=(refused + skipped)[:SHOWN_SKIPPED],
            confirmed=confirmed,
            seen=seen,
            origin=origin if newest else self.origin,
            source=origin,
            listed=listed if newest else self.listed,
        )


def _remembered(
    seen: Mapping[str, frozenset[str]], keys: tuple[VerificationKey, ...]
) -> tuple[tuple[VerificationKey, ...], dict[str, frozenset[str]], tuple[SkippedKey, ...]]:
    """The keys that can be taken, what was seen by then, and the keys that can't be.

    What is distrusted later covers all that was seen under its kid. If the first of these could be
    pushed out by others, a stolen key could come back under another kid. So nothing is forgotten
    of a kid that is listed: where there is no room, no further key is taken under it.
    """
    listed = {key.kid for key in keys}
    room = REMEMBERED_THUMBPRINTS - sum(len(seen[kid]) for kid in listed if kid in seen)
    after: dict[str, set[str]] = {kid: set(seen.get(kid, ())) for kid in listed}
    taken: list[VerificationKey] = []
    refused: list[SkippedKey] = []
    for key in keys:
        thumbprints = after[key.kid]
        if key.thumbprint not in thumbprints:
            if room <= 0:
                refused.append(SkippedKey(key.kid, _NO_ROOM))
                continue
            thumbprints.add(key.thumbprint)
            room -= 1
        taken.append(key)
    changed = {kid: frozenset(thumbprints) for kid, thumbprints in after.items() if thumbprints}
    return tuple(taken), {**seen, **changed}, tuple(refused)


@dataclass(frozen=True, slots=True, eq=False)
class TrustedKeys:
    """The keys that may verify a token, each with the moment until which that holds.

    `live` holds the same key objects as `by_kid`: a result that was verified with a key stands as
    long as this very object is in the current view.
    """

    by_kid: Mapping[str, tuple[VerificationKey, ...]] = field(default_factory=dict)
    live: frozenset[VerificationKey] = frozenset()
    distrusted: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    unusable: Mapping[str, str] = field(default_factory=dict)
    trusted_until: Instant = EPOCH

    def find(self, kid: str | None, alg: str, allowed: AllowList = ALL) -> VerificationKey | None:
        """The one key that may verify `alg` signatures of `kid`; None when the kid is not held.

        Raises RevokedKeyError for a distrusted kid, AlgorithmNotAllowedError when the kid's keys
        are bound to other algorithms, UnusableKeyError when the issuer's key can't be used, or two
        different ones fit. For a token without kid see `_find_unnamed`.
        """
        if kid is None:
            return self._find_unnamed(alg, allowed)
        keys = self.by_kid.get(kid)
        if keys is None:
            if kid in self.distrusted:
                raise RevokedKeyError("The key that signed this token is distrusted.")
            if (why := self.unusable.get(kid)) is not None:
                raise UnusableKeyError(
                    "The issuer publishes the key that this token names, but it can't be used: "
                    f"{why}."
                )
            return None
        fitting = [key for key in keys if key.may_verify(alg, allowed)]
        if not fitting:
            raise AlgorithmNotAllowedError(
                "The key that this token names is for another algorithm. One without `alg` is for "
                "RS256, its curve's ES algorithm or EdDSA, unless `algorithms` names others."
            )
        first = fitting[0]
        if any(key.thumbprint != first.thumbprint for key in fitting[1:]):
            raise UnusableKeyError(
                "The issuer publishes different keys for this kid and algorithm, so that none of "
                "them is used; mend its key set."
            )
        return first

    def _find_unnamed(self, alg: str, allowed: AllowList) -> VerificationKey | None:
        """The key of a token without `kid`: the one JWK without `kid`, or the one JWK, that fits.

        Where there are two, no key is tried. Raises RevokedKeyError, AlgorithmNotAllowedError and
        MalformedTokenError; None where no key is held.
        """
        if not self.live:
            if self.distrusted:
                raise RevokedKeyError("Every key that the issuer publishes is distrusted.")
            return None
        for keys in ([key for key in self.live if not key.named], self.live):
            fitting = [key for key in keys if key.may_verify(alg, allowed)]
            # A key that is listed more than once is one key.
            if len({key.thumbprint for key in fitting}) > 1:
                raise MalformedTokenError(
                    "The header has no `kid`, and the issuer publishes more than one key for its "
                    "`alg`: let it put the `kid` into its tokens."
                )
            if fitting:
                return fitting[0]
        raise AlgorithmNotAllowedError(
            "The header has no `kid`, and no key of the issuer is for its `alg`."
        )

    def answers(self, kid: str | None, now: Instant) -> bool:
        """Whether `find` has the last word on `kid` at `now`, so that nothing need be fetched."""
        return kid in self.distrusted or (
            (kid is None or kid in self.by_kid or kid in self.unusable)
            and not self.trusted_until.reached(now)
        )


def subtract(
    published: PublishedSet,
    distrusted: Collection[str],
    thumbprints: frozenset[str],
    max_stale: float,
) -> TrustedKeys:
    """The view: what is published less what is distrusted, trusted for `max_stale` seconds.

    Distrusted are those kids, and under any kid the keys with those `thumbprints`. A key may be
    named by its thumbprint instead of its kid.
    """
    refused = set(distrusted)
    by_kid: dict[str, list[VerificationKey]] = {}
    for key in published.keys:
        named = key.kid in distrusted or key.thumbprint in distrusted
        if named or key.thumbprint in thumbprints:
            refused.add(key.kid)
        else:
            by_kid.setdefault(key.kid, []).append(key)
    return TrustedKeys(
        by_kid={kid: tuple(keys) for kid, keys in by_kid.items()},
        live=frozenset(key for keys in by_kid.values() for key in keys),
        distrusted=frozenset(refused),
        removed=published.removed,
        unusable={key.kid: key.reason for key in published.skipped if key.kid is not None},
        trusted_until=published.confirmed.shifted(max_stale),
    )
