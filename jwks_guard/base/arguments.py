"""Checks of what a caller configures: every error names the argument and what to write instead."""

from __future__ import annotations

from typing import Any

from jwks_guard.errors import ConfigurationError
from jwks_guard.net import urls

MAX_SECONDS = 1e10
"""300 years: beyond it a duration is a mistake, and a large enough one overflows a float."""


def require_seconds(name: str, value: object, *, positive: bool = True) -> None:
    """Raise ConfigurationError unless `value` is a finite number of seconds above (or from) 0."""
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not 0 <= value <= MAX_SECONDS
        or (positive and value == 0)
    ):
        raise ConfigurationError(
            f"{name} must be a number of seconds {'above' if positive else 'of at least'} 0."
        )


def require_bounds(refresh_interval: float, max_stale: float) -> None:
    """Raise ConfigurationError unless both are seconds, and the second is not the shorter one."""
    require_seconds("refresh_interval", refresh_interval)
    require_seconds("max_stale", max_stale)
    if max_stale < refresh_interval:
        raise ConfigurationError("max_stale must be at least refresh_interval.")


def require_listener(value: object) -> None:
    """Raise ConfigurationError unless `value` can be called, or is None."""
    if value is not None and not callable(value):
        raise ConfigurationError("on_event must be callable with one argument, the Event.")


def require_count(name: str, value: object, *, minimum: int) -> None:
    """Raise ConfigurationError unless `value` is an integer of at least `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ConfigurationError(f"{name} must be an integer of at least {minimum}.")


def require_text(name: str, value: object) -> None:
    """Raise ConfigurationError unless `value` is a non-empty string that UTF-8 can encode."""
    if not isinstance(value, str) or not value or not _is_encodable(value):
        raise ConfigurationError(f"{name} must be a non-empty string.")


def require_issuer(value: object) -> None:
    """Raise ConfigurationError unless `value` can be an issuer (OpenID Connect Discovery 1.0)."""
    why = _url_refusal(value)
    if why is None and "?" in str(value):
        why = "it has a query"
    if why is not None:
        raise ConfigurationError(
            f"issuer can't be used: {why}. Write it exactly as in the tokens' `iss`, "
            "for example 'https://acme.eu.auth0.com/'."
        )


def require_jwks_uri(value: object) -> None:
    """Raise ConfigurationError unless keys may be fetched from `value`, or it is None."""
    if value is None:
        return
    why = _url_refusal(value)
    if why is not None:
        raise ConfigurationError(
            f"jwks_uri can't be used: {why}. Write an https URL, or leave it out for discovery."
        )


def require_strings(name: str, value: Any, *, allowed: frozenset[str] | None = None) -> None:
    """Raise ConfigurationError unless `value` is a list or tuple of one or more such strings."""
    collection = isinstance(value, list | tuple | set | frozenset)
    if not collection or not value or not all(isinstance(v, str) and v for v in value):
        raise ConfigurationError(f"{name} must be a list of one or more non-empty strings.")
    foreign = set(value) - allowed if allowed is not None else set()
    if foreign:
        raise ConfigurationError(
            f"{name} has {', '.join(sorted(foreign))}; "
            f"write one or more of {', '.join(sorted(allowed or ()))}."
        )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _url_refusal(value: object) -> str | None:
    return urls.refusal(value, http_on_loopback=True) if isinstance(value, str) else "it is no URL"
