"""What 1,000 and 10,000 instances would need, by the constants that were measured with a few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.scale.series import Fit, Part, fitted
from benchmarks.scale.tables import number, quantity
from jwks_guard.fleet.commands import MAX_POLL_SECONDS
from jwks_guard.fleet.redis_states import MAX_INSTANCES

PLANNED = (1_000, 10_000)
POLL_SECONDS = 2.0
"""The default of RedisFleet, with which was measured."""
LINK = 125_000.0
"""KB/s of a network of 1 Gbit/s."""


@dataclass(frozen=True, slots=True)
class Constants:
    """What each instance adds, and what there is without any.

    commands: per s, while idle; kilobytes: per s, while idle, of each instance; processor: ms
    per s of Redis, while idle; decision: ms of Redis' processor time for one decision; push: ms
    from distrust to the last refusal; memory: MB of Redis; connections: at Redis; state: bytes
    that an instance shows of itself.
    """

    commands: Fit
    kilobytes: float
    processor: Fit
    decision: Fit
    push: Fit
    memory: Fit
    connections: float
    state: float
    maxclients: int

    @classmethod
    def of(cls, part: Part) -> Constants:
        """Those of the part "fleet": a line through its figures, also where they look flat."""

        def line(name: str) -> Fit:
            return fitted(part.of(name).points, "linear")

        return cls(
            commands=line("idle: commands"),
            kilobytes=fitted(part.of("idle: traffic per instance").points, "constant").a,
            processor=line("idle: processor of Redis"),
            decision=line("decision: processor of Redis"),
            push=line("decision: distrust to last refusal"),
            memory=line("idle: memory of Redis"),
            connections=line("connections").b,
            state=fitted(part.of("idle: state of an instance").points, "constant").a,
            maxclients=int(part.facts["maxclients"]),
        )


def plan_table(constants: Constants) -> Iterator[str]:
    """What Redis has to do for each planned number of instances, and how fast a decision is."""
    yield "| | " + " | ".join(f"{size:,} instances" for size in PLANNED) + " |"
    yield "|---|" + "--:|" * len(PLANNED)
    needs = [_needs(constants, size) for size in PLANNED]
    for name in needs[0]:
        yield f"| {name} | " + " | ".join(each[name] for each in needs) + " |"


def _needs(constants: Constants, size: int) -> dict[str, str]:
    return {
        "commands per second, idle": _rough(constants.commands.value(size)),
        "network of Redis, idle": f"{quantity(constants.kilobytes * size / 1e3, 'MB')}/s",
        "processor of Redis, idle": f"{_rough(constants.processor.value(size) / 10)} % of a core",
        "connections to Redis": _rough(constants.connections * size),
        "memory of Redis": quantity(constants.memory.value(size), "MB"),
        "push time, Redis' own work": quantity(constants.decision.value(size), "ms"),
        "push time, by the line of this machine": quantity(constants.push.value(size), "ms"),
        "the states of all instances, read once": quantity(constants.state * size / 1e6, "MB"),
    }


def plan_text(constants: Constants) -> list[str]:
    """The paragraphs that go with the table."""
    return [_constants_text(constants), _limits_text(constants), _remedies_text(constants)]


def _constants_text(constants: Constants) -> str:
    return (
        f"While nothing is decided each instance sends {number(constants.commands.b)} commands per "
        f"second and moves {quantity(constants.kilobytes, 'KB')}/s, over "
        f"{number(constants.connections)} connections. A decision costs Redis "
        f"{quantity(constants.decision.b, 'ms')} of its one core for each instance. That limits "
        "the push time of a large fleet, in which each instance has a core of its own. The line "
        "through the push times that were measured is the other end: there all instances share "
        "the cores of one machine with Redis."
    )


def _limits_text(constants: Constants) -> str:
    ends = limits(constants)
    first, *others = sorted(ends, key=lambda name: ends[name])
    rest = " and ".join(f"{name} at {_rough(ends[name])}" for name in others)
    verdict = " ".join(
        f"{size:,} instances are {'within' if size < ends[first] else 'beyond'} what one Redis "
        "with its default settings does."
        for size in PLANNED
    )
    return (
        f"{verdict} The first limit is {first}, at {_rough(ends[first])} instances; then come "
        f"{rest}."
    )


def _remedies_text(constants: Constants) -> str:
    slower = constants.commands.value(PLANNED[-1]) * POLL_SECONDS / MAX_POLL_SECONDS
    return (
        "What to do then, in this order. Raise `maxclients` of Redis, and how many files its "
        f"process may open. Set `poll_interval={MAX_POLL_SECONDS:.0f}` in each RedisFleet: a "
        f"decision is pushed as before, and {PLANNED[-1]:,} idle instances send {_rough(slower)} "
        "commands per second. Beyond that make several fleets, such as one for each region, each "
        "with a Redis of its own, and run `jwks-guard distrust` for each of them. More nodes of a "
        "Redis Cluster do not help: all keys of a fleet lie in one hash slot, so one node does all "
        "the work."
    )


def limits(constants: Constants) -> dict[str, float]:
    """The number of instances at which each thing ends."""
    return {
        f"`maxclients` ({constants.maxclients:,})": constants.maxclients / constants.connections,
        "the one core of Redis while idle": (1000 - constants.processor.a) / constants.processor.b,
        "a network of 1 Gbit/s": LINK / constants.kilobytes,
        "what `jwks-guard status` shows": float(MAX_INSTANCES),
    }


def _rough(value: float) -> str:
    """Three digits: an extrapolation has no more."""
    return number(float(f"{value:.3g}"))
