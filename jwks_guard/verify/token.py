"""VerifiedToken: what a request may rely on once its token was verified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from jwks_guard.jose.claims import client_id_of, freeze, permissions_of, scopes_of
from jwks_guard.jose.jwk import VerificationKey
from jwks_guard.readiness.clients import ClientCounter
from jwks_guard.verify.conversion import convert

T = TypeVar("T")
RESULT_BYTES = 512
"""What a cached result takes besides its claims: itself, and its place in the cache."""


class VerifiedToken:
    """The claims set and header of a token that was accepted; immutable and picklable.

    Many requests share one result, so nothing in it can be changed: mappings are read-only, arrays
    are tuples. `to_dict` gives a copy to work on. What is seldom read is made when it is read.
    """

    __slots__ = (
        *("_claims", "_counter", "_frozen", "_header", "_key", "_size", "_thumbprint"),
        "_valid_until",
    )

    # Only set where results are kept.
    _counter: ClientCounter
    """What counts it when it is found again."""
    _size: int
    """The bytes that it takes at the most."""
    # Only set where it comes from another process.
    _thumbprint: str
    """Names the key of a token without `kid`."""

    def __init__(
        self,
        header: dict[str, Any],
        claims: dict[str, Any],
        key: VerificationKey | None,
        valid_until: float,
    ) -> None:
        self._header = header
        self._claims = claims
        self._key = key
        self._valid_until = valid_until
        self._frozen: Mapping[str, Any] | None = None

    @property
    def claims(self) -> Mapping[str, Any]:
        """The claims set (RFC 7519 section 4), read-only all the way down."""
        if self._frozen is None:
            self._frozen = freeze(self._claims)
        return self._frozen

    @property
    def header(self) -> Mapping[str, Any]:
        """The JOSE header (RFC 7515 section 4), read-only all the way down."""
        frozen: Mapping[str, Any] = freeze(self._header)
        return frozen

    @property
    def kid(self) -> str:
        """The id of the key that signed the token: its `kid`, or the key's thumbprint without."""
        kid: str | None = self._header.get("kid")
        if kid:
            return kid
        return getattr(self, "_thumbprint", "") if self._key is None else self._key.thumbprint

    @property
    def issuer(self) -> str:
        """`iss`: the configured issuer."""
        issuer: str = self._claims["iss"]
        return issuer

    @property
    def subject(self) -> str | None:
        """`sub`: whom the token is about, if it says so."""
        return self._claims.get("sub")

    @property
    def client_id(self) -> str | None:
        """The client that the token was issued to: `client_id`, else `azp`, `cid` or `appid`."""
        return client_id_of(self._claims)

    @property
    def scopes(self) -> frozenset[str]:
        """What the client was granted: the values of `scope` (RFC 8693 section 4.2) and `scp`.

        Strings are split at spaces, items of arrays are taken as they are.
        """
        return scopes_of(self._claims)

    @property
    def permissions(self) -> frozenset[str]:
        """What the user may do, whatever the client was granted: `permissions` (Auth0 RBAC).

        None if that is not an array of strings.
        """
        return permissions_of(self._claims)

    @property
    def expires_at(self) -> float | None:
        """`exp` in seconds since the epoch, without leeway; None for a token that has none."""
        return self._claims.get("exp")

    def to_dict(self) -> dict[str, Any]:
        """A copy of the claims set as plain dicts and lists, the caller's to change."""
        copy: dict[str, Any] = _thawed(self._claims)
        return copy

    def claims_as(self, kind: type[T]) -> T:
        """The claims set as `kind`: a msgspec.Struct, a dataclass or a TypedDict; a copy each time.

        Claims that `kind` does not name are ignored. Types are strict: "1" is no int. A claim whose
        name is no identifier needs a field with that name, in a Struct or a TypedDict:

            class Profile(msgspec.Struct):
                roles: list[str] = msgspec.field(name="https://acme.com/roles")

            Profile = TypedDict("Profile", {"https://acme.com/roles": list[str]})

        Raises InvalidClaimError for a claim that is missing or does not fit, named without its
        value, and ConfigurationError for a `kind` that msgspec can't make. A ValueError or
        TypeError of `__post_init__` becomes InvalidClaimError too; its other errors are passed on.
        """
        return convert(self.to_dict(), kind)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VerifiedToken):
            return NotImplemented
        return self._claims == other._claims and self._header == other._header

    def __hash__(self) -> int:
        return hash((self.kid, self.subject, self.expires_at))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._header, self._claims, self._valid_until, self.kid)

    def __repr__(self) -> str:
        return f"<VerifiedToken kid={self.kid!r}>"


def _restored(
    header: dict[str, Any], claims: dict[str, Any], valid_until: float, kid: str
) -> VerifiedToken:
    """A token that was pickled; of its key only the name is left."""
    token = VerifiedToken(header, claims, None, valid_until)
    token._thumbprint = kid
    return token


def _thawed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _thawed(member) for name, member in value.items()}
    return [_thawed(element) for element in value] if isinstance(value, list) else value
