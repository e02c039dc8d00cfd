"""Who a local tenant is and where its endpoints lie, fixed once its address is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from jwks_guard.errors import ConfigurationError
from jwks_guard.testing.keys import ALGORITHMS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

JWKS_PATH = "/.well-known/jwks.json"
DISCOVERY_PATH = "/.well-known/openid-configuration"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path, not a secret
AUTHORIZE_PATH = "/authorize"
USERINFO_PATH = "/userinfo"
MANAGEMENT_PATH = "/api/v2"
SIGNING_KEYS_PATH = MANAGEMENT_PATH + "/keys/signing"
ISSUE_PATH = "/testing/token"


class Clock(Protocol):
    """Where a tenant reads the time of day; the `time` module is one."""

    def time(self) -> float:
        """Seconds since 1970, UTC."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The identity of a running tenant and of its one machine-to-machine client."""

    issuer: str
    audiences: tuple[str, ...]
    algorithm: str
    token_lifetime: float
    clock: Clock
    client_id: str
    client_secret: str = field(repr=False)
    client_public_key: str | None  # PEM
    conditional_requests: bool
    make_rsa_key: Callable[[], RSAPrivateKey]

    @property
    def host(self) -> str:
        """The name that certificates are made out to."""
        return urlsplit(self.issuer).hostname or "localhost"

    @property
    def audience(self) -> str:
        """The audience of the API that tokens are for where none is named."""
        return self.audiences[0]

    @property
    def management_audience(self) -> str:
        """The audience of Management API tokens."""
        return self.url(MANAGEMENT_PATH + "/")

    def url(self, path: str) -> str:
        """The absolute URL of `path`, which begins with a slash."""
        return self.issuer + path[1:]


def checked_settings(*, issuer: str, audience: str | Sequence[str], **others: Any) -> Settings:
    """The settings of these arguments of `LocalTenant`; raises ConfigurationError."""
    audiences = (audience,) if isinstance(audience, str) else tuple(audience)
    if not audiences or not all(audiences):
        raise ConfigurationError("audience: write at least one, and none that is empty")
    if others["algorithm"] not in ALGORITHMS:
        raise ConfigurationError(f"algorithm: use one of {', '.join(ALGORITHMS)}")
    if issuer and not (issuer.startswith(("http://", "https://")) and issuer.endswith("/")):
        raise ConfigurationError(
            f"issuer: write an http(s) URL that ends in a slash, not {issuer!r}"
        )
    if not issuer.isascii():
        raise ConfigurationError("issuer: write its host in ASCII (xn--...)")
    return Settings(issuer=issuer, audiences=audiences, **others)


def http_date(timestamp: float) -> str:
    """`timestamp` (seconds since 1970) as an HTTP-date, in whole seconds (RFC 9110 5.6.7)."""
    return formatdate(int(timestamp), usegmt=True)
