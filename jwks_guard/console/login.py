"""The log-in by a secret that the operators share, and what both kinds of log-in need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from cachetools import LRUCache

from jwks_guard.asgi.operations_auth import Secrets, StaticSecrets, static_secrets
from jwks_guard.base.clock import Clock, Instant
from jwks_guard.console.forms import RefusedError
from jwks_guard.console.rendering import Role
from jwks_guard.console.sessions import Identity
from jwks_guard.errors import ConfigurationError, InvalidTokenError
from jwks_guard.keys.freshness import TokenBucket

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_NAME_CHARS = 100
_MOST_PEERS = 10_000
_NETWORK_BITS = 64
# One slash and no second one, no backslash, no control character: nothing that a browser reads as
# the address of another host.
_OWN_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")


class OperatorSecrets:
    """A log-in by secret: `operator` acts, `viewer` looks.

    Each is as in `operations(operations_auth=...)`: one secret of 16 characters or more, or two
    while the first is being replaced. The person also writes a name, which the journal has and
    nobody checks. Raises ConfigurationError.
    """

    def __init__(self, *, operator: Secrets, viewer: Secrets | None = None) -> None:
        self._operator = static_secrets(operator)
        self._viewer = None if viewer is None else static_secrets(viewer)
        if self._viewer is not None and self._viewer.shares_one_with(self._operator):
            raise ConfigurationError("viewer and operator must be different secrets.")

    def identify(self, form: Mapping[str, str]) -> Identity | None:
        """Who has sent the form; None where the secret is wrong. Raises RefusedError."""
        role = self._role(form.get("secret", "").encode())
        if role is None:
            return None
        name = form.get("name", "").strip()
        if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
            raise RefusedError(
                400, f"Write your name, of {MAX_NAME_CHARS} characters at most, for the journal."
            )
        return Identity(name=name, actor=f"{name}, by {role} secret", role=role)

    def _role(self, given: bytes) -> Role | None:
        operator = is_one_of(self._operator, given)
        viewer = self._viewer is not None and is_one_of(self._viewer, given)
        return "operator" if operator else "viewer" if viewer else None


def is_one_of(secrets: StaticSecrets, given: bytes) -> bool:
    """Whether `given` is one of the secrets, compared in constant time."""
    try:
        secrets.require(given)
    except InvalidTokenError:
        return False
    return True


class Attempts:
    """Limits how often one address tries a secret: 5 times at once, then every 12 seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: LRUCache[str, TokenBucket] = LRUCache(_MOST_PEERS)

    def spend(self, request: Request) -> None:
        """Count an attempt; raises RefusedError, before any secret is looked at."""
        bucket, now = self._buckets.setdefault(_peer(request), TokenBucket()), self._now()
        if not bucket.take(now):
            raise RefusedError(
                429,
                f"Too many attempts from this address. Wait {bucket.wait(now):.0f} seconds, and "
                "try again.",
            )

    def _now(self) -> Instant:
        return Instant.now(self._clock)


def own_path(target: str | None) -> str:
    """`target` if it is a path of the console; else "/", so that a log-in ends nowhere else."""
    return target if target is not None and _OWN_PATH.fullmatch(target) else "/"


def _peer(request: Request) -> str:
    """The address that the request came from; of IPv6 the network, which one machine has whole."""
    host = request.client.host if request.client is not None else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(int(address) >> _NETWORK_BITS)
    return host
