"""What is done to a consumer's keys, and what is counted. Times are virtual seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.revocation_stage import Stage, growing
from benchmarks.tenants import under_unknown_kids

DAY = 86_400.0
HOUR = 3_600.0
FLOOD = 1_000  # tokens at one moment, each with an unknown kid of its own
TRICKLE = 5  # of them a second, for a minute
MINUTE = 60
QUIET = 45.0  # s after the first fetch: longer than any peer's cooldown


@dataclass(frozen=True, slots=True)
class Revocation:
    """How long a withdrawn key was accepted, and what brought it back."""

    accepted_for: float | None
    """None: for longer than a day; what follows was not tried then."""
    back_for: float | None
    """For how long it was accepted again after one single answer with the older set."""
    back_after: float | None
    """How long nothing but the older set had to be served until it was accepted; None: over 2 h."""
    good_refused: int
    """Requests with the tokens of a good key that were refused meanwhile."""


@dataclass(frozen=True, slots=True)
class Flood:
    """What a flood of unknown kids cost."""

    fetches: int
    good_refused: int


@dataclass(frozen=True, slots=True)
class Outage:
    """What one valid request a second met when the JWKS answered 503 for a minute."""

    began: float
    """Seconds between the last fetch that succeeded and the outage."""
    refused: int
    refused_after: int
    """Of these, how many once the JWKS was back."""
    fetches: int


@dataclass(slots=True)
class _Watch:
    """Offers the revoked and a good key's token at every step."""

    stage: Stage
    revoked: str
    good: str
    good_refused: int = 0

    def accepted(self) -> bool:
        """Whether the revoked key's token is accepted now."""
        accepted, good = self.stage.offer(self.revoked, self.good)
        self.good_refused += not good
        return accepted

    def until(self, wanted: bool, end: float, *, step: float = 1.0) -> float | None:
        """Seconds until that token is accepted, or is not; None: not within `end`."""
        began = self.stage.elapsed
        for _ in _moments(self.stage, end, finest=step):
            if self.accepted() is wanted:
                return self.stage.elapsed - began
        return None


def revocation(stage: Stage, *, told: bool = False) -> Revocation:
    """The tenant withdraws a key just after it was fetched; with `told` the consumer is told."""
    stage.tenant.rotate()
    kid = stage.tenant.key("previous").kid
    watch = _Watch(stage, stage.token(kid), stage.token("current"))
    stage.wait(HOUR)  # nobody revokes in the second in which he rotates, and dates have seconds
    stage.open()
    assert watch.accepted()
    stage.tenant.revoke(kid)
    if told:
        stage.consumer.distrust(kid)
    accepted_for = watch.until(False, DAY)
    if accepted_for is None:
        return Revocation(None, None, None, watch.good_refused)
    back = watch.until(True, HOUR, step=15.0)
    assert back is None, "a key came back although the tenant did not list it"
    back_for, back_after = _after_one_older_answer(watch), _after_older_answers_only(watch)
    return Revocation(accepted_for, back_for, back_after, watch.good_refused)


def _after_one_older_answer(watch: _Watch) -> float | None:
    stage = watch.stage
    before = stage.fetches
    stage.tenant.faults.rollback(times=1)
    for _ in _moments(stage, 2 * HOUR):
        if watch.accepted():
            return watch.until(False, DAY)
        if stage.fetches > before:
            return 0.0
    raise AssertionError("nothing was fetched for two hours")


def _after_older_answers_only(watch: _Watch) -> float | None:
    watch.stage.tenant.faults.rollback()
    return watch.until(True, 2 * HOUR, step=10.0)


def flood(stage: Stage, *, outage: bool) -> Flood:
    """FLOOD unknown kids one after the other at one moment."""
    good = _opened(stage, QUIET)
    return _flooded(stage, good, [under_unknown_kids(good, FLOOD)], outage=outage)


def trickle(stage: Stage, *, outage: bool) -> Flood:
    """TRICKLE unknown kids a second for a minute."""
    good = _opened(stage, QUIET)
    strangers = under_unknown_kids(good, TRICKLE * MINUTE)
    seconds = [strangers[second::MINUTE] for second in range(MINUTE)]
    return _flooded(stage, good, seconds, outage=outage)


def _flooded(stage: Stage, good: str, seconds: list[list[str]], *, outage: bool) -> Flood:
    if outage:
        stage.tenant.faults.status(503)
    before, refused = stage.fetches, 0
    for strangers in seconds:
        *accepted, good_accepted = stage.offer(*strangers, good)
        assert not any(accepted), "a token by an unknown key was accepted"
        refused += not good_accepted
        stage.wait(1.0)
    return Flood(stage.fetches - before, refused)


def refetches_after(stage: Stage) -> float | None:
    """Seconds after which a consumer that sees known keys only fetches again; None: not in 2 h.

    This also shows that the virtual clock reaches the consumer's cache.
    """
    good = _opened(stage)
    before = stage.fetches
    for _ in _moments(stage, 2 * HOUR):
        stage.offer(good)
        if stage.fetches > before:
            return stage.elapsed
    return None


def worst_outage(stage: Stage, refetches: float | None) -> Outage:
    """The moment at which a minute's outage costs most; `refetches` is by `refetches_after`.

    Tried are an outage right after a fetch, and those that the next fetch falls into: at their
    beginning, in their middle, at their end.
    """
    moments = {0.0, *(max(0.0, (refetches or 0.0) - ahead) for ahead in (1.0, 30.0, 59.0))}
    return max((outage(stage, began) for began in sorted(moments)), key=lambda each: each.refused)


def outage(stage: Stage, began: float) -> Outage:
    """A minute without JWKS, `began` seconds after the consumer was opened, and a minute more."""
    good = _opened(stage, began)
    stage.tenant.faults.status(503)
    before = stage.fetches
    refused = _refused_in_a_minute(stage, good)
    fetches = stage.fetches - before
    stage.tenant.faults.clear()
    refused_after = _refused_in_a_minute(stage, good)
    return Outage(began, refused + refused_after, refused_after, fetches)


def _refused_in_a_minute(stage: Stage, token: str) -> int:
    refused = 0
    for _ in range(MINUTE):
        stage.wait(1.0)
        refused += stage.offer(token) == [False]
    return refused


def rotation(stage: Stage, *, quiet: float = 0.0, lookups: int = 0) -> float | None:
    """Seconds from the publication of a new key until a token by it is accepted; None: over 1 h.

    Before that come `quiet` seconds with known keys only, then this many lookups of unknown kids.
    """
    good = _opened(stage, quiet)
    if quiet:
        _just_after_a_poll(stage, good)
    stage.offer(*under_unknown_kids(good, lookups))
    new = stage.token(stage.tenant.rotate())
    published = stage.elapsed
    for _ in _moments(stage, HOUR):
        if stage.offer(new, good)[0]:
            return stage.elapsed - published
    return None


def _just_after_a_poll(stage: Stage, good: str) -> None:
    """Wait for the next fetch of a consumer that is about to make one: its worst moment.

    Another one just stays quiet for a while.
    """
    before = stage.fetches
    for _ in range(20):
        if stage.fetches > before:
            return
        stage.wait(1.0)
        stage.offer(good)


def _opened(stage: Stage, busy: float = 0.0) -> str:
    """Open a consumer, keep it busy for so many seconds, and give the token that it accepts."""
    stage.open()
    good = stage.token("current")
    stage.until(busy, step=15.0, token=good)
    return good


def _moments(stage: Stage, end: float, *, finest: float = 1.0) -> Iterator[None]:
    """Now, and after each step up to `end` seconds from now."""
    yield
    for step in growing(end, finest=finest):
        stage.wait(step)
        yield
