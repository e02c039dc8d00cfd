"""MultiIssuerVerifier: one entry for the tokens of several issuers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Self

from jwks_guard.base.arguments import require_count, require_seconds
from jwks_guard.base.clock import Clock
from jwks_guard.base.observer import Observer
from jwks_guard.distrust import register as registers
from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import Distrusted
from jwks_guard.errors import (
    ConfigurationError,
    JWKSGuardError,
    MissingClaimError,
)
from jwks_guard.jose.claims import unverified_issuer
from jwks_guard.jose.compact import split, to_bytes
from jwks_guard.keys.health import HealthReport
from jwks_guard.keys.home import running_loop
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.verify.resolution import MAX_ISSUER_CHARS, Resolution, not_served
from jwks_guard.verify.resolve_call import Resolve
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verifier import TokenVerifier

MAX_TOKEN_BYTES = 16_384
"""Of an issuer that is not listed; a listed verifier may allow more."""


class MultiIssuerVerifier:
    """Hands each token to the verifier of the issuer that it names.

    The `iss` that chooses is not verified yet. Without `resolve` it chooses among the listed
    issuers only, and before anything is fetched.

    `resolve` is asked for other issuers, with the unverified `iss`, of 512 characters at most. It
    looks that up in what the application knows (a table of customers, say) and gives the verifier
    that belongs to it, or None. **Never build a verifier from the string alone.** A `resolve` that
    returns `TokenVerifier(issuer, ...)` for any string lets everybody in, as everybody can run an
    issuer, and has this process send requests to any address that a stranger names (SSRF).

    - None is remembered for a minute and is a 401 (InvalidClaimError). An exception, no answer
      within `max_wait`, and a verifier that is not of that issuer are logged and a 503
      (KeysUnavailableError). Over the budget of calls, `max_issuers` at once and then one per
      second, and while so many issuers are in use, other ones get 429 (LookUpThrottledError).
    - After `resolve_ttl` the next token has `resolve` called again, and does not wait for it. Until
      it answers, or while it fails, the known verifier is used for as long again. So an issuer that
      is served no more is refused after twice `resolve_ttl` at the latest, and after `forget` at
      once. An issuer of which no token came for that long makes room for another one.
    - A verifier with equal arguments counts as the same: the known one stays, with what it knows.
      Another one takes its place, and open WebSockets of the issuer are closed to connect again.
    - What `resolve` gives belongs to this object: it starts with its first token, and is closed
      when its place is taken, by `forget` and by `aclose`. A closed one is started again. A
      KeyStore that was given as `keys` is left to the code that made it.
    - Issuers that `resolve` knows share no distrusted keys with others, as listed ones do: one may
      be hostile, and publish another's key to have it distrusted. Make their verifiers in it.

    Arguments:
        verifiers: one for each listed issuer; may be empty with `resolve`.
        resolve: async (unverified issuer) -> TokenVerifier | None.
        resolve_ttl: seconds after which `resolve` is asked again.
        max_wait: seconds that a call of `resolve` may take.
        max_issuers: how many issuers that are not listed are in use at the same time. Each has
            a key set, a token cache and requests to its issuer of its own.
        clock: anything with time() and monotonic(); by default that of the first listed verifier.

    Raises ConfigurationError for two verifiers of one issuer, none without `resolve`, and for an
    argument that can't be used.

    """

    def __init__(
        self,
        verifiers: Iterable[TokenVerifier],
        *,
        resolve: Resolve | None = None,
        resolve_ttl: float = 300.0,
        max_wait: float = 5.0,
        max_issuers: int = 100,
        clock: Clock | None = None,
    ) -> None:
        given = list(verifiers)
        require_seconds("resolve_ttl", resolve_ttl)
        require_seconds("max_wait", max_wait)
        require_count("max_issuers", max_issuers, minimum=1)
        if resolve is not None and not callable(resolve):
            raise ConfigurationError(
                "resolve must be an async function of an issuer that gives a TokenVerifier or None."
            )
        self.listed: Mapping[str, TokenVerifier] = MappingProxyType(
            {verifier.issuer: verifier for verifier in given}
        )
        if len(self.listed) != len(given) or not (given or resolve):
            raise ConfigurationError(
                "verifiers must be one or more, each of an issuer of its own. For two audiences of "
                "one issuer give its verifier a list of them: audience=[...]."
            )
        self.clock: Clock = clock or (given[0].keys.clock if given else time)
        self._max_token_bytes = max(
            [each.verification.max_token_bytes for each in given]
            + ([] if resolve is None else [MAX_TOKEN_BYTES])
        )
        self._resolution: Resolution | None = None
        if resolve is not None:
            self._resolution = Resolution(
                resolve,
                resolve_ttl=resolve_ttl,
                max_wait=max_wait,
                max_issuers=max_issuers,
                clock=self.clock,
                register=lambda: self.register,
            )

    @property
    def verifiers(self) -> Mapping[str, TokenVerifier]:
        """The verifier of each issuer, for distrust and the like: listed ones, and known ones."""
        if self._resolution is None:
            return self.listed
        return MappingProxyType({**self._resolution.verifiers, **self.listed})

    @property
    def observer(self) -> Observer | None:
        """The observer of a listed verifier that has one."""
        observers = (each.observer for each in self.listed.values())
        return next((each for each in observers if each is not None), None)

    @property
    def register(self) -> Register:
        """What the process distrusts: the register of the listed verifiers."""
        for verifier in self.listed.values():
            return verifier.keys.register
        return registers.process_register

    async def start(self, *, require_keys: bool = False) -> None:
        """Start all listed ones at once, as TokenVerifier.start does; if one fails, close all."""
        running_loop()
        if self._resolution is not None:
            self._resolution.closed = False
        starts = (each.start(require_keys=require_keys) for each in self.listed.values())
        for failure in await asyncio.gather(*starts, return_exceptions=True):
            if failure is not None:
                await self.aclose()
                raise failure

    async def aclose(self) -> None:
        """Close each verifier, and forget those that `resolve` gave."""
        running_loop()
        closes = [verifier.aclose() for verifier in self.listed.values()]
        if self._resolution is not None:
            closes.append(self._resolution.aclose())
        await asyncio.gather(*closes)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def forget(self, issuer: str) -> None:
        """Accept no token of `issuer` by what `resolve` said until now, and close its verifier.

        In effect before the first await: what `resolve` says of it, or is about to say, counts no
        more, whether that is a verifier or None. The next token has it called anew, so have it know
        of the change first: a customer that has left, has come, or has other settings.

        Raises ConfigurationError for a listed issuer.
        """
        if issuer in self.listed:
            raise ConfigurationError(
                "This issuer is in the list of verifiers; only what resolve gave can be forgotten."
            )
        if self._resolution is not None:
            await self._resolution.forget(issuer)

    async def verify(self, compact: str | bytes) -> VerifiedToken:
        """The verified token, as TokenVerifier.verify of its issuer gives it.

        With `resolve` it raises LookUpThrottledError (429) too.
        """
        token = to_bytes(compact, self._max_token_bytes)
        issuer = unverified_issuer(split(token)[1])
        verifier = self.listed.get(issuer) if issuer is not None else None
        if verifier is not None:
            return await verifier.verify(token)
        return await self._verify_resolved(issuer, token)

    async def _verify_resolved(self, issuer: str | None, token: bytes) -> VerifiedToken:
        if issuer is None:
            raise MissingClaimError("The `iss` claim is missing.", "iss")
        resolution = self._resolution
        if resolution is None or not 0 < len(issuer) <= MAX_ISSUER_CHARS:
            raise not_served()
        while True:
            verifier = await resolution.find(issuer)
            try:
                result = await verifier.verify(token)
            except JWKSGuardError:
                if resolution.holds(issuer, verifier):
                    raise
            else:
                if resolution.holds(issuer, verifier):
                    return result

    def remaining(self, token: VerifiedToken) -> float:
        """Seconds until `token` has to be looked at again, as TokenVerifier.remaining gives it."""
        verifier = self.listed.get(token.issuer)
        if verifier is not None:
            return verifier.remaining(token)
        if self._resolution is None:
            raise not_served()
        verifier, until = self._resolution.look(token.issuer)
        return min(until, verifier.remaining(token))

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when trust in any issuer may have changed; returns how to stop that."""
        return _Subscription(self, listener).end

    @property
    def generation(self) -> int:
        """Grows whenever `verifiers` changes."""
        return 0 if self._resolution is None else self._resolution.generation

    @property
    def distrusted(self) -> Mapping[str, Mapping[str, Distrusted]]:
        """Each issuer's distrusted keys by kid, as TokenVerifier.distrusted gives them."""
        return {issuer: verifier.distrusted for issuer, verifier in self.verifiers.items()}

    def health(self) -> Mapping[str, HealthReport]:
        """Each issuer's report."""
        return {issuer: verifier.health() for issuer, verifier in self.verifiers.items()}

    def usage(self) -> Mapping[str, Mapping[str, KeyUsage]]:
        """Each issuer's counts, as TokenVerifier.usage gives them."""
        return {issuer: verifier.usage() for issuer, verifier in self.verifiers.items()}


class _Subscription:
    """Calls `listener` for each change of trust in an issuer of `multi`, until `end`.

    The issuer of a token that is accepted is known, so a subscriber for it hears when its
    verifier ends, and follows the one that takes its place.
    """

    def __init__(self, multi: MultiIssuerVerifier, listener: Callable[[], None]) -> None:
        self._multi = multi
        self._listener = listener
        self._ended = False
        self._generation = multi.generation
        self._cancels: dict[TokenVerifier, Callable[[], None]] = {}
        self._follow()

    def end(self) -> None:
        """Call it no more."""
        self._ended = True
        for verifier in tuple(self._cancels):
            self._cancels.pop(verifier)()

    def _heard(self) -> None:
        if self._generation != self._multi.generation and not self._ended:
            self._generation = self._multi.generation
            self._follow()
        self._listener()

    def _follow(self) -> None:
        now = self._multi.verifiers.values()
        for gone in self._cancels.keys() - set(now):
            self._cancels.pop(gone)()
        for verifier in now:
            if verifier not in self._cancels:
                self._cancels[verifier] = verifier.subscribe(self._heard)
