"""Statements about a token: values and dates in words, safe to print although untrusted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from jwks_guard.base.durations import span
from jwks_guard.base.text import printable as printable

_LONGEST = 200  # characters
Mark: TypeAlias = Literal["ok", "NO", "??", "  "]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Line:
    """One statement: "ok", "NO", "??" where it can't be told, or "  " where no rule applies."""

    mark: Mark
    name: str
    text: str
    note: str = ""


def counted(number: int, noun: str) -> str:
    """The number and its noun: "1 instance", "2 instances"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def shown(value: Any) -> str:
    """Parsed JSON as JSON, cut where it gets long."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def date(timestamp: float, now: float) -> str:
    """A NumericDate in UTC and relative to `now`; both in seconds since the epoch, to year 9999."""
    moment = _EPOCH + timedelta(seconds=int(timestamp))
    apart = span(abs(timestamp - now))
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC, " + (
        f"in {apart}" if timestamp > now else f"{apart} ago"
    )
