"""Refused tokens, counted by code between two lines of the log."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_CODES = 64
"""More than there are; a claim check may raise an error class of the application's own."""
OTHER = "other"


@dataclass(slots=True)
class Tally:
    """Counts by code. Any thread may use it: a lost race miscounts by one."""

    since: float = 0.0
    """When the first of them was refused, on the monotonic clock."""
    _codes: dict[str, int] = field(default_factory=dict)

    def add(self, code: str, now: float) -> None:
        """Count one."""
        codes = self._codes
        if not codes:
            self.since = now
        if code not in codes and len(codes) >= MOST_CODES:
            code = OTHER
        codes[code] = codes.get(code, 0) + 1

    def codes(self) -> dict[str, int]:
        """How many there were of each code, the most frequent first."""
        return dict(sorted(self._codes.items(), key=lambda each: (-each[1], each[0])))


def summary(codes: dict[str, int], seconds: float) -> str:
    """How many tokens were refused in so many seconds, in words."""
    total = sum(codes.values())
    tokens = "token" if total == 1 else "tokens"
    listed = ", ".join(f"{code} {count}" for code, count in codes.items())
    seconds = max(1.0, seconds)  # it may be the last one before the end
    return f"refused {total} {tokens} in the last {seconds:.0f} s: {listed}"
