"""What has been declared untrusted, by whom it was issued and by what it is.

A tombstone names an issuer and a kid, because a kid means nothing outside its issuer, and the
RFC 7638 thumbprints of the keys seen under it, because the same key under another kid is the same
key. Only an explicit reinstatement lifts a tombstone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from jwks_guard.jose.jwk import VerificationKey


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

    def learned(self, issuer: str, keys: Iterable[VerificationKey]) -> list[Tombstone]:
        """The tombstones that `keys` complete: those of a kid whose key was never seen before."""
        shown: dict[str, set[str]] = {}
        for key in keys:
            stone = self.entries.get((issuer, key.kid))
            if stone is not None and not stone.thumbprints:
                shown.setdefault(key.kid, set()).add(key.thumbprint)
        return [
            replace(self.entries[issuer, kid], thumbprints=frozenset(prints))
            for kid, prints in shown.items()
        ]
