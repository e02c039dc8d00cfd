"""The keyword arguments of KeyStore as a type."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import TypedDict

from jwks_guard.base.clock import Clock
from jwks_guard.base.events import Event
from jwks_guard.base.observer import Observer
from jwks_guard.distrust.register import Register
from jwks_guard.keys.fleet import Fleet
from jwks_guard.net.clients import HTTPClient


class StoreOptions(TypedDict, total=False):
    """The keyword arguments of KeyStore, where they are handed through."""

    jwks_uri: str | None
    allow_http: Collection[str]
    refresh_interval: float
    max_stale: float
    max_upstream_age: float
    fetch_timeout: float
    max_wait: float
    max_jwks_bytes: int
    http_client: HTTPClient | None
    clock: Clock
    snapshot_path: str | os.PathLike[str] | None
    on_event: Callable[[Event], object] | None
    background: bool
    fast_rsa: bool
    register: Register | None
    fleet: Fleet | None
    observer: Observer | None
