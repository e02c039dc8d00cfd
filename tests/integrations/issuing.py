"""The tokens of the table, and the verifiers that judge them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt

from jwks_guard import Register, SyncTokenVerifier, TokenVerifier
from jwks_guard.testing import LocalTenant
from tests.support import HandClock

SPENT = 8
"""More look-ups of unknown keys than a verifier does at once."""


@dataclass(frozen=True)
class Issuing:
    """A tenant, its tokens by their names in the table, and verifiers for the table's guards."""

    tenant: LocalTenant
    tokens: dict[str, str]
    register: Register = field(default_factory=Register)
    made: list[TokenVerifier] = field(default_factory=list)
    """The verifiers that run on the event loop of a server."""

    def verifier(self, path: str) -> TokenVerifier:
        """The verifier of the guard at `path`."""
        verifier = TokenVerifier(*self._parties(path), **self._options(path))
        self.made.append(verifier)
        return verifier

    def sync_verifier(self, path: str) -> SyncTokenVerifier:
        """The same for threads."""
        return SyncTokenVerifier(*self._parties(path), **self._options(path))

    def unknown(self, number: int) -> str:
        """A token by a key of its own, which the tenant does not publish."""
        return self.tenant.forged_token(kid=f"unknown-{number}")

    def _parties(self, path: str) -> tuple[str, str]:
        # Nothing listens on port 1 of loopback.
        issuer = "http://127.0.0.1:1/" if path == "down" else self.tenant.issuer
        return issuer, self.tenant.audience

    def _options(self, path: str) -> dict[str, Any]:
        if path == "throttled":  # on a clock that stands still no look-up is granted anew
            return {"clock": HandClock(time.time()), "register": self.register}
        return {"register": self.register}


@contextmanager
def issuing() -> Iterator[Issuing]:
    with LocalTenant(algorithm="ES256", audience="https://api.acme.com") as tenant:
        leaked = tenant.key()
        revoked = tenant.token()
        tenant.rotate()
        made = Issuing(tenant, {**_tokens(tenant), "revoked": revoked})
        with made.sync_verifier("plain") as verifier:
            verifier.distrust(leaked.kid, reason="leaked")
        yield made


def _tokens(tenant: LocalTenant) -> dict[str, str]:
    now = int(time.time())
    granted: Any = {"scope": "read:things write:things", "permissions": ["delete:things"]}
    granted["claims"] = {"tier": "gold"}
    good = tenant.token(**granted)
    header, payload, signature = good.split(".")
    claims = jwt.decode(good, options={"verify_signature": False})
    return {
        "good": good,
        "reader": tenant.token(scope="read:things"),
        "poor": tenant.token(scope="openid"),
        "expired": tenant.token(claims={"exp": now - 3600}),
        "future": tenant.token(claims={"nbf": now + 3600}),
        "issued_in_future": tenant.token(claims={"iat": now + 3600, "exp": now + 7200}),
        "other_audience": tenant.token(audience="https://other.acme.com"),
        "other_issuer": tenant.token(claims={"iss": "https://evil.test/"}),
        "forged": tenant.forged_token(),
        "unknown_key": tenant.forged_token(kid="never-published"),
        "removed": tenant.token(key=tenant.new_key(algorithm="ES256")),
        "alg_none": jwt.encode(claims, "", algorithm="none", headers={"kid": tenant.key().kid}),
        "alg_hs256": jwt.encode(
            claims, "a public key is no secret, and has more than 32 bytes", algorithm="HS256"
        ),
        "five_parts": f"{header}.{payload}.{signature}.{payload}.{signature}",
        "two_parts": f"{header}.{payload}",
        "opaque": "opaque",
        "logout_token": tenant.token(header={"typ": "logout+jwt"}),
        "critical": tenant.token(header={"crit": ["exp"]}),
        "bound": tenant.token(
            claims={"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}
        ),
        "without_expiry": tenant.token(claims={"exp": None}),
        "huge": tenant.token(claims={"padding": "x" * 20_000}),
    }
