"""What is trusted at one moment: an immutable value that readers take without a lock."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from jwks_guard.base.clock import EPOCH, Instant
from jwks_guard.errors import (
    AlgorithmNotAllowedError,
    AmbiguousKeyError,
    RevokedKeyError,
)
from jwks_guard.jose.jwk import SkippedKey, VerificationKey

REMEMBERED_KIDS = 1024
"""Removed kids are told from unknown ones as long as there are no more than these."""


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """The issuer's key set as it was last confirmed, before distrust is subtracted.

    `confirmed` is when the request that confirmed it began, less the answer's Age. `seen` are the
    thumbprints of every key that was ever listed under a kid, in this set or an earlier one.
    """

    keys: tuple[VerificationKey, ...] = ()
    skipped: tuple[SkippedKey, ...] = ()
    confirmed: Instant = EPOCH
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def removed(self) -> frozenset[str]:
        """The kids that only an earlier set held."""
        return frozenset(self.seen).difference(key.kid for key in self.keys)

    def same_keys(self, keys: tuple[VerificationKey, ...]) -> bool:
        """Whether `keys` are these keys."""
        return {key.identity for key in keys} == {key.identity for key in self.keys}

    def succeeded_by(
        self, keys: tuple[VerificationKey, ...], skipped: tuple[SkippedKey, ...], confirmed: Instant
    ) -> PublishedSet:
        """The set after `keys` were confirmed: unchanged keys stay the same objects.

        An aged answer with the same keys that dates before the present confirmation, on both clocks
        (one of them may have stood still or been set), changes no date. Other keys are as old as
        the answer that lists them.
        """
        known = {key.identity: key for key in self.keys}
        kept = {key.identity: known.get(key.identity, key) for key in keys}
        seen = dict(self.seen)
        if len(seen) > REMEMBERED_KIDS:
            seen = {key.kid: self.seen[key.kid] for key in self.keys}
        for key in keys:
            seen[key.kid] = seen.get(key.kid, frozenset()) | {key.thumbprint}
        confirmed_before = self.same_keys(keys) and not self.confirmed.reached(confirmed)
        return PublishedSet(
            keys=tuple(kept.values()),
            skipped=skipped,
            confirmed=self.confirmed if confirmed_before else confirmed,
            seen=seen,
        )


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
    trusted_until: Instant = EPOCH

    def find(self, kid: str, alg: str) -> VerificationKey | None:
        """The one key that may verify `alg` signatures of `kid`; None when the kid is not held.

        Raises RevokedKeyError for a distrusted kid, AlgorithmNotAllowedError when the kid's keys
        are bound to other algorithms, AmbiguousKeyError when two different keys fit.
        """
        keys = self.by_kid.get(kid)
        if keys is None:
            if kid in self.distrusted:
                raise RevokedKeyError("The key that signed this token is distrusted.")
            return None
        fitting = [key for key in keys if alg in key.algorithms]
        if not fitting:
            raise AlgorithmNotAllowedError(
                "The key that this token names is for another algorithm."
            )
        first = fitting[0]
        if any(key.thumbprint != first.thumbprint for key in fitting[1:]):
            raise AmbiguousKeyError(
                "The issuer publishes two keys for one kid and algorithm; mend its key set."
            )
        return first

    def answers(self, kid: str, now: Instant) -> bool:
        """Whether `find` has the last word on `kid` at `now`, so that nothing need be fetched."""
        return kid in self.distrusted or (
            kid in self.by_kid and not self.trusted_until.reached(now)
        )


def subtract(
    published: PublishedSet,
    distrusted: Collection[str],
    thumbprints: frozenset[str],
    max_stale: float,
) -> TrustedKeys:
    """The view: what is published less what is distrusted, trusted for `max_stale` seconds.

    Distrusted are those kids, and under any kid the keys with those `thumbprints`.
    """
    refused = set(distrusted)
    by_kid: dict[str, tuple[VerificationKey, ...]] = {}
    for key in published.keys:
        if key.kid in distrusted or key.thumbprint in thumbprints:
            refused.add(key.kid)
        else:
            by_kid[key.kid] = (*by_kid.get(key.kid, ()), key)
    return TrustedKeys(
        by_kid=by_kid,
        live=frozenset(key for keys in by_kid.values() for key in keys),
        distrusted=frozenset(refused),
        removed=published.removed,
        trusted_until=published.confirmed.shifted(max_stale),
    )
