"""SyncTokenVerifier: verification in the calling thread, for code without an event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Self, Unpack

from jwks_guard.base.portal import process_portal
from jwks_guard.errors import (
    ConfigurationError,
    DistrustNotSharedError,
    JWKSGuardError,
    KeysUnavailableError,
)
from jwks_guard.jose.compact import to_bytes
from jwks_guard.keys.distrust import Tombstone
from jwks_guard.keys.fetch import DEADLINE_SECONDS
from jwks_guard.keys.health import HealthReport
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verification import KeyNotHeldError
from jwks_guard.verify.verifier import TokenVerifier, VerifierOptions, auth0_issuer


class SyncTokenVerifier:
    """TokenVerifier for threads; the arguments are the same, `http_client` included.

    Verifying runs in the calling thread. Only a fetch is handed to the process's portal, an event
    loop in a thread of its own, which also refreshes in the background.
    """

    def __init__(
        self, issuer: str, audience: str | Collection[str], **options: Unpack[VerifierOptions]
    ) -> None:
        self._verifier = TokenVerifier(issuer, audience, **options)
        self.issuer = issuer
        self.keys = self._verifier.keys

    @classmethod
    def for_auth0(
        cls, domain: str, *, audience: str | Collection[str], **options: Unpack[VerifierOptions]
    ) -> Self:
        """A verifier for an Auth0 domain, as TokenVerifier.for_auth0 makes it."""
        issuer = auth0_issuer(domain)
        if options.get("keys") is None:
            options.setdefault("jwks_uri", f"{issuer}.well-known/jwks.json")
        return cls(issuer, audience, **options)

    def start(self, *, require_keys: bool = False) -> None:
        """Fetch the keys once, then keep them fresh, as TokenVerifier.start does."""
        start = functools.partial(self._verifier.start, require_keys=require_keys)
        process_portal.get().call(start)

    def close(self) -> None:
        """Stop the background refresh; a closed verifier trusts no key until it is started."""
        process_portal.get().call(self._verifier.aclose)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def verify(self, compact: str | bytes) -> VerifiedToken:
        """The verified token, or an error, as TokenVerifier.verify gives it."""
        keys, verification = self.keys, self._verifier.verification
        try:
            token = to_bytes(compact, verification.max_token_bytes)
            loop = keys.loop
            if loop is None or loop.is_closed():
                process_portal.get().call(keys.adopt)
            if keys.lazy and keys.waits_for_request():
                self._where_keys_are_fetched(keys.refresh_for_request)
            name, result = verification.look_up(token)
            if result is not None:
                return result
            try:
                return verification.fresh(token, name)
            except KeyNotHeldError as missing:
                self._where_keys_are_fetched(keys.learn, missing.kid)
                return verification.fresh(token, name)
        except KeyNotHeldError:
            verification.refused(keys.unavailable())
        except JWKSGuardError as error:
            verification.refused(error)

    def distrust(self, kid: str, *, reason: str, force: bool = False) -> None:
        """Refuse `kid` and its key from now on, as TokenVerifier.distrust does."""
        # In this thread first: the event loop that the fleet is told on may be busy.
        try:
            self.keys.distrust_blocking(kid, reason=reason, force=force)
        except DistrustNotSharedError:  # not stored, which does not concern the others
            self._share()
            raise
        self._share()

    def reinstate(self, kid: str, *, reason: str) -> None:
        """Lift the distrust of `kid`."""
        if self.keys.fleet is None:
            self.keys.reinstate_blocking(kid, reason=reason)
        else:
            self._where_keys_are_fetched(functools.partial(self.keys.reinstate, kid, reason=reason))

    def _share(self) -> None:
        if self.keys.fleet is None:
            return
        try:
            self._where_keys_are_fetched(self.keys.share)
        except KeysUnavailableError:
            raise DistrustNotSharedError(
                "The key is refused here, but the event loop that shares decisions with the fleet "
                "does not run."
            ) from None

    @property
    def distrusted(self) -> Mapping[str, Tombstone]:
        """What is distrusted of this issuer, by kid."""
        return self.keys.distrusted

    def health(self) -> HealthReport:
        """The state of the keys, with both bounds."""
        return self.keys.health()

    def usage(self) -> Mapping[str, KeyUsage]:
        """What became of each trusted kid's tokens here, as TokenVerifier.usage counts it."""
        return self._verifier.usage()

    def _where_keys_are_fetched(
        self, step: Callable[..., Coroutine[Any, Any, None]], *args: str
    ) -> None:
        """Run `step` on the event loop of the store, which may be an app's that shares it.

        Raises ConfigurationError in that loop's own thread, which would wait for itself.
        """
        loop = self.keys.loop
        if loop is None or loop.is_closed():
            process_portal.get().call(step, *args)
            return
        if loop is _running_loop():
            raise ConfigurationError(
                "SyncTokenVerifier.verify would block the event loop that fetches its keys; "
                "await TokenVerifier.verify there."
            )
        try:
            asyncio.run_coroutine_threadsafe(step(*args), loop).result(2 * DEADLINE_SECONDS)
        except TimeoutError:  # the loop is stopped or blocked
            raise self.keys.unavailable() from None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
