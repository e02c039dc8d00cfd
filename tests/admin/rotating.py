"""A served tenant, its Management API's client and its verifiers, all by one clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from jwks_guard import InvalidTokenError, TokenVerifier
from jwks_guard.admin import (
    AdminEvent,
    ClientCredentials,
    KeyRotation,
    RevocationReceipt,
    SigningKeysClient,
)
from jwks_guard.admin.revocable import KeyView, Revocable
from jwks_guard.readiness.state import Observed
from jwks_guard.testing import LocalTenant
from tests.support import HandClock

SIGNING_KEYS = "/api/v2/keys/signing"
ROTATE = f"{SIGNING_KEYS}/rotate"


def revoke_path(kid: str) -> str:
    return f"{SIGNING_KEYS}/{kid}/revoke"


@dataclass(slots=True)
class SleepingClock(HandClock):
    """Time passes when somebody sleeps, and only then."""

    naps: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.advance(seconds)


class FakeRevocable:
    """Holds `kids`, notes what it is told, and raises `failure` instead where there is one.

    It shows nothing of itself, so that no key is ever ready: what it is told of is forced.
    """

    issuer = "https://fake.test/"

    def __init__(self, kids: Iterable[str] = (), failure: Exception | None = None) -> None:
        self.kids = set(kids)
        self.failure = failure
        self.distrusted: dict[str, str] = {}
        self.distrusts_unforced = False

    @property
    def keys(self) -> KeyView:
        return self

    async def refresh(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> None:
        assert force or self.distrusts_unforced
        if self.failure is not None:
            raise self.failure
        self.distrusted[kid] = reason

    async def is_distrusted(self, kid: str) -> bool:
        return kid in self.distrusted

    async def reinstate(self, kid: str, *, reason: str, actor: str | None = None) -> None:
        if self.failure is not None:
            raise self.failure
        del self.distrusted[kid]

    async def observe(self, kid: str) -> Observed:
        return Observed(())


class FakeInstances(FakeRevocable):
    """A fleet of one instance, which shows that it trusts `kid` after so many refreshes."""

    def __init__(self, kid: str, refreshes: int) -> None:
        super().__init__()
        self.refreshes = refreshes
        self._kid = kid

    async def refresh(self) -> None:
        self.refreshes -= 1
        if self.refreshes == 0:
            self.kids.add(self._kid)

    def without(self, kid: str) -> list[str]:
        return [] if kid in self.kids else ["api-1"]


@dataclass(slots=True)
class Scene:
    """`events` are those of every KeyRotation that `rotation` made."""

    tenant: LocalTenant
    keys: SigningKeysClient
    clock: SleepingClock
    closing: AsyncExitStack
    events: list[AdminEvent] = field(default_factory=list)

    async def verifier(self, **options: Any) -> TokenVerifier:
        verifier = TokenVerifier(
            self.tenant.issuer,
            self.tenant.audience,
            **{"algorithms": ["ES256"], "clock": self.clock, **options},
        )
        return await self.closing.enter_async_context(verifier)

    def rotation(self, *fleet: Revocable, **options: Any) -> KeyRotation:
        return KeyRotation(self.keys, fleet, **{"on_event": self.events.append, **options})

    @property
    def steps(self) -> list[str]:
        return [event.step for event in self.events]

    def sent(self, method: str) -> list[str]:
        """The paths of that method's requests; of tokens alone it is not told."""
        asked = [path for each, path in self.tenant.requests if each == method]
        return [path for path in asked if path != "/oauth/token"]

    def used_key(self) -> tuple[str, str]:
        """The kid of a key that was just rotated out, and a token that it has signed."""
        kid, token = self.tenant.key().kid, self.tenant.token()
        self.tenant.rotate()
        return kid, token


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[Scene]:
    clock = SleepingClock()
    options = {"algorithm": "ES256", "clock": clock, **options}
    async with AsyncExitStack() as closing:
        tenant = await closing.enter_async_context(LocalTenant(**options))
        async with client_of(tenant, clock) as keys:
            yield Scene(tenant, keys, clock, closing)


def client_of(tenant: LocalTenant, clock: SleepingClock, **options: Any) -> SigningKeysClient:
    auth = ClientCredentials(tenant.client_id, tenant.client_secret)
    return SigningKeysClient(tenant.issuer, auth=auth, clock=clock, sleep=clock.sleep, **options)


async def verdict(verifier: TokenVerifier, token: str) -> str:
    """ "accepted", or the code of the refusal."""
    try:
        await verifier.verify(token)
    except InvalidTokenError as error:
        return error.code
    return "accepted"


def who_refuses(receipt: RevocationReceipt) -> list[bool]:
    """Of each that was told, in their order, whether it refuses the key."""
    return [each.since is not None for each in receipt.refusals]
