"""What a key store knows of its own state, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jwks_guard.distrust.state import Distrusted
from jwks_guard.jose.jwk import SkippedKey
from jwks_guard.keys.trust import Trust


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The state of one issuer's keys on this instance.

    Arguments:
        status: `ok`; `degraded` when the last fetch failed, none was made in time, or a decision to
            distrust is not stored: valid tokens are still accepted; `unavailable` when no key is
            trusted.
        issuer: whose keys.
        confirmed_at: when the issuer last confirmed the held key set, in seconds since the epoch.
        trusted_until: when trust in that set ends unless it is confirmed again (the trust bound).
        detection_bound: how long a key that the issuer withdrew can go unnoticed while fetches
            succeed, in seconds.
        upstream_age: the Age of the last usable answer, in seconds.
        last_error: why it is degraded: the last fetch's failure, or that of storing a decision.
        kids: the trusted kids.
        skipped: published keys that can't be used, with the reason.
        distrusted: the distrusted keys of this issuer by kid.

    """

    status: Literal["ok", "degraded", "unavailable"]
    issuer: str
    confirmed_at: float | None
    trusted_until: float | None
    detection_bound: float
    upstream_age: float | None
    last_error: str | None
    kids: tuple[str, ...]
    skipped: tuple[SkippedKey, ...]
    distrusted: Mapping[str, Distrusted]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-compatible data."""
        report = {name: getattr(self, name) for name in self.__slots__}
        report["kids"] = list(self.kids)
        report["skipped"] = [asdict(key) for key in self.skipped]
        report["distrusted"] = {
            kid: asdict(key) | {"thumbprints": sorted(key.thumbprints)}
            for kid, key in self.distrusted.items()
        }
        return report


def health_report(
    trust: Trust,
    kids: tuple[str, ...],
    *,
    detection_bound: float,
    upstream_age: float | None,
    last_error: str | None,
) -> HealthReport:
    """The report on `trust`, of which `kids` are the ones trusted now."""
    published = trust.published
    known = bool(published.keys)
    return HealthReport(
        status="unavailable" if not kids else "degraded" if last_error else "ok",
        issuer=trust.issuer,
        confirmed_at=published.confirmed.wall if known else None,
        trusted_until=trust.view.trusted_until.wall if known else None,
        detection_bound=detection_bound,
        upstream_age=upstream_age,
        last_error=last_error,
        kids=kids,
        skipped=published.skipped,
        distrusted=trust.distrusted,
    )
