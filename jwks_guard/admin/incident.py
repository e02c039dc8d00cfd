"""Incident: the first five minutes of a leaked key. A step that fails keeps none from the next."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace

from jwks_guard.admin.attempts import Sleep
from jwks_guard.admin.incident_report import (
    BlastRadius,
    IncidentReport,
    Outcome,
    Step,
    StepName,
    radius_of,
    refusals_in,
    updated,
)
from jwks_guard.admin.incident_tenant import LOOK_SECONDS, Do, Ended, TenantPart
from jwks_guard.admin.journal import AdminEvent, Intent, Journal, Result, default_actor
from jwks_guard.admin.refusals import distrust_everywhere, observe_all
from jwks_guard.admin.revocable import Revocable
from jwks_guard.admin.rotation import KeyRotation, require_fleet
from jwks_guard.base.arguments import require_seconds, require_text
from jwks_guard.base.clock import Clock
from jwks_guard.base.events import logger
from jwks_guard.errors import (
    ConfigurationError,
    DistrustNotSharedError,
    JWKSGuardError,
    KeysUnavailableError,
    RateLimitedError,
    UnavailableError,
)
from jwks_guard.readiness.state import LIVE_SECONDS, Refusal
from jwks_guard.readiness.verdict import reporting_in

_UNREACHED = (UnavailableError, RateLimitedError, DistrustNotSharedError, KeysUnavailableError)
_PAUSE_SECONDS = 0.25
_RADIUS_SECONDS = 3.0
"""It is good to know, and not worth that the key is accepted for longer."""
_MOST_NAMED = 3
_NO_FLEET = (
    "No fleet is given: each verifier refuses the key once it notices the revocation, within its "
    "detection bound, or at once where `distrust` is called on it."
)
_STILL_CURRENT = (
    "The key is still the current one: refusing it would refuse every valid token, so it is "
    "accepted until it was rotated. Run it again once the tenant rotates, or with refuse_first."
)
_NOT_KNOWN = (
    "It is not known whether this is the current key, of which every valid token would be refused. "
    "Run it again once the tenant answers, or with refuse_first."
)


class Incident:
    """Refuses a leaked key everywhere, and replaces and revokes it where that is possible.

    Its steps, in the order of the safe default: blast radius (whose tokens were accepted), tenant
    (which of its keys it is), rotate (the current key only), refuse (by every instance),
    acknowledge, revoke, and key set (wait until it has left that). A key that is not current is
    refused before anything is changed at the tenant. Run again for the same key it does what is
    left, and never rotates twice.

    Arguments:
        kid: the leaked key.
        target: a KeyRotation, whose fleet, journal and actor are used; or, without the Management
            API, a verifier, a fleet, or several of them. Then the key is only refused: if it is
            the current one, that refuses every valid token.
        reason: for the journal and for the other people on call.
        refuse_first: refuse the key before the tenant is asked, whichever key it is. Until a
            rotation, that refuses every valid token if it is the current one.
        acknowledge_within: how long to wait, in seconds, until every live instance refuses it.
        actor: the person or program, for the journal; by default that of the KeyRotation, or
            user@host of this process.
        journal_path, on_event, clock, sleep: as KeyRotation and its client have them; they are
            given only without one.

    """

    def __init__(
        self,
        kid: str,
        target: KeyRotation | Revocable | Iterable[Revocable],
        *,
        reason: str = "the key has leaked",
        refuse_first: bool = False,
        acknowledge_within: float = 15.0,
        actor: str | None = None,
        journal_path: str | os.PathLike[str] | None = None,
        on_event: Callable[[AdminEvent], object] | None = None,
        clock: Clock | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        require_text("kid", kid)
        require_text("reason", reason)
        require_seconds("acknowledge_within", acknowledge_within)
        if actor is not None:
            require_text("actor", actor)
        self.kid = kid
        self._tenant: TenantPart | None = None
        if isinstance(target, KeyRotation):
            if (journal_path, on_event, clock) != (None, None, None):
                raise ConfigurationError(
                    "journal_path, on_event and clock are those of the KeyRotation."
                )
            self._fleet, self._journal = target.fleet, target.journal
            self._clock, self._sleep = target.keys.clock, target.keys.sleep
            intent = target.intent("rotate_and_revoke", kid, reason, emergency=True)
            self._intent = replace(intent, actor=actor or intent.actor)
            self._tenant = TenantPart(target, self._intent)
        else:
            self._fleet = require_fleet(target)
            self._clock, self._sleep = clock or time, sleep
            self._journal = Journal(journal_path, on_event, self._clock)
            self._intent = Intent(
                action="distrust",
                tenant=self._fleet[0].issuer if self._fleet else "",
                actor=actor or default_actor(),
                kid=kid,
                reason=reason,
                emergency=True,
            )
        if self._tenant is None and not self._fleet:
            raise ConfigurationError("Nothing to do: give a KeyRotation, a verifier or a fleet.")
        self._refuse_first = refuse_first or self._tenant is None
        self._acknowledge_within = acknowledge_within
        self._began = self._clock.monotonic()
        self._began_at = self._journal.now()
        self._steps: dict[StepName, Step] = {}
        self._radius: BlastRadius | None = None
        self._refusals: tuple[Refusal, ...] = ()
        self._unreached = self._cut_off = False

    @property
    def report(self) -> IncidentReport:
        """What it has come to so far."""
        return IncidentReport(
            kid=self.kid,
            issuer=self._fleet[0].issuer if self._fleet else self._intent.tenant,
            reason=self._intent.reason,
            actor=self._intent.actor,
            began_at=self._began_at,
            at_tenant=self._tenant is not None,
            steps=tuple(self._steps.values()),
            radius=self._radius,
            refusals=self._refusals,
            unreached=self._unreached,
            operation=self._intent.operation,
            uncertain=self._cut_off or (self._tenant is not None and self._tenant.uncertain),
        )

    async def run(self) -> AsyncIterator[Step]:
        """Do it; gives each step when it begins and once more when it has ended.

        Cancelling it cuts off the step that runs, which `report` then tells.
        """
        self._began = self._clock.monotonic()
        self._began_at = self._journal.now()
        async with self._journal.under_way.operation():
            await self._journal.begin(self._intent)
            async for step in self._carried_out():
                yield step
            if self.report.complete:
                await self._journal.tell(self._intent, "finished")

    async def _carried_out(self) -> AsyncIterator[Step]:
        for name, do in self._sequence():
            began = self._seconds()
            yield self._note(Step(name, began))
            result: Outcome
            try:
                result, detail = await do()
            except asyncio.CancelledError:
                self._cut_off |= name == "refuse"
                self._note(Step(name, began, self._seconds(), "failed", "It was interrupted."))
                raise
            except TimeoutError:
                self._unreached = True
                result, detail = "failed", f"There was no answer within {LOOK_SECONDS:g} s."
            except JWKSGuardError as error:
                self._unreached |= isinstance(error, _UNREACHED)
                result, detail = "failed", str(error)
            except Exception as error:  # noqa: BLE001 - of none may it end, or the key stays accepted
                logger.exception("the step %s failed", name)
                result = "failed"
                detail = f"{type(error).__name__}, which was not expected; see the log."
            yield self._note(Step(name, began, self._seconds(), result, detail))

    def _sequence(self) -> Iterator[tuple[StepName, Do]]:
        """The steps; what comes next depends on what the earlier ones have found."""
        refusing: tuple[tuple[StepName, Do], ...]
        refusing = (("refuse", self._refuse), ("acknowledge", self._acknowledge))
        yield "blast radius", self.observe
        if self._refuse_first:
            yield from refusing
        if (tenant := self._tenant) is None:
            return
        yield "tenant", tenant.look
        if tenant.state == "current":
            yield "rotate", tenant.rotate
        if not self._refuse_first:
            yield from refusing
        yield "revoke", tenant.revoke
        yield "key set", tenant.leave_key_set

    def _seconds(self) -> float:
        return self._clock.monotonic() - self._began

    def _note(self, step: Step) -> Step:
        self._steps[step.name] = step
        return step

    async def _told(self, step: str, result: Result, detail: str) -> Ended:
        """The result of a step, noted in the journal too."""
        await self._journal.tell(self._intent, step, result, detail)
        return result, detail

    # --- the steps ---

    async def observe(self) -> Ended:
        """Look whose tokens of the key are accepted; nothing is changed."""
        if not self._fleet:
            return "skipped", "No fleet is given that could tell."
        try:
            async with asyncio.timeout(_RADIUS_SECONDS):
                observed, _ = await observe_all(self._fleet, self.kid)
        except (JWKSGuardError, TimeoutError) as error:
            why = str(error) or f"no answer within {_RADIUS_SECONDS:g} s"
            return await self._told("blast_radius", "warning", f"It is not known: {why}")
        self._radius = radius_of(self.kid, observed.states, observed.latest_expiry)
        clients = len({each.client for each in self._radius.clients})
        more = " and others" if self._radius.others else ""
        return await self._told(
            "blast_radius",
            "ok" if observed.states else "warning",
            f"{_counted(self._radius.tokens, 'token')} of {_counted(clients, 'client')}{more} "
            f"accepted in the last hour, by {_counted(len(observed.states), 'instance')}.",
        )

    async def _refuse(self) -> Ended:
        if not self._fleet:
            return "skipped", _NO_FLEET
        tenant = self._tenant
        state = "" if tenant is None or tenant.uncertain else tenant.state
        if not self._refuse_first and state in ("", "current"):
            why = _STILL_CURRENT if state else _NOT_KNOWN
            return await self._told("not_refused", "failed", why)
        self._refusals = await distrust_everywhere(self._fleet, self._intent, self._journal)
        refusing = sum(each.since is not None for each in self._refusals)
        if not refusing:
            return "failed", f"No instance has acknowledged it yet: {self._refusals[0].error}"
        return "ok", f"{_counted(refusing, 'instance')} refuse{'s' * (refusing == 1)} it."

    async def _acknowledge(self) -> Ended:
        if not self._fleet:
            return "skipped", _NO_FLEET
        if not self._refusals:
            return "failed", "The key was not refused."
        until = self._clock.monotonic() + self._acknowledge_within
        before: dict[tuple[str, str], float] | None = None
        while self._missing and self._clock.monotonic() < until:
            await self._sleep(_PAUSE_SECONDS)
            async with asyncio.timeout(LOOK_SECONDS):
                states = (await observe_all(self._fleet, self.kid))[0].states
            if before is None:
                before = {(s.issuer, s.instance): s.reported_at for s in states}
            # A refusal shown before may be of an earlier decision, which was lifted since.
            old = {
                s.name
                for s in states
                if self.kid in s.refused and before.get((s.issuer, s.instance)) == s.reported_at
            }
            telling = [s for s in states if self.kid not in s.refused or s.name not in old]
            self._refusals = updated(self._refusals, refusals_in(self.kid, telling))
            live = reporting_in(states, LIVE_SECONDS, self._clock.time())
            if not any(s.instance in live and s.name in self._missing for s in states):
                break  # the others are silent: they won't tell
        missing, known = self._missing, len(self._refusals) - len(self._missing)
        of_all = f"{known} of {_counted(len(self._refusals), 'instance')} acknowledged it."
        if not missing:
            return "ok", of_all
        named = ", ".join(missing[:_MOST_NAMED])
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        return "warning", f"{of_all} Not known of {named}{more}."

    # --- helpers ---

    @property
    def _missing(self) -> list[str]:
        """The instances that are not known to refuse the key, or could not store that."""
        return [each.who for each in self._refusals if each.since is None or each.error]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
