"""Who a local tenant is and where its endpoints lie, fixed once its address is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Protocol
from urllib.parse import urlsplit

JWKS_PATH = "/.well-known/jwks.json"
DISCOVERY_PATH = "/.well-known/openid-configuration"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path, not a secret
SIGNING_KEYS_PATH = "/api/v2/keys/signing"


class Clock(Protocol):
    """Where a tenant reads the time of day; the `time` module is one."""

    def time(self) -> float:
        """Seconds since 1970, UTC."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The identity of a running tenant and of its one machine-to-machine client."""

    issuer: str
    audience: str
    algorithm: str
    token_lifetime: float
    clock: Clock
    client_id: str
    client_secret: str = field(repr=False)
    client_public_key: str | None  # PEM
    conditional_requests: bool

    @property
    def host(self) -> str:
        """The name that certificates are made out to."""
        return urlsplit(self.issuer).hostname or "localhost"

    @property
    def management_audience(self) -> str:
        """The audience of Management API tokens."""
        return self.url("/api/v2/")

    def url(self, path: str) -> str:
        """The absolute URL of `path`, which begins with a slash."""
        return self.issuer + path[1:]


def http_date(timestamp: float) -> str:
    """`timestamp` (seconds since 1970) as an HTTP-date, in whole seconds (RFC 9110 5.6.7)."""
    return formatdate(int(timestamp), usegmt=True)
