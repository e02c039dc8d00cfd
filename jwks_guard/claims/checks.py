"""The ready-made claim checks."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from jwks_guard.claims.combining import ClaimCheck
from jwks_guard.errors import ConfigurationError, InvalidClaimError, MissingClaimError
from jwks_guard.jose.claims import check_client, numeric_date

Scalar: TypeAlias = str | int | float | bool
"""A JSON string, number or boolean."""
_Typed: TypeAlias = tuple[bool, Scalar]
"""A scalar that equals no other of another JSON type: whether it is a boolean, and itself."""


def equals(name: str, value: Scalar) -> ClaimCheck:
    """Give a check that the claim `name` is `value`: a string, a number or a boolean.

    Raises ConfigurationError for another type of value; `includes` is for arrays.
    """
    return _OneOf(_claim_name(name), _typed_set("value", [value]))


def one_of(name: str, values: Collection[Scalar]) -> ClaimCheck:
    """Give a check that the claim `name` is one of `values`: strings, numbers or booleans.

    Raises ConfigurationError for no values, and for values of another type.
    """
    return _OneOf(_claim_name(name), _typed_set("values", values))


def includes(name: str, *values: Scalar) -> ClaimCheck:
    """Give a check that the array in the claim `name` has each of `values` as an element.

    A claim that is no array counts as an array with that one element, because issuers write a
    single group or role without the array, as RFC 7519 section 4.1.3 allows for `aud`. A string
    is never split or searched: "admin" is not in "admin editor". For scopes use the guard's
    `required_scopes`.

    Raises ConfigurationError for no values, and for values other than strings, numbers or booleans.
    """
    return _Includes(_claim_name(name), _typed_set("values", values))


def organization(*ids: str, names: Collection[str] = ()) -> ClaimCheck:
    """Give a check of the Auth0 organization that the user logged in to.

    A token passes if its `org_id` is one of `ids`, or its `org_name` is one of `names`. Both are
    compared to the letter, names after the given one was put into lower case, as Auth0's SDKs do.
    Prefer ids: with a name, access depends on who may rename organizations. By default Auth0's
    tokens have `org_id` alone.

    Raises ConfigurationError if neither ids nor names are given, or one is not a non-empty string.
    """
    if not ids and names == ():
        raise ConfigurationError(
            "organization needs ids, like organization('org_abc'), or names=['acme']."
        )
    given = _texts("names", names) if names != () else ()
    return _Organization(
        _texts("ids", ids) if ids else frozenset(), frozenset(name.lower() for name in given)
    )


def client(*ids: str) -> ClaimCheck:
    """Give a check of the client, by the rule of the verifier's `client_ids`.

    Each of `client_id`, `azp`, `cid` and `appid` that is present must be one of `ids`, and one of
    them must be present. Raises ConfigurationError for no ids, or one that is not a non-empty
    string.
    """
    return _Client(_texts("ids", ids))


def actor(*subjects: str, issuer: str | None = None) -> ClaimCheck:
    """Give a check of the party that acts for the subject: the `act` claim of a delegated token.

    `act.sub` must be one of `subjects`, and the actor's issuer must be `issuer`: its `act.iss`, or
    the token's own `iss` if it has none. `issuer=None` stands for the token's own. Only the
    outermost `act` counts. Those nested in it are earlier actors, which must not be considered in
    access control (RFC 8693 section 4.1). A token without `act` is refused.

    Raises ConfigurationError for no subjects, and for what is not a non-empty string.
    """
    if issuer is not None:
        _texts("issuer", [issuer])
    return _Actor(_texts("subjects", subjects), issuer)


def profile_rfc9068() -> ClaimCheck:
    """Give a check that the claims RFC 9068 section 2.2 requires are present with their types.

    These are iss, exp, aud, sub, client_id, iat and jti. The profile also requires the header's
    `typ`, which is no claim: combine this check with `token_types=["at+jwt"]`.
    """
    return _check_rfc9068


@dataclass(frozen=True, slots=True)
class _OneOf:
    name: str
    values: frozenset[_Typed]

    def __call__(self, claims: Mapping[str, Any]) -> None:
        if _typed(_present(claims, self.name)) not in self.values:
            raise _invalid(self.name, "does not have an accepted value")


@dataclass(frozen=True, slots=True)
class _Includes:
    name: str
    values: frozenset[_Typed]

    def __call__(self, claims: Mapping[str, Any]) -> None:
        value = _present(claims, self.name)
        elements = value if isinstance(value, list | tuple) else (value,)
        if not self.values.issubset(map(_typed, elements)):
            raise _invalid(self.name, "does not include every required value")


@dataclass(frozen=True, slots=True)
class _Organization:
    ids: frozenset[str]
    names: frozenset[str]

    def __call__(self, claims: Mapping[str, Any]) -> None:
        accepted = {"org_id": self.ids, "org_name": self.names}
        asked = [name for name, values in accepted.items() if values]
        for name in asked:
            value = claims.get(name)
            if isinstance(value, str) and value in accepted[name]:
                return
        if all(claims.get(name) is None for name in asked):
            raise _missing(asked[0])
        raise _invalid(asked[0], "is not an accepted organization")


@dataclass(frozen=True, slots=True)
class _Client:
    ids: frozenset[str]

    def __call__(self, claims: Mapping[str, Any]) -> None:
        check_client(claims, self.ids)


@dataclass(frozen=True, slots=True)
class _Actor:
    subjects: frozenset[str]
    issuer: str | None

    def __call__(self, claims: Mapping[str, Any]) -> None:
        act = _present(claims, "act")
        if not isinstance(act, Mapping):
            raise _invalid("act", "is not an object")
        own = claims.get("iss")
        issuer = own if act.get("iss") is None else act["iss"]
        if issuer != (own if self.issuer is None else self.issuer):
            raise _invalid("act", "names an actor of another issuer")
        subject = act.get("sub")
        if not isinstance(subject, str) or subject not in self.subjects:
            raise _invalid("act", "does not name an accepted actor")


def _check_rfc9068(claims: Mapping[str, Any]) -> None:
    for name in ("iss", "sub", "client_id", "jti"):
        if not isinstance(_present(claims, name), str):
            raise _invalid(name, "is not a string")
    for name in ("exp", "iat"):
        numeric_date(_present(claims, name), name)
    aud = _present(claims, "aud")
    elements = aud if isinstance(aud, list | tuple) else (aud,)
    if not elements or not all(isinstance(each, str) for each in elements):
        raise _invalid("aud", "is not a string or an array of strings")


def _typed(value: object) -> _Typed | None:
    """Give what compares as JSON does; None for an array or an object, which equals no value."""
    return (isinstance(value, bool), value) if isinstance(value, str | int | float) else None


def _typed_set(argument: str, values: Collection[Scalar]) -> frozenset[_Typed]:
    listed = isinstance(values, list | tuple | set | frozenset)
    if not listed or not values or not all(map(_is_scalar, values)):
        raise ConfigurationError(
            f"{argument} must be one or more strings, finite numbers or booleans: null counts as "
            "a missing claim, and `includes` looks into arrays."
        )
    return frozenset(filter(None, map(_typed, values)))


def _is_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int)


def _texts(argument: str, values: Collection[str]) -> frozenset[str]:
    listed = isinstance(values, list | tuple | set | frozenset)
    if not listed or not values or not all(isinstance(each, str) and each for each in values):
        raise ConfigurationError(f"{argument} must be one or more non-empty strings.")
    return frozenset(values)


def _claim_name(name: str) -> str:
    _texts("name", [name])
    return name


def _present(claims: Mapping[str, Any], name: str) -> Any:
    value = claims.get(name)
    if value is None:
        raise _missing(name)
    return value


def _missing(name: str) -> MissingClaimError:
    return MissingClaimError(f"The `{name}` claim is missing.", name)


def _invalid(name: str, why: str) -> InvalidClaimError:
    return InvalidClaimError(f"The `{name}` claim {why}.", name)
