"""The key stores of the verifiers that metrics are asked of."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from jwks_guard.errors import ConfigurationError
from jwks_guard.verify.multi_issuer import MultiIssuerVerifier
from jwks_guard.verify.stores import Stores
from jwks_guard.verify.sync import SyncTokenVerifier
from jwks_guard.verify.verifier import TokenVerifier

if TYPE_CHECKING:
    from jwks_guard.keys.store import KeyStore

AnyVerifier: TypeAlias = TokenVerifier | SyncTokenVerifier | MultiIssuerVerifier


class ShownVerifiers:
    """The stores of `verifiers` at each moment, for `who`, which is named in the error.

    Raises ConfigurationError for none, and for anything else than verifiers.
    """

    def __init__(self, who: str, verifiers: tuple[AnyVerifier, ...]) -> None:
        kinds = (TokenVerifier, SyncTokenVerifier, MultiIssuerVerifier)
        if not verifiers or not all(isinstance(each, kinds) for each in verifiers):
            raise ConfigurationError(
                f"{who} takes one or more of TokenVerifier, SyncTokenVerifier and "
                "MultiIssuerVerifier."
            )
        self._stores = tuple(Stores(each) for each in verifiers)

    def __call__(self) -> tuple[KeyStore, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys(store for each in self._stores for store in each()))
