"""The tenant that every consumer is measured against, and its tokens."""

from __future__ import annotations

import base64
import json
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
    port = free_port()
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


def bad_tokens(tenant: LocalTenant) -> dict[str, str]:
    """Tokens that every consumer has to refuse, by what is wrong with them."""
    return {
        "with a bad signature": tenant.forged_token(),
        "of an unknown key": tenant.forged_token(kid="never-published"),
        "that has expired": tenant.token(lifetime=-3600),
        "for another audience": tenant.token(audience="https://other.test/"),
        "of another issuer": tenant.token(claims={"iss": "https://other.test/"}),
    }


def under_unknown_kids(token: str, count: int) -> list[str]:
    """`token` (RS256) under kids that were never seen before, without a signature made for each."""
    _, payload, signature = token.split(".")
    return [f"{_header(secrets.token_urlsafe(16))}.{payload}.{signature}" for _ in range(count)]


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _header(kid: str) -> str:
    document = json.dumps({"alg": "RS256", "typ": "JWT", "kid": kid}, separators=(",", ":"))
    return base64.urlsafe_b64encode(document.encode()).rstrip(b"=").decode()
