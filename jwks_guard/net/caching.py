"""What an HTTP answer says of its own age (RFC 9111), read from untrusted headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Dating:
    """When an answer was made; instants in seconds since the epoch, durations in seconds.

    `generated` is Date less Age: when the origin made the answer, whichever cache sent it.
    `cacheable` is how long a shared cache may go on serving it: its freshness lifetime and
    stale-while-revalidate. stale-if-error is left out: it speaks of a broken origin, and answers
    that old are bounded by their Age.
    """

    age: float
    generated: float | None
    last_modified: float | None
    cacheable: float

    def older_than(self, held: Dating) -> bool:
        """Whether this answer shows an earlier state than `held`, as a lagging CDN edge does."""
        here, there = self.last_modified, held.last_modified
        if here is not None and there is not None and here != there:
            return here < there
        if self.generated is None or held.generated is None:
            return False
        return self.generated < held.generated

    def after(self, held: Dating | None) -> Dating:
        """This answer's dates where it has them, and nothing older than `held` otherwise."""
        if held is None:
            return self
        return replace(
            self,
            generated=_later(self.generated, held.generated),
            last_modified=_later(self.last_modified, held.last_modified),
        )


def dating(headers: Mapping[str, str], latest: float = math.inf) -> Dating:
    """Read the dates of an answer; what is malformed counts as absent.

    So does a date after `latest`, in seconds since the epoch: taken as it stands, one answer from a
    server whose clock is ahead would make every later one look older. Of several Age values the
    first one counts (RFC 9111 section 5.1), and a Last-Modified after Date is taken for Date
    (RFC 9110 section 8.8.2.1), or no later change could ever look newer.
    """
    date = _http_date(headers.get("date"))
    age = _delta_seconds(headers.get("age", "").partition(",")[0]) or 0.0
    modified = _http_date(headers.get("last-modified"), date)
    return Dating(
        age=age,
        generated=None if date is None or date > latest else date - age,
        last_modified=None if modified is None or modified > latest else modified,
        cacheable=_cacheable(headers, date),
    )


def entity_tag(headers: Mapping[str, str]) -> str | None:
    """The ETag to ask for this very answer again with (RFC 9110 section 8.8.3), or None.

    Last-Modified is no substitute: a cache that lags behind has not been modified since either, and
    its 304 would confirm a key set that it does not hold.
    """
    tag = headers.get("etag", "")
    return tag if tag.isascii() and tag.isprintable() and tag else None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds of a Retry-After header (RFC 9110 section 10.2.3), or None."""
    value = headers.get("retry-after")
    if (seconds := _delta_seconds(value)) is not None:
        return seconds
    date = _http_date(value)
    return None if date is None else max(0.0, date - now)


def _later(one: float | None, other: float | None) -> float | None:
    return max((date for date in (one, other) if date is not None), default=None)


def _cacheable(headers: Mapping[str, str], date: float | None) -> float:
    directives = _cache_control(headers.get("cache-control", ""))
    if directives.keys() & {"no-store", "no-cache", "private"}:
        return 0.0
    lifetime = _delta_seconds(directives.get("s-maxage", directives.get("max-age")))
    if lifetime is None:
        expires = _http_date(headers.get("expires"))
        lifetime = max(0.0, expires - date) if expires is not None and date is not None else 0.0
    return lifetime + (_delta_seconds(directives.get("stale-while-revalidate")) or 0.0)


def _cache_control(value: str) -> dict[str, str]:
    # Reversed, so that of a directive's values the first one counts (RFC 9111 section 4.2.1).
    pairs = (part.partition("=") for part in reversed(value.split(",")))
    return {name.strip().lower(): argument.strip().strip('"') for name, _, argument in pairs}


def _delta_seconds(value: str | None) -> float | None:
    value = value.strip() if value is not None else ""
    if not (value.isascii() and value.isdigit()):
        return None
    return float(value)  # of whatever length: beyond a float it is infinite


def _http_date(value: str | None, latest: float | None = None) -> float | None:
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # Without a zone it is GMT too (RFC 9110 section 5.6.7, asctime-date).
    instant = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return instant if latest is None else min(instant, latest)
