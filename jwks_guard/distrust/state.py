"""Which keys are distrusted, as a state that only grows (pure).

Each key has an enable-wins flag (Shapiro et al., "A comprehensive study of CRDTs", 2011): two maps
of counters that are merged by taking the maximum. Order, repetition, loss, clocks and restarts do
not matter, and a lift undoes exactly the decisions that its maker knew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct
from msgspec.structs import replace

Name: TypeAlias = tuple[str, str]
"""The key that a decision is about: an issuer and a kid, which means nothing without its issuer."""

MAX_NUMBER = 2**53 - 1
"""The largest number that JSON and Redis keep exactly (RFC 8259 section 6)."""


class Decision(Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """The latest decision of one replica about one key, or the latest lift of its decisions.

    `at` is in seconds since the epoch, by the clock of the replica that decided. `reason`, `at` and
    `by` are for people: only `number` counts.
    """

    number: Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
    reason: str = ""
    at: float = 0.0
    by: str = ""


@dataclass(frozen=True, slots=True)
class Distrusted:
    """A key that is distrusted, with the earliest decision that stands.

    Arguments:
        issuer: the issuer of the key.
        kid: its key ID (RFC 7517 section 4.5).
        reason: why it is distrusted.
        at: when that was decided, in seconds since the epoch.
        by: who decided it: an actor, or the host and process ID.
        thumbprints: the RFC 7638 thumbprints of the keys that are refused under any kid.

    """

    issuer: str
    kid: str
    reason: str
    at: float
    by: str = ""
    thumbprints: frozenset[str] = frozenset()


class Distrust(Struct, frozen=True, forbid_unknown_fields=True):
    """The flag of one key: it is distrusted while any replica made more than was lifted.

    `made` has the latest decision to distrust of each replica, `lifted` the number up to which its
    decisions were lifted. `thumbprints` are those of the keys meant: they are refused under any kid
    while the flag stands.
    """

    made: Mapping[str, Decision] = {}
    lifted: Mapping[str, Decision] = {}
    thumbprints: frozenset[str] = frozenset()

    @property
    def standing(self) -> list[Decision]:
        """The decisions that no lift covers, the earliest one first."""
        return sorted(
            (made for replica, made in self.made.items() if made.number > self._lifted_to(replica)),
            key=lambda made: (made.at, made.reason, made.by),
        )

    @property
    def stands(self) -> bool:
        """Whether the key is distrusted."""
        return any(made.number > self._lifted_to(replica) for replica, made in self.made.items())

    @property
    def entries(self) -> int:
        """How much it is: its counters, and its thumbprints."""
        return len(self.made) + len(self.lifted) + len(self.thumbprints)

    @property
    def latest_lift(self) -> Decision:
        """The lift that was made last, by the clock of its maker; a flag without one has none."""
        return max(self.lifted.values(), key=lambda lift: (lift.at, lift.reason, lift.by))

    def decided(self, replica: str, decision: Decision, thumbprints: frozenset[str]) -> Distrust:
        """The flag after one more decision of `replica`, whose number is given here.

        While an earlier decision of the same replica stands, that one's reason and time stay.
        """
        earlier, lifted = self.made.get(replica), self._lifted_to(replica)
        number = max(earlier.number if earlier else 0, lifted) + 1
        told = earlier if earlier is not None and earlier.number > lifted else decision
        made = Decision(number, told.reason, told.at, told.by)
        return replace(
            self,
            made={**self.made, replica: made},
            thumbprints=self.thumbprints | thumbprints,
        )

    def lift(self, reason: str, at: float, by: str) -> Distrust:
        """What has to be merged to lift every decision that this flag knows."""
        return Distrust(
            lifted={
                replica: Decision(made.number, reason, at, by)
                for replica, made in self.made.items()
                if made.number > self._lifted_to(replica)
            }
        )

    def merged(self, other: Distrust) -> Distrust:
        """The maximum of both, entry by entry; this very object if `other` adds nothing."""
        new = other.beyond(self)
        if new is None:
            return self
        return Distrust(
            {**self.made, **new.made},
            {**self.lifted, **new.lifted},
            self.thumbprints | new.thumbprints,
        )

    def beyond(self, other: Distrust | None) -> Distrust | None:
        """The part of this flag that `other` lacks; None if it lacks nothing."""
        if other is None:
            return self
        made = {r: d for r, d in self.made.items() if _exceeds(d, other.made.get(r))}
        lifted = {r: d for r, d in self.lifted.items() if _exceeds(d, other.lifted.get(r))}
        thumbprints = self.thumbprints - other.thumbprints
        return Distrust(made, lifted, thumbprints) if made or lifted or thumbprints else None

    def _lifted_to(self, replica: str) -> int:
        lift = self.lifted.get(replica)
        return 0 if lift is None else lift.number


_NONE: frozenset[str] = frozenset()


def _exceeds(one: Decision, other: Decision | None) -> bool:
    return other is None or one.number > other.number


Flags: TypeAlias = Mapping[Name, Distrust]
NOTHING: Flags = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Every flag, with what follows from them; immutable, and another object after each change.

    `distrusted` has the keys whose flag stands, by issuer and kid, and `thumbprints` those of these
    keys, by issuer. They are computed when the state is made, so that readers take no lock.
    """

    flags: Flags = field(default_factory=dict)
    distrusted: Mapping[str, Mapping[str, Distrusted]] = field(default_factory=dict)
    thumbprints: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        """How much all flags are."""
        return sum(flag.entries for flag in self.flags.values())

    def of(self, issuer: str) -> Mapping[str, Distrusted]:
        """The distrusted keys of one issuer by kid, read-only."""
        return MappingProxyType(self.distrusted.get(issuer, {}))

    def covered(self, issuers: Collection[str]) -> frozenset[str]:
        """The thumbprints of the distrusted keys of these issuers."""
        return _NONE.union(
            *(held for issuer, held in self.thumbprints.items() if issuer in issuers)
        )

    def merged(self, flags: Flags) -> State:
        """This state and `flags`; this very object if they add nothing."""
        changed = {
            name: merged
            for name, flag in flags.items()
            if (merged := self._merged_flag(name, flag)) is not self.flags.get(name)
        }
        return self._with(changed) if changed else self

    def _merged_flag(self, name: Name, flag: Distrust) -> Distrust:
        held = self.flags.get(name)
        return flag if held is None else held.merged(flag)

    def _with(self, changed: Flags) -> State:
        flags = {**self.flags, **changed}
        keys = {name: _distrusted(name, flag) for name, flag in changed.items()}
        other = {name: key for name, key in keys.items() if key != self._key(name)}
        if not other:
            return State(flags, self.distrusted, self.thumbprints)
        copies = {issuer: dict(self.distrusted.get(issuer, {})) for issuer, _ in other}
        for (issuer, kid), key in other.items():
            if key is not None:
                copies[issuer][kid] = key
            else:
                del copies[issuer][kid]
        distrusted = {**self.distrusted, **copies}
        thumbprints = {
            issuer: _NONE.union(*(key.thumbprints for key in kept.values()))
            for issuer, kept in copies.items()
        }
        return State(flags, distrusted, {**self.thumbprints, **thumbprints})

    def _key(self, name: Name) -> Distrusted | None:
        issuer, kid = name
        return self.distrusted.get(issuer, {}).get(kid)


def _distrusted(name: Name, flag: Distrust) -> Distrusted | None:
    standing = flag.standing
    if not standing:
        return None
    first = standing[0]
    return Distrusted(*name, first.reason, first.at, first.by, flag.thumbprints)


def beyond(ours: Flags, theirs: Flags, issuers: Collection[str]) -> dict[Name, Distrust]:
    """What `theirs` lacks of `ours`, about keys of `issuers`."""
    return {
        name: lacking
        for name, flag in ours.items()
        if name[0] in issuers
        and (held := theirs.get(name)) is not flag
        and (lacking := flag.beyond(held)) is not None
    }


def merge_into(held: dict[Name, Distrust], parts: Iterable[tuple[Name, Distrust]]) -> None:
    """Merge `parts` into `held` in place, as thousands of copies would take long."""
    for name, part in parts:
        before = held.get(name)
        held[name] = part if before is None else before.merged(part)
