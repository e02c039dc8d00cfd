"""What an HTTP answer says of its own age (RFC 9111), read from untrusted headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

WHOLE_SECONDS = 1.0
"""A Date has whole seconds: the answer was made within the one that it names."""
_GREATEST_SECONDS = 2.0**31
"""What a greater number counts as (RFC 9111 section 1.2.2); an infinite one is no JSON."""
_UNCACHED = frozenset({"no-store", "no-cache", "private"})
_CACHE_HEADERS = ("cache-status", "x-cache", "x-cache-status", "x-proxy-cache")
_FROM_CACHE = re.compile(r"\b(hit|stale|updating|revalidated)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dating:
    """How old an answer is and how long it may be reused; in seconds, instants since the epoch.

    Arguments:
        age: what had passed since the issuer made the answer when it was asked for: the greater one
            of its Age header and of what its Date says (RFC 9111 section 4.2.3).
        reported_age: its Age header alone.
        lifetime: how long the issuer allows caches to reuse it (section 4.2.1); 0.0 where it allows
            nothing, or says it in a malformed way. Never a guess (section 4.2.2).
        revalidating: for how much longer a cache may serve it while it asks anew (RFC 5861).
        fresh: whether it had time of its lifetime left when it arrived.
        last_modified: when the issuer changed it last, by its own account.
        date: its Date.
        hides_age: a cache says that it answered, but neither Age nor Date shows since when.

    """

    age: float = 0.0
    reported_age: float = 0.0
    lifetime: float = 0.0
    revalidating: float = 0.0
    fresh: bool = False
    last_modified: float | None = None
    date: float | None = None
    hides_age: bool = False

    def confirms(self, max_upstream_age: float) -> float:
        """How many seconds before the request the issuer confirmed what the answer says.

        None, for an answer that is fresh and at most `max_upstream_age` old: reusing it is what the
        issuer itself allows. Any other answer speaks for the moment when it was made.
        """
        return 0.0 if self.fresh and self.age <= max_upstream_age else self.age

    def reverts(self, last_modified: float | None) -> bool:
        """Whether it was changed before `last_modified`, as far as both are known."""
        here = self.last_modified
        return here is not None and last_modified is not None and here < last_modified


def dating(headers: Mapping[str, str], asked: float, received: float) -> Dating:
    """Read the dates of an answer that was asked for and received at these instants.

    What is malformed counts as absent. So does a Last-Modified that lies ahead: taken as it stands,
    one answer from a server whose clock is ahead would make every later one look reverted. After
    Date it is taken for Date (RFC 9110 section 8.8.2.1). Of several Age values the first one counts
    (RFC 9111 section 5.1).
    """
    date = _http_date(headers.get("date"))
    reported = _delta_seconds(headers.get("age", "").partition(",")[0])
    apparent = 0.0 if date is None else max(0.0, asked - date - WHOLE_SECONDS)
    age = max(reported or 0.0, apparent)
    lifetime, revalidating = _lifetimes(headers, date)
    modified = _http_date(headers.get("last-modified"))
    if modified is not None and date is not None:
        modified = min(modified, date)
    return Dating(
        age=age,
        reported_age=reported or 0.0,
        lifetime=lifetime,
        revalidating=revalidating,
        fresh=age + max(0.0, received - asked) < lifetime,
        last_modified=None if modified is None or modified > received else modified,
        date=date,
        hides_age=reported is None and apparent == 0.0 and _is_from_cache(headers),
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
    if (seconds := _seconds(value)) is not None:
        return seconds
    date = _http_date(value)
    return None if date is None else max(0.0, date - now)


def _lifetimes(headers: Mapping[str, str], date: float | None) -> tuple[float, float]:
    """The freshness lifetime for a shared cache, and stale-while-revalidate.

    stale-if-error is left out: it speaks of a broken origin, and taken at its word it would keep a
    withdrawn key for a day.
    """
    directives = _cache_control(headers.get("cache-control", ""))
    if directives.keys() & _UNCACHED:
        return 0.0, 0.0
    revalidating = _delta_seconds(directives.get("stale-while-revalidate")) or 0.0
    stated = directives.get("s-maxage", directives.get("max-age"))
    if stated is not None:
        return _delta_seconds(stated) or 0.0, revalidating
    expires = _http_date(headers.get("expires"))
    if expires is None or date is None:
        return 0.0, revalidating
    return max(0.0, expires - date), revalidating


def _cache_control(value: str) -> dict[str, str]:
    """The directives; one that is given twice, and differently, is malformed."""
    directives: dict[str, str] = {}
    for part in value.split(","):
        name, _, argument = part.partition("=")
        name, argument = name.strip().lower(), argument.strip().strip('"')
        directives[name] = argument if directives.get(name, argument) == argument else ""
    return directives


def _is_from_cache(headers: Mapping[str, str]) -> bool:
    return any(_FROM_CACHE.search(headers.get(name, "")) for name in _CACHE_HEADERS)


def _delta_seconds(value: str | None) -> float | None:
    seconds = _seconds(value)
    return None if seconds is None else min(seconds, _GREATEST_SECONDS)


def _seconds(value: str | None) -> float | None:
    value = value.strip() if value is not None else ""
    if not (value.isascii() and value.isdigit()):
        return None
    return float(value)  # of whatever length: beyond a float it is infinite


def _http_date(value: str | None) -> float | None:
    """An HTTP-date (RFC 9110 section 5.6.7) in seconds since the epoch; None for anything else."""
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # Without a zone it is GMT too (asctime-date).
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
