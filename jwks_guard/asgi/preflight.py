"""CORS preflights, which have no credentials (Fetch standard section 4.8.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from jwks_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from starlette.types import Scope

Preflight: TypeAlias = Literal["refuse", "pass"]

REFUSED_PREFLIGHT = (
    "a CORS preflight was refused with 401, as a browser sends no token with one. Put "
    "CORSMiddleware outside of JWKSGuardMiddleware (in Starlette: add it last), where it answers "
    "preflights and lets pages read refusals. If the app itself answers them: preflight='pass'. "
    "This is logged once."
)


def passes_preflight(preflight: Preflight) -> bool:
    """Whether preflights reach the app without a token.

    Raises:
        ConfigurationError: `preflight` is neither "refuse" nor "pass".

    """
    if preflight not in ("refuse", "pass"):
        raise ConfigurationError(f"preflight is {preflight!r}; write 'refuse' or 'pass'")
    return preflight == "pass"


def is_preflight(scope: Scope) -> bool:
    """Tell a connection that has the shape of a preflight; anybody can send one."""
    if scope.get("method") != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names
