"""What every test has at hand: a clock turned by hand and a tenant that goes by it."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from jwks_guard import Register
from jwks_guard.distrust import register as registers
from jwks_guard.testing import LocalTenant
from tests import bounds
from tests.support import HandClock, tenant_of

# The first text that Hypothesis draws on a fresh checkout builds its table of Unicode: seconds.
settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,  # a change is judged by what it changes
)
settings.load_profile("unhurried")
bounds.lengthen()


# A shell that runs the tests in the background has them ignore Ctrl-C, and what they start too.
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect the tests without looking for garbage, then or later: modules and tests stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """A register of the test's own, as if it were a process that has just begun."""
    fresh = Register()
    monkeypatch.setattr(registers, "process_register", fresh)
    return fresh


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def tenant(clock: HandClock) -> Iterator[LocalTenant]:
    with tenant_of(clock) as local:
        yield local
