"""What an answer of the issuer, or of a cache in front of it, is worth. Nothing here does I/O."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

from jwks_guard.base.clock import Instant
from jwks_guard.jose.jwk import VerificationKey
from jwks_guard.keys.fetch import Answer, Held
from jwks_guard.keys.view import PublishedSet
from jwks_guard.net.caching import WHOLE_SECONDS

Keys = tuple[VerificationKey, ...]


class Outcome(enum.Enum):
    """What became of one request for the key set."""

    CONFIRMED = "confirmed by the issuer"
    AGED = "confirmed by what a cache has of the issuer"
    OLDER = "the answer is older than the key set held"
    REVERTED = "the answer's Last-Modified lies before that of the key set held"
    OVERSLEPT = "the process was frozen while it waited"
    FAILED = "no answer that can be used"


@dataclass(frozen=True, slots=True)
class Previous:
    """What the answer that counts has left: what to ask with, and its Last-Modified."""

    held: Held | None = None
    last_modified: float | None = None

    def moved(self, answer: Answer) -> bool:
        """Whether `answer` comes from another address."""
        return self.held is not None and self.held.jwks_uri != answer.held.jwks_uri

    def followed_by(self, answer: Answer, keys: Keys) -> Previous:
        """What is left by `answer`, of which `keys` were taken.

        By the tag of an answer that was taken in part nothing is asked: a 304 would confirm all.
        """
        whole = answer.keys is None or answer.keys == keys
        modified = answer.dating.last_modified
        return Previous(
            held=answer.held if whole else replace(answer.held, etag=None),
            last_modified=self.last_modified
            if modified is None and not self.moved(answer)
            else modified,
        )


def origin(answer: Answer, previous: Previous, started: Instant) -> Instant:
    """When the issuer made the answer to a request that began at `started` (RFC 9111, 4.2.3).

    The clocks of two addresses may be apart: between them only Age counts.
    """
    dates = answer.dating
    return started.shifted(-(dates.reported_age if previous.moved(answer) else dates.age))


def latest_origin(answer: Answer, made: Instant, started: Instant, received: Instant) -> Instant:
    """When `answer`, asked for and received at these instants, was made at the latest.

    At the earliest it was `made`. What is held is as new as it may be, so that a slow answer does
    not look older than one that a cache took after the request for it, and before the answer.
    """
    date, longest = answer.dating.date, math.inf
    if date is not None:
        longest = max(0.0, date + WHOLE_SECONDS - made.wall)

    def within(seconds: float) -> float:
        return min(max(0.0, seconds), longest)

    return Instant(
        made.wall + within(received.wall - started.wall),
        made.monotonic + within(received.monotonic - started.monotonic),
    )


def judged(
    answer: Answer,
    published: PublishedSet,
    previous: Previous,
    made: Instant,
    *,
    expired: bool,
    last: bool,
) -> tuple[Outcome, Keys]:
    """What `answer`, made at `made`, is worth, and those of its keys that may be taken.

    An older answer with the very keys held contradicts nothing. Otherwise one that was made before
    the newest answer so far shows a state that the issuer has left behind: it is not taken, and
    once trust has run out (`expired`) only for what the newest one lists, too. A set that was
    changed earlier although it was made later, as a deployment may leave it that keeps the times
    of files, counts in the `last` of two answers.
    """
    good = Outcome.AGED if answer.dating.reported_age else Outcome.CONFIRMED
    if answer.keys is None:
        return (good if _confirms_held(answer, previous) else Outcome.OLDER), published.keys
    if published.same_keys(answer.keys):
        return good, answer.keys
    if not published.origin.reached(made):
        # An older one is better than none, and than one that is older still.
        rests_on_older = not published.is_newest and published.source.reached(made)
        known = published.still_listed(answer.keys) if expired or rests_on_older else ()
        return (good if known else Outcome.OLDER), known
    reverts = answer.dating.reverts(previous.last_modified) and not previous.moved(answer)
    return (Outcome.REVERTED if reverts and not last else good), answer.keys


def _confirms_held(answer: Answer, previous: Previous) -> bool:
    """Whether a 304 is to the tag that is held: meanwhile another request may have replaced it."""
    return previous.held is not None and answer.held == previous.held
