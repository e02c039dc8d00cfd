"""HTTPFleet: decisions and states of a fixed list of single-process instances, without a store.

Each instance exchanges with all others every few seconds, and at once when it decides something. So
a lost call, or an instance that is away, costs time and no decision.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from jwks_guard.base.arguments import require_seconds, require_secret, url_refusal
from jwks_guard.base.clock import Clock
from jwks_guard.base.events import logger
from jwks_guard.distrust.copy import CopyError
from jwks_guard.distrust.state import NOTHING, Flags
from jwks_guard.errors import ConfigurationError, KeysUnavailableError
from jwks_guard.fleet.commands import CUT_OFF_REFRESH_SECONDS, FleetCommands
from jwks_guard.fleet.http_endpoint import Endpoint
from jwks_guard.fleet.http_messages import furthest, reaches_of
from jwks_guard.fleet.http_peer import Ours, Outcome, Peer
from jwks_guard.keys.fleet import Member
from jwks_guard.net.clients import Clients, HTTPClient, require_http_client
from jwks_guard.readiness.state import InstanceState, Observed, Refusal
from jwks_guard.readiness.usage import Reach

_RETRY_SECONDS = 0.5
_NAMED = 3
_T = TypeVar("_T")


class HTTPFleet(FleetCommands):
    """Shares over the operations routes of a list of instances; give it to verifiers as `fleet`.

    Every instance is one process with a URL of its own, and has the same list, itself included.
    One that starts while all others are away knows only what its journal says.

    Arguments:
        urls: where each one's operations routes are, like "https://10.0.0.1:8443/ops"; https, or
            http on loopback.
        secret: what their `operations_auth` takes; 16 characters or more.
        issuer: whose keys its own methods mean; not needed beside verifiers of one issuer.
        poll_interval: an exchange is made at least this often, in seconds; 5 at the most.
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
        _require_urls(urls)
        require_secret(secret)
        require_seconds("timeout", timeout)
        require_http_client(http_client)
        super().__init__(issuer, poll_interval, clock)
        clients = Clients(http_client)
        self._peers = tuple(Peer(Endpoint(url, secret, timeout, clients)) for url in urls)
        self._incomplete = False  # as the log says

    def __repr__(self) -> str:
        return f"HTTPFleet({[peer.endpoint.url for peer in self._peers]!r})"

    @property
    def error(self) -> str | None:
        """What is wrong with the instances; None when all answered the last time."""
        return _listed([peer.error for peer in self._peers])

    async def join(self, member: Member) -> None:
        """Take part from now on; `member` knows what the others hold when this returns.

        Raises ConfigurationError on another event loop than that of the other members.
        """
        self._settle()
        self._members.add(member)
        await self._exchanged()
        self._ensure_watching()

    async def leave(self, member: Member) -> None:
        """Take part no longer."""
        self._members.discard(member)
        if not self._members:
            await self.aclose()

    async def exchange(self, offer: Flags = NOTHING) -> None:
        """Merge what the others hold, then have them hold what the register does, and `offer`.

        Raises CopyError, which names the instances that do not hold it then.
        """
        outcomes = await self._exchanged(offer)
        if (errors := _listed([outcome.error for outcome in outcomes])) is not None:
            here = self._members.register.instance
            taken = any(outcome.instance not in (None, here) for outcome in outcomes)
            raise CopyError(errors, taken=taken)

    async def observe(self, kid: str, issuer: str | None = None) -> Observed:
        """What the instances show of `kid`; raises ConfigurationError where one is several."""
        await self._look()
        observed = await super().observe(kid, issuer)
        for peer in self._peers:
            if (several := peer.endpoint.several) is not None:
                raise ConfigurationError(several)
        return observed

    # --- as one thing ---

    async def _acknowledged(self, kid: str, before: Sequence[InstanceState]) -> list[Refusal]:
        """Nothing is waited for: an instance that took the decision refuses the key."""
        await self._look()
        await self._exchanged()
        return [peer.refusal(self.issuer, kid) for peer in self._peers]

    async def _states(self, issuer: str | None = None) -> tuple[InstanceState, ...]:
        if not any(outcome.instance for outcome in await self._exchanged()):
            raise self._unasked(f"No instance could be asked ({self.error}). Repeat the call.")
        return self._shown(issuer)

    async def _refreshed_states(self) -> tuple[InstanceState, ...]:
        """As they are now; raises KeysUnavailableError unless all could be asked."""
        await self._each(Peer.refresh)
        if self.error is not None:
            self.keys.kids = frozenset()
            raise KeysUnavailableError(f"Not every instance could be asked: {self.error}.")
        return self._shown()

    def _shown(self, issuer: str | None = None) -> tuple[InstanceState, ...]:
        return tuple(peer.state(issuer or self.issuer) for peer in self._peers)

    async def _reach(self, kid: str, issuer: str | None = None) -> Reach:
        return self._reaches.get((issuer or self.issuer, kid), Reach())

    # --- one exchange ---

    async def _watch(self) -> None:
        while self._members:
            retry = min(_RETRY_SECONDS, self._poll_interval)
            await asyncio.sleep(retry if self.error else self._poll_interval)
            try:
                await self._exchanged()
            except Exception:  # noqa: BLE001 - nothing ends the watch silently
                logger.exception("the exchange with the fleet failed unexpectedly")

    async def _exchanged(self, offer: Flags = NOTHING) -> list[Outcome]:
        """How the exchange with each instance ended; one that fails keeps no other from it."""
        with self._exchanging() as activity:
            outcomes = await self._exchanged_with_each(offer)
            if self.error is None:
                activity.ended("complete")
            else:
                activity.ended("failed", "incomplete", self.error)
        return outcomes

    async def _exchanged_with_each(self, offer: Flags) -> list[Outcome]:
        before, members = self.error, self._members
        register = members.register
        ours = Ours(register, register.state, members.issuers, offer, asyncio.Lock())
        outcomes = await self._each(lambda peer: peer.exchange(ours))
        own = reaches_of(members.states(self.clock.time()))
        self._reaches = furthest(self._reaches, own, *(peer.reaches for peer in self._peers))
        if self.error is not None and before is None and not self._incomplete:
            self._incomplete = True
            logger.warning("the fleet is not complete: %s", self.error)
        elif self.error is None and self._incomplete:
            self._incomplete = False
            logger.warning("the fleet is complete again")
        members.limit_interval(CUT_OFF_REFRESH_SECONDS if self.error else None)
        return outcomes

    async def _look(self) -> None:
        await self._each(lambda peer: peer.endpoint.look())

    async def _each(self, step: Callable[[Peer], Awaitable[_T]]) -> list[_T]:
        return await asyncio.gather(*(step(peer) for peer in self._peers))


def _listed(errors: Sequence[str | None]) -> str | None:
    """The first errors, and how many more there are; None where there is none."""
    wrong = [error for error in errors if error is not None]
    more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return "; ".join(wrong[:_NAMED]) + more if wrong else None


def _require_urls(urls: object) -> None:
    """Raise ConfigurationError unless `urls` are addresses of several instances, or of one."""
    if not isinstance(urls, Sequence) or isinstance(urls, str | bytes) or not urls:
        raise ConfigurationError("urls must be a list of one or more URLs.")
    for url in urls:
        if (why := url_refusal(url, query=False)) is not None:
            raise ConfigurationError(
                f"urls holds one that can't be used: {why}. Write where the operations routes of "
                "an instance are, like 'https://10.0.0.1:8443/ops'; http is for loopback only."
            )
    if len({url.removesuffix("/") for url in urls}) != len(urls):
        raise ConfigurationError("urls names an instance twice.")
