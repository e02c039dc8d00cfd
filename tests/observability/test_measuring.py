"""Metrics by OpenTelemetry's API: what VerifierCollector shows, by another way."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jwks_guard import ConfigurationError, InvalidTokenError, Register
from jwks_guard.fleet import HTTPFleet
from jwks_guard.observability import measure
from jwks_guard.testing import LocalTenant
from tests.observability.samples import registry_of
from tests.observability.spans import Telemetry
from tests.process.programs import run_to_end
from tests.support import HandClock, verifier_of

DOCUMENT = (Path(__file__).parents[2] / "docs" / "tracing.md").read_text()


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


async def test_counters_and_gauges_are_those_of_the_collector(
    tenant: LocalTenant, clock: HandClock, telemetry: Telemetry
) -> None:
    fleet = HTTPFleet(["http://127.0.0.1:9/ops"], secret="s" * 16, poll_interval=5.0)
    async with verifier_of(tenant, clock, fleet=fleet, observer=telemetry.observer) as verifier:
        measure(verifier, meter_provider=telemetry.meters)
        registry = registry_of(verifier)
        token, kid = tenant.token(), tenant.key().kid
        for _ in range(3):
            await verifier.verify(token)
        with suppress(InvalidTokenError):
            await verifier.verify(tenant.token(claims={"exp": 1}))
        for ours, theirs, about in (
            ("verifications", "verifications_total", {"outcome": "accepted"}),
            ("verifications", "verifications_total", {"outcome": "token_expired"}),
            ("cache.misses", "cache_misses_total", {}),
            ("tokens.accepted", "tokens_accepted_total", {"kid": kid}),
            ("tokens.rejected", "tokens_rejected_total", {"kid": kid}),
            ("fetches", "fetches_total", {"outcome": "confirmed"}),
            ("fleet.exchanges", "fleet_exchanges_total", {"outcome": "failed"}),
            ("status", "status", {"status": "degraded"}),
            ("confirmed.time", "confirmed_timestamp_seconds", {}),
            ("trusted_until.time", "trusted_until_timestamp_seconds", {}),
            ("detection_bound", "detection_bound_seconds", {}),
            ("distrusted_keys", "distrusted_keys", {}),
            ("key.trusted", "key_trusted", {"kid": kid}),
            ("fleet.complete", "fleet_complete", {}),
        ):
            value = registry.value(f"jwks_guard_{theirs}", **about)
            assert telemetry.value(f"jwks_guard.{ours}", **about) == value, ours
        assert telemetry.units() == documented(but="management")
        assert telemetry.value("jwks_guard.verifications", outcome="accepted") == 3
        assert telemetry.value("jwks_guard.cache.misses") == 1


def documented(*, but: str) -> dict[str, str]:
    """The units by instrument, as the page has them."""
    rows = re.findall(
        r"(?m)^\| `(jwks_guard\.[\w.]+)` \| (?:counter|gauge|histo.*?) \| `(.+)` \|$", DOCUMENT
    )
    return {name: unit for name, unit in rows if but not in name}


async def test_code_on_the_page_runs() -> None:
    code, to_terminal = re.findall(r"(?s)```python\n(.*?)```", DOCUMENT)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/tracing.md", "exec"), names)
    assert names["verifier"].observer is names["observer"]
    spans = "with trace.get_tracer('any').start_as_current_span('seen'): pass"
    done = run_to_end([sys.executable, "-c", f"{to_terminal}\n{spans}"])  # it sets what is global
    assert '"name": "seen"' in done.stdout


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("OpenTelemetryObserver", "opentelemetry", "opentelemetry"),
        ("measure", "opentelemetry", "opentelemetry"),
        ("VerifierCollector", "prometheus_client", "prometheus"),
    ],
)
def test_name_whose_extra_is_missing_says_how_to_install_it(
    name: str, module: str, extra: str
) -> None:
    script = (
        f"import sys; sys.modules[{module!r}] = None; from jwks_guard.observability import {name}"
    )
    run = run_to_end([sys.executable, "-c", script])
    assert run.returncode == 1
    assert f"{name} needs its extra: pip install 'jwks-guard[{extra}]'" in run.stderr


async def test_instances_of_one_process_are_shown_as_one(
    tenant: LocalTenant, clock: HandClock, telemetry: Telemetry
) -> None:
    one, other = (verifier_of(tenant, clock, register=Register()) for _ in range(2))
    measure(one, other, meter_provider=telemetry.meters)
    async with one, other:
        await one.verify(tenant.token())
        await other.verify(tenant.token())
        about = {"issuer": tenant.issuer, "outcome": "accepted"}
        assert telemetry.value("jwks_guard.verifications", **about) == 2


@pytest.mark.parametrize("given", [(), ("https://acme.eu.auth0.com/",)])
def test_anything_but_verifiers_is_a_configuration_error(given: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError, match="measure takes one or more of TokenVerifier"):
        measure(*given)
