"""Refused tokens, counted by code between two lines of the log."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_CODES = 64
"""More than there are; a claim check may raise an error class of the application's own."""
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Counted:
    """How many tokens were refused in so many seconds, by code, the most frequent first."""

    total: int
    seconds: float
    codes: dict[str, int]

    def __str__(self) -> str:
        tokens = "token" if self.total == 1 else "tokens"
        codes = ", ".join(f"{code} {count}" for code, count in self.codes.items())
        seconds = max(1.0, self.seconds)  # it may be the last one before the end
        return f"refused {self.total} {tokens} in the last {seconds:.0f} s: {codes}"


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

    def take(self, now: float) -> Counted | None:
        """What was counted, and begin anew; None if nothing was."""
        codes, self._codes = self._codes, {}
        if not codes:
            return None
        most_first = dict(sorted(codes.items(), key=lambda each: (-each[1], each[0])))
        return Counted(sum(most_first.values()), now - self.since, most_first)
