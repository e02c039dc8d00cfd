"""The rules for a claims set, compiled once per verifier; the time is an argument (RFC 7519)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeGuard

import msgspec

from jwks_guard.errors import (
    BindingRequiredError,
    InvalidClaimError,
    InvalidTokenError,
    MissingClaimError,
    TokenExpiredError,
    TokenNotYetValidError,
)
from jwks_guard.jose.compact import DECODE_ERRORS, decode_segment, not_an_object

# From year 1 to the end of year 9999, as datetime knows them: beyond is an invalid claim, and never
# an overflow further on.
_FIRST_DATE = -62_135_596_800
_LAST_DATE = 253_402_300_799
MAX_ISSUED_AHEAD = 60.0
"""Seconds that `iat` may lie ahead of this machine's clock; beyond, one of the clocks is wrong."""
_EXP_ALONE = ("exp",)
_CONTAINERS = frozenset({dict, list})
# RFC 9068 section 2.2, OpenID Connect Core section 2, Okta, Microsoft Entra.
CLIENT_CLAIMS = ("client_id", "azp", "cid", "appid")
_PROOFS = {
    "jkt": "a DPoP proof (RFC 9449)",
    "x5t#S256": "the client's certificate by mutual TLS (RFC 8705)",
}


class _Issuer(msgspec.Struct, gc=False):
    """The one claim that is read before the signature is verified; all others are skipped."""

    iss: msgspec.Raw = msgspec.Raw()


_decode_issuer = msgspec.json.Decoder(_Issuer).decode
_decode_text = msgspec.json.Decoder(str | None).decode


def unverified_issuer(segment: bytes) -> str | None:
    """Give `iss` of the payload in `segment`, None without one: anybody may have written it.

    Raises MalformedTokenError for what is no JSON object in base64url, InvalidClaimError for an
    `iss` that is no string.
    """
    try:
        raw = _decode_issuer(decode_segment(segment, "payload")).iss
    except DECODE_ERRORS:
        raise not_an_object("payload") from None
    try:
        return _decode_text(raw) if raw else None
    except msgspec.ValidationError:
        raise InvalidClaimError("The `iss` claim is not a string.", "iss") from None
    except DECODE_ERRORS:
        raise not_an_object("payload") from None


@dataclass(frozen=True, slots=True)
class ClaimsPolicy:
    """What a claims set has to say to be accepted.

    issuer: exactly the `iss`. audiences: one of them is in `aud`; None takes only tokens without
    `aud`, and of those that say their `token_use` only "access". client_ids: each of `client_id`,
    `azp`, `cid` and `appid` that is there is one of them, and one is there; None asks for nothing.
    leeway: seconds that the issuer's clock may be off. required_claims: present and not null,
    besides `iss` and `aud`. max_token_age: seconds since `iat`, which it then requires. An `iat`
    may lie ahead by `leeway` or MAX_ISSUED_AHEAD, the longer one; with max_token_age by `leeway`.
    takes_bound: whether a token with `cnf` is accepted although no proof is checked here.
    """

    issuer: str
    audiences: frozenset[str] | None
    leeway: float
    required_claims: tuple[str, ...]
    max_token_age: float | None
    client_ids: frozenset[str] | None = None
    takes_bound: bool = False

    def check(self, claims: dict[str, Any], now: float) -> float:
        """Give the end of acceptance in epoch seconds, `math.inf` if nothing ends it.

        claims: as parsed, their signature verified. now: epoch seconds.

        Raises InvalidClaimError, MissingClaimError, TokenExpiredError, TokenNotYetValidError and
        BindingRequiredError.
        """
        if claims.get("iss") != self.issuer:
            raise issuer_refusal(claims.get("iss"), self.issuer)
        aud = claims.get("aud")
        if type(aud) is str:
            aud = [aud]
        if self.audiences is None:
            _check_no_audience(claims)
        elif not _is_array_of_strings(aud):
            raise _refusal(claims, "aud", "is not a string or an array of strings")
        elif self.audiences.isdisjoint(aud):
            raise _refusal(claims, "aud", "does not name this API")
        if type(claims.get("sub", "")) is not str:
            raise InvalidClaimError("The `sub` claim is not a string.", "sub")
        until = self._check_times(claims, now)
        if now >= until:
            raise TokenExpiredError("The token has expired.")
        # Nearly all verifiers require `exp` alone, and one that is null was refused above.
        if self.required_claims != _EXP_ALONE or "exp" not in claims:
            self._check_required(claims)
        if self.client_ids is not None or "cnf" in claims:
            self._check_bearer(claims)
        return until

    def _check_required(self, claims: dict[str, Any]) -> None:
        for name in self.required_claims:
            if claims.get(name) is None:
                raise _missing(name)

    def _check_bearer(self, claims: dict[str, Any]) -> None:
        """Check whose token it is, and that nobody else's proof is needed to use it."""
        if self.client_ids is not None:
            check_client(claims, self.client_ids)
        if "cnf" in claims and not self.takes_bound:
            raise _unproven(claims["cnf"])

    def _check_times(self, claims: dict[str, Any], now: float) -> float:
        try:
            exp = claims["exp"]
        except KeyError:
            until = math.inf
        else:
            if type(exp) is not int or not 0 <= exp <= _LAST_DATE:  # nearly all need no call
                exp = numeric_date(exp, "exp")
            until = exp + self.leeway
        if "nbf" in claims and numeric_date(claims["nbf"], "nbf") > now + self.leeway:
            raise TokenNotYetValidError("The token's `nbf` lies ahead.")
        if "iat" in claims:
            issued_at = claims["iat"]
            if type(issued_at) is not int or not 0 <= issued_at <= _LAST_DATE:
                issued_at = numeric_date(issued_at, "iat")
            ahead = issued_at - now  # to compare an int with a float takes twice as long
            if ahead > 0.0:
                self._check_ahead(ahead)
            if self.max_token_age is not None:
                until = min(until, issued_at + self.max_token_age + self.leeway)
        elif self.max_token_age is not None:
            raise _missing("iat")
        return until

    def _check_ahead(self, seconds: float) -> None:
        allowed = self.leeway
        if self.max_token_age is None:  # otherwise each of them makes a token's life longer
            allowed = max(allowed, MAX_ISSUED_AHEAD)
        if seconds > allowed:
            raise TokenNotYetValidError("The token's `iat` lies ahead.")


def issuer_refusal(iss: object, configured: str) -> InvalidTokenError:
    """Give the error for an `iss` that is not the configured one, or is missing.

    It is quoted only where a trailing slash is all that differs.
    """
    if iss is None:
        return _missing("iss")
    if hint := slash_hint(iss, configured):
        return InvalidClaimError(f"The `iss` claim is {hint}.", "iss")
    return InvalidClaimError("The `iss` claim is not the configured issuer.", "iss")


def slash_hint(issuer: object, configured: str) -> str | None:
    """Give both issuers and what to change, if a trailing slash is all that they differ in."""
    if issuer == configured + "/":
        return f"{issuer!r}, configured is {configured!r}: add the slash to the configured issuer"
    if isinstance(issuer, str) and issuer + "/" == configured:
        return (
            f"{issuer!r}, configured is {configured!r}: remove the slash from the configured issuer"
        )
    return None


def scopes_of(claims: dict[str, Any]) -> frozenset[str]:
    """Give the scopes in `scope` (RFC 8693 section 4.2) and `scp` (Okta, Microsoft Entra).

    A string is split at its spaces; items of an array are taken as they are. A claim of another
    type has none.
    """
    scopes = _scopes(claims.get("scope"))
    return scopes | _scopes(claims["scp"]) if "scp" in claims else scopes


def _scopes(value: object) -> frozenset[str]:
    if isinstance(value, str):
        return _kept_scopes(value) if len(value) <= _SHORT else _separated(value)
    return frozenset(value) if _is_array_of_strings(value) else frozenset()


def _separated(scope: str) -> frozenset[str]:
    # Only the space separates (RFC 6749 section 3.3); split() would take a dozen other characters.
    return frozenset(filter(None, scope.split(" ")))


def client_id_of(claims: dict[str, Any]) -> str | None:
    """Give the client: the first of `client_id`, `azp`, `cid` and `appid` that is a string."""
    found = (claims.get(name) for name in CLIENT_CLAIMS)
    return next((each for each in found if isinstance(each, str)), None)


# Few values are in use at an API, in very many tokens. A long one is not worth its memory.
_SHORT = 512
_kept_scopes = lru_cache(maxsize=256)(_separated)


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


def _check_no_audience(claims: dict[str, Any]) -> None:
    if "aud" in claims:
        raise InvalidClaimError(
            "The token has an `aud` claim: with audience=None only tokens without one are "
            "accepted. Give the audience of this API.",
            "aud",
        )
    if claims.get("token_use", "access") != "access":
        raise InvalidClaimError("The `token_use` claim is not access.", "token_use")


def check_client(claims: Mapping[str, Any], client_ids: frozenset[str]) -> None:
    """Check that each claim that names the client names one of `client_ids`, and that one does.

    Raises MissingClaimError, InvalidClaimError.
    """
    present = [name for name in CLIENT_CLAIMS if claims.get(name) is not None]
    if not present:
        names = ", ".join(CLIENT_CLAIMS)
        raise MissingClaimError(f"None of the claims {names} names the client.", "client_id")
    for name in present:
        client = claims[name]
        if not isinstance(client, str) or client not in client_ids:
            raise InvalidClaimError(f"The `{name}` claim does not name an accepted client.", name)


def _unproven(cnf: object) -> BindingRequiredError:
    """The refusal of a token that names a key whose holder has to prove it (RFC 7800 section 3)."""
    members = [name for name in _PROOFS if isinstance(cnf, dict) and name in cnf]
    if not members:
        return BindingRequiredError(
            "The token's `cnf` claim names no way of proof that is known (jkt, x5t#S256), so the "
            "proof that it needs can't be checked."
        )
    named = " and ".join(f"`{name}`" for name in members)
    proofs = " and ".join(_PROOFS[name] for name in members)
    return BindingRequiredError(
        f"The token is bound to a key (`cnf` with {named}) and needs {proofs}, which is not "
        "checked here. Request tokens without it, or set bindings='checked upstream' if a gateway "
        "in front of this API checks the proof."
    )


def numeric_date(value: object, name: str) -> float:
    """Give the date in the claim `name` (RFC 7519 section 2), in epoch seconds.

    Raises InvalidClaimError for another type, and for dates before year 1 and after year 9999.
    """
    # By type, as a bool is an int. The range comes before any arithmetic: NaN is not within it, and
    # 10**400 would overflow a float.
    if (type(value) is int or type(value) is float) and _FIRST_DATE <= value <= _LAST_DATE:
        return value
    raise InvalidClaimError(f"The `{name}` claim is not a NumericDate up to year 9999.", name)


def _is_array_of_strings(value: object) -> TypeGuard[list[str]]:
    if not isinstance(value, list):
        return False
    try:
        "".join(value)  # which looks at each of them, and takes half as long as a loop
    except TypeError:
        return False
    return True


def _refusal(claims: dict[str, Any], name: str, why: str) -> InvalidTokenError:
    if claims.get(name) is None:
        return _missing(name)
    return InvalidClaimError(f"The `{name}` claim {why}.", name)


def _missing(name: str) -> MissingClaimError:
    return MissingClaimError(f"The `{name}` claim is missing.", name)
