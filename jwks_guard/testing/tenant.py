"""A local tenant: an issuer that rotates, revokes and fails as the real one does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from jwks_guard.testing.app import Site, open_site
from jwks_guard.testing.keys import SigningKey, new_rsa_key
from jwks_guard.testing.memory import Memory
from jwks_guard.testing.profile import (
    DEFAULT_AUDIENCE,
    DEFAULT_LIFETIME,
    DEFAULT_SCOPE,
    DEFAULT_SUBJECT,
    IN_PROCESS_ISSUER,
    edited,
)
from jwks_guard.testing.serving import Serving
from jwks_guard.testing.settings import JWKS_PATH, checked_settings
from jwks_guard.testing.tokens import access_token_header, api_token_claims, sign
from jwks_guard.testing.transport import InProcessTransport

if TYPE_CHECKING:
    import httpx
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from jwks_guard.testing.faults import Faults
    from jwks_guard.testing.request_log import RequestLog
    from jwks_guard.testing.settings import Clock


class LocalTenant:
    """A tenant with keys, tokens and faults of its own, for tests and for development.

    Use it with `async with` or `with`, or call `start` and `stop`. It listens on `host` and `port`
    (0: a free one) in a thread of its own; with `in_process=True` it binds nothing and answers
    only through `transport`. Stopped and started again it is the same tenant at the same address.

    `audience` is that of its API; several are those of several APIs. `issuer` replaces the one that
    follows from the address, and its endpoints are said to lie there. `algorithm` (RS, PS, ES or
    EdDSA) is that of its keys, `token_lifetime` is in seconds, `clock` is anything with `time()`.
    `state` is a file (mode 0600) that keeps its keys and its client for the next run; private keys
    lie in it. `tls` serves https, with a certificate by `ca_certificate`.
    `client_public_key` (PEM) lets its client authenticate with `private_key_jwt` too.
    `conditional_requests` gives the JWKS an `ETag` and answers 304 where that is due.
    `make_rsa_key` makes the RSA keys, in which a start spends its time; a key that it gives to two
    tenants of one process is refused for both once it is distrusted for one.

    It is for tests: it gives a token for any user to anybody, without a password.

    Raises `ConfigurationError` for an argument or a file that can't be used, and OSError from the
    start if the port is taken. A change that `state` can't take raises the former, and is not made.
    """

    def __init__(
        self,
        *,
        audience: str | Sequence[str] = DEFAULT_AUDIENCE,
        host: str = "127.0.0.1",
        port: int = 0,
        in_process: bool = False,
        issuer: str | None = None,
        algorithm: str = "RS256",
        token_lifetime: float = DEFAULT_LIFETIME,
        clock: Clock = time,
        client_public_key: str | None = None,
        conditional_requests: bool = False,
        state: str | Path | None = None,
        tls: bool = False,
        make_rsa_key: Callable[[], RSAPrivateKey] = new_rsa_key,
    ) -> None:
        self._memory = Memory(Path(state) if state else None)
        self._settings = checked_settings(
            issuer=issuer or "",  # "": as the address will be
            audience=audience,
            algorithm=algorithm,
            token_lifetime=token_lifetime,
            clock=clock,
            client_id=self._memory.client_id,
            client_secret=self._memory.client_secret,
            client_public_key=client_public_key,
            conditional_requests=conditional_requests,
            make_rsa_key=make_rsa_key,
        )
        self._serving = Serving(host, port, tls=tls, memory=self._memory)
        self._in_process = in_process
        self._site: Site | None = None

    def start(self) -> None:
        """Make the keys and listen. Blocks for as long as two RSA keys take."""
        if self._in_process:
            self._open(IN_PROCESS_ISSUER)
        else:
            self._serving.start(self._open)

    def stop(self) -> None:
        """End every fault and every connection, and close the port."""
        self.faults.clear()
        self._serving.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens; ends in a slash."""
        return self._running.settings.issuer

    @property
    def jwks_uri(self) -> str:
        """Where its JWK Set lies."""
        return self._running.settings.url(JWKS_PATH)

    @property
    def audience(self) -> str:
        """The audience of its access tokens where none is named: that of its first API."""
        return self._settings.audience

    @property
    def audiences(self) -> tuple[str, ...]:
        """The audience of each of its APIs."""
        return self._settings.audiences

    @property
    def ca_certificate(self) -> str:
        """The certificate (PEM) that clients have to trust; LookupError before it served https."""
        if self._memory.authority is None:
            raise LookupError("the tenant has not served https")
        return self._memory.authority.pem

    @property
    def management_audience(self) -> str:
        """The audience of Management API tokens."""
        return self._running.settings.management_audience

    @property
    def client_id(self) -> str:
        """The ID of its one machine-to-machine client."""
        return self._settings.client_id

    @property
    def client_secret(self) -> str:
        """The secret of that client."""
        return self._settings.client_secret

    @property
    def faults(self) -> Faults:
        """The switches that make it misbehave."""
        return self._running.faults

    @property
    def requests(self) -> RequestLog:
        """What it was asked for so far."""
        return self._running.requests

    @cached_property
    def transport(self) -> httpx.AsyncBaseTransport:
        """Answers in this process, without a socket, in either mode and with every fault."""
        return InProcessTransport(self._running.app)

    @property
    def signing_keys(self) -> tuple[SigningKey, ...]:
        """Every key it ever signed with: current, next, previous (latest first), revoked."""
        return self._running.keyring.keys

    def key(self, selector: str = "current") -> SigningKey:
        """The key that is "current", "next", or the latest "previous" or "revoked", or by its kid.

        Raises LookupError if there is none.
        """
        return self._running.keyring.select(selector)

    def jwks(self) -> dict[str, Any]:
        """The JWK Set that it publishes now."""
        return self._running.keyring.published.document()

    def token(
        self,
        *,
        sub: str = DEFAULT_SUBJECT,
        scope: str | None = DEFAULT_SCOPE,
        permissions: Sequence[str] | None = None,
        audience: str | Sequence[str] | None = None,
        lifetime: float | None = None,
        claims: Mapping[str, Any] | None = None,
        header: Mapping[str, Any] | None = None,
        kid: str | None = None,
        key: str | SigningKey = "current",
    ) -> str:
        """An access token of Auth0's profile, for this tenant's audience unless told otherwise.

        `lifetime` is in seconds. `claims` and `header` add and replace members, a value of None
        drops one. `key` signs (see the method `key`); `kid` is written where that key's own would
        be. An `audience` that is a string is joined by the userinfo endpoint, as is usual.
        """
        signer = key if isinstance(key, SigningKey) else self.key(key)
        settings = self._running.settings
        usual = api_token_claims(
            settings,
            sub=sub,
            scope=scope,
            permissions=permissions,
            audience=audience,
            lifetime=lifetime,
        )
        named = {**access_token_header(signer), "kid": kid or signer.kid}
        return sign(signer, header=edited(named, header), claims=edited(usual, claims))

    def forged_token(self, *, kid: str | None = None, **shape: Any) -> str:
        """A token as `token` makes it, by a key that was never published.

        It names `kid`, which is that of the current key if none is given.
        """
        return self.token(key=self._forger, kid=kid or self.key().kid, **shape)

    def new_key(self, *, algorithm: str | None = None, kid: str | None = None) -> SigningKey:
        """A signing key that this tenant does not know; see `publish` and `token`."""
        return self._running.keyring.generate(algorithm=algorithm, kid=kid)

    def rotate(self) -> str:
        """Make the next key current and a new next key, and give the kid of that one."""
        return self._running.keyring.rotate().kid

    def revoke(self, kid: str) -> None:
        """Withdraw a previously used key for good.

        Raises LookupError if it is unknown and ValueError if it is current, next or revoked.
        """
        self._running.keyring.revoke(kid)

    def remove(self, kid: str) -> None:
        """Withdraw every key of that kid from the JWKS without revoking it; Auth0 never does."""
        self._running.keyring.remove(kid)

    def publish(self, key: SigningKey | Mapping[str, Any]) -> None:
        """Add a key, or any JWK document, to the JWKS; Auth0 never does."""
        self._running.keyring.publish(key.jwk if isinstance(key, SigningKey) else key)

    def swap_key(self, kid: str) -> SigningKey:
        """Put new key material under a kid that is in use, and give it; Auth0 never does."""
        return self._running.keyring.swap(kid)

    @property
    def _running(self) -> Site:
        if self._site is None:
            raise RuntimeError("the tenant has no keys yet: enter it with `with` or `async with`")
        return self._site

    @cached_property
    def _forger(self) -> SigningKey:
        return self.new_key()

    def _open(self, address: str) -> Site:
        if self._site is None:
            issuer = self._settings.issuer or address
            self._site = open_site(replace(self._settings, issuer=issuer), self._memory)
        return self._site
