"""The bounds of production as tests need them: on a busy machine a good answer takes seconds.

A test of a bound sets it itself, by `monkeypatch`, and then waits for it no longer than it must.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from jwks_guard.cli.configuration import configured_fleet
from jwks_guard.fleet import HTTPFleet
from jwks_guard.fleet.settings import fleet_of
from tests.support import PATIENCE

_BOUNDS = (
    ("jwks_guard.fleet.redis_url", "ANSWER_SECONDS"),
    ("jwks_guard.fleet.redis_link", "ANSWER_SECONDS"),
    ("jwks_guard.fleet.redis", "LONGEST_EXCHANGE_SECONDS"),
    ("jwks_guard.fleet.commands", "ACKNOWLEDGE_SECONDS"),
    ("jwks_guard.cli.fleet.decisions", "ACKNOWLEDGE_SECONDS"),
    ("jwks_guard.keys.fleet", "LONGEST_STEP_SECONDS"),
    ("jwks_guard.verify.sync", "LONGEST_STEP_SECONDS"),
    ("jwks_guard.verify.sync", "LOOP_SECONDS"),
    ("jwks_guard.verify.any_loop", "LOOP_SECONDS"),
    ("jwks_guard.admin.refusals", "LONGEST_SECONDS"),
    ("jwks_guard.admin.incident", "_RADIUS_SECONDS"),
    ("jwks_guard.admin.incident", "LOOK_SECONDS"),
    ("jwks_guard.admin.incident_tenant", "LOOK_SECONDS"),
    ("jwks_guard.cli.incident.target", "_LOOK_SECONDS"),
    ("jwks_guard.console.gathering", "LONGEST_LOOK_SECONDS"),
    ("jwks_guard.console.actions", "LONGEST_LOOK_SECONDS"),
    ("jwks_guard.asgi.operations", "STORED_SECONDS"),
    ("jwks_guard.observability.workers", "PATIENCE_SECONDS"),
)
"""A name that a module imports is one of its own: both are set."""
_DEFAULTS = ((HTTPFleet.__init__, "timeout"), (fleet_of, "timeout"), (configured_fleet, "timeout"))


def lengthen() -> None:
    """Make all of them longer than any machine takes, in this process."""
    for module, name in _BOUNDS:
        found = import_module(module)
        assert isinstance(getattr(found, name), float)
        setattr(found, name, PATIENCE)
    for function, name in _DEFAULTS:
        assert defaults_of(function)[name] == 1.0
        defaults_of(function)[name] = PATIENCE


def defaults_of(function: Callable[..., object]) -> dict[str, Any]:
    """Its keyword arguments' defaults, which a test may change."""
    defaults = function.__kwdefaults__
    assert defaults is not None
    return defaults


def shorten_redis(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have a Redis that does not answer given up after that time, in one test."""
    for module in ("redis_url", "redis_link"):
        monkeypatch.setattr(f"jwks_guard.fleet.{module}.ANSWER_SECONDS", seconds)
