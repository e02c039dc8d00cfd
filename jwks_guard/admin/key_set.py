"""SigningKeys: the keys of a tenant as one answer lists them (pure)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.errors import (
    ManagementAPIError,
    RevocationRefusedError,
    RotationRefusedError,
)


class SigningKeys(tuple[SigningKey, ...]):
    """Every key of one list answer, in its order."""

    __slots__ = ()

    @property
    def current(self) -> SigningKey:
        """The key that signs; raises ManagementAPIError unless exactly one is listed."""
        return self._only("current")

    @property
    def next(self) -> SigningKey:
        """The key that a rotation makes current; raises as `current` does."""
        return self._only("next")

    def get(self, kid: str) -> SigningKey | None:
        """The key `kid`, if it is listed."""
        return next((key for key in self if key.kid == kid), None)

    def one_step_from(self, before: SigningKeys) -> SigningKey | None:
        """The next key, if exactly one rotation lies between `before` and these keys."""
        try:
            one_step = self.current.kid == before.next.kid and before.get(self.next.kid) is None
            return self.next if one_step else None
        except ManagementAPIError:
            return None

    def require_revocable(self, key: SigningKey) -> None:
        """Raise RevocationRefusedError unless `key` may be revoked, or is revoked already.

        A key that is not listed counts as it was read on its own.
        """
        listed = [each for each in self if each.kid == key.kid]
        entries = listed or [key]
        if all(each.revoked for each in entries):
            return
        for each in entries:
            if each.current or each.next:
                raise RevocationRefusedError(
                    f"{key.kid} is the tenant's {each.state} key: revoking it would refuse the "
                    "tokens that are issued now. Rotate first, until it is a previously used key."
                )
        if not listed and not key.previous:
            raise RevocationRefusedError(
                f"The tenant does not list {key.kid} and does not say that it was used before: it "
                "may be the next key, in a list that lags behind. Look at the list of keys, and "
                "try again."
            )
        if not any(each.current for each in self) or not any(each.next for each in self):
            raise RevocationRefusedError(
                "The tenant's answer does not say which keys are current and next, so it can't be "
                f"told whether {key.kid} is one of them. Look at the list of keys."
            )

    def require_current(self, kid: str) -> None:
        """Raise RotationRefusedError unless `kid` is the current key."""
        if self.current.kid != kid:
            raise RotationRefusedError(
                f"The keys have changed meanwhile: {self.current.kid} is the current key now, and "
                f"{kid} was when they were looked at. Nothing was done. Look at the keys; rotate "
                "again if that is still needed."
            )

    def require_complete(self) -> None:
        """Raise ManagementAPIError unless exactly one current and one next key are listed."""
        for state in ("current", "next"):
            self._only(state)

    @property
    def summary(self) -> str:
        """Which keys were current and next, in words."""
        named = [f"{key.state} was {key.kid}" for key in self if key.current or key.next]
        return " and ".join(named) or "the list could not be read"

    def _only(self, state: Literal["current", "next"]) -> SigningKey:
        found = [key for key in self if key.state == state]
        if len(found) != 1:
            raise ManagementAPIError(
                f"The tenant lists {len(found)} {state} keys instead of one, so it can't be told "
                "what to do. Look at the list of keys.",
                status=HTTPStatus.OK,
            )
        return found[0]
