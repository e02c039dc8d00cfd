"""The key stores behind whatever verifier an app has."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias

from jwks_guard.errors import JWKSGuardError
from jwks_guard.verify.multi_issuer import MultiIssuerVerifier

if TYPE_CHECKING:
    from jwks_guard.base.clock import Clock
    from jwks_guard.distrust.register import Register
    from jwks_guard.keys.store import KeyStore


class HasKeys(Protocol):
    """A TokenVerifier or SyncTokenVerifier."""

    keys: KeyStore


Verifier: TypeAlias = HasKeys | MultiIssuerVerifier


class Stores:
    """The stores of `verifier` at each moment, with the register and the clock that they have."""

    def __init__(self, verifier: Verifier) -> None:
        self._multi: MultiIssuerVerifier | None = None
        self.configured: tuple[KeyStore, ...]
        """Those that are not of an issuer that was added at run time, which may be hostile."""
        if isinstance(verifier, MultiIssuerVerifier):
            self._multi = verifier
            self.configured = _once(verifier.listed.values())
            self.register: Register = verifier.register
            self.clock: Clock = verifier.clock
        else:
            self.configured = (verifier.keys,)
            self.register, self.clock = verifier.keys.register, verifier.keys.clock

    def __call__(self) -> tuple[KeyStore, ...]:
        """All of them, each once."""
        if self._multi is None:
            return self.configured
        return _once(self._multi.verifiers.values())


def _once(verifiers: Iterable[HasKeys]) -> tuple[KeyStore, ...]:
    return tuple(dict.fromkeys(each.keys for each in verifiers))


async def awake(stores: Iterable[KeyStore]) -> None:
    """Have each store do what its first token would make it do.

    An instance that gets no traffic before it is ready would never become so. What fails shows in
    the state of its keys.
    """
    for store in stores:
        with suppress(JWKSGuardError):
            if store.lazy and (store.home.vacant or store.home.here):
                await store.refresh_for_request()
            else:
                await store.ensure_bound()
