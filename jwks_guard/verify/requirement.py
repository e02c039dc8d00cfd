"""What a token has to grant, besides being good: scopes (RFC 6749 section 3.3) and permissions."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from jwks_guard.errors import ConfigurationError, InsufficientScopeError

_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


class Granted(Protocol):
    """What a token grants."""

    @property
    def scopes(self) -> frozenset[str]:
        """To the client."""
        ...

    @property
    def permissions(self) -> frozenset[str]:
        """To its user."""
        ...


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a token has to grant: all of `scopes`, one of `any_scopes`, all of `permissions`.

    Scopes are what the client was granted, permissions what its user may do (Auth0 RBAC): neither
    counts for the other.
    """

    scopes: tuple[str, ...] = ()
    any_scopes: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.scopes or self.any_scopes or self.permissions)

    def check(self, token: Granted) -> None:
        """Raise InsufficientScopeError unless `token` is enough; it names scopes that would be."""
        scopes = token.scopes
        one = not self.any_scopes or not scopes.isdisjoint(self.any_scopes)
        if not one or not scopes.issuperset(self.scopes):
            # Of several that would do, the first: no client should ask for more than it needs.
            wanted = self.scopes if one else (*self.scopes, *self.any_scopes[:1])
            raise InsufficientScopeError("the token does not grant the required scopes", wanted)
        if self.permissions and not token.permissions.issuperset(self.permissions):
            raise InsufficientScopeError("the token does not grant every required permission")


def requirement(
    scopes: Collection[str] = (),
    any_scopes: Collection[str] = (),
    permissions: Collection[str] = (),
) -> Requirement:
    """The requirement that required_scopes, any_scopes and required_permissions make.

    Raises:
        ConfigurationError: one of them is a single string or an iterator instead of a list, or has
            items that can be none.

    """
    return Requirement(
        scope_tokens(scopes),
        scope_tokens(any_scopes, "any_scopes"),
        _permissions(permissions),
    )


def scope_tokens(values: Collection[str], name: str = "required_scopes") -> tuple[str, ...]:
    """`values` as configured under `name`, each a scope-token of RFC 6749 section 3.3.

    Raises:
        ConfigurationError: a single string or an iterator instead of a list, or a value with white
            space, quotes, a backslash or anything outside ASCII.

    """
    if not _is_list(values):
        kind = "a string" if isinstance(values, str) else f"of type {type(values).__name__}"
        raise ConfigurationError(f"{name} is {kind}; write a list: ['read:things']")
    tokens = tuple(values)
    for token in tokens:
        if not isinstance(token, str) or _SCOPE_TOKEN.fullmatch(token) is None:
            raise ConfigurationError(
                f"{name} holds {token!r}; write one scope per item, in printable ASCII "
                "without spaces, quotes and backslashes"
            )
    return tokens


def _permissions(values: Collection[str]) -> tuple[str, ...]:
    if not _is_list(values) or not all(isinstance(each, str) and each for each in values):
        raise ConfigurationError("required_permissions must be a list of strings: ['read:things']")
    return tuple(values)


def _is_list(values: object) -> bool:
    # What can be read only once, as an iterator, is empty for the second guard that it is given to.
    return isinstance(values, Collection) and not isinstance(values, str)
