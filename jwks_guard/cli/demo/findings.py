"""What the demo finds: each expectation with what was measured of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from jwks_guard.cli.demo.stage import Answer


@dataclass(frozen=True, slots=True)
class Finding:
    """One expectation, what was measured of it, and whether the two agree."""

    held: bool
    expected: str
    measured: str


def answered(expected: str, answer: Answer, verdict: str) -> Finding:
    """One request, whose answer should be `verdict`."""
    took = f" in {answer.milliseconds:.1f} ms" if answer.status == 200 else ""
    return Finding(answer.verdict == verdict, expected, answer.verdict + took)


def all_answered(expected: str, answers: Sequence[Answer], verdict: str) -> Finding:
    """Many requests, all of whose answers should be `verdict`."""
    counts = Counter(answer.verdict for answer in answers)
    measured = ", ".join(f"{count} x {each}" for each, count in counts.items())
    slowest = max(answer.milliseconds for answer in answers)
    took = f", slowest {slowest:.0f} ms" if verdict == "200" else ""
    return Finding(set(counts) == {verdict}, expected, measured + took)


def undecided(expected: str, answers: Sequence[Answer]) -> Finding:
    """Many requests, none of whose tokens should be called good or bad."""
    counts = Counter(answer.verdict.split()[0] for answer in answers)
    measured = ", ".join(f"{count} x {each}" for each, count in sorted(counts.items()))
    return Finding(set(counts) <= {"429", "503"}, expected, measured)


def fetched(expected: str, fetches: int, held: bool) -> Finding:
    """How often the tenant was asked for its keys."""
    return Finding(held, expected, f"{fetches} JWKS fetch{'' if fetches == 1 else 'es'}")


def refreshed(expected: str, confirmed: bool, *, taken: bool) -> Finding:
    """What became of a key set: whether it should be taken."""
    return Finding(confirmed is taken, expected, "taken" if confirmed else "not taken")


def end_of_trust(answers: Sequence[Answer], returned: float) -> Iterator[Finding]:
    """What was answered to a token whose key had been distrusted by the time `returned`."""
    refusals = [each.received for each in answers if each.verdict == "401 revoked_key"]
    waits = [at - returned for at in refusals if at > returned]
    measured = f"{min(waits) * 1000:.1f} ms after distrust()" if waits else "never refused"
    yield Finding(bool(waits), "clients hammer with it: refused at once", measured)
    before = _accepted(each for each in answers if each.received < returned)
    later = [each for each in answers if each.sent > returned]
    yield Finding(
        before > 0 == _accepted(later),
        "accepted until then, and never afterwards",
        f"{before} before, {_accepted(later)} of {len(later)} after",
    )


def _accepted(answers: Iterable[Answer]) -> int:
    return sum(answer.status == 200 for answer in answers)
