"""What tests of an API need: fake tokens, a local tenant, and pytest fixtures of it.

Nothing is imported before it is asked for: pytest loads the plugin of this package at start-up, in
every project that has the library installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jwks_guard.testing.clock import ManualClock as ManualClock
    from jwks_guard.testing.fake import FakeToken as FakeToken
    from jwks_guard.testing.fake import fake_token as fake_token
    from jwks_guard.testing.keys import SigningKey as SigningKey
    from jwks_guard.testing.settings import DISCOVERY_PATH as DISCOVERY_PATH
    from jwks_guard.testing.settings import JWKS_PATH as JWKS_PATH
    from jwks_guard.testing.tenant import LocalTenant as LocalTenant

_HOMES = {
    "DISCOVERY_PATH": "settings",
    "FakeToken": "fake",
    "JWKS_PATH": "settings",
    "LocalTenant": "tenant",
    "ManualClock": "clock",
    "SigningKey": "keys",
    "fake_token": "fake",
}

__all__ = [
    "DISCOVERY_PATH",
    "JWKS_PATH",
    "FakeToken",
    "LocalTenant",
    "ManualClock",
    "SigningKey",
    "fake_token",
]


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{home}"), name)
