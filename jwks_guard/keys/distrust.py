"""What has been declared untrusted, by whom it was issued and by what it is.

A tombstone names an issuer and a kid, because a kid means nothing outside its issuer, and the
RFC 7638 thumbprints of the keys seen under it, because the same key under another kid is the same
key. Only an explicit reinstatement lifts a tombstone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The decision not to trust `kid` of `issuer`; `at` is in seconds since the epoch."""

    issuer: str
    kid: str
    reason: str
    at: float
    thumbprints: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tombstones:
    """An immutable collection of tombstones; the methods return a changed copy."""

    entries: Mapping[tuple[str, str], Tombstone] = field(default_factory=dict)
    thumbprints: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        covered = frozenset[str]().union(*(t.thumbprints for t in self.entries.values()))
        object.__setattr__(self, "thumbprints", covered)

    def of(self, issuer: str) -> Mapping[str, Tombstone]:
        """The tombstones of one issuer by kid, read-only."""
        return MappingProxyType(
            {kid: stone for (owner, kid), stone in self.entries.items() if owner == issuer}
        )

    def merged(self, stones: Iterable[Tombstone]) -> Tombstones:
        """These and `stones`; for a kid in both, the older decision with all thumbprints."""
        entries = dict(self.entries)
        for stone in stones:
            held = entries.get((stone.issuer, stone.kid))
            if held is not None:
                both = held.thumbprints | stone.thumbprints
                stone = replace(held, thumbprints=both)
            entries[stone.issuer, stone.kid] = stone
        return Tombstones(entries)

    def without(self, issuer: str, kid: str) -> Tombstones:
        """These but for one; a key that another tombstone also covers stays distrusted."""
        kept = {name: stone for name, stone in self.entries.items() if name != (issuer, kid)}
        return Tombstones(kept)

    def completed(self, learned: Iterable[Tombstone]) -> Tombstones:
        """These with the thumbprints of `learned`; one that was lifted meanwhile stays lifted."""
        return self.merged(each for each in learned if (each.issuer, each.kid) in self.entries)

    def learned(self, issuer: str, seen: Mapping[str, frozenset[str]]) -> list[Tombstone]:
        """The tombstones of `issuer` that have no thumbprints, with those `seen` under their kids.

        A decision about a kid that was never seen covers the keys that are first seen under it.
        """
        return [
            replace(stone, thumbprints=seen[kid])
            for (owner, kid), stone in self.entries.items()
            if owner == issuer and not stone.thumbprints and kid in seen
        ]
