"""The console: the web page that an operator keeps open during a rotation or an incident.

`pip install 'jwks-guard[console]'`. See docs/console.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jwks_guard.console.app import console as console
    from jwks_guard.console.login import OperatorSecrets as OperatorSecrets
    from jwks_guard.console.oidc import OpenIDConnect as OpenIDConnect

_HOMES = {"OpenIDConnect": "oidc", "OperatorSecrets": "login", "console": "app"}
__all__ = ["OpenIDConnect", "OperatorSecrets", "console"]


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    try:
        return getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("itsdangerous", "jinja2"):
            raise
        hint = f"The console needs {error.name}: pip install 'jwks-guard[console]'"
        raise ModuleNotFoundError(hint, name=error.name) from None
