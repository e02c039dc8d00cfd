"""What an incident is about: the key, the fleet, and the tenant where there is access to it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jwks_guard.admin import KeyRotation
from jwks_guard.admin.incident_plan import incident_plan
from jwks_guard.admin.incident_report import BlastRadius, radius_of
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.plans import Instances, Plan, refusal_plan
from jwks_guard.base.durations import span
from jwks_guard.cli.configuration import names_management
from jwks_guard.cli.fleet.session import opened_fleet
from jwks_guard.cli.keys.kids import STATES, matching, named_kid
from jwks_guard.cli.keys.session import UNREACHABLE, Session, opened
from jwks_guard.errors import ConfigurationError, JWKSGuardError, ManagementAPIError
from jwks_guard.fleet.commands import live
from jwks_guard.fleet.settings import ConfiguredFleet
from jwks_guard.readiness.state import InstanceState, Observed

_LOOK_SECONDS = 10.0
_RECENT_SECONDS = 3600.0
_ANY_KID = "-"  # states do not depend on the kid
_MISTYPED = (
    "{kid} is not known: {why}. Nothing was done. Compare it with the header of a token: "
    "`jwks-guard inspect` prints that. Without --yes it can be refused all the same."
)
_NO_INSTANCE = "every instance answers, and none trusts it, refuses it or has seen a token of it"
_NOT_LISTED = "the tenant does not list it"
_NO_ACCESS = (
    "No access to the Management API is configured (JWKS_GUARD_CLIENT_ID and a secret), so the "
    "tenant is told nothing, and goes on listing the key and signing with it if it is the current "
    "one. Rotate and revoke it in the dashboard."
)


@dataclass(frozen=True, slots=True)
class Target:
    """The fleet and the tenant of an incident; `session` is None without the Management API.

    `keys` are the tenant's; `unasked` says why they are not known.
    """

    run: Callable[[Coroutine[Any, Any, Any]], Any]
    fleet: ConfiguredFleet | None
    session: Session | None
    keys: SigningKeys | None
    unasked: str = _NO_ACCESS

    @property
    def issuer(self) -> str:
        """The issuer, or the tenant's URL."""
        if self.fleet is not None:
            return self.fleet.issuer
        return self.session.client.base_url if self.session else ""

    def kid(self, text: str | None) -> str:
        """The kid that `text` names; without one, that of the current key."""
        if self.keys is not None:
            return self.keys.current.kid if text is None else named_kid(text, self.keys)
        if text is None or text in STATES:
            raise ConfigurationError(
                f"Give the KID: only the tenant can tell which key is {text or 'current'}. "
                f"{self.unasked}"
            )
        return matching(text, _kids(self.observed(_ANY_KID))) or text

    def doubt(self) -> str | None:
        """Why the current key may not be the one that has leaked: it is the current one lately."""
        since = None if self.keys is None else self.keys.current.current_since
        if since is None or not 0 <= (age := time.time() - since.timestamp()) < _RECENT_SECONDS:
            return None
        return (
            f"It became the current key only {span(age)} ago. If the leaked key is the one before "
            "it, begin again with that KID: `jwks-guard keys list` prints it."
        )

    def require_known(self, kid: str) -> None:
        """Raise ConfigurationError for a kid that neither the tenant nor an instance knows.

        An instance that does not answer may trust it; where nobody answers, any kid may be one.
        """
        observed = Observed(()) if self.fleet is None else self._shown(kid)
        if observed is None or not all(_answers(state) for state in observed.states):
            return
        listed = self.keys is not None and self.keys.get(kid) is not None
        if listed or observed.latest_expiry is not None or kid in _kids(observed):
            return
        unknown = [_NOT_LISTED] if self.keys is not None else []
        unknown += [_NO_INSTANCE] if observed.states else []
        if unknown:
            raise ConfigurationError(_MISTYPED.format(kid=kid, why=", and ".join(unknown)))

    def observed(self, kid: str) -> Observed:
        """What the instances show; nothing where they can't be asked or told apart."""
        return self._shown(kid) or Observed(())

    def _shown(self, kid: str) -> Observed | None:
        if self.fleet is None:
            return None
        try:
            shown: Observed = self.run(_within(self.fleet.observe(kid)))
        except (JWKSGuardError, TimeoutError):
            return None
        return shown

    def radius(self, kid: str) -> BlastRadius:
        """Whose tokens of the key are accepted, as it is now."""
        observed = self.observed(kid)
        return radius_of(kid, observed.states, observed.latest_expiry)

    def plan(self, kid: str, *, refuse_first: bool) -> Plan:
        """What will happen, and what follows from it."""
        states = live(self.observed(kid).states, time.time())
        instances = None if self.fleet is None else Instances(states)
        if self.keys is None or self.session is None:
            return refusal_plan(self.issuer, kid, self.unasked, instances)
        return incident_plan(
            self.session.client.base_url,
            kid,
            self.keys,
            self.session.configuration.token_lifetime,
            datetime.now(UTC),
            instances,
            refuse_first=refuse_first,
        )

    def rotation(self, journal: Path | None) -> KeyRotation | None:
        """What changes the tenant's keys; None without the Management API."""
        return None if self.session is None else self.session.rotation(journal)


def _answers(state: InstanceState) -> bool:
    """Whether it shows which keys it trusts now: one without any may trust others again."""
    return state.status != "unavailable" and bool(live([state], time.time()))


def _kids(observed: Observed) -> set[str]:
    """The keys that an instance trusts, refuses, or has accepted or refused a token of."""
    return {kid for s in observed.states for kid in (*s.kids, *s.refused, *s.usage)}


@contextmanager
def opened_target(
    domain: str | None, client_id: str | None, config: Path | None
) -> Iterator[Target]:
    """The target that options, environment and file name; the tenant is asked for its keys."""
    options = {"domain": domain, "client_id": client_id}
    if not names_management(options, os.environ, config):
        with opened_fleet(domain, config) as fleet:
            yield Target(fleet.run, fleet.fleet, None, None)
        return
    with opened(domain, client_id, config, quiet=True) as session:
        keys, unasked = None, ""
        try:
            keys = SigningKeys(session.run(_within(session.client.list())))
            keys.require_complete()
        except (*UNREACHABLE, ManagementAPIError, TimeoutError) as error:
            keys, why = None, str(error) or f"no answer within {_LOOK_SECONDS:g} s"
            unasked = f"The tenant can't be asked ({why}); that is tried once more afterwards."
        yield Target(session.run, session.fleet, session, keys, unasked)


async def _within(doing: Coroutine[Any, Any, Any]) -> Any:
    async with asyncio.timeout(_LOOK_SECONDS):
        return await doing
