"""Accepted tokens per minute of each key, from the counters that instances show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from jwks_guard.readiness.state import InstanceState

MINUTES = 60
"""How far back the history goes."""
_MINUTE = 60.0
_MAX_KIDS = 1000


@dataclass(frozen=True, slots=True)
class _Seen:
    """The counters of one instance when it last reported something new; `at` by our clock."""

    at: float
    reported_at: float
    accepted: dict[str, int]


class History:
    """The last MINUTES minutes, in steps of one; instants in seconds since the epoch.

    Give it what all instances show, every few seconds. What they accepted between two looks is
    spread evenly over the time between.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._minutes: dict[int, defaultdict[str, float]] = {}
        self._looked_at: float | None = None

    def add(self, states: Iterable[InstanceState], now: float) -> None:
        """Count what was accepted since the last look, which was before `now`."""
        last = self._looked_at
        if last is not None and now < last:  # the clock was set back
            self._seen, self._minutes, last = {}, {}, None
        states = [state for state in states if state.reported_at]
        for state in states:
            self._count(state, last, now)
        here = {state.instance for state in states}
        self._seen = {name: seen for name, seen in self._seen.items() if name in here}
        self._looked_at = now
        self._minute(now)
        oldest = int(now // _MINUTE) - MINUTES
        self._minutes = {n: each for n, each in self._minutes.items() if n > oldest}

    def per_minute(self, kid: str, now: float) -> tuple[int | None, ...]:
        """The counts of MINUTES minutes, oldest first; the last is not over yet.

        None is a minute in which nobody looked.
        """
        newest = int(now // _MINUTE)
        minutes = (self._minutes.get(newest - back) for back in reversed(range(MINUTES)))
        return tuple(None if each is None else _whole(each.get(kid, 0.0)) for each in minutes)

    def rate(self, kid: str, now: float) -> float:
        """How many were accepted in the last 60 seconds, by the counts of two minutes."""
        newest, into = divmod(now, _MINUTE)
        return self._in(int(newest), kid) + self._in(int(newest) - 1, kid) * (1 - into / _MINUTE)

    def _in(self, minute: int, kid: str) -> float:
        counts = self._minutes.get(minute)
        return 0.0 if counts is None else counts.get(kid, 0.0)

    def _count(self, state: InstanceState, last_look: float | None, now: float) -> None:
        seen = self._seen.get(state.instance)
        if seen is not None and seen.reported_at == state.reported_at:
            return
        accepted = {kid: usage.accepted for kid, usage in state.usage.items()}
        if seen is not None:
            before, since = seen.accepted, seen.at
        elif last_look is not None and state.started_at >= last_look:
            before, since = {}, last_look
        else:  # what it counted before it was first seen may be days old
            before, since = accepted, now
        for kid, count in accepted.items():
            already = before.get(kid, 0)
            # A counter that has sunk was forgotten, and began anew.
            self._spread(kid, count - already if count >= already else count, since, now)
        # Counters that are not shown any more count on where they return.
        kept = accepted if len(before) > _MAX_KIDS else {**before, **accepted}
        self._seen[state.instance] = _Seen(now, state.reported_at, kept)

    def _spread(self, kid: str, count: int, since: float, now: float) -> None:
        if count <= 0:
            return
        since = max(since, now - MINUTES * _MINUTE)
        first, last = int(since // _MINUTE), int(now // _MINUTE)
        if count <= last - first:  # too few to be spread
            self._add(now, kid, count)
            return
        inner = [number * _MINUTE for number in range(first + 1, last + 1)]
        for begin, end in pairwise([since, *inner, now]):
            share = (end - begin) / (now - since) if now > since else 1.0
            if share:
                self._add(begin, kid, count * share)

    def _add(self, at: float, kid: str, count: float) -> None:
        minute = self._minute(at)
        if kid in minute or len(minute) < _MAX_KIDS:  # an instance may make up new ones each time
            minute[kid] += count

    def _minute(self, at: float) -> defaultdict[str, float]:
        return self._minutes.setdefault(int(at // _MINUTE), defaultdict(float))


def _whole(count: float) -> int:
    """Rounded, and none only where there was none."""
    return max(1, round(count)) if count else 0
