"""Metrics of what the guard does (extra `prometheus`)."""

from jwks_guard.observability.collector import VerifierCollector

__all__ = ["VerifierCollector"]
