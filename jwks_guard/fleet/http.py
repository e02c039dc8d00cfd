"""HTTPFleet: decisions and states of a fixed list of single-process instances, without a store.

Each instance reads what the others know every few seconds and tells them what they lack; its own
decisions it tells at once. So a lost call, or an instance that is away, costs time and no decision.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from jwks_guard.base.arguments import require_issuer, require_seconds
from jwks_guard.base.clock import Clock
from jwks_guard.base.events import logger
from jwks_guard.errors import ConfigurationError, DistrustNotSharedError, KeysUnavailableError
from jwks_guard.fleet.commands import FleetCommands
from jwks_guard.fleet.http_arguments import require_secret, require_urls
from jwks_guard.fleet.http_messages import decisions_of, furthest, reaches_of
from jwks_guard.fleet.http_peers import Peers
from jwks_guard.fleet.members import Members
from jwks_guard.fleet.records import MAX_LIFT_VERSION, Decisions
from jwks_guard.keys.distrust import FleetMember, Name, Tombstones
from jwks_guard.keys.peers import open_stores
from jwks_guard.net.clients import Clients, HTTPClient, require_http_client
from jwks_guard.readiness.state import InstanceState, Observed, Refusal
from jwks_guard.readiness.usage import Reach

if TYPE_CHECKING:
    from jwks_guard.keys.store import KeyStore

CUT_OFF_REFRESH_SECONDS = 10.0
"""While an instance can't be heard, the others refresh their keys this often."""
MAX_POLL_SECONDS = 5.0
_RETRY_SECONDS = 0.5


class HTTPFleet(FleetCommands):
    """Shares over the operations routes of a list of instances; give it to verifiers as `fleet`.

    Every instance is one process with a URL of its own, and has the same list, itself included.
    One that starts while all others are away knows only what its snapshot says.

    Arguments:
        urls: where each one's operations routes are, like "https://10.0.0.1:8443/ops"; https, or
            http on loopback.
        secret: what their `operations_auth` takes; 16 characters or more.
        issuer: whose keys its own methods mean; not needed beside verifiers of one issuer.
        poll_interval: everything is read anew this often, in seconds; 5 at the most.
        timeout: for so long each call waits for its whole answer, in seconds.
        http_client: as in TokenVerifier, for TLS and proxies.
        clock: anything with time().

    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        secret: str,
        issuer: str | None = None,
        poll_interval: float = 2.0,
        timeout: float = 1.0,
        http_client: HTTPClient | None = None,
        clock: Clock = time,
    ) -> None:
        require_urls(urls)
        require_secret(secret)
        require_seconds("timeout", timeout)
        require_seconds("poll_interval", poll_interval)
        if poll_interval > MAX_POLL_SECONDS:
            raise ConfigurationError(f"poll_interval must be {MAX_POLL_SECONDS:.0f} s at the most.")
        require_http_client(http_client)
        if issuer is not None:
            require_issuer(issuer)
        self.clock = clock
        super().__init__(issuer)
        self._peers = Peers(urls, secret, timeout, Clients(http_client))
        self._poll_interval = poll_interval
        self._members = Members()
        self._watching: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"HTTPFleet({self._peers.urls!r})"

    @property
    def issuer(self) -> str:
        """Whose tokens its instances refuse."""
        return self._issuer or self._members.issuer()

    @property
    def error(self) -> str | None:
        """What is wrong with the instances; None when all answered the last time."""
        return self._peers.error

    @property
    def reaches(self) -> Mapping[Name, Reach]:
        """How far tokens reach that any instance ever accepted, as far as was heard, by kid."""
        return self._peers.reaches

    async def join(self, member: FleetMember) -> None:
        """Take part from now on; `member` goes by what the reachable ones know when this returns.

        Raises ConfigurationError on another event loop than that of the other members.
        """
        loop, watching = asyncio.get_running_loop(), self._watching
        elsewhere = watching is not None and watching.get_loop() is not loop
        if watching is not None and elsewhere and watching.get_loop().is_running():
            raise ConfigurationError(
                "This fleet runs on another event loop. Make one HTTPFleet for each loop."
            )
        self._members.add(member)
        await self._exchange()
        if watching is None or elsewhere or watching.done():
            self._watching = loop.create_task(self._watch())

    async def leave(self, member: FleetMember) -> None:
        """Take part no longer."""
        self._members.discard(member)
        if not self._members:
            await self.aclose()

    async def aclose(self) -> None:
        """Stop watching the instances."""
        watching, self._watching = self._watching, None
        if watching is not None and watching.get_loop() is asyncio.get_running_loop():
            watching.cancel()
            await asyncio.wait({watching})

    async def share(self) -> None:
        """Have the others know what the members know; raises DistrustNotSharedError."""
        unshared = self._members.unshared()
        # Told at once, as the read may wait for somebody. By the read what is unshared rises above
        # the lifts that were not heard of, and is told again.
        await asyncio.gather(self._peers.tell(self._standing(unshared)), self._read())
        if not await self._peers.convince(self._standing(unshared)) or self.error is not None:
            raise self._not_shared()
        self._members.shared(unshared)

    async def share_lifts(self, lifts: Mapping[Name, int], reason: str) -> None:
        """Have the others lift these decisions; raises DistrustNotSharedError."""
        if max(lifts.values()) > MAX_LIFT_VERSION:
            raise DistrustNotSharedError(
                "This decision can't be lifted any more: its version is the last one. Remove it "
                "from every snapshot, and start all instances anew."
            )
        await self._tell_all(Tombstones(lifted=lifts))

    async def observe(self, kid: str, issuer: str | None = None) -> Observed:
        """What the instances show of `kid`; raises ConfigurationError where one is several."""
        await self._peers.look()
        observed = await super().observe(kid, issuer)
        if (several := self._peers.several) is not None:
            raise ConfigurationError(several)
        return observed

    # --- as one thing ---

    async def _known(self) -> Tombstones:
        theirs = await self._read()
        if theirs is None:
            if not self._members:
                raise self._not_shared()
            return self._members.known()
        return self._members.known().merged(theirs.stones).without(theirs.lifts)

    async def _decide(self, decisions: Tombstones) -> None:
        """Whoever could not be told is in the receipt, unless that is everybody."""
        if decisions.lifted:
            await self.share_lifts(decisions.lifted, "")
        self._members.decide(decisions)  # of what is to be refused the members hear first
        if decisions.entries and not await self._peers.tell(decisions):
            raise self._not_shared()

    async def _acknowledged(self, kid: str, before: Sequence[InstanceState]) -> list[Refusal]:
        """Nobody is waited for: whoever was told goes by it."""
        await self._peers.look()
        await self._read()
        await self._members.saved()
        return self._peers.refusals(self.issuer, kid)

    async def _states(self, issuer: str | None = None) -> tuple[InstanceState, ...]:
        if await self._read() is None:
            raise self._not_shared()
        return self._peers.states(issuer or self.issuer)

    async def _refreshed_states(self) -> tuple[InstanceState, ...]:
        """As they are now; raises KeysUnavailableError unless all could be asked."""
        await self._ask_to_refresh()
        if self.error is not None:
            self.keys.kids = frozenset()
            raise KeysUnavailableError(f"Not every instance could be asked: {self.error}.")
        return self._peers.states(self.issuer)

    async def _reach(self, kid: str, issuer: str | None = None) -> Reach:
        return self.reaches.get((issuer or self.issuer, kid), Reach())

    async def _ask_to_refresh(self) -> None:
        await self._peers.refresh()

    # --- one exchange ---

    async def _watch(self) -> None:
        """Exchange every few seconds, for as long as there are members."""
        while self._members:
            retry = min(_RETRY_SECONDS, self._poll_interval)
            await asyncio.sleep(retry if self.error else self._poll_interval)
            try:
                await self._exchange()
            except Exception:  # noqa: BLE001 - nothing ends the watch silently
                logger.exception("the exchange with the fleet failed unexpectedly")

    async def _exchange(self) -> None:
        """Read, merge, and tell the others what they lack."""
        before, unshared = self.error, self._members.unshared()
        await self._read()
        if await self._peers.remind(self._members.known()) and (
            not unshared or await self._peers.convince(self._standing(unshared))
        ):
            self._members.shared(unshared)
        own = reaches_of(self._members.states(self.clock.time()))
        self._peers.reaches = furthest(self.reaches, own)
        if self.error is not None and before is None:
            logger.warning("the fleet is not complete: %s", self.error)
        self._members.hurry(CUT_OFF_REFRESH_SECONDS if self.error else None)

    async def _read(self) -> Decisions | None:
        """What those know that answer, which the members go by then; None when nobody does.

        Of issuers that this process has nothing to do with nothing is taken over.
        """
        issuers = self._issuers()
        facts = await self._peers.read(issuers)
        if facts is None:
            return None
        theirs = decisions_of(issuers, facts)
        self._members.take_over(theirs)
        return theirs

    def _issuers(self) -> frozenset[str]:
        """Whose decisions concern it: those of its own issuer, its members and the open stores."""
        members = tuple(cast("KeyStore", member) for member in self._members)
        stores = {*members, *(each for member in members for each in open_stores.besides(member))}
        own = () if self._issuer is None else (self._issuer,)
        return frozenset([*own, *(store.issuer for store in stores)])

    def _standing(self, unshared: Collection[Name]) -> Tombstones:
        """The decisions about these, as they are known now."""
        known = self._members.known().entries
        return Tombstones({name: known[name] for name in unshared if name in known})

    async def _tell_all(self, decisions: Tombstones) -> None:
        if await self._peers.tell(decisions) < len(self._peers.urls):
            raise self._not_shared()

    def _not_shared(self) -> DistrustNotSharedError:
        then = "repeat the call"
        if self._members:
            then = (
                "what is distrusted here stays so and is passed on once they answer; to lift "
                "something, repeat the call"
            )
        failure = DistrustNotSharedError(
            f"Not every instance could be asked or told ({self.error}): {then}."
        )
        failure.here = bool(self._members)
        return failure
