"""The tenant that every consumer is measured against, and its tokens."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from jwks_guard.testing import LocalTenant
from jwks_guard.testing.settings import JWKS_PATH, Clock

# One peer takes no issuer but an https one, so all get that; the keys are fetched over loopback.
ISSUER = "https://acme.auth0.test/"


@contextmanager
def loopback_tenant(
    *, algorithm: str = "RS256", clock: Clock = time
) -> Iterator[tuple[LocalTenant, str]]:
    """A running tenant whose issuer is ISSUER, and the address of its JWKS."""
    port = _free_port()
    with LocalTenant(port=port, issuer=ISSUER, algorithm=algorithm, clock=clock) as tenant:
        yield tenant, f"http://127.0.0.1:{port}{JWKS_PATH}"


def access_tokens(tenant: LocalTenant, count: int) -> list[str]:
    """As many users' access tokens, no two alike.

    Each holds what Auth0 ordinarily puts in, and has about 800 bytes with RS256.
    """
    return [access_token(tenant) for _ in range(count)]


def access_token(tenant: LocalTenant) -> str:
    """One of these, for a user who never came before."""
    return tenant.token(
        sub=f"auth0|{secrets.token_hex(12)}",
        audience=[tenant.audience],
        scope="read:things write:things",
        permissions=["read:things", "write:things"],
        claims={"https://acme.test/role": "editor"},
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
