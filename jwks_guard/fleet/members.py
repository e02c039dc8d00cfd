"""The key stores of this process that take part in a fleet, as the fleet sees them."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from itertools import groupby

from jwks_guard.errors import ConfigurationError
from jwks_guard.fleet.records import Decisions
from jwks_guard.keys.distrust import FleetMember, Name, Tombstone, Tombstones
from jwks_guard.keys.instance import state_of
from jwks_guard.readiness.state import InstanceState

_NO_ISSUER = "give the fleet `issuer`, the tokens' `iss`."


class Members:
    """Keeps none of them alive, and since when each key is refused here."""

    def __init__(self) -> None:
        self._members: weakref.WeakSet[FleetMember] = weakref.WeakSet()
        self._refused_since: dict[Name, float] = {}

    def __iter__(self) -> Iterator[FleetMember]:
        return iter(tuple(self._members))

    def __bool__(self) -> bool:
        return len(self._members) > 0

    def add(self, member: FleetMember) -> None:
        """Count `member` in."""
        self._members.add(member)

    def discard(self, member: FleetMember) -> None:
        """Count `member` out."""
        self._members.discard(member)

    def issuer(self) -> str:
        """Whose keys they have; raises ConfigurationError unless that is one issuer."""
        issuers = {member.issuer for member in self}
        if len(issuers) != 1:
            why = "Its verifiers are of several issuers" if issuers else "It has no verifier"
            raise ConfigurationError(
                f"{why}, so it can't be told whose keys are meant: {_NO_ISSUER}"
            )
        return issuers.pop()

    def known(self) -> Tombstones:
        """Every decision that one of them knows of."""
        known = Tombstones()
        for member in self:
            ours = member.decisions.known
            known = known.merged(ours.entries.values()).without(ours.lifted)
        return known

    def unshared(self) -> Mapping[Name, Tombstone]:
        """What was decided here and not shared yet."""
        return {name: each for m in self for name, each in m.decisions.unshared.items()}

    def shared(self, stones: Mapping[Name, Tombstone]) -> None:
        """Note that the others can know of these now."""
        for member in self:
            member.decisions.shared(stones)

    def take_over(self, decisions: Decisions) -> None:
        """Have all of them go by decisions from outside."""
        for member in self:
            member.decisions.take_over(decisions.stones, decisions.lifts)

    def decide(self, decisions: Tombstones) -> None:
        """Have all of them go by what was decided in this process."""
        for member in self:
            member.decisions.decide(tuple(decisions.entries.values()), decisions.lifted)

    async def saved(self) -> None:
        """Wait until what was decided is written down, but not for ever."""
        for member in self:
            await member.decisions.saved()

    def states(self, now: float) -> list[InstanceState]:
        """What this process shows at `now`, for each issuer.

        What was lifted counts anew when it is refused again.
        """
        before = self._refused_since
        self._refused_since = {name: before.get(name, now) for name in self.known().entries}
        members = sorted(self, key=lambda member: member.issuer)
        return [
            state_of(tuple(group), now, self._refused(issuer))
            for issuer, group in groupby(members, key=lambda member: member.issuer)
        ]

    def _refused(self, issuer: str) -> Mapping[str, float]:
        since = self._refused_since.items()
        return {kid: at for (owner, kid), at in since if owner == issuer}

    def hurry(self, interval: float | None) -> None:
        """Have all refresh their keys at least every `interval` seconds; None: as configured."""
        for member in self:
            member.hurry(interval)

    def refresh_soon(self) -> None:
        """Have all refresh their keys now."""
        for member in self:
            member.refresh_soon()
