"""SyncTokenVerifier: verification in the calling thread, for code without an event loop."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Self, TypeVar, Unpack

from jwks_guard.base.portal import process_portal, run_apart
from jwks_guard.base.settings_reader import read_settings
from jwks_guard.distrust.state import Distrusted
from jwks_guard.errors import (
    DistrustNotSharedError,
    JWKSGuardError,
)
from jwks_guard.jose.compact import to_bytes
from jwks_guard.keys.fleet import LONGEST_STEP_SECONDS
from jwks_guard.keys.health import HealthReport
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.verify.settings import verifier_of
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verification import KeyNotHeldError
from jwks_guard.verify.verifier import (
    ConfiguredOptions,
    TokenVerifier,
    VerifierOptions,
    auth0_issuer,
)

T = TypeVar("T")
LOOP_SECONDS = 5.0
"""An event loop that does not turn for so long beyond `max_wait` is stopped or blocked."""


class SyncTokenVerifier:
    """TokenVerifier for threads; the arguments are the same, `http_client` included.

    Verifying runs in the calling thread. Only a fetch is handed to the process's portal, an event
    loop in a thread of its own, which also refreshes in the background. Python lets no event loop
    resolve a name or start a thread once the main thread has ended: have it join the others.
    """

    def __init__(
        self,
        issuer: str,
        audience: str | Collection[str] | None,
        **options: Unpack[VerifierOptions],
    ) -> None:
        self._verifier = TokenVerifier(issuer, audience, **options)
        self.issuer = issuer
        self.keys = self._verifier.keys
        self.observer = self.keys.observer
        self.verification = self._verifier.verification

    @classmethod
    def for_auth0(
        cls,
        domain: str,
        *,
        audience: str | Collection[str] | None,
        **options: Unpack[VerifierOptions],
    ) -> Self:
        """A verifier for an Auth0 domain, as TokenVerifier.for_auth0 makes it."""
        issuer = auth0_issuer(domain)
        if options.get("keys") is None:
            options.setdefault("jwks_uri", f"{issuer}.well-known/jwks.json")
        return cls(issuer, audience, **options)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] = os.environ, **options: Unpack[ConfiguredOptions]
    ) -> Self:
        """The verifier that `JWKS_GUARD_*` variables name, as TokenVerifier.from_env makes it."""
        return verifier_of(cls, cls.for_auth0, read_settings(environ), options)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        environ: Mapping[str, str] = os.environ,
        **options: Unpack[ConfiguredOptions],
    ) -> Self:
        """The verifier that a TOML file names, as TokenVerifier.from_file makes it."""
        return verifier_of(cls, cls.for_auth0, read_settings(environ, path), options)

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
        keys, verification, waited = self.keys, self.verification, 0.0
        try:
            loop = keys.home.loop
            unbound = loop is None or loop.is_closed()
            if keys.lazy or unbound:
                to_bytes(compact, verification.max_token_bytes)  # or nothing is fetched for it
            if unbound:
                process_portal.get().call(keys.ensure_bound)
            if keys.lazy and keys.waits_for_request():
                waited = self._fetch(keys.refresh_for_request)
            found = verification.look_up(compact)
            if isinstance(found, VerifiedToken):
                return found
            token, name = found
            try:
                return verification.fresh(token, name)
            except KeyNotHeldError as missing:
                self._fetch(functools.partial(keys.resolve, missing.kid, waited))
                return verification.fresh(token, name)
        except KeyNotHeldError:
            verification.refused(keys.unavailable())
        except JWKSGuardError as error:
            verification.refused(error)

    def remaining(self, token: VerifiedToken) -> float:
        """Seconds until `token` has to be looked at again, as TokenVerifier.remaining does it."""
        return self._verifier.remaining(token)

    def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> None:
        """Refuse `kid` and its key from now on, as TokenVerifier.distrust does."""
        # In this thread first: the event loop that the fleet is asked on may be busy.
        self.keys.decisions.decide(kid, reason=reason, force=force, actor=actor)
        self._share(self.keys.decisions.share)

    def reinstate(self, kid: str, *, reason: str, actor: str | None = None) -> None:
        """Lift the distrust of `kid`, as TokenVerifier.reinstate does."""
        step = functools.partial(self.keys.decisions.reinstate, kid, reason=reason, actor=actor)
        self._share(step)

    def _share(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.keys.decisions.require_elsewhere()
        if self.keys.fleet is None:
            run_apart(step)  # the portal may be busy with what a callback does there
            return
        try:
            self.keys.home.run_blocking(step, 2 * LONGEST_STEP_SECONDS)
        except TimeoutError:
            raise DistrustNotSharedError(
                "The event loop that exchanges with the fleet does not run. What is distrusted "
                "here stays so."
            ) from None

    @property
    def distrusted(self) -> Mapping[str, Distrusted]:
        """The distrusted keys of this issuer by kid."""
        return self.keys.decisions.distrusted

    def health(self) -> HealthReport:
        """The state of the keys, with both bounds."""
        return self._verifier.health()

    def usage(self) -> Mapping[str, KeyUsage]:
        """What became of each trusted kid's tokens here, as TokenVerifier.usage counts it."""
        return self._verifier.usage()

    def _fetch(self, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `step` on the event loop of the store, which may be an app's that shares it."""
        try:
            return self.keys.home.run_blocking(step, self.keys.max_wait + LOOP_SECONDS)
        except TimeoutError:  # the loop is stopped or blocked
            raise self.keys.unavailable() from None
