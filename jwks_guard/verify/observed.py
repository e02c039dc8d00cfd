"""Verification that passes its results to the observer of its store; unused without one."""

from __future__ import annotations

from typing import NoReturn

from jwks_guard.base.observer import tell
from jwks_guard.errors import JWKSGuardError
from jwks_guard.keys.store import KeyStore
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verification import Verification


class ObservedVerification(Verification):
    """Verification that tells the observer of each token, in the context of its request."""

    def look_up(self, compact: str | bytes) -> VerifiedToken | tuple[bytes, bytes | None]:
        """The result that is kept of a token, or else what `fresh` takes."""
        found = super().look_up(compact)
        if isinstance(found, VerifiedToken):
            self._accepted(found)
        return found

    def fresh(self, token: bytes, name: bytes | None) -> VerifiedToken:
        """Verify a token by the current view; raises KeyNotHeldError when that has no answer."""
        result = super().fresh(token, name)
        self._accepted(result)
        return result

    def refused(self, error: JWKSGuardError) -> NoReturn:
        """Tell of a refusal and raise it."""
        if (observer := self._keys.observer) is not None:
            # An error has a kid only where the issuer has, or had, such a key.
            tell(observer.refused, self._keys.issuer, error.kid, type(error).code)
        super().refused(error)

    def _accepted(self, token: VerifiedToken) -> None:
        if (observer := self._keys.observer) is not None:
            tell(observer.accepted, self._keys.issuer, token.kid)


def verification_of(keys: KeyStore) -> type[Verification]:
    """The class to verify with by `keys`."""
    return Verification if keys.observer is None else ObservedVerification
