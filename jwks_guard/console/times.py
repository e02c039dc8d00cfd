"""Instants for people: in UTC, in elements from which the script makes ages and countdowns."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

from jwks_guard.readiness.usage import NEVER

_TIME = Markup('<time datetime="{machine}"{kind}>{text}</time>')
_KINDS = {"ago": Markup(" data-ago"), "until": Markup(" data-until"), "": Markup("")}


def moment(at: float | None, kind: str = "") -> Markup:
    """The instant `at`, in seconds since the epoch, in UTC to the second; "never" for none.

    `kind` is "ago" or "until" where the script shall show how far it is off; a text that is the
    same at each look keeps a page from changing every second.
    """
    if at is None or at >= NEVER:
        return Markup("never")
    date = datetime.fromtimestamp(max(0.0, at), UTC)
    return _TIME.format(
        machine=f"{date:%Y-%m-%dT%H:%M:%SZ}",
        kind=_KINDS[kind],
        text=f"{date:%Y-%m-%d %H:%M:%S} UTC",
    )


def ago(at: float | None) -> Markup:
    """An instant that has passed."""
    return moment(at, "ago")


def until(at: float | None) -> Markup:
    """An instant that is to come."""
    return moment(at, "until")
