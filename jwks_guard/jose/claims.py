"""The rules for a claims set, compiled once per verifier; the time is an argument (RFC 7519)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeGuard

from jwks_guard.errors import (
    InvalidClaimError,
    InvalidTokenError,
    MissingClaimError,
    TokenExpiredError,
    TokenNotYetValidError,
)

# From year 1 to the end of year 9999, as datetime knows them: beyond is an invalid claim, and never
# an overflow further on.
_FIRST_DATE = -62_135_596_800
_LAST_DATE = 253_402_300_799
_CONTAINERS = frozenset({dict, list})


@dataclass(frozen=True, slots=True)
class ClaimsPolicy:
    """What a claims set has to say to be accepted.

    issuer: exactly the `iss`. audiences: one of them is in `aud`. leeway: seconds that the issuer's
    clock may be off. required_claims: present and not null, besides `iss` and `aud`.
    max_token_age: seconds since `iat`, which it then requires.
    """

    issuer: str
    audiences: frozenset[str]
    leeway: float
    required_claims: tuple[str, ...]
    max_token_age: float | None

    def check(self, claims: dict[str, Any], now: float) -> float:
        """Give the end of acceptance in epoch seconds, `math.inf` if nothing ends it.

        claims: as parsed, their signature verified. now: epoch seconds.

        Raises InvalidClaimError, MissingClaimError, TokenExpiredError and TokenNotYetValidError.
        """
        if claims.get("iss") != self.issuer:
            raise _refusal(claims, "iss", "is not the configured issuer")
        aud = claims.get("aud")
        if isinstance(aud, str):
            named = aud in self.audiences
        elif _is_array_of_strings(aud):
            named = not self.audiences.isdisjoint(aud)
        else:
            raise _refusal(claims, "aud", "is not a string or an array of strings")
        if not named:
            raise _refusal(claims, "aud", "does not name this API")
        if not isinstance(claims.get("sub", ""), str):
            raise InvalidClaimError("The `sub` claim is not a string.", "sub")
        until = self._check_times(claims, now)
        for name in self.required_claims:
            if claims.get(name) is None:
                raise _missing(name)
        return until

    def _check_times(self, claims: dict[str, Any], now: float) -> float:
        until = math.inf
        if "exp" in claims:
            until = _numeric_date(claims["exp"], "exp") + self.leeway
        if "nbf" in claims and _numeric_date(claims["nbf"], "nbf") > now + self.leeway:
            raise TokenNotYetValidError("The token's `nbf` lies ahead.")
        if "iat" in claims:
            issued_at = _numeric_date(claims["iat"], "iat")
            if self.max_token_age is not None:
                if issued_at > now + self.leeway:
                    raise TokenNotYetValidError("The token's `iat` lies ahead.")
                until = min(until, issued_at + self.max_token_age + self.leeway)
        elif self.max_token_age is not None:
            raise _missing("iat")
        if now >= until:
            raise TokenExpiredError("The token has expired.")
        return until


def scopes_of(claims: dict[str, Any]) -> frozenset[str]:
    """Give the scopes in `scope` (RFC 8693 section 4.2), none if it is not a string."""
    scope = claims.get("scope")
    if not isinstance(scope, str):
        return frozenset()
    return _kept_scopes(scope) if len(scope) <= _SHORT else _scopes(scope)


def _scopes(scope: str) -> frozenset[str]:
    # Only the space separates (RFC 6749 section 3.3); split() would take a dozen other characters.
    return frozenset(filter(None, scope.split(" ")))


# Few values are in use at an API, in very many tokens. A long one is not worth its memory.
_SHORT = 512
_kept_scopes = lru_cache(maxsize=256)(_scopes)


def permissions_of(claims: dict[str, Any]) -> frozenset[str]:
    """Give the entries of `permissions` (Auth0 RBAC), none if it is not an array of strings."""
    permissions = claims.get("permissions")
    return frozenset(permissions) if _is_array_of_strings(permissions) else frozenset()


def freeze(value: Any) -> Any:
    """Give a deeply immutable copy of parsed JSON: read-only mappings and tuples."""
    if type(value) not in _CONTAINERS:
        return value
    # Most values are scalars, and a call for each would cost more than all the rest.
    if isinstance(value, list):
        return tuple([freeze(v) if type(v) in _CONTAINERS else v for v in value])
    copy = value.copy()
    for name, v in value.items():
        if type(v) in _CONTAINERS:
            copy[name] = freeze(v)
    return MappingProxyType(copy)


def _numeric_date(value: object, name: str) -> float:
    # By type, as a bool is an int. The range comes before any arithmetic: NaN is not within it, and
    # 10**400 would overflow a float.
    if (type(value) is int or type(value) is float) and _FIRST_DATE <= value <= _LAST_DATE:
        return value
    raise InvalidClaimError(f"The `{name}` claim is not a NumericDate up to year 9999.", name)


def _is_array_of_strings(value: object) -> TypeGuard[list[str]]:
    if not isinstance(value, list):
        return False
    for element in value:  # noqa: SIM110 - arrays are short; a generator costs more than they do
        if type(element) is not str:
            return False
    return True


def _refusal(claims: dict[str, Any], name: str, why: str) -> InvalidTokenError:
    if claims.get(name) is None:
        return _missing(name)
    return InvalidClaimError(f"The `{name}` claim {why}.", name)


def _missing(name: str) -> MissingClaimError:
    return MissingClaimError(f"The `{name}` claim is missing.", name)
