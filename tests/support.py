"""A clock turned by hand, verifiers of local tenants in this process, and how long to wait."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import httpx

from jwks_guard import TokenVerifier
from jwks_guard.testing import LocalTenant

PATIENCE = 60.0
"""Seconds that a condition is waited for: a bound for busy machines, on others it takes little."""
JWKS = "/.well-known/jwks.json"
DISCOVERY = "/.well-known/openid-configuration"


def repeats(default: int) -> int:
    """How often a decision is repeated: `make test-long` sets more."""
    return int(os.environ.get("REPEATS", default))


@dataclass(slots=True)
class HandClock:
    """Stands still until it is told to move; the two hands can be moved apart."""

    wall: float = 1_800_000_000.0
    steady: float = 5_000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: Linux stops the monotonic clock."""
        self.wall += seconds

    def set_back(self, seconds: float) -> None:
        self.wall -= seconds


def tenant_of(clock: HandClock, **options: Any) -> LocalTenant:
    """A tenant in this process that goes by `clock`; ES256, whose keys are made in no time."""
    return LocalTenant(in_process=True, algorithm="ES256", clock=clock, **options)


def verifier_of(tenant: LocalTenant, clock: HandClock, **options: Any) -> TokenVerifier:
    """A verifier of that tenant, on the same clock.

    Its background task naps by the real clock, longer than a test takes: tests that turn the clock
    by hand call `keys.tick()` where the task would.
    """
    options.setdefault("algorithms", ["ES256", "RS256"])
    options.setdefault("http_client", lambda: httpx.AsyncClient(transport=tenant.transport))
    return TokenVerifier(tenant.issuer, tenant.audience, clock=clock, **options)
