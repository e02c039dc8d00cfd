"""The key stores of this process that take part in a fleet, as the fleet sees them."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import groupby

from jwks_guard.base.observer import Observer
from jwks_guard.distrust.register import Register
from jwks_guard.errors import ConfigurationError
from jwks_guard.keys.fleet import Member
from jwks_guard.keys.state import state_of
from jwks_guard.readiness.state import InstanceState


class Members:
    """The members of one fleet object; none of them is kept alive.

    `issuer` is the one that the fleet was given, if any. `register` is that of the members; a fleet
    without members, as in a job that only revokes, has one of its own.
    """

    def __init__(self, issuer: str | None) -> None:
        self.register = Register()
        self._issuer = issuer
        self._members: weakref.WeakSet[Member] = weakref.WeakSet()

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members))

    def __bool__(self) -> bool:
        return len(self._members) > 0

    def add(self, member: Member) -> None:
        """Count `member` in; raises ConfigurationError for another register than theirs."""
        if not self:
            member.register.merge(self.register.state.flags)
            self.register = member.register
        if member.register is not self.register:
            raise ConfigurationError(
                "The verifiers of one fleet object must have one register; make a fleet for each."
            )
        self._members.add(member)

    def discard(self, member: Member) -> None:
        """Count `member` out."""
        self._members.discard(member)

    @property
    def observer(self) -> Observer | None:
        """What exchanges are shown to: the observer of a member that has one."""
        return next((each.observer for each in self if each.observer is not None), None)

    @property
    def issuer(self) -> str:
        """The issuer whose keys are meant; raises ConfigurationError unless that is one."""
        if self._issuer is not None:
            return self._issuer
        issuers = {member.issuer for member in self}
        if len(issuers) != 1:
            why = "Its verifiers are of several issuers" if issuers else "It has no verifier"
            raise ConfigurationError(
                f"{why}, so it can't be told whose keys are meant: give the fleet `issuer`, the "
                "tokens' `iss`."
            )
        return issuers.pop()

    @property
    def issuers(self) -> frozenset[str]:
        """The issuers whose decisions count here: others verify no token in this process."""
        given = () if self._issuer is None else (self._issuer,)
        return self.register.issuers.union(given)

    def states(self, now: float) -> list[InstanceState]:
        """What this process shows at `now`, in seconds since the epoch, for each issuer."""
        members = sorted(self, key=lambda member: member.issuer)
        groups = groupby(members, key=lambda member: member.issuer)
        return [state_of(tuple(group), now) for _, group in groups]

    def limit_interval(self, seconds: float | None) -> None:
        """Have all fetch their keys at least every so many seconds; None: as configured."""
        for member in self:
            member.limit_interval(seconds)
