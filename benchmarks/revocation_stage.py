"""A local tenant and one consumer of its keys, on a clock that is turned by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.tenants import loopback_tenant
from benchmarks.workers import PeerError
from jwks_guard.testing import LocalTenant

WEEK = 7 * 86_400.0  # s; tokens live that long, so that only trust in their key decides


class Consumer(Protocol):
    """What is asked of a `benchmarks.workers.Worker`."""

    def open(self, issuer: str, jwks_uri: str, audience: str) -> dict[str, str]:
        """Make a new consumer with its library's defaults; gives the versions in use."""

    def verify(self, tokens: Sequence[str]) -> list[str | None]:
        """Verify one token after the other; None for each accepted, the error for the others."""

    def advance(self, seconds: float) -> None:
        """Turn the consumer's clock, and let it do what is due then."""

    def distrust(self, kid: str) -> None:
        """Tell the consumer that a key is revoked, where its library has a call for that."""


@dataclass(slots=True)
class TurnedClock:
    """The real time of day and what it was turned by, as the workers' clocks have it."""

    turned: float = 0.0  # s

    def time(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time() + self.turned


@dataclass(slots=True)
class Stage:
    """One consumer in front of one tenant; what passes is virtual time, in seconds."""

    consumer: Consumer
    tenant: LocalTenant
    jwks_uri: str
    clock: TurnedClock
    opened_at: float = field(init=False, default=0.0)

    @property
    def elapsed(self) -> float:
        """Seconds since the consumer was opened, with the few that really passed."""
        return self.clock.time() - self.opened_at

    @property
    def fetches(self) -> int:
        """How often the JWKS was asked for since the consumer was opened."""
        return self.tenant.requests.count()

    def open(self) -> dict[str, str]:
        """A new consumer, seen to accept a good token and to refuse a forged one.

        Raises PeerError for one that does not.
        """
        tenant = self.tenant
        tenant.faults.clear()
        tenant.requests.clear()
        self.opened_at = self.clock.time()
        versions = self.consumer.open(tenant.issuer, self.jwks_uri, tenant.audience)
        good, forged = self.consumer.verify([self.token("current"), tenant.forged_token()])
        if good is not None:
            raise PeerError(f"it refuses a good token: {good}")
        if forged is None:
            raise PeerError("it accepts a forged token")
        return versions

    def token(self, key: str) -> str:
        """A token by this key (see `LocalTenant.key`) that outlives every scenario."""
        return self.tenant.token(key=key, lifetime=WEEK)

    def offer(self, *tokens: str) -> list[bool]:
        """Which of `tokens` are accepted now."""
        return [refusal is None for refusal in self.consumer.verify(tokens)]

    def wait(self, seconds: float) -> None:
        """Let time pass for both sides."""
        self.clock.turned += seconds
        self.consumer.advance(seconds)

    def until(self, end: float, *, step: float, token: str) -> None:
        """Let time pass until `elapsed` is `end`, offering `token` after each step."""
        while self.elapsed < end:
            self.wait(min(step, end - self.elapsed))
            self.offer(token)


@contextmanager
def staged(consumer: Consumer) -> Iterator[Stage]:
    """A stage with a new tenant on loopback, and a consumer whose clock was not turned yet."""
    clock = TurnedClock()
    with loopback_tenant(clock=clock) as (tenant, jwks_uri):
        yield Stage(consumer, tenant, jwks_uri, clock)


def growing(end: float, *, finest: float = 1.0) -> Iterator[float]:
    """Steps in seconds up to `end`: 1 for 15 minutes, 10 up to 2 hours, then 50.

    None is below `finest`. They stay under a minute, as some caches live by recent traffic.
    """
    now = 0.0
    while now < end:
        step = max(finest, 1.0 if now < 900.0 else 10.0 if now < 7200.0 else 50.0)
        now += step
        yield step
