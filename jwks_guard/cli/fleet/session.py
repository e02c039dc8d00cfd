"""The fleet that a command asks, without the Management API, and what is seen of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from jwks_guard.cli.configuration import configured_fleet
from jwks_guard.cli.keys.session import complain
from jwks_guard.distrust.state import Distrusted
from jwks_guard.fleet.commands import live
from jwks_guard.fleet.settings import ConfiguredFleet
from jwks_guard.readiness.state import InstanceState

_ANY_KID = "-"  # states do not depend on the kid
_T = TypeVar("_T")


@dataclass(frozen=True)
class Seen:
    """What the instances of a fleet showed `at` (seconds since the epoch), and its decisions."""

    issuer: str
    at: float
    states: tuple[InstanceState, ...]
    distrusted: Mapping[str, Distrusted]

    @cached_property
    def live(self) -> tuple[InstanceState, ...]:
        """The instances that reported lately, by name."""
        return tuple(sorted(live(self.states, self.at), key=lambda state: state.name))

    @cached_property
    def silent(self) -> tuple[InstanceState, ...]:
        """The others, by name."""
        heard = {state.instance for state in self.live}
        silent = [state for state in self.states if state.instance not in heard]
        return tuple(sorted(silent, key=lambda state: state.name))

    @cached_property
    def trusted_kids(self) -> tuple[str, ...]:
        """The kids that an instance trusts or has accepted tokens of, in the instances' order."""
        kids = (kid for state in (*self.live, *self.silent) for kid in (*state.kids, *state.usage))
        return tuple(dict.fromkeys(kid for kid in kids if kid not in self.refused_since))

    @cached_property
    def refused_since(self) -> Mapping[str, float]:
        """The kids that are distrusted or that an instance refuses; those of the latest first."""
        since = {kid: each.at for kid, each in self.distrusted.items()}
        for state in self.states:
            for kid, at in state.refused.items():
                since.setdefault(kid, at)
        return dict(sorted(since.items(), key=lambda item: -item[1]))

    @property
    def kids(self) -> tuple[str, ...]:
        """Every kid that an instance knows."""
        return (*self.trusted_kids, *self.refused_since)


@dataclass(frozen=True, slots=True)
class FleetSession:
    """The configured fleet, on an event loop that runs in `run` only: prompts belong between."""

    fleet: ConfiguredFleet
    _runner: asyncio.Runner

    def run(self, doing: Coroutine[Any, Any, _T]) -> _T:
        """The result of `doing`."""
        return self._runner.run(doing)

    def look(self) -> Seen:
        """What the fleet shows now; raises DistrustNotSharedError, ConfigurationError."""
        return self.run(looked(self.fleet))


@contextmanager
def opened_fleet(domain: str | None, config: Path | None) -> Iterator[FleetSession]:
    """A session with the fleet that options, environment and file name.

    At its end the command says so if secrets differ: the log is not shown.
    """
    fleet = configured_fleet({"domain": domain}, os.environ, config)
    with asyncio.Runner() as runner:
        try:
            yield FleetSession(fleet, runner)
        finally:
            if fleet.disagreement is not None:
                complain(f"{fleet.disagreement}.")
            runner.run(fleet.aclose())


async def looked(fleet: ConfiguredFleet) -> Seen:
    """What the fleet shows now; raises DistrustNotSharedError, ConfigurationError."""
    states = (await fleet.observe(_ANY_KID)).states
    return Seen(fleet.issuer, time.time(), states, await fleet.distrusted())
