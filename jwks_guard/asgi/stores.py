"""The key stores behind whatever verifier an app has."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias

from jwks_guard.errors import JWKSGuardError
from jwks_guard.verify.multi_issuer import MultiIssuerVerifier

if TYPE_CHECKING:
    from jwks_guard.keys.store import KeyStore


class HasKeys(Protocol):
    """A TokenVerifier or SyncTokenVerifier."""

    keys: KeyStore


Verifier: TypeAlias = HasKeys | MultiIssuerVerifier


def stores_of(verifier: Verifier) -> tuple[KeyStore, ...]:
    """The stores, each of them once."""
    if isinstance(verifier, MultiIssuerVerifier):
        return tuple(dict.fromkeys(each.keys for each in verifier.verifiers.values()))
    return (verifier.keys,)


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
