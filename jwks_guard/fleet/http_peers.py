"""All instances of a fleet over HTTP, asked and told at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from jwks_guard.fleet.http_messages import furthest
from jwks_guard.fleet.http_peer import Peer, PeerError
from jwks_guard.fleet.records import facts_of
from jwks_guard.keys.distrust import Name, Tombstones
from jwks_guard.net.clients import Clients
from jwks_guard.net.exchange import Client
from jwks_guard.readiness.state import InstanceState, Refusal
from jwks_guard.readiness.usage import Reach

_NAMED = 3
_T = TypeVar("_T")


class Peers:
    """The instances at `urls`; of one that fails the others hear nothing, and it says so."""

    def __init__(self, urls: Sequence[str], secret: str, timeout: float, clients: Clients) -> None:
        self.reaches: Mapping[Name, Reach] = {}
        self._peers = tuple(Peer(url, secret, timeout) for url in urls)
        self._clients = clients
        self._answering: list[Peer] = []

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers)

    @property
    def urls(self) -> list[str]:
        """Where they are."""
        return [peer.url for peer in self]

    @property
    def error(self) -> str | None:
        """What is wrong with them; None when all answered the last time."""
        wrong = [peer.error for peer in self if peer.error is not None]
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        return "; ".join(wrong[:_NAMED]) + more if wrong else None

    @property
    def several(self) -> str | None:
        """The error of one that is several processes, if there is one."""
        return next((peer.error for peer in self if peer.is_several), None)

    async def look(self) -> None:
        """Notice which of them are several processes."""
        async with self._clients.opened() as client:
            await self._each(lambda peer: peer.look(client), self._peers)

    async def read(self, issuers: Collection[str]) -> dict[bytes, bytes] | None:
        """The facts of those that answer; None when nobody does. Foreign reaches don't count."""
        async with self._clients.opened() as client:
            heard = await self._each(lambda peer: _heard(peer, client, issuers), self._peers)
        facts: dict[bytes, bytes] = {}
        for _, theirs, reaches in heard:
            facts |= theirs
            ours = {name: reach for name, reach in reaches.items() if name[0] in issuers}
            self.reaches = furthest(self.reaches, ours)
        self._answering = [peer for peer, *_ in heard]
        return facts if heard else None

    async def tell(self, decisions: Tombstones) -> int:
        """Tell all of them, whatever they were told before; how many go by all of it then."""
        facts = facts_of(decisions)
        async with self._clients.opened() as client:
            told = await self._each(lambda peer: peer.tell(client, facts), self._peers)
        return len(told)

    async def convince(self, decisions: Tombstones) -> bool:
        """Tell those that could be read last; whether all there are refuse what it says then."""
        facts = facts_of(decisions)

        async def convinced(peer: Peer) -> None:
            await peer.tell(client, facts)
            if facts:
                await peer.confirm(client, facts)

        async with self._clients.opened() as client:
            return len(await self._each(convinced, self._answering)) == len(self._peers)

    async def remind(self, decisions: Tombstones) -> bool:
        """Tell those that could be read last what they lack; whether all there are have it then."""
        facts = facts_of(decisions)
        async with self._clients.opened() as client:
            told = await self._each(lambda peer: peer.remind(client, facts), self._answering)
        return len(told) == len(self._peers)

    async def refresh(self) -> None:
        """Have them fetch their keys."""
        async with self._clients.opened() as client:
            await self._each(lambda peer: peer.refresh(client), self._peers)

    def states(self, issuer: str) -> tuple[InstanceState, ...]:
        """What each showed last of `issuer`.

        Who can't be asked at the moment trusts nothing, as far as is known.
        """
        return tuple(_state(peer, issuer) for peer in self)

    def refusals(self, issuer: str, kid: str) -> list[Refusal]:
        """Which of them refuse `kid`, as they showed last."""
        return [_refusal(peer, issuer, kid) for peer in self]

    async def _each(self, step: Callable[[Peer], Awaitable[_T]], peers: Sequence[Peer]) -> list[_T]:
        """What `step` gives for each of them where it does not fail."""

        async def tried(peer: Peer) -> list[_T]:
            try:
                return [await step(peer)]
            except PeerError:  # which it remembers
                return []

        found = await asyncio.gather(*(tried(peer) for peer in peers))
        return [result for results in found for result in results]


async def _heard(
    peer: Peer, client: Client, issuers: Collection[str]
) -> tuple[Peer, dict[bytes, bytes], dict[Name, Reach]]:
    return peer, *await peer.read(client, issuers)


def _state(peer: Peer, issuer: str) -> InstanceState:
    state = peer.state(issuer)
    if state is not None:
        if peer.error is None:
            return state
        return replace(state, kids=(), status="unavailable", last_error=peer.error)
    return InstanceState(
        instance="silent",
        host=peer.name,
        issuer=issuer,
        started_at=0.0,
        reported_at=0.0,
        status="unavailable",
        confirmed_at=None,
        trusted_until=None,
        kids=(),
        last_error=peer.error,
    )


def _refusal(peer: Peer, issuer: str, kid: str) -> Refusal:
    state = peer.state(issuer)
    since = state.refused.get(kid) if state is not None else None
    error = peer.error or (None if since else "it has not acknowledged the decision")
    at = None if since is None else datetime.fromtimestamp(since, UTC)
    return Refusal(state.name if state is not None else peer.name, at, error)
