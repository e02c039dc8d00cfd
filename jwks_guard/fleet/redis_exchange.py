"""What the members of one process and Redis tell each other, again and again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, cast

from jwks_guard.fleet.members import Members
from jwks_guard.fleet.records import decisions_in, facts_of
from jwks_guard.fleet.redis_records import MAX_FACTS, RedisRecords
from jwks_guard.keys.distrust import Name, Tombstones
from jwks_guard.keys.peers import open_stores

if TYPE_CHECKING:
    from jwks_guard.keys.store import KeyStore


class Exchanged:
    """What `members` and Redis told each other the last time.

    Only decisions about `issuer` and the issuers of this process count. Nobody here verifies the
    others' tokens, and what instances took over from Redis and gave back could never be removed.
    """

    def __init__(self, members: Members, issuer: str | None) -> None:
        self._members = members
        self._issuer = issuer
        self._facts: Mapping[bytes, bytes] | None = None
        self._held: tuple[Tombstones, ...] = ()
        self._issuers: frozenset[str] = frozenset()

    async def again(self, records: RedisRecords) -> None:
        """Take over what is new in Redis, and give it what it lacks."""
        facts, issuers = await records.facts(), self._concerned()
        if self._is_the_same(facts, issuers):
            return
        self._require_few(facts)
        self._members.take_over(decisions_in(facts).of(issuers))
        unshared, held = self._members.unshared(), self._all_held()
        known = facts_of(_about(self._members.known(), issuers, unshared))
        missing = {fact: why for fact, why in known.items() if fact not in facts}
        await records.write(missing)
        self._members.shared(unshared)
        self._facts, self._held, self._issuers = {**facts, **missing}, held, issuers

    def _require_few(self, facts: Mapping[bytes, bytes]) -> None:
        """Raise OSError where all that would be known then is more than a fleet decides.

        What is written there is taken over for good: a limit for one read alone would let it grow.
        """
        if len(facts_of(self._members.known()).keys() | facts.keys()) > MAX_FACTS:
            raise OSError(f"with what it holds there would be more than {MAX_FACTS} decisions")

    def _is_the_same(self, facts: Mapping[bytes, bytes], issuers: frozenset[str]) -> bool:
        """Whether there is nothing to do; cheap, however many decisions there are."""
        held = {id(each) for each in self._all_held()}
        return (
            not self._members.unshared()
            and issuers == self._issuers
            and held == {id(each) for each in self._held}
            and facts == self._facts
        )

    def _all_held(self) -> tuple[Tombstones, ...]:
        return tuple(member.decisions.known for member in self._members)

    def _concerned(self) -> frozenset[str]:
        """Whose tokens are verified in this process, and whose keys the fleet's methods mean."""
        verified = {
            store.issuer
            for member in self._members
            for store in open_stores.besides(cast("KeyStore", member))
        }
        own = () if self._issuer is None else (self._issuer,)
        return frozenset((*verified, *own, *(member.issuer for member in self._members)))


def _about(known: Tombstones, issuers: Collection[str], names: Collection[Name]) -> Tombstones:
    """What is known about keys of `issuers`, and about those of `names`."""
    return Tombstones(
        {n: stone for n, stone in known.entries.items() if n[0] in issuers or n in names},
        {n: version for n, version in known.lifted.items() if n[0] in issuers},
    )
