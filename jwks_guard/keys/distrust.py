"""What has been declared untrusted, by whom it was issued and by what it is.

A tombstone names an issuer and a kid, because a kid means nothing outside its issuer, and the
RFC 7638 thumbprints of the keys seen under it, because the same key under another kid is the same
key. Only an explicit reinstatement lifts a tombstone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from jwks_guard.keys.health import HealthReport
    from jwks_guard.readiness.state import Observed
    from jwks_guard.readiness.usage import KeyUsage


Name = tuple[str, str]
"""What a decision is about: an issuer and its kid."""
_REPEATED_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The decision not to trust `kid` of `issuer`; `at` is in seconds since the epoch.

    Of two decisions about one kid the one with the higher `version` counts, and of the same version
    the one that distrusts: processes that learn of them in any order come to the same end. A
    version holds the time at which it was decided, so that an earlier lift that nobody here has
    heard of yet does not undo it.
    """

    issuer: str
    kid: str
    reason: str
    at: float
    thumbprints: frozenset[str] = frozenset()
    version: int = 1

    def joined(self, other: Tombstone) -> Tombstone:
        """This and `other` about the same kid as one: the one that counts, with both's keys.

        Of the same version the earlier one gives the reason.
        """
        counts = min(self, other, key=lambda stone: (-stone.version, stone.at, stone.reason))
        return replace(counts, thumbprints=self.thumbprints | other.thumbprints)


@dataclass(frozen=True, slots=True)
class Tombstones:
    """An immutable collection of tombstones; the methods return a changed copy.

    `lifted` holds the version at which a decision was lifted, so that an older one that comes in
    later, from a process that did not know, changes nothing.
    """

    entries: Mapping[Name, Tombstone] = field(default_factory=dict)
    lifted: Mapping[Name, int] = field(default_factory=dict)
    thumbprints: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        covered = frozenset[str]().union(*(t.thumbprints for t in self.entries.values()))
        object.__setattr__(self, "thumbprints", covered)

    def of(self, issuer: str) -> Mapping[str, Tombstone]:
        """The tombstones of one issuer by kid, read-only."""
        return MappingProxyType(
            {kid: stone for (owner, kid), stone in self.entries.items() if owner == issuer}
        )

    def next_version(self, name: Name, at: float) -> int:
        """The version of a decision to distrust that is made at `at`, in seconds since the epoch.

        It is above every lift known here, and above those that were made before, as they lift
        decisions older still. One that stands keeps its own for a day, or whoever repeats it
        without end would fill the fleet's memory.
        """
        held, version = self.entries.get(name), int(at * 1000)
        if held is None:
            return max(self.lifted.get(name, 0) + 1, version)
        return version if version - held.version >= _REPEATED_MS else held.version

    def decided(
        self, name: Name, reason: str, at: float, thumbprints: frozenset[str] = frozenset()
    ) -> Tombstone:
        """The decision to distrust that is made at `at`; one that stands gives time and reason."""
        version, held = self.next_version(name, at), self.entries.get(name)
        if held is None:
            return Tombstone(*name, reason, at, thumbprints, version)
        return replace(held, version=version, thumbprints=held.thumbprints | thumbprints)

    def next_lift(self, name: Name) -> int:
        """The version of lifting that decision: the least that does, whenever that is."""
        held = self.entries.get(name)
        return held.version + 1 if held is not None else max(1, self.lifted.get(name, 0))

    def merged(self, stones: Iterable[Tombstone]) -> Tombstones:
        """These and `stones`; for a kid in both, the decision that counts with all thumbprints."""
        entries, lifted = dict(self.entries), dict(self.lifted)
        for stone in stones:
            name = stone.issuer, stone.kid
            if lifted.get(name, 0) > stone.version:
                continue
            lifted.pop(name, None)
            held = entries.get(name)
            entries[name] = stone if held is None else held.joined(stone)
        return Tombstones(entries, lifted)

    def without(self, lifts: Mapping[Name, int]) -> Tombstones:
        """These without those lifted at a higher version than their own.

        A key that another tombstone also covers stays distrusted.
        """
        entries, lifted = dict(self.entries), dict(self.lifted)
        for name, version in lifts.items():
            held = entries.get(name)
            if held is not None and held.version >= version:
                continue
            entries.pop(name, None)
            lifted[name] = max(version, lifted.get(name, 0))
        return Tombstones(entries, lifted)

    def above(self, lifts: Mapping[Name, int], names: Collection[Name]) -> list[Tombstone]:
        """The tombstones under `names` that `lifts` would lift, with versions that they don't."""
        return [
            replace(stone, version=lifts[name] + 1)
            for name, stone in self.entries.items()
            if name in names and lifts.get(name, 0) > stone.version
        ]

    def completed(self, learned: Iterable[Tombstone]) -> Tombstones:
        """These with the thumbprints of `learned`; one that was lifted meanwhile stays lifted."""
        return self.merged(each for each in learned if (each.issuer, each.kid) in self.entries)

    def learned(
        self,
        issuer: str,
        seen: Mapping[str, frozenset[str]],
        fresh: Collection[str] = frozenset(),
    ) -> list[Tombstone]:
        """The tombstones of `issuer` that `seen`, the keys seen under each kid, adds keys to.

        A decision about a kid that was never seen covers the keys that are first seen under it. So
        does one under a `fresh` kid, which is new here or has just been decided about, beside the
        keys that it came with: whoever made it may have seen others, or be wrong.
        """
        return [
            replace(stone, thumbprints=stone.thumbprints | seen[kid])
            for (owner, kid), stone in self.entries.items()
            if owner == issuer
            and kid in seen
            and (not stone.thumbprints or kid in fresh)
            and not seen[kid] <= stone.thumbprints
        ]


class Decided(Protocol):
    """The decisions of a FleetMember."""

    @property
    def known(self) -> Tombstones:
        """Every decision that it knows of."""
        ...

    @property
    def unshared(self) -> Mapping[Name, Tombstone]:
        """What was decided here and, as far as is known, by nobody heard of yet."""
        ...

    def shared(self, stones: Mapping[Name, Tombstone]) -> None:
        """Note that the others can know of these now."""
        ...

    def decide(self, stones: Collection[Tombstone], lifts: Mapping[Name, int]) -> None:
        """Go by these, which were decided in this process; in effect when this returns."""
        ...

    async def saved(self) -> None:
        """Wait until what came in is written down, but not for ever."""
        ...

    def take_over(self, stones: Collection[Tombstone], lifts: Mapping[Name, int]) -> None:
        """Go by these, which come from outside, from now on; in effect when this returns.

        A lift from outside does not undo what is unshared: whoever made it did not know of that.
        """
        ...


class FleetMember(Protocol):
    """What a DistrustFeed needs of a KeyStore; used on the loop that the store is bound to."""

    issuer: str
    since: float
    """When it began to count what its verifiers do, in seconds since the epoch."""

    @property
    def decisions(self) -> Decided:
        """What it distrusts."""
        ...

    def health(self) -> HealthReport:
        """The state of its keys."""
        ...

    def usage(self) -> Mapping[str, KeyUsage]:
        """What became of each kid's tokens."""
        ...

    def refresh_soon(self) -> None:
        """Have the keys refreshed without waiting for it."""
        ...

    def hurry(self, interval: float | None) -> None:
        """Refresh the keys at least every `interval` seconds; None: as configured."""
        ...


class DistrustFeed(Protocol):
    """Whatever shares decisions to distrust with other processes: the fleet.

    Its methods are called on the event loop that the store is bound to.
    """

    @property
    def error(self) -> str | None:
        """Why it can't share anything at the moment; None when it can."""
        ...

    async def join(self, member: FleetMember) -> None:
        """Take part from now on; `member` knows the fleet's decisions when this returns.

        Raises ConfigurationError when that is required and not possible.
        """
        ...

    async def leave(self, member: FleetMember) -> None:
        """Take part no longer."""
        ...

    async def share(self) -> None:
        """Have the others know what the members know; raises DistrustNotSharedError."""
        ...

    async def share_lifts(self, lifts: Mapping[Name, int], reason: str) -> None:
        """Have the others lift these decisions; raises DistrustNotSharedError."""
        ...

    async def observe(self, kid: str, issuer: str) -> Observed:
        """What every process shows of that issuer's `kid`; raises JWKSGuardError, never guesses."""
        ...
