"""Ourselves with the extra `fast`."""

from __future__ import annotations

from functools import partial

from benchmarks.peers import jwks_guard

PACKAGES = ("jwks-guard", "awscrt")
consumer = partial(jwks_guard.consumer, fast_rsa=True)
