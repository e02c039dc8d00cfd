"""Metrics for Prometheus (extra `prometheus`); traces and metrics by `opentelemetry`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jwks_guard.observability.collector import VerifierCollector as VerifierCollector
    from jwks_guard.observability.measuring import measure as measure
    from jwks_guard.observability.tracing import OpenTelemetryObserver as OpenTelemetryObserver

_HOMES = {
    "OpenTelemetryObserver": "tracing",
    "VerifierCollector": "collector",
    "measure": "measuring",
}
_EXTRAS = {"opentelemetry": "opentelemetry", "prometheus_client": "prometheus"}
__all__ = ["OpenTelemetryObserver", "VerifierCollector", "measure"]


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    try:
        return getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        hint = f"{name} needs its extra: pip install 'jwks-guard[{extra}]'"
        raise ModuleNotFoundError(hint, name=error.name) from None
