"""Who this process is, and what it shows of a key store."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from jwks_guard.keys.health import HealthReport
from jwks_guard.keys.peers import open_stores
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import KeyUsage, most, total

MAX_REFUSED = 1000
MAX_ERROR_CHARS = 500
_BEST_FIRST = ("ok", "degraded", "unavailable")


class Shown(Protocol):
    """What a state is made of; a KeyStore is one."""

    issuer: str
    since: float

    def health(self) -> HealthReport:
        """The state of its keys."""
        ...

    def usage(self) -> Mapping[str, KeyUsage]:
        """What became of each kid's tokens."""
        ...


class _Identity:
    """A random id, another one in each forked child."""

    pid: int | None = None
    instance = ""

    def get(self) -> str:
        if self.pid != os.getpid():
            self.pid, self.instance = os.getpid(), secrets.token_hex(16)
        return self.instance


_identity = _Identity()


def this_instance() -> str:
    """The random id of this process."""
    return _identity.get()


def state_of(stores: Sequence[Shown], now: float, refused: Mapping[str, float]) -> InstanceState:
    """What this process shows at `now` of its stores of one issuer; `refused` since when, by kid.

    Tokens count wherever in the process they were accepted: at every open store of the issuer.
    """
    state = combined([_alone(store, now, refused) for store in stores])
    others = [o for o in open_stores.of(state.issuer) if not any(o is store for store in stores)]
    return replace(state, usage=dict(total(each.usage() for each in (*stores, *others))))


def _alone(store: Shown, now: float, refused: Mapping[str, float]) -> InstanceState:
    health = store.health()
    latest = sorted(refused.items(), key=lambda item: item[1])[-MAX_REFUSED:]
    return InstanceState(
        instance=this_instance(),
        host=f"{socket.gethostname()}:{os.getpid()}",
        issuer=store.issuer,
        started_at=store.since,
        reported_at=now,
        status=health.status,
        confirmed_at=health.confirmed_at,
        trusted_until=health.trusted_until,
        kids=health.kids,
        refused=dict(latest),
        last_error=_shortened(health.last_error),
    )


def combined(states: Sequence[InstanceState]) -> InstanceState:
    """One state for several stores that a process has for one issuer: the worst of each.

    What all of them trust is trusted and what all of them refuse is refused. Each shows what the
    whole process has counted.
    """
    refused = frozenset.intersection(*(frozenset(state.refused) for state in states))
    confirmed = [state.confirmed_at for state in states]
    until = [state.trusted_until for state in states]
    kids = frozenset.intersection(*(frozenset(state.kids) for state in states))
    return replace(
        states[0],
        started_at=max(state.started_at for state in states),
        reported_at=min(state.reported_at for state in states),
        status=max((state.status for state in states), key=_BEST_FIRST.index),
        confirmed_at=None if None in confirmed else min(at for at in confirmed if at is not None),
        trusted_until=None if None in until else min(at for at in until if at is not None),
        kids=tuple(kid for kid in states[0].kids if kid in kids),
        refused={kid: max(state.refused[kid] for state in states) for kid in refused},
        usage=dict(most(state.usage for state in states)),
        last_error=next((state.last_error for state in states if state.last_error), None),
    )


def _shortened(error: str | None) -> str | None:
    """As others take it: printable, and not too long."""
    if error is None:
        return None
    return "".join(c if c.isprintable() else " " for c in error)[:MAX_ERROR_CHARS]
