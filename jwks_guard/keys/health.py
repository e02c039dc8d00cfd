"""What a key store knows of its own state, as one value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from jwks_guard.distrust.state import Distrusted
from jwks_guard.jose.algorithms import AllowList
from jwks_guard.jose.jwk import SkippedKey, VerificationKey
from jwks_guard.jose.rsa_engine import RSAEngine
from jwks_guard.keys.trust import Trust
from jwks_guard.net.caching import Dating

HIDDEN_AGE = (
    "A cache answers for the issuer and does not say how old its answer is: neither Age nor Date "
    "shows it. The bounds hold only as far as that cache obeys Cache-Control. Let it send Age, or "
    "in nginx `proxy_pass_header Date;`."
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What both bounds are made of, in seconds.

    Arguments:
        refresh_interval: the longest pause between two fetches that succeed.
        fetch_timeout: how long one may take.
        max_stale: how long a key is trusted after it was confirmed.
        max_upstream_age: how old a fresh answer may be that confirms as of its request.
        freshness_lifetime: how long the issuer allows caches to reuse the last answer; 0.0 where it
            does not say so.
        stale_while_revalidate: for how much longer a cache may serve it while it asks anew.
        upstream_age: the age of the last answer.

    """

    refresh_interval: float
    fetch_timeout: float
    max_stale: float
    max_upstream_age: float
    freshness_lifetime: float = 0.0
    stale_while_revalidate: float = 0.0
    upstream_age: float = 0.0

    @property
    def trust(self) -> float:
        """How long a key is trusted after the issuer's own statement, by whatever cache it came."""
        return self.max_stale + self._reused

    @property
    def detection(self) -> float:
        """How long a key that the issuer withdrew can go unnoticed while fetches succeed."""
        behind = max(self._reused + self.stale_while_revalidate, self.upstream_age)
        return min(self.refresh_interval + self.fetch_timeout + behind, self.trust)

    @property
    def _reused(self) -> float:
        return min(self.freshness_lifetime, self.max_upstream_age)

    def of(self, dating: Dating | None) -> Bounds:
        """These bounds with what the last answer said."""
        if dating is None:
            return self
        return replace(
            self,
            freshness_lifetime=dating.lifetime,
            stale_while_revalidate=dating.revalidating,
            upstream_age=dating.age,
        )


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The state of one issuer's keys on this instance.

    Arguments:
        status: `ok`; `degraded` when the last fetch failed, none was made in time, or a decision to
            distrust is not stored: valid tokens are still accepted; `unavailable` when no key is
            trusted.
        issuer: whose keys.
        confirmed_at: when the issuer last confirmed the held key set, in seconds since the epoch.
        trusted_until: when trust in that set ends unless it is confirmed again.
        trust_bound: how long a key is trusted after the issuer's own statement, in seconds.
        detection_bound: how long a key that the issuer withdrew can go unnoticed while fetches
            succeed, in seconds; never more than `trust_bound`.
        bounds: what both are made of.
        upstream_age: the age of the last usable answer, in seconds.
        warning: why the bounds may not hold, where that shows: a cache hides its age.
        last_error: why it is degraded: the last fetch's failure, or that of storing a decision.
        kids: the trusted kids.
        skipped: published keys that can't be used, with the reason.
        distrusted: the distrusted keys of this issuer by kid.
        rsa_engine: what verifies RS256 and PS256 here: `cryptography`, or awscrt with its version.
        rsa_fallbacks: published RSA keys, by kid, that awscrt should verify and can't, with the
            reason: `cryptography` verifies them.

    """

    status: Literal["ok", "degraded", "unavailable"]
    issuer: str
    confirmed_at: float | None
    trusted_until: float | None
    trust_bound: float
    detection_bound: float
    bounds: Bounds
    upstream_age: float | None
    warning: str | None
    last_error: str | None
    kids: tuple[str, ...]
    skipped: tuple[SkippedKey, ...]
    distrusted: Mapping[str, Distrusted]
    rsa_engine: str
    rsa_fallbacks: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-compatible data."""
        report = msgspec.to_builtins(self, enc_hook=dict, order="deterministic")
        return {**report, "kids": list(self.kids), "skipped": list(report["skipped"])}


def health_report(
    trust: Trust,
    kids: tuple[str, ...],
    *,
    bounds: Bounds,
    dating: Dating | None,
    last_error: str | None,
    rsa: RSAEngine,
) -> HealthReport:
    """The report on `trust`, of which `kids` are the ones trusted now."""
    published = trust.published
    known = bool(published.keys)
    bounds = bounds.of(dating)
    return HealthReport(
        status="unavailable" if not kids else "degraded" if last_error else "ok",
        issuer=trust.issuer,
        confirmed_at=published.confirmed.wall if known else None,
        trusted_until=trust.view.trusted_until.wall if known else None,
        trust_bound=bounds.trust,
        detection_bound=bounds.detection,
        bounds=bounds,
        upstream_age=None if dating is None else dating.age,
        warning=HIDDEN_AGE if dating is not None and dating.hides_age else None,
        last_error=last_error,
        kids=kids,
        skipped=published.skipped,
        distrusted=trust.distrusted,
        rsa_engine=rsa.name,
        rsa_fallbacks=rsa.fallbacks(published.keys),
    )


def disallowed(keys: Iterable[VerificationKey], allowed: AllowList) -> tuple[SkippedKey, ...]:
    """The keys that verify nothing under this allow-list of algorithms, each with the reason."""
    return tuple(
        SkippedKey(
            key.kid,
            f"it is for {' or '.join(sorted(key.algorithms))}, which `algorithms` does not allow",
        )
        for key in keys
        if not any(key.may_verify(alg, allowed) for alg in key.algorithms)
    )
