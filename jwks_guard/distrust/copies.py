"""Spreads decisions to the copies of a register's state: its journal files and its fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from jwks_guard.base.arguments import require_kid, require_text
from jwks_guard.distrust.copy import Copy, CopyError
from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import NOTHING, Flags
from jwks_guard.errors import ConfigurationError, DistrustNotSharedError


@dataclass(frozen=True, slots=True)
class Copies:
    """Where else is known what `register` holds of the keys of `issuer`."""

    register: Register
    issuer: str
    all: Sequence[Copy]

    async def spread(self, *, some: bool = False) -> None:
        """Have all copies hold what the register holds.

        Raises DistrustNotSharedError naming those that do not; with `some`, a copy of which a part
        took it is not among them.
        """
        found = await self._exchanged()
        failures = [each for each in found if each is not None and not (some and each.taken)]
        if not failures:
            return
        what, then = "Nobody was told", "Repeat the call."
        if self.issuer in self.register.issuers:
            what = "What is distrusted is refused here, but not known everywhere"
            then = "What is missing there is passed on with the next exchange that succeeds."
        raise self._not_shared(what, failures, then)

    async def reinstate(
        self,
        kid: str,
        *,
        reason: str,
        at: float,
        required: Collection[Copy],
        actor: str | None = None,
    ) -> None:
        """Lift every decision about `kid` that is known here or in a copy that can be read.

        `at` is in seconds since the epoch. It is in effect here once a copy holds the lift, or if
        there is no copy. A key that is not distrusted any more is left as it is. `actor` is who
        lifts it, by default this process.

        Raises ConfigurationError for a kid that was never distrusted. Raises DistrustNotSharedError
        when none of a `required` copy can be read: then nothing is changed; when no copy confirms
        the lift: then nothing is changed here, but one of them may have taken it; and when some
        copies did not take it: then the error names them.
        """
        require_kid(kid)
        require_text("reason", reason)
        failures = await self._exchanged()
        pairs = zip(self.all, failures, strict=True)
        if unread := [f for copy, f in pairs if f and not f.taken and copy in required]:
            raise self._not_shared("Nothing was lifted", unread, "Repeat the call.")
        try:
            lift = self.register.lift(self.issuer, kid, reason=reason, at=at, actor=actor)
        except KeyError:
            raise ConfigurationError(
                f"The kid {kid!r} of {self.issuer} was never distrusted, so there is nothing to "
                "lift. `distrusted` lists the kids that are."
            ) from None
        if not lift:
            return
        failures = await self._exchanged(lift)
        missed = [failure for failure in failures if failure is not None]
        if self.all and len(missed) == len(self.all) and not any(f.taken for f in missed):
            raise self._not_shared(
                "No copy confirmed the lift, so the key is still refused here",
                missed,
                "Repeat the call: what arrived without an answer may lift it later.",
            )
        self.register.merge(lift)
        if missed:
            raise self._not_shared(
                "The key is trusted again where that is known, but not everywhere",
                missed,
                "They refuse the key until the next exchange.",
            )

    async def _exchanged(self, offer: Flags = NOTHING) -> list[CopyError | None]:
        """What each exchange failed with; all are made at once, so that none waits for another."""
        steps = (copy.exchange(offer) for copy in self.all)
        results = await asyncio.gather(*steps, return_exceptions=True)
        failures: list[CopyError | None] = []
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, CopyError):
                raise result
            failures.append(result)
        return failures

    def _not_shared(
        self, what: str, failures: Sequence[CopyError], then: str
    ) -> DistrustNotSharedError:
        reasons = "; ".join(str(failure) for failure in failures)
        error = DistrustNotSharedError(f"{what}: {reasons}. {then}")
        error.here = self.issuer in self.register.issuers
        return error
