"""Sharing what is distrusted, and what instances show, between processes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jwks_guard.fleet.http import HTTPFleet as HTTPFleet
    from jwks_guard.fleet.redis import RedisFleet as RedisFleet

_HOMES = {"HTTPFleet": "http", "RedisFleet": "redis"}
__all__ = ["HTTPFleet", "RedisFleet"]


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    try:
        return getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        hint = "RedisFleet needs redis-py: pip install 'jwks-guard[redis]'"
        raise ModuleNotFoundError(hint, name="redis") from None
