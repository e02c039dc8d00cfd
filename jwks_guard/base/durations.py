"""Durations in words."""

from __future__ import annotations

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_LONGEST_SECONDS = 1e12
"""30,000 years: more than any date is off."""


def span(seconds: float) -> str:
    """A duration in its two largest units; "0 s" for one below 1 s."""
    left, parts = int(min(max(0.0, seconds), _LONGEST_SECONDS)), []
    for name, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"
